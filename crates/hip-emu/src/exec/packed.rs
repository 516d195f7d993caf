//! Packed operations, dot products and mixed-precision multiply-add.

use crate::exec::{
    element::{Element, Float as _, clamp16, words},
    exact::{Exact, Rounding},
    extremes::{max, maximum, min, minimum},
    float::{F16, bf16_to_f32, f32_to_bf16, flushed, half_word},
    mfma::FLUSHES,
    mode::Precision,
    op::{Op, Source},
    shape::{each, lanes},
    table::instructions,
    vector_float::{fused, half_fma, product, sum},
    wave::Wave,
};

/// The halves that a packed operation reads from a source: for the low and for the high result.
#[inline(always)]
fn halves(source: &Source, bits: u32, sign: u16) -> (u16, u16) {
    let pick = |high: bool| half_word(u64::from(if high { bits >> 16 } else { bits }));
    let (low, high) = (pick(source.high), pick(source.high_of_high));
    (if source.neg { low ^ sign } else { low }, if source.neg_high { high ^ sign } else { high })
}

/// One 16-bit operation on both halves.
#[inline(always)]
fn both<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, sign: u16, f: impl Fn(u16, u16, u16) -> u16) {
    let rows: [[u32; L]; 3] = std::array::from_fn(|index| words(wave, &op.sources[index]));
    let row = lanes(|lane| {
        let (a, b, c) = (
            halves(&op.sources[0], rows[0][lane], sign),
            halves(&op.sources[1], rows[1][lane], sign),
            halves(&op.sources[2], rows[2][lane], sign),
        );
        u32::from(f(a.0, b.0, c.0)) | u32::from(f(a.1, b.1, c.1)) << 16
    });
    let mask = wave.exec();
    u32::store(wave, op.target, &row, mask);
}

/// One operation on integers in both halves.
#[inline(always)]
fn integers<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, f: impl Fn(u16, u16, u16) -> u16) {
    both(wave, op, 0, f);
}

/// One operation on binary16 in both halves.
#[inline(always)]
fn floats<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, f: impl Fn(F16, F16, F16) -> F16) {
    let (mode, clamps) = (wave.mode, op.clamp);
    let (inputs, outputs) =
        (mode.flushes_input(Precision::HalfAndDouble), mode.flushes_output(Precision::HalfAndDouble));
    if !(inputs || outputs || clamps) {
        return both(wave, op, 0x8000, |a, b, c| f(F16(a), F16(b), F16(c)).0);
    }
    both(wave, op, 0x8000, |a, b, c| {
        let [a, b, c] = [a, b, c].map(|bits| if inputs { F16(bits).flushed() } else { F16(bits) });
        let result = f(a, b, c);
        let result = if outputs { result.flushed() } else { result };
        if clamps { clamp16(result, mode.clamps_nan()).0 } else { result.0 }
    });
}

/// As [`floats`]; `fast` rounds to nearest even, `exact` gives what other roundings round.
#[inline(always)]
fn rounded<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    fast: impl Fn(F16, F16, F16) -> F16,
    exact: fn(Exact, Exact, Exact, Rounding) -> Exact,
) {
    match wave.mode.rounding(Precision::HalfAndDouble) {
        Rounding::NearestEven => floats(wave, op, fast),
        rounding => floats(wave, op, |a, b, c| {
            F16::rounded(exact(a.exact(), b.exact(), c.exact(), rounding), rounding)
        }),
    }
}

#[inline(always)]
fn float2(a: F16, b: F16, f: impl Fn(f32, f32) -> f32) -> F16 {
    F16::from_f32(f(a.to_f32(), b.to_f32()))
}

const fn signed(x: u16) -> i16 {
    x.cast_signed()
}

/// Sums of products of parts, and an addend: the parts of each word are read by `part`.
#[inline(always)]
fn dot<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, f: impl Fn(u32, u32, u32) -> u32) {
    let rows: [[u32; L]; 3] = std::array::from_fn(|index| words(wave, &op.sources[index]));
    let row = lanes(|lane| f(rows[0][lane], rows[1][lane], rows[2][lane]));
    let mask = wave.exec();
    u32::store(wave, op.target, &row, mask);
}

/// `width`-bit part of a word, sign-extended if asked.
#[inline(always)]
fn part(word: u32, index: u32, width: u32, signed: bool) -> i64 {
    let above = 32 - width;
    let shifted = word >> (index * width) << above;
    if signed { i64::from(shifted.cast_signed() >> above) } else { i64::from(shifted >> above) }
}

/// Which operands of an integer dot product are signed; the sum is unless both are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signs {
    None,
    Both,
    /// Those whose `neg` is set.
    Chosen,
}

