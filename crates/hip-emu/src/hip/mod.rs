//! HIP's C functions over one [`Machine`] of this process.
//!
//! [`api`] gives them as a table; the feature `cdylib` exports them under HIP's names, for programs that are linked
//! against `libamdhip64.so` or load it.
//!
//! The card is set by [`configure`], or else by the environment ([`Options::from_env`]), at the first call that needs it. Every call is done
//! when it returns, unless its stream records it for a graph, and a kernel's fault is the result of its launch. What
//! a code cannot tell goes to the standard error stream. Handles are looked up, never followed: one that was
//! destroyed or never made is `hipErrorInvalidHandle`.

#![cfg_attr(
    not(feature = "cdylib"),
    expect(non_snake_case, dead_code, reason = "HIP's own names; only the shared library has them all")
)]

use std::{
    ffi::{CStr, c_char, c_int},
    mem,
    num::NonZero,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    thread,
};

use hip_ffi::{GraphApi, HipApi, PropertiesFn, sys::hipError_t};

use crate::{Dispatch, Machine, Options, OptionsError, Report};

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

/// What [`configure`] asked for.
static CONFIGURED: OnceLock<Options> = OnceLock::new();

/// The card of this process.
static CARD: LazyLock<Card> = LazyLock::new(Card::new);

/// Sets the card that HIP's functions use in this process, in place of the environment.
///
/// # Errors
///
/// [`ConfigureError`] when a call has made the card already, or it was set before.
pub fn configure(options: Options) -> Result<(), ConfigureError> {
    CONFIGURED.set(options).map_err(|_| ConfigureError)
}

/// How the card of this process behaves, which is made if it was not.
#[must_use]
pub fn configuration() -> &'static Options {
    CARD.machine.options()
}

/// A launch by HIP's functions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// Entry symbol.
    pub kernel: String,
    /// Its shape.
    pub dispatch: Dispatch,
    /// What it did.
    pub report: Report,
}

/// Takes the launches since the last call, in order. They are kept only where [`Options::counts`] is set for the card of this
/// process, and only those that came to a good end.
#[must_use]
pub fn take_launches() -> Vec<Launch> {
    mem::take(&mut *CARD.launches.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The card of this process is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the emulated card of this process is set: configure it once, before the first HIP call")]
pub struct ConfigureError;

struct Card {
    machine: Machine,
    /// Work-groups that run at the same time.
    units: c_int,
    /// What of the environment cannot be read: then the card runs nothing.
    problem: Option<OptionsError>,
    /// For [`take_launches`].
    launches: Mutex<Vec<Launch>>,
}

impl Card {
    fn new() -> Self {
        let mut problem = None;
        let from_env = || Options::from_env().map_err(|found| problem = Some(found)).unwrap_or_default();
        let options = CONFIGURED.get_or_init(from_env).clone();
        let machine = Machine::new(options);
        let threads = match machine.options().threads {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            threads => threads,
        };
        Self {
            machine,
            units: c_int::try_from(threads).unwrap_or(c_int::MAX),
            problem,
            launches: Mutex::default(),
        }
    }

    /// Fails when the environment asks for what cannot be had.
    fn usable(&self) -> Status {
        match &self.problem {
            Some(problem) => Err(errors::tell(problem)),
            None => Ok(()),
        }
    }

    fn launched(&self, launch: Launch) {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner).push(launch);
    }

    /// Its processor, `gfx1100`.
    fn target(&self) -> &str {
        &self.machine.options().target
    }
}

/// The functions as a table, for callers in this process.
///
/// All tables share one card and its memory.
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
