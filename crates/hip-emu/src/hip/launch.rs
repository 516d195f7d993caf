//! Launches: arguments packed as the kernel's metadata says.

use std::{
    ffi::{c_uint, c_void},
    ptr, slice,
    sync::Arc,
};

use hip_ffi::sys::{hipError_t, hipFunction_t, hipStream_t};
use hsaco::KernelInfo;

use crate::{
    Dispatch, Program,
    hip::{Status, cards::Card, errors::tell, module::FUNCTIONS, stream},
};

/// `HIP_LAUNCH_PARAM_BUFFER_POINTER`: the packed arguments follow.
const BUFFER_POINTER: usize = 1;
/// `HIP_LAUNCH_PARAM_BUFFER_SIZE`: a pointer to their bytes follows.
const BUFFER_SIZE: usize = 2;
/// `HIP_LAUNCH_PARAM_END`.
const END: usize = 3;

/// A kernel of a program that is loaded on a card, which it keeps loaded.
#[derive(Clone)]
pub(super) struct Function {
    pub(super) card: &'static Card,
    pub(super) program: Arc<Program>,
    pub(super) kernel: String,
}

impl Function {
    pub(super) fn info(&self) -> Result<&KernelInfo, hipError_t> {
        self.program.kernel(&self.kernel).ok_or(hipError_t::hipErrorInvalidDeviceFunction)
    }

    /// Runs the kernel in the order of a stream of its card.
    pub(super) fn launch_on(&self, on: hipStream_t, dispatch: Dispatch, arguments: Vec<u8>) -> Status {
        stream::expect_of(on, self.card)?;
        let function = self.clone();
        stream::submit(on, move || function.launch(&dispatch, &arguments))
    }

    /// Runs the kernel to its end.
    fn launch(&self, dispatch: &Dispatch, arguments: &[u8]) -> Status {
        let machine = &self.card.machine;
        let report = machine.launch(&self.program, &self.kernel, dispatch, arguments).map_err(tell)?;
        self.card.launched(&self.kernel, *dispatch, report);
        Ok(())
    }
}

/// Bytes up to the end of the last argument that the source names.
fn argument_bytes(kernel: &KernelInfo) -> usize {
    kernel
        .explicit_args()
        .map(|argument| argument.offset as usize + argument.size as usize)
        .max()
        .unwrap_or(0)
}

/// Packs arguments that are given as one pointer each.
///
/// # Safety
///
/// `pointers` is null or an array of as many pointers as the kernel has arguments, each null or to one of them.
pub(super) unsafe fn pack(kernel: &KernelInfo, pointers: *mut *mut c_void) -> Result<Vec<u8>, hipError_t> {
    let mut packed = vec![0; argument_bytes(kernel)];
    for (index, argument) in kernel.explicit_args().enumerate() {
        if pointers.is_null() {
            return Err(hipError_t::hipErrorInvalidValue);
        }
        let place = pointers.wrapping_add(index);
        // SAFETY: not null, so an array with an element for each argument.
        let pointer = unsafe { place.read() };
        let (start, size) = (argument.offset as usize, argument.size as usize);
        let into = packed.get_mut(start..start + size).ok_or(hipError_t::hipErrorInvalidValue)?;
        if pointer.is_null() {
            return Err(hipError_t::hipErrorInvalidValue);
        }
        // SAFETY: not null, so an argument of its type's size, which the vector just made does not overlap.
        unsafe { ptr::copy_nonoverlapping(pointer.cast(), into.as_mut_ptr(), size) };
    }
    Ok(packed)
}

/// The arguments that `extra` gives as one block; bytes after the last argument are left out.
///
/// # Safety
///
/// `extra` is an array that `HIP_LAUNCH_PARAM_END` ends, of markers and the pointers that they call for.
unsafe fn unpack_extra(kernel: &KernelInfo, extra: *mut *mut c_void) -> Result<Vec<u8>, hipError_t> {
    let (mut buffer, mut size) = (ptr::null::<u8>(), None);
    let mut place = extra;
    loop {
        // SAFETY: the end was not met, so there is an element.
        let marker = unsafe { place.read() };
        if marker.addr() == END {
            break;
        }
        // SAFETY: every other marker is followed by a pointer.
        let value = unsafe { place.wrapping_add(1).read() };
        match marker.addr() {
            BUFFER_POINTER => buffer = value.cast(),
            BUFFER_SIZE if !value.is_null() => {
                // SAFETY: the marker says that it points to a size, and it is not null.
                size = Some(unsafe { value.cast::<usize>().read() });
            }
            _ => return Err(hipError_t::hipErrorInvalidValue),
        }
        place = place.wrapping_add(2);
    }
    let size = size.ok_or(hipError_t::hipErrorInvalidValue)?.min(argument_bytes(kernel));
    if size == 0 {
        return Ok(Vec::new());
    }
    if buffer.is_null() {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    // SAFETY: the caller's block of at least `size` bytes; not null.
    Ok(unsafe { slice::from_raw_parts(buffer, size) }.to_vec())
}

hip_functions! {
    /// Runs a kernel to its end; the grid is in groups.
    fn hipModuleLaunchKernel(
        function: hipFunction_t, groups_x: c_uint, groups_y: c_uint, groups_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, dynamic_lds: c_uint, on: hipStream_t, arguments: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let function = FUNCTIONS.get(function)?;
        let kernel = function.info()?;
        let packed = match (arguments.is_null(), extra.is_null()) {
            (false, false) => return Err(hipError_t::hipErrorInvalidValue),
            // SAFETY: the caller's markers; not null.
            (true, false) => unsafe { unpack_extra(kernel, extra) }?,
            // SAFETY: the caller's arguments, or null.
            (_, true) => unsafe { pack(kernel, arguments) }?,
        };
        let groups = [groups_x, groups_y, groups_z];
        let block = [block_x, block_y, block_z];
        function.launch_on(on, Dispatch { groups, block, dynamic_lds }, packed)
    }
}
