use std::fmt;

use half::{bf16, f16};

/// A binary floating-point type whose values can be compared.
pub trait Number: Copy + fmt::Debug + sealed::Sealed {
    /// Bits of the significand, the implied one included.
    const PRECISION: i32;
    /// Exponent of the smallest normal number.
    const MIN_EXPONENT: i32;

    /// The same value in f64; exact.
    fn widen(self) -> f64;
}

/// The distance of `T`'s numbers around `value`: `2^(e - PRECISION + 1)` for `2^e <= |value| < 2^(e+1)`, and the
/// distance of its subnormal numbers below those.
pub fn ulp<T: Number>(value: f64) -> f64 {
    let exponent = match value.abs() {
        0.0 => T::MIN_EXPONENT,
        magnitude => exponent_of(magnitude).max(T::MIN_EXPONENT),
    };
    2.0_f64.powi(exponent - T::PRECISION + 1)
}

/// Half of [`ulp`]: the most by which rounding `value` to nearest can miss it.
pub fn half_ulp<T: Number>(value: f64) -> f64 {
    0.5 * ulp::<T>(value)
}

/// `floor(log2(magnitude))` of a normal number; -1023 for a subnormal one.
fn exponent_of(magnitude: f64) -> i32 {
    let biased = (magnitude.to_bits() >> 52) & 0x7ff;
    i32::try_from(biased).unwrap_or(0) - 1023
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f64 {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

impl Number for f64 {
    const PRECISION: i32 = 53;
    const MIN_EXPONENT: i32 = -1022;
    fn widen(self) -> f64 {
        self
    }
}
impl Number for f32 {
    const PRECISION: i32 = 24;
    const MIN_EXPONENT: i32 = -126;
    fn widen(self) -> f64 {
        f64::from(self)
    }
}
impl Number for f16 {
    const PRECISION: i32 = 11;
    const MIN_EXPONENT: i32 = -14;
    fn widen(self) -> f64 {
        self.to_f64()
    }
}
impl Number for bf16 {
    const PRECISION: i32 = 8;
    const MIN_EXPONENT: i32 = -126;
    fn widen(self) -> f64 {
        self.to_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ulp_is_the_distance_to_the_next_number() {
        for value in [1.0_f32, 1.5, 3.999, 1e-30, 1e-45, 3e38] {
            let next = f32::from_bits(value.to_bits() + 1);
            assert_eq!(ulp::<f32>(value.into()), f64::from(next) - f64::from(value), "{value}");
        }
        for value in [1.0_f32, 6e-8, 60000.0] {
            let value = f16::from_f32(value);
            let next = f16::from_bits(value.to_bits() + 1);
            assert_eq!(ulp::<f16>(value.widen()), next.widen() - value.widen(), "{value}");
        }
        assert_eq!(ulp::<bf16>(1.0), 2.0_f64.powi(-7));
        assert_eq!(ulp::<f32>(0.0), f64::from(f32::from_bits(1)));
    }
}
