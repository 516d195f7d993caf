//! The quantised block formats of ggml, as llama.cpp's files hold them.
//!
//! A row of a matrix is cut into blocks of [`BlockType::block_len`] elements, each of [`BlockType::block_bytes`]: small whole
//! numbers and the scales that make numbers of them. Bytes are those of ggml's `ggml-common.h`, little-endian.
//!
//! | type | elements | bytes | element | scales |
//! |---|---|---|---|---|
//! | `Q8_0` | 32 | 34 | `d q`, `q` of 8 bits | `d` in f16 |
//! | `Q4_0` | 32 | 18 | `d (q - 8)`, `q` of 4 bits | `d` in f16 |
//! | `Q5_0` | 32 | 22 | `d (q - 16)`, `q` of 5 bits | `d` in f16 |
//! | `Q5_1` | 32 | 24 | `d q + m`, `q` of 5 bits | `d`, `m` in f16 |
//! | `Q4_K` | 256 | 144 | `(d s) q - (e m)`, `q` of 4 bits | `d`, `e` in f16; `s`, `m` of 6 bits for each 32 elements |
//! | `Q5_K` | 256 | 176 | the same, `q` of 5 bits | the same |
//! | `Q6_K` | 256 | 210 | `(d s) (q - 32)`, `q` of 6 bits | `d` in f16; `s` of 8 bits, signed, for each 16 elements |
//!
//! Every product, sum and difference is rounded once, in the order written. `Q5_0` and `Q5_1` are what llama.cpp takes for
//! `Q4_K` and `Q5_K` where rows are not multiples of 256, as those of GLM-4-9B's `ffn_down` (13696) are not.

mod fifth;
mod grouped;
mod q4_0;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod rounding;
pub(crate) mod scales;

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
    /// 32 elements of 5 bits, one scale: 5.5 bits an element.
    Q5_0,
    /// 32 elements of 5 bits, a scale and a minimum: 6 bits an element.
    Q5_1,
    /// 256 elements of 4 bits, a scale and a minimum for each 32: 4.5 bits an element.
    Q4_K,
    /// 256 elements of 5 bits, a scale and a minimum for each 32: 5.5 bits an element.
    Q5_K,
    /// 256 elements of 6 bits, a scale for each 16: 6.5625 bits an element.
    Q6_K,
}

impl BlockType {
    /// All formats.
    pub const ALL: [BlockType; 7] = [
        BlockType::Q8_0,
        BlockType::Q4_0,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q4_K,
        BlockType::Q5_K,
        BlockType::Q6_K,
    ];

    /// Elements of one block.
    pub const fn block_len(self) -> usize {
        match self {
            BlockType::Q8_0 | BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q5_1 => 32,
            BlockType::Q4_K | BlockType::Q5_K | BlockType::Q6_K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockType::Q8_0 => q8_0::BYTES,
            BlockType::Q4_0 => q4_0::BYTES,
            BlockType::Q5_0 => q5_0::BYTES,
            BlockType::Q5_1 => q5_1::BYTES,
            BlockType::Q4_K => q4_k::BYTES,
            BlockType::Q5_K => q5_k::BYTES,
            BlockType::Q6_K => q6_k::BYTES,
        }
    }

