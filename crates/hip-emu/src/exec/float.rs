//! binary16, bfloat16 and the functions that hardware approximates.

/// A binary16 number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct F16(pub(super) u16);

impl F16 {
    /// Exact.
    #[inline(always)]
    pub(super) fn to_f32(self) -> f32 {
        let (sign, magnitude) = (u32::from(self.0 & 0x8000) << 16, u32::from(self.0 & 0x7fff));
        // Scaling by 2^112 moves the exponent's bias, and makes denormals normal.
        let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
        let bits = if magnitude >= 0x7c00 { magnitude << 13 | 0x7f80_0000 } else { scaled.to_bits() };
        f32::from_bits(sign | bits)
    }

    /// Rounded to nearest even.
    #[inline(always)]
    pub(super) fn from_f32(value: f32) -> Self {
        Self::from_f64(f64::from(value))
    }

    /// Rounded to nearest even.
    #[inline(always)]
    pub(super) fn from_f64(value: f64) -> Self {
        let bits = value.to_bits();
        let sign = half_word(bits >> 48) & 0x8000;
        let magnitude = bits & (u64::MAX >> 1);
        if value.is_nan() {
            return Self(sign | 0x7e00 | half_word(magnitude >> 42) & 0x1ff);
        }
        // Adding 2^e whose last place is the result's last place rounds there.
        let exponent = (magnitude >> 52).clamp(1023 - 14, 1023 + 16);
        let magic = f64::from_bits((exponent + 42) << 52);
        let rounded = (f64::from_bits(magnitude) + magic).to_bits() - magic.to_bits();
        let result = rounded + ((exponent - (1023 - 14)) << 10);
        Self(sign | if magnitude >= 0x40f0_0000_0000_0000 { 0x7c00 } else { half_word(result.min(0x7c00)) })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
#[inline(always)]
pub(super) const fn half_word(bits: u64) -> u16 {
    bits as u16
}

/// bfloat16 bits as a binary32 number.
#[inline(always)]
pub(super) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounded to nearest even.
#[inline(always)]
pub(super) fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return half_word(u64::from(bits >> 16)) | 0x40;
    }
    half_word(u64::from((bits + 0x7fff + (bits >> 16 & 1)) >> 16))
}

/// As a denormal that becomes zero of the same sign.
#[inline(always)]
pub(super) fn flushed(value: f32) -> f32 {
    let bits = value.to_bits();
    if bits & 0x7f80_0000 == 0 { f32::from_bits(bits & 0x8000_0000) } else { value }
}

#[expect(clippy::cast_possible_truncation, reason = "the rounding is meant")]
#[inline(always)]
fn round32(value: f64) -> f32 {
    value as f32
}

/// `2^x`. Denormal inputs and outputs are flushed, as on hardware.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    flushed(round32(f64::from(flushed(x)).exp2()))
}

/// Base-2 logarithm. Denormal inputs are flushed, as on hardware.
#[inline(always)]
pub(super) fn log2(x: f32) -> f32 {
    round32(f64::from(flushed(x)).log2())
}

/// `1 / x`. Denormal results and inputs are flushed, as on hardware.
#[inline(always)]
pub(super) fn rcp(x: f32) -> f32 {
    flushed(1.0 / flushed(x))
}

/// `1 / sqrt(x)`.
#[inline(always)]
pub(super) fn rsq(x: f32) -> f32 {
    round32(1.0 / f64::from(flushed(x)).sqrt())
}

/// Sine of `x` turns; zero beyond 256 turns, as on hardware.
pub(super) fn sin_turns(x: f64) -> f64 {
    if x.is_infinite() {
        f64::NAN
    } else if x.abs() > 256.0 {
        0.0
    } else {
        ((x - x.trunc()) * std::f64::consts::TAU).sin()
    }
}

/// Cosine of `x` turns; one beyond 256 turns, as on hardware.
pub(super) fn cos_turns(x: f64) -> f64 {
    if x.is_infinite() {
        f64::NAN
    } else if x.abs() > 256.0 {
        1.0
    } else {
        ((x - x.trunc()) * std::f64::consts::TAU).cos()
    }
}

