use std::array;
use std::ops::Range;

use device_mem::Isa;
use rayon::prelude::*;

use super::quantized::linear_blocks;
use super::simd::{LANES, Row, add_lanes};
use super::tiled::{TILED_FROM, linear_tiled};
use crate::layers::HostWeight;

/// Rows of the weight that are multiplied together, so that each element of x is read once for all of them.
const ROWS: usize = 4;
/// Multiply-adds that are worth a task of their own.
const TASK_WORK: usize = 1 << 16;

/// `out = x W^T + b` with `x` `[tokens, in_features]`, `weight` `[out_features, in_features]`, `out`
/// `[tokens, out_features]`.
///
/// The order of every sum is fixed: products are added to their lane in ascending order, the lanes are then added in
/// halves (0+8, 1+9, ...; 0+4, ...; 0+2, 1+3; 0+1), and the bias comes last. So neither the number of threads nor the
/// number of tokens in a call changes a bit of the result, until there are enough for tiles.
pub(crate) fn linear_host(
    x: &[f32],
    weight: HostWeight<'_>,
    bias: Option<&[f32]>,
    in_features: usize,
    out: &mut [f32],
) {
    match weight {
        HostWeight::F32(weight) => linear(x, weight, bias, in_features, out),
        HostWeight::F16(weight) => linear(x, weight, bias, in_features, out),
        HostWeight::BF16(weight) => linear(x, weight, bias, in_features, out),
        HostWeight::Blocks(block, weight) => {
            let row_bytes = in_features / block.block_len() * block.block_bytes();
            let features = [weight.len() / row_bytes, in_features];
            linear_blocks(x, (block, weight), bias, features, out);
        }
    }
}

fn linear<T: Row>(x: &[f32], weight: &[T], bias: Option<&[f32]>, in_features: usize, out: &mut [f32]) {
    let out_features = weight.len() / in_features;
    let features = [out_features, in_features];
    let isa = Isa::best();
    if x.len() / in_features >= TILED_FROM {
        let widen = |row: usize, range: Range<usize>, wide: &mut [f32]| {
            let row = &weight[row * in_features..(row + 1) * in_features];
            isa.widen(&row[range], wide);
        };
        return linear_tiled(x, widen, bias, features, out);
    }
    in_tasks(out, bias, features, |rows, columns| {
        multiply(isa, x, &weight[rows.start * in_features..rows.end * in_features], in_features, columns);
    });
}

/// Shares the rows of a weight `[out_features, in_features]` out to the threads: `multiply` fills each token's column of some
/// rows, to which the biases are added. A token alone allocates nothing.
pub(super) fn in_tasks(
    out: &mut [f32],
    bias: Option<&[f32]>,
    [out_features, in_features]: [usize; 2],
    multiply: impl Fn(Range<usize>, &mut [&mut [f32]]) + Sync,
) {
    let tokens = out.len() / out_features;
    let task_rows = (TASK_WORK / (tokens.max(1) * in_features)).next_multiple_of(ROWS).max(ROWS);
    let run = |task: usize, columns: &mut [&mut [f32]]| {
        let first = task * task_rows;
        multiply(first..out_features.min(first + task_rows), columns);
        add_bias(bias, first, columns);
    };
    if tokens == 1 {
        return out.par_chunks_mut(task_rows).enumerate().for_each(|(task, out)| run(task, &mut [out]));
    }
    let columns = split_columns(out, out_features, task_rows);
    columns.into_par_iter().enumerate().for_each(|(task, mut columns)| run(task, &mut columns));
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
        column[first..first + R].copy_from_slice(&products(isa, rows, x));
    }
}

/// The dot products of `x` with each row.
fn products<T: Row, const R: usize>(isa: Isa, rows: [&[T]; R], x: &[f32]) -> [f32; R] {
    let (x_body, x_tail) = x.as_chunks();
    let rows: [(&[[T; LANES]], &[T]); R] = rows.map(<[T]>::as_chunks);
    let mut lanes = T::lanes(isa, rows.map(|(body, _)| body), x_body);
    for (lanes, (_, tail)) in lanes.iter_mut().zip(rows) {
        for (lane, (w, x)) in lanes.iter_mut().zip(tail.iter().zip(x_tail)) {
            *lane += w.to_f32() * x;
        }
    }
    lanes.map(add_lanes)
}
