//! Tensor infos, and where their bytes lie.

use std::collections::HashMap;
use std::ops::Range;

use super::cursor::Cursor;
use super::{GgufError, TensorType};

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    name: &'a str,
    tensor_type: TensorType,
    rank: usize,
    dims: [u64; MAX_RANK],
    offset: u64,
    size: u64,
    bytes: Range<usize>,
}

pub(super) const MAX_RANK: usize = 4;
pub(super) const MAX_NAME: u64 = 64;
/// A length, one letter, a count, a dimension, a type and an offset.
pub(super) const LEAST_INFO_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Tensors in the order of the file, and each one's number by its name.
pub(super) type Tensors<'a> = (Vec<TensorInfo<'a>>, HashMap<&'a str, usize>);

impl<'a> TensorInfo<'a> {
    /// The name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// How its elements are stored.
    pub fn tensor_type(&self) -> TensorType {
        self.tensor_type
    }

    /// The dimensions as the file has them, innermost first.
    pub fn dims(&self) -> &[u64] {
        self.dims.get(..self.rank).unwrap_or_default()
    }

    /// Its bytes in the file.
    pub fn bytes(&self) -> Range<usize> {
        self.bytes.clone()
    }
}

/// Reads `count` infos and the places of their bytes, which begin at the next multiple of `alignment`.
pub(super) fn read<'a>(
    cursor: &mut Cursor<'a>,
    count: u64,
    alignment: u32,
    file: usize,
) -> Result<Tensors<'a>, GgufError> {
    let mut tensors = Vec::new();
    let mut by_name = HashMap::new();
    let mut total = 0_u64;
    for index in 0..count {
        let info = read_info(index, cursor, alignment)?;
        let tensor = || info.name.to_owned();
        let padded = info.size.checked_next_multiple_of(alignment.into());
        let padding = || GgufError::Padding { tensor: tensor(), bytes: info.size, alignment };
        total = total
            .checked_add(padded.ok_or_else(padding)?)
            .ok_or_else(|| GgufError::TotalBytes { tensor: tensor() })?;
        if by_name.insert(info.name, tensors.len()).is_some() {
            return Err(GgufError::DuplicateTensor { tensor: tensor() });
        }
        tensors.push(info);
    }
    let header = cursor.position() as u64;
    // A header is not longer than memory, so that this is no overflow; the tensors are checked against the file below.
    let data = header.checked_next_multiple_of(alignment.into()).unwrap_or(u64::MAX);
    for info in &mut tensors {
        place(info, data, file)?;
    }
    expect_apart(&tensors)?;
    Ok((tensors, by_name))
}

fn read_info<'a>(index: u64, cursor: &mut Cursor<'a>, alignment: u32) -> Result<TensorInfo<'a>, GgufError> {
    let name = read_name(index, cursor)?;
    let tensor = || name.to_owned();
    let found = cursor.u32("the number of dimensions of a tensor")?;
    let rank = usize::try_from(found).ok().filter(|rank| (1..=MAX_RANK).contains(rank));
    let rank = rank.ok_or_else(|| GgufError::Rank { tensor: tensor(), found })?;
    let mut dims = [1_u64; MAX_RANK];
    for (axis, dim) in dims.iter_mut().enumerate().take(rank) {
        *dim = cursor.u64("a dimension of a tensor")?;
        if i64::try_from(*dim).is_err() {
            return Err(GgufError::Dimension { tensor: tensor(), axis, found: *dim });
        }
    }
    let number = cursor.u32("the type of a tensor")?;
    let unknown = || GgufError::TensorType { tensor: tensor(), found: number };
    let tensor_type = TensorType::from_number(number).ok_or_else(unknown)?;
    let size = size(name, &dims, tensor_type)?;
    let offset = cursor.u64("the offset of a tensor")?;
    if !offset.is_multiple_of(alignment.into()) {
        return Err(GgufError::OffsetMisaligned { tensor: tensor(), offset, alignment });
    }
    Ok(TensorInfo { name, tensor_type, rank, dims, offset, size, bytes: 0..0 })
}

fn read_name<'a>(index: u64, cursor: &mut Cursor<'a>) -> Result<&'a str, GgufError> {
    const WHAT: &str = "the name of a tensor";
    let length = cursor.u64(WHAT)?;
    if !(1..=MAX_NAME).contains(&length) {
        return Err(GgufError::TensorNameLength { index, length, most: MAX_NAME });
    }
    let bytes = cursor.take(length).ok_or_else(|| cursor.truncated(WHAT, length))?;
    std::str::from_utf8(bytes).map_err(|_| GgufError::TensorNameNotUtf8 { index })
}

/// Bytes of a tensor.
fn size(name: &str, dims: &[u64; MAX_RANK], tensor_type: TensorType) -> Result<u64, GgufError> {
    let tensor = || name.to_owned();
    let (block, dtype) = (tensor_type.block_len(), tensor_type.name());
    let [row, ..] = *dims;
    if !row.is_multiple_of(block) {
        return Err(GgufError::PartialBlock { tensor: tensor(), row, dtype, block });
    }
    // As ggml counts them: no product of the first dimensions may overflow, though a later one be zero.
    let product = dims.iter().try_fold(1_i64, |product, &dim| product.checked_mul(i64::try_from(dim).ok()?));
    let elements = product.and_then(|product| u64::try_from(product).ok());
    let elements =
        elements.ok_or_else(|| GgufError::ElementCount { tensor: tensor(), dims: dims.to_vec() })?;
    (elements / block).checked_mul(tensor_type.block_bytes()).ok_or_else(|| GgufError::ByteCount {
        tensor: tensor(),
        elements,
        dtype,
    })
}

/// Sets the place of a tensor's bytes, which lie in the file.
fn place(info: &mut TensorInfo<'_>, data: u64, file: usize) -> Result<(), GgufError> {
    let &mut TensorInfo { offset, size, .. } = info;
    let start = data.checked_add(offset);
    let end = start.and_then(|start| start.checked_add(size));
    let tensor = info.name.to_owned();
    let Some((start, end)) = start.zip(end) else {
        return Err(GgufError::OffsetOverflow { tensor, offset, bytes: size });
    };
    let inside = usize::try_from(start).ok().zip(usize::try_from(end).ok()).filter(|&(_, end)| end <= file);
    let (start, end) = inside.ok_or(GgufError::BeyondFile { tensor, end, file })?;
    info.bytes = start..end;
    Ok(())
}

/// Fails where two tensors share bytes. Gaps between them are nobody's.
fn expect_apart(tensors: &[TensorInfo<'_>]) -> Result<(), GgufError> {
    let mut places: Vec<(Range<usize>, &str)> =
        tensors.iter().filter(|info| info.size > 0).map(|info| (info.bytes.clone(), info.name)).collect();
    places.sort_unstable_by_key(|(bytes, _)| bytes.start);
    for pair in places.windows(2) {
        if let [(before, first), (after, second)] = pair
            && before.end > after.start
        {
            return Err(GgufError::Overlap { first: (*first).to_owned(), second: (*second).to_owned() });
        }
    }
    Ok(())
}
