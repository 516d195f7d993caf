use std::fmt;
use std::str::FromStr;

use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
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
}

impl DType {
    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// The name as users write it: `f32`, `f16`, `bf16`, `u32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::U32 => "u32",
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
    /// `values` as f32, exact: themselves when they are f32, else widened into the start of `scratch`. Only as many
    /// as `scratch` can hold.
    fn widened<'a>(values: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32];
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for u32 {}
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

impl Float for f32 {
    #[inline]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline]
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline]
    fn widened<'a>(values: &'a [f32], scratch: &'a mut [f32]) -> &'a [f32] {
        &values[..values.len().min(scratch.len())]
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
    #[inline]
    fn widened<'a>(values: &'a [f16], scratch: &'a mut [f32]) -> &'a [f32] {
        let len = values.len().min(scratch.len());
        let widened = &mut scratch[..len];
        // The slice form uses the CPU's conversion instruction where there is one.
        values[..len].convert_to_f32_slice(widened);
        widened
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
    #[inline]
    fn widened<'a>(values: &'a [bf16], scratch: &'a mut [f32]) -> &'a [f32] {
        let len = values.len().min(scratch.len());
        let widened = &mut scratch[..len];
        for (wide, value) in widened.iter_mut().zip(values) {
            *wide = f32::from_bits(u32::from(value.to_bits()) << 16);
        }
        widened
    }
}

/// Reads `f32`, `f16` or `bf16` as users write them.
impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(DType::F32),
            "f16" => Ok(DType::F16),
            "bf16" => Ok(DType::BF16),
            "u32" => Ok(DType::U32),
            _ => Err(format!("expected f32, f16, bf16 or u32, found {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_widen_as_their_elements_do() {
        fn check<T: Float>(values: &[T]) {
            let mut scratch = vec![7.0; values.len()];
            for (value, wide) in values.iter().zip(T::widened(values, &mut scratch)) {
                let alone = value.to_f32();
                assert!(wide.to_bits() == alone.to_bits() || (wide.is_nan() && alone.is_nan()), "{alone}");
            }
            assert_eq!(T::widened(values, &mut [0.0; 5]).len(), 5);
        }
        check(&Vec::from_iter((0..=u16::MAX).map(f16::from_bits)));
        check(&Vec::from_iter((0..=u16::MAX).map(bf16::from_bits)));
        check(&[0.0_f32, -0.0, 1.5, f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::NAN]);
    }
}