/// Integer dot product of parts of `width` bits.
#[inline(always)]
fn integer_dot<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, width: u32, signs: Signs) {
    let by_modifier = signs != Signs::None;
    let signs = [0, 1].map(|source| signs == Signs::Both || (by_modifier && op.sources[source].neg));
    let clamp = op.clamp;
    dot(wave, op, |a, b, c| {
        let products: i64 = (0..32 / width)
            .map(|index| part(a, index, width, signs[0]) * part(b, index, width, signs[1]))
            .sum();
        if by_modifier {
            let sum = products + i64::from(c.cast_signed());
            let sum = if clamp { sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) } else { sum };
            crate::exec::wave::low(sum.cast_unsigned())
        } else {
            let sum = products + i64::from(c);
            let sum = if clamp { sum.min(i64::from(u32::MAX)) } else { sum };
            crate::exec::wave::low(sum.cast_unsigned())
        }
    });
}

/// Two products and an addend in binary32. The products are exact; each sum is rounded. CDNA2 takes denormals for zeros.
#[inline(always)]
fn float_dot<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, packed: bool, to_f32: impl Fn(u16) -> f32) {
    let rows: [[u32; L]; 2] = std::array::from_fn(|index| words(wave, &op.sources[index]));
    let addends = f32::row(wave, &op.sources[2]);
    let whole = |source: &Source| {
        if packed {
            *source
        } else {
            Source { high: false, high_of_high: true, neg: false, neg_high: false, ..*source }
        }
    };
    let (first, second) = (whole(&op.sources[0]), whole(&op.sources[1]));
    let flushes = op.flags & FLUSHES != 0;
    let operand = |bits: u16| to_f32(if flushes && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits });
    let kept = |value: f32| if flushes { flushed(value) } else { value };
    let mut row = [0.0; L];
    for lane in 0..L {
        let (a, b) = (halves(&first, rows[0][lane], 0x8000), halves(&second, rows[1][lane], 0x8000));
        let sum = operand(a.1).mul_add(operand(b.1), kept(addends[lane]));
        row[lane] = kept(operand(a.0).mul_add(operand(b.0), sum));
    }
    f32::finish(wave, op, &mut row);
    let mask = wave.exec();
    f32::store(wave, op.target, &row, mask);
}

/// Products and addend of 16-bit parts, in binary32, rounded to 16 bits once.
#[inline(always)]
fn half_dot<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    to_f32: impl Fn(u16) -> f32,
    from_f32: impl Fn(f32) -> u16,
) {
    let rows: [[u32; L]; 2] = std::array::from_fn(|index| words(wave, &op.sources[index]));
    let addends = u16::row(wave, &op.sources[2]);
    let row = lanes(|lane| {
        let pairs = (0..2).map(|half| {
            let pick = |bits: u32| to_f32(half_word(u64::from(bits >> (16 * half))));
            f64::from(pick(rows[0][lane])) * f64::from(pick(rows[1][lane]))
        });
        #[expect(clippy::cast_possible_truncation, reason = "the rounding is meant")]
        let sum = (pairs.sum::<f64>() + f64::from(to_f32(addends[lane]))) as f32;
        from_f32(sum)
    });
    let mask = wave.exec();
    u16::store(wave, op.target, &row, mask);
}

/// A source of a mixed operation: binary16 from a half, or binary32. Denormals of either obey its own mode.
#[inline(always)]
fn mixed<const L: usize>(wave: &Wave<L>, source: &Source) -> [f32; L] {
    let row = if source.high_of_high {
        let flushes = wave.mode.flushes_input(Precision::HalfAndDouble);
        each(words(wave, source), |bits| {
            let half = F16(half_word(u64::from(if source.high { bits >> 16 } else { bits })));
            if flushes { half.flushed().to_f32() } else { half.to_f32() }
        })
    } else {
        let flushes = wave.mode.flushes_input(Precision::Single);
        let row = each(words(wave, source), f32::from_bits);
        if flushes { each(row, flushed) } else { row }
    };
    // `neg_high` stands for the absolute value here.
    let row = if source.neg_high { each(row, f32::abs) } else { row };
    if source.neg { each(row, |value| -value) } else { row }
}

/// A fused multiply-add in binary32; `narrow` makes the result of it.
#[inline(always)]
fn mix<const L: usize, D: Element>(wave: &mut Wave<L>, op: &Op<L>, narrow: impl Fn(f32) -> D) {
    let (a, b, c) = (mixed(wave, &op.sources[0]), mixed(wave, &op.sources[1]), mixed(wave, &op.sources[2]));
    let mut row = match wave.mode.rounding(Precision::Single) {
        Rounding::NearestEven => lanes(|lane| narrow(a[lane].mul_add(b[lane], c[lane]))),
        rounding => lanes(|lane| {
            let exact = fused(a[lane].exact(), b[lane].exact(), c[lane].exact(), rounding);
            narrow(f32::rounded(exact, rounding))
        }),
    };
    D::finish(wave, op, &mut row);
    let mask = wave.exec();
    D::store(wave, op.target, &row, mask);
}

