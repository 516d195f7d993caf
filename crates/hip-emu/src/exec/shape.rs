//! The shapes of vector operations: how many sources, and what comes out.

use crate::exec::{
    element::{Element, Float},
    exact::{Exact, Rounding},
    op::{Op, Source, Target},
    wave::{VCC, Wave},
};

/// `f` of every lane's value. The array's own `map` is not inlined, and so not compiled for the caller's CPU features.
#[inline(always)]
pub(super) fn each<const L: usize, A: Copy, B: Copy + Default>(row: [A; L], f: impl Fn(A) -> B) -> [B; L] {
    lanes(|lane| f(row[lane]))
}

/// `f` of every lane's number.
#[inline(always)]
pub(super) fn lanes<const L: usize, T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; L] {
    let mut row = [T::default(); L];
    for (lane, place) in row.iter_mut().enumerate() {
        *place = f(lane);
    }
    row
}

/// Sources of an op as its body sees them.
#[inline(always)]
fn source<const L: usize>(op: &Op<L>, index: usize) -> &Source {
    op.sources.get(index).unwrap_or(&Source::ZERO)
}

#[inline(always)]
fn finish<const L: usize, D: Element>(wave: &mut Wave<L>, op: &Op<L>, mut row: [D; L]) {
    D::finish(wave, op, &mut row);
    let mask = wave.exec();
    D::store(wave, op.target, &row, mask);
}

#[inline(always)]
pub(super) fn map1<const L: usize, D: Element, A: Element>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    f: impl Fn(A) -> D,
) {
    let a = A::row(wave, source(op, 0));
    let mut row = [D::default(); L];
    for lane in 0..L {
        row[lane] = f(a[lane]);
    }
    finish(wave, op, row);
}

#[inline(always)]
pub(super) fn map2<const L: usize, D: Element, A: Element, B: Element>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    f: impl Fn(A, B) -> D,
) {
    let (a, b) = (A::row(wave, source(op, 0)), B::row(wave, source(op, 1)));
    let mut row = [D::default(); L];
    for lane in 0..L {
        row[lane] = f(a[lane], b[lane]);
    }
    finish(wave, op, row);
}

#[inline(always)]
pub(super) fn map3<const L: usize, D: Element, A: Element, B: Element, C: Element>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    f: impl Fn(A, B, C) -> D,
) {
    let (a, b, c) = (A::row(wave, source(op, 0)), B::row(wave, source(op, 1)), C::row(wave, source(op, 2)));
    let mut row = [D::default(); L];
    for lane in 0..L {
        row[lane] = f(a[lane], b[lane], c[lane]);
    }
    finish(wave, op, row);
}

/// As [`map1`]; `fast` rounds to nearest even, `exact` gives what other roundings round.
#[inline(always)]
pub(super) fn rounded1<const L: usize, D: Float, A: Element>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    fast: impl Fn(A) -> D,
    exact: fn(A, Rounding) -> Exact,
) {
    match wave.mode.rounding(D::FORMAT.precision()) {
        Rounding::NearestEven => map1::<L, D, A>(wave, op, fast),
        rounding => directed1::<L, D, A>(wave, op, exact, rounding),
    }
}

#[cold]
#[inline(never)]
fn directed1<const L: usize, D: Float, A: Element>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    exact: fn(A, Rounding) -> Exact,
    rounding: Rounding,
) {
    map1::<L, D, A>(wave, op, |a| D::rounded(exact(a, rounding), rounding));
}

/// As [`rounded1`], of two numbers.
#[inline(always)]
pub(super) fn rounded2<const L: usize, T: Float>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    fast: impl Fn(T, T) -> T,
    exact: fn(Exact, Exact, Rounding) -> Exact,
) {
    match wave.mode.rounding(T::FORMAT.precision()) {
        Rounding::NearestEven => map2::<L, T, T, T>(wave, op, fast),
        rounding => directed2::<L, T>(wave, op, exact, rounding),
    }
}

