//! GGUF model files, version 2 and 3, little-endian: header, metadata and tensor infos.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  keys u64
//! keys:     length u64, text; type u32; value          (an array: element type u32, length u64, elements)
//! tensors:  length u64, name; rank u32; dims u64 each, innermost first; type u32; offset u64
//! padding to general.alignment (32 unless the metadata say otherwise), then the tensors' bytes at their offsets
//! ```
//!
//! [`convert`] writes a checkpoint folder as one file of version 3, in any [`FileType`].
//!
//! [`Gguf::read`] checks all of it before anything is used, so that no file makes it panic, wait or fill memory: texts and
//! arrays stay in the file, and lists grow as they are read, never to a length that is merely claimed. It takes
//! any metadata and the types of ggml; what a model needs of them is asked for when it is loaded.
//!
//! ```
//! use model_glm::gguf::{Gguf, GgufError, Value};
//!
//! let mut file = b"GGUF\x03\0\0\0".to_vec();
//! file.extend([0_u64, 1].iter().flat_map(|count| count.to_le_bytes()));
//! file.extend(20_u64.to_le_bytes());
//! file.extend(b"general.architecture\x08\0\0\0");
//! file.extend(4_u64.to_le_bytes());
//! file.extend(b"glm4");
//! let gguf = Gguf::read(&file)?;
//! assert_eq!(gguf.get("general.architecture"), Some(Value::Str("glm4")));
//!
//! file.pop();
//! assert!(matches!(Gguf::read(&file), Err(GgufError::StringLength { length: 4, left: 3, .. })));
//! # Ok::<(), GgufError>(())
//! ```

mod config;
mod convert;
mod cursor;
mod error;
mod tensor_type;
mod tensors;
mod tokenizer;
mod value;
mod vocabulary;

use std::collections::HashMap;
use std::path::Path;

use cursor::Cursor;
use device_mem::MappedFile;

use crate::GlmError;

pub(crate) use config::read_config;
pub(crate) use tokenizer::{SPLIT, read_template, read_tokenizer};

pub use convert::{ConvertOptions, Converted, Field, FileType, GgufWriter, Stored, TensorSpec, convert};
pub use error::GgufError;
pub use tensor_type::TensorType;
pub use tensors::TensorInfo;
pub use value::{Array, Value, ValueType};

/// What a GGUF file says of itself. Names and values are lent by the file's bytes.
#[derive(Clone, Debug)]
pub struct Gguf<'a> {
    version: u32,
    alignment: u32,
    metadata: Vec<(&'a str, Value<'a>)>,
    by_key: HashMap<&'a str, usize>,
    tensors: Vec<TensorInfo<'a>>,
    by_name: HashMap<&'a str, usize>,
}

/// What messages call the keys of a file.
pub(crate) const METADATA: &str = "the GGUF metadata";

/// Whether a path leads to a GGUF file, and not to a checkpoint folder. What such a file holds is seen when it is read.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.is_file() || (!path.is_dir() && path.extension().is_some_and(|end| end == "gguf"))
}

