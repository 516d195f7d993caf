use core::ffi::{c_char, c_int, c_uint, c_void};
use core::fmt;
use std::sync::Arc;

use libloading::Library;

use crate::sys::{self, *};

/// Fills `hipDeviceProp_t`, in the layout of the library at hand.
#[derive(Clone, Copy, Debug)]
pub enum PropertiesFn {
    /// `hipGetDeviceProperties` of HIP 5: 792 bytes. HIP 6 and 7 still export it, for the old layout.
    Legacy(unsafe extern "C" fn(*mut hipDeviceProp_t, c_int) -> hipError_t),
    /// `hipGetDevicePropertiesR0600` of HIP 6 and later: 1472 bytes.
    R0600(unsafe extern "C" fn(*mut hipDeviceProp_tR0600, c_int) -> hipError_t),
}

/// Reads an entry of `library` as the type that HIP's header gives for its name.
macro_rules! entry {
    ($library:expr, $symbol:ident) => {{
        // SAFETY: the name is HIP's, and HIP's header gives the field's type for it.
        let symbol = unsafe { $library.get(concat!(stringify!($symbol), "\0").as_bytes()) };
        *symbol.map_err(|_| stringify!($symbol))?
    }};
}

/// Declares the table, its resolution by name, and that each entry has the type the header gives it.
macro_rules! table {
    ($($field:ident: $symbol:ident($($argument:ty),*) -> $return:ty;)+) => {
        /// The HIP functions that are called, one pointer each.
        ///
        /// [`HipApi::load`] fills it from a library. In-process functions may fill it as well: each must keep the
        /// contract that HIP's reference gives for its name.
        #[derive(Clone)]
        pub struct HipApi {
            $(
                #[doc = concat!("`", stringify!($symbol), "`")]
                pub $field: unsafe extern "C" fn($($argument),*) -> $return,
            )+
            /// `hipGetDeviceProperties`, whichever layout there is.
            pub hip_get_device_properties: PropertiesFn,
            /// The functions for graphs, where the library has all of them.
            pub graph: Option<GraphApi>,
            /// Keeps the library loaded; `None` for in-process functions.
            pub library: Option<Arc<Library>>,
        }

        $(const _: unsafe extern "C" fn($($argument),*) -> $return = sys::$symbol;)+

        impl HipApi {
            /// Resolves every entry in `library`; the first name that is missing is the error.
            pub(crate) fn resolve(library: Library) -> Result<HipApi, &'static str> {
                Ok(HipApi {
                    $($field: entry!(library, $symbol),)+
                    hip_get_device_properties: resolve_properties(&library)?,
                    graph: GraphApi::resolve(&library).ok(),
                    library: Some(Arc::new(library)),
                })
            }
        }
    };
}

/// The entries, for a macro that does something with each.
macro_rules! entries {
    ($macro:ident) => {
        $macro! {
            hip_init: hipInit(c_uint) -> hipError_t;
            hip_runtime_get_version: hipRuntimeGetVersion(*mut c_int) -> hipError_t;
            hip_driver_get_version: hipDriverGetVersion(*mut c_int) -> hipError_t;
            hip_get_error_name: hipGetErrorName(hipError_t) -> *const c_char;
            hip_get_error_string: hipGetErrorString(hipError_t) -> *const c_char;
            hip_get_last_error: hipGetLastError() -> hipError_t;
            hip_get_device_count: hipGetDeviceCount(*mut c_int) -> hipError_t;
            hip_set_device: hipSetDevice(c_int) -> hipError_t;
            hip_device_get_attribute: hipDeviceGetAttribute(*mut c_int, hipDeviceAttribute_t, c_int) -> hipError_t;
            hip_mem_get_info: hipMemGetInfo(*mut usize, *mut usize) -> hipError_t;
            hip_malloc: hipMalloc(*mut *mut c_void, usize) -> hipError_t;
            hip_free: hipFree(*mut c_void) -> hipError_t;
            hip_memcpy_async: hipMemcpyAsync(*mut c_void, *const c_void, usize, hipMemcpyKind, hipStream_t) -> hipError_t;
            hip_memset_async: hipMemsetAsync(*mut c_void, c_int, usize, hipStream_t) -> hipError_t;
            hip_stream_create_with_flags: hipStreamCreateWithFlags(*mut hipStream_t, c_uint) -> hipError_t;
            hip_stream_destroy: hipStreamDestroy(hipStream_t) -> hipError_t;
            hip_stream_synchronize: hipStreamSynchronize(hipStream_t) -> hipError_t;
            hip_stream_query: hipStreamQuery(hipStream_t) -> hipError_t;
            hip_module_load_data: hipModuleLoadData(*mut hipModule_t, *const c_void) -> hipError_t;
            hip_module_unload: hipModuleUnload(hipModule_t) -> hipError_t;
            hip_module_get_function: hipModuleGetFunction(*mut hipFunction_t, hipModule_t, *const c_char) -> hipError_t;
            hip_module_launch_kernel: hipModuleLaunchKernel(
                hipFunction_t, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, hipStream_t, *mut *mut c_void, *mut *mut c_void
            ) -> hipError_t;
        }
    };
}
pub(crate) use entries;

