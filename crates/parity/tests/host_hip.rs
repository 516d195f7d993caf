//! The stand-in runtime refuses what a card would get wrong silently.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::ffi::{CStr, c_void};
use std::num::NonZeroUsize;
use std::path::Path;
use std::ptr;

use hip_ffi::sys::{hipError_t, hipFunction_t, hipMemcpyKind, hipModule_t, hipStream_t};
use hip_ffi::{HipError, result};
use parity::{HOST_HIP_ARCH, host_hip};

fn image(arch: &str) -> Vec<u8> {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-rope/hsaco");
    std::fs::read(images.join(arch).join("rope_kernel.hsaco")).unwrap()
}

fn load(image: &[u8]) -> Result<hipModule_t, HipError> {
    // SAFETY: the bytes are a whole ELF, or as long as its header, and outlive the call.
    unsafe { result::module_load_data(&host_hip(), image.as_ptr().cast()) }
}

fn function(module: hipModule_t, name: &CStr) -> Result<hipFunction_t, HipError> {
    // SAFETY: the tests never unload a module.
    unsafe { result::module_get_function(&host_hip(), module, name) }
}

fn allocate(bytes: usize) -> *mut c_void {
    result::malloc(&host_hip(), NonZeroUsize::new(bytes).unwrap()).unwrap()
}

fn free(pointer: *mut c_void) -> Result<(), HipError> {
    // SAFETY: nothing uses the memory afterwards; the stand-in finds out whether it is an allocation.
    unsafe { result::free(&host_hip(), pointer) }
}

fn upload(target: *mut c_void, source: &[f32]) -> Result<(), HipError> {
    let (bytes, kind) = (size_of_val(source), hipMemcpyKind::hipMemcpyHostToDevice);
    let (from, stream): (_, hipStream_t) = (source.as_ptr().cast(), ptr::null_mut());
    // SAFETY: `source` has these bytes; the stand-in finds out whether the target has.
    unsafe { result::memcpy_async(&host_hip(), target, from, bytes, kind, stream) }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, HipError>, code: hipError_t) {
    assert_eq!(result.unwrap_err().code, code);
}

#[test]
fn memory_that_is_not_allocated_is_neither_copied_nor_freed() {
    let memory = allocate(16);
    upload(memory, &[1.0; 4]).unwrap();
    refused(upload(memory, &[1.0; 5]), hipError_t::hipErrorInvalidValue);
    refused(upload(memory.wrapping_byte_add(4), &[1.0; 4]), hipError_t::hipErrorInvalidValue);
    refused(upload(memory.wrapping_byte_sub(4), &[1.0]), hipError_t::hipErrorInvalidValue);
    refused(free(memory.wrapping_byte_add(8)), hipError_t::hipErrorInvalidValue);
    free(memory).unwrap();
    refused(free(memory), hipError_t::hipErrorInvalidValue);
    refused(upload(memory, &[1.0]), hipError_t::hipErrorInvalidValue);
}

#[test]
fn images_for_other_cards_and_junk_are_refused() {
    refused(load(&image("gfx90a")), hipError_t::hipErrorNoBinaryForGpu);
    refused(load(&[0; 64]), hipError_t::hipErrorInvalidImage);
    let module = load(&image(HOST_HIP_ARCH)).unwrap();
    function(module, c"rope_f32").unwrap();
    refused(function(module, c"rope_f64"), hipError_t::hipErrorNotFound);
}

/// The arguments of `rope_f32`, for one token of `heads` heads of 4 elements.
struct Call {
    pointers: [*mut c_void; 5],
    strides: [u64; 2],
    counts: [u32; 4],
}

impl Call {
    /// `x` of one head, a table of one position, and what else the kernel reads.
    fn new(heads: u32) -> Call {
        let pointers = [16, 8, 8, 4, 8].map(allocate);
        upload(pointers[0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        upload(pointers[1], &[0.5; 2]).unwrap();
        upload(pointers[2], &[0.5; 2]).unwrap();
        upload(pointers[3], &[0.0]).unwrap(); // Zero is the same bits in u32.
        upload(pointers[4], &[0.0; 2]).unwrap();
        Call { pointers, strides: [u64::from(heads) * 4, 4], counts: [1, heads, 4, 1] }
    }

    fn launch(&mut self, blocks: u32, threads: u32) -> Result<(), HipError> {
        let function = function(load(&image(HOST_HIP_ARCH)).unwrap(), c"rope_f32").unwrap();
        let pointers = self.pointers.iter_mut().map(|value| ptr::from_mut(value).cast());
        let strides = self.strides.iter_mut().map(|value| ptr::from_mut(value).cast());
        let counts = self.counts.iter_mut().map(|value| ptr::from_mut(value).cast());
        let mut parameters: Vec<*mut c_void> = pointers.chain(strides).chain(counts).collect();
        let (blocks, threads, stream) = ([blocks, 1, 1], [threads, 1, 1], ptr::null_mut());
        // SAFETY: the parameters are those of `rope_f32`. With two heads it also touches the 16 bytes behind `x`, which
        // the stand-in keeps as a guard.
        unsafe {
            result::module_launch_kernel(&host_hip(), function, blocks, threads, stream, &mut parameters)
        }
    }
}

#[test]
fn launches_keep_their_limits() {
    Call::new(1).launch(1, 256).unwrap();
    for (blocks, threads) in [(0, 256), (1, 0), (1, 257), (1 << 24, 256)] {
        refused(Call::new(1).launch(blocks, threads), hipError_t::hipErrorInvalidConfiguration);
    }
}

#[test]
fn a_pointer_outside_all_allocations_is_an_illegal_address() {
    let mut call = Call::new(1);
    call.pointers[1] = ptr::without_provenance_mut(4096);
    refused(call.launch(1, 256), hipError_t::hipErrorIllegalAddress);
}

#[test]
fn a_kernel_that_writes_past_its_buffer_is_found_out() {
    let mut call = Call::new(2);
    refused(call.launch(1, 256), hipError_t::hipErrorIllegalAddress);
    refused(free(call.pointers[0]), hipError_t::hipErrorIllegalAddress);
}
