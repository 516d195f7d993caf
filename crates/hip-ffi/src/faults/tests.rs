use core::ffi::{c_char, c_int, c_uint, c_void};

use super::*;
use crate::result;
use crate::sys::hipStream_t;

unsafe extern "C" fn counted(devices: *mut c_int) -> hipError_t {
    // SAFETY: the test gives a number's address.
    unsafe { *devices = 7 };
    hipError_t::hipSuccess
}

unsafe extern "C" fn started(_: c_uint) -> hipError_t {
    hipError_t::hipSuccess
}

unsafe extern "C" fn nothing_pending() -> hipError_t {
    hipError_t::hipSuccess
}

unsafe extern "C" fn words(_: hipError_t) -> *const c_char {
    c"words".as_ptr()
}

unsafe extern "C" fn allocate(pointer: *mut *mut c_void, _: usize) -> hipError_t {
    // SAFETY: the caller gives room for a pointer.
    unsafe { pointer.write(address_mut(64)) };
    hipError_t::hipSuccess
}

unsafe extern "C" fn free(_: *mut c_void) -> hipError_t {
    hipError_t::hipSuccess
}

unsafe extern "C" fn ready(_: hipStream_t) -> hipError_t {
    hipError_t::hipSuccess
}

/// The bytes that were asked for become 1.
unsafe extern "C" fn copy(
    target: *mut c_void,
    _: *const c_void,
    bytes: usize,
    _: hipMemcpyKind,
    _: hipStream_t,
) -> hipError_t {
    // SAFETY: the test gives so many bytes.
    unsafe { target.cast::<u8>().write_bytes(1, bytes) };
    hipError_t::hipSuccess
}

fn inner() -> HipApi {
    HipApi {
        hip_init: started,
        hip_get_device_count: counted,
        hip_get_last_error: nothing_pending,
        hip_get_error_name: words,
        hip_get_error_string: words,
        hip_malloc: allocate,
        hip_free: free,
        hip_stream_query: ready,
        hip_stream_synchronize: ready,
        hip_memcpy_async: copy,
        ..table::table()
    }
}

/// One test, because the plan is the process's.
#[test]
fn calls_fail_as_planned() {
    let api = around(inner());
    single_calls(&api);
    copies(&api);
    books(&api);
}

const CODE: hipError_t = hipError_t::hipErrorOutOfMemory;

fn single_calls(api: &HipApi) {
    let count = || {
        let mut devices = 0;
        // SAFETY: the number lives longer than the call.
        let code = unsafe { (api.hip_get_device_count)(&raw mut devices) };
        (code.0, devices)
    };
    let fault = |mode| Fault { call: "hipGetDeviceCount", at: 2, code: CODE, mode };
    for (mode, second, third) in [
        (Mode::Once, (2, 0), (0, 7)),
        (Mode::Sticky, (2, 0), (2, 0)),
        (Mode::Done, (2, 7), (0, 7)),
        (Mode::Part, (2, 7), (0, 7)),
        (Mode::Late, (0, 7), (0, 7)),
        (Mode::Silent, (0, 0), (0, 7)),
    ] {
        plan(Some(fault(mode)));
        assert_eq!([count(), count(), count()], [(0, 7), second, third], "{mode:?}");
        assert_eq!(met().counts(), BTreeMap::from([("hipGetDeviceCount", 3)]));
        assert_eq!(met().fault_at, Some(2));
        // SAFETY: the function takes no arguments.
        let other = unsafe { (api.hip_get_last_error)() };
        assert_eq!(other == CODE, mode == Mode::Sticky, "{mode:?}");
        let waited = [query(api), query(api)].map(|asked| asked.is_err());
        assert_eq!(waited, [matches!(mode, Mode::Late | Mode::Sticky), mode == Mode::Sticky], "{mode:?}");
    }
    plan(None);
    assert_eq!([count(), count()], [(0, 7); 2]);
    assert_eq!(result::device_count(api), Ok(7));
}

fn query(api: &HipApi) -> Result<bool, crate::HipError> {
    // SAFETY: the functions of this test look at no stream.
    unsafe { result::stream_query(api, address_mut(8)) }
}

/// A copy to the host under each mode: its bytes, whether it and a wait after it fail, and whether the stream gets ready.
fn copies(api: &HipApi) {
    let kind = hipMemcpyKind::hipMemcpyDeviceToHost;
    for (mode, copied, fails, is_ready) in [
        (Mode::Once, 0, true, Some(true)),
        (Mode::Done, 4, true, Some(true)),
        (Mode::Part, 2, true, Some(true)),
        (Mode::Late, 0, false, None),
        (Mode::Silent, 0, false, Some(true)),
        (Mode::Hang, 0, false, Some(false)),
    ] {
        plan(Some(Fault { call: "hipMemcpyAsync", at: 1, code: CODE, mode }));
        let mut bytes = [0_u8; 4];
        let target = bytes.as_mut_ptr().cast();
        // SAFETY: the target lives longer than the call, and the functions of this test read nothing.
        let done = unsafe { result::memcpy_async(api, target, address(8), 4, kind, address_mut(8)) };
        let so_far = bytes.iter().filter(|&&byte| byte == 1).count();
        assert_eq!((so_far, done.is_err(), query(api).ok()), (copied, fails, is_ready), "{mode:?}");
        // SAFETY: as for `query`.
        let waited = unsafe { result::stream_synchronize(api, address_mut(8)) };
        let blocked: &[&str] = if mode == Mode::Hang { &["hipStreamSynchronize"] } else { &[] };
        assert_eq!((waited.is_err(), &met().blocked[..]), (mode == Mode::Hang, blocked), "{mode:?}");
        let late = end_late_copies();
        assert_eq!((late == 1, bytes == [0xEE; 4]), (mode == Mode::Hang, mode == Mode::Hang), "{mode:?}");
    }
}

/// What was given out is told until a call asks to take it back, whatever that returns.
fn books(api: &HipApi) {
    write_off();
    let held = || met().held.get("hipMalloc").copied().unwrap_or(0);
    let bytes = core::num::NonZeroUsize::MIN;
    for (call, mode) in [("hipFree", Mode::Once), ("hipFree", Mode::Cleanup)] {
        plan(Some(Fault { call, at: 1, code: CODE, mode }));
        let pointer = result::malloc(api, bytes).unwrap();
        assert_eq!(held(), 1);
        // SAFETY: the pointer is from `malloc`.
        assert!(unsafe { result::free(api, pointer) }.is_err());
        assert_eq!((held(), met().strange), (0, vec![]));
        // SAFETY: the function of this test frees nothing.
        let again = unsafe { result::free(api, pointer) };
        assert_eq!((again.is_err(), met().strange), (mode == Mode::Cleanup, vec!["hipFree"]));
    }
    plan(Some(Fault { call: "hipMalloc", at: 1, code: CODE, mode: Mode::Done }));
    assert!(result::malloc(api, bytes).is_err());
    assert_eq!(held(), 0, "its caller never had it");
}
