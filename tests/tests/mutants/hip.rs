//! The emulator's HIP table, which loads changed bytes in place of an image.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;

use device_mem::{Device, MemError};
use hip_ffi::sys::{hipError_t, hipModule_t};

/// What stands in for an image.
struct Swap {
    /// Address of the embedded bytes.
    original: usize,
    changed: Vec<u8>,
}

thread_local! {
    static SWAP: RefCell<Option<Swap>> = const { RefCell::new(None) };
    static LOADED: Cell<bool> = const { Cell::new(false) };
}

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
    body: impl FnOnce(&Device) -> R,
) -> Result<R, MemError> {
    LOADED.set(false);
    SWAP.replace(Some(Swap { original: original.as_ptr().addr(), changed }));
    let mut api = hip_emu::api();
    api.hip_module_load_data = load_changed;
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