/// `x * 2^exponent`, rounded once.
#[inline(always)]
pub(super) fn ldexp64(x: f64, exponent: i32) -> f64 {
    let power = |exponent: i32| f64::from_bits(u64::from((exponent + 1023).cast_unsigned()) << 52);
    let exponent = exponent.clamp(-2200, 2200);
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    if exponent > 1023 {
        let rest = exponent - 1023;
        return if rest > 1023 {
            x * power(1023) * power(1023) * power((rest - 1023).min(1023))
        } else {
            x * power(1023) * power(rest)
        };
    }
    if exponent >= -1022 {
        return x * power(exponent);
    }
    // Split so that only the last product can be denormal.
    let (_, own) = frexp(x);
    if own + exponent < -1080 {
        return 0.0_f64.copysign(x);
    }
    let first = (-own).clamp(-1022, 1023);
    let rest = exponent - first;
    if rest < -1022 {
        x * power(first) * power(-600) * power((rest + 600).max(-1022))
    } else {
        x * power(first) * power(rest)
    }
}

/// `x * 2^exponent`, rounded once.
#[inline(always)]
pub(super) fn ldexp32(x: f32, exponent: i32) -> f32 {
    // binary64 holds every product of the clamped range exactly; the conversion rounds once.
    round32(ldexp64(f64::from(x), exponent.clamp(-600, 600)))
}

/// Mantissa in [0.5, 1) and exponent; zero, infinity and NaN come back with exponent 0.
#[inline(always)]
pub(super) fn frexp(x: f64) -> (f64, i32) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let bits = x.to_bits();
    let biased = (bits >> 52) & 0x7ff;
    if biased == 0 {
        let (mantissa, exponent) = frexp(x * f64::from_bits((1023 + 64) << 52));
        return (mantissa, exponent - 64);
    }
    let mantissa = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    (mantissa, i32::try_from(biased).unwrap_or(0) - 1022)
}

/// Class bits: signalling NaN, quiet NaN, then -infinity, -normal, -denormal, -0, +0, +denormal, +normal, +infinity.
pub(super) const fn class(sign: bool, exponent: Class, quiet: bool) -> u32 {
    match (exponent, sign) {
        (Class::Nan, _) => 1 << (quiet as u32),
        (Class::Infinite, true) => 1 << 2,
        (Class::Normal, true) => 1 << 3,
        (Class::Denormal, true) => 1 << 4,
        (Class::Zero, true) => 1 << 5,
        (Class::Zero, false) => 1 << 6,
        (Class::Denormal, false) => 1 << 7,
        (Class::Normal, false) => 1 << 8,
        (Class::Infinite, false) => 1 << 9,
    }
}

/// Kinds of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Nan,
    Infinite,
    Normal,
    Denormal,
    Zero,
}

impl From<std::num::FpCategory> for Class {
    fn from(category: std::num::FpCategory) -> Self {
        use std::num::FpCategory;
        match category {
            FpCategory::Nan => Self::Nan,
            FpCategory::Infinite => Self::Infinite,
            FpCategory::Zero => Self::Zero,
            FpCategory::Subnormal => Self::Denormal,
            FpCategory::Normal => Self::Normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::F16;

    #[test]
    fn binary16_is_the_half_crates() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16(bits).to_f32(), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#x}");
        }
        let mut bits = 0x1234_5678_u32;
        for _ in 0..2_000_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let narrow = f32::from_bits((bits & 0x8fff_ffff) + 0x3000_0000);
            for value in [f32::from_bits(bits), narrow] {
                let (ours, theirs) = (F16::from_f32(value), half::f16::from_f32_const(value));
                assert!(
                    ours.0 == theirs.to_bits() || value.is_nan(),
                    "{value:e} {ours:?} {:#x}",
                    theirs.to_bits()
                );
            }
        }
    }
}
