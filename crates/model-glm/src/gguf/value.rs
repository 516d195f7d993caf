//! Values of the metadata. Texts and arrays stay in the file.

use super::GgufError;
use super::cursor::Cursor;

/// A metadata value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// Type 0.
    U8(u8),
    /// Type 1.
    I8(i8),
    /// Type 2.
    U16(u16),
    /// Type 3.
    I16(i16),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 6.
    F32(f32),
    /// Type 7.
    Bool(bool),
    /// Type 8.
    Str(&'a str),
    /// Type 9.
    Array(Array<'a>),
    /// Type 10.
    U64(u64),
    /// Type 11.
    I64(i64),
    /// Type 12.
    F64(f64),
}

/// An array in the file, whose elements were checked when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array<'a> {
    element: ValueType,
    len: usize,
    bytes: &'a [u8],
}

/// The types of values, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the value of its name")]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

/// Levels of arrays in arrays. No published key has more than one.
pub(super) const MAX_DEPTH: usize = 8;

const TYPES: [ValueType; 13] = [
    ValueType::U8,
    ValueType::I8,
    ValueType::U16,
    ValueType::I16,
    ValueType::U32,
    ValueType::I32,
    ValueType::F32,
    ValueType::Bool,
    ValueType::Str,
    ValueType::Array,
    ValueType::U64,
    ValueType::I64,
    ValueType::F64,
];

impl ValueType {
    /// The type of a number in the file.
    pub fn from_number(number: u32) -> Option<ValueType> {
        TYPES.get(usize::try_from(number).ok()?).copied()
    }

    /// The type's name, as GGUF's description has it.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::Str => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    /// The fewest bytes that a value takes.
    fn least_bytes(self) -> u64 {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 | ValueType::Str => 8,
            ValueType::Array => 12,
        }
    }
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&'a str> {
        if let Value::Str(text) = self { Some(text) } else { None }
    }

    /// The whole number, if it is one.
    pub fn as_i128(&self) -> Option<i128> {
        match *self {
            Value::U8(value) => Some(value.into()),
            Value::I8(value) => Some(value.into()),
            Value::U16(value) => Some(value.into()),
            Value::I16(value) => Some(value.into()),
            Value::U32(value) => Some(value.into()),
            Value::I32(value) => Some(value.into()),
            Value::U64(value) => Some(value.into()),
            Value::I64(value) => Some(value.into()),
            _ => None,
        }
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<Array<'a>> {
        if let Value::Array(array) = self { Some(*array) } else { None }
    }

    /// The value of `key` at the cursor.
    pub(super) fn read(key: &str, cursor: &mut Cursor<'a>) -> Result<Value<'a>, GgufError> {
        let value_type = read_type(key, cursor)?;
        read_as(value_type, key, cursor, 0)
    }
}

impl<'a> Array<'a> {
    /// The type of all elements.
    pub fn element_type(&self) -> ValueType {
        self.element
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (element, mut cursor) = (self.element, Cursor::new(self.bytes));
        // They were read once already, so none fails; an end before the last one would only cut the list.
        (0..self.len).map_while(move |_| read_as(element, "", &mut cursor, 0).ok())
    }

    /// The elements in order, if they are texts.
    pub fn strings(&self) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
        (self.element == ValueType::Str).then(|| self.iter().filter_map(|value| value.as_str()))
    }
}

fn read_type(key: &str, cursor: &mut Cursor<'_>) -> Result<ValueType, GgufError> {
    let found = cursor.u32("the type of a value")?;
    ValueType::from_number(found).ok_or_else(|| GgufError::ValueType { key: key.to_owned(), found })
}

fn read_as<'a>(
    value_type: ValueType,
    key: &str,
    cursor: &mut Cursor<'a>,
    depth: usize,
) -> Result<Value<'a>, GgufError> {
    const WHAT: &str = "a value";
    Ok(match value_type {
        ValueType::U8 => Value::U8(cursor.u8(WHAT)?),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::U32 => Value::U32(cursor.u32(WHAT)?),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::Bool => match cursor.u8(WHAT)? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            found => return Err(GgufError::Bool { key: key.to_owned(), found }),
        },
        ValueType::Str => Value::Str(read_text(key, cursor)?),
        ValueType::Array => Value::Array(read_array(key, cursor, depth)?),
        ValueType::U64 => Value::U64(cursor.u64(WHAT)?),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(WHAT)?)),
    })
}

fn read_text<'a>(key: &str, cursor: &mut Cursor<'a>) -> Result<&'a str, GgufError> {
    let length = cursor.u64("the length of a text")?;
    let left = cursor.left();
    let bytes = cursor.take(length);
    let bytes = bytes.ok_or_else(|| GgufError::StringLength { key: key.to_owned(), length, left })?;
    std::str::from_utf8(bytes).map_err(|_| GgufError::StringNotUtf8 { key: key.to_owned() })
}

fn read_array<'a>(key: &str, cursor: &mut Cursor<'a>, depth: usize) -> Result<Array<'a>, GgufError> {
    if depth == MAX_DEPTH {
        return Err(GgufError::ArrayDepth { key: key.to_owned(), most: MAX_DEPTH });
    }
    let element = read_type(key, cursor)?;
    let count = cursor.u64("the length of an array")?;
    let left = cursor.left();
    let too_long = || GgufError::ArrayLength { key: key.to_owned(), count, left };
    let least = count.checked_mul(element.least_bytes()).filter(|&least| least <= left as u64);
    let (least, len) = least.zip(usize::try_from(count).ok()).ok_or_else(too_long)?;
    let mut rest = cursor.clone();
    match element {
        // Their elements have lengths or rules of their own.
        ValueType::Str | ValueType::Array | ValueType::Bool => {
            for _ in 0..count {
                read_as(element, key, &mut rest, depth + 1)?;
            }
        }
        _ => {
            rest.take(least).ok_or_else(too_long)?;
        }
    }
    let bytes = cursor.take((rest.position() - cursor.position()) as u64).ok_or_else(too_long)?;
    Ok(Array { element, len, bytes })
}