#[cold]
#[inline(never)]
fn directed2<const L: usize, T: Float>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    exact: fn(Exact, Exact, Rounding) -> Exact,
    rounding: Rounding,
) {
    map2::<L, T, T, T>(wave, op, |a, b| T::rounded(exact(a.exact(), b.exact(), rounding), rounding));
}

/// As [`rounded1`], of three numbers.
#[inline(always)]
pub(super) fn rounded3<const L: usize, T: Float>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    fast: impl Fn(T, T, T) -> T,
    exact: fn(Exact, Exact, Exact, Rounding) -> Exact,
) {
    match wave.mode.rounding(T::FORMAT.precision()) {
        Rounding::NearestEven => map3::<L, T, T, T, T>(wave, op, fast),
        rounding => directed3::<L, T>(wave, op, exact, rounding),
    }
}

#[cold]
#[inline(never)]
fn directed3<const L: usize, T: Float>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    exact: fn(Exact, Exact, Exact, Rounding) -> Exact,
    rounding: Rounding,
) {
    map3::<L, T, T, T, T>(wave, op, |a, b, c| {
        T::rounded(exact(a.exact(), b.exact(), c.exact(), rounding), rounding)
    });
}

/// A comparison: a mask of the active lanes. With no target the mask becomes EXEC; it may also have two.
#[inline(always)]
pub(super) fn compare<const L: usize, A: Element, B: Element>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    f: impl Fn(A, B) -> bool,
) {
    let (a, b) = (A::row(wave, source(op, 0)), B::row(wave, source(op, 1)));
    let mut flags = [0_u32; L];
    for lane in 0..L {
        flags[lane] = u32::from(f(a[lane], b[lane]));
    }
    let mask = gather(&flags) & wave.exec();
    match op.target {
        Target::Scalar(index) => wave.set_mask(usize::from(index), mask),
        _ => wave.set_mask(crate::exec::wave::EXEC, mask),
    }
    if let Target::Scalar(index) = op.second {
        wave.set_mask(usize::from(index), mask);
    }
}

/// Bit `lane` is the lowest bit of that lane's word.
#[inline(always)]
pub(super) fn gather<const L: usize>(flags: &[u32; L]) -> u64 {
    let mut mask = 0;
    for (lane, &flag) in flags.iter().enumerate() {
        mask |= u64::from(flag) << lane;
    }
    mask
}

/// Addition or subtraction with carry in and out. `f` gives the result and whether it carried.
#[inline(always)]
pub(super) fn carry<const L: usize, const CARRY_IN: bool>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    f: impl Fn(u32, u32, u32) -> (u32, bool),
) {
    let (a, b) = (u32::row(wave, source(op, 0)), u32::row(wave, source(op, 1)));
    let carries = if CARRY_IN { lane_mask(wave, source(op, 2)) } else { 0 };
    let (mut row, mut flags) = ([0_u32; L], [0_u32; L]);
    for lane in 0..L {
        let bit = u32::from(carries >> lane & 1 != 0);
        let (value, out) = f(a[lane], b[lane], bit);
        row[lane] = value;
        flags[lane] = u32::from(out);
    }
    let mask = wave.exec();
    u32::store(wave, op.target, &row, mask);
    set_second(wave, op, gather(&flags) & mask);
}

/// Writes the mask that comes beside a result.
#[inline(always)]
pub(super) fn set_second<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, mask: u64) {
    match op.second {
        Target::Scalar(index) => wave.set_mask(usize::from(index), mask),
        _ => wave.set_mask(VCC, mask),
    }
}

/// A source that is a lane mask.
#[inline(always)]
pub(super) fn lane_mask<const L: usize>(wave: &Wave<L>, source: &Source) -> u64 {
    let bits = crate::exec::element::scalar64(wave, source.place);
    if L > 32 { bits } else { bits & 0xffff_ffff }
}
