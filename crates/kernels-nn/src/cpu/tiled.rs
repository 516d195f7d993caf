//! Many tokens: blocks of the weight are widened once for all of them.

use std::ops::Range;

use device_mem::{Isa, Onto, Strided};
use rayon::prelude::*;

use super::linear::{add_bias, split_columns};

/// Tokens from which on tiles are multiplied.
pub(super) const TILED_FROM: usize = 16;
/// Elements of a row that are added up before their sum joins the row's.
pub(super) const DEPTH: usize = 256;
/// Rows of the weight that share one read of a block of x.
const BLOCK_ROWS: usize = 48;
/// Tasks that a weight is cut into, as far as it has rows for them.
const TASKS: usize = 64;

/// Writes the elements `range` of row `row` of a weight as f32.
pub(super) trait WidenRow: Fn(usize, Range<usize>, &mut [f32]) + Sync {}
impl<F: Fn(usize, Range<usize>, &mut [f32]) + Sync> WidenRow for F {}

/// `out = x W^T + b` with `x` `[tokens, in_features]` and `out` `[tokens, out_features]`.
///
/// Each sum is fused multiply-adds in ascending order, from 0 again after each [`DEPTH`] elements, then those sums, then the
/// bias. It depends on neither the other tokens nor the number of threads.
pub(super) fn linear_tiled(
    x: &[f32],
    widen: impl WidenRow,
    bias: Option<&[f32]>,
    [out_features, in_features]: [usize; 2],
    out: &mut [f32],
) {
    let isa = Isa::best();
    let panel_tokens = isa.lanes(x.len() / in_features);
    let panels = pack(x, in_features, panel_tokens);
    let task_rows = out_features.div_ceil(TASKS).next_multiple_of(BLOCK_ROWS);
    let columns = split_columns(out, out_features, task_rows);
    columns.into_par_iter().enumerate().for_each(|(task, mut columns)| {
        let rows = task * task_rows..out_features.min((task + 1) * task_rows);
        let mut block = Block::new(isa, panel_tokens, columns.len());
        for first in rows.clone().step_by(BLOCK_ROWS) {
            let block_rows = first..rows.end.min(first + BLOCK_ROWS);
            block.multiply(&panels, &widen, block_rows.clone(), in_features);
            for (token, column) in columns.iter_mut().enumerate() {
                let column = &mut column[first - rows.start..][..block_rows.len()];
                for (row, y) in column.iter_mut().enumerate() {
                    *y = block.sum(row, token);
                }
            }
        }
        add_bias(bias, rows.start, &mut columns);
    });
}

/// `x` `[tokens, in_features]` as panels of some tokens, each `[in_features, panel_tokens]`, with zeros for the tokens that
/// the last one lacks.
fn pack(x: &[f32], in_features: usize, panel_tokens: usize) -> Vec<f32> {
    let tokens = x.len() / in_features;
    let panel = panel_tokens * in_features;
    let mut panels = vec![0.0; tokens.div_ceil(panel_tokens) * panel];
    let rows = x.par_chunks(panel);
    panels.par_chunks_exact_mut(panel).zip(rows).for_each(|(panel, x)| {
        for (token, row) in x.chunks_exact(in_features).enumerate() {
            for (column, value) in panel.chunks_exact_mut(panel_tokens).zip(row) {
                column[token] = *value;
            }
        }
    });
    panels
}

/// Working memory for [`BLOCK_ROWS`] rows of the weight and all tokens.
struct Block {
    isa: Isa,
    panel_tokens: usize,
    /// `[BLOCK_ROWS, DEPTH]`
    weight: Vec<f32>,
    /// `[panels, BLOCK_ROWS, panel_tokens]`
    sums: Vec<f32>,
}

impl Block {
    fn new(isa: Isa, panel_tokens: usize, tokens: usize) -> Block {
        let panels = tokens.div_ceil(panel_tokens);
        Block {
            isa,
            panel_tokens,
            weight: vec![0.0; BLOCK_ROWS * DEPTH],
            sums: vec![0.0; panels * BLOCK_ROWS * panel_tokens],
        }
    }

    fn sum(&self, row: usize, token: usize) -> f32 {
        let (panel, lane) = (token / self.panel_tokens, token % self.panel_tokens);
        self.sums[(panel * BLOCK_ROWS + row) * self.panel_tokens + lane]
    }

    fn multiply(&mut self, panels: &[f32], widen: &impl WidenRow, rows: Range<usize>, in_features: usize) {
        let &mut Block { isa, panel_tokens, .. } = self;
        self.sums.fill(0.0);
        for start in (0..in_features).step_by(DEPTH) {
            let depth = DEPTH.min(in_features - start);
            for (row, wide) in rows.clone().zip(self.weight.chunks_exact_mut(DEPTH)) {
                widen(row, start..start + depth, &mut wide[..depth]);
            }
            let Some(weight) = Strided::new(&self.weight, [rows.len(), depth], [DEPTH, 1]) else { return };
            let sums = self.sums.chunks_exact_mut(BLOCK_ROWS * panel_tokens);
            for (panel, sums) in panels.chunks_exact(in_features * panel_tokens).zip(sums) {
                let x = &panel[start * panel_tokens..(start + depth) * panel_tokens];
                isa.multiply(weight, x, panel_tokens, Onto::Sums, sums);
            }
        }
    }
}
