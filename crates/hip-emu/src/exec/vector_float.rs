//! Vector operations on binary16, binary32 and binary64.

#![expect(
    clippy::neg_cmp_op_on_partial_ord,
    reason = "the negated comparisons are true for NaN, as their names say"
)]

use crate::exec::{
    element::{Element, F64, Float as _, Unflushed},
    exact::{Exact, Rounding},
    extremes::{Nans, max, maximum, median, min, minimum},
    float::{self, Class, F16, class, frexp, ldexp32, ldexp64},
    mode::{Mode, Precision},
    op::Op,
    shape::{compare, map1, map2, map3, rounded1, rounded2, rounded3},
    table::instructions,
    wave::Wave,
};

/// Zero times anything is zero.
#[inline(always)]
fn mul_dx9(a: f32, b: f32) -> f32 {
    if a == 0.0 || b == 0.0 { 0.0 } else { a * b }
}

#[inline(always)]
fn fma_dx9(a: f32, b: f32, c: f32) -> f32 {
    if a == 0.0 || b == 0.0 { 0.0 + c } else { a.mul_add(b, c) }
}

/// An operation of binary16 by way of binary32, whose precision makes the second rounding harmless.
#[inline(always)]
fn half1(a: F16, f: impl Fn(f32) -> f32) -> F16 {
    F16::from_f32(f(a.to_f32()))
}

#[inline(always)]
fn half2(a: F16, b: F16, f: impl Fn(f32, f32) -> f32) -> F16 {
    F16::from_f32(f(a.to_f32(), b.to_f32()))
}

/// binary64 holds the product and every sum of it that is not a tie exactly.
#[inline(always)]
pub(super) fn half_fma(a: F16, b: F16, c: F16) -> F16 {
    F16::from_f64(f64::from(a.to_f32()) * f64::from(b.to_f32()) + f64::from(c.to_f32()))
}

pub(super) fn sum(a: Exact, b: Exact, rounding: Rounding) -> Exact {
    a.plus(b, rounding)
}

fn difference(a: Exact, b: Exact, rounding: Rounding) -> Exact {
    a.plus(b.negated(), rounding)
}

fn reversed_difference(a: Exact, b: Exact, rounding: Rounding) -> Exact {
    difference(b, a, rounding)
}

pub(super) fn product(a: Exact, b: Exact, _rounding: Rounding) -> Exact {
    a.times(b)
}

pub(super) fn fused(a: Exact, b: Exact, c: Exact, rounding: Rounding) -> Exact {
    a.times(b).plus(c, rounding)
}

/// Zero times anything is zero.
fn product_dx9(a: Exact, b: Exact, _rounding: Rounding) -> Exact {
    if a.is_zero() || b.is_zero() { Exact::ZERO } else { a.times(b) }
}

fn fused_dx9(a: Exact, b: Exact, c: Exact, rounding: Rounding) -> Exact {
    product_dx9(a, b, rounding).plus(c, rounding)
}

/// The fraction of a number whose integer part is `floor`; an infinite one has none.
fn fraction(x: Exact, floor: Exact, rounding: Rounding) -> Exact {
    if matches!(x, Exact::Infinite { .. }) { Exact::NAN } else { difference(x, floor, rounding) }
}

#[inline(always)]
fn fract32(x: f32) -> f32 {
    if x.is_infinite() { f32::NAN } else { x - x.floor() }
}

#[inline(always)]
fn fract16(x: F16) -> F16 {
    half1(x, fract32)
}

#[inline(always)]
fn fract64(x: F64) -> F64 {
    F64(if x.0.is_infinite() { f64::NAN } else { x.0 - x.0.floor() })
}

/// Ends a fraction: rounding must not make it one.
#[inline(always)]
fn below_one<const L: usize, T: crate::exec::extremes::Ordered>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    fract: impl Fn(T) -> T,
    floor: fn(T) -> T,
    largest: T,
) {
    let rounding = wave.mode.rounding(T::FORMAT.precision());
    map1(wave, op, |x: T| {
        let fract = if rounding == Rounding::NearestEven {
            fract(x)
        } else {
            T::rounded(fraction(x.exact(), floor(x).exact(), rounding), rounding)
        };
        if fract.is_nan() { fract } else { min(Nans::Passed, fract, largest) }
    });
}

