use std::fmt;
use std::str::FromStr;

use bytemuck::Pod;
use half::{bf16, f16};

/// The element types that buffers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// Unsigned 32-bit integer (token ids, positions).
    U32,
    /// Byte (blocks of quantised weights).
    U8,
}

impl DType {
    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::U8 => 1,
        }
    }

    /// The name as users write it: `f32`, `f16`, `bf16`, `u32`, `u8`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::U32 => "u32",
            DType::U8 => "u8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A type that may stand in a [`DeviceBuffer`](crate::DeviceBuffer): plain data with one layout on host and device.
pub trait Element: Pod + Send + Sync + sealed::Sealed {
    /// The type's tag.
    const DTYPE: DType;
}

/// A floating-point [`Element`]. Arithmetic is done in f32.
pub trait Float: Element {
    /// Widens to f32; exact.
    fn to_f32(self) -> f32;
    /// Rounds once, to nearest even; NaN stays NaN.
    fn from_f32(value: f32) -> Self;
    /// Some values as f32, exact, in operations that a compiler turns into vector instructions. NaN stays NaN.
    fn widen<const LEN: usize>(values: &[Self; LEN]) -> [f32; LEN];
    /// Some values rounded as [`Float::from_f32`] does, in such operations.
    fn narrow<const LEN: usize>(values: &[f32; LEN]) -> [Self; LEN];
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for u32 {}
    impl Sealed for u8 {}
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for f16 {
    const DTYPE: DType = DType::F16;
}
impl Element for bf16 {
    const DTYPE: DType = DType::BF16;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
}
impl Element for u8 {
    const DTYPE: DType = DType::U8;
}

impl Float for f32 {
    #[inline]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline]
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn widen<const LEN: usize>(values: &[f32; LEN]) -> [f32; LEN] {
        *values
    }
    #[inline(always)]
    fn narrow<const LEN: usize>(values: &[f32; LEN]) -> [f32; LEN] {
        *values
    }
}
impl Float for f16 {
    #[inline]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    #[inline]
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }
    #[inline(always)]
    fn widen<const LEN: usize>(values: &[f16; LEN]) -> [f32; LEN] {
        // Exponent and fraction in their places in a binary32, the exponent short by the difference of the two biases.
        const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
        values.map(|value| {
            let bits = u32::from(value.to_bits());
            let magnitude = (bits & 0x7fff) << 13;
            let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
            let is_finite = magnitude < 0x7c00 << 13;
            let widened = if is_finite { finite } else { magnitude | 0x7f80_0000 };
            f32::from_bits(widened | (bits & 0x8000) << 16)
        })
    }
    #[inline(always)]
    fn narrow<const LEN: usize>(values: &[f32; LEN]) -> [f16; LEN] {
        /// The least magnitude that has a full fraction, and the least that rounds to none but infinity.
        const LEAST_NORMAL: u32 = (127 - 14) << 23;
        const TOO_LARGE: u32 = (127 + 16) << 23;
        const INFINITY: u32 = 0x7f80_0000;
        values.map(|value| {
            let bits = value.to_bits();
            let magnitude = bits & 0x7fff_ffff;
            // Half a unit less one, and one where the last bit that stays is odd.
            let rounded = magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1));
            let normal = rounded.wrapping_sub((127 - 15) << 23) >> 13;
            // The unit of 0.5 in f32 is that of f16's subnormals.
            let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
            let not_a_number = 0x7e00 | (magnitude >> 13 & 0x3ff);
            let finite = if magnitude < LEAST_NORMAL { subnormal } else { normal };
            let ordered = if magnitude < TOO_LARGE { finite } else { 0x7c00 };
            let narrow = if magnitude > INFINITY { not_a_number } else { ordered };
            #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are all")]
            f16::from_bits((narrow | (bits >> 16 & 0x8000)) as u16)
        })
    }
}
impl Float for bf16 {
    #[inline]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    #[inline]
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }
    #[inline(always)]
    fn widen<const LEN: usize>(values: &[bf16; LEN]) -> [f32; LEN] {
        values.map(|value| f32::from_bits(u32::from(value.to_bits()) << 16))
    }
    #[inline(always)]
    fn narrow<const LEN: usize>(values: &[f32; LEN]) -> [bf16; LEN] {
        values.map(bf16::from_f32)
    }
}

/// Reads the name of a type, as users write it.
impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(DType::F32),
            "f16" => Ok(DType::F16),
            "bf16" => Ok(DType::BF16),
            "u32" => Ok(DType::U32),
            "u8" => Ok(DType::U8),
            _ => Err(format!("expected f32, f16, bf16, u32 or u8, found {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn slices_widen_as_their_elements_do() {
        fn check<T: Float>(values: &[T]) {
            for isa in Isa::available() {
                let mut wide = vec![7.0; values.len()];
                isa.widen(values, &mut wide);
                for (value, wide) in values.iter().zip(&wide) {
                    let alone = value.to_f32();
                    assert!(
                        wide.to_bits() == alone.to_bits() || (wide.is_nan() && alone.is_nan()),
                        "{alone}"
                    );
                }
                let mut start = [7.0; 5];
                isa.widen(&values[..3], &mut start);
                assert_eq!(start[3..], [7.0; 2]);
                isa.widen(values, &mut start);

                // Two rows by turns, which do not end with a chunk.
                let (first, second) = values.split_at(values.len() / 2);
                let (first, second) = (&first[..first.len() - 1], &second[..first.len() - 1]);
                let mut pairs = vec![7.0; 2 * first.len() + 1];
                isa.widen_pair([first, second], &mut pairs);
                let expected = first.iter().zip(second).flat_map(|(a, b)| [a, b]);
                for (wide, value) in pairs.iter().zip(expected) {
                    let alone = value.to_f32();
                    assert!(
                        wide.to_bits() == alone.to_bits() || (wide.is_nan() && alone.is_nan()),
                        "{alone}"
                    );
                }
                assert_eq!(pairs.last(), Some(&7.0), "{isa:?}");
            }
        }
        check(&Vec::from_iter((0..=u16::MAX).map(f16::from_bits)));
        check(&Vec::from_iter((0..=u16::MAX).map(bf16::from_bits)));
        check(&[0.0_f32, -0.0, 1.5, f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::NAN]);
    }

    #[test]
    fn arrays_narrow_as_their_elements_do() {
        fn check<T: Float>(bits_of: fn(T) -> u16, value: f32) {
            let [narrow] = T::narrow(&[value]);
            assert_eq!(bits_of(narrow), bits_of(T::from_f32(value)), "{value:e} {:#x}", value.to_bits());
        }
        // Every f16 and bf16 with its neighbours, and the middles between them with theirs.
        for upper in 0..=u16::MAX {
            for value in [f16::from_bits(upper).to_f32(), bf16::from_bits(upper).to_f32()] {
                for offset in [0, 0x1000, 0x0fff, 0x1001, 0x1fff, 0x8000, 0x7fff, 0x8001, 1, u32::MAX] {
                    let value = f32::from_bits(value.to_bits().wrapping_add(offset));
                    check::<f16>(f16::to_bits, value);
                    check::<bf16>(bf16::to_bits, value);
                }
            }
        }
        // Those between f16's subnormals are at other places.
        for step in 0..1 << 16 {
            let value = f32::from_bits(0x3300_0000 + step * 0x0600 + step % 3);
            check::<f16>(f16::to_bits, value);
            check::<f16>(f16::to_bits, -value);
        }
    }
}
