//! Vector operations on binary16, binary32 and binary64.

#![expect(
    clippy::neg_cmp_op_on_partial_ord,
    reason = "the negated comparisons are true for NaN, as their names say"
)]

use crate::exec::{
    element::F64,
    float::{self, Class, F16, class, frexp, ldexp32, ldexp64},
    shape::{compare, map1, map2, map3},
    table::instructions,
};

#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a < b || (a == b && a.is_sign_negative()) {
        a
    } else {
        b
    }
}

#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a > b || (a == b && a.is_sign_positive()) {
        a
    } else {
        b
    }
}

#[inline(always)]
fn min64(a: F64, b: F64) -> F64 {
    let (x, y) = (a.0, b.0);
    if x.is_nan() || !(y.is_nan() || x < y || (x == y && x.is_sign_negative())) { b } else { a }
}

#[inline(always)]
fn max64(a: F64, b: F64) -> F64 {
    let (x, y) = (a.0, b.0);
    if x.is_nan() || !(y.is_nan() || x > y || (x == y && x.is_sign_positive())) { b } else { a }
}

/// The middle of three; with a NaN among them, the smallest.
#[inline(always)]
fn median(a: f32, b: f32, c: f32) -> f32 {
    if a.is_nan() || b.is_nan() || c.is_nan() {
        return min(min(a, b), c);
    }
    max(min(a, b), min(max(a, b), c))
}

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

#[inline(always)]
fn half3(a: F16, b: F16, c: F16, f: impl Fn(f32, f32, f32) -> f32) -> F16 {
    F16::from_f32(f(a.to_f32(), b.to_f32(), c.to_f32()))
}

/// binary64 holds the product and every sum of it that is not a tie exactly.
#[inline(always)]
pub(super) fn half_fma(a: F16, b: F16, c: F16) -> F16 {
    F16::from_f64(f64::from(a.to_f32()) * f64::from(b.to_f32()) + f64::from(c.to_f32()))
}

/// The fraction, below one.
#[inline(always)]
fn fract(x: f32) -> f32 {
    if x.is_infinite() { f32::NAN } else { min(x - x.floor(), f32::from_bits(0x3f7f_ffff)) }
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
        "v_add_f32" => map2::<L, f32, f32, f32>(wave, op, |a, b| a + b);
        "v_sub_f32" => map2::<L, f32, f32, f32>(wave, op, |a, b| a - b);
        "v_subrev_f32" => map2::<L, f32, f32, f32>(wave, op, |a, b| b - a);
        "v_mul_f32" => map2::<L, f32, f32, f32>(wave, op, |a, b| a * b);
        "v_mul_dx9_zero_f32" => map2::<L, f32, f32, f32>(wave, op, mul_dx9);
        "v_fma_f32" | "v_fmac_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| a.mul_add(b, c));
        "v_fmamk_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, k, c| a.mul_add(k, c));
        "v_fmaak_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, k| a.mul_add(b, k));
        "v_fma_dx9_zero_f32" | "v_fmac_dx9_zero_f32" => map3::<L, f32, f32, f32, f32>(wave, op, fma_dx9);
        "v_min_f32" => map2::<L, f32, f32, f32>(wave, op, min);
        "v_max_f32" => map2::<L, f32, f32, f32>(wave, op, max);
        "v_min3_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| min(min(a, b), c));
        "v_max3_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| max(max(a, b), c));
        "v_med3_f32" => map3::<L, f32, f32, f32, f32>(wave, op, median);
        "v_minmax_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| max(min(a, b), c));
        "v_maxmin_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| min(max(a, b), c));
        "v_add_f16" => map2::<L, F16, F16, F16>(wave, op, |a, b| half2(a, b, |a, b| a + b));
        "v_sub_f16" => map2::<L, F16, F16, F16>(wave, op, |a, b| half2(a, b, |a, b| a - b));
        "v_subrev_f16" => map2::<L, F16, F16, F16>(wave, op, |a, b| half2(a, b, |a, b| b - a));
        "v_mul_f16" => map2::<L, F16, F16, F16>(wave, op, |a, b| half2(a, b, |a, b| a * b));
        "v_fma_f16" | "v_fmac_f16" | "v_fmamk_f16" | "v_fmaak_f16" => map3::<L, F16, F16, F16, F16>(wave, op, half_fma);
        "v_min_f16" => map2::<L, F16, F16, F16>(wave, op, |a, b| half2(a, b, min));
        "v_max_f16" => map2::<L, F16, F16, F16>(wave, op, |a, b| half2(a, b, max));
        "v_min3_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| half3(a, b, c, |a, b, c| min(min(a, b), c)));
        "v_max3_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| half3(a, b, c, |a, b, c| max(max(a, b), c)));
        "v_med3_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| half3(a, b, c, median));
        "v_minmax_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| half3(a, b, c, |a, b, c| max(min(a, b), c)));
        "v_maxmin_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| half3(a, b, c, |a, b, c| min(max(a, b), c)));
        "v_add_f64" => map2::<L, F64, F64, F64>(wave, op, |a, b| F64(a.0 + b.0));
        "v_mul_f64" => map2::<L, F64, F64, F64>(wave, op, |a, b| F64(a.0 * b.0));
        "v_fma_f64" => map3::<L, F64, F64, F64, F64>(wave, op, |a, b, c| F64(a.0.mul_add(b.0, c.0)));
        "v_min_f64" => map2::<L, F64, F64, F64>(wave, op, min64);
        "v_max_f64" => map2::<L, F64, F64, F64>(wave, op, max64);
        "v_ldexp_f32" => map2::<L, f32, f32, i32>(wave, op, ldexp32);
        "v_ldexp_f16" => map2::<L, F16, F16, i16>(wave, op, |a, b| F16::from_f64(ldexp64(f64::from(a.to_f32()), i32::from(b))));
        "v_ldexp_f64" => map2::<L, F64, F64, i32>(wave, op, |a, b| F64(ldexp64(a.0, b)));
    }
}

