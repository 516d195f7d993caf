//! The kernels of `kernels-nn` that read quantised blocks.

use anyhow::Result;
use device_mem::Device;
use kernels_nn::{
    BlockType, Branch, Embedding, Linear, Residual, Weight, embed, linear, norm_linear, norm_swiglu,
};

use super::case::{Bound, Case, Truth, bits, uniform, unwritten, upload};
use super::layers::{gated_bounds, norm_of, normed_on_cpu};

/// Two blocks of the formats of 256.
const HIDDEN: usize = 512;
/// Elements of a token that share a scale, and of a weight a minimum.
const GROUP: usize = 32;
/// No multiple of a tile's rows.
const OUT_FEATURES: usize = 37;
const VOCAB: usize = 11;

pub(crate) fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for block in BlockType::ALL {
        cases.push(embedding(block)?);
        cases.push(product(block, 1)?);
        cases.push(product(block, 9)?);
        cases.extend(fused(block)?);
    }
    Ok(cases)
}

/// A matrix in blocks, and what they hold.
fn quantised(block: BlockType, rows: usize) -> Result<(Vec<u8>, Vec<f32>)> {
    let mut values = uniform(40, rows * HIDDEN);
    let mut bytes = vec![0; values.len() / block.block_len() * block.block_bytes()];
    block.quantize(&values, &mut bytes)?;
    block.dequantize(&bytes, &mut values)?;
    Ok((bytes, values))
}

fn embedding(block: BlockType) -> Result<Case> {
    let (bytes, _) = quantised(block, VOCAB)?;
    Ok(Case {
        kernel: format!("embedding {block}"),
        operands: format!("[{VOCAB}, {HIDDEN}], 3 ids"),
        run: Box::new(move |device| {
            let table = Embedding::new(Weight::Blocks(block, upload(device, &bytes)?), VOCAB, HIDDEN)?;
            let ids = upload(device, &[0, 5, 10])?;
            let mut out = unwritten(device, 3 * HIDDEN)?;
            embed(&table, ids.as_view(), out.as_view_mut()?)?;
            bits(&out)
        }),
        truth: Truth::Cpu,
    })
}

fn product(block: BlockType, tokens: usize) -> Result<Case> {
    let (x, b) = (uniform(41, tokens * HIDDEN), uniform(42, OUT_FEATURES));
    let (bytes, values) = quantised(block, OUT_FEATURES)?;
    let bounds = product_bounds(&x, &values, &b);
    Ok(Case {
        kernel: format!("linear_blocks {block}"),
        operands: format!("x [{tokens}, {HIDDEN}], W [{OUT_FEATURES}, {HIDDEN}], b"),
        run: Box::new(move |device| {
            let weight = Weight::Blocks(block, upload(device, &bytes)?);
            let layer = Linear::new(weight, Some(upload(device, &b)?), OUT_FEATURES, HIDDEN)?;
            let (x, mut out) = (upload(device, &x)?, unwritten(device, tokens * OUT_FEATURES)?);
            linear(x.as_view(), &layer, out.as_view_mut()?)?;
            bits(&out)
        }),
        truth: Truth::Bounds(bounds),
    })
}

/// `norm_linear` and `norm_swiglu` of one token, of a row that is normed on the CPU, whose bits the launches have.
fn fused(block: BlockType) -> Result<[Case; 2]> {
    let (x, rows, b) = (uniform(43, HIDDEN), uniform(44, HIDDEN), uniform(45, 2 * OUT_FEATURES));
    let (bytes, values) = quantised(block, 2 * OUT_FEATURES)?;
    let (normed, sums) = normed_on_cpu(&x, &rows, HIDDEN)?;
    let bounds = product_bounds(&normed, &values, &b);
    let gated = gated_bounds(&bounds, OUT_FEATURES);
    let [bounds, gated] = [bounds, gated].map(|bounds| [bounds, sums.clone()].concat());
    let launch = move |device: &Device, is_gated: bool| {
        let weight = Weight::Blocks(block, upload(device, &bytes)?);
        let layer = Linear::new(weight, Some(upload(device, &b)?), 2 * OUT_FEATURES, HIDDEN)?;
        let (norm, branch_norm) = (norm_of(device, 18, HIDDEN)?, norm_of(device, 17, HIDDEN)?);
        let (x, rows, mut sum) = (upload(device, &x)?, upload(device, &rows)?, unwritten(device, HIDDEN)?);
        let branch = Branch { rows: rows.as_view(), norm: Some(&branch_norm), sum: sum.as_view_mut()? };
        let residual = Residual { x: x.as_view(), branch: Some(branch) };
        let mut out = unwritten(device, OUT_FEATURES * if is_gated { 1 } else { 2 })?;
        if is_gated {
            norm_swiglu(residual, &norm, &layer, out.as_view_mut()?)?;
        } else {
            norm_linear(residual, &norm, [(&layer, out.as_view_mut()?)])?;
        }
        Ok([bits(&out)?, bits(&sum)?].concat())
    };
    let case = |form: &str, is_gated: bool, bounds: Vec<Bound>| {
        let launch = launch.clone();
        Case {
            kernel: format!("norm_linear {block}{form}"),
            operands: format!("x [1, {HIDDEN}], W [2 * {OUT_FEATURES}, {HIDDEN}], b"),
            run: Box::new(move |device| launch(device, is_gated)),
            truth: Truth::Bounds(bounds),
        }
    };
    Ok([case("", false, bounds), case(", SwiGLU", true, gated)])
}

/// The bound that [`linear`] documents for blocks on HIP devices, for few `out_features`, of tokens that are rounded to 8 bits.
fn product_bounds(x: &[f32], w: &[f32], b: &[f32]) -> Vec<Bound> {
    let roundings = (4 * HIDDEN.div_ceil(GROUP * 128) + 7 + 3) as f64;
    let gamma = roundings * 2.0_f64.powi(-24) / (1.0 - roundings * 2.0_f64.powi(-24));
    let largest = |values: &[f32]| values.iter().fold(0.0_f32, |most, &value| value.abs().max(most));
    let of_row = |x: &[f32], row: &[f32], bias: f32| {
        let mut bound = Bound { exact: f64::from(bias), error: gamma * f64::from(bias.abs()) };
        for (x, row) in x.chunks_exact(GROUP).zip(row.chunks_exact(GROUP)) {
            // A group's minimum is at most its largest magnitude, as its lowest level is used.
            let (level, minimum) = (f64::from(largest(x) / 127.0), f64::from(largest(row)));
            for (&x, &w) in x.iter().zip(row) {
                let (x, w) = (f64::from(x), f64::from(w));
                let (rounded, step) = rounded(x, level);
                bound.exact += rounded * w;
                let magnitude = (w.abs() + 2.0 * minimum) * (x.abs() + level);
                bound.error += step * w.abs() + gamma * magnitude;
            }
        }
        bound
    };
    let rows = || w.chunks_exact(HIDDEN).zip(b);
    x.chunks_exact(HIDDEN).flat_map(|x| rows().map(move |(row, &bias)| of_row(x, row, bias))).collect()
}

/// The multiple of `level` that is nearest to `x`, and by how much another one may be taken: by nothing, unless `x` is in the
/// middle of two. The quotient, at most 127, is computed with three roundings to f32, which move it by less than 2.3e-5.
fn rounded(x: f64, level: f64) -> (f64, f64) {
    let nearest = (x / level).round();
    let is_between = (x / level - nearest).abs() > 0.499_9;
    (nearest * level, if is_between { level } else { 0.0 })
}
