//! The launches of `linear`, whose operands `super` has proven.

use device_mem::{Grid, HipView, HipViewMut, Kernel, View, ViewMut};

use crate::hip::{
    BLOCK, CHUNK, ForBlocks, blocks, by_format, is_aligned, matrix, on_device, on_device_mut, optional,
};
use crate::kernels::{LINEAR, LINEAR_BLOCKS, LINEAR_TILED, LinearArgs, LinearBlocksArgs, LinearTiledArgs};
use crate::{BlockType, Linear, MOST_WIDTH, NnError, Weight};

/// Groups of 32 threads of a block.
const GROUPS: usize = 8;
/// Fewer rows than this leave a large card idle, so the groups of a block share them.
const SLICE_BELOW: usize = 1 << 14;
/// Rows of a weight of floats that one group takes at once in `kernels/linear.hip`, and parts that those are summed in where rows
/// are few.
const ROWS: usize = 4;
const SLICES: u32 = 8;
/// Rows of a weight of blocks in `kernels/linear_blocks.hip`, and parts of those.
const BLOCK_ROWS: usize = 8;
const BLOCK_SLICES: u32 = 4;

/// Tokens from which on `kernels/linear_tiled.hip` multiplies floats.
const TILED_FROM: usize = 16;
/// Tokens and rows of the weight of its tiles.
const TILE_TOKENS: usize = 64;
const TILE_ROWS: usize = 128;

