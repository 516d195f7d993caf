//! Many tokens: rows of the weight are made ready in blocks, once for all of them.

use std::ops::Range;

use device_mem::{Isa, Onto, Strided};
use rayon::prelude::*;

use super::linear::{add_bias, split_columns};

/// Tokens from which on tiles are multiplied.
pub(super) const TILED_FROM: usize = 16;
/// Elements of a row that are made ready at once.
pub(super) const DEPTH: usize = 256;
/// Rows of the weight that share one read of a block of x.
pub(super) const BLOCK_ROWS: usize = 48;
/// Tasks that a weight is cut into, as far as it has rows for them.
const TASKS: usize = 64;

/// Products of a weight `[out_features, in_features]` and tokens, which stand side by side in panels.
pub(super) trait Tiles: Sync {
    /// Working memory of a task.
    type Memory;

    fn memory(&self) -> Self::Memory;

    /// Tokens of a panel.
    fn panel_tokens(&self) -> usize;

    /// Fills `sums` `[panels, BLOCK_ROWS, panel_tokens]` for these rows.
    fn multiply(&self, rows: Range<usize>, memory: &mut Self::Memory, sums: &mut [f32]);
}

/// Writes all products to `out` `[tokens, out_features]`, with the bias added last, whatever the number of threads.
pub(super) fn linear_tiled(tiles: &impl Tiles, bias: Option<&[f32]>, out_features: usize, out: &mut [f32]) {
    let panel_tokens = tiles.panel_tokens();
    let task_rows = out_features.div_ceil(TASKS).next_multiple_of(BLOCK_ROWS);
    let columns = split_columns(out, out_features, task_rows);
    columns.into_par_iter().enumerate().for_each(|(task, mut columns)| {
        let rows = task * task_rows..out_features.min((task + 1) * task_rows);
        let mut memory = tiles.memory();
        let mut sums = vec![0.0; columns.len().div_ceil(panel_tokens) * BLOCK_ROWS * panel_tokens];
        for first in rows.clone().step_by(BLOCK_ROWS) {
            let block_rows = first..rows.end.min(first + BLOCK_ROWS);
            tiles.multiply(block_rows.clone(), &mut memory, &mut sums);
            for (token, column) in columns.iter_mut().enumerate() {
                let column = &mut column[first - rows.start..][..block_rows.len()];
                let (panel, lane) = (token / panel_tokens, token % panel_tokens);
                let rows = sums[panel * BLOCK_ROWS * panel_tokens..].chunks_exact(panel_tokens);
                for (y, row) in column.iter_mut().zip(rows) {
                    *y = row[lane];
                }
            }
        }
        add_bias(bias, rows.start, &mut columns);
    });
}

/// Writes the elements `range` of row `row` of a weight as f32.
pub(super) trait WidenRow: Fn(usize, Range<usize>, &mut [f32]) + Sync {}
impl<F: Fn(usize, Range<usize>, &mut [f32]) + Sync> WidenRow for F {}

/// Tokens side by side, for weights of floats.
#[derive(Default)]
pub(super) struct FloatPanels {
    in_features: usize,
    panel_tokens: usize,
    /// `[panels, in_features, panel_tokens]`, with zeros for the tokens that the last one lacks.
    values: Vec<f32>,
}

impl FloatPanels {
    /// Holds `x` `[tokens, in_features]` from now on.
    pub(super) fn lay(&mut self, isa: Isa, x: &[f32], in_features: usize) {
        let tokens = x.len() / in_features;
        let panel_tokens = isa.lanes(tokens);
        let panel = panel_tokens * in_features;
        self.values.resize(tokens.div_ceil(panel_tokens) * panel, 0.0);
        let rows = x.par_chunks(panel);
        self.values.par_chunks_exact_mut(panel).zip(rows).for_each(|(panel, x)| {
            if x.len() < panel.len() {
                panel.fill(0.0);
            }
            for (token, row) in x.chunks_exact(in_features).enumerate() {
                for (column, value) in panel.chunks_exact_mut(panel_tokens).zip(row) {
                    column[token] = *value;
                }
            }
        });
        (self.in_features, self.panel_tokens) = (in_features, panel_tokens);
    }
}

/// A weight of floats, whose rows are widened.
///
/// Each sum is fused multiply-adds in ascending order, from 0 again after each [`DEPTH`] elements, then those sums. It depends
/// on neither the other tokens nor the number of threads.
pub(super) struct FloatTiles<'a, W> {
    pub(super) isa: Isa,
    pub(super) panels: &'a FloatPanels,
    pub(super) widen: W,
}

impl<W: WidenRow> Tiles for FloatTiles<'_, W> {
    /// `[BLOCK_ROWS, DEPTH]`
    type Memory = Vec<f32>;

    fn memory(&self) -> Vec<f32> {
        vec![0.0; BLOCK_ROWS * DEPTH]
    }

    fn panel_tokens(&self) -> usize {
        self.panels.panel_tokens
    }

    fn multiply(&self, rows: Range<usize>, weight: &mut Vec<f32>, sums: &mut [f32]) {
        let (isa, &FloatPanels { in_features, panel_tokens, ref values }) = (self.isa, self.panels);
        sums.fill(0.0);
        for start in (0..in_features).step_by(DEPTH) {
            let depth = DEPTH.min(in_features - start);
            for (row, wide) in rows.clone().zip(weight.chunks_exact_mut(DEPTH)) {
                (self.widen)(row, start..start + depth, &mut wide[..depth]);
            }
            let Some(weight) = Strided::new(weight, [rows.len(), depth], [DEPTH, 1]) else { return };
            let sums = sums.chunks_exact_mut(BLOCK_ROWS * panel_tokens);
            for (panel, sums) in values.chunks_exact(in_features * panel_tokens).zip(sums) {
                let x = &panel[start * panel_tokens..(start + depth) * panel_tokens];
                isa.multiply(weight, x, panel_tokens, Onto::Sums, sums);
            }
        }
    }
}
