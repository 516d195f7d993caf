//! The table's calls returning `Result`. A function is `unsafe` where HIP trusts a pointer or a handle.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::num::NonZeroUsize;
use core::ptr;

use crate::sys::{
    hipDeviceAttribute_t, hipDeviceProp_t, hipDeviceProp_tR0600, hipError_t, hipFunction_t, hipGraph_t,
    hipGraphExec_t, hipMemcpyKind, hipModule_t, hipStream_t, hipStreamCaptureMode,
};
use crate::{GraphApi, HipApi, HipError, PropertiesFn};

/// Calls an entry of the table and checks its code under HIP's name for it.
macro_rules! check {
    ($api:expr, $field:ident($($argument:expr),*), $call:literal) => {{
        // SAFETY: the enclosing function's `# Safety` list is HIP's for this call; output pointers are to locals.
        let code = unsafe { ($api.$field)($($argument),*) };
        HipError::check($api, $call, code)
    }};
}

/// `hipInit`, then `hipGetDeviceCount`.
///
/// # Errors
/// The code of the call that failed; `hipErrorNoDevice` and `hipErrorInvalidDevice` mean that there is no device.
pub fn device_count(api: &HipApi) -> Result<u32, HipError> {
    check!(api, hip_init(0), "hipInit")?;
    let mut count: c_int = 0;
    check!(api, hip_get_device_count(&raw mut count), "hipGetDeviceCount")?;
    Ok(u32::try_from(count).unwrap_or(0))
}

/// `hipRuntimeGetVersion`; works without a device.
///
/// # Errors
/// The call's code.
pub fn runtime_version(api: &HipApi) -> Result<i32, HipError> {
    let mut version: c_int = 0;
    check!(api, hip_runtime_get_version(&raw mut version), "hipRuntimeGetVersion")?;
    Ok(version)
}

/// `hipDriverGetVersion`; works without a device.
///
/// # Errors
/// The call's code.
pub fn driver_version(api: &HipApi) -> Result<i32, HipError> {
    let mut version: c_int = 0;
    check!(api, hip_driver_get_version(&raw mut version), "hipDriverGetVersion")?;
    Ok(version)
}

/// `hipSetDevice`: binds the device to the calling thread.
///
/// # Errors
/// The call's code.
pub fn set_device(api: &HipApi, ordinal: i32) -> Result<(), HipError> {
    check!(api, hip_set_device(ordinal), "hipSetDevice")
}

/// `hipDeviceGetAttribute`.
///
/// # Errors
/// The call's code.
pub fn device_attribute(
    api: &HipApi,
    attribute: hipDeviceAttribute_t,
    ordinal: i32,
) -> Result<i32, HipError> {
    let mut value: c_int = 0;
    check!(api, hip_device_get_attribute(&raw mut value, attribute, ordinal), "hipDeviceGetAttribute")?;
    Ok(value)
}

/// Name and full target of a device, from `hipGetDeviceProperties` in the library's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNames {
    /// Marketing name.
    pub name: String,
    /// `gcnArchName`: `gfx1100`, `gfx90a:sramecc+:xnack-`.
    pub arch: String,
}

/// `hipGetDeviceProperties`, or `hipGetDevicePropertiesR0600` where the library has it.
///
/// # Errors
/// The call's code.
pub fn device_names(api: &HipApi, ordinal: i32) -> Result<DeviceNames, HipError> {
    match api.hip_get_device_properties {
        PropertiesFn::R0600(fill) => {
            // SAFETY: all-zero bytes are valid in a struct of integers.
            let mut properties: hipDeviceProp_tR0600 = unsafe { core::mem::zeroed() };
            // SAFETY: the entry fills this layout.
            let code = unsafe { fill(&raw mut properties, ordinal) };
            HipError::check(api, "hipGetDevicePropertiesR0600", code)?;
            Ok(DeviceNames { name: text(&properties.name), arch: text(&properties.gcnArchName) })
        }
        PropertiesFn::Legacy(fill) => {
            // SAFETY: all-zero bytes are valid in a struct of integers and nullable pointers.
            let mut properties: hipDeviceProp_t = unsafe { core::mem::zeroed() };
            // SAFETY: the entry fills this layout.
            let code = unsafe { fill(&raw mut properties, ordinal) };
            HipError::check(api, "hipGetDeviceProperties", code)?;
            Ok(DeviceNames { name: text(&properties.name), arch: text(&properties.gcnArchName) })
        }
    }
}

/// Characters up to the first NUL, or all of them when there is none.
fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> =
        characters.iter().map(|character| character.cast_unsigned()).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `hipGetLastError`: takes the calling thread's pending error, which HIP keeps after a call has failed.
///
/// # Errors
/// The pending error; it is cleared.
pub fn take_last_error(api: &HipApi) -> Result<(), HipError> {
    check!(api, hip_get_last_error(), "hipGetLastError")
}

