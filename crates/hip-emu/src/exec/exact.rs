//! Exact numbers, rounded once: what an operation gives in the roundings that the host does not compute in.

use crate::exec::mode::Precision;

/// Where a result goes that lies between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    NearestEven,
    /// Towards positive infinity.
    Up,
    /// Towards negative infinity.
    Down,
    TowardsZero,
}

/// A binary interchange format of IEEE 754.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Explicit bits of the significand.
    pub(super) fraction: u32,
    /// Bits of the exponent.
    pub(super) exponent: u32,
}

impl Format {
    pub(super) const BINARY16: Self = Self { fraction: 10, exponent: 5 };
    pub(super) const BINARY32: Self = Self { fraction: 23, exponent: 8 };
    pub(super) const BINARY64: Self = Self { fraction: 52, exponent: 11 };

    /// The fields of `MODE` that it obeys.
    pub(super) const fn precision(self) -> Precision {
        if self.fraction == 23 { Precision::Single } else { Precision::HalfAndDouble }
    }

    const fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    const fn sign(self, negative: bool) -> u64 {
        (negative as u64) << (self.fraction + self.exponent)
    }

    const fn quiet_bit(self) -> u64 {
        1 << (self.fraction - 1)
    }

    /// Weight of the last place of denormals, as a power of two.
    const fn least(self) -> i32 {
        2 - (1 << (self.exponent - 1)) - self.fraction.cast_signed()
    }
}

/// A number as it is before rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Exact {
    /// With its sign, and its payload left-aligned.
    Nan {
        negative: bool,
        payload: u64,
    },
    Infinite {
        negative: bool,
    },
    Zero {
        negative: bool,
    },
    /// `digits * 2^exponent`. The last digit also stands for anything below it: it is then set, far below what formats hold.
    Finite {
        negative: bool,
        exponent: i32,
        digits: u128,
    },
}

/// Bit that normalised digits begin at: a sum of two fits.
const TOP: u32 = 125;

impl Exact {
    pub(super) const ZERO: Self = Self::Zero { negative: false };
    pub(super) const NAN: Self = Self::Nan { negative: false, payload: 1 << 63 };

    /// The number that bits of a format stand for.
    pub(super) const fn read(format: Format, bits: u64) -> Self {
        let negative = bits & format.sign(true) != 0;
        let magnitude = bits & (format.sign(true) - 1);
        let fraction = magnitude & ((1 << format.fraction) - 1);
        #[expect(clippy::cast_possible_truncation, reason = "exponents have at most 11 bits")]
        let biased = (magnitude >> format.fraction) as u32;
        if magnitude > format.infinity() {
            // Whoever computes with a NaN gives a quiet one.
            Self::Nan { negative, payload: (fraction | format.quiet_bit()) << (64 - format.fraction) }
        } else if magnitude == format.infinity() {
            Self::Infinite { negative }
        } else if magnitude == 0 {
            Self::Zero { negative }
        } else if biased == 0 {
            Self::Finite { negative, exponent: format.least(), digits: fraction as u128 }
        } else {
            let exponent = format.least() + biased.cast_signed() - 1;
            Self::Finite { negative, exponent, digits: (fraction | 1 << format.fraction) as u128 }
        }
    }

    pub(super) const fn integer(value: i64) -> Self {
        if value == 0 {
            return Self::ZERO;
        }
        Self::Finite { negative: value < 0, exponent: 0, digits: value.unsigned_abs() as u128 }
    }

    pub(super) const fn is_negative(self) -> bool {
        match self {
            Self::Nan { negative, .. }
            | Self::Infinite { negative }
            | Self::Zero { negative }
            | Self::Finite { negative, .. } => negative,
        }
    }

    pub(super) const fn is_zero(self) -> bool {
        matches!(self, Self::Zero { .. })
    }

    pub(super) const fn negated(self) -> Self {
        match self {
            Self::Nan { negative, payload } => Self::Nan { negative: !negative, payload },
            Self::Infinite { negative } => Self::Infinite { negative: !negative },
            Self::Zero { negative } => Self::Zero { negative: !negative },
            Self::Finite { negative, exponent, digits } => {
                Self::Finite { negative: !negative, exponent, digits }
            }
        }
    }

    /// The product, exact for factors of at most 53 digits.
    pub(super) const fn times(self, other: Self) -> Self {
        let negative = self.is_negative() != other.is_negative();
        match (self, other) {
            (Self::Nan { .. }, _) => self,
            (_, Self::Nan { .. }) => other,
            (Self::Infinite { .. }, Self::Zero { .. }) | (Self::Zero { .. }, Self::Infinite { .. }) => {
                Self::NAN
            }
            (Self::Infinite { .. }, _) | (_, Self::Infinite { .. }) => Self::Infinite { negative },
            (Self::Zero { .. }, _) | (_, Self::Zero { .. }) => Self::Zero { negative },
            (
                Self::Finite { exponent, digits, .. },
                Self::Finite { exponent: other_exponent, digits: other_digits, .. },
            ) => {
                Self::Finite { negative, exponent: exponent + other_exponent, digits: digits * other_digits }
            }
        }
    }

