use device_mem::{Body, Float, Isa, exp_nonpositive};
use rayon::prelude::*;

use super::TASK_LEN;
use crate::layers::HostWeight;

/// Copies row `ids[t]` of `table` `[vocab, hidden]`, widened, to row `t` of `out`. Every id is below `vocab`.
pub(crate) fn embed_host(table: HostWeight<'_>, ids: &[u32], hidden: usize, out: &mut [f32]) {
    match table {
        HostWeight::F32(table) => embed(table, ids, hidden, out),
        HostWeight::F16(table) => embed(table, ids, hidden, out),
        HostWeight::BF16(table) => embed(table, ids, hidden, out),
        HostWeight::Blocks(block, table) => {
            let row_bytes = hidden / block.block_len() * block.block_bytes();
            for (id, out) in ids.iter().zip(out.chunks_exact_mut(hidden)) {
                block.widen(&table[*id as usize * row_bytes..][..row_bytes], out);
            }
        }
    }
}

fn embed<T: Float>(table: &[T], ids: &[u32], hidden: usize, out: &mut [f32]) {
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(hidden)) {
        let start = *id as usize * hidden;
        for (y, value) in out.iter_mut().zip(&table[start..start + hidden]) {
            *y = value.to_f32();
        }
    }
}

/// `out = silu(gate) * up` with rows `[gate; up]` of `gate_up` `[tokens, 2 * ff]`.
pub(crate) fn swiglu_host(gate_up: &[f32], ff: usize, out: &mut [f32]) {
    let rows = gate_up.par_chunks_exact(2 * ff).zip(out.par_chunks_exact_mut(ff));
    let isa = Isa::best();
    rows.for_each(|(gate_up, out)| {
        let (gate, up) = gate_up.split_at(ff);
        let parts = out.par_chunks_mut(TASK_LEN).zip(gate.par_chunks(TASK_LEN)).zip(up.par_chunks(TASK_LEN));
        parts.for_each(|((out, gate), up)| isa.run(Gate { gate, up, out }));
    });
}

/// `out = silu(gate) * up`.
struct Gate<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Body for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (y, (gate, up)) in self.out.iter_mut().zip(self.gate.iter().zip(self.up)) {
            *y = silu(*gate) * up;
        }
    }
}

/// `x / (1 + e^-x)`, with the exponential taken of `-|x|`, so that it never overflows.
#[inline(always)]
fn silu(x: f32) -> f32 {
    let e = exp_nonpositive(if x < 0.0 { x } else { -x });
    let numerator = if x < 0.0 { x * e } else { x };
    numerator / (1.0 + e)
}

/// `x += y`.
pub(crate) fn add_host(x: &mut [f32], y: &[f32]) {
    x.par_chunks_mut(TASK_LEN).zip(y.par_chunks(TASK_LEN)).for_each(|(x, y)| {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    });
}