/// The result is rounded to binary32 and then to binary16.
#[inline(always)]
fn mix16<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    match wave.mode.rounding(Precision::HalfAndDouble) {
        Rounding::NearestEven => mix(wave, op, F16::from_f32),
        rounding => mix(wave, op, |value| F16::rounded(value.exact(), rounding)),
    }
}

instructions! {
    /// Both halves at once.
    halves_at_once(wave, op, environment) {
        "v_pk_add_f16" => rounded(wave, op, |a, b, _| float2(a, b, |a, b| a + b), |a, b, _, rounding| sum(a, b, rounding));
        "v_pk_mul_f16" => rounded(wave, op, |a, b, _| float2(a, b, |a, b| a * b), |a, b, _, rounding| product(a, b, rounding));
        "v_pk_fma_f16" | "v_pk_fmac_f16" => rounded(wave, op, half_fma, fused);
        "v_pk_min_f16" => { let nans = wave.mode.nans(); floats(wave, op, |a, b, _| min(nans, a, b)) };
        "v_pk_max_f16" => { let nans = wave.mode.nans(); floats(wave, op, |a, b, _| max(nans, a, b)) };
        "v_pk_minimum_f16" => floats(wave, op, |a, b, _| minimum(a, b));
        "v_pk_maximum_f16" => floats(wave, op, |a, b, _| maximum(a, b));
        "v_pk_add_u16" => { let clamp = op.clamp; integers(wave, op, |a, b, _| if clamp { a.saturating_add(b) } else { a.wrapping_add(b) }) };
        "v_pk_sub_u16" => { let clamp = op.clamp; integers(wave, op, |a, b, _| if clamp { a.saturating_sub(b) } else { a.wrapping_sub(b) }) };
        "v_pk_add_i16" => { let clamp = op.clamp; integers(wave, op, |a, b, _| if clamp { signed(a).saturating_add(signed(b)).cast_unsigned() } else { a.wrapping_add(b) }) };
        "v_pk_sub_i16" => { let clamp = op.clamp; integers(wave, op, |a, b, _| if clamp { signed(a).saturating_sub(signed(b)).cast_unsigned() } else { a.wrapping_sub(b) }) };
        "v_pk_mad_u16" | "v_pk_mad_i16" => integers(wave, op, |a, b, c| a.wrapping_mul(b).wrapping_add(c));
        "v_pk_mul_lo_u16" => integers(wave, op, |a, b, _| a.wrapping_mul(b));
        "v_pk_min_u16" => integers(wave, op, |a, b, _| a.min(b));
        "v_pk_max_u16" => integers(wave, op, |a, b, _| a.max(b));
        "v_pk_min_i16" => integers(wave, op, |a, b, _| signed(a).min(signed(b)).cast_unsigned());
        "v_pk_max_i16" => integers(wave, op, |a, b, _| signed(a).max(signed(b)).cast_unsigned());
        "v_pk_lshlrev_b16" => integers(wave, op, |a, b, _| b << (a & 15));
        "v_pk_lshrrev_b16" => integers(wave, op, |a, b, _| b >> (a & 15));
        "v_pk_ashrrev_i16" => integers(wave, op, |a, b, _| (signed(b) >> (a & 15)).cast_unsigned());
    }
}

instructions! {
    /// Dot products and mixed precision.
    products(wave, op, environment) {
        "v_dot2_f32_f16" => float_dot(wave, op, true, |bits| F16(bits).to_f32());
        "v_dot2_f32_bf16" => float_dot(wave, op, true, bf16_to_f32);
        "v_dot2acc_f32_f16" => float_dot(wave, op, false, |bits| F16(bits).to_f32());
        "v_dot2_f16_f16" => half_dot(wave, op, |bits| F16(bits).to_f32(), |value| F16::from_f32(value).0);
        "v_dot2_bf16_bf16" => half_dot(wave, op, bf16_to_f32, f32_to_bf16);
        "v_dot4_i32_iu8" => integer_dot(wave, op, 8, Signs::Chosen);
        "v_dot8_i32_iu4" => integer_dot(wave, op, 4, Signs::Chosen);
        "v_dot4_u32_u8" => integer_dot(wave, op, 8, Signs::None);
        "v_dot8_u32_u4" => integer_dot(wave, op, 4, Signs::None);
        "v_dot2_i32_i16" | "v_dot2acc_i32_i16" => integer_dot(wave, op, 16, Signs::Both);
        "v_dot4_i32_i8" | "v_dot4acc_i32_i8" => integer_dot(wave, op, 8, Signs::Both);
        "v_dot8_i32_i4" | "v_dot8acc_i32_i4" => integer_dot(wave, op, 4, Signs::Both);
        "v_dot2_u32_u16" => integer_dot(wave, op, 16, Signs::None);
        "v_fma_mix_f32" => mix(wave, op, |value| value);
        "v_fma_mixlo_f16" | "v_fma_mixhi_f16" => mix16(wave, op);
    }
}
