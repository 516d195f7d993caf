//! GGUF files made by hand, right ones and wrong ones.

/// A file in parts, each of which can be made to lie.
#[derive(Clone)]
pub(crate) struct Builder {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// In place of the true counts.
    pub(crate) key_count: Option<u64>,
    pub(crate) tensor_count: Option<u64>,
    /// What the data are laid out for; the reader is told by a key.
    pub(crate) alignment: usize,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) data: Vec<u8>,
}

pub(crate) const U8: u32 = 0;
pub(crate) const U32: u32 = 4;
pub(crate) const I32: u32 = 5;
pub(crate) const F32: u32 = 6;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;
pub(crate) const U64: u32 = 10;

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            magic: *b"GGUF",
            version: 3,
            key_count: None,
            tensor_count: None,
            alignment: 32,
            keys: Vec::new(),
            tensors: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Adds a key with the bytes of its value, or puts them in the place of the key's.
    pub(crate) fn key(mut self, name: &str, value_type: u32, value: impl AsRef<[u8]>) -> Builder {
        self = self.without(name);
        self.raw_key([&text(name)[..], &value_type.to_le_bytes(), value.as_ref()].concat())
    }

    pub(crate) fn u32(self, name: &str, value: u32) -> Builder {
        self.key(name, U32, value.to_le_bytes())
    }

    pub(crate) fn f32(self, name: &str, value: f32) -> Builder {
        self.key(name, F32, value.to_le_bytes())
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Builder {
        self.key(name, STRING, text(value))
    }

    pub(crate) fn texts<T: AsRef<str>>(self, name: &str, values: &[T]) -> Builder {
        let elements: Vec<u8> = values.iter().flat_map(|value| text(value.as_ref())).collect();
        self.key(name, ARRAY, [&STRING.to_le_bytes(), &length(values.len())[..], &elements].concat())
    }

    pub(crate) fn i32s(self, name: &str, values: &[i32]) -> Builder {
        let elements: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.key(name, ARRAY, [&I32.to_le_bytes(), &length(values.len())[..], &elements].concat())
    }

    /// Adds the bytes of a key and its value as they are.
    pub(crate) fn raw_key(mut self, bytes: Vec<u8>) -> Builder {
        self.keys.push(bytes);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Builder {
        let name = text(name);
        self.keys.retain(|key| !key.starts_with(&name));
        self
    }

    /// Adds a tensor behind those that are there.
    pub(crate) fn tensor(mut self, name: &str, dims: &[u64], number: u32, bytes: &[u8]) -> Builder {
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
        self.info(name, dims, number, offset)
    }

    /// Adds a tensor's info without its data.
    pub(crate) fn info(self, name: &str, dims: &[u64], number: u32, offset: u64) -> Builder {
        let rank = u32::try_from(dims.len()).unwrap();
        let dims: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let parts =
            [&text(name)[..], &rank.to_le_bytes(), &dims, &number.to_le_bytes(), &offset.to_le_bytes()];
        self.raw_tensor(parts.concat())
    }

    pub(crate) fn raw_tensor(mut self, bytes: Vec<u8>) -> Builder {
        self.tensors.push(bytes);
        self
    }

    pub(crate) fn data(mut self, bytes: &[u8]) -> Builder {
        self.data.extend_from_slice(bytes);
        self
    }

    /// Bytes from the start of the file to the end of the last key.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        file.extend(self.keys.concat());
        file
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = self.head();
        file.extend(self.tensors.concat());
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.extend(&self.data);
        file
    }
}

/// A length and a text, as GGUF has both.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [&length(text.len())[..], text.as_bytes()].concat()
}

pub(crate) fn length(length: usize) -> [u8; 8] {
    (length as u64).to_le_bytes()
}