/// A number times a power of two, which rounds where the result is denormal.
#[inline(always)]
fn ldexp<const L: usize, T: crate::exec::element::Float, E: Element + Into<i32>>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    fast: impl Fn(T, E) -> T,
) {
    match wave.mode.rounding(T::FORMAT.precision()) {
        Rounding::NearestEven => map2(wave, op, fast),
        rounding => map2(wave, op, |a: T, b: E| T::rounded(a.exact().scaled(b.into()), rounding)),
    }
}

/// An extreme of two numbers, in the wave's mode.
#[inline(always)]
fn extreme2<const L: usize, T: Element>(wave: &mut Wave<L>, op: &Op<L>, f: impl Fn(Nans, T, T) -> T) {
    let nans = wave.mode.nans();
    map2(wave, op, |a, b| f(nans, a, b));
}

/// An extreme of three numbers, in the wave's mode.
#[inline(always)]
fn extreme3<const L: usize, T: Element>(wave: &mut Wave<L>, op: &Op<L>, f: impl Fn(Nans, T, T, T) -> T) {
    let nans = wave.mode.nans();
    map3(wave, op, |a, b, c| f(nans, a, b, c));
}

/// binary16 of a binary32 number, in a mode.
fn narrowed(mode: Mode, rounding: Rounding, value: f32) -> u16 {
    let half = match rounding {
        Rounding::NearestEven => F16::from_f32(value),
        _ => F16::rounded(value.exact(), rounding),
    };
    if mode.flushes_output(Precision::HalfAndDouble) { half.flushed().0 } else { half.0 }
}

#[inline(always)]
fn narrow(x: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the rounding is meant")]
    let narrow = x as f32;
    narrow
}

/// Saturates; NaN is zero.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, as the hardware does")]
fn to_i32(x: f64) -> i32 {
    x as i32
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, as the hardware does"
)]
fn to_u32(x: f64) -> u32 {
    x as u32
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, as the hardware does")]
fn to_i16(x: f32) -> i16 {
    x as i16
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, as the hardware does"
)]
fn to_u16(x: f32) -> u16 {
    x as u16
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "the rounding is meant")]
fn from_i32(x: i32) -> f32 {
    x as f32
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "the rounding is meant")]
fn from_u32(x: u32) -> f32 {
    x as f32
}

#[inline(always)]
fn byte(x: u32, index: u32) -> f32 {
    from_u32(x >> (8 * index) & 255)
}