/// `hipMemGetInfo`: free and total bytes of the bound device.
///
/// # Errors
/// The call's code.
pub fn memory_info(api: &HipApi) -> Result<(usize, usize), HipError> {
    let (mut free, mut total) = (0, 0);
    check!(api, hip_mem_get_info(&raw mut free, &raw mut total), "hipMemGetInfo")?;
    Ok((free, total))
}

/// `hipMalloc` on the bound device.
///
/// # Errors
/// The call's code.
pub fn malloc(api: &HipApi, bytes: NonZeroUsize) -> Result<*mut c_void, HipError> {
    let mut pointer = ptr::null_mut();
    check!(api, hip_malloc(&raw mut pointer, bytes.get()), "hipMalloc")?;
    Ok(pointer)
}

/// `hipFree`. HIP waits for the device first.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `pointer` is from [`malloc`] of the same table and is not used afterwards.
pub unsafe fn free(api: &HipApi, pointer: *mut c_void) -> Result<(), HipError> {
    check!(api, hip_free(pointer), "hipFree")
}

/// `hipMemcpyAsync`.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `bytes` bytes are readable at `source` and writable at `target`, of the kinds that `kind` names, until the stream
/// has been waited for; `stream` is live.
pub unsafe fn memcpy_async(
    api: &HipApi,
    target: *mut c_void,
    source: *const c_void,
    bytes: usize,
    kind: hipMemcpyKind,
    stream: hipStream_t,
) -> Result<(), HipError> {
    check!(api, hip_memcpy_async(target, source, bytes, kind, stream), "hipMemcpyAsync")
}

/// `hipMemsetAsync`.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `bytes` bytes of device memory are writable at `target` until the stream has been waited for; `stream` is live.
pub unsafe fn memset_async(
    api: &HipApi,
    target: *mut c_void,
    value: u8,
    bytes: usize,
    stream: hipStream_t,
) -> Result<(), HipError> {
    check!(api, hip_memset_async(target, c_int::from(value), bytes, stream), "hipMemsetAsync")
}

/// `hipStreamCreateWithFlags` with no flag that changes its order.
///
/// # Errors
/// The call's code.
pub fn stream_create(api: &HipApi) -> Result<hipStream_t, HipError> {
    /// `hipStreamNonBlocking`: the stream does not wait for the null stream, which is not used.
    const NON_BLOCKING: u32 = 1;
    let mut stream = ptr::null_mut();
    check!(api, hip_stream_create_with_flags(&raw mut stream, NON_BLOCKING), "hipStreamCreateWithFlags")?;
    Ok(stream)
}

/// `hipStreamDestroy`.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `stream` is from [`stream_create`] of the same table and is not used afterwards.
pub unsafe fn stream_destroy(api: &HipApi, stream: hipStream_t) -> Result<(), HipError> {
    check!(api, hip_stream_destroy(stream), "hipStreamDestroy")
}

/// `hipStreamSynchronize`: waits for everything given to the stream.
///
/// # Errors
/// The call's code, which may be that of earlier work.
///
/// # Safety
/// `stream` is live.
pub unsafe fn stream_synchronize(api: &HipApi, stream: hipStream_t) -> Result<(), HipError> {
    check!(api, hip_stream_synchronize(stream), "hipStreamSynchronize")
}

/// `hipStreamQuery`: whether everything given to the stream is done.
///
/// # Errors
/// The call's code, which may be that of earlier work.
///
/// # Safety
/// `stream` is live.
pub unsafe fn stream_query(api: &HipApi, stream: hipStream_t) -> Result<bool, HipError> {
    match check!(api, hip_stream_query(stream), "hipStreamQuery") {
        Ok(()) => Ok(true),
        Err(error) if error.code == hipError_t::hipErrorNotReady => Ok(false),
        Err(error) => Err(error),
    }
}

/// `hipModuleLoadData` on the bound device.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `image` is a whole code object or bundle: HIP takes its length from its headers. It stays as it is until the module
/// is unloaded: HIP does not promise to have copied it.
pub unsafe fn module_load_data(api: &HipApi, image: *const c_void) -> Result<hipModule_t, HipError> {
    let mut module = ptr::null_mut();
    check!(api, hip_module_load_data(&raw mut module, image), "hipModuleLoadData")?;
    Ok(module)
}

/// `hipModuleUnload`.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `module` is from [`module_load_data`] of the same table; it and its functions are not used afterwards.
pub unsafe fn module_unload(api: &HipApi, module: hipModule_t) -> Result<(), HipError> {
    check!(api, hip_module_unload(module), "hipModuleUnload")
}

/// `hipModuleGetFunction`.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `module` is live.
pub unsafe fn module_get_function(
    api: &HipApi,
    module: hipModule_t,
    name: &CStr,
) -> Result<hipFunction_t, HipError> {
    let mut function = ptr::null_mut();
    check!(api, hip_module_get_function(&raw mut function, module, name.as_ptr()), "hipModuleGetFunction")?;
    Ok(function)
}