/// The kernels for a type of floats.
struct Symbols {
    /// For rows that are not whole chunks, or not aligned.
    any: &'static str,
    /// By the tokens of a pass: 1, 4 and 8.
    passes: [&'static str; 3],
    tiled: &'static str,
}

const F32: Symbols = Symbols {
    any: "linear_f32_any",
    passes: ["linear_f32_1", "linear_f32_4", "linear_f32_8"],
    tiled: "linear_f32_tiled",
};
const F16: Symbols = Symbols {
    any: "linear_f16_any",
    passes: ["linear_f16_1", "linear_f16_4", "linear_f16_8"],
    tiled: "linear_f16_tiled",
};
const BF16: Symbols = Symbols {
    any: "linear_bf16_any",
    passes: ["linear_bf16_1", "linear_bf16_4", "linear_bf16_8"],
    tiled: "linear_bf16_tiled",
};

/// The kernels for blocks, by the tokens of a pass: 1 and 8.
const OF_BLOCKS: ForBlocks<[&str; 2]> = [
    ["linear_q8_0_1", "linear_q8_0_8"],
    ["linear_q4_0_1", "linear_q4_0_8"],
    ["linear_q5_0_1", "linear_q5_0_8"],
    ["linear_q5_1_1", "linear_q5_1_8"],
    ["linear_q4_k_1", "linear_q4_k_8"],
    ["linear_q5_k_1", "linear_q5_k_8"],
    ["linear_q6_k_1", "linear_q6_k_8"],
];

/// `out = x W^T + b`.
pub(super) fn linear_device(x: View<'_, f32>, layer: &Linear, out: ViewMut<'_, f32>) -> Result<(), NnError> {
    let (x, out) = (on_device(x)?, on_device_mut(out)?);
    let tokens = x.len() / layer.in_features;
    if tokens == 0 {
        return Ok(());
    }
    let symbols = match &layer.weight {
        Weight::F32(_) => F32,
        Weight::F16(_) => F16,
        Weight::BF16(_) => BF16,
        Weight::Blocks(block, _) => return launch_linear_blocks(x, layer, *block, out, tokens),
    };
    match tokens {
        tokens if tokens < TILED_FROM => launch_linear(x, layer, &symbols, out, tokens),
        tokens => launch_linear_tiled(x, layer, &symbols, out, tokens),
    }
}

/// A pass over the weight for every few tokens.
fn launch_linear(
    x: HipView<'_, f32>,
    layer: &Linear,
    symbols: &Symbols,
    mut out: HipViewMut<'_, f32>,
    tokens: usize,
) -> Result<(), NnError> {
    let Linear { weight, bias, out_features, in_features } = layer;
    let wide = in_features.is_multiple_of(CHUNK) && is_aligned(x.pointer()) && is_aligned(matrix(weight)?);
    let [one, four, eight] = symbols.passes;
    let symbol = match tokens {
        _ if !wide => symbols.any,
        1 => one,
        2..=4 => four,
        _ => eight,
    };
    let Shares { slices, grid } = shares(*out_features, ROWS, SLICES);
    let kernel = Kernel::<LinearArgs>::load(x.device(), &LINEAR, symbol)?;
    let bytes = x.bytes() + layer.bytes() + out.bytes();
    let args = LinearArgs {
        weight: matrix(weight)?,
        x: x.pointer(),
        bias: optional(bias.as_ref())?,
        out: out.pointer(),
        tokens: tokens as u64,
        in_features: *in_features as u64,
        out_features: *out_features as u64,
        slices,
    };
    // SAFETY: the kernel reads weight[..out_features * in_features] in the symbol's type and bias[..out_features], if not
    // null, both proven by `Linear::new`; it reads x[..tokens * in_features] and writes out[..tokens * out_features], both
    // proven by `linear`. No count is 0, slices is 1 or 8, and rows are whole chunks and aligned unless the symbol is for
    // any. All of it is borrowed, on the kernel's device by `linear`, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(grid, bytes, &args) }?;
    Ok(())
}

/// A pass over the blocks for every few tokens.
fn launch_linear_blocks(
    x: HipView<'_, f32>,
    layer: &Linear,
    block: BlockType,
    mut out: HipViewMut<'_, f32>,
    tokens: usize,
) -> Result<(), NnError> {
    let Linear { weight, bias, out_features, in_features } = layer;
    if *in_features > MOST_WIDTH {
        return Err(NnError::RowTooWide { width: *in_features, most: MOST_WIDTH });
    }
    let [one, eight] = by_format(block, OF_BLOCKS);
    let symbol = if tokens == 1 { one } else { eight };
    let Shares { slices, grid } = shares(*out_features, BLOCK_ROWS, BLOCK_SLICES);
    let kernel = Kernel::<LinearBlocksArgs>::load(x.device(), &LINEAR_BLOCKS, symbol)?;
    let bytes = x.bytes() + layer.bytes() + out.bytes();
    let args = LinearBlocksArgs {
        weight: matrix(weight)?,
        x: x.pointer(),
        bias: optional(bias.as_ref())?,
        out: out.pointer(),
        tokens: tokens as u64,
        in_features: *in_features as u64,
        out_features: *out_features as u64,
        slices,
    };
    // SAFETY: the kernel reads the blocks of weight[..out_features * in_features], which are of the symbol's format and whole in
    // each row, and bias[..out_features], if not null, all proven by `Linear::new`; it reads x[..tokens * in_features] and
    // writes out[..tokens * out_features], both proven by `linear`. No count is 0, in_features is below 2^25, and slices is 1
    // or 4. A buffer of weights starts where hipMalloc put it, aligned to 256 bytes. All of it is borrowed, on the kernel's
    // device by `linear`, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(grid, bytes, &args) }?;
    Ok(())
}

/// Tiles of tokens and rows of the weight.
fn launch_linear_tiled(
    x: HipView<'_, f32>,
    layer: &Linear,
    symbols: &Symbols,
    mut out: HipViewMut<'_, f32>,
    tokens: usize,
) -> Result<(), NnError> {
    let Linear { weight, bias, out_features, in_features } = layer;
    let tiles = out_features.div_ceil(TILE_ROWS).saturating_mul(tokens.div_ceil(TILE_TOKENS));
    let kernel = Kernel::<LinearTiledArgs>::load(x.device(), &LINEAR_TILED, symbols.tiled)?;
    let bytes = x.bytes() + layer.bytes() + out.bytes();
    let args = LinearTiledArgs {
        weight: matrix(weight)?,
        x: x.pointer(),
        bias: optional(bias.as_ref())?,
        out: out.pointer(),
        tokens: tokens as u64,
        in_features: *in_features as u64,
        out_features: *out_features as u64,
    };
    // SAFETY: the kernel reads weight[..out_features * in_features] in the symbol's type and bias[..out_features], if not
    // null, both proven by `Linear::new`; it reads x[..tokens * in_features] and writes out[..tokens * out_features], both
    // proven by `linear`. No count is 0. All of it is borrowed, on the kernel's device by `linear`, and is freed by
    // hipFree, which waits for the stream.
    unsafe { kernel.launch(in_turn(tiles), bytes, &args) }?;
    Ok(())
}

/// How the rows of a weight are shared out.
struct Shares {
    /// Parts that a row is summed in.
    slices: u32,
    grid: Grid,
}

/// `rows` for each of the sets that the groups of a block form, of `most_slices` groups where there are few rows.
fn shares(out_features: usize, rows: usize, most_slices: u32) -> Shares {
    let slices = if out_features < SLICE_BELOW { most_slices } else { 1 };
    let tile_rows = GROUPS / slices as usize * rows;
    Shares { slices, grid: in_turn(out_features.div_ceil(tile_rows)) }
}

/// Blocks that take the tiles in turn.
fn in_turn(tiles: usize) -> Grid {
    Grid { blocks: [blocks(tiles), 1, 1], threads: [BLOCK, 1, 1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_of_rows_has_a_block_and_few_rows_have_all_lanes() {
        for (rows, most_slices) in [(ROWS, SLICES), (BLOCK_ROWS, BLOCK_SLICES)] {
            for out_features in [1, 7, 8, 9, 4096, SLICE_BELOW - 1, SLICE_BELOW, SLICE_BELOW + 1, 151_552] {
                let Shares { slices, grid } = shares(out_features, rows, most_slices);
                assert_eq!(slices, if out_features < 16_384 { most_slices } else { 1 }, "{out_features}");
                let tile_rows = 8 / slices as usize * rows;
                let blocks = grid.blocks[0] as usize;
                let covered = (blocks - 1) * tile_rows < out_features && out_features <= blocks * tile_rows;
                assert!(covered, "{out_features} rows in {blocks} tiles of {tile_rows}");
            }
        }
        assert_eq!(shares(usize::MAX, ROWS, SLICES).grid.blocks, [1 << 20, 1, 1], "tiles are taken in turn");
    }
}