entries!(table);

/// Declares the functions that a library may lack, all or none of which are used.
macro_rules! graph_table {
    ($($field:ident: $symbol:ident($($argument:ty),*) -> $return:ty;)+) => {
        /// The HIP functions that record work and run it again, one pointer each.
        #[derive(Clone, Copy, Debug)]
        pub struct GraphApi {
            $(
                #[doc = concat!("`", stringify!($symbol), "`")]
                pub $field: unsafe extern "C" fn($($argument),*) -> $return,
            )+
        }

        $(const _: unsafe extern "C" fn($($argument),*) -> $return = sys::$symbol;)+

        impl GraphApi {
            /// Resolves every entry in `library`; the first name that is missing is the error.
            fn resolve(library: &Library) -> Result<GraphApi, &'static str> {
                Ok(GraphApi { $($field: entry!(library, $symbol),)+ })
            }
        }
    };
}

/// The entries for graphs, for a macro that does something with each.
macro_rules! graph_entries {
    ($macro:ident) => {
        $macro! {
            hip_stream_begin_capture: hipStreamBeginCapture(hipStream_t, hipStreamCaptureMode) -> hipError_t;
            hip_stream_end_capture: hipStreamEndCapture(hipStream_t, *mut hipGraph_t) -> hipError_t;
            hip_graph_instantiate: hipGraphInstantiate(
                *mut hipGraphExec_t, hipGraph_t, *mut hipGraphNode_t, *mut c_char, usize
            ) -> hipError_t;
            hip_graph_launch: hipGraphLaunch(hipGraphExec_t, hipStream_t) -> hipError_t;
            hip_graph_exec_destroy: hipGraphExecDestroy(hipGraphExec_t) -> hipError_t;
            hip_graph_destroy: hipGraphDestroy(hipGraph_t) -> hipError_t;

        }
    };
}
pub(crate) use graph_entries;

graph_entries!(graph_table);

const _: unsafe extern "C" fn(*mut hipDeviceProp_t, c_int) -> hipError_t = hipGetDeviceProperties;

/// HIP 6 and later export both names; the plain one then fills the old layout for ever, so the new name goes first.
fn resolve_properties(library: &Library) -> Result<PropertiesFn, &'static str> {
    // SAFETY: HIP 6's header gives this type for the name.
    let new = unsafe { library.get(b"hipGetDevicePropertiesR0600\0") };
    if let Ok(symbol) = new {
        return Ok(PropertiesFn::R0600(*symbol));
    }
    // SAFETY: a library without the new name is HIP 5, whose header gives this type for the plain one.
    let old = unsafe { library.get(b"hipGetDeviceProperties\0") };
    old.map(|symbol| PropertiesFn::Legacy(*symbol)).map_err(|_| "hipGetDeviceProperties")
}

impl fmt::Debug for HipApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HipApi")
            .field("in_process", &self.library.is_none())
            .field("properties", &self.hip_get_device_properties)
            .field("graphs", &self.graph.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::HipApi;

    #[test]
    fn the_table_may_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<HipApi>();
    }
}
