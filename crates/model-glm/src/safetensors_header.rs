//! The header of a safetensors file, taken only if every reader takes it for the same.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

/// What is wrong with the header of a safetensors file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file ends before the header's length does.
    #[error("the file has {found} bytes, and the length of its header alone has 8")]
    NoHeader {
        /// Bytes of the file.
        found: usize,
    },
    /// The header's length cannot be true.
    #[error("the header claims {claimed} bytes where {left} are left; it has at least 2 and at most {most}")]
    HeaderLength {
        /// As the file says.
        claimed: u64,
        /// Bytes behind the length.
        left: usize,
        /// Of any header.
        most: u64,
    },
    /// The header is no text.
    #[error("the header is no UTF-8 from its byte {at} on")]
    NotUtf8 {
        /// Counted from the header's start.
        at: usize,
    },
    /// The header begins with something else than an object.
    #[error("the header begins with {found:?} where a brace is expected")]
    Start {
        /// Its first character.
        found: Option<char>,
    },
    /// The header is no JSON of the form that it should have.
    #[error("the header cannot be read")]
    Json(#[source] serde_json::Error),
    /// A tensor's name could be taken for something else.
    #[error("tensor {name:?} has a name that is empty, holds a control character or leads to another folder")]
    Name {
        /// The name.
        name: String,
    },
    /// A tensor has more dimensions than any has.
    #[error("tensor {tensor} has {found} dimensions; at most {most} are read")]
    Rank {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        found: usize,
        /// Of any tensor.
        most: usize,
    },
    /// A tensor's size is beyond what can be counted.
    #[error("tensor {tensor} of shape {shape:?} has more bits than can be counted")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A tensor of a narrow type ends inside a byte.
    #[error("tensor {tensor} ends inside a byte: it has {bits} bits")]
    PartialByte {
        /// The tensor.
        tensor: String,
        /// Of all its elements.
        bits: u64,
    },
    /// A tensor's bytes end before they start, or outside the file.
    #[error("tensor {tensor} has bytes {start}..{end} of {data}")]
    Offsets {
        /// The tensor.
        tensor: String,
        /// Its first byte, counted from the header's end.
        start: u64,
        /// The byte behind its last.
        end: u64,
        /// Bytes behind the header.
        data: u64,
    },
    /// A tensor's bytes are more or fewer than its shape and type take.
    #[error("tensor {tensor} has {found} bytes where its shape and type take {expected}")]
    Size {
        /// The tensor.
        tensor: String,
        /// By shape and type.
        expected: u64,
        /// By offsets.
        found: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first} and {second} share bytes")]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The other.
        second: String,
    },
    /// Bytes before a tensor, or behind the last, belong to none: another file may hide there.
    #[error("bytes {start}..{end} behind the header belong to no tensor")]
    Unclaimed {
        /// The first of them, counted from the header's end.
        start: u64,
        /// The byte behind them.
        end: u64,
    },
}

/// Longer ones the format forbids.
const MAX_HEADER: u64 = 100_000_000;
/// Of any tensor; those of models have 4 at most.
const MAX_RANK: usize = 64;
/// Bytes of the header's length, which stand before it.
const LENGTH: usize = 8;

/// One tensor of a header. Its bytes are known to lie in the file, and to be its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    /// From the header's end on.
    data_offsets: (u64, u64),
}

/// A header that holds together.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) tensors: BTreeMap<String, Entry>,
    /// Where the tensors' bytes begin in the file.
    data: u64,
}

impl Header {
    /// Reads the header of a whole file's `bytes`. It is copied first: a mapped file may change under the reader.
    pub(crate) fn read(bytes: &[u8]) -> Result<Header, SafetensorsError> {
        let (length, rest) =
            bytes.split_first_chunk().ok_or(SafetensorsError::NoHeader { found: bytes.len() })?;
        let claimed = u64::from_le_bytes(*length);
        let lie = || SafetensorsError::HeaderLength { claimed, left: rest.len(), most: MAX_HEADER };
        let length = usize::try_from(claimed).ok().filter(|_| (2..=MAX_HEADER).contains(&claimed));
        let text = length.and_then(|length| rest.get(..length)).ok_or_else(lie)?.to_vec();
        let text = String::from_utf8(text)
            .map_err(|error| SafetensorsError::NotUtf8 { at: error.utf8_error().valid_up_to() })?;
        if !text.starts_with('{') {
            return Err(SafetensorsError::Start { found: text.chars().next() });
        }
        let Tensors(tensors) = serde_json::from_str(&text).map_err(SafetensorsError::Json)?;
        let header = Header { tensors, data: LENGTH as u64 + claimed };
        header.validate(rest.len() as u64 - claimed)?;
        Ok(header)
    }

