//! The kernels of `kernels-nn`.

use anyhow::Result;
use device_mem::{DType, Device, DeviceBuffer};
use half::{bf16, f16};
use kernels_nn::{
    Branch, Embedding, Linear, Residual, RmsNorm, Sampler, SamplerConfig, Weight, add, add_rms_norm, advance,
    argmax, embed, linear, norm_linear, norm_swiglu, rms_norm, rms_norm_in_place, sample, swiglu,
};

use super::case::{Bound, Case, Truth, bits, uniform, unwritten, upload, upload_as};

const TOKENS: usize = 3;
/// Neither a multiple of a wave nor of the 256 lanes of a sum.
const HIDDEN: usize = 300;
const OUT_FEATURES: usize = 97;
const VOCAB: usize = 1031;
/// From this many tokens on `linear` multiplies in tiles.
const TILED_FROM: usize = 16;
const WEIGHTS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

pub(crate) fn cases() -> Result<Vec<Case>> {
    let embeddings = WEIGHTS.map(embedding);
    let decoded = WEIGHTS.map(|dtype| product(dtype, TOKENS));
    let tiled = WEIGHTS.map(|dtype| product(dtype, TILED_FROM + 1));
    let rows = [norm(), norm_in_place(), residual_norm(false), residual_norm(true), gated(), sum()];
    let rest = [advanced(), greedy(), drawn()];
    let fused = WEIGHTS.into_iter().map(fused).collect::<Result<Vec<_>>>()?;
    let plain = embeddings.into_iter().chain(decoded).chain(tiled).chain(rows).chain(rest);
    Ok(plain.chain(fused.into_iter().flatten()).collect())
}

fn on_cpu(kernel: String, operands: String, run: impl Fn(&Device) -> Result<Vec<u32>> + 'static) -> Case {
    Case { kernel, operands, run: Box::new(run), truth: Truth::Cpu }
}

fn embedding(dtype: DType) -> Case {
    on_cpu(format!("embedding {dtype}"), format!("[{VOCAB}, {HIDDEN}], {TOKENS} ids"), move |device| {
        let table = Embedding::new(weight(device, dtype, &uniform(10, VOCAB * HIDDEN))?, VOCAB, HIDDEN)?;
        let ids = upload(device, &[0, 515, 1030])?;
        let mut out = unwritten(device, TOKENS * HIDDEN)?;
        embed(&table, ids.as_view(), out.as_view_mut()?)?;
        bits(&out)
    })
}

fn norm() -> Case {
    on_cpu("rms_norm".into(), format!("[{TOKENS}, {HIDDEN}]"), |device| {
        let x = upload(device, &uniform(11, TOKENS * HIDDEN))?;
        let mut out = unwritten(device, TOKENS * HIDDEN)?;
        rms_norm(x.as_view(), &norm_of(device, 12, HIDDEN)?, out.as_view_mut()?)?;
        bits(&out)
    })
}

fn norm_in_place() -> Case {
    on_cpu("rms_norm in place".into(), format!("[{TOKENS}, {HIDDEN}]"), |device| {
        let mut x = upload(device, &uniform(13, TOKENS * HIDDEN))?;
        rms_norm_in_place(x.as_view_mut()?, &norm_of(device, 14, HIDDEN)?)?;
        bits(&x)
    })
}

fn residual_norm(branch_is_normed: bool) -> Case {
    let kernel = if branch_is_normed { "add_rms_norm, branch normed" } else { "add_rms_norm" };
    on_cpu(kernel.into(), format!("[{TOKENS}, {HIDDEN}]"), move |device| {
        let mut x = upload(device, &uniform(15, TOKENS * HIDDEN))?;
        let branch = upload(device, &uniform(16, TOKENS * HIDDEN))?;
        let branch_norm = if branch_is_normed { Some(norm_of(device, 17, HIDDEN)?) } else { None };
        let norm = norm_of(device, 18, HIDDEN)?;
        let mut out = unwritten(device, TOKENS * HIDDEN)?;
        add_rms_norm(x.as_view_mut()?, branch.as_view(), branch_norm.as_ref(), &norm, out.as_view_mut()?)?;
        Ok([bits(&x)?, bits(&out)?].concat())
    })
}

fn gated() -> Case {
    on_cpu("swiglu".into(), format!("[{TOKENS}, 2 * {HIDDEN}]"), |device| {
        let wide = Vec::from_iter(uniform(19, TOKENS * 2 * HIDDEN).iter().map(|value| value * 30.0));
        let gate_up = upload(device, &wide)?;
        let mut out = unwritten(device, TOKENS * HIDDEN)?;
        swiglu(gate_up.as_view(), HIDDEN, out.as_view_mut()?)?;
        bits(&out)
    })
}

