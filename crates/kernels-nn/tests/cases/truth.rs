//! The operations in f64, and how far an f32 body may be from them.

use device_mem::{DType, Device};
use kernels_nn::SamplerConfig;

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;
/// The distance of the least f32: what a product may lose where it has no normal number.
const LEAST: f64 = 1.401_298_464_324_817e-45;
/// Tokens from which on a HIP device multiplies in tiles.
const TILED_FROM: usize = 16;

/// Values, and a bound for each.
pub(crate) struct Exact {
    pub(crate) values: Vec<f64>,
    pub(crate) bounds: Vec<f64>,
}

impl Exact {
    /// Values that carry so many roundings, each of a unit of the value itself.
    fn relative(values: Vec<f64>, roundings: usize) -> Exact {
        let bounds = values.iter().map(|value| gamma(roundings) * value.abs() + LEAST).collect();
        Exact { values, bounds }
    }
}

/// Higham's `gamma_n`: what `n` roundings can do to a value, as a share of it.
fn gamma(roundings: usize) -> f64 {
    let error = roundings as f64 * U;
    error / (1.0 - error)
}

/// `x W^T + b` for `x` `[tokens, in_features]` and `weight` `[out_features, in_features]`, as a device computes it.
pub(crate) fn linear(x: &[f32], weight: &[f64], bias: &[f32], dtype: DType, device: &Device) -> Exact {
    let out_features = bias.len();
    let in_features = weight.len() / out_features;
    let tokens = x.len() / in_features;
    let gamma = gamma(linear_roundings(tokens, out_features, in_features, dtype, device));
    let (mut values, mut bounds) = (Vec::new(), Vec::new());
    for x in x.chunks_exact(in_features) {
        for (row, bias) in weight.chunks_exact(in_features).zip(bias) {
            let products = || row.iter().zip(x).map(|(w, &x)| w * f64::from(x));
            values.push(products().sum::<f64>() + f64::from(*bias));
            bounds.push(gamma * (products().map(f64::abs).sum::<f64>() + f64::from(bias.abs())));
        }
    }
    Exact { values, bounds }
}

/// The longest chain of roundings, as the documentation of `linear` counts them.
fn linear_roundings(
    tokens: usize,
    out_features: usize,
    in_features: usize,
    dtype: DType,
    device: &Device,
) -> usize {
    let (additions, parts) = (in_features.min(256), in_features.div_ceil(256));
    if let Device::Cpu = device {
        return if tokens < TILED_FROM { in_features.div_ceil(16) + 5 } else { additions + parts + 2 };
    }
    if tokens < TILED_FROM {
        let lanes = if out_features < 1 << 14 { 256 } else { 32 };
        return 8 * in_features.div_ceil(8 * lanes) + lanes.ilog2() as usize + 1;
    }
    match dtype {
        DType::F32 => additions + parts + 1,
        DType::BF16 => 4 * additions + parts + 140,
        DType::F16 => 6 * additions + parts + 410,
        other => panic!("no weight is {other}"),
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` of each row.
pub(crate) fn norm(x: &[f32], weight: &[f32], eps: f32) -> Exact {
    let wide = |&value: &f32| f64::from(value);
    let rows = x.chunks_exact(weight.len()).flat_map(|x| {
        let mean = x.iter().map(|value| wide(value).powi(2)).sum::<f64>() / x.len() as f64;
        let root = (mean + f64::from(eps)).sqrt();
        x.iter().zip(weight).map(move |(x, w)| wide(x) / root * wide(w))
    });
    Exact::relative(rows.collect(), 3)
}

/// `silu(gate) * up` of rows `[gate; up]`.
pub(crate) fn swiglu(gate_up: &[f32], ff: usize) -> Exact {
    let rows = gate_up.chunks_exact(2 * ff).flat_map(|row| {
        let (gate, up) = row.split_at(ff);
        gate.iter().zip(up).map(|(&gate, &up)| {
            let (gate, up) = (f64::from(gate), f64::from(up));
            gate / (1.0 + (-gate).exp()) * up
        })
    });
    Exact::relative(rows.collect(), 7)
}

/// Whether the rule leaves the token of these logits: among the first `top_k` by size, and before those that `top_p` of the
/// probability is reached by. Greedy is the first maximum.
pub(crate) fn allows(config: &SamplerConfig, logits: &[f32], token: f32) -> bool {
    let chosen = |id: &usize| *id as f32 == token;
    let mut order = Vec::from_iter(0..logits.len());
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if config.temperature == 0.0 {
        return chosen(&order[0]);
    }
    if config.top_k > 0 {
        order.truncate(config.top_k as usize);
    }
    let largest = f64::from(logits[order[0]]);
    let share = |id: usize| ((f64::from(logits[id]) - largest) / f64::from(config.temperature)).exp();
    let total: f64 = order.iter().map(|&id| share(id)).sum();
    let before: f64 = order.iter().take_while(|&id| !chosen(id)).map(|&id| share(id)).sum();
    // Shares are rounded to whole numbers, which moves the edge by less than this.
    order.iter().any(chosen) && before < (f64::from(config.top_p) + 1e-6) * total
}
