use std::fmt;

use thiserror::Error;

use crate::number::{Number, ulp};

/// How far `got` may be from `expected`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance<'a> {
    /// Not at all: the same value with the same sign of zero. Any NaN equals any NaN, for arithmetic does not specify
    /// its bits.
    Bits,
    /// By at most this much, each element.
    Absolute(f64),
    /// By at most this many ulps of the type of `got`, taken at the expected value.
    Ulps(u32),
    /// Normalised mean square error: `sum (expected - got)^2 / sum expected^2` over all elements.
    Nmse(f64),
    /// Each element by its own bound.
    Elementwise(&'a [f64]),
}

/// One compared element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element {
    /// Its index.
    pub index: usize,
    /// The value that was expected.
    pub expected: f64,
    /// The value that was found.
    pub got: f64,
    /// The error in ulps of the type of `got` at the expected value.
    pub ulps: f64,
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Element { index, expected, got, ulps } = self;
        write!(f, "element {index}: expected {expected:e}, got {got:e} ({ulps:.2} ulps)")
    }
}

/// What a passed comparison saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Compared elements.
    pub len: usize,
    /// The element that came closest to its bound; `None` when there are none.
    pub worst: Option<Element>,
    /// Error of `worst` as a share of its bound; 0 when it is exact.
    pub worst_share: f64,
    /// Normalised mean square error; 0 when every element is exact.
    pub nmse: f64,
}

/// Why a comparison failed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The lists have different lengths.
    #[error("expected {expected} elements, got {got}")]
    Length {
        /// Elements expected.
        expected: usize,
        /// Elements found.
        got: usize,
    },
    /// The list of bounds has another length than the values.
    #[error("{bounds} bounds were given for {len} elements")]
    Bounds {
        /// Bounds given.
        bounds: usize,
        /// Elements compared.
        len: usize,
    },
    /// NaN or an infinity on one side only.
    #[error("{0}: one side is not finite")]
    NotFinite(Element),
    /// Elements outside their bounds.
    #[error("{failing} of {len} elements are outside their bounds; worst {worst}, allowed {allowed:e}")]
    Elements {
        /// Elements outside.
        failing: usize,
        /// Elements compared.
        len: usize,
        /// The element that is furthest outside.
        worst: Element,
        /// Its bound.
        allowed: f64,
    },
    /// The mean square error is too large.
    #[error("normalised mean square error {nmse:e} is above {allowed:e}; worst {worst}")]
    Nmse {
        /// The error.
        nmse: f64,
        /// Its bound.
        allowed: f64,
        /// The element with the largest error.
        worst: Element,
    },
}

/// Compares element by element. The two may have different types; both widen to f64 exactly.
///
/// # Errors
/// [`Mismatch`], which names the worst element. NaN or an infinity on one side only fails under every tolerance.
pub fn compare<E: Number, G: Number>(
    expected: &[E],
    got: &[G],
    tolerance: Tolerance<'_>,
) -> Result<Report, Mismatch> {
    let len = got.len();
    if expected.len() != len {
        return Err(Mismatch::Length { expected: expected.len(), got: len });
    }
    if let Tolerance::Elementwise(bounds) = tolerance
        && bounds.len() != len
    {
        return Err(Mismatch::Bounds { bounds: bounds.len(), len });
    }
    let mut worst: Option<(f64, Element, f64)> = None;
    let (mut failing, mut error_energy, mut energy) = (0, 0.0, 0.0);
    for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
        let (expected, got) = (expected.widen(), got.widen());
        let spacing = ulp::<G>(expected);
        let error = error(expected, got);
        let element = Element { index, expected, got, ulps: error / spacing };
        if error.is_infinite() && tolerance != Tolerance::Bits {
            return Err(Mismatch::NotFinite(element));
        }
        let allowed = match tolerance {
            Tolerance::Bits | Tolerance::Nmse(_) => 0.0,
            Tolerance::Absolute(bound) => bound,
            Tolerance::Ulps(ulps) => f64::from(ulps) * spacing,
            Tolerance::Elementwise(bounds) => bounds[index],
        };
        let differs = match tolerance {
            Tolerance::Bits => expected.to_bits() != got.to_bits() && !(expected.is_nan() && got.is_nan()),
            _ => error > allowed || allowed.is_nan(),
        };
        failing += usize::from(differs);
        let share = share(error, allowed, differs);
        if worst.is_none_or(|(most, ..)| share > most) {
            worst = Some((share, element, allowed));
        }
        if error.is_finite() && expected.is_finite() {
            error_energy += error * error;
            energy += expected * expected;
        }
    }
    let nmse = if error_energy == 0.0 { 0.0 } else { error_energy / energy };
    match (tolerance, worst) {
        (Tolerance::Nmse(allowed), Some((_, worst, _))) if nmse > allowed || nmse.is_nan() => {
            Err(Mismatch::Nmse { nmse, allowed, worst })
        }
        (Tolerance::Nmse(allowed), Some((_, worst, _))) => {
            Ok(Report { len, worst: Some(worst), worst_share: share(nmse, allowed, false), nmse })
        }
        (_, Some((_, worst, allowed))) if failing > 0 => {
            Err(Mismatch::Elements { failing, len, worst, allowed })
        }
        (_, Some((worst_share, worst, _))) => Ok(Report { len, worst: Some(worst), worst_share, nmse }),
        (_, None) => Ok(Report { len, worst: None, worst_share: 0.0, nmse }),
    }
}

