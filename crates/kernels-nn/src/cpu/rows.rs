use device_mem::Float;
use rayon::prelude::*;

use crate::layers::HostWeight;

/// Lanes of the sum of squares: element `i` goes to lane `i % LANES`.
const LANES: usize = 8;
/// Elements that are worth a task of their own.
const TASK_LEN: usize = 1 << 14;

/// Copies row `ids[t]` of `table` `[vocab, hidden]`, widened, to row `t` of `out`. Every id is below `vocab`.
pub(crate) fn embed_host(table: HostWeight<'_>, ids: &[u32], hidden: usize, out: &mut [f32]) {
    match table {
        HostWeight::F32(table) => embed(table, ids, hidden, out),
        HostWeight::F16(table) => embed(table, ids, hidden, out),
        HostWeight::BF16(table) => embed(table, ids, hidden, out),
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

/// Norms each row of `x` `[tokens, hidden]`.
pub(crate) fn rms_norm_host(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let hidden = weight.len();
    let rows_per_task = TASK_LEN.div_ceil(hidden);
    let rows = x.par_chunks_exact(hidden).zip(out.par_chunks_exact_mut(hidden));
    rows.with_min_len(rows_per_task).for_each(|(x, out)| {
        let scale = inverse_rms(x, eps);
        for (y, (x, w)) in out.iter_mut().zip(x.iter().zip(weight)) {
            *y = x * scale * w;
        }
    });
}

/// `1 / sqrt(mean(x^2) + eps)`, in f64, rounded once. The product of two f32 is exact in f64, so the sum is off by at
/// most `hidden * 2^-53` of itself in whatever order it is taken: a device that adds in another order gets the same
/// f32, but for the rare value that lies on the border between two.
#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
#[expect(clippy::cast_precision_loss, reason = "no row has 2^53 elements")]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let mut lanes = [0.0_f64; LANES];
    for chunk in x.chunks(LANES) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let mean = lanes.iter().sum::<f64>() / x.len() as f64;
    (1.0 / (mean + f64::from(eps)).sqrt()) as f32
}

/// `out = silu(gate) * up` with rows `[gate; up]` of `gate_up` `[tokens, 2 * ff]`.
pub(crate) fn swiglu_host(gate_up: &[f32], ff: usize, out: &mut [f32]) {
    let rows = gate_up.par_chunks_exact(2 * ff).zip(out.par_chunks_exact_mut(ff));
    rows.for_each(|(gate_up, out)| {
        let (gate, up) = gate_up.split_at(ff);
        let parts = out.par_chunks_mut(TASK_LEN).zip(gate.par_chunks(TASK_LEN)).zip(up.par_chunks(TASK_LEN));
        parts.for_each(|((out, gate), up)| {
            for (y, (gate, up)) in out.iter_mut().zip(gate.iter().zip(up)) {
                *y = silu(*gate) * up;
            }
        });
    });
}

/// `x / (1 + e^-x)`, in f64, rounded once to f32, so that it does not depend on whose `exp` was called. For very
/// negative x the exponential overflows and the quotient is -0, its limit.
#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
fn silu(x: f32) -> f32 {
    let x = f64::from(x);
    (x / (1.0 + (-x).exp())) as f32
}

/// `x += y`.
pub(crate) fn add_host(x: &mut [f32], y: &[f32]) {
    x.par_chunks_mut(TASK_LEN).zip(y.par_chunks(TASK_LEN)).for_each(|(x, y)| {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    });
}
