//! Formats of buffer elements (RDNA3 ISA, "Buffer image formats"; LLVM's names and numbers).

use crate::exec::float::{F16, half_word};

/// What the bits of a component stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// From 0 to 1.
    Unorm,
    /// From -1 to 1.
    Snorm,
    /// Whole numbers that are read as floats.
    Uscaled,
    Sscaled,
    Uint,
    Sint,
    Float,
}

/// A format: bits of each component from the lowest on, and what they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) bits: &'static [u32],
    pub(super) numbers: Numbers,
}

impl Format {
    /// The format of a number in a descriptor or an instruction; `None` for those that mean none.
    pub(super) fn of(code: u32) -> Option<Self> {
        use Numbers::{Float, Sint, Snorm, Sscaled, Uint, Unorm, Uscaled};
        const NORMS_AND_INTS: [Numbers; 7] = [Unorm, Snorm, Uscaled, Sscaled, Uint, Sint, Float];
        const WORDS: [Numbers; 3] = [Uint, Sint, Float];
        const FLOAT: [Numbers; 1] = [Float];
        const UNSCALED: [Numbers; 4] = [Unorm, Snorm, Uint, Sint];
        let (first, bits, numbers): (u32, &[u32], &[Numbers]) = match code {
            1..=6 => (1, &[8], &NORMS_AND_INTS),
            7..=13 => (7, &[16], &NORMS_AND_INTS),
            14..=19 => (14, &[8, 8], &NORMS_AND_INTS),
            20..=22 => (20, &[32], &WORDS),
            23..=29 => (23, &[16, 16], &NORMS_AND_INTS),
            30 => (30, &[11, 11, 10], &FLOAT),
            31 => (31, &[10, 11, 11], &FLOAT),
            32..=35 => (32, &[2, 10, 10, 10], &UNSCALED),
            36..=41 => (36, &[10, 10, 10, 2], &NORMS_AND_INTS),
            42..=47 => (42, &[8, 8, 8, 8], &NORMS_AND_INTS),
            48..=50 => (48, &[32, 32], &WORDS),
            51..=57 => (51, &[16, 16, 16, 16], &NORMS_AND_INTS),
            58..=60 => (58, &[32, 32, 32], &WORDS),
            61..=63 => (61, &[32, 32, 32, 32], &WORDS),
            _ => return None,
        };
        let numbers = *numbers.get(usize::try_from(code - first).ok()?)?;
        Some(Self { bits, numbers })
    }

    /// Bytes of an element.
    pub(super) fn bytes(self) -> u8 {
        u8::try_from(self.bits.iter().sum::<u32>() / 8).unwrap_or(16)
    }

    /// Whether registers hold integers, not floats.
    pub(super) const fn is_integer(self) -> bool {
        matches!(self.numbers, Numbers::Uint | Numbers::Sint)
    }

    /// One, as a register holds it.
    pub(super) const fn one(self) -> u32 {
        if self.is_integer() { 1 } else { 1_f32.to_bits() }
    }

    /// The components of an element as 32-bit registers hold them; those that the format lacks are 0, 0, 0 and 1.
    pub(super) fn read(self, element: u128) -> [u32; 4] {
        let mut components = [0, 0, 0, self.one()];
        let mut at = 0;
        for (component, &width) in components.iter_mut().zip(self.bits) {
            let bits = low32(element >> at) & mask(width);
            *component = self.component(bits, width);
            at += width;
        }
        components
    }

    fn component(self, bits: u32, width: u32) -> u32 {
        let signed = (bits << (32 - width)).cast_signed() >> (32 - width);
        let value = match self.numbers {
            Numbers::Uint => return bits,
            Numbers::Sint => return signed.cast_unsigned(),
            Numbers::Unorm => narrow(f64::from(bits) / f64::from(mask(width))),
            Numbers::Snorm => narrow((f64::from(signed) / f64::from(mask(width - 1))).max(-1.0)),
            Numbers::Uscaled => narrow(f64::from(bits)),
            Numbers::Sscaled => narrow(f64::from(signed)),
            Numbers::Float if width == 32 => return bits,
            // Below 16 bits there is no sign; the exponent is binary16's.
            Numbers::Float if width < 16 => F16(half_word(u64::from(bits << (15 - width)))).to_f32(),
            Numbers::Float => F16(half_word(u64::from(bits))).to_f32(),
        };
        value.to_bits()
    }

    /// The element of components that 32-bit registers hold. `None` where it is not specified what hardware stores: integers
    /// out of range, scaled numbers, and floats of 10 or 11 bits that are not exact.
    pub(super) fn write(self, components: [u32; 4]) -> Option<u128> {
        let (mut element, mut at) = (0, 0);
        for (component, &width) in components.into_iter().zip(self.bits) {
            element |= u128::from(self.packed(component, width)?) << at;
            at += width;
        }
        Some(element)
    }

    fn packed(self, component: u32, width: u32) -> Option<u32> {
        let value = f64::from(f32::from_bits(component));
        let whole = |scaled: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "it lies in the range of the component")]
            let whole = scaled.round_ties_even() as i32;
            whole.cast_unsigned() & mask(width)
        };
        match self.numbers {
            Numbers::Uint => (component <= mask(width)).then_some(component),
            Numbers::Sint => {
                let above = 32 - width;
                let fits = (component << above).cast_signed() >> above == component.cast_signed();
                fits.then_some(component & mask(width))
            }
            Numbers::Unorm if value.is_nan() => Some(0),
            Numbers::Snorm if value.is_nan() => Some(0),
            Numbers::Unorm => Some(whole(value.clamp(0.0, 1.0) * f64::from(mask(width)))),
            Numbers::Snorm => Some(whole(value.clamp(-1.0, 1.0) * f64::from(mask(width - 1)))),
            Numbers::Uscaled | Numbers::Sscaled => None,
            Numbers::Float if width == 32 => Some(component),
            Numbers::Float if width == 16 => Some(F16::from_f64(value).0.into()),
            Numbers::Float => {
                let half = F16::from_f64(value);
                let exact = f64::from(half.to_f32()) == value && half.0 & (mask16(15 - width) | 0x8000) == 0;
                exact.then_some(u32::from(half.0 >> (15 - width)))
            }
        }
    }

    /// A component in 16 bits: a binary16 number, rounded to nearest even, or an integer that must fit.
    pub(super) fn halved(self, component: u32) -> Option<u16> {
        match self.numbers {
            Numbers::Uint => u16::try_from(component).ok(),
            Numbers::Sint => i16::try_from(component.cast_signed()).ok().map(i16::cast_unsigned),
            _ => Some(F16::from_f32(f32::from_bits(component)).0),
        }
    }

    /// The component that 16 bits of a register stand for.
    pub(super) fn widened(self, half: u16) -> u32 {
        match self.numbers {
            Numbers::Uint => half.into(),
            Numbers::Sint => i32::from(half.cast_signed()).cast_unsigned(),
            _ => F16(half).to_f32().to_bits(),
        }
    }
}

const fn mask(width: u32) -> u32 {
    u32::MAX >> (32 - width)
}

const fn mask16(width: u32) -> u16 {
    (1 << width) - 1
}

#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
const fn low32(element: u128) -> u32 {
    element as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the rounding is meant")]
fn narrow(value: f64) -> f32 {
    value as f32
}
