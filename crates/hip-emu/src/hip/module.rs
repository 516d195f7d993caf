//! Modules, their kernels and variables, and occupancy.

use std::{
    ffi::{c_char, c_int, c_uint, c_void},
    fs,
    sync::Arc,
};

use hip_ffi::sys::{hipError_t, hipFunction_t, hipModule_t};

use crate::{
    Program,
    hip::{
        Status,
        cards::{self, Card},
        device,
        errors::tell,
        handles::Handles,
        image,
        launch::Function,
        memory, put, text,
    },
};

/// A program, and the card that it is loaded on.
struct Module {
    card: &'static Card,
    program: Arc<Program>,
}

static MODULES: Handles<Module> = Handles::new();
pub(super) static FUNCTIONS: Handles<Function> = Handles::new();

fn load(image: &[u8]) -> Result<hipModule_t, hipError_t> {
    let card = cards::current()?;
    let program = Arc::new(card.machine.load(image).map_err(tell)?);
    Ok(MODULES.add(Module { card, program }))
}

/// Loads an image that the caller has in memory.
///
/// # Safety
///
/// `place` is null or valid for a write; `bytes` is null or as [`image::whole`] needs it.
unsafe fn load_into(place: *mut hipModule_t, bytes: *const c_void) -> Status {
    if place.is_null() || bytes.is_null() {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    // SAFETY: the contract is the caller's.
    let image = unsafe { image::whole(bytes.cast()) }.ok_or(hipError_t::hipErrorInvalidImage)?;
    let module = load(image)?;
    // SAFETY: the contract is the caller's.
    unsafe { put(place, module) }
}

/// Groups of a kernel that are on a unit at the same time: one, or none when it does not fit.
pub(super) fn occupancy(function: &Function, block: c_int, dynamic_lds: usize) -> Result<c_int, hipError_t> {
    let kernel = function.info()?;
    let block =
        u32::try_from(block).ok().filter(|block| *block > 0).ok_or(hipError_t::hipErrorInvalidValue)?;
    let lds = dynamic_lds.saturating_add(kernel.lds as usize);
    let most = kernel.max_block.min(device::BLOCK as u32);
    Ok(c_int::from(block <= most && lds <= device::LDS_BYTES as usize))
}

/// The block that fills a unit, up to `limit` work-items where it is not zero, and the grid that fills the card.
pub(super) fn largest(function: &Function, limit: c_int) -> Result<(c_int, c_int), hipError_t> {
    let most = c_int::try_from(function.info()?.max_block).unwrap_or(device::BLOCK).min(device::BLOCK);
    Ok((function.card.units, if limit > 0 { most.min(limit) } else { most }))
}

hip_functions! {
    /// Loads a code object, or the card's one of a bundle.
    fn hipModuleLoadData(place: *mut hipModule_t, bytes: *const c_void) {
        // SAFETY: the caller's place for the result and image.
        unsafe { load_into(place, bytes) }
    }

    /// As `hipModuleLoadData`; the options are for compilers.
    fn hipModuleLoadDataEx(
        place: *mut hipModule_t, bytes: *const c_void, _options: c_uint, _names: *mut c_int,
        _values: *mut *mut c_void,
    ) {
        // SAFETY: the caller's place for the result and image.
        unsafe { load_into(place, bytes) }
    }

    /// Loads a file.
    fn hipModuleLoad(place: *mut hipModule_t, path: *const c_char) {
        if place.is_null() {
            return Err(hipError_t::hipErrorInvalidValue);
        }
        // SAFETY: the caller's string.
        let path = unsafe { text(path) }?;
        let image = fs::read(path).map_err(|_| hipError_t::hipErrorFileNotFound)?;
        let module = load(&image)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(place, module) }
    }

    /// Ends a module and its functions' handles.
    fn hipModuleUnload(module: hipModule_t) {
        let module = MODULES.remove(module)?;
        FUNCTIONS.retain(|function| !Arc::ptr_eq(&function.program, &module.program));
        Ok(())
    }

    /// A kernel by name; the same name gives the same handle.
    fn hipModuleGetFunction(place: *mut hipFunction_t, module: hipModule_t, name: *const c_char) {
        let module = MODULES.get(module)?;
        let (card, program) = (module.card, module.program.clone());
        // SAFETY: the caller's string.
        let kernel = unsafe { text(name) }?.to_owned();
        if program.kernel(&kernel).is_none() {
            return Err(hipError_t::hipErrorNotFound);
        }
        let known = FUNCTIONS.find(|other| Arc::ptr_eq(&other.program, &program) && other.kernel == kernel);
        let function = known.unwrap_or_else(|| FUNCTIONS.add(Function { card, program, kernel }));
        // SAFETY: the caller's place for the result.
        unsafe { put(place, function) }
    }

    /// Address and bytes of a variable; a place that is null is passed over.
    fn hipModuleGetGlobal(place: *mut *mut c_void, bytes: *mut usize, module: hipModule_t, name: *const c_char) {
        let module = MODULES.get(module)?;
        // SAFETY: the caller's string.
        let name = unsafe { text(name) }?;
        let (address, size) = module.program.symbol(name).ok_or(hipError_t::hipErrorNotFound)?;
        if !place.is_null() {
            // SAFETY: the caller's place for the result.
            unsafe { put(place, memory::pointer(address)) }?;
        }
        if !bytes.is_null() {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            // SAFETY: the caller's place for the result.
            unsafe { put(bytes, size) }?;
        }
        Ok(())
    }

    /// What the metadata says about a kernel: `HIP_FUNC_ATTRIBUTE_*`, in the order of HIP's enumeration.
    fn hipFuncGetAttribute(place: *mut c_int, attribute: c_int, function: hipFunction_t) {
        let function = FUNCTIONS.get(function)?;
        let kernel = function.info()?;
        let value = match attribute {
            0 => kernel.max_block,
            1 => kernel.lds,
            3 => kernel.scratch,
            4 => kernel.vgprs,
            8 => (device::LDS_BYTES as u32).saturating_sub(kernel.lds),
            2 | 5 | 6 | 7 | 9 => 0,
            _ => return Err(hipError_t::hipErrorInvalidValue),
        };
        // SAFETY: the caller's place for the result.
        unsafe { put(place, c_int::try_from(value).unwrap_or(c_int::MAX)) }
    }

    /// Groups of a kernel that are on a unit at the same time.
    fn hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(
        place: *mut c_int, function: hipFunction_t, block: c_int, dynamic_lds: usize,
    ) {
        let groups = occupancy(&*FUNCTIONS.get(function)?, block, dynamic_lds)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(place, groups) }
    }

    /// The grid and the block that fill the card.
    fn hipModuleOccupancyMaxPotentialBlockSize(
        groups: *mut c_int, block: *mut c_int, function: hipFunction_t, _dynamic_lds: usize, limit: c_int,
    ) {
        let (most_groups, most_block) = largest(&*FUNCTIONS.get(function)?, limit)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(groups, most_groups) }?;
        // SAFETY: the caller's place for the result.
        unsafe { put(block, most_block) }
    }
}