#[inline(always)]
fn pack(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

#[inline(always)]
fn pack_signed(low: i16, high: i16) -> u32 {
    pack(low.cast_unsigned(), high.cast_unsigned())
}

#[inline(always)]
fn class32(x: f32) -> u32 {
    class(x.is_sign_negative(), Class::from(x.classify()), x.to_bits() & 0x0040_0000 != 0)
}

#[inline(always)]
fn class64(x: F64) -> u32 {
    class(x.0.is_sign_negative(), Class::from(x.0.classify()), x.0.to_bits() & 1 << 51 != 0)
}

#[inline(always)]
fn class16(x: F16) -> u32 {
    let magnitude = x.0 & 0x7fff;
    let kind = match magnitude {
        0 => Class::Zero,
        1..0x400 => Class::Denormal,
        0x400..0x7c00 => Class::Normal,
        0x7c00 => Class::Infinite,
        _ => Class::Nan,
    };
    class(x.0 & 0x8000 != 0, kind, x.0 & 0x200 != 0)
}

/// Not equal, and neither is NaN.
#[inline(always)]
fn less_or_greater<T: PartialOrd>(a: T, b: T) -> bool {
    a.partial_cmp(&b).is_some_and(|order| order.is_ne())
}

instructions! {
    /// Arithmetic.
    arithmetic(wave, op, environment) {
        "v_add_f32" => rounded2::<L, f32>(wave, op, |a, b| a + b, sum);
        "v_sub_f32" => rounded2::<L, f32>(wave, op, |a, b| a - b, difference);
        "v_subrev_f32" => rounded2::<L, f32>(wave, op, |a, b| b - a, reversed_difference);
        "v_mul_f32" => rounded2::<L, f32>(wave, op, |a, b| a * b, product);
        "v_mul_dx9_zero_f32" => rounded2::<L, f32>(wave, op, mul_dx9, product_dx9);
        "v_fma_f32" | "v_fmac_f32" | "v_fmamk_f32" | "v_fmaak_f32" => rounded3::<L, f32>(wave, op, f32::mul_add, fused);
        "v_fma_dx9_zero_f32" | "v_fmac_dx9_zero_f32" => rounded3::<L, f32>(wave, op, fma_dx9, fused_dx9);
        "v_min_f32" => extreme2::<L, f32>(wave, op, min);
        "v_max_f32" => extreme2::<L, f32>(wave, op, max);
        "v_min3_f32" => extreme3::<L, f32>(wave, op, |nans, a, b, c| min(nans, min(nans, a, b), c));
        "v_max3_f32" => extreme3::<L, f32>(wave, op, |nans, a, b, c| max(nans, max(nans, a, b), c));
        "v_med3_f32" => extreme3::<L, f32>(wave, op, median);
        "v_minmax_f32" => extreme3::<L, f32>(wave, op, |nans, a, b, c| max(nans, min(nans, a, b), c));
        "v_maxmin_f32" => extreme3::<L, f32>(wave, op, |nans, a, b, c| min(nans, max(nans, a, b), c));
        "v_add_f16" => rounded2::<L, F16>(wave, op, |a, b| half2(a, b, |a, b| a + b), sum);
        "v_sub_f16" => rounded2::<L, F16>(wave, op, |a, b| half2(a, b, |a, b| a - b), difference);
        "v_subrev_f16" => rounded2::<L, F16>(wave, op, |a, b| half2(a, b, |a, b| b - a), reversed_difference);
        "v_mul_f16" => rounded2::<L, F16>(wave, op, |a, b| half2(a, b, |a, b| a * b), product);
        "v_fma_f16" | "v_fmac_f16" | "v_fmamk_f16" | "v_fmaak_f16" => rounded3::<L, F16>(wave, op, half_fma, fused);
        "v_min_f16" => extreme2::<L, F16>(wave, op, min);
        "v_max_f16" => extreme2::<L, F16>(wave, op, max);
        "v_min3_f16" => extreme3::<L, F16>(wave, op, |nans, a, b, c| min(nans, min(nans, a, b), c));
        "v_max3_f16" => extreme3::<L, F16>(wave, op, |nans, a, b, c| max(nans, max(nans, a, b), c));
        "v_med3_f16" => extreme3::<L, F16>(wave, op, median);
        "v_minmax_f16" => extreme3::<L, F16>(wave, op, |nans, a, b, c| max(nans, min(nans, a, b), c));
        "v_maxmin_f16" => extreme3::<L, F16>(wave, op, |nans, a, b, c| min(nans, max(nans, a, b), c));
        "v_add_f64" => rounded2::<L, F64>(wave, op, |a, b| F64(a.0 + b.0), sum);
        "v_mul_f64" => rounded2::<L, F64>(wave, op, |a, b| F64(a.0 * b.0), product);
        "v_fma_f64" | "v_fmac_f64" => rounded3::<L, F64>(wave, op, |a, b, c| F64(a.0.mul_add(b.0, c.0)), fused);
        "v_min_f64" => extreme2::<L, F64>(wave, op, min);
        "v_max_f64" => extreme2::<L, F64>(wave, op, max);
        "v_minimum_f32" => map2::<L, f32, f32, f32>(wave, op, minimum);
        "v_maximum_f32" => map2::<L, f32, f32, f32>(wave, op, maximum);
        "v_minimum3_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| minimum(minimum(a, b), c));
        "v_maximum3_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| maximum(maximum(a, b), c));
        "v_minimummaximum_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| maximum(minimum(a, b), c));
        "v_maximumminimum_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| minimum(maximum(a, b), c));
        "v_minimum_f16" => map2::<L, F16, F16, F16>(wave, op, minimum);
        "v_maximum_f16" => map2::<L, F16, F16, F16>(wave, op, maximum);
        "v_minimum3_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| minimum(minimum(a, b), c));
        "v_maximum3_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| maximum(maximum(a, b), c));
        "v_minimummaximum_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| maximum(minimum(a, b), c));
        "v_maximumminimum_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| minimum(maximum(a, b), c));
        "v_minimum_f64" => map2::<L, F64, F64, F64>(wave, op, minimum);
        "v_maximum_f64" => map2::<L, F64, F64, F64>(wave, op, maximum);
        "v_ldexp_f32" => ldexp(wave, op, ldexp32);
        "v_ldexp_f16" => ldexp(wave, op, |a: F16, b: i16| F16::from_f64(ldexp64(f64::from(a.to_f32()), i32::from(b))));
        "v_ldexp_f64" => ldexp(wave, op, |a: F64, b: i32| F64(ldexp64(a.0, b)));
    }
}

instructions! {
    /// One source: rounding, mantissas, the functions that hardware approximates.
    unary(wave, op, environment) {
        "v_ceil_f32" => map1::<L, f32, f32>(wave, op, f32::ceil);
        "v_floor_f32" => map1::<L, f32, f32>(wave, op, f32::floor);
        "v_trunc_f32" => map1::<L, f32, f32>(wave, op, f32::trunc);
        "v_rndne_f32" => map1::<L, f32, f32>(wave, op, f32::round_ties_even);
        "v_fract_f32" => below_one(wave, op, fract32, f32::floor, f32::from_bits(0x3f7f_ffff));
        "v_ceil_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, f32::ceil));
        "v_floor_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, f32::floor));
        "v_trunc_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, f32::trunc));
        "v_rndne_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, f32::round_ties_even));
        "v_fract_f16" => below_one(wave, op, fract16, |a| half1(a, f32::floor), F16(0x3bff));
        "v_ceil_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.ceil()));
        "v_floor_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.floor()));
        "v_trunc_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.trunc()));
        "v_rndne_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.round_ties_even()));
        "v_fract_f64" => below_one(wave, op, fract64, |a| F64(a.0.floor()), F64(f64::from_bits(0x3fef_ffff_ffff_ffff)));
        "v_exp_f32" => map1::<L, f32, f32>(wave, op, float::exp2);
        "v_log_f32" => map1::<L, f32, f32>(wave, op, float::log2);
        "v_rcp_f32" | "v_rcp_iflag_f32" => map1::<L, f32, f32>(wave, op, float::rcp);
        "v_rsq_f32" => map1::<L, f32, f32>(wave, op, float::rsq);
        "v_sqrt_f32" => map1::<L, f32, f32>(wave, op, |a| float::flushed(a).sqrt());
        "v_sin_f32" => map1::<L, f32, f32>(wave, op, |a| narrow(float::sin_turns(f64::from(a))));
        "v_cos_f32" => map1::<L, f32, f32>(wave, op, |a| narrow(float::cos_turns(f64::from(a))));
        "v_exp_f16" => map1::<L, F16, F16>(wave, op, |a| F16::from_f64(f64::from(a.to_f32()).exp2()));
        "v_log_f16" => map1::<L, F16, F16>(wave, op, |a| F16::from_f64(f64::from(a.to_f32()).log2()));
        "v_rcp_f16" => map1::<L, F16, F16>(wave, op, |a| F16::from_f64(1.0 / f64::from(a.to_f32())));
        "v_rsq_f16" => map1::<L, F16, F16>(wave, op, |a| F16::from_f64(1.0 / f64::from(a.to_f32()).sqrt()));
        "v_sqrt_f16" => map1::<L, F16, F16>(wave, op, |a| F16::from_f64(f64::from(a.to_f32()).sqrt()));
        "v_sin_f16" => map1::<L, F16, F16>(wave, op, |a| F16::from_f64(float::sin_turns(f64::from(a.to_f32()))));
        "v_cos_f16" => map1::<L, F16, F16>(wave, op, |a| F16::from_f64(float::cos_turns(f64::from(a.to_f32()))));
        "v_rcp_f64" => map1::<L, F64, F64>(wave, op, |a| F64(1.0 / a.0));
        "v_rsq_f64" => map1::<L, F64, F64>(wave, op, |a| F64(1.0 / a.0.sqrt()));
        "v_sqrt_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.sqrt()));
        "v_frexp_mant_f32" => map1::<L, f32, f32>(wave, op, |a| narrow(frexp(f64::from(a)).0));
        "v_frexp_mant_f16" => map1::<L, F16, F16>(wave, op, |a| F16::from_f64(frexp(f64::from(a.to_f32())).0));
        "v_frexp_mant_f64" => map1::<L, F64, F64>(wave, op, |a| F64(frexp(a.0).0));
        "v_frexp_exp_i32_f32" => map1::<L, i32, f32>(wave, op, |a| frexp(f64::from(a)).1);
        "v_frexp_exp_i16_f16" => map1::<L, i16, F16>(wave, op, |a| i16::try_from(frexp(f64::from(a.to_f32())).1).unwrap_or(0));
        "v_frexp_exp_i32_f64" => map1::<L, i32, F64>(wave, op, |a| frexp(a.0).1);
    }
}

instructions! {
    /// Conversions.
    conversion(wave, op, environment) {
        "v_cvt_f16_f32" => rounded1::<L, F16, f32>(wave, op, F16::from_f32, |a, _| a.exact());
        "v_cvt_f32_f16" => map1::<L, f32, F16>(wave, op, F16::to_f32);
        "v_cvt_f64_f32" => map1::<L, F64, f32>(wave, op, |a| F64(f64::from(a)));
        "v_cvt_f32_f64" => rounded1::<L, f32, F64>(wave, op, |a| narrow(a.0), |a, _| a.exact());
        "v_cvt_f32_i32" => rounded1::<L, f32, i32>(wave, op, from_i32, |a, _| Exact::integer(a.into()));
        "v_cvt_f32_u32" => rounded1::<L, f32, u32>(wave, op, from_u32, |a, _| Exact::integer(a.into()));
        "v_cvt_f64_i32" => map1::<L, F64, i32>(wave, op, |a| F64(f64::from(a)));
        "v_cvt_f64_u32" => map1::<L, F64, u32>(wave, op, |a| F64(f64::from(a)));
        "v_cvt_i32_f32" => map1::<L, i32, f32>(wave, op, |a| to_i32(f64::from(a)));
        "v_cvt_u32_f32" => map1::<L, u32, f32>(wave, op, |a| to_u32(f64::from(a)));
        "v_cvt_i32_f64" => map1::<L, i32, F64>(wave, op, |a| to_i32(a.0));
        "v_cvt_u32_f64" => map1::<L, u32, F64>(wave, op, |a| to_u32(a.0));
        "v_cvt_floor_i32_f32" => map1::<L, i32, f32>(wave, op, |a| to_i32(f64::from(a).floor()));
        "v_cvt_nearest_i32_f32" => map1::<L, i32, f32>(wave, op, |a| to_i32((f64::from(a) + 0.5).floor()));
        "v_cvt_f32_ubyte0" => map1::<L, f32, u32>(wave, op, |a| byte(a, 0));
        "v_cvt_f32_ubyte1" => map1::<L, f32, u32>(wave, op, |a| byte(a, 1));
        "v_cvt_f32_ubyte2" => map1::<L, f32, u32>(wave, op, |a| byte(a, 2));
        "v_cvt_f32_ubyte3" => map1::<L, f32, u32>(wave, op, |a| byte(a, 3));
        "v_cvt_off_f32_i4" => map1::<L, f32, u32>(wave, op, |a| from_i32((a << 28).cast_signed() >> 28) * 0.0625);
        "v_cvt_f16_i16" => rounded1::<L, F16, i16>(wave, op, |a| F16::from_f32(f32::from(a)), |a, _| Exact::integer(a.into()));
        "v_cvt_f16_u16" => rounded1::<L, F16, u16>(wave, op, |a| F16::from_f32(f32::from(a)), |a, _| Exact::integer(a.into()));
        "v_cvt_i16_f16" => map1::<L, i16, F16>(wave, op, |a| to_i16(a.to_f32()));
        "v_cvt_u16_f16" => map1::<L, u16, F16>(wave, op, |a| to_u16(a.to_f32()));
        "v_cvt_i32_i16" => map1::<L, i32, i16>(wave, op, i32::from);
        "v_cvt_u32_u16" => map1::<L, u32, u16>(wave, op, u32::from);
        "v_cvt_norm_i16_f16" => map1::<L, i16, F16>(wave, op, |a| to_i16((a.to_f32().clamp(-1.0, 1.0) * 32767.0).round_ties_even()));
        "v_cvt_norm_u16_f16" => map1::<L, u16, F16>(wave, op, |a| to_u16((a.to_f32().clamp(0.0, 1.0) * 65535.0).round_ties_even()));
        "v_cvt_pk_norm_i16_f32" => map2::<L, u32, f32, f32>(wave, op, |a, b| pack_signed(to_i16((a.clamp(-1.0, 1.0) * 32767.0).round_ties_even()), to_i16((b.clamp(-1.0, 1.0) * 32767.0).round_ties_even())));
        "v_cvt_pk_norm_u16_f32" => map2::<L, u32, f32, f32>(wave, op, |a, b| pack(to_u16((a.clamp(0.0, 1.0) * 65535.0).round_ties_even()), to_u16((b.clamp(0.0, 1.0) * 65535.0).round_ties_even())));
        "v_cvt_pk_i16_f32" => map2::<L, u32, f32, f32>(wave, op, |a, b| pack_signed(to_i16(a), to_i16(b)));
        "v_cvt_pk_u16_f32" => map2::<L, u32, f32, f32>(wave, op, |a, b| pack(to_u16(a), to_u16(b)));
        "v_cvt_pk_i16_i32" => map2::<L, u32, i32, i32>(wave, op, |a, b| pack_signed(to_i16(from_i32(a)), to_i16(from_i32(b))));
        "v_cvt_pk_u16_u32" => map2::<L, u32, u32, u32>(wave, op, |a, b| a.min(65535) | b.min(65535) << 16);
        "v_cvt_pk_rtz_f16_f32" => {
            let mode = wave.mode;
            map2::<L, u32, f32, f32>(wave, op, |a, b| pack(narrowed(mode, Rounding::TowardsZero, a), narrowed(mode, Rounding::TowardsZero, b)));
        };
        "v_cvt_pk_u8_f32" => map3::<L, u32, f32, u32, u32>(wave, op, |a, b, c| {
            let shift = 8 * (b & 3);
            c & !(255 << shift) | to_u32(f64::from(a)).min(255) << shift
        });
        "v_pack_b32_f16" => map2::<L, u32, F16, F16>(wave, op, |a, b| pack(a.0, b.0));
    }
}

macro_rules! comparisons {
    ($name:ident, $type:ty, $value:expr, $($mnemonic:literal, $exec:literal => $test:expr;)*) => {
        instructions! {
            $name(wave, op, environment) {
                $($mnemonic | $exec => compare::<L, $type, $type>(wave, op, |a, b| ($test)($value(a), $value(b)));)*
            }
        }
    };
}

comparisons! { compare32, f32, |x: f32| x,
    "v_cmp_f_f32", "v_cmpx_f_f32" => |_, _| false;
    "v_cmp_lt_f32", "v_cmpx_lt_f32" => |a, b| a < b;
    "v_cmp_eq_f32", "v_cmpx_eq_f32" => |a, b| a == b;
    "v_cmp_le_f32", "v_cmpx_le_f32" => |a, b| a <= b;
    "v_cmp_gt_f32", "v_cmpx_gt_f32" => |a, b| a > b;
    "v_cmp_lg_f32", "v_cmpx_lg_f32" => less_or_greater;
    "v_cmp_ge_f32", "v_cmpx_ge_f32" => |a, b| a >= b;
    "v_cmp_o_f32", "v_cmpx_o_f32" => |a: f32, b: f32| !a.is_nan() && !b.is_nan();
    "v_cmp_u_f32", "v_cmpx_u_f32" => |a: f32, b: f32| a.is_nan() || b.is_nan();
    "v_cmp_nge_f32", "v_cmpx_nge_f32" => |a, b| !(a >= b);
    "v_cmp_nlg_f32", "v_cmpx_nlg_f32" => |a, b| !less_or_greater(a, b);
    "v_cmp_ngt_f32", "v_cmpx_ngt_f32" => |a, b| !(a > b);
    "v_cmp_nle_f32", "v_cmpx_nle_f32" => |a, b| !(a <= b);
    "v_cmp_neq_f32", "v_cmpx_neq_f32" => |a, b| a != b;
    "v_cmp_nlt_f32", "v_cmpx_nlt_f32" => |a, b| !(a < b);
    "v_cmp_t_f32", "v_cmpx_t_f32" => |_, _| true;
}

comparisons! { compare16, F16, F16::to_f32,
    "v_cmp_f_f16", "v_cmpx_f_f16" => |_, _| false;
    "v_cmp_lt_f16", "v_cmpx_lt_f16" => |a, b| a < b;
    "v_cmp_eq_f16", "v_cmpx_eq_f16" => |a, b| a == b;
    "v_cmp_le_f16", "v_cmpx_le_f16" => |a, b| a <= b;
    "v_cmp_gt_f16", "v_cmpx_gt_f16" => |a, b| a > b;
    "v_cmp_lg_f16", "v_cmpx_lg_f16" => less_or_greater;
    "v_cmp_ge_f16", "v_cmpx_ge_f16" => |a, b| a >= b;
    "v_cmp_o_f16", "v_cmpx_o_f16" => |a: f32, b: f32| !a.is_nan() && !b.is_nan();
    "v_cmp_u_f16", "v_cmpx_u_f16" => |a: f32, b: f32| a.is_nan() || b.is_nan();
    "v_cmp_nge_f16", "v_cmpx_nge_f16" => |a, b| !(a >= b);
    "v_cmp_nlg_f16", "v_cmpx_nlg_f16" => |a, b| !less_or_greater(a, b);
    "v_cmp_ngt_f16", "v_cmpx_ngt_f16" => |a, b| !(a > b);
    "v_cmp_nle_f16", "v_cmpx_nle_f16" => |a, b| !(a <= b);
    "v_cmp_neq_f16", "v_cmpx_neq_f16" => |a, b| a != b;
    "v_cmp_nlt_f16", "v_cmpx_nlt_f16" => |a, b| !(a < b);
    "v_cmp_t_f16", "v_cmpx_t_f16" => |_, _| true;
}

comparisons! { compare64, F64, |x: F64| x.0,
    "v_cmp_f_f64", "v_cmpx_f_f64" => |_, _| false;
    "v_cmp_lt_f64", "v_cmpx_lt_f64" => |a, b| a < b;
    "v_cmp_eq_f64", "v_cmpx_eq_f64" => |a, b| a == b;
    "v_cmp_le_f64", "v_cmpx_le_f64" => |a, b| a <= b;
    "v_cmp_gt_f64", "v_cmpx_gt_f64" => |a, b| a > b;
    "v_cmp_lg_f64", "v_cmpx_lg_f64" => less_or_greater;
    "v_cmp_ge_f64", "v_cmpx_ge_f64" => |a, b| a >= b;
    "v_cmp_o_f64", "v_cmpx_o_f64" => |a: f64, b: f64| !a.is_nan() && !b.is_nan();
    "v_cmp_u_f64", "v_cmpx_u_f64" => |a: f64, b: f64| a.is_nan() || b.is_nan();
    "v_cmp_nge_f64", "v_cmpx_nge_f64" => |a, b| !(a >= b);
    "v_cmp_nlg_f64", "v_cmpx_nlg_f64" => |a, b| !less_or_greater(a, b);
    "v_cmp_ngt_f64", "v_cmpx_ngt_f64" => |a, b| !(a > b);
    "v_cmp_nle_f64", "v_cmpx_nle_f64" => |a, b| !(a <= b);
    "v_cmp_neq_f64", "v_cmpx_neq_f64" => |a, b| a != b;
    "v_cmp_nlt_f64", "v_cmpx_nlt_f64" => |a, b| !(a < b);
    "v_cmp_t_f64", "v_cmpx_t_f64" => |_, _| true;
}

instructions! {
    /// Tests for kinds of number.
    classes(wave, op, environment) {
        "v_cmp_class_f32" | "v_cmpx_class_f32" => compare::<L, Unflushed<f32>, u32>(wave, op, |a, b| class32(a.0) & b != 0);
        "v_cmp_class_f16" | "v_cmpx_class_f16" => compare::<L, Unflushed<F16>, u32>(wave, op, |a, b| class16(a.0) & b != 0);
        "v_cmp_class_f64" | "v_cmpx_class_f64" => compare::<L, Unflushed<F64>, u32>(wave, op, |a, b| class64(a.0) & b != 0);
    }
}
