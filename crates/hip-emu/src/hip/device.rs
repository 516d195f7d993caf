//! Initialisation, versions and the card's properties.

use std::{
    ffi::{c_char, c_int, c_uint},
    mem::MaybeUninit,
    ptr,
};

use hip_ffi::sys::{hipDeviceAttribute_t, hipDeviceProp_t, hipDeviceProp_tR0600, hipError_t};

use crate::{
    Arch,
    hip::{
        cards::{self, Card},
        memory::TOTAL_BYTES,
        put, stream,
    },
};

/// The first version with both layouts of the properties.
const VERSION: c_int = 60_000_000;
/// Most work-items of a group.
pub(super) const BLOCK: c_int = 1024;
/// Bytes of LDS that a group can have.
pub(super) const LDS_BYTES: c_int = 65_536;
/// Vector registers of a group's work-items, together.
const REGISTERS: c_int = 65_536;
/// Most work-groups in a dimension.
const GRID: c_int = c_int::MAX;
/// Bytes of `hipDeviceProp_tR0600`.
const PROPERTIES_BYTES: usize = size_of::<hipDeviceProp_tR0600>();

hip_functions! {
    /// Makes the cards. No flag is defined.
    fn hipInit(flags: c_uint) {
        cards::usable()?;
        if flags == 0 { Ok(()) } else { Err(hipError_t::hipErrorInvalidValue) }
    }

    /// Version of the functions.
    fn hipRuntimeGetVersion(version: *mut c_int) {
        // SAFETY: the caller's place for the result.
        unsafe { put(version, VERSION) }
    }

    /// Version of the driver, of which there is none of its own.
    fn hipDriverGetVersion(version: *mut c_int) {
        // SAFETY: the caller's place for the result.
        unsafe { put(version, VERSION) }
    }

    /// How many cards there are.
    fn hipGetDeviceCount(count: *mut c_int) {
        cards::usable()?;
        // SAFETY: the caller's place for the result.
        unsafe { put(count, c_int::try_from(cards::all().len()).unwrap_or(c_int::MAX)) }
    }

    /// Lets the calling thread use a card.
    fn hipSetDevice(device: c_int) {
        cards::select(cards::at(device)?);
        Ok(())
    }

    /// The card that the calling thread uses; the first if it chose none.
    fn hipGetDevice(device: *mut c_int) {
        // SAFETY: the caller's place for the result.
        unsafe { put(device, cards::current_ordinal()) }
    }

    /// The handle of a card, which is its ordinal.
    fn hipDeviceGet(device: *mut c_int, ordinal: c_int) {
        cards::at(ordinal)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(device, ordinal) }
    }

    /// Does nothing: all work is done.
    fn hipDeviceSynchronize() {
        stream::expect_no_recording()
    }

    /// The card's name, cut to `length` bytes with the NUL.
    fn hipDeviceGetName(name: *mut c_char, length: c_int, device: c_int) {
        let card = cards::at(device)?;
        let room = usize::try_from(length).unwrap_or(0);
        if name.is_null() || room == 0 {
            return Err(hipError_t::hipErrorInvalidValue);
        }
        let mut text = card_name(card).into_bytes();
        text.truncate(room - 1);
        text.push(0);
        // SAFETY: the caller's `length` bytes; the text is not longer, and no part of them.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.len()) };
        Ok(())
    }

    /// Bytes of the card's memory.
    fn hipDeviceTotalMem(bytes: *mut usize, device: c_int) {
        cards::at(device)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(bytes, TOTAL_BYTES) }
    }

    /// The numbers in the target's name.
    fn hipDeviceComputeCapability(major: *mut c_int, minor: *mut c_int, device: c_int) {
        let capability = capability(cards::at(device)?.processor());
        // SAFETY: the caller's place for the result.
        unsafe { put(major, capability.0) }?;
        // SAFETY: the caller's place for the result.
        unsafe { put(minor, capability.1) }
    }

    /// One property; of those that mean nothing here, zero.
    fn hipDeviceGetAttribute(value: *mut c_int, attribute: hipDeviceAttribute_t, device: c_int) {
        let found = property(cards::at(device)?, attribute).unwrap_or(0);
        // SAFETY: the caller's place for the result.
        unsafe { put(value, found) }
    }

    /// The properties in HIP 5's layout.
    fn hipGetDeviceProperties(properties: *mut hipDeviceProp_t, device: c_int) {
        let found = legacy(cards::at(device)?);
        // SAFETY: the caller's place for the result.
        unsafe { put(properties, found) }
    }

    /// The properties in HIP 6's layout.
    fn hipGetDevicePropertiesR0600(properties: *mut hipDeviceProp_tR0600, device: c_int) {
        let found = r0600(cards::at(device)?);
        // SAFETY: the caller's place for the result; an array of bytes may stand anywhere.
        unsafe { put(properties.cast(), found) }
    }
}

