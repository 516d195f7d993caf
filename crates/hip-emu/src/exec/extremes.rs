//! Minima, maxima and medians.

use crate::exec::element::{F64, Float};
use crate::exec::float::F16;

/// What minima and maxima make of NaNs, beside giving the number where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nans {
    /// A NaN comes out as it is.
    Passed,
    /// A signalling NaN comes out, quieted, even beside a number (IEEE 754-2008).
    Signalled,
    /// Of two NaNs the first comes out, quieted (IEEE 754-2019, `minimumNumber`).
    Numbers,
}

/// A number that can be ordered.
pub(super) trait Ordered: Float {
    fn is_nan(self) -> bool;
    /// A NaN whose quiet bit is clear.
    fn is_signalling(self) -> bool;
    fn quieted(self) -> Self;
    /// Whether it is less, with -0 before +0. Neither is a NaN.
    fn is_before(self, other: Self) -> bool;
}

macro_rules! ordered {
    ($type:ty, $bits:ident, $quiet:expr, $value:expr, $from_bits:expr, $to_bits:expr) => {
        impl Ordered for $type {
            #[inline(always)]
            fn is_nan(self) -> bool {
                ($value)(self).is_nan()
            }

            #[inline(always)]
            fn is_signalling(self) -> bool {
                self.is_nan() && ($to_bits)(self) & $quiet == 0
            }

            #[inline(always)]
            fn quieted(self) -> Self {
                ($from_bits)(($to_bits)(self) | $quiet)
            }

            #[inline(always)]
            fn is_before(self, other: Self) -> bool {
                let (a, b) = (($value)(self), ($value)(other));
                a < b || (a == b && a.is_sign_negative())
            }
        }
    };
}

ordered!(f32, u32, 1 << 22, |x: f32| x, f32::from_bits, f32::to_bits);
ordered!(F64, u64, 1 << 51, |x: F64| x.0, |bits| F64(f64::from_bits(bits)), |x: F64| x.0.to_bits());
ordered!(F16, u16, 1 << 9, F16::to_f32, F16, |x: F16| x.0);

/// The smaller one; of a number and a NaN, the number, but as `nans` says.
#[inline(always)]
pub(super) fn min<T: Ordered>(nans: Nans, a: T, b: T) -> T {
    let number = if a.is_nan() {
        b
    } else if b.is_nan() || a.is_before(b) {
        a
    } else {
        b
    };
    quieted(nans, a, b, number)
}

/// The larger one; NaNs as in [`min`].
#[inline(always)]
pub(super) fn max<T: Ordered>(nans: Nans, a: T, b: T) -> T {
    let number = if a.is_nan() {
        b
    } else if b.is_nan() || !a.is_before(b) {
        a
    } else {
        b
    };
    quieted(nans, a, b, number)
}

#[inline(always)]
fn quieted<T: Ordered>(nans: Nans, a: T, b: T, number: T) -> T {
    match nans {
        Nans::Signalled if a.is_signalling() => a.quieted(),
        Nans::Signalled if b.is_signalling() => b.quieted(),
        Nans::Numbers if a.is_nan() && b.is_nan() => a.quieted(),
        _ => number,
    }
}

/// The middle of three; with a NaN among them, the smallest.
#[inline(always)]
pub(super) fn median<T: Ordered>(nans: Nans, a: T, b: T, c: T) -> T {
    if a.is_nan() || b.is_nan() || c.is_nan() {
        return min(nans, min(nans, a, b), c);
    }
    max(nans, min(nans, a, b), min(nans, max(nans, a, b), c))
}

/// The smaller one; a NaN if either is one (IEEE 754-2019, `minimum`).
#[inline(always)]
pub(super) fn minimum<T: Ordered>(a: T, b: T) -> T {
    propagated(a, b, min(Nans::Passed, a, b))
}

/// The larger one; a NaN if either is one (IEEE 754-2019, `maximum`).
#[inline(always)]
pub(super) fn maximum<T: Ordered>(a: T, b: T) -> T {
    propagated(a, b, max(Nans::Passed, a, b))
}

/// Signalling NaNs come before quiet ones.
#[inline(always)]
fn propagated<T: Ordered>(a: T, b: T, number: T) -> T {
    if a.is_signalling() || (a.is_nan() && !b.is_signalling()) {
        a.quieted()
    } else if b.is_nan() {
        b.quieted()
    } else {
        number
    }
}
