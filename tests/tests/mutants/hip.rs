//! The emulator's HIP table, which loads changed bytes in place of an image, and launches fewer blocks where they take their
//! work in turn.

use std::cell::{Cell, RefCell};
use std::ffi::{c_uint, c_void};

use device_mem::{Device, MemError};
use hip_ffi::sys::{hipError_t, hipFunction_t, hipModule_t, hipStream_t};

/// What stands in for an image.
struct Swap {
    /// Address of the embedded bytes.
    original: usize,
    changed: Vec<u8>,
}

thread_local! {
    static SWAP: RefCell<Option<Swap>> = const { RefCell::new(None) };
    static LOADED: Cell<bool> = const { Cell::new(false) };
    static BLOCKS: Cell<Blocks> = const { Cell::new(AS_LAUNCHED) };
}

/// The most blocks that a launch has along x, y and z.
pub(crate) type Blocks = [c_uint; 3];

/// As many as the operation launches.
pub(crate) const AS_LAUNCHED: Blocks = [c_uint::MAX; 3];

/// Runs `body` on a new device of the card `ordinal`, which loads `changed` where it is given `original`.
///
/// # Errors
/// When the device does not open.
///
/// # Panics
/// When `body` does not load the image: then nothing was tried.
pub(crate) fn with_changed_image<R>(
    ordinal: u32,
    original: &'static [u8],
    changed: Vec<u8>,
    blocks: Blocks,
    body: impl FnOnce(&Device) -> R,
) -> Result<R, MemError> {
    LOADED.set(false);
    SWAP.replace(Some(Swap { original: original.as_ptr().addr(), changed }));
    let mut api = hip_emu::api();
    api.hip_module_load_data = load_changed;
    api.hip_module_launch_kernel = launch;
    BLOCKS.set(blocks);
    let result = Device::from_api(api, ordinal).map(|device| body(&device));
    SWAP.take();
    assert!(result.is_err() || LOADED.get(), "the changed image is not loaded");
    result
}

/// `hipModuleLoadData`, as the emulator has it, of this thread's changed image where it has one.
unsafe extern "C" fn load_changed(module: *mut hipModule_t, image: *const c_void) -> hipError_t {
    SWAP.with_borrow(|swap| {
        let changed = swap.as_ref().filter(|swap| swap.original == image.addr());
        LOADED.set(LOADED.get() || changed.is_some());
        let image = changed.map_or(image, |swap| swap.changed.as_ptr().cast());
        // SAFETY: the caller keeps the contract of hipModuleLoadData for `module` and the original image; a changed one has the
        // same length and the same headers, and lives until after the call, by which the emulator has copied it.
        unsafe { (hip_emu::api().hip_module_load_data)(module, image) }
    })
}

/// `hipModuleLaunchKernel`, as the emulator has it, with no more blocks than this thread says.
unsafe extern "C" fn launch(
    function: hipFunction_t,
    x: c_uint,
    y: c_uint,
    z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: hipStream_t,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> hipError_t {
    let most = BLOCKS.get();
    let (x, y, z) = (x.min(most[0]), y.min(most[1]), z.min(most[2]));
    let launch = hip_emu::api().hip_module_launch_kernel;
    // SAFETY: the caller keeps the contract of hipModuleLaunchKernel; fewer blocks access no more than more do.
    unsafe { launch(function, x, y, z, block_x, block_y, block_z, shared, stream, parameters, extra) }
}