fn card_name(card: &Card) -> String {
    format!("hip-emu {}", card.target())
}

/// `gfx1100` is 11.0, `gfx90a` is 9.0: the last two digits are the minor number and the stepping.
fn capability(target: &str) -> (c_int, c_int) {
    let digits = target.trim_start_matches("gfx");
    let split = digits.len().saturating_sub(2);
    let major = digits.get(..split).and_then(|text| text.parse().ok()).unwrap_or(0);
    let minor = digits.get(split..split + 1).and_then(|text| text.parse().ok()).unwrap_or(0);
    (major, minor)
}

fn wave_lanes(card: &Card) -> c_int {
    Arch::from_target(card.processor()).map_or(32, |arch| c_int::from(arch.lanes()))
}

fn property(card: &Card, attribute: hipDeviceAttribute_t) -> Option<c_int> {
    use hipDeviceAttribute_t as A;
    Some(match attribute {
        A::hipDeviceAttributeWarpSize => wave_lanes(card),
        A::hipDeviceAttributeMultiprocessorCount => card.units,
        A::hipDeviceAttributePhysicalMultiProcessorCount => card.units,
        A::hipDeviceAttributeMaxThreadsPerBlock | A::hipDeviceAttributeMaxThreadsPerMultiProcessor => BLOCK,
        A::hipDeviceAttributeMaxBlockDimX | A::hipDeviceAttributeMaxBlockDimY => BLOCK,
        A::hipDeviceAttributeMaxBlockDimZ => BLOCK,
        A::hipDeviceAttributeMaxGridDimX | A::hipDeviceAttributeMaxGridDimY => GRID,
        A::hipDeviceAttributeMaxGridDimZ => GRID,
        A::hipDeviceAttributeMaxBlocksPerMultiProcessor => 1,
        A::hipDeviceAttributeMaxSharedMemoryPerBlock => LDS_BYTES,
        A::hipDeviceAttributeMaxSharedMemoryPerMultiprocessor => LDS_BYTES,
        A::hipDeviceAttributeSharedMemPerMultiprocessor => LDS_BYTES,
        A::hipDeviceAttributeMaxRegistersPerBlock => REGISTERS,
        A::hipDeviceAttributeMaxRegistersPerMultiprocessor => REGISTERS,
        A::hipDeviceAttributeComputeCapabilityMajor => capability(card.processor()).0,
        A::hipDeviceAttributeComputeCapabilityMinor => capability(card.processor()).1,
        A::hipDeviceAttributeCanMapHostMemory | A::hipDeviceAttributeUnifiedAddressing => 1,
        A::hipDeviceAttributeManagedMemory => 1,
        _ => return None,
    })
}

/// Text in a field, with its NUL.
fn field(text: &str) -> [c_char; 256] {
    let mut field = [0; 256];
    for (place, byte) in field.iter_mut().zip(text.bytes().take(255)) {
        *place = c_char::from_ne_bytes([byte]);
    }
    field
}