    /// Where a block's scales of f16 stand, in bytes from its start. The elements of a block are finite if these are.
    pub const fn scales(self) -> &'static [usize] {
        match self {
            BlockType::Q8_0 | BlockType::Q4_0 | BlockType::Q5_0 => &[0],
            BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
            BlockType::Q6_K => &[q6_k::SCALE],
        }
    }

    /// ggml's name: `Q4_K`. It is read in any case.
    pub const fn name(self) -> &'static str {
        match self {
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q4_0 => "Q4_0",
            BlockType::Q5_0 => "Q5_0",
            BlockType::Q5_1 => "Q5_1",
            BlockType::Q4_K => "Q4_K",
            BlockType::Q5_K => "Q5_K",
            BlockType::Q6_K => "Q6_K",
        }
    }

    /// Widens whole blocks to f32: `blocks` is `[count, block_bytes]`, `out` `[count, block_len]`, and each element has the
    /// bits of ggml's reference, `dequantize_row_*` of `ggml-quants.c`, where that is compiled without fused operations.
    ///
    /// Any bytes are accepted: scales that are NaN or infinite give elements that are.
    ///
    /// # Errors
    /// [`NnError::BlockLength`] when `blocks` are not whole or `out` is not as long as they are; `out` is then as it was.
    pub fn dequantize(self, blocks: &[u8], out: &mut [f32]) -> Result<(), NnError> {
        self.expect_lengths(blocks.len(), out.len())?;
        self.widen(blocks, out);
        Ok(())
    }

    /// [`BlockType::dequantize`] of as many blocks as there are in both.
    pub(crate) fn widen(self, blocks: &[u8], out: &mut [f32]) {
        match self {
            BlockType::Q8_0 => widen(blocks, out, q8_0::dequantize),
            BlockType::Q4_0 => widen(blocks, out, q4_0::dequantize),
            BlockType::Q5_0 => widen(blocks, out, q5_0::dequantize),
            BlockType::Q5_1 => widen(blocks, out, q5_1::dequantize),
            BlockType::Q4_K => widen(blocks, out, q4_k::dequantize),
            BlockType::Q5_K => widen(blocks, out, q5_k::dequantize),
            BlockType::Q6_K => widen(blocks, out, q6_k::dequantize),
        }
    }

    /// Rounds f32 to whole blocks: `x` is `[count, block_len]`, `blocks` `[count, block_bytes]`, with the bytes of ggml's
    /// reference without an importance matrix, `quantize_row_*_ref` of `ggml-quants.c`, where that is compiled without fused
    /// operations, as llama.cpp is for x86-64.
    ///
    /// Each element gets the level whose value is nearest to it under the block's scales before they are rounded to f16, or
    /// after that for the formats of 256. With `a` the largest magnitude of a block, `r` its range, `e = 2^-11`, and scales
    /// within f16's normal range, an element is changed by at most
    ///
    /// | type | bound, to first order | from |
    /// |---|---|---|
    /// | `Q8_0` | `a / 127 (1/2 + 127 e)` | half a level, and the scale's rounding on up to 127 levels |
    /// | `Q4_0` | `a / 8 (1 + 8 e)` | a whole level, where the other end is cut off at level 15 |
    /// | `Q5_0` | `a / 16 (1 + 16 e)` | the same, at level 31 |
    /// | `Q5_1` | `r / 31 (1/2 + 31 e) + a e` | half a level, and the roundings of scale and minimum |
    /// | others | half a level of its group, or the distance to the end of what its group can hold | the choice of the nearest |
    ///
    /// Scales beyond f16 become infinite, here as there, and [`BlockType::is_finite`] tells. In `Q6_K` a group with
    /// magnitudes above `2^39` becomes 0 instead, whose cubes the fit sums.
    ///
    /// # Errors
    /// [`NnError::BlockLength`] for lengths that do not go together, [`NnError::NotFinite`] for an element that is NaN or
    /// infinite; `blocks` are then as they were.
    pub fn quantize(self, x: &[f32], blocks: &mut [u8]) -> Result<(), NnError> {
        self.expect_lengths(blocks.len(), x.len())?;
        if let Some((index, &found)) = x.iter().enumerate().find(|(_, x)| !x.is_finite()) {
            return Err(NnError::NotFinite { index, found });
        }
        match self {
            BlockType::Q8_0 => narrow(x, blocks, q8_0::quantize),
            BlockType::Q4_0 => narrow(x, blocks, q4_0::quantize),
            BlockType::Q5_0 => narrow(x, blocks, q5_0::quantize),
            BlockType::Q5_1 => narrow(x, blocks, q5_1::quantize),
            BlockType::Q4_K => narrow(x, blocks, q4_k::quantize),
            BlockType::Q5_K => narrow(x, blocks, q5_k::quantize),
            BlockType::Q6_K => narrow(x, blocks, q6_k::quantize),
        }
        Ok(())
    }

    /// Whether all scales of `blocks` are finite, as ggml's `ggml_validate_row_data` asks. A part of a block at the end does
    /// not count.
    pub fn is_finite(self, blocks: &[u8]) -> bool {
        let mut blocks = blocks.chunks_exact(self.block_bytes());
        blocks.all(|block| self.scales().iter().all(|&at| scales::half(block, at).is_finite()))
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

/// Rounds each block; lengths have been checked.
fn narrow<const BYTES: usize, const LEN: usize>(
    x: &[f32],
    blocks: &mut [u8],
    one: fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    let (x, _) = x.as_chunks();
    let (blocks, _) = blocks.as_chunks_mut();
    for (x, block) in x.iter().zip(blocks) {
        one(x, block);
    }
}
