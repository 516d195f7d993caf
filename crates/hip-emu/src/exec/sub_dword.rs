//! Sub-dword addressing: operations on bytes and halves of their registers (GCN3 ISA, "SDWA").

use crate::{
    Half, Lanes,
    exec::{
        element::words,
        environment::Environment,
        op::{Op, Place, Source, Target},
        shape::{each, lanes},
        wave::{SPARE_ROWS, Wave},
    },
};

/// The first bit and the width of a part: 0 to 3 bytes, 4 and 5 halves, else all.
const fn field(part: u8) -> (u32, u32) {
    match part {
        0..=3 => (8 * part as u32, 8),
        4 => (0, 16),
        5 => (16, 16),
        _ => (0, 32),
    }
}

/// A part of a register, widened.
fn picked(bits: u32, part: u8, signed: bool) -> u32 {
    let (shift, width) = field(part);
    let top = bits >> shift << (32 - width);
    if signed { (top.cast_signed() >> (32 - width)).cast_unsigned() } else { top >> (32 - width) }
}

/// A register whose part is replaced by a result; what becomes of the rest: 0 zero, 1 the result's sign above it, 2 it stays.
fn placed(old: u32, result: u32, part: u8, rest: u8) -> u32 {
    let (shift, width) = field(part);
    let mask = u32::MAX >> (32 - width) << shift;
    let value = result << shift & mask;
    match rest {
        0 => value,
        1 => (picked(result, if width == 8 { 0 } else { 4 }, true) << shift) & (u32::MAX << shift),
        _ => old & !mask | value,
    }
}

/// Puts the chosen parts into spare rows, runs the operation on them, and puts its result into the chosen part.
///
/// # Safety
///
/// As for the operation that is wrapped.
pub(super) unsafe fn parts<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    environment: &mut Environment<'_>,
) {
    let Lanes::SubDword { destination, unused, source0, source1 } = op.lanes else { return };
    let (all, spare) = (Wave::<L>::all_lanes(), wave.vgprs.len() - SPARE_ROWS);
    let row_of = |index: usize| u16::try_from(spare + index).unwrap_or(u16::MAX);
    let mut inner = *op;
    for (index, part) in [source0, source1].into_iter().enumerate() {
        let (source, part) = (op.sources[index], part.unwrap_or(6));
        let row = each(words(wave, &source), |bits| picked(bits, part, source.sext));
        wave.write_row(spare + index, &row, all);
        inner.sources[index] = Source { place: Place::Vector(row_of(index)), high: false, ..source };
    }
    let (Target::Vector { first, .. }, Some(part @ 0..=5)) = (op.target, destination) else {
        // SAFETY: the contract is the caller's.
        unsafe { (op.inner)(wave, &inner, environment) };
        return;
    };
    // Results of 16 bits keep the rest of their row.
    wave.write_row(spare + 2, &[0; L], all);
    inner.target = Target::Vector { first: row_of(2), half: Half::Whole };
    // SAFETY: as above.
    unsafe { (op.inner)(wave, &inner, environment) };
    let (old, result) = (wave.row(usize::from(first)), wave.row(spare + 2));
    let row = lanes(|lane| placed(old[lane], result[lane], part, unused));
    let mask = wave.exec();
    wave.write_row(usize::from(first), &row, mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_picked_and_placed() {
        for (part, plain, signed) in
            [(0, 0x84, 0xffff_ff84), (1, 0x73, 0x73), (3, 0x91, 0xffff_ff91), (4, 0x7384, 0x7384)]
        {
            assert_eq!(picked(0x91a2_7384, part, false), plain);
            assert_eq!(picked(0x91a2_7384, part, true), signed);
        }
        assert_eq!(picked(0x91a2_7384, 5, true), 0xffff_91a2);
        assert_eq!(picked(0x91a2_7384, 6, true), 0x91a2_7384);
        for (rest, expected) in [(0, 0x00f1_0000), (1, 0xfff1_0000), (2, 0x11f1_3344)] {
            assert_eq!(placed(0x1122_3344, 0xabcd_eff1, 2, rest), expected);
        }
        for (rest, expected) in [(0, 0xeff1), (1, 0xffff_eff1), (2, 0x1122_eff1)] {
            assert_eq!(placed(0x1122_3344, 0xabcd_eff1, 4, rest), expected);
        }
    }
}
