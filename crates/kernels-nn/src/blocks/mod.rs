//! The quantised block formats of ggml, as llama.cpp's files hold them.
//!
//! A row of a matrix is cut into blocks of [`BlockType::block_len`] elements, each of [`BlockType::block_bytes`]: small whole
//! numbers and the scales that make numbers of them. Bytes are those of ggml's `ggml-common.h`, little-endian.
//!
//! | type | elements | bytes | element | scales |
//! |---|---|---|---|---|
//! | `Q8_0` | 32 | 34 | `d q`, `q` of 8 bits | `d` in f16 |
//! | `Q4_0` | 32 | 18 | `d (q - 8)`, `q` of 4 bits | `d` in f16 |
//! | `Q4_K` | 256 | 144 | `(d s) q - (e m)`, `q` of 4 bits | `d`, `e` in f16; `s`, `m` of 6 bits for each 32 elements |
//! | `Q5_K` | 256 | 176 | the same, `q` of 5 bits | the same |
//! | `Q6_K` | 256 | 210 | `(d s) (q - 32)`, `q` of 6 bits | `d` in f16; `s` of 8 bits, signed, for each 16 elements |
//!
//! Every product and difference is rounded once, in the order written.

mod q4_0;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod scales;

use std::fmt;
use std::str::FromStr;

use crate::NnError;

/// A quantised block format, by ggml's name.
#[expect(non_camel_case_types, reason = "the names that ggml and every model page use")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockType {
    /// 32 elements of 8 bits, one scale: 8.5 bits an element.
    Q8_0,
    /// 32 elements of 4 bits, one scale: 4.5 bits an element.
    Q4_0,
    /// 256 elements of 4 bits, a scale and a minimum for each 32: 4.5 bits an element.
    Q4_K,
    /// 256 elements of 5 bits, a scale and a minimum for each 32: 5.5 bits an element.
    Q5_K,
    /// 256 elements of 6 bits, a scale for each 16: 6.5625 bits an element.
    Q6_K,
}

impl BlockType {
    /// All formats.
    pub const ALL: [BlockType; 5] =
        [BlockType::Q8_0, BlockType::Q4_0, BlockType::Q4_K, BlockType::Q5_K, BlockType::Q6_K];

    /// Elements of one block.
    pub const fn block_len(self) -> usize {
        match self {
            BlockType::Q8_0 | BlockType::Q4_0 => 32,
            BlockType::Q4_K | BlockType::Q5_K | BlockType::Q6_K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockType::Q8_0 => q8_0::BYTES,
            BlockType::Q4_0 => q4_0::BYTES,
            BlockType::Q4_K => q4_k::BYTES,
            BlockType::Q5_K => q5_k::BYTES,
            BlockType::Q6_K => q6_k::BYTES,
        }
    }

    /// ggml's name: `Q4_K`. It is read in any case.
    pub const fn name(self) -> &'static str {
        match self {
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q4_0 => "Q4_0",
            BlockType::Q4_K => "Q4_K",
            BlockType::Q5_K => "Q5_K",
            BlockType::Q6_K => "Q6_K",
        }
    }

    /// Widens whole blocks to f32: `blocks` is `[count, block_bytes]`, `out` `[count, block_len]`, and each element has the
    /// bits of ggml's reference, `dequantize_row_*` of `ggml-quants.c` compiled without contraction to fused operations.
    ///
    /// Any bytes are accepted: scales that are NaN or infinite give elements that are.
    ///
    /// # Errors
    /// [`NnError::BlockLength`] when `blocks` are not whole or `out` is not as long as they are; `out` is then as it was.
    pub fn dequantize(self, blocks: &[u8], out: &mut [f32]) -> Result<(), NnError> {
        self.expect_lengths(blocks.len(), out.len())?;
        match self {
            BlockType::Q8_0 => widen(blocks, out, q8_0::dequantize),
            BlockType::Q4_0 => widen(blocks, out, q4_0::dequantize),
            BlockType::Q4_K => widen(blocks, out, q4_k::dequantize),
            BlockType::Q5_K => widen(blocks, out, q5_k::dequantize),
            BlockType::Q6_K => widen(blocks, out, q6_k::dequantize),
        }
        Ok(())
    }

    fn expect_lengths(self, bytes: usize, elements: usize) -> Result<(), NnError> {
        let whole = bytes.is_multiple_of(self.block_bytes()) && elements.is_multiple_of(self.block_len());
        if whole && bytes / self.block_bytes() == elements / self.block_len() {
            return Ok(());
        }
        Err(NnError::BlockLength { block: self, bytes, elements })
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BlockType {
    type Err = NnError;

    fn from_str(text: &str) -> Result<BlockType, NnError> {
        let named = BlockType::ALL.into_iter().find(|block| block.name().eq_ignore_ascii_case(text));
        named.ok_or_else(|| NnError::BlockName { found: text.to_owned() })
    }
}

/// Widens each block; lengths have been checked.
fn widen<const BYTES: usize, const LEN: usize>(
    blocks: &[u8],
    out: &mut [f32],
    one: fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, _) = blocks.as_chunks();
    let (out, _) = out.as_chunks_mut();
    for (block, out) in blocks.iter().zip(out) {
        one(block, out);
    }
}
