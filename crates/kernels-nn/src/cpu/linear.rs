use std::array;
use std::ops::Range;

use device_mem::{Isa, Scratch};
use rayon::prelude::*;

use super::quantized::{self, BlockPanels, BlockTiles, Tokens};
use super::simd::Row;
use super::tiled::{FloatPanels, FloatTiles, TILED_FROM, WidenRow, linear_tiled};
use crate::layers::HostWeight;

/// Rows of the weight that are multiplied together, so that each element of x is read once for all of them.
const ROWS: usize = 4;
/// Multiply-adds that are worth a task of their own.
const TASK_WORK: usize = 1 << 16;
/// Layers that a call takes at most.
pub(crate) const MOST_LAYERS: usize = 3;

/// A layer's parameters: a weight `[out_features, in_features]`, and a bias `[out_features]`.
#[derive(Clone, Copy)]
pub(crate) struct HostLinear<'a> {
    pub(crate) weight: HostWeight<'a>,
    pub(crate) bias: Option<&'a [f32]>,
    /// `[out_features, in_features]`.
    pub(crate) features: [usize; 2],
}

/// `out = x W^T + b` of each layer that is there, with `x` `[tokens, in_features]` of all of them and `out`
/// `[tokens, out_features]`.
///
/// The order of every sum is fixed: products are added to their lane in ascending order, the lanes are then added in
/// halves (0+8, 1+9, ...; 0+4, ...; 0+2, 1+3; 0+1), and the bias comes last. So neither the number of threads nor the
/// number of tokens in a call changes a bit of the result, until there are enough for tiles.
pub(crate) fn linear_host<const LAYERS: usize>(
    x: &[f32],
    layers: [Option<(HostLinear<'_>, &mut [f32])>; LAYERS],
) {
    const { assert!(LAYERS <= MOST_LAYERS, "as many as are shared out below") };
    let Some(in_features) = layers.iter().flatten().map(|(layer, _)| layer.features[1]).next() else {
        return;
    };
    let isa = Isa::best();
    let mut weights = layers.iter().flatten().map(|(layer, _)| layer.weight);
    let has_blocks = weights.clone().any(|weight| matches!(weight, HostWeight::Blocks(..)));
    if x.len() / in_features >= TILED_FROM {
        let has_floats = weights.any(|weight| !matches!(weight, HostWeight::Blocks(..)));
        return PANELS.lend(|(floats, blocks)| {
            if has_floats {
                floats.lay(isa, x, in_features);
            }
            if has_blocks {
                blocks.lay(isa, x, in_features);
            }
            let many = Many { isa, floats, blocks };
            layers.into_iter().flatten().for_each(|(layer, out)| many.multiply(layer, out));
        });
    }
    Tokens::with(isa, if has_blocks { x } else { &[] }, in_features, |rounded| {
        let few = Few { isa, x, rounded };
        match x.len() / in_features {
            1 => few.multiply_one(layers),
            _ => layers.into_iter().flatten().for_each(|(layer, out)| few.multiply_each(layer, out)),
        }
    });
}

/// Too few tokens for tiles.
struct Few<'a> {
    isa: Isa,
    /// `[tokens, in_features]`
    x: &'a [f32],
    /// The same for weights of blocks; empty where there are none.
    rounded: &'a Tokens,
}

impl Few<'_> {
    /// Shares the rows of all layers out to the threads at once, and allocates nothing.
    fn multiply_one<const LAYERS: usize>(&self, layers: [Option<(HostLinear<'_>, &mut [f32])>; LAYERS]) {
        let mut layers = layers.into_iter().flatten();
        let mut tasks = || {
            let (layer, out) = layers.next().map_or((None, &mut [][..]), |(layer, out)| (Some(layer), out));
            let task_rows = layer.map_or(1, |layer| task_rows(1, layer.features));
            let tasks = out.par_chunks_mut(task_rows).enumerate();
            tasks.map(move |(task, out)| (layer, task * task_rows, out))
        };
        tasks().chain(tasks()).chain(tasks()).for_each(|(layer, first, out)| {
            if let Some(layer) = layer {
                self.multiply(layer, first, &mut [out]);
            }
        });
    }

    /// Shares the rows of a layer out to the threads.
    fn multiply_each(&self, layer: HostLinear<'_>, out: &mut [f32]) {
        let [out_features, in_features] = layer.features;
        let task_rows = task_rows(self.x.len() / in_features, layer.features);
        let columns = split_columns(out, out_features, task_rows);
        let tasks = columns.into_par_iter().enumerate();
        tasks.for_each(|(task, mut columns)| self.multiply(layer, task * task_rows, &mut columns));
    }

    /// Fills each token's column of the rows from `first` on.
    fn multiply(&self, layer: HostLinear<'_>, first: usize, columns: &mut [&mut [f32]]) {
        let &Few { isa, x, rounded } = self;
        let [_, in_features] = layer.features;
        let rows = first..first + columns.first().map_or(0, |column| column.len());
        let elements = rows.start * in_features..rows.end * in_features;
        match layer.weight {
            HostWeight::F32(weight) => multiply(isa, x, &weight[elements], in_features, columns),
            HostWeight::F16(weight) => multiply(isa, x, &weight[elements], in_features, columns),
            HostWeight::BF16(weight) => multiply(isa, x, &weight[elements], in_features, columns),
            HostWeight::Blocks(block, weight) => {
                let row_bytes = in_features / block.block_len() * block.block_bytes();
                let weight = &weight[rows.start * row_bytes..rows.end * row_bytes];
                quantized::multiply(isa, block, weight, row_bytes, rounded, columns);
            }
        }
        add_bias(layer.bias, first, columns);
    }
}

/// What the tokens of a call stand side by side in.
static PANELS: Scratch<(FloatPanels, BlockPanels)> = Scratch::new();

/// Enough tokens for tiles, set side by side once for all layers, as each kind of weight that is there takes them.
struct Many<'a> {
    isa: Isa,
    floats: &'a FloatPanels,
    blocks: &'a BlockPanels,
}

impl Many<'_> {
    fn multiply(&self, layer: HostLinear<'_>, out: &mut [f32]) {
        match layer.weight {
            HostWeight::F32(weight) => self.multiply_floats(layer, weight, out),
            HostWeight::F16(weight) => self.multiply_floats(layer, weight, out),
            HostWeight::BF16(weight) => self.multiply_floats(layer, weight, out),
            HostWeight::Blocks(block, weight) => {
                let tiles = BlockTiles { isa: self.isa, panels: self.blocks, block, weight };
                linear_tiled(&tiles, layer.bias, layer.features[0], out);
            }
        }
    }

    fn multiply_floats<T: Row>(&self, layer: HostLinear<'_>, weight: &[T], out: &mut [f32]) {
        let [out_features, in_features] = layer.features;
        let widen = widen_floats(self.isa, weight, in_features);
        let tiles = FloatTiles { isa: self.isa, panels: self.floats, widen };
        linear_tiled(&tiles, layer.bias, out_features, out);
    }
}

