//! Element types: how a row of them is read from and written to registers.

use crate::{
    Half,
    exec::{
        exact::{Exact, Format, Rounding},
        float::{F16, flushed},
        mode::Mode,
        op::{Op, Place, Source, Target},
        shape::{each, lanes},
        wave::{EXEC, VCC, Wave, low},
    },
};

/// A type that vector operations read or write.
pub(super) trait Element: Copy + Default {
    /// The lanes of a source, with its modifiers applied.
    fn row<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L];
    /// Writes the lanes of `mask`.
    fn store<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[Self; L], mask: u64);
    /// Output modifiers: multiplier and clamp.
    #[inline(always)]
    fn finish<const L: usize>(_wave: &Wave<L>, _op: &Op<L>, _row: &mut [Self; L]) {}
}

/// The 32 bits of each lane.
#[inline(always)]
pub(super) fn words<const L: usize>(wave: &Wave<L>, source: &Source) -> [u32; L] {
    match source.place {
        Place::Vector(first) => *wave.row(usize::from(first)),
        place => [scalar32(wave, place); L],
    }
}

/// A scalar source's 32 bits; of a vector, those of the first lane.
#[inline(always)]
pub(super) fn scalar32<const L: usize>(wave: &Wave<L>, place: Place) -> u32 {
    match place {
        Place::Scalar(index) => wave.scalar(usize::from(index)),
        Place::Constant(value) => low(value),
        Place::Scc => u32::from(wave.scc),
        Place::Execz => u32::from(wave.mask(EXEC) == 0),
        Place::Vccz => u32::from(wave.mask(VCC) == 0),
        Place::Vector(first) => wave.row(usize::from(first)).first().copied().unwrap_or(0),
    }
}

#[inline(always)]
pub(super) fn scalar64<const L: usize>(wave: &Wave<L>, place: Place) -> u64 {
    match place {
        Place::Scalar(124) => 0,
        Place::Scalar(index) => wave.scalar64(usize::from(index)),
        Place::Constant(value) => value,
        other => u64::from(scalar32(wave, other)),
    }
}

#[inline(always)]
fn store32<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[u32; L], mask: u64) {
    if let Target::Vector { first, .. } = target {
        wave.write_row(usize::from(first), row, mask);
    }
}

macro_rules! word {
    ($type:ty, $from:expr, $to:expr) => {
        impl Element for $type {
            #[inline(always)]
            fn row<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
                each(words(wave, source), $from)
            }

            #[inline(always)]
            fn store<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[Self; L], mask: u64) {
                store32(wave, target, &each(*row, $to), mask);
            }
        }
    };
}

word!(u32, |bits| bits, |value| value);
word!(i32, u32::cast_signed, i32::cast_unsigned);

/// A floating-point type: its operands and results obey `MODE`.
pub(super) trait Float: Element {
    const FORMAT: Format;
    /// The lanes of a source, with its signs changed but its denormals kept.
    fn unflushed<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L];
    fn flushed(self) -> Self;
    /// Times the output multiplier of an encoding.
    fn multiplied(self, output: usize) -> Self;
    /// Between zero and one; of a NaN zero, where the mode asks for it.
    fn clamped(self, clamps_nan: bool) -> Self;
    fn exact(self) -> Exact;
    fn rounded(exact: Exact, rounding: Rounding) -> Self;
}

/// A number whose denormals are kept in every mode.
#[derive(Clone, Copy, Default)]
pub(super) struct Unflushed<T>(pub(super) T);

impl<T: Float> Element for Unflushed<T> {
    #[inline(always)]
    fn row<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
        each(T::unflushed(wave, source), Self)
    }

    #[inline(always)]
    fn store<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[Self; L], mask: u64) {
        T::store(wave, target, &each(*row, |value| value.0), mask);
    }
}

/// Operands of a float operation.
#[inline(always)]
fn operands<const L: usize, T: Float>(wave: &Wave<L>, source: &Source) -> [T; L] {
    let row = T::unflushed(wave, source);
    if wave.mode.flushes_input(T::FORMAT.precision()) { flush(row) } else { row }
}

// What few programs ask for is compiled once for a type, not into each operation.
#[cold]
#[inline(never)]
fn flush<const L: usize, T: Float>(row: [T; L]) -> [T; L] {
    each(row, T::flushed)
}