fn sum() -> Case {
    on_cpu("add".into(), format!("[{TOKENS}, {HIDDEN}]"), |device| {
        let mut x = upload(device, &uniform(20, TOKENS * HIDDEN))?;
        let y = upload(device, &uniform(21, TOKENS * HIDDEN))?;
        add(x.as_view_mut()?, y.as_view())?;
        bits(&x)
    })
}

fn advanced() -> Case {
    on_cpu("add u32".into(), format!("[{TOKENS}]"), |device| {
        let mut counts = upload(device, &[0, 41, u32::MAX])?;
        let by = upload(device, &[1_u32; TOKENS])?;
        advance(counts.as_view_mut()?, by.as_view())?;
        Ok(counts.to_host_vec()?)
    })
}

/// `norm_linear` and `norm_swiglu`: their sums are compared to the bound of [`linear`], of rows that are normed on the CPU,
/// whose bits the launches have.
fn fused(dtype: DType) -> Result<[Case; 2]> {
    let (x, rows) = (uniform(27, TOKENS * HIDDEN), uniform(28, TOKENS * HIDDEN));
    let (w, b) = (uniform(25, 2 * OUT_FEATURES * HIDDEN), uniform(26, 2 * OUT_FEATURES));
    let (normed, sums) = normed_on_cpu(&x, &rows, HIDDEN)?;
    let bounds = product_bounds(dtype, &normed, &w, &b);
    let gated = gated_bounds(&bounds, OUT_FEATURES);
    let [bounds, gated] = [bounds, gated].map(|bounds| [bounds, sums.clone()].concat());
    let launch = move |device: &Device, is_gated: bool| {
        let gate_up = weight(device, dtype, &w)?;
        let gate_up = Linear::new(gate_up, Some(upload(device, &b)?), 2 * OUT_FEATURES, HIDDEN)?;
        let (norm, branch_norm) = (norm_of(device, 18, HIDDEN)?, norm_of(device, 17, HIDDEN)?);
        let (x, rows, mut sum) = (upload(device, &x)?, upload(device, &rows)?, unwritten(device, x.len())?);
        let branch = Branch { rows: rows.as_view(), norm: Some(&branch_norm), sum: sum.as_view_mut()? };
        let residual = Residual { x: x.as_view(), branch: Some(branch) };
        let mut out = unwritten(device, TOKENS * OUT_FEATURES * if is_gated { 1 } else { 2 })?;
        if is_gated {
            norm_swiglu(residual, &norm, &gate_up, out.as_view_mut()?)?;
        } else {
            norm_linear(residual, &norm, [(&gate_up, out.as_view_mut()?)])?;
        }
        Ok([bits(&out)?, bits(&sum)?].concat())
    };
    let case = |kernel: &str, is_gated: bool, bounds: Vec<Bound>| {
        let launch = launch.clone();
        Case {
            kernel: format!("norm_linear {dtype}{kernel}"),
            operands: format!("x [{TOKENS}, {HIDDEN}], W [2 * {OUT_FEATURES}, {HIDDEN}], b"),
            run: Box::new(move |device| launch(device, is_gated)),
            truth: Truth::Bounds(bounds),
        }
    };
    Ok([case("", false, bounds), case(", SwiGLU", true, gated)])
}

/// `norm(x + branch_norm(rows))` on the CPU, of rows of `hidden` elements, and the sum, which launches have bit for bit.
pub(super) fn normed_on_cpu(x: &[f32], rows: &[f32], hidden: usize) -> Result<(Vec<f32>, Vec<Bound>)> {
    let cpu = &Device::Cpu;
    let (mut x, rows, mut out) = (upload(cpu, x)?, upload(cpu, rows)?, unwritten(cpu, x.len())?);
    let (branch_norm, norm) = (norm_of(cpu, 17, hidden)?, norm_of(cpu, 18, hidden)?);
    add_rms_norm(x.as_view_mut()?, rows.as_view(), Some(&branch_norm), &norm, out.as_view_mut()?)?;
    let exact = |sum: f32| Bound { exact: f64::from(sum), error: 0.0 };
    Ok((out.to_host_vec()?, x.to_host_vec()?.into_iter().map(exact).collect()))
}

/// SwiGLU of gates and ups that are within their bounds: the slope of silu is below 1.1 everywhere, its own error 7
/// roundings ([`swiglu`]).
pub(super) fn gated_bounds(bounds: &[Bound], out_features: usize) -> Vec<Bound> {
    let of = |(gate, up): (&Bound, &Bound)| {
        let silu = gate.exact / (1.0 + (-gate.exact).exp());
        let silu_error = 1.1 * gate.error;
        let size = (silu.abs() + silu_error) * (up.exact.abs() + up.error);
        let error = silu_error * (up.exact.abs() + up.error) + silu.abs() * up.error;
        Bound { exact: silu * up.exact, error: error + 8.0 * 2.0_f64.powi(-24) * size }
    };
    let rows = bounds.chunks_exact(2 * out_features);
    rows.flat_map(|row| {
        let (gates, ups) = row.split_at(out_features);
        gates.iter().zip(ups).map(of)
    })
    .collect()
}

