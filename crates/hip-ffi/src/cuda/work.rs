//! Memory, streams, modules and launches. Each entry trusts its caller as HIP's does, and passes on what it was given.

use core::ffi::{c_char, c_int, c_uint, c_void};

use super::answer;
use super::driver::{Address, Handle, INVALID_VALUE};
use crate::sys::{hipError_t, hipFunction_t, hipMemcpyKind, hipModule_t, hipStream_t};

/// `HIP_LAUNCH_PARAM_BUFFER_POINTER`, `_BUFFER_SIZE` and `_END`; CUDA's first two are the same, and its end is null.
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;
const END: usize = 3;

fn address(pointer: *const c_void) -> Address {
    pointer.addr() as Address
}

/// `hipMalloc`.
pub(super) unsafe extern "C" fn malloc(pointer: *mut *mut c_void, bytes: usize) -> hipError_t {
    // SAFETY: the caller gives room for an address, and both are 64 bits wide.
    answer(|driver| unsafe { (driver.malloc)(pointer.cast(), bytes) })
}

const _: () = assert!(size_of::<*mut c_void>() == size_of::<Address>());

/// `hipFree`. The driver waits for the device first, as it documents by excepting only memory that was allocated in a stream.
pub(super) unsafe extern "C" fn free(pointer: *mut c_void) -> hipError_t {
    if pointer.is_null() {
        return hipError_t::hipSuccess;
    }
    // SAFETY: the caller got it from `malloc`.
    answer(|driver| unsafe { (driver.free)(address(pointer)) })
}

/// `hipMemcpyAsync`.
pub(super) unsafe extern "C" fn memcpy_async(
    target: *mut c_void,
    source: *const c_void,
    bytes: usize,
    kind: hipMemcpyKind,
    stream: hipStream_t,
) -> hipError_t {
    let (to, from, stream) = (address(target), address(source), stream.cast());
    answer(|driver| match kind {
        // SAFETY: the caller vouches for both ends and the stream.
        hipMemcpyKind::hipMemcpyHostToDevice => unsafe { (driver.copy_to_device)(to, source, bytes, stream) },
        // SAFETY: as above.
        hipMemcpyKind::hipMemcpyDeviceToHost => unsafe { (driver.copy_to_host)(target, from, bytes, stream) },
        // SAFETY: as above.
        hipMemcpyKind::hipMemcpyDeviceToDevice => unsafe { (driver.copy_on_device)(to, from, bytes, stream) },
        // SAFETY: as above; the driver sees what each address is.
        hipMemcpyKind::hipMemcpyHostToHost | hipMemcpyKind::hipMemcpyDefault => unsafe {
            (driver.copy)(to, from, bytes, stream)
        },
        _ => INVALID_VALUE,
    })
}

/// `hipMemsetAsync`, which sets bytes to the lowest of `value`.
pub(super) unsafe extern "C" fn memset_async(
    target: *mut c_void,
    value: c_int,
    bytes: usize,
    stream: hipStream_t,
) -> hipError_t {
    let [byte, ..] = value.to_le_bytes();
    // SAFETY: the caller vouches for memory and stream.
    answer(|driver| unsafe { (driver.fill)(address(target), byte, bytes, stream.cast()) })
}

/// `hipStreamCreateWithFlags`; the flags are CUDA's.
pub(super) unsafe extern "C" fn stream_create(stream: *mut hipStream_t, flags: c_uint) -> hipError_t {
    // SAFETY: the caller gives room for a handle.
    answer(|driver| unsafe { (driver.stream_create)(stream.cast(), flags) })
}

/// `hipStreamDestroy`.
pub(super) unsafe extern "C" fn stream_destroy(stream: hipStream_t) -> hipError_t {
    // SAFETY: the caller got it from `stream_create`.
    answer(|driver| unsafe { (driver.stream_destroy)(stream.cast()) })
}

/// `hipStreamSynchronize`.
pub(super) unsafe extern "C" fn stream_synchronize(stream: hipStream_t) -> hipError_t {
    // SAFETY: the caller vouches for the stream.
    answer(|driver| unsafe { (driver.stream_synchronize)(stream.cast()) })
}

/// `hipStreamQuery`.
pub(super) unsafe extern "C" fn stream_query(stream: hipStream_t) -> hipError_t {
    // SAFETY: the caller vouches for the stream.
    answer(|driver| unsafe { (driver.stream_query)(stream.cast()) })
}

/// `hipModuleLoadData`, of PTX that ends in a NUL, or of a cubin.
pub(super) unsafe extern "C" fn module_load_data(
    module: *mut hipModule_t,
    image: *const c_void,
) -> hipError_t {
    // SAFETY: the caller vouches for the image and gives room for a handle.
    answer(|driver| unsafe { (driver.module_load)(module.cast(), image) })
}

/// `hipModuleUnload`.
pub(super) unsafe extern "C" fn module_unload(module: hipModule_t) -> hipError_t {
    // SAFETY: the caller got it from `module_load_data`.
    answer(|driver| unsafe { (driver.module_unload)(module.cast()) })
}

/// `hipModuleGetFunction`.
pub(super) unsafe extern "C" fn module_get_function(
    function: *mut hipFunction_t,
    module: hipModule_t,
    name: *const c_char,
) -> hipError_t {
    // SAFETY: the caller vouches for module and name and gives room for a handle.
    answer(|driver| unsafe { (driver.module_function)(function.cast(), module.cast(), name) })
}

/// `hipModuleLaunchKernel`.
pub(super) unsafe extern "C" fn launch_kernel(
    function: hipFunction_t,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: hipStream_t,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> hipError_t {
    let (function, stream): (Handle, Handle) = (function.cast(), stream.cast());
    let mut buffer;
    let extra = if extra.is_null() {
        extra
    } else {
        // SAFETY: the caller ends the list as HIP does.
        match unsafe { buffer_of(extra) } {
            Some(list) => {
                buffer = list;
                buffer.as_mut_ptr()
            }
            None => return answer(|_| INVALID_VALUE),
        }
    };
    answer(|driver| {
        // SAFETY: the caller vouches for function, stream and arguments.
        unsafe {
            (driver.launch)(
                function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, parameters,
                extra,
            )
        }
    })
}

/// HIP's list of a buffer and its size as CUDA's; `None` when it has anything else.
///
/// # Safety
/// `extra` ends in `HIP_LAUNCH_PARAM_END`, and a value follows each other entry.
unsafe fn buffer_of(extra: *mut *mut c_void) -> Option<[*mut c_void; 5]> {
    let mut list = [core::ptr::null_mut(); 5];
    for pair in 0..=2 {
        let (key_at, value_at) = (extra.wrapping_add(2 * pair), extra.wrapping_add(2 * pair + 1));
        // SAFETY: the end has not been met.
        let key = unsafe { key_at.read() };
        match (key.addr(), list.get_mut(2 * pair..2 * pair + 2)) {
            (END, _) => return Some(list),
            (BUFFER_POINTER | BUFFER_SIZE, Some([own_key, own_value])) => {
                *own_key = key;
                // SAFETY: a value follows.
                *own_value = unsafe { value_at.read() };
            }
            _ => return None,
        }
    }
    None
}
