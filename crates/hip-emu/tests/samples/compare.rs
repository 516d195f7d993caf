//! Seeded inputs, and outputs against references in f64.

use half::{bf16, f16};

use crate::card::Card;

/// A linear congruential generator (Numerical Recipes' constants): the same inputs in every run.
pub(crate) struct Random(u32);

impl Random {
    pub(crate) fn new(seed: u32) -> Random {
        Random(seed)
    }

    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    /// Uniform in [-1, 1), a multiple of 2^-23.
    pub(crate) fn signed(&mut self) -> f32 {
        self.bits() as f32 / 8_388_608.0 - 1.0
    }

    /// Uniform in `0..limit`.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.bits() % limit
    }

    /// `count` values of [`Random::signed`], rounded to `T`.
    pub(crate) fn values<T: Real>(&mut self, count: usize) -> Vec<T> {
        (0..count).map(|_| T::nearest(f64::from(self.signed()))).collect()
    }

    /// `count` integers of `0..limit`.
    pub(crate) fn integers(&mut self, count: usize, limit: u32) -> Vec<i32> {
        (0..count).map(|_| i32::try_from(self.below(limit)).unwrap()).collect()
    }
}

/// A number of a kernel, exact in f64.
pub(crate) trait Real: bytemuck::Pod {
    /// The most that one rounding to nearest changes a value, relative to it.
    const ROUNDING: f64;
    fn wide(self) -> f64;
    fn nearest(value: f64) -> Self;
}

impl Real for f64 {
    const ROUNDING: f64 = f64::EPSILON / 2.0;
    fn wide(self) -> f64 {
        self
    }
    fn nearest(value: f64) -> f64 {
        value
    }
}

impl Real for f32 {
    const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
    fn nearest(value: f64) -> f32 {
        value as f32
    }
}

impl Real for f16 {
    const ROUNDING: f64 = 1.0 / 2048.0;
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn nearest(value: f64) -> f16 {
        f16::from_f64(value)
    }
}

impl Real for bf16 {
    const ROUNDING: f64 = 1.0 / 256.0;
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn nearest(value: f64) -> bf16 {
        bf16::from_f64(value)
    }
}

/// `values` in f64.
pub(crate) fn wide<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.wide()).collect()
}

/// Holds each of `found` to `expected` within `absolute` and one rounding to `T`; a NaN fails.
pub(crate) fn assert_close<T: Real>(card: &Card, what: &str, found: &[T], expected: &[f64], absolute: f64) {
    assert_eq!(found.len(), expected.len(), "{}: {what}: lengths", card.label());
    for (index, (found, &expected)) in found.iter().zip(expected).enumerate() {
        let (found, limit) = (found.wide(), absolute + expected.abs() * T::ROUNDING);
        let error = (found - expected).abs();
        let label = card.label();
        assert!(
            error <= limit,
            "{label}: {what}[{index}]: {found}, expected {expected}: off by {error:e}, limit {limit:e}"
        );
    }
}

/// Holds `found` to `expected` bit for bit.
pub(crate) fn assert_same<T: PartialEq + std::fmt::Debug>(
    card: &Card,
    what: &str,
    found: &[T],
    expected: &[T],
) {
    let label = card.label();
    assert_eq!(found.len(), expected.len(), "{label}: {what}: lengths");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found == expected, "{label}: {what}[{index}]: {found:?}, expected {expected:?}");
    }
}

/// Sum of the products of `a` and `b`.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