fn greedy() -> Case {
    on_cpu("argmax".into(), format!("[{TOKENS}, {VOCAB}]"), |device| {
        let logits = upload(device, &uniform(22, TOKENS * VOCAB))?;
        let mut tokens = upload(device, &[7_u32; TOKENS])?;
        argmax(logits.as_view(), VOCAB, tokens.as_view_mut()?)?;
        Ok(tokens.to_host_vec()?)
    })
}

fn drawn() -> Case {
    let config = SamplerConfig { temperature: 0.8, top_k: 50, top_p: 0.9, seed: 42 };
    on_cpu("sample".into(), format!("[{TOKENS}, {VOCAB}], top-k 50, top-p 0.9"), move |device| {
        let logits = upload(device, &uniform(23, TOKENS * VOCAB))?;
        let mut draws = upload(device, &Sampler::new(config)?.draw().repeat(TOKENS))?;
        let mut tokens = upload(device, &[7_u32; TOKENS])?;
        sample(logits.as_view(), VOCAB, &config, draws.as_view_mut()?, tokens.as_view_mut()?)?;
        Ok([tokens.to_host_vec()?, draws.to_host_vec()?].concat())
    })
}

fn product(dtype: DType, tokens: usize) -> Case {
    let (x, w, b) =
        (uniform(24, tokens * HIDDEN), uniform(25, OUT_FEATURES * HIDDEN), uniform(26, OUT_FEATURES));
    let bounds = product_bounds(dtype, &x, &w, &b);
    let run = move |device: &Device| {
        let layer = Linear::new(weight(device, dtype, &w)?, Some(upload(device, &b)?), OUT_FEATURES, HIDDEN)?;
        let x = upload(device, &x)?;
        let mut out = unwritten(device, tokens * OUT_FEATURES)?;
        linear(x.as_view(), &layer, out.as_view_mut()?)?;
        bits(&out)
    };
    let form = if tokens < TILED_FROM { "linear" } else { "linear_tiled" };
    Case {
        kernel: format!("{form} {dtype}"),
        operands: format!("x [{tokens}, {HIDDEN}], W [{OUT_FEATURES}, {HIDDEN}], b"),
        run: Box::new(run),
        truth: Truth::Bounds(bounds),
    }
}

/// The bound that [`linear`] documents for HIP devices.
fn product_bounds(dtype: DType, x: &[f32], w: &[f32], b: &[f32]) -> Vec<Bound> {
    let unit = 2.0_f64.powi(-24);
    let roundings = roundings(dtype, x.len() / HIDDEN) as f64;
    let gamma = roundings * unit / (1.0 - roundings * unit);
    let w = Vec::from_iter(w.iter().map(|&value| stored(dtype, value)));
    let of_row = |x: &[f32], row: &[f64], bias: f32| {
        let products = || x.iter().zip(row).map(|(&x, w)| f64::from(x) * w);
        let magnitude: f64 = products().map(f64::abs).sum();
        let (exact, bias) = (products().sum::<f64>(), f64::from(bias));
        Bound { exact: exact + bias, error: gamma * (magnitude + bias.abs()) }
    };
    let rows = || w.chunks_exact(HIDDEN).zip(b);
    x.chunks_exact(HIDDEN).flat_map(|x| rows().map(move |(row, &bias)| of_row(x, row, bias))).collect()
}

fn roundings(dtype: DType, tokens: usize) -> usize {
    if tokens < TILED_FROM {
        // 256 lanes, for few out_features.
        return 8 * HIDDEN.div_ceil(8 * 256) + 8 + 1;
    }
    let (additions, parts) = (HIDDEN.min(256), HIDDEN.div_ceil(256));
    match dtype {
        DType::BF16 => 4 * additions + parts + 140,
        DType::F16 => 6 * additions + parts + 410,
        _ => additions + parts + 1,
    }
}

/// A weight as its type holds it.
fn stored(dtype: DType, value: f32) -> f64 {
    match dtype {
        DType::F16 => f16::from_f32(value).to_f64(),
        DType::BF16 => bf16::from_f32(value).to_f64(),
        _ => f64::from(value),
    }
}

fn weight(device: &Device, dtype: DType, values: &[f32]) -> Result<Weight> {
    Ok(match dtype {
        DType::F16 => Weight::F16(upload_as(device, values)?),
        DType::BF16 => Weight::BF16(upload_as(device, values)?),
        _ => Weight::F32(upload_as(device, values)?),
    })
}

pub(super) fn norm_of(device: &Device, seed: u32, hidden: usize) -> Result<RmsNorm> {
    let weight: DeviceBuffer<f32> = upload(device, &uniform(seed, hidden))?;
    Ok(RmsNorm::new(weight, 1e-5)?)
}