    /// The bytes of one of its tensors in the file.
    pub(crate) fn place(&self, entry: &Entry) -> std::ops::Range<usize> {
        // They were found to lie in a file in memory.
        let at = |offset: u64| usize::try_from(self.data + offset).unwrap_or(usize::MAX);
        at(entry.data_offsets.0)..at(entry.data_offsets.1)
    }

    /// Fails unless each of the `data` bytes behind the header belongs to one tensor.
    fn validate(&self, data: u64) -> Result<(), SafetensorsError> {
        for (name, entry) in &self.tensors {
            entry.validate(name, data)?;
        }
        let mut in_order: Vec<_> = self.tensors.iter().collect();
        in_order.sort_by_key(|(_, entry)| entry.data_offsets);
        let (mut end, mut before) = (0, "");
        for (name, entry) in in_order {
            let (start, next) = entry.data_offsets;
            if start < end {
                return Err(SafetensorsError::Overlap { first: before.to_owned(), second: name.clone() });
            }
            if start > end {
                return Err(SafetensorsError::Unclaimed { start: end, end: start });
            }
            (end, before) = (next, name);
        }
        match end == data {
            true => Ok(()),
            false => Err(SafetensorsError::Unclaimed { start: end, end: data }),
        }
    }
}

impl Entry {
    fn validate(&self, name: &str, data: u64) -> Result<(), SafetensorsError> {
        let tensor = || name.to_owned();
        if name.is_empty()
            || name.contains(char::is_control)
            || name.split(['/', '\\']).any(|part| part == "..")
        {
            return Err(SafetensorsError::Name { name: tensor() });
        }
        if self.shape.len() > MAX_RANK {
            return Err(SafetensorsError::Rank { tensor: tensor(), found: self.shape.len(), most: MAX_RANK });
        }
        let bits =
            self.shape.iter().try_fold(self.dtype.bitsize() as u64, |bits, dim| bits.checked_mul(*dim));
        let bits =
            bits.ok_or_else(|| SafetensorsError::Overflow { tensor: tensor(), shape: self.shape.clone() })?;
        if !bits.is_multiple_of(8) {
            return Err(SafetensorsError::PartialByte { tensor: tensor(), bits });
        }
        let (start, end) = self.data_offsets;
        let found = end.checked_sub(start).filter(|_| end <= data);
        let found = found.ok_or_else(|| SafetensorsError::Offsets { tensor: tensor(), start, end, data })?;
        match found == bits / 8 {
            true => Ok(()),
            false => Err(SafetensorsError::Size { tensor: tensor(), expected: bits / 8, found }),
        }
    }
}

/// The object of a header, in which no name stands twice.
struct Tensors(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TensorsVisitor).map(Tensors)
    }
}

struct TensorsVisitor;

impl<'de> Visitor<'de> for TensorsVisitor {
    type Value = BTreeMap<String, Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let (mut tensors, mut has_metadata) = (BTreeMap::new(), false);
        while let Some(name) = access.next_key::<String>()? {
            let twice = if name == "__metadata__" {
                access.next_value::<Metadata>()?;
                std::mem::replace(&mut has_metadata, true)
            } else {
                let entry: Entry = access
                    .next_value()
                    .map_err(|error| A::Error::custom(format!("tensor {name:?}: {error}")))?;
                tensors.insert(name.clone(), entry).is_some()
            };
            if twice {
                return Err(A::Error::custom(format!("{name:?} stands twice")));
            }
        }
        Ok(tensors)
    }
}

/// Texts by name, which nothing here reads.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Metadata)
    }
}

impl<'de> Visitor<'de> for Metadata {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Metadata, A::Error> {
        let mut names = BTreeMap::<String, IgnoredAny>::new();
        while let Some(name) = access.next_key::<String>()? {
            access.next_value::<Ignored>()?;
            if names.insert(name.clone(), IgnoredAny).is_some() {
                return Err(A::Error::custom(format!("{name:?} of __metadata__ stands twice")));
            }
        }
        Ok(Metadata)
    }
}

/// A text that is not kept.
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Ignored)
    }
}

impl Visitor<'_> for Ignored {
    type Value = Ignored;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, _text: &str) -> Result<Ignored, E> {
        Ok(Ignored)
    }
}
