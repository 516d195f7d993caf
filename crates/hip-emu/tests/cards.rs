//! Several cards of one process.

#![expect(unsafe_code, reason = "HIP's functions are C functions")]

use std::{ffi::c_void, ptr, thread};

use hip_emu::{Checks, Options};
use hip_ffi::{HipApi, result, sys::*};

const AXPY: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");

/// Calls an entry of the table and gives its code.
macro_rules! call {
    ($api:expr, $entry:ident($($argument:expr),*)) => {{
        // SAFETY: the arguments are numbers, handles, or pointers to what the test owns, in the sizes given.
        unsafe { ($api.$entry)($($argument),*) }
    }};
}

const DONE: hipError_t = hipError_t::hipSuccess;

fn allocate(api: &HipApi) -> *mut c_void {
    let mut address = ptr::null_mut();
    assert_eq!(call!(api, hip_malloc(&raw mut address, 64)), DONE);
    address
}

fn stream(api: &HipApi) -> hipStream_t {
    let mut stream = ptr::null_mut();
    assert_eq!(call!(api, hip_stream_create_with_flags(&raw mut stream, 1)), DONE);
    stream
}

fn load(api: &HipApi) -> Result<hipFunction_t, hipError_t> {
    let (mut module, mut function) = (ptr::null_mut(), ptr::null_mut());
    match call!(api, hip_module_load_data(&raw mut module, AXPY.as_ptr().cast())) {
        DONE => {}
        code => return Err(code),
    }
    assert_eq!(call!(api, hip_module_get_function(&raw mut function, module, c"axpy_f32".as_ptr())), DONE);
    Ok(function)
}

fn axpy(
    api: &HipApi,
    function: hipFunction_t,
    on: hipStream_t,
    x: *mut c_void,
    y: *mut c_void,
) -> hipError_t {
    let (mut x, mut y, mut a, mut count) = (x, y, 2.0_f32, 16_u32);
    let mut arguments: [*mut c_void; 4] =
        [(&raw mut y).cast(), (&raw mut x).cast(), (&raw mut a).cast(), (&raw mut count).cast()];
    let none = ptr::null_mut();
    call!(api, hip_module_launch_kernel(function, 1, 1, 1, 64, 1, 1, 0, on, arguments.as_mut_ptr(), none))
}

// One test, since all tests of a process share its cards.
#[test]
fn cards_have_their_own_images_memory_and_streams() {
    let mut options = Options::default();
    options.checks = Checks::ALL;
    hip_emu::configure(options).unwrap();
    let api = hip_emu::api();
    assert_eq!(result::device_count(&api), Ok(1));
    let other = i32::try_from(hip_emu::card("gfx1101")).unwrap();
    assert_eq!((other, hip_emu::card("gfx1101"), hip_emu::card("gfx1100")), (1, 1, 0));
    assert_eq!(result::device_count(&api), Ok(2));
    assert_eq!(result::set_device(&api, 2).unwrap_err().code, hipError_t::hipErrorInvalidDevice);
    let arch = |device| result::device_names(&api, device).unwrap().arch;
    assert_eq!((arch(0).as_str(), arch(1).as_str()), ("gfx1100", "gfx1101"));

    let (function, x, y, of_first) = (load(&api).unwrap(), allocate(&api), allocate(&api), stream(&api));
    let values: [f32; 16] = std::array::from_fn(|index| index as f32);
    let bytes = size_of_val(&values);
    let copy = |to: *mut c_void, from: *const c_void| {
        call!(api, hip_memcpy_async(to, from, bytes, hipMemcpyKind::hipMemcpyDefault, ptr::null_mut()))
    };
    assert_eq!((copy(x, values.as_ptr().cast()), copy(y, values.as_ptr().cast())), (DONE, DONE));

    result::set_device(&api, other).unwrap();
    assert_eq!(load(&api).unwrap_err(), hipError_t::hipErrorNoBinaryForGpu);
    let (used, _) = result::memory_info(&api).unwrap();
    let (elsewhere, of_other) = (allocate(&api), stream(&api));
    assert_eq!(result::memory_info(&api).unwrap().0, used - 64);

    // A kernel runs on a stream of its card, whichever card the thread uses; and reaches no other card's memory.
    assert_eq!(axpy(&api, function, of_other, x, y), hipError_t::hipErrorInvalidHandle);
    assert_eq!(axpy(&api, function, ptr::null_mut(), x, y), hipError_t::hipErrorInvalidHandle);
    assert_ne!(axpy(&api, function, of_first, x, elsewhere), DONE);
    assert_eq!(axpy(&api, function, of_first, x, y), DONE);

    // From card to card to host.
    let mut found = [0.0_f32; 16];
    assert_eq!((copy(elsewhere, y), copy(found.as_mut_ptr().cast(), elsewhere)), (DONE, DONE));
    assert_eq!(found, values.map(|value| 3.0 * value));

    // Each thread chooses for itself, and begins with the first card.
    let first_free = thread::spawn(|| result::memory_info(&hip_emu::api()).unwrap().0).join().unwrap();
    assert_ne!(first_free, result::memory_info(&api).unwrap().0);
    for address in [x, y, elsewhere] {
        assert_eq!(call!(api, hip_free(address)), DONE);
    }
}