/// Maps a file and gives what `read` makes of it.
pub(crate) fn open<T>(
    path: &Path,
    read: impl FnOnce(&Gguf<'_>) -> Result<T, GlmError>,
) -> Result<T, GlmError> {
    let file = MappedFile::open(path)?;
    read(&Gguf::read(file.bytes())?)
}

/// What a GGUF file begins with.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
const BIG_ENDIAN_MAGIC: &[u8; 4] = b"FUGG";
/// What tensors' offsets are multiples of, unless the metadata say otherwise.
const DEFAULT_ALIGNMENT: u32 = 32;
const MAX_ALIGNMENT: u32 = 1 << 20;
const MAX_KEY: u64 = u16::MAX as u64;
/// A length, one letter, a type and a byte.
const LEAST_KEY_BYTES: u64 = 8 + 1 + 4 + 1;

impl<'a> Gguf<'a> {
    /// Reads the header, the metadata and the tensor infos of a whole file's `bytes`.
    ///
    /// # Errors
    /// A [`GgufError`] that names the key or tensor; those of tokens and merges are not among them.
    pub fn read(bytes: &'a [u8]) -> Result<Gguf<'a>, GgufError> {
        let mut cursor = Cursor::new(bytes);
        let version = read_version(bytes, &mut cursor)?;
        let tensor_count = cursor.u64("the number of tensors")?;
        let key_count = cursor.u64("the number of keys")?;
        expect_room(tensor_count, key_count, cursor.left())?;

        let (mut metadata, mut by_key) = (Vec::new(), HashMap::new());
        for index in 0..key_count {
            let key = read_key(index, &mut cursor)?;
            let value = Value::read(key, &mut cursor)?;
            if by_key.insert(key, metadata.len()).is_some() {
                return Err(GgufError::DuplicateKey { key: key.to_owned() });
            }
            metadata.push((key, value));
        }
        let alignment = match by_key.get("general.alignment").and_then(|&at| metadata.get(at)) {
            Some((_, value)) => read_alignment(value)?,
            None => DEFAULT_ALIGNMENT,
        };
        let (tensors, by_name) = tensors::read(&mut cursor, tensor_count, alignment, bytes.len())?;
        Ok(Gguf { version, alignment, metadata, by_key, tensors, by_name })
    }

    /// The format's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the tensors' offsets are multiples of.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// All keys and values, in the order of the file.
    pub fn metadata(&self) -> &[(&'a str, Value<'a>)] {
        &self.metadata
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.by_key.get(key).and_then(|&at| self.metadata.get(at)).map(|(_, value)| *value)
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo<'a>] {
        &self.tensors
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo<'a>> {
        self.by_name.get(name).and_then(|&at| self.tensors.get(at))
    }
}

fn read_version(bytes: &[u8], cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    match cursor.take(MAGIC.len() as u64) {
        Some(magic) if magic == MAGIC => {}
        Some(magic) if magic == BIG_ENDIAN_MAGIC => return Err(GgufError::BigEndian),
        _ => return Err(GgufError::Magic { found: bytes.iter().take(MAGIC.len()).copied().collect() }),
    }
    match cursor.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        // gguf-py keeps the letters and turns the numbers.
        version if matches!(version.swap_bytes(), 1..=3) => Err(GgufError::BigEndian),
        found => Err(GgufError::Version { found }),
    }
}

/// Fails where the counts cannot be true of a file with `left` bytes behind them.
fn expect_room(tensors: u64, keys: u64, left: usize) -> Result<(), GgufError> {
    let most = left as u64 / LEAST_KEY_BYTES;
    if keys > most {
        return Err(GgufError::KeyCount { claimed: keys, most });
    }
    let most = (left as u64 - keys * LEAST_KEY_BYTES) / tensors::LEAST_INFO_BYTES;
    if tensors > most {
        return Err(GgufError::TensorCount { claimed: tensors, most });
    }
    Ok(())
}

fn read_key<'a>(index: u64, cursor: &mut Cursor<'a>) -> Result<&'a str, GgufError> {
    const WHAT: &str = "a key";
    let length = cursor.u64(WHAT)?;
    if !(1..=MAX_KEY).contains(&length) {
        return Err(GgufError::KeyLength { index, length, most: MAX_KEY });
    }
    let bytes = cursor.take(length).ok_or_else(|| cursor.truncated(WHAT, length))?;
    let key = std::str::from_utf8(bytes).map_err(|_| GgufError::KeyNotUtf8 { index })?;
    match key.contains('\0') {
        true => Err(GgufError::KeyHasNul { key: key.to_owned() }),
        false => Ok(key),
    }
}

fn read_alignment(value: &Value<'_>) -> Result<u32, GgufError> {
    let Value::U32(found) = *value else {
        return Err(GgufError::AlignmentType { found: value.value_type().name() });
    };
    if found.is_power_of_two() && found <= MAX_ALIGNMENT {
        return Ok(found);
    }
    Err(GgufError::Alignment { found, most: MAX_ALIGNMENT })
}