/// What is done to the results of a float operation: denormals, multiplier, clamp.
#[inline(always)]
fn results<const L: usize, T: Float>(wave: &Wave<L>, op: &Op<L>, row: &mut [T; L]) {
    if wave.mode.flushes_output(T::FORMAT.precision()) || op.output & 3 != 0 || op.clamp {
        *row = modified(*row, wave.mode, usize::from(op.output & 3), op.clamp);
    }
}

#[cold]
#[inline(never)]
fn modified<const L: usize, T: Float>(mut row: [T; L], mode: Mode, output: usize, clamp: bool) -> [T; L] {
    let precision = T::FORMAT.precision();
    if mode.flushes_output(precision) {
        row = each(row, T::flushed);
    }
    if output != 0 && mode.multiplies(precision) {
        row = each(row, |value| T::flushed(value.multiplied(output)));
    }
    if clamp {
        let clamps_nan = mode.clamps_nan();
        row = each(row, |value| value.clamped(clamps_nan));
    }
    row
}

/// Output multipliers, as encoded.
const FACTORS: [f32; 4] = [1.0, 2.0, 4.0, 0.5];

impl Float for f32 {
    const FORMAT: Format = Format::BINARY32;

    #[inline(always)]
    fn unflushed<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
        let kept = if source.abs { 0x7fff_ffff } else { u32::MAX };
        let flipped = if source.neg { 0x8000_0000 } else { 0 };
        each(words(wave, source), |bits| Self::from_bits(bits & kept ^ flipped))
    }

    #[inline(always)]
    fn flushed(self) -> Self {
        flushed(self)
    }

    fn multiplied(self, output: usize) -> Self {
        // A positive zero is added, so that a product is never the negative one.
        self * FACTORS[output & 3] + 0.0
    }

    fn clamped(self, clamps_nan: bool) -> Self {
        match self.is_nan() {
            true if clamps_nan => 0.0,
            true => self,
            false => self.clamp(0.0, 1.0),
        }
    }

    fn exact(self) -> Exact {
        Exact::read(Self::FORMAT, self.to_bits().into())
    }

    fn rounded(exact: Exact, rounding: Rounding) -> Self {
        Self::from_bits(low(exact.round(Self::FORMAT, rounding)))
    }
}

impl Element for f32 {
    #[inline(always)]
    fn row<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
        operands(wave, source)
    }

    #[inline(always)]
    fn store<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[Self; L], mask: u64) {
        store32(wave, target, &each(*row, Self::to_bits), mask);
    }

    #[inline(always)]
    fn finish<const L: usize>(wave: &Wave<L>, op: &Op<L>, row: &mut [Self; L]) {
        results(wave, op, row);
    }
}

#[inline(always)]
pub(super) fn halves<const L: usize>(wave: &Wave<L>, source: &Source) -> [u16; L] {
    let shift = if source.high { 16 } else { 0 };
    each(words(wave, source), |bits| crate::exec::float::half_word(u64::from(bits >> shift)))
}

/// 16-bit results keep the other half of their register, but for those that are said to have it whole.
#[inline(always)]
fn store16<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[u16; L], mask: u64) {
    let Target::Vector { first, half } = target else { return };
    let mut merged = *wave.row(usize::from(first));
    for (place, &value) in merged.iter_mut().zip(row) {
        *place = match half {
            Half::High => *place & 0xffff | u32::from(value) << 16,
            Half::Low => *place & 0xffff_0000 | u32::from(value),
            Half::Whole => u32::from(value),
        };
    }
    wave.write_row(usize::from(first), &merged, mask);
}

macro_rules! half_word_type {
    ($type:ty, $from:expr, $to:expr) => {
        impl Element for $type {
            #[inline(always)]
            fn row<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
                each(halves(wave, source), $from)
            }

            #[inline(always)]
            fn store<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[Self; L], mask: u64) {
                store16(wave, target, &each(*row, $to), mask);
            }
        }
    };
}

half_word_type!(u16, |bits| bits, |value| value);
half_word_type!(i16, u16::cast_signed, i16::cast_unsigned);

impl Float for F16 {
    const FORMAT: Format = Format::BINARY16;

    #[inline(always)]
    fn unflushed<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
        let kept = if source.abs { 0x7fff } else { u16::MAX };
        let flipped = if source.neg { 0x8000 } else { 0 };
        each(halves(wave, source), |bits| F16(bits & kept ^ flipped))
    }

    #[inline(always)]
    fn flushed(self) -> Self {
        if self.0 & 0x7c00 == 0 { Self(self.0 & 0x8000) } else { self }
    }

    fn multiplied(self, output: usize) -> Self {
        Self::from_f32(self.to_f32().multiplied(output))
    }

    fn clamped(self, clamps_nan: bool) -> Self {
        clamp16(self, clamps_nan)
    }

    fn exact(self) -> Exact {
        Exact::read(Self::FORMAT, self.0.into())
    }

    fn rounded(exact: Exact, rounding: Rounding) -> Self {
        Self(crate::exec::float::half_word(exact.round(Self::FORMAT, rounding)))
    }
}

