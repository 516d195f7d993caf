//! Writing a file front to back: what it says of itself, then one tensor after the other.

use std::io::{self, Write};

use super::Stored;
use crate::gguf::{DEFAULT_ALIGNMENT, MAGIC, ValueType};

/// A metadata value that is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// A whole number of 32 bits.
    U32(u32),
    /// A number.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of whole numbers.
    I32s(Vec<i32>),
}

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the file, of less than 64 bytes: `blk.0.attn_q.weight`.
    pub name: String,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Elements of a row, whole blocks of `stored`.
    pub columns: usize,
    /// Whether the shape is `[columns]`, not `[rows, columns]`.
    pub vector: bool,
    /// How elements are stored.
    pub stored: Stored,
}

impl TensorSpec {
    /// Bytes of the tensor without padding.
    pub fn bytes(&self) -> u64 {
        self.stored.row_bytes(self.columns) as u64 * self.rows as u64
    }
}

const ALIGNMENT: usize = DEFAULT_ALIGNMENT as usize;
const VERSION: u32 = 3;

/// A file that is being written.
#[derive(Debug)]
pub struct GgufWriter<W> {
    out: W,
    /// Bytes that each tensor takes, in order.
    sizes: Vec<u64>,
    /// The tensor that is being written.
    current: usize,
    /// Its bytes so far.
    written: u64,
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header, the metadata and the places of all tensors.
    ///
    /// # Errors
    /// What `out` reports.
    pub fn new(
        mut out: W,
        metadata: &[(String, Field)],
        tensors: &[TensorSpec],
    ) -> io::Result<GgufWriter<W>> {
        let mut head = Vec::new();
        head.extend_from_slice(MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((metadata.len() as u64).to_le_bytes());
        for (key, field) in metadata {
            put_text(key, &mut head);
            put_field(field, &mut head);
        }
        let mut offset = 0;
        for tensor in tensors {
            put_info(tensor, offset, &mut head);
            offset += padded(tensor.bytes());
        }
        head.resize(head.len() + padding(head.len() as u64), 0);
        out.write_all(&head)?;
        Ok(GgufWriter { out, sizes: tensors.iter().map(TensorSpec::bytes).collect(), current: 0, written: 0 })
    }

    /// Writes the next bytes of the current tensor, which end with it or before. The next tensor follows by itself.
    ///
    /// # Errors
    /// What `out` reports; [`io::ErrorKind::InvalidInput`] for bytes beyond the tensor's, which are not written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = self.sizes.get(self.current).copied().unwrap_or(0);
        let written = self.written + bytes.len() as u64;
        if written > size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more bytes than the tensor's shape says",
            ));
        }
        self.out.write_all(bytes)?;
        self.written = written;
        if written == size {
            self.out.write_all(&[0; ALIGNMENT][..padding(size)])?;
            (self.current, self.written) = (self.current + 1, 0);
        }
        Ok(())
    }

    /// Ends the file and gives back where it was written.
    ///
    /// # Errors
    /// What `out` reports; [`io::ErrorKind::InvalidInput`] when tensors are missing.
    pub fn finish(mut self) -> io::Result<W> {
        if self.current < self.sizes.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not all tensors were written"));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT as u64)
}

/// Bytes from `bytes` to the next multiple of the alignment.
fn padding(bytes: u64) -> usize {
    usize::try_from(padded(bytes) - bytes).unwrap_or_default()
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_type(value_type: ValueType, out: &mut Vec<u8>) {
    out.extend((value_type as u32).to_le_bytes());
}

fn put_field(field: &Field, out: &mut Vec<u8>) {
    match field {
        Field::U32(value) => {
            put_type(ValueType::U32, out);
            out.extend(value.to_le_bytes());
        }
        Field::F32(value) => {
            put_type(ValueType::F32, out);
            out.extend(value.to_le_bytes());
        }
        Field::Bool(value) => {
            put_type(ValueType::Bool, out);
            out.push(u8::from(*value));
        }
        Field::Text(text) => {
            put_type(ValueType::Str, out);
            put_text(text, out);
        }
        Field::Texts(texts) => {
            put_array(ValueType::Str, texts.len(), out);
            texts.iter().for_each(|text| put_text(text, out));
        }
        Field::I32s(values) => {
            put_array(ValueType::I32, values.len(), out);
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}

fn put_array(element: ValueType, len: usize, out: &mut Vec<u8>) {
    put_type(ValueType::Array, out);
    put_type(element, out);
    out.extend((len as u64).to_le_bytes());
}

fn put_info(tensor: &TensorSpec, offset: u64, out: &mut Vec<u8>) {
    put_text(&tensor.name, out);
    let dims = [tensor.columns as u64, tensor.rows as u64];
    let dims = if tensor.vector { &dims[..1] } else { &dims[..] };
    out.extend(if tensor.vector { 1_u32 } else { 2 }.to_le_bytes());
    out.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    out.extend(tensor.stored.number().to_le_bytes());
    out.extend(offset.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::{Field, GgufWriter, TensorSpec};
    use crate::gguf::Stored;

    fn vector(name: &str, columns: usize) -> TensorSpec {
        TensorSpec { name: String::from(name), rows: 1, columns, vector: true, stored: Stored::F32 }
    }

    #[test]
    fn a_small_file_byte_by_byte() {
        let metadata = [(String::from("a"), Field::Bool(true))];
        let mut writer = GgufWriter::new(Vec::new(), &metadata, &[vector("t", 1), vector("u", 1)]).unwrap();
        writer.write(&[1, 2]).unwrap();
        writer.write(&[3, 4]).unwrap();
        writer.write(&[5, 6, 7, 8]).unwrap();
        let file = writer.finish().unwrap();
        let mut expected = b"GGUF\x03\0\0\0".to_vec();
        expected.extend([2_u64, 1, 1].iter().flat_map(|count| count.to_le_bytes()));
        expected.extend(b"a\x07\0\0\0\x01");
        for (name, offset) in [(b't', 0_u64), (b'u', 32)] {
            expected.extend(1_u64.to_le_bytes());
            expected.extend([name, 1, 0, 0, 0]);
            expected.extend(1_u64.to_le_bytes());
            expected.extend(0_u32.to_le_bytes());
            expected.extend(offset.to_le_bytes());
        }
        expected.resize(expected.len().next_multiple_of(32), 0);
        let data = expected.len();
        expected.extend([1, 2, 3, 4]);
        expected.resize(data + 32, 0);
        expected.extend([5, 6, 7, 8]);
        expected.resize(data + 64, 0);
        assert_eq!(file, expected);
    }

    #[test]
    fn bytes_too_many_or_too_few_are_refused() {
        let new = || GgufWriter::new(Vec::new(), &[], &[vector("t", 2)]).unwrap();
        assert!(new().write(&[0; 9]).is_err());
        let mut short = new();
        short.write(&[0; 4]).unwrap();
        assert!(short.finish().is_err());
        let mut whole = new();
        whole.write(&[0; 8]).unwrap();
        assert!(whole.write(&[0]).is_err());
        whole.finish().unwrap();
    }
}