instructions! {
    /// One source: rounding, mantissas, the functions that hardware approximates.
    unary(wave, op, environment) {
        "v_ceil_f32" => map1::<L, f32, f32>(wave, op, f32::ceil);
        "v_floor_f32" => map1::<L, f32, f32>(wave, op, f32::floor);
        "v_trunc_f32" => map1::<L, f32, f32>(wave, op, f32::trunc);
        "v_rndne_f32" => map1::<L, f32, f32>(wave, op, f32::round_ties_even);
        "v_fract_f32" => map1::<L, f32, f32>(wave, op, fract);
        "v_ceil_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, f32::ceil));
        "v_floor_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, f32::floor));
        "v_trunc_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, f32::trunc));
        "v_rndne_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, f32::round_ties_even));
        "v_fract_f16" => map1::<L, F16, F16>(wave, op, |a| half1(a, |x| if x.is_infinite() { f32::NAN } else { min(x - x.floor(), 0.999_511_7) }));
        "v_ceil_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.ceil()));
        "v_floor_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.floor()));
        "v_trunc_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.trunc()));
        "v_rndne_f64" => map1::<L, F64, F64>(wave, op, |a| F64(a.0.round_ties_even()));
        "v_fract_f64" => map1::<L, F64, F64>(wave, op, |a| min64(F64(a.0 - a.0.floor()), F64(f64::from_bits(0x3fef_ffff_ffff_ffff))));
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
        "v_cvt_f16_f32" => map1::<L, F16, f32>(wave, op, F16::from_f32);
        "v_cvt_f32_f16" => map1::<L, f32, F16>(wave, op, F16::to_f32);
        "v_cvt_f64_f32" => map1::<L, F64, f32>(wave, op, |a| F64(f64::from(a)));
        "v_cvt_f32_f64" => map1::<L, f32, F64>(wave, op, |a| narrow(a.0));
        "v_cvt_f32_i32" => map1::<L, f32, i32>(wave, op, from_i32);
        "v_cvt_f32_u32" => map1::<L, f32, u32>(wave, op, from_u32);
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
        "v_cvt_f16_i16" => map1::<L, F16, i16>(wave, op, |a| F16::from_f32(f32::from(a)));
        "v_cvt_f16_u16" => map1::<L, F16, u16>(wave, op, |a| F16::from_f32(f32::from(a)));
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
        "v_cvt_pk_rtz_f16_f32" => map2::<L, u32, f32, f32>(wave, op, |a, b| pack(F16::from_f32_towards_zero(a).0, F16::from_f32_towards_zero(b).0));
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
        "v_cmp_class_f32" | "v_cmpx_class_f32" => compare::<L, f32, u32>(wave, op, |a, b| class32(a) & b != 0);
        "v_cmp_class_f16" | "v_cmpx_class_f16" => compare::<L, F16, u32>(wave, op, |a, b| class16(a) & b != 0);
        "v_cmp_class_f64" | "v_cmpx_class_f64" => compare::<L, F64, u32>(wave, op, |a, b| class64(a) & b != 0);
    }
}