fn legacy(card: &Card) -> hipDeviceProp_t {
    // SAFETY: the structure holds numbers and raw pointers, for which zero bytes are valid.
    let mut properties: hipDeviceProp_t = unsafe { MaybeUninit::zeroed().assume_init() };
    properties.name = field(&card_name(card));
    properties.gcnArchName = field(card.target());
    properties.totalGlobalMem = TOTAL_BYTES;
    properties.sharedMemPerBlock = LDS_BYTES as usize;
    properties.maxSharedMemoryPerMultiProcessor = LDS_BYTES as usize;
    properties.regsPerBlock = REGISTERS;
    properties.warpSize = wave_lanes(card);
    properties.maxThreadsPerBlock = BLOCK;
    properties.maxThreadsPerMultiProcessor = BLOCK;
    properties.maxThreadsDim = [BLOCK; 3];
    properties.maxGridSize = [GRID; 3];
    (properties.major, properties.minor) = capability(card.processor());
    properties.multiProcessorCount = card.units;
    properties.canMapHostMemory = 1;
    properties.managedMemory = 1;
    properties
}

/// HIP 6's structure as bytes, most of whose fields [`hipDeviceProp_tR0600`] does not name: the offsets are those of
/// HIP 6's header.
fn r0600(card: &Card) -> [u8; PROPERTIES_BYTES] {
    let mut bytes = [0; PROPERTIES_BYTES];
    let mut set = |offset: usize, value: &[u8]| {
        for (place, byte) in bytes.iter_mut().skip(offset).zip(value) {
            *place = *byte;
        }
    };
    let (major, minor) = capability(card.processor());
    set(0, card_name(card).as_bytes());
    set(1160, card.target().as_bytes());
    let sizes = [
        (288, TOTAL_BYTES),
        (296, LDS_BYTES as usize),
        (640, LDS_BYTES as usize),
        (1416, LDS_BYTES as usize),
    ];
    for (offset, value) in sizes {
        set(offset, &value.to_ne_bytes());
    }
    let limits =
        [(320, BLOCK), (324, BLOCK), (328, BLOCK), (332, BLOCK), (336, GRID), (340, GRID), (344, GRID)];
    let unit = [
        (304, REGISTERS),
        (308, wave_lanes(card)),
        (388, card.units),
        (624, BLOCK),
        (648, REGISTERS),
        (712, 1),
    ];
    let abilities = [(360, major), (364, minor), (400, 1), (604, 1), (652, 1)];
    for (offset, value) in limits.into_iter().chain(unit).chain(abilities) {
        set(offset, &value.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_digits_are_its_capability() {
        for (target, expected) in
            [("gfx1100", (11, 0)), ("gfx90a", (9, 0)), ("gfx942", (9, 4)), ("gfx1201", (12, 0))]
        {
            assert_eq!(capability(target), expected, "{target}");
        }
        assert_eq!(capability(""), (0, 0));
    }

    #[test]
    fn both_layouts_say_the_same() {
        let card = cards::current().unwrap();
        let (old, new) = (legacy(card), r0600(card));
        let number = |offset: usize| c_int::from_ne_bytes(*new[offset..].first_chunk().unwrap());
        let size = |offset: usize| usize::from_ne_bytes(*new[offset..].first_chunk().unwrap());
        assert_eq!((size(288), size(296)), (old.totalGlobalMem, old.sharedMemPerBlock));
        assert_eq!((number(308), number(320)), (old.warpSize, old.maxThreadsPerBlock));
        assert_eq!((number(360), number(364), number(388)), (old.major, old.minor, old.multiProcessorCount));
        let text = |bytes: &[c_char]| bytes.iter().map(|byte| byte.to_ne_bytes()[0]).collect::<Vec<_>>();
        assert_eq!(text(&old.name), new[..256]);
        assert_eq!(text(&old.gcnArchName), new[1160..1416]);
    }
}
