//! Loads into scalar registers: one address for the wave.

use crate::{
    FaultKind, LaunchFault,
    exec::{
        element::{scalar32, scalar64},
        environment::Environment,
        op::{Op, Place, Target},
        table::scalar_instructions,
        wave::Wave,
    },
};

/// Where a scalar load reads: a byte offset from a 64-bit base.
#[inline(always)]
pub(super) fn scalar_address<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> u64 {
    let base = scalar64(wave, op.sources[0].place);
    // A constant is signed, a register has 32 bits.
    let offset = match op.sources[1].place {
        Place::Constant(offset) => offset,
        place => scalar32(wave, place).into(),
    };
    let address = base.wrapping_add(offset).wrapping_add(i64::from(op.immediate).cast_unsigned());
    address & !(u64::from(op.bytes.clamp(1, 4)) - 1)
}

/// Loads words into scalar registers.
#[inline(always)]
fn load_scalars<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, at: &mut Environment<'_>, count: u64) {
    let address = scalar_address(wave, op);
    let Target::Scalar(target) = op.target else { return };
    for word in 0..count {
        match at.load32(address.wrapping_add(4 * word)) {
            Ok(value) => wave.set_scalar(usize::from(target) + usize::try_from(word).unwrap_or(0), value),
            Err(kind) => return wave.fault(LaunchFault::new(kind, None)),
        }
    }
}

/// Loads a byte or half word into a scalar register.
fn load_scalar_part<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, at: &mut Environment<'_>, signed: bool) {
    let address = scalar_address(wave, op);
    let loaded =
        if op.bytes == 1 { at.load8(address).map(u32::from) } else { at.load16(address).map(u32::from) };
    put_part(wave, op, loaded, signed);
}

/// Extends a byte or half word into a scalar register.
fn put_part<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, loaded: Result<u32, FaultKind>, signed: bool) {
    let (Target::Scalar(target), above) = (op.target, 32 - 8 * u32::from(op.bytes.clamp(1, 2))) else {
        return;
    };
    match loaded {
        Ok(value) if signed => {
            wave.set_scalar(target.into(), ((value << above).cast_signed() >> above).cast_unsigned());
        }
        Ok(value) => wave.set_scalar(target.into(), value),
        Err(kind) => wave.fault(LaunchFault::new(kind, None)),
    }
}

/// A buffer that a scalar load reads: its first byte, its size, and the offset in it.
fn described<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> Option<(u64, u64, u64)> {
    let Place::Scalar(first) = op.sources[0].place else { return None };
    let descriptor: [u32; 4] = std::array::from_fn(|word| wave.scalar(usize::from(first) + word));
    let base = u64::from(descriptor[0]) | u64::from(descriptor[1] & 0xffff) << 32;
    let stride = u64::from(descriptor[1] >> 16 & 0x3fff).max(1);
    let offset = scalar32(wave, op.sources[1].place).wrapping_add(op.immediate.cast_unsigned());
    let unit = u32::from(op.bytes.clamp(1, 4));
    Some((base, u64::from(descriptor[2]) * stride, u64::from(offset & !(unit - 1))))
}

/// Loads a byte or half word through a descriptor: what lies outside its range is zero.
fn load_described_part<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    signed: bool,
) {
    let Some((base, size, offset)) = described(wave, op) else { return };
    let loaded = match base.wrapping_add(offset) {
        _ if offset + u64::from(op.bytes) > size => Ok(0),
        address if op.bytes == 1 => at.load8(address).map(u32::from),
        address => at.load16(address).map(u32::from),
    };
    put_part(wave, op, loaded, signed);
}

/// Loads words into scalar registers through a descriptor: what lies outside its range is zero.
fn load_described<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, at: &mut Environment<'_>, count: u64) {
    let (Some((base, size, offset)), Target::Scalar(target)) = (described(wave, op), op.target) else {
        return;
    };
    for word in 0..count {
        let place = offset + 4 * word;
        let inside = place + 4 <= size;
        match if inside { at.load32(base.wrapping_add(place)) } else { Ok(0) } {
            Ok(value) => wave.set_scalar(usize::from(target) + usize::try_from(word).unwrap_or(0), value),
            Err(kind) => return wave.fault(LaunchFault::new(kind, None)),
        }
    }
}

scalar_instructions! {
    /// Loads into scalar registers.
    loads(wave, op, at) {
        "s_buffer_load_b32" => load_described(wave, op, at, 1);
        "s_buffer_load_b64" => load_described(wave, op, at, 2);
        "s_buffer_load_b128" => load_described(wave, op, at, 4);
        "s_buffer_load_b256" => load_described(wave, op, at, 8);
        "s_buffer_load_b512" => load_described(wave, op, at, 16);
        "s_buffer_load_b96" => load_described(wave, op, at, 3);
        "s_buffer_load_u8" | "s_buffer_load_u16" => load_described_part(wave, op, at, false);
        "s_buffer_load_i8" | "s_buffer_load_i16" => load_described_part(wave, op, at, true);
        "s_load_u8" | "s_load_u16" => load_scalar_part(wave, op, at, false);
        "s_load_i8" | "s_load_i16" => load_scalar_part(wave, op, at, true);
        "s_load_b96" => load_scalars(wave, op, at, 3);
        "s_load_b32" => load_scalars(wave, op, at, 1);
        "s_load_b64" => load_scalars(wave, op, at, 2);
        "s_load_b128" => load_scalars(wave, op, at, 4);
        "s_load_b256" => load_scalars(wave, op, at, 8);
        "s_load_b512" => load_scalars(wave, op, at, 16);
    }
}