fn widen_floats<T: Row>(isa: Isa, weight: &[T], in_features: usize) -> impl WidenRow {
    move |row: usize, range: Range<usize>, wide: &mut [f32]| {
        let row = &weight[row * in_features..(row + 1) * in_features];
        isa.widen(&row[range], wide);
    }
}

/// Rows of a weight `[out_features, in_features]` that are a task.
fn task_rows(tokens: usize, [_, in_features]: [usize; 2]) -> usize {
    (TASK_WORK / (tokens.max(1) * in_features)).next_multiple_of(ROWS).max(ROWS)
}

/// Cuts `out` `[tokens, out_features]` into tasks of `task_rows` columns: one slice per token each.
pub(super) fn split_columns(out: &mut [f32], out_features: usize, task_rows: usize) -> Vec<Vec<&mut [f32]>> {
    let tokens = out.len() / out_features;
    let tasks = out_features.div_ceil(task_rows);
    let mut columns = Vec::from_iter((0..tasks).map(|_| Vec::with_capacity(tokens)));
    for row in out.chunks_exact_mut(out_features) {
        for (column, part) in columns.iter_mut().zip(row.chunks_mut(task_rows)) {
            column.push(part);
        }
    }
    columns
}

/// Adds the biases from `first` on to each token's column.
pub(super) fn add_bias(bias: Option<&[f32]>, first: usize, columns: &mut [&mut [f32]]) {
    if let Some(bias) = bias {
        for (y, b) in columns.iter_mut().flat_map(|part| part.iter_mut().zip(&bias[first..])) {
            *y += b;
        }
    }
}

/// Multiplies each token of `x` with all rows of `weight`; `columns` has one slice per token.
fn multiply<T: Row>(isa: Isa, x: &[f32], weight: &[T], in_features: usize, columns: &mut [&mut [f32]]) {
    let rows = weight.len() / in_features;
    let in_groups = rows - rows % ROWS;
    for first in (0..in_groups).step_by(ROWS) {
        group::<T, ROWS>(isa, x, &weight[first * in_features..], in_features, columns, first);
    }
    for first in in_groups..rows {
        group::<T, 1>(isa, x, &weight[first * in_features..], in_features, columns, first);
    }
}

/// The products of the first `R` rows of `weight`, which go to the elements from `first` on of each token's column.
fn group<T: Row, const R: usize>(
    isa: Isa,
    x: &[f32],
    weight: &[T],
    in_features: usize,
    columns: &mut [&mut [f32]],
    first: usize,
) {
    let rows: [&[T]; R] = array::from_fn(|row| &weight[row * in_features..(row + 1) * in_features]);
    for (column, x) in columns.iter_mut().zip(x.chunks_exact(in_features)) {
        column[first..first + R].copy_from_slice(&T::products(isa, rows, x));
    }
}
