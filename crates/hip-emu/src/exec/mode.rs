//! The `MODE` register: rounding, denormals, NaN.

use crate::exec::exact::Rounding;

/// Float modes, as the `MODE` register has them (RDNA3 ISA, "Mode register").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

/// Numbers whose modes are set together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// binary32.
    Single,
    /// binary16 and binary64.
    HalfAndDouble,
}

impl Mode {
    const DX10_CLAMP: u32 = 1 << 8;
    const IEEE: u32 = 1 << 9;
    /// Traps on float exceptions, and binary16 overflow to the largest number instead of infinity.
    const UNHONOURED: u32 = 0x1ff << 12 | 1 << 23;

    /// The mode that a kernel starts in, by the first and second resource words of its descriptor (LLVM's AMDGPU usage guide,
    /// "Code Object V3 Kernel Descriptor").
    pub(super) const fn initial(resource1: u32, resource2: u32) -> Self {
        let (floats, clamp, ieee) = (resource1 >> 12 & 0xff, resource1 >> 21 & 1, resource1 >> 23 & 1);
        let (overflow, exceptions) = (resource1 >> 26 & 1, resource2 >> 24 & 0x7f);
        Self(floats | clamp << 8 | ieee << 9 | exceptions << 12 | overflow << 23)
    }

    /// Whether a bit asks for what is not executed.
    pub(super) const fn is_refused(self) -> bool {
        self.0 & Self::UNHONOURED != 0
    }

    /// How results are rounded.
    #[inline(always)]
    pub(super) const fn rounding(self, precision: Precision) -> Rounding {
        let bits = match precision {
            Precision::Single => self.0,
            Precision::HalfAndDouble => self.0 >> 2,
        };
        match bits & 3 {
            0 => Rounding::NearestEven,
            1 => Rounding::Up,
            2 => Rounding::Down,
            _ => Rounding::TowardsZero,
        }
    }

    /// Whether denormal operands are read as zeros.
    #[inline(always)]
    pub(super) const fn flushes_input(self, precision: Precision) -> bool {
        let bit = match precision {
            Precision::Single => 1 << 4,
            Precision::HalfAndDouble => 1 << 6,
        };
        self.0 & bit == 0
    }

    /// Whether denormal results become zeros.
    #[inline(always)]
    pub(super) const fn flushes_output(self, precision: Precision) -> bool {
        let bit = match precision {
            Precision::Single => 1 << 5,
            Precision::HalfAndDouble => 1 << 7,
        };
        self.0 & bit == 0
    }

    /// Whether clamping makes zero of a NaN.
    #[inline(always)]
    pub(super) const fn clamps_nan(self) -> bool {
        self.0 & Self::DX10_CLAMP != 0
    }

    /// Whether signalling NaNs come out of minima and maxima, quieted, as IEEE 754-2008 asks.
    #[inline(always)]
    pub(super) const fn is_ieee(self) -> bool {
        self.0 & Self::IEEE != 0
    }

    /// Whether output multipliers are applied: hardware ignores them in IEEE mode and where results may be denormal.
    #[inline(always)]
    pub(super) const fn multiplies(self, precision: Precision) -> bool {
        !self.is_ieee() && self.flushes_output(precision)
    }
}
