//! HIP's NVIDIA platform: the table filled from CUDA's driver API, of `libcuda.so.1`, loaded at run time.
//!
//! HIP has two platforms, and on NVIDIA's each of its functions is one or two of CUDA's. [`load`] gives a [`HipApi`] whose
//! entries are functions of this module, each of which makes the calls of the driver that keep HIP's contract for its name:
//!
//! | HIP | CUDA's driver |
//! |---|---|
//! | a device, bound to a thread | its primary context, retained once for the process and made current |
//! | `gcnArchName` | `sm_90` |
//! | a code object | PTX, NUL-terminated, or a cubin |
//! | error codes | HIP's of the same meaning; the text is the driver's |
//! | the pending error of a thread | kept here, as the driver keeps none |
//!
//! A process has one driver: what [`load`] found first is what it gives ever after.

mod device;
mod driver;
mod errors;
mod graph;
mod work;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use self::driver::{Code, Driver};
use crate::load::first_library;
use crate::sys::hipError_t;
use crate::{Found, GraphApi, HipApi, LoadError, PropertiesFn, Search};

/// What every entry of the table asks.
static DRIVER: OnceLock<(Driver, Found)> = OnceLock::new();

/// Where to look for CUDA's driver library: the file that `HIP_FFI_CUDA_LIB` names alone, else `libcuda.so.1` by the system's
/// loader and where WSL keeps it. The Windows name is untested.
pub fn search_from_env() -> Search {
    search(env::var_os("HIP_FFI_CUDA_LIB"))
}

fn search(file: Option<OsString>) -> Search {
    let (names, last_roots): (&[&str], &[&str]) = if cfg!(windows) {
        (&["nvcuda.dll"], &[])
    } else {
        (&["libcuda.so.1", "libcuda.so"], &["/usr/lib/wsl"])
    };
    Search {
        file: file.filter(|value| !value.is_empty()).map(PathBuf::from),
        roots: Vec::new(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        last_roots: last_roots.iter().map(PathBuf::from).collect(),
    }
}

/// Loads the first driver library that `search` names, unless the process has one, and fills the table from it.
///
/// # Errors
/// [`LoadError::NoDriver`] with every place and its reason, or [`LoadError::OldDriver`].
pub fn load(search: &Search) -> Result<(HipApi, Found), LoadError> {
    let (_, found) = match DRIVER.get() {
        Some(loaded) => loaded,
        None => {
            let (library, found) = first_library(search).map_err(|tried| LoadError::NoDriver { tried })?;
            let driver = Driver::resolve(library)
                .map_err(|symbol| LoadError::OldDriver { library: found.library.clone(), symbol })?;
            DRIVER.get_or_init(|| (driver, found))
        }
    };
    Ok((table(), found.clone()))
}

fn table() -> HipApi {
    HipApi {
        hip_init: device::init,
        hip_runtime_get_version: device::version,
        hip_driver_get_version: device::version,
        hip_get_error_name: errors::name,
        hip_get_error_string: errors::meaning,
        hip_get_last_error: errors::take_pending,
        hip_get_device_count: device::count,
        hip_set_device: device::set,
        hip_device_get_attribute: device::attribute,
        hip_mem_get_info: device::memory_info,
        hip_malloc: work::malloc,
        hip_free: work::free,
        hip_memcpy_async: work::memcpy_async,
        hip_memset_async: work::memset_async,
        hip_stream_create_with_flags: work::stream_create,
        hip_stream_destroy: work::stream_destroy,
        hip_stream_synchronize: work::stream_synchronize,
        hip_stream_query: work::stream_query,
        hip_module_load_data: work::module_load_data,
        hip_module_unload: work::module_unload,
        hip_module_get_function: work::module_get_function,
        hip_module_launch_kernel: work::launch_kernel,
        hip_get_device_properties: PropertiesFn::R0600(device::properties),
        graph: Some(GraphApi {
            hip_stream_begin_capture: graph::begin_capture,
            hip_stream_end_capture: graph::end_capture,
            hip_graph_instantiate: graph::instantiate,
            hip_graph_launch: graph::launch,
            hip_graph_exec_destroy: graph::exec_destroy,
            hip_graph_destroy: graph::destroy,
        }),
        // The driver stays loaded to the end of the process.
        library: None,
    }
}

/// The driver's answer in HIP's code, which stays pending on this thread where it is an error.
fn answer(ask: impl FnOnce(&Driver) -> Code) -> hipError_t {
    match DRIVER.get() {
        Some((driver, _)) => errors::told(ask(driver)),
        None => errors::pend(hipError_t::hipErrorNotInitialized),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_looked_for_by_its_names_unless_a_file_is_named() {
        let by_name = search(Some(OsString::new()));
        assert_eq!((&by_name.file, by_name.names.is_empty()), (&None, false));
        let named = search(Some("/it.so".into()));
        assert_eq!(named.file, Some("/it.so".into()));
    }
}
