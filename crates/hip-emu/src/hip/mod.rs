//! HIP's C functions over the emulated cards of this process, each a [`Machine`](crate::Machine).
//!
//! [`api`] gives them as a table; the feature `cdylib` exports them under HIP's names, for programs that are linked
//! against `libamdhip64.so` or load it.
//!
//! The cards are set by [`configure`], or else by the environment ([`Options::all_from_env`](crate::Options::all_from_env)),
//! at the first call that needs one; [`card`] adds others. Every call is done when it returns, unless its stream records it
//! for a graph, and a kernel's fault is the result of its launch. What a code cannot tell goes to the standard error stream.
//! Handles are looked up, never followed: one that was destroyed or never made is `hipErrorInvalidHandle`.

#![cfg_attr(
    not(feature = "cdylib"),
    expect(non_snake_case, dead_code, reason = "HIP's own names; only the shared library has them all")
)]

use std::ffi::{CStr, c_char};

use hip_ffi::{GraphApi, HipApi, PropertiesFn, sys::hipError_t};

pub use cards::{ConfigureError, Launch, card, configuration, configure, take_launches};

/// Defines HIP functions: the body gives a [`Status`], which becomes the code and the thread's last error.
macro_rules! hip_functions {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $of:ty),* $(,)?) $body:block)+) => {$(
        $(#[$attribute])*
        ///
        /// # Safety
        ///
        /// HIP's: a pointer is null or valid for what the function does with it.
        #[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
        pub(super) unsafe extern "C" fn $name($($argument: $of),*) -> hip_ffi::sys::hipError_t {
            let status = || -> $crate::hip::Status { $body };
            $crate::hip::errors::remember(status())
        }
    )+};
}

mod cards;
mod copy;
mod device;
mod errors;
mod fatbin;
mod graph;
mod handles;
mod image;
mod launch;
mod memory;
mod module;
mod stream;

/// How a call ended.
type Status = Result<(), hipError_t>;

/// The functions as a table, for callers in this process.
///
/// All tables share the cards and their memory.
#[must_use]
pub fn api() -> HipApi {
    HipApi {
        hip_init: device::hipInit,
        hip_runtime_get_version: device::hipRuntimeGetVersion,
        hip_driver_get_version: device::hipDriverGetVersion,
        hip_get_error_name: errors::hipGetErrorName,
        hip_get_error_string: errors::hipGetErrorString,
        hip_get_last_error: errors::hipGetLastError,
        hip_get_device_count: device::hipGetDeviceCount,
        hip_set_device: device::hipSetDevice,
        hip_device_get_attribute: device::hipDeviceGetAttribute,
        hip_mem_get_info: memory::hipMemGetInfo,
        hip_malloc: memory::hipMalloc,
        hip_free: memory::hipFree,
        hip_memcpy_async: copy::hipMemcpyAsync,
        hip_memset_async: copy::hipMemsetAsync,
        hip_stream_create_with_flags: stream::hipStreamCreateWithFlags,
        hip_stream_destroy: stream::hipStreamDestroy,
        hip_stream_synchronize: stream::hipStreamSynchronize,
        hip_stream_query: stream::hipStreamQuery,
        hip_module_load_data: module::hipModuleLoadData,
        hip_module_unload: module::hipModuleUnload,
        hip_module_get_function: module::hipModuleGetFunction,
        hip_module_launch_kernel: launch::hipModuleLaunchKernel,
        hip_get_device_properties: PropertiesFn::R0600(device::hipGetDevicePropertiesR0600),
        graph: Some(GraphApi {
            hip_stream_begin_capture: graph::hipStreamBeginCapture,
            hip_stream_end_capture: graph::hipStreamEndCapture,
            hip_graph_instantiate: graph::hipGraphInstantiate,
            hip_graph_launch: graph::hipGraphLaunch,
            hip_graph_exec_destroy: graph::hipGraphExecDestroy,
            hip_graph_destroy: graph::hipGraphDestroy,
        }),
        library: None,
    }
}

/// Writes a result to where the caller wants it.
///
/// # Safety
///
/// `place` is null, which is an error, or valid for a write.
unsafe fn put<T>(place: *mut T, value: T) -> Status {
    if place.is_null() {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    // SAFETY: not null, so valid for a write by the contract.
    unsafe { place.write(value) };
    Ok(())
}

/// The caller's text.
///
/// # Safety
///
/// `name` is null, which is an error, or a NUL-terminated string that outlives the result.
unsafe fn text<'a>(name: *const c_char) -> Result<&'a str, hipError_t> {
    if name.is_null() {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    // SAFETY: not null, so a string by the contract.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().map_err(|_| hipError_t::hipErrorInvalidValue)
}
