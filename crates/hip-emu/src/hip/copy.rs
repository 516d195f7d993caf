//! Copies between any two of the cards' memories and the host's, and fills.

use std::{
    ffi::{c_int, c_void},
    ptr, slice,
};

use hip_ffi::sys::{hipError_t, hipMemcpyKind, hipStream_t};

use crate::hip::{
    Status,
    errors::tell,
    memory::{number, owner},
    stream,
};

/// Copies bytes between any two places.
///
/// # Safety
///
/// Whichever of `to` and `from` is not a card's memory is host memory of `bytes` bytes.
pub(super) unsafe fn copy(to: *mut c_void, from: *const c_void, bytes: usize, kind: hipMemcpyKind) -> Status {
    if bytes == 0 {
        return Ok(());
    }
    if to.is_null() || from.is_null() || isize::try_from(bytes).is_err() {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    let (to_card, from_card) = (owner(to, bytes)?, owner(from, bytes)?);
    let (to_device, from_device) = (to_card.is_some(), from_card.is_some());
    // Host memory from hipHostMalloc is the card's too, so a side that is called the host's may be either.
    let named = match kind {
        hipMemcpyKind::hipMemcpyHostToHost | hipMemcpyKind::hipMemcpyDefault => true,
        hipMemcpyKind::hipMemcpyHostToDevice => to_device,
        hipMemcpyKind::hipMemcpyDeviceToHost => from_device,
        hipMemcpyKind::hipMemcpyDeviceToDevice => to_device && from_device,
        _ => return Err(hipError_t::hipErrorInvalidMemcpyDirection),
    };
    if !named {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    match (to_card, from_card) {
        (Some(to_card), Some(from_card)) if to_card.ordinal == from_card.ordinal => {
            to_card.machine.memory().copy(number(to), number(from), bytes).map_err(tell)
        }
        (Some(to_card), Some(from_card)) => {
            let mut between = vec![0; bytes];
            from_card.machine.memory().read(number(from), &mut between).map_err(tell)?;
            to_card.machine.memory().write(number(to), &between).map_err(tell)
        }
        (Some(card), None) => {
            // SAFETY: host memory of `bytes` bytes by the contract; not null, not longer than isize::MAX.
            let from = unsafe { slice::from_raw_parts(from.cast(), bytes) };
            card.machine.memory().write(number(to), from).map_err(tell)
        }
        (None, Some(card)) => {
            // SAFETY: as above, and the caller lends it for writing.
            let to = unsafe { slice::from_raw_parts_mut(to.cast(), bytes) };
            card.machine.memory().read(number(from), to).map_err(tell)
        }
        (None, None) => {
            // SAFETY: host memory of `bytes` bytes on both sides by the contract; it may overlap.
            unsafe { ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes) };
            Ok(())
        }
    }
}

/// Copies bytes in the order of a stream.
///
/// # Safety
///
/// As [`copy`]; for host memory whenever a graph of it is launched, if the stream records.
pub(super) unsafe fn copy_on(
    on: hipStream_t,
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
    kind: hipMemcpyKind,
) -> Status {
    let (to, from) = (to.expose_provenance(), from.expose_provenance());
    stream::submit(on, move || {
        let (to, from) = (ptr::with_exposed_provenance_mut(to), ptr::with_exposed_provenance(from));
        // SAFETY: by the contract.
        unsafe { copy(to, from, bytes, kind) }
    })
}

/// Copies bytes at once.
///
/// # Safety
///
/// As [`copy`].
pub(super) unsafe fn copy_now(
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
    kind: hipMemcpyKind,
) -> Status {
    stream::expect_no_recording()?;
    // SAFETY: by the contract.
    unsafe { copy(to, from, bytes, kind) }
}

/// Copies rows that lie `pitch` bytes apart.
///
/// # Safety
///
/// As [`copy`] for each row.
unsafe fn copy_rows(
    (to, to_pitch): (*mut c_void, usize),
    (from, from_pitch): (*const c_void, usize),
    (width, height): (usize, usize),
    kind: hipMemcpyKind,
) -> Status {
    if width > to_pitch || width > from_pitch {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    for row in 0..height {
        let to = to.wrapping_byte_add(row.wrapping_mul(to_pitch));
        let from = from.wrapping_byte_add(row.wrapping_mul(from_pitch));
        // SAFETY: a row by the contract.
        unsafe { copy(to, from, width, kind) }?;
    }
    Ok(())
}

/// Repeats a pattern.
fn fill(to: *mut c_void, pattern: &[u8], count: usize) -> Status {
    let bytes = count.checked_mul(pattern.len()).ok_or(hipError_t::hipErrorInvalidValue)?;
    if bytes == 0 {
        return Ok(());
    }
    let card = owner(to, bytes)?.ok_or(hipError_t::hipErrorInvalidValue)?;
    let memory = card.machine.memory();
    match pattern {
        [byte] => memory.fill(number(to), *byte, bytes).map_err(tell),
        _ => memory.write(number(to), &pattern.repeat(count)).map_err(tell),
    }
}

/// Repeats a pattern in the order of a stream.
fn fill_on<const BYTES: usize>(
    on: hipStream_t,
    to: *mut c_void,
    pattern: [u8; BYTES],
    count: usize,
) -> Status {
    let to = to.expose_provenance();
    stream::submit(on, move || fill(ptr::with_exposed_provenance_mut(to), &pattern, count))
}

/// The low byte, as C's `memset` takes it.
const fn low_byte(value: c_int) -> u8 {
    value.to_le_bytes()[0]
}

hip_functions! {
    /// Copies bytes.
    fn hipMemcpy(to: *mut c_void, from: *const c_void, bytes: usize, kind: hipMemcpyKind) {
        // SAFETY: the caller's memory.
        unsafe { copy_now(to, from, bytes, kind) }
    }

    /// Copies bytes; done when it returns.
    fn hipMemcpyAsync(to: *mut c_void, from: *const c_void, bytes: usize, kind: hipMemcpyKind, on: hipStream_t) {
        // SAFETY: the caller's memory.
        unsafe { copy_on(on, to, from, bytes, kind) }
    }

    /// Copies bytes and waits.
    fn hipMemcpyWithStream(to: *mut c_void, from: *const c_void, bytes: usize, kind: hipMemcpyKind, on: hipStream_t) {
        stream::expect_idle(on)?;
        // SAFETY: the caller's memory.
        unsafe { copy(to, from, bytes, kind) }
    }

    /// Copies to the card.
    fn hipMemcpyHtoD(to: *mut c_void, from: *const c_void, bytes: usize) {
        // SAFETY: the caller's memory.
        unsafe { copy_now(to, from, bytes, hipMemcpyKind::hipMemcpyHostToDevice) }
    }

    /// Copies from the card.
    fn hipMemcpyDtoH(to: *mut c_void, from: *const c_void, bytes: usize) {
        // SAFETY: the caller's memory.
        unsafe { copy_now(to, from, bytes, hipMemcpyKind::hipMemcpyDeviceToHost) }
    }

    /// Copies within the card.
    fn hipMemcpyDtoD(to: *mut c_void, from: *const c_void, bytes: usize) {
        // SAFETY: the caller's memory.
        unsafe { copy_now(to, from, bytes, hipMemcpyKind::hipMemcpyDeviceToDevice) }
    }

    /// Copies to the card; done when it returns.
    fn hipMemcpyHtoDAsync(to: *mut c_void, from: *const c_void, bytes: usize, on: hipStream_t) {
        // SAFETY: the caller's memory.
        unsafe { copy_on(on, to, from, bytes, hipMemcpyKind::hipMemcpyHostToDevice) }
    }

    /// Copies from the card; done when it returns.
    fn hipMemcpyDtoHAsync(to: *mut c_void, from: *const c_void, bytes: usize, on: hipStream_t) {
        // SAFETY: the caller's memory.
        unsafe { copy_on(on, to, from, bytes, hipMemcpyKind::hipMemcpyDeviceToHost) }
    }

    /// Copies within the card; done when it returns.
    fn hipMemcpyDtoDAsync(to: *mut c_void, from: *const c_void, bytes: usize, on: hipStream_t) {
        // SAFETY: the caller's memory.
        unsafe { copy_on(on, to, from, bytes, hipMemcpyKind::hipMemcpyDeviceToDevice) }
    }

    /// Copies rows.
    fn hipMemcpy2D(
        to: *mut c_void, to_pitch: usize, from: *const c_void, from_pitch: usize, width: usize, height: usize,
        kind: hipMemcpyKind,
    ) {
        stream::expect_no_recording()?;
        // SAFETY: the caller's memory.
        unsafe { copy_rows((to, to_pitch), (from, from_pitch), (width, height), kind) }
    }

    /// Copies rows; done when it returns.
    fn hipMemcpy2DAsync(
        to: *mut c_void, to_pitch: usize, from: *const c_void, from_pitch: usize, width: usize, height: usize,
        kind: hipMemcpyKind, on: hipStream_t,
    ) {
        let (to, from) = (to.expose_provenance(), from.expose_provenance());
        stream::submit(on, move || {
            let (to, from) = (ptr::with_exposed_provenance_mut(to), ptr::with_exposed_provenance(from));
            // SAFETY: the caller's memory.
            unsafe { copy_rows((to, to_pitch), (from, from_pitch), (width, height), kind) }
        })
    }

    /// Sets bytes.
    fn hipMemset(to: *mut c_void, value: c_int, bytes: usize) {
        stream::expect_no_recording()?;
        fill(to, &[low_byte(value)], bytes)
    }

    /// Sets bytes; done when it returns.
    fn hipMemsetAsync(to: *mut c_void, value: c_int, bytes: usize, on: hipStream_t) {
        fill_on(on, to, [low_byte(value)], bytes)
    }

    /// Sets bytes.
    fn hipMemsetD8(to: *mut c_void, value: u8, count: usize) {
        stream::expect_no_recording()?;
        fill(to, &[value], count)
    }

    /// Sets 16-bit words.
    fn hipMemsetD16(to: *mut c_void, value: u16, count: usize) {
        stream::expect_no_recording()?;
        fill(to, &value.to_ne_bytes(), count)
    }

    /// Sets 32-bit words.
    fn hipMemsetD32(to: *mut c_void, value: c_int, count: usize) {
        stream::expect_no_recording()?;
        fill(to, &value.to_ne_bytes(), count)
    }

    /// Sets 32-bit words; done when it returns.
    fn hipMemsetD32Async(to: *mut c_void, value: c_int, count: usize, on: hipStream_t) {
        fill_on(on, to, value.to_ne_bytes(), count)
    }
}
