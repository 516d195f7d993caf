//! Numbers between the command line's text and the card's bytes.

use std::str::FromStr;

use half::{bf16, f16};
use serde_json::{Number, Value};

/// Type of a scalar, or of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    Bf16,
    F32,
    F64,
}

/// All of them, by name.
const ELEMENTS: [(&str, Element); 12] = [
    ("i8", Element::I8),
    ("u8", Element::U8),
    ("i16", Element::I16),
    ("u16", Element::U16),
    ("i32", Element::I32),
    ("u32", Element::U32),
    ("i64", Element::I64),
    ("u64", Element::U64),
    ("f16", Element::F16),
    ("bf16", Element::Bf16),
    ("f32", Element::F32),
    ("f64", Element::F64),
];

impl FromStr for Element {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        ELEMENTS.iter().find(|(known, _)| *known == name).map(|(_, element)| *element).ok_or(())
    }
}

impl Element {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        ELEMENTS.iter().find(|(_, element)| *element == self).map_or("", |(name, _)| name)
    }

    /// Bytes.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Appends a number's bytes; `None` when the text is none of this type.
    pub(super) fn append(self, text: &str, bytes: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::I8 => bytes.extend(integer::<i8>(text)?.to_le_bytes()),
            Self::U8 => bytes.extend(integer::<u8>(text)?.to_le_bytes()),
            Self::I16 => bytes.extend(integer::<i16>(text)?.to_le_bytes()),
            Self::U16 => bytes.extend(integer::<u16>(text)?.to_le_bytes()),
            Self::I32 => bytes.extend(integer::<i32>(text)?.to_le_bytes()),
            Self::U32 => bytes.extend(integer::<u32>(text)?.to_le_bytes()),
            Self::I64 => bytes.extend(integer::<i64>(text)?.to_le_bytes()),
            Self::U64 => bytes.extend(integer::<u64>(text)?.to_le_bytes()),
            Self::F16 => bytes.extend(f16::from_f64(text.parse().ok()?).to_le_bytes()),
            Self::Bf16 => bytes.extend(bf16::from_f64(text.parse().ok()?).to_le_bytes()),
            Self::F32 => bytes.extend(text.parse::<f32>().ok()?.to_le_bytes()),
            Self::F64 => bytes.extend(text.parse::<f64>().ok()?.to_le_bytes()),
        }
        Some(())
    }

    /// The shortest text that gives the number again; bytes that are missing are zero.
    pub(super) fn text(self, bytes: &[u8]) -> String {
        match self {
            Self::I8 => i8::from_le_bytes(padded(bytes)).to_string(),
            Self::U8 => u8::from_le_bytes(padded(bytes)).to_string(),
            Self::I16 => i16::from_le_bytes(padded(bytes)).to_string(),
            Self::U16 => u16::from_le_bytes(padded(bytes)).to_string(),
            Self::I32 => i32::from_le_bytes(padded(bytes)).to_string(),
            Self::U32 => u32::from_le_bytes(padded(bytes)).to_string(),
            Self::I64 => i64::from_le_bytes(padded(bytes)).to_string(),
            Self::U64 => u64::from_le_bytes(padded(bytes)).to_string(),
            Self::F16 => format!("{:?}", f16::from_le_bytes(padded(bytes)).to_f32()),
            Self::Bf16 => format!("{:?}", bf16::from_le_bytes(padded(bytes)).to_f32()),
            Self::F32 => format!("{:?}", f32::from_le_bytes(padded(bytes))),
            Self::F64 => format!("{:?}", f64::from_le_bytes(padded(bytes))),
        }
    }

    /// The number in JSON, which has none for infinities and NaN: they are text.
    pub(super) fn json(self, bytes: &[u8]) -> Value {
        let text = self.text(bytes);
        text.parse::<Number>().map_or(Value::String(text), Value::Number)
    }
}

/// A whole number, in decimal or after `0x` in hexadecimal.
fn integer<T: TryFrom<i128>>(text: &str) -> Option<T> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => i128::from(u64::from_str_radix(digits, 16).ok()?),
        None => text.parse().ok()?,
    };
    T::try_from(number).ok()
}

fn padded<const BYTES: usize>(bytes: &[u8]) -> [u8; BYTES] {
    let mut array = [0; BYTES];
    for (place, byte) in array.iter_mut().zip(bytes) {
        *place = *byte;
    }
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(element: &str, text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        element.parse::<Element>().ok()?.append(text, &mut bytes)?;
        Some(bytes)
    }

    #[test]
    fn every_type_reads_what_it_prints() {
        for (name, element) in ELEMENTS {
            assert_eq!(element.name(), name);
            for number in ["0", "1", "5", "100"] {
                let bytes = bytes(name, number).unwrap();
                assert_eq!(bytes.len(), element.size(), "{name}");
                assert_eq!(element.text(&bytes).trim_end_matches(".0"), number, "{name}");
            }
        }
        assert_eq!(bytes("f16", "1.5"), Some(vec![0x00, 0x3e]));
        assert_eq!(bytes("bf16", "-1.5"), Some(vec![0xc0, 0xbf]));
        assert_eq!(bytes("u32", "0xdeadBEEF"), Some(vec![0xef, 0xbe, 0xad, 0xde]));
        assert_eq!(bytes("i64", "-2"), Some([&[0xfe][..], &[0xff; 7]].concat()));
    }

    #[test]
    fn a_number_out_of_range_is_refused() {
        let wrong =
            [("i8", "128"), ("u8", "-1"), ("u32", "4294967296"), ("i32", "1.0"), ("f32", "one"), ("u64", "")];
        for (name, text) in wrong {
            assert_eq!(bytes(name, text), None, "{name}:{text}");
        }
        assert_eq!("f8".parse::<Element>(), Err(()));
    }

    #[test]
    fn json_keeps_what_it_has_no_number_for_as_text() {
        assert_eq!(Element::F32.json(&0.1_f32.to_le_bytes()).to_string(), "0.1");
        assert_eq!(Element::F32.json(&[0xff; 4]), "NaN");
        assert_eq!(Element::F64.json(&f64::NEG_INFINITY.to_le_bytes()), "-inf");
        assert_eq!(Element::U64.json(&[0xff; 8]).to_string(), u64::MAX.to_string());
    }
}