    /// `self * 2^exponent`.
    pub(super) fn scaled(self, by: i32) -> Self {
        match self {
            Self::Finite { negative, exponent, digits } => {
                Self::Finite { negative, exponent: exponent.saturating_add(by.clamp(-4096, 4096)), digits }
            }
            other => other,
        }
    }

    /// The sum. The sign of a zero that opposite numbers give depends on the rounding.
    pub(super) fn plus(self, other: Self, rounding: Rounding) -> Self {
        let cancelled = Self::Zero { negative: rounding == Rounding::Down };
        match (self, other) {
            (Self::Nan { .. }, _) => self,
            (_, Self::Nan { .. }) => other,
            (Self::Infinite { negative }, Self::Infinite { negative: other_negative }) => {
                if negative == other_negative { self } else { Self::NAN }
            }
            (Self::Infinite { .. }, _) => self,
            (_, Self::Infinite { .. }) => other,
            (Self::Zero { negative }, Self::Zero { negative: other_negative }) => {
                if negative == other_negative { self } else { cancelled }
            }
            (Self::Zero { .. }, _) => other,
            (_, Self::Zero { .. }) => self,
            (
                Self::Finite { negative, exponent, digits },
                Self::Finite { negative: other_negative, exponent: other_exponent, digits: other_digits },
            ) => {
                let (one, two) = (normalised(exponent, digits), normalised(other_exponent, other_digits));
                let (large, small, negative, opposite) = if one >= two {
                    (one, two, negative, negative != other_negative)
                } else {
                    (two, one, other_negative, negative != other_negative)
                };
                let shifted = jammed(small.1, large.0.abs_diff(small.0));
                let digits = if opposite { large.1 - shifted } else { large.1 + shifted };
                if digits == 0 { cancelled } else { Self::Finite { negative, exponent: large.0, digits } }
            }
        }
    }

    /// The nearest number of a format in the direction of `rounding`; denormals are kept.
    pub(super) fn round(self, format: Format, rounding: Rounding) -> u64 {
        let (negative, exponent, digits) = match self {
            Self::Nan { negative, payload } => {
                let payload = payload >> (64 - format.fraction) | format.quiet_bit();
                return format.sign(negative) | format.infinity() | payload;
            }
            Self::Infinite { negative } => return format.sign(negative) | format.infinity(),
            Self::Zero { negative } => return format.sign(negative),
            Self::Finite { negative, exponent, digits } => (negative, exponent, digits),
        };
        let away = match rounding {
            Rounding::NearestEven | Rounding::TowardsZero => false,
            Rounding::Up => !negative,
            Rounding::Down => negative,
        };
        let (exponent, digits) = normalised(exponent, digits);
        // Weight of the result's last place.
        let place = (exponent + TOP.cast_signed() - format.fraction.cast_signed()).max(format.least());
        let shift = place.abs_diff(exponent).min(TOP + 2);
        let (kept, rest) = (digits >> shift, digits & ((1 << shift) - 1));
        let half = 1_u128 << (shift - 1);
        let up = match rounding {
            Rounding::NearestEven => rest > half || (rest == half && kept & 1 != 0),
            _ => away && rest != 0,
        };
        let steps = u64::from(place.abs_diff(format.least()).min(1 << format.exponent));
        let magnitude = (steps << format.fraction) + low64(kept) + u64::from(up);
        let largest = format.infinity() - 1;
        let to_infinity = away || rounding == Rounding::NearestEven;
        format.sign(negative)
            | if magnitude <= largest {
                magnitude
            } else if to_infinity {
                format.infinity()
            } else {
                largest
            }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what is kept has at most 53 bits")]
const fn low64(digits: u128) -> u64 {
    digits as u64
}

/// The same number with its first digit at [`TOP`].
fn normalised(exponent: i32, digits: u128) -> (i32, u128) {
    match digits.leading_zeros().checked_sub(127 - TOP) {
        Some(zeros) => (exponent - zeros.cast_signed(), digits << zeros),
        // A sum that carried.
        None => (exponent + 1, jammed(digits, 1)),
    }
}

/// Shifted right; what falls off is told by the last digit.
fn jammed(digits: u128, shift: u32) -> u128 {
    if shift > TOP {
        return 1;
    }
    digits >> shift | u128::from(digits & ((1 << shift) - 1) != 0)
}