impl Element for F16 {
    #[inline(always)]
    fn row<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
        operands(wave, source)
    }

    #[inline(always)]
    fn store<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[Self; L], mask: u64) {
        store16(wave, target, &each(*row, |value| value.0), mask);
    }

    #[inline(always)]
    fn finish<const L: usize>(wave: &Wave<L>, op: &Op<L>, row: &mut [Self; L]) {
        results(wave, op, row);
    }
}

/// Between zero and one; of a NaN zero, where the mode asks for it.
#[inline(always)]
pub(super) fn clamp16(value: F16, clamps_nan: bool) -> F16 {
    let wide = value.to_f32();
    match wide.is_nan() {
        true if clamps_nan => F16(0),
        true => value,
        false => F16::from_f32(wide.clamp(0.0, 1.0)),
    }
}

macro_rules! pair {
    ($type:ty, $from:expr, $to:expr, $neg:expr, $abs:expr) => {
        impl Element for $type {
            #[inline(always)]
            fn row<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
                let mut row = match source.place {
                    Place::Vector(first) => {
                        let (lows, highs) = (wave.row(usize::from(first)), wave.row(usize::from(first) + 1));
                        lanes(|lane| u64::from(lows[lane]) | u64::from(highs[lane]) << 32)
                    }
                    place => [scalar64(wave, place); L],
                };
                if source.abs {
                    row = each(row, $abs);
                }
                if source.neg {
                    row = each(row, $neg);
                }
                each(row, $from)
            }

            #[inline(always)]
            fn store<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[Self; L], mask: u64) {
                let Target::Vector { first, .. } = target else { return };
                let bits = each(*row, $to);
                wave.write_row(usize::from(first), &each(bits, low), mask);
                wave.write_row(usize::from(first) + 1, &each(bits, |value| low(value >> 32)), mask);
            }
        }
    };
}

pair!(u64, |bits| bits, |value| value, u64::wrapping_neg, |bits| bits);
pair!(i64, u64::cast_signed, i64::cast_unsigned, u64::wrapping_neg, |bits| bits);

/// A binary64 number; a type of its own because its modifiers and clamp differ from an integer's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct F64(pub(super) f64);

impl Float for F64 {
    const FORMAT: Format = Format::BINARY64;

    #[inline(always)]
    fn unflushed<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
        let plain = Source { neg: false, abs: false, ..*source };
        let kept = if source.abs { u64::MAX >> 1 } else { u64::MAX };
        let flipped = if source.neg { 1 << 63 } else { 0 };
        each(u64::row(wave, &plain), |bits| Self(f64::from_bits(bits & kept ^ flipped)))
    }

    #[inline(always)]
    fn flushed(self) -> Self {
        let bits = self.0.to_bits();
        if bits & f64::INFINITY.to_bits() == 0 { Self(f64::from_bits(bits & 1 << 63)) } else { self }
    }

    fn multiplied(self, output: usize) -> Self {
        Self(self.0 * f64::from(FACTORS[output & 3]) + 0.0)
    }

    fn clamped(self, clamps_nan: bool) -> Self {
        match self.0.is_nan() {
            true if clamps_nan => Self(0.0),
            true => self,
            false => Self(self.0.clamp(0.0, 1.0)),
        }
    }

    fn exact(self) -> Exact {
        Exact::read(Self::FORMAT, self.0.to_bits())
    }

    fn rounded(exact: Exact, rounding: Rounding) -> Self {
        Self(f64::from_bits(exact.round(Self::FORMAT, rounding)))
    }
}

impl Element for F64 {
    #[inline(always)]
    fn row<const L: usize>(wave: &Wave<L>, source: &Source) -> [Self; L] {
        operands(wave, source)
    }

    #[inline(always)]
    fn store<const L: usize>(wave: &mut Wave<L>, target: Target, row: &[Self; L], mask: u64) {
        u64::store(wave, target, &each(*row, |value| value.0.to_bits()), mask);
    }

    #[inline(always)]
    fn finish<const L: usize>(wave: &Wave<L>, op: &Op<L>, row: &mut [Self; L]) {
        results(wave, op, row);
    }
}
