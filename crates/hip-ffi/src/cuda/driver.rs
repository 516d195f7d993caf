//! The functions of CUDA's driver that are called, by their names in the library, and their types as `cuda.h` has them.

use core::ffi::{c_char, c_int, c_uint, c_void};

use libloading::Library;

/// `CUresult`.
pub(super) type Code = c_uint;
/// `CUDA_SUCCESS`.
pub(super) const SUCCESS: Code = 0;
/// `CUDA_ERROR_INVALID_VALUE`.
pub(super) const INVALID_VALUE: Code = 1;
/// `CUdevice`.
pub(super) type Device = c_int;
/// `CUdeviceptr`.
pub(super) type Address = u64;
/// `CUcontext`, `CUstream`, `CUmodule`, `CUfunction`, `CUgraph`, `CUgraphExec`: pointers that only the driver follows.
pub(super) type Handle = *mut c_void;

/// Declares the table and its resolution by name.
macro_rules! driver {
    ($($field:ident: $symbol:ident($($argument:ty),*);)+) => {
        /// One pointer per function.
        pub(super) struct Driver {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> Code,)+
            /// Keeps it loaded.
            _library: Library,
        }

        impl Driver {
            /// Resolves every entry in `library`; the first name that is missing is the error.
            pub(super) fn resolve(library: Library) -> Result<Driver, &'static str> {
                Ok(Driver {
                    $($field: {
                        // SAFETY: the name is the driver's, and `cuda.h` gives the field's type for it.
                        let symbol = unsafe { library.get(concat!(stringify!($symbol), "\0").as_bytes()) };
                        *symbol.map_err(|_| stringify!($symbol))?
                    },)+
                    _library: library,
                })
            }
        }
    };
}

driver! {
    init: cuInit(c_uint);
    version: cuDriverGetVersion(*mut c_int);
    error_string: cuGetErrorString(Code, *mut *const c_char);
    device_count: cuDeviceGetCount(*mut c_int);
    device: cuDeviceGet(*mut Device, c_int);
    device_name: cuDeviceGetName(*mut c_char, c_int, Device);
    device_attribute: cuDeviceGetAttribute(*mut c_int, c_uint, Device);
    retain_context: cuDevicePrimaryCtxRetain(*mut Handle, Device);
    set_context: cuCtxSetCurrent(Handle);
    memory_info: cuMemGetInfo_v2(*mut usize, *mut usize);
    malloc: cuMemAlloc_v2(*mut Address, usize);
    free: cuMemFree_v2(Address);
    copy_to_device: cuMemcpyHtoDAsync_v2(Address, *const c_void, usize, Handle);
    copy_to_host: cuMemcpyDtoHAsync_v2(*mut c_void, Address, usize, Handle);
    copy_on_device: cuMemcpyDtoDAsync_v2(Address, Address, usize, Handle);
    copy: cuMemcpyAsync(Address, Address, usize, Handle);
    fill: cuMemsetD8Async(Address, u8, usize, Handle);
    stream_create: cuStreamCreate(*mut Handle, c_uint);
    stream_destroy: cuStreamDestroy_v2(Handle);
    stream_synchronize: cuStreamSynchronize(Handle);
    stream_query: cuStreamQuery(Handle);
    module_load: cuModuleLoadData(*mut Handle, *const c_void);
    module_unload: cuModuleUnload(Handle);
    module_function: cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    launch: cuLaunchKernel(
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
    begin_capture: cuStreamBeginCapture_v2(Handle, c_uint);
    end_capture: cuStreamEndCapture(Handle, *mut Handle);
    graph_instantiate: cuGraphInstantiateWithFlags(*mut Handle, Handle, u64);
    graph_launch: cuGraphLaunch(Handle, Handle);
    graph_exec_destroy: cuGraphExecDestroy(Handle);
    graph_destroy: cuGraphDestroy(Handle);
}