/// The distance; 0 for equal infinities and for two NaNs, infinite when only one side is finite.
fn error(expected: f64, got: f64) -> f64 {
    if expected == got || (expected.is_nan() && got.is_nan()) {
        0.0
    } else if expected.is_finite() && got.is_finite() {
        (expected - got).abs()
    } else {
        f64::INFINITY
    }
}

/// The error as a share of its bound. With a bound of 0 the error itself orders the failures.
fn share(error: f64, allowed: f64, differs: bool) -> f64 {
    match (error == 0.0, allowed == 0.0) {
        (true, _) => f64::from(u8::from(differs)) * f64::MIN_POSITIVE,
        (false, true) => error,
        (false, false) => error / allowed,
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn bits_tell_signed_zeros_apart_but_not_nans() {
        assert!(compare(&[0.0_f32, f32::NAN], &[0.0_f32, -f32::NAN], Tolerance::Bits).is_ok());
        let found = compare(&[1.0_f32, 0.0], &[1.0_f32, -0.0], Tolerance::Bits).unwrap_err();
        assert!(
            matches!(found, Mismatch::Elements { failing: 1, worst: Element { index: 1, .. }, .. }),
            "{found}"
        );
    }

    #[test]
    fn one_sided_nan_or_infinity_fails_under_every_tolerance() {
        let bounds = [f64::INFINITY];
        let every =
            [Tolerance::Bits, Tolerance::Absolute(1e300), Tolerance::Ulps(u32::MAX), Tolerance::Nmse(1e300)];
        for tolerance in every.into_iter().chain([Tolerance::Elementwise(&bounds)]) {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert!(compare(&[1.0_f32], &[bad], tolerance).is_err(), "{tolerance:?} {bad}");
                assert!(compare(&[bad], &[1.0_f32], tolerance).is_err(), "{tolerance:?} {bad}");
            }
            assert!(compare(&[f32::INFINITY], &[f32::NEG_INFINITY], tolerance).is_err(), "{tolerance:?}");
            assert!(compare(&[f32::INFINITY], &[f32::INFINITY], tolerance).is_ok(), "{tolerance:?}");
        }
    }

    #[test]
    fn each_tolerance_fails_just_outside_and_names_the_worst() {
        let expected = [1.0_f32, 2.0, 4.0];
        let got = [1.0_f32, 2.0 + 2.0 * f32::EPSILON, 4.0 + 12.0 * f32::EPSILON];
        assert!(compare(&expected, &got, Tolerance::Ulps(3)).is_ok());
        let found = compare(&expected, &got, Tolerance::Ulps(2)).unwrap_err();
        let Mismatch::Elements { failing: 1, len: 3, worst, .. } = found else { panic!("{found}") };
        assert_eq!((worst.index, worst.ulps), (2, 3.0));
        assert!(compare(&expected, &got, Tolerance::Absolute(12.0 * f64::from(f32::EPSILON))).is_ok());
        assert!(compare(&expected, &got, Tolerance::Absolute(11.9 * f64::from(f32::EPSILON))).is_err());
        let bounds = [0.0, 1.0, 1.0];
        assert!(compare(&expected, &got, Tolerance::Elementwise(&bounds)).is_ok());
        assert!(compare(&[1.1_f32, 2.0, 4.0], &got, Tolerance::Elementwise(&bounds)).is_err());
        assert!(compare(&expected, &got, Tolerance::Elementwise(&bounds[..2])).is_err());
        let nmse = compare(&expected, &got, Tolerance::Nmse(1.0)).unwrap().nmse;
        assert!(compare(&expected, &got, Tolerance::Nmse(nmse)).is_ok());
        assert!(compare(&expected, &got, Tolerance::Nmse(0.99 * nmse)).is_err());
        assert!(compare(&expected, &got[..2], Tolerance::Nmse(1.0)).is_err());
    }

    #[test]
    fn ulps_are_those_of_the_type_that_was_computed() {
        let report = compare(&[1.0_f64], &[bf16::from_f32(1.0 + 1.0 / 128.0)], Tolerance::Ulps(1)).unwrap();
        assert_eq!(report.worst.map(|worst| worst.ulps), Some(1.0));
    }
}
