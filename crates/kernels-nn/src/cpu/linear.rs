use std::array;

use device_mem::Float;
use rayon::prelude::*;

use crate::layers::HostWeight;

/// Independent sums of one dot product: element `i` goes to lane `i % LANES`. The compiler maps lanes to SIMD
/// registers of any width, so that the result does not depend on the machine.
const LANES: usize = 8;
/// Rows of the weight that are multiplied together, so that each element of x is read once for all of them.
const ROWS: usize = 4;
/// Elements of a row that are widened at a time; a multiple of `LANES`. `ROWS` tiles stay in the first-level cache.
const TILE: usize = 512;
/// Tokens that share one pass over the weight.
const TOKENS: usize = 32;
/// Multiply-adds that are worth a task of their own.
const TASK_WORK: usize = 1 << 16;

type Lanes = [f32; LANES];

/// `out = x W^T + b` with `x` `[tokens, in_features]`, `weight` `[out_features, in_features]`, `out`
/// `[tokens, out_features]`.
///
/// The order of every sum is fixed: products are added to their lane in ascending order, the lanes are then added in
/// halves (0+4, 1+5, ...; 0+2, 1+3; 0+1), and the bias comes last. So neither the number of threads nor the number of
/// tokens in a call changes a bit of the result.
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
    }
}

fn linear<T: Float>(x: &[f32], weight: &[T], bias: Option<&[f32]>, in_features: usize, out: &mut [f32]) {
    let out_features = weight.len() / in_features;
    for (x, out) in x.chunks(TOKENS * in_features).zip(out.chunks_mut(TOKENS * out_features)) {
        let tokens = x.len() / in_features;
        let task_rows = (TASK_WORK / (tokens * in_features)).next_multiple_of(ROWS).max(ROWS);
        let columns = split_columns(out, out_features, task_rows);
        let weights = weight.par_chunks(task_rows * in_features);
        columns.into_par_iter().zip(weights).enumerate().for_each(|(task, (mut columns, weight))| {
            multiply(x, weight, in_features, &mut columns);
            if let Some(bias) = bias {
                let bias = &bias[task * task_rows..];
                for (y, b) in columns.iter_mut().flat_map(|part| part.iter_mut().zip(bias)) {
                    *y += b;
                }
            }
        });
    }
}

/// Cuts `out` `[tokens, out_features]` into tasks of `task_rows` columns: one slice per token each.
fn split_columns(out: &mut [f32], out_features: usize, task_rows: usize) -> Vec<Vec<&mut [f32]>> {
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

/// Multiplies at most [`TOKENS`] rows of `x` with all rows of `weight`; `columns` has one slice per token.
fn multiply<T: Float>(x: &[f32], weight: &[T], in_features: usize, columns: &mut [&mut [f32]]) {
    let (groups, rest) = weight.split_at(weight.len() - weight.len() % (ROWS * in_features));
    let mut row = 0;
    let mut group = Group::<ROWS>::new();
    for rows in groups.chunks_exact(ROWS * in_features) {
        group.multiply(x, rows, in_features, columns, row);
        row += ROWS;
    }
    let mut single = Group::<1>::new();
    for rows in rest.chunks_exact(in_features) {
        single.multiply(x, rows, in_features, columns, row);
        row += 1;
    }
}

/// Working memory for `R` rows of the weight and [`TOKENS`] rows of x.
struct Group<const R: usize> {
    tiles: [[f32; TILE]; R],
    sums: [[Lanes; R]; TOKENS],
}

impl<const R: usize> Group<R> {
    fn new() -> Group<R> {
        Group { tiles: [[0.0; TILE]; R], sums: [[[0.0; LANES]; R]; TOKENS] }
    }

    /// Writes the products of `rows` `[R, in_features]` to the elements from `first` on of each token's column.
    fn multiply<T: Float>(
        &mut self,
        x: &[f32],
        rows: &[T],
        in_features: usize,
        columns: &mut [&mut [f32]],
        first: usize,
    ) {
        let sums = &mut self.sums[..columns.len()];
        sums.fill([[0.0; LANES]; R]);
        for start in (0..in_features).step_by(TILE) {
            let end = in_features.min(start + TILE);
            let mut tiles = self.tiles.iter_mut().zip(rows.chunks_exact(in_features));
            let tiles: [&[f32]; R] = array::from_fn(|_| match tiles.next() {
                Some((scratch, row)) => T::widened(&row[start..end], scratch),
                None => &[],
            });
            for (sums, x) in sums.iter_mut().zip(x.chunks_exact(in_features)) {
                add_products(sums, &tiles, &x[start..end]);
            }
        }
        for (sums, column) in sums.iter().zip(columns) {
            for (y, lanes) in column[first..first + R].iter_mut().zip(sums) {
                *y = add_lanes(lanes);
            }
        }
    }
}

/// Adds the products of `x` and each row to the row's lanes. Counted loops over local arrays are what the compiler
/// turns into SIMD code; the same loops over iterators of the outer arrays ran 18 times slower.
#[inline]
#[expect(clippy::needless_range_loop, reason = "see above")]
fn add_products<const R: usize>(sums: &mut [Lanes; R], rows: &[&[f32]; R], x: &[f32]) {
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    let rows: [(&[Lanes], &[f32]); R] = array::from_fn(|row| rows[row][..x.len()].as_chunks());
    let mut lanes = *sums;
    for chunk in 0..x_body.len() {
        let x = x_body[chunk];
        for row in 0..R {
            let w = rows[row].0[chunk];
            for lane in 0..LANES {
                lanes[row][lane] += w[lane] * x[lane];
            }
        }
    }
    for row in 0..R {
        for lane in 0..x_tail.len() {
            lanes[row][lane] += rows[row].1[lane] * x_tail[lane];
        }
    }
    *sums = lanes;
}

/// Adds the lanes in halves.
#[inline]
fn add_lanes(lanes: &Lanes) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
