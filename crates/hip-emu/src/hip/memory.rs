//! The cards' memory.

use std::{
    ffi::{c_uint, c_void},
    ptr,
};

use hip_ffi::sys::{hipError_t, hipStream_t};

use crate::{
    MemoryError,
    hip::{
        Status,
        cards::{self, Card},
        errors::{Coded, tell},
        put, stream,
    },
};

/// Bytes of memory that the card says it has.
pub(super) const TOTAL_BYTES: usize = 16 << 30;

fn free_bytes(card: &Card) -> usize {
    let used = usize::try_from(card.machine.memory().used()).unwrap_or(usize::MAX);
    TOTAL_BYTES.saturating_sub(used)
}

/// Allocates memory and gives its address; zero bytes have none.
///
/// # Safety
///
/// As [`put`].
unsafe fn allocate(place: *mut *mut c_void, bytes: usize) -> Status {
    stream::expect_no_recording()?;
    let card = cards::current()?;
    let address = match bytes {
        _ if place.is_null() => return Err(hipError_t::hipErrorInvalidValue),
        0 => ptr::null_mut(),
        _ if bytes > free_bytes(card) => return Err(MemoryError::OutOfMemory { bytes }.code()),
        _ => pointer(card.machine.memory().allocate(bytes).map_err(|error| error.code())?),
    };
    // SAFETY: by the contract.
    unsafe { put(place, address) }
}

fn free(address: *mut c_void) -> Status {
    stream::expect_no_recording()?;
    if address.is_null() {
        return Ok(());
    }
    let card = match cards::holding(number(address)) {
        Some((card, _)) => card,
        None => cards::current()?,
    };
    card.machine.memory().free(number(address)).map_err(tell)
}

pub(super) fn number(address: *const c_void) -> u64 {
    address.addr() as u64
}

/// Device addresses are addresses of this process.
#[expect(clippy::cast_possible_truncation, reason = "an address of this process")]
pub(super) fn pointer(address: u64) -> *mut c_void {
    ptr::with_exposed_provenance_mut(address as usize)
}

/// The card whose memory an address is of, if it is not the host's. A range that leaves its allocation is refused.
pub(super) fn owner(address: *const c_void, bytes: usize) -> Result<Option<&'static Card>, hipError_t> {
    let Some((card, allocation)) = cards::holding(number(address)) else { return Ok(None) };
    let offset = number(address) - allocation.address;
    if bytes as u64 > allocation.bytes as u64 - offset {
        let nearest = Some(allocation);
        return Err(tell(MemoryError::OutOfBounds { address: number(address), bytes, nearest }));
    }
    Ok(Some(card))
}

hip_functions! {
    /// Bytes that can still be allocated on the thread's card, and bytes in all.
    fn hipMemGetInfo(free: *mut usize, total: *mut usize) {
        // SAFETY: the caller's place for the result.
        unsafe { put(free, free_bytes(cards::current()?)) }?;
        // SAFETY: the caller's place for the result.
        unsafe { put(total, TOTAL_BYTES) }
    }

    /// Allocates memory; zero bytes give null.
    fn hipMalloc(place: *mut *mut c_void, bytes: usize) {
        // SAFETY: the caller's place for the result.
        unsafe { allocate(place, bytes) }
    }

    /// Frees an allocation, or null.
    fn hipFree(address: *mut c_void) {
        free(address)
    }

    /// As `hipMalloc`.
    fn hipMallocAsync(place: *mut *mut c_void, bytes: usize, on: hipStream_t) {
        stream::expect_idle(on)?;
        // SAFETY: the caller's place for the result.
        unsafe { allocate(place, bytes) }
    }

    /// As `hipFree`.
    fn hipFreeAsync(address: *mut c_void, on: hipStream_t) {
        stream::expect_idle(on)?;
        free(address)
    }

    /// Allocates memory that the host and kernels use; all of the card's is.
    fn hipHostMalloc(place: *mut *mut c_void, bytes: usize, _flags: c_uint) {
        // SAFETY: the caller's place for the result.
        unsafe { allocate(place, bytes) }
    }

    /// As `hipHostMalloc`.
    fn hipMallocManaged(place: *mut *mut c_void, bytes: usize, _flags: c_uint) {
        // SAFETY: the caller's place for the result.
        unsafe { allocate(place, bytes) }
    }

    /// Frees what `hipHostMalloc` gave.
    fn hipHostFree(address: *mut c_void) {
        free(address)
    }

    /// The address that kernels use, which is the same.
    fn hipHostGetDevicePointer(place: *mut *mut c_void, address: *mut c_void, _flags: c_uint) {
        if owner(address, 0)?.is_none() {
            return Err(hipError_t::hipErrorInvalidValue);
        }
        // SAFETY: the caller's place for the result.
        unsafe { put(place, address) }
    }

    /// Start and size of the allocation that holds an address; a place that is null is passed over.
    fn hipMemGetAddressRange(start: *mut *mut c_void, bytes: *mut usize, address: *mut c_void) {
        let (_, found) = cards::holding(number(address)).ok_or(hipError_t::hipErrorNotFound)?;
        if !start.is_null() {
            // SAFETY: the caller's place for the result.
            unsafe { put(start, pointer(found.address)) }?;
        }
        if !bytes.is_null() {
            // SAFETY: the caller's place for the result.
            unsafe { put(bytes, found.bytes) }?;
        }
        Ok(())
    }
}