/// `hipModuleLaunchKernel` with no dynamic shared memory.
///
/// # Errors
/// The call's code. Errors of the kernel itself come out at a later call.
///
/// # Safety
/// `function` and `stream` are live. `parameters` holds a pointer to each explicit argument of the kernel, in order,
/// each of that argument's size. What the kernel does with them is sound.
pub unsafe fn module_launch_kernel(
    api: &HipApi,
    function: hipFunction_t,
    blocks: [u32; 3],
    threads: [u32; 3],
    stream: hipStream_t,
    parameters: &mut [*mut c_void],
) -> Result<(), HipError> {
    let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (blocks, threads);
    let (parameters, extra) = (parameters.as_mut_ptr(), ptr::null_mut());
    check!(
        api,
        hip_module_launch_kernel(
            function, grid_x, grid_y, grid_z, block_x, block_y, block_z, 0, stream, parameters, extra
        ),
        "hipModuleLaunchKernel"
    )
}

/// As `check!`, for an entry of the functions for graphs.
macro_rules! check_graph {
    ($api:expr, $graph:expr, $field:ident($($argument:expr),*), $call:literal) => {{
        // SAFETY: the enclosing function's `# Safety` list is HIP's for this call; output pointers are to locals.
        let code = unsafe { ($graph.$field)($($argument),*) };
        HipError::check($api, $call, code)
    }};
}

/// `hipStreamBeginCapture`: what this thread gives to the stream from now on is recorded and not done. Calls of this
/// thread that cannot be recorded are refused; other threads go on as they do.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `graph` is of `api`; `stream` is live and no other thread gives it work before [`stream_end_capture`].
pub unsafe fn stream_begin_capture(
    api: &HipApi,
    graph: &GraphApi,
    stream: hipStream_t,
) -> Result<(), HipError> {
    let mode = hipStreamCaptureMode::hipStreamCaptureModeThreadLocal;
    check_graph!(api, graph, hip_stream_begin_capture(stream, mode), "hipStreamBeginCapture")
}

/// `hipStreamEndCapture`: the graph of what was recorded.
///
/// # Errors
/// The call's code, `hipErrorStreamCaptureInvalidated` when something was refused in between. Recording has ended then too.
///
/// # Safety
/// `graph` is of `api`; `stream` records, begun by this thread.
pub unsafe fn stream_end_capture(
    api: &HipApi,
    graph: &GraphApi,
    stream: hipStream_t,
) -> Result<hipGraph_t, HipError> {
    let mut recorded = ptr::null_mut();
    check_graph!(api, graph, hip_stream_end_capture(stream, &raw mut recorded), "hipStreamEndCapture")?;
    Ok(recorded)
}

/// `hipGraphInstantiate`: a graph made ready to be launched.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `graph` is of `api`; `recorded` is live.
pub unsafe fn graph_instantiate(
    api: &HipApi,
    graph: &GraphApi,
    recorded: hipGraph_t,
) -> Result<hipGraphExec_t, HipError> {
    let mut ready = ptr::null_mut();
    let (node, log) = (ptr::null_mut(), ptr::null_mut());
    check_graph!(
        api,
        graph,
        hip_graph_instantiate(&raw mut ready, recorded, node, log, 0),
        "hipGraphInstantiate"
    )?;
    Ok(ready)
}

/// `hipGraphLaunch`: gives all that was recorded to the stream.
///
/// # Errors
/// The call's code. Errors of the work itself come out at a later call.
///
/// # Safety
/// `graph` is of `api`; `ready` and `stream` are live. What was recorded is sound to do now, until the stream has been
/// waited for.
pub unsafe fn graph_launch(
    api: &HipApi,
    graph: &GraphApi,
    ready: hipGraphExec_t,
    stream: hipStream_t,
) -> Result<(), HipError> {
    check_graph!(api, graph, hip_graph_launch(ready, stream), "hipGraphLaunch")
}

/// `hipGraphExecDestroy`.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `graph` is of `api`; `ready` is from [`graph_instantiate`], its launches are done, and it is not used afterwards.
pub unsafe fn graph_exec_destroy(
    api: &HipApi,
    graph: &GraphApi,
    ready: hipGraphExec_t,
) -> Result<(), HipError> {
    check_graph!(api, graph, hip_graph_exec_destroy(ready), "hipGraphExecDestroy")
}

/// `hipGraphDestroy`.
///
/// # Errors
/// The call's code.
///
/// # Safety
/// `graph` is of `api`; `recorded` is from [`stream_end_capture`] and is not used afterwards.
pub unsafe fn graph_destroy(api: &HipApi, graph: &GraphApi, recorded: hipGraph_t) -> Result<(), HipError> {
    check_graph!(api, graph, hip_graph_destroy(recorded), "hipGraphDestroy")
}
