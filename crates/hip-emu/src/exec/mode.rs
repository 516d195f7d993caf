//! The `MODE` register: rounding, denormals, NaN.

use crate::{
    Arch,
    exec::{exact::Rounding, extremes::Nans},
};

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
    /// No bit of the register: minima and maxima are those of IEEE 754-2019, as on gfx12, which has neither of the bits above and
    /// always clamps NaN to zero.
    const NUMBERS: u32 = 1 << 31;

    /// The mode that a kernel starts in, by the first and second resource words of its descriptor (LLVM's AMDGPU usage guide,
    /// "Code Object V3 Kernel Descriptor").
    pub(super) const fn initial(arch: Arch, resource1: u32, resource2: u32) -> Self {
        let (floats, clamp, ieee) = (resource1 >> 12 & 0xff, resource1 >> 21 & 1, resource1 >> 23 & 1);
        let (overflow, exceptions) = (resource1 >> 26 & 1, resource2 >> 24 & 0x7f);
        let nans = match arch {
            Arch::Gfx12 => Self::NUMBERS | Self::DX10_CLAMP,
            _ => clamp << 8 | ieee << 9,
        };
        Self(floats | nans | exceptions << 12 | overflow << 23)
    }

    /// The register as programs see it.
    pub(super) const fn visible(self) -> u32 {
        if self.0 & Self::NUMBERS == 0 { self.0 } else { self.0 & !(Self::NUMBERS | Self::DX10_CLAMP) }
    }

    /// The mode after a program wrote `value` to the bits of `mask`.
    pub(super) const fn written(self, mask: u32, value: u32) -> Self {
        let kept =
            if self.0 & Self::NUMBERS == 0 { 0 } else { Self::NUMBERS | Self::DX10_CLAMP | Self::IEEE };
        let mask = mask & !kept;
        Self(self.0 & !mask | value & mask)
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

    /// What minima and maxima make of NaNs.
    #[inline(always)]
    pub(super) const fn nans(self) -> Nans {
        if self.0 & Self::NUMBERS != 0 {
            Nans::Numbers
        } else if self.is_ieee() {
            Nans::Signalled
        } else {
            Nans::Passed
        }
    }

    #[inline(always)]
    const fn is_ieee(self) -> bool {
        self.0 & Self::IEEE != 0
    }

    /// Whether output multipliers are applied: hardware ignores them in IEEE mode and where results may be denormal.
    #[inline(always)]
    pub(super) const fn multiplies(self, precision: Precision) -> bool {
        !self.is_ieee() && self.flushes_output(precision)
    }
}
