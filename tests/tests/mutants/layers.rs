//! Cases of norms, products, gates, embedding and choice. Where the card sums in another order than the CPU, numbers are whole
//! and small, so that nothing rounds.

use anyhow::Result;
use device_mem::{Device, DeviceBuffer};
use half::{bf16, f16};
use kernels_nn::kernels::{
    ADD, ADD_RMS_NORM, ARGMAX, EMBEDDING, LINEAR, LINEAR_TILED, NORM_LINEAR, RMS_NORM, SWIGLU,
};
use kernels_nn::{
    Branch, Embedding, Linear, Residual, RmsNorm, Weight, add, add_rms_norm, argmax, embed, linear,
    norm_linear, norm_swiglu, rms_norm, swiglu,
};
use parity::{SplitMix64, uniform, uniform_with_special};

use crate::cases::{Case, as_f32, on, unwritten};

pub(crate) fn cases() -> Vec<Case> {
    let case = |kernel: &'static str, images, run| {
        // Along x, blocks that norm have a row each.
        let across = if kernel.starts_with("norm_") { u32::MAX } else { 1 };
        Case { kernel, images, run, bounds: None, fewest: Some([across, 1, 1]) }
    };
    vec![
        case("linear_f32_any", &LINEAR, |device| products(device, f32_weight, &ANY)),
        case("linear_bf16_any", &LINEAR, |device| products(device, bf16_weight, &ANY)),
        case("linear_f16_1", &LINEAR, |device| products(device, f16_weight, &WIDE_1)),
        case("linear_bf16_1", &LINEAR, |device| products(device, bf16_weight, &WIDE_1)),
        case("linear_f32_4", &LINEAR, |device| products(device, f32_weight, &WIDE_4)),
        case("linear_bf16_8", &LINEAR, |device| products(device, bf16_weight, &WIDE_8)),
        case("linear_f32_tiled", &LINEAR_TILED, |device| products(device, f32_weight, &TILED)),
        case("linear_f16_tiled", &LINEAR_TILED, |device| {
            products_of(device, f16_weight, &TILED_F16, &[(SMALL, WIDE), (WIDE, SMALL)], &[])
        }),
        case("linear_bf16_tiled", &LINEAR_TILED, |device| {
            products_of(device, bf16_weight, &TILED, &[(WIDE, SMALL)], &[f32::INFINITY; 16])
        }),
        case("norm_linear_f32_any", &NORM_LINEAR, |device| fused(device, f32_weight, &FUSED_ANY)),
        case("norm_linear_bf16", &NORM_LINEAR, |device| fused(device, bf16_weight, &FUSED_WIDE)),
        case("norm_swiglu_f32_any", &NORM_LINEAR, |device| gated(device, f32_weight, &FUSED_ANY)),
        case("norm_swiglu_bf16", &NORM_LINEAR, |device| gated(device, bf16_weight, &FUSED_WIDE)),
        case("rms_norm_f32", &RMS_NORM, norms),
        case("add_rms_norm_f32", &ADD_RMS_NORM, added_norms),
        case("swiglu_f32", &SWIGLU, gates),
        case("add_f32", &ADD, sums),
        case("embed_f32", &EMBEDDING, |device| embedded(device, f32_weight)),
        case("embed_bf16", &EMBEDDING, |device| embedded(device, bf16_weight)),
        case("argmax_f32", &ARGMAX, choices),
    ]
}

type OfType = fn(&Device, &[f32]) -> Result<Weight>;

fn f32_weight(device: &Device, values: &[f32]) -> Result<Weight> {
    Ok(Weight::F32(on(device, values)?))
}

fn f16_weight(device: &Device, values: &[f32]) -> Result<Weight> {
    Ok(Weight::F16(on(device, &values.iter().map(|value| f16::from_f32(*value)).collect::<Vec<_>>())?))
}

fn bf16_weight(device: &Device, values: &[f32]) -> Result<Weight> {
    Ok(Weight::BF16(on(device, &values.iter().map(|value| bf16::from_f32(*value)).collect::<Vec<_>>())?))
}

/// The largest of whole numbers that have a single piece of bf16, and of those that matrix units take in two. The product of two
/// second pieces is left out, so one operand has them at a time.
const SMALL: u32 = 4;
const WIDE: u32 = 1000;

/// Whole numbers from `-most` to `most`.
fn whole(seed: u64, len: usize, most: u32) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..len).map(|_| random.below(2 * most + 1) as f32 - most as f32).collect()
}

/// Rows of `width` numbers, of which a quarter are 8 or -8 and the others 0: their root mean square is 4.
fn sparse(seed: u64, len: usize, width: usize) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    let mut rows = vec![0.0; len];
    for row in rows.chunks_exact_mut(width) {
        let mut left = width / 4;
        while left > 0 {
            let at = random.below(u32::try_from(width).unwrap_or(u32::MAX)) as usize;
            if row[at] == 0.0 {
                row[at] = if random.below(2) == 0 { 8.0 } else { -8.0 };
                left -= 1;
            }
        }
    }
    rows
}

fn layer(
    device: &Device,
    of: OfType,
    (seed, most): (u64, u32),
    (outer, inner): (usize, usize),
    bias: bool,
) -> Result<Linear> {
    let weight = of(device, &whole(seed, outer * inner, most))?;
    let bias = bias.then(|| on(device, &whole(seed + 1, outer, SMALL))).transpose()?;
    Ok(Linear::new(weight, bias, outer, inner)?)
}

/// Tokens, elements of a row of x, rows of the weight.
type Shape = (usize, usize, usize);

/// Rows of no whole chunks, of fewer and more chunks than lanes.
const ANY: [Shape; 3] = [(2, 13, 5), (1, 2061, 3), (2, 7, 16_390)];
/// Rows of whole chunks: shared by the groups of a block, and, of many rows, not.
const WIDE_1: [Shape; 3] = [(1, 264, 12), (1, 2056, 5), (1, 264, 16_390)];
const WIDE_4: [Shape; 3] = [(3, 264, 12), (4, 2056, 5), (4, 16, 16_390)];
const WIDE_8: [Shape; 3] = [(7, 264, 12), (15, 2056, 5), (12, 16, 16_390)];
/// Whole units and not, more than one tile in both directions, and more than one fold.
const TILED: [Shape; 3] = [(17, 64, 5), (66, 37, 130), (16, 296, 7)];
const TILED_F16: [Shape; 4] = [(66, 37, 130), (66, 37, 130), (66, 40, 130), (16, 296, 7)];

fn products(device: &Device, of: OfType, shapes: &[Shape]) -> Result<Vec<f32>> {
    products_of(device, of, shapes, &[(SMALL, SMALL)], &[])
}

/// With the largest numbers of x and of the weight for each shape, in turn, and numbers that are among the last tokens', one in each.
fn products_of(
    device: &Device,
    of: OfType,
    shapes: &[Shape],
    largest: &[(u32, u32)],
    specials: &[f32],
) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    let shapes = shapes.iter().zip(largest.iter().cycle());
    for (at, (&(tokens, inner, outer), &(of_x, of_weight))) in shapes.enumerate() {
        let layer = layer(device, of, (1, of_weight), (outer, inner), at != 1)?;
        let mut x = whole(3, tokens * inner, of_x);
        for (at, (token, special)) in x.chunks_exact_mut(inner).rev().zip(specials).enumerate() {
            token[5 * at % inner] = *special;
        }
        let x = on(device, &x)?;
        let mut out = unwritten(device, tokens * outer)?;
        linear(x.as_view(), &layer, out.as_view_mut()?)?;
        all.extend(out.to_host_vec()?);
    }
    Ok(all)
}

/// Tokens, width of a row, rows of the weights.
type FusedShape = (usize, usize, [usize; 3]);

const FUSED_ANY: [FusedShape; 3] = [(2, 12, [6, 2, 4]), (1, 1292, [2, 2, 2]), (1, 4364, [2, 4, 2])];
const FUSED_WIDE: [FusedShape; 3] =
    [(2, 264, [34, 32, 50]), (1, 1288, [32, 16, 16]), (1, 4360, [48, 32, 32])];

/// The rows before a norm: alone, with a branch, with a normed branch.
#[derive(Clone, Copy)]
enum Rows {
    Plain,
    Added,
    Normed,
}

/// Operands whose norms are whole, since root mean squares are powers of 2, and there is no epsilon.
struct Operands {
    x: DeviceBuffer<f32>,
    branch: DeviceBuffer<f32>,
    branch_norm: RmsNorm,
    norm: RmsNorm,
    sum: DeviceBuffer<f32>,
}

impl Operands {
    fn new(device: &Device, rows: Rows, len: usize, width: usize) -> Result<Operands> {
        let sum = sparse(5, len, width);
        let branch_weight = whole(9, width, SMALL);
        // The norm of -4 times the sum is a quarter of it, negated.
        let scaled = |factor: f32| sum.iter().map(|value| value * factor).collect::<Vec<f32>>();
        let (x, branch) = match rows {
            Rows::Plain => (scaled(1.0), scaled(1.0)),
            Rows::Added => (scaled(2.0), scaled(-1.0)),
            Rows::Normed => {
                let weights = branch_weight.iter().cycle();
                let x = sum.iter().zip(weights).map(|(value, weight)| value * (1.0 + weight / 4.0));
                (x.collect(), scaled(-4.0))
            }
        };
        Ok(Operands {
            x: on(device, &x)?,
            branch: on(device, &branch)?,
            branch_norm: RmsNorm::new(on(device, &branch_weight)?, 0.0)?,
            norm: RmsNorm::new(on(device, &whole(8, width, SMALL))?, 0.0)?,
            sum: unwritten(device, len)?,
        })
    }

    fn residual(&mut self, rows: Rows) -> Result<(Residual<'_>, &RmsNorm)> {
        let norm = matches!(rows, Rows::Normed).then_some(&self.branch_norm);
        let branch = match rows {
            Rows::Plain => None,
            Rows::Added | Rows::Normed => {
                Some(Branch { rows: self.branch.as_view(), norm, sum: self.sum.as_view_mut()? })
            }
        };
        Ok((Residual { x: self.x.as_view(), branch }, &self.norm))
    }
}

fn fused(device: &Device, of: OfType, shapes: &[FusedShape]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for &(tokens, width, outers) in shapes {
        for rows in [Rows::Plain, Rows::Added, Rows::Normed] {
            let mut operands = Operands::new(device, rows, tokens * width, width)?;
            let [first, second, third] = outers;
            let layers = [
                layer(device, of, (11, SMALL), (first, width), true)?,
                layer(device, of, (13, SMALL), (second, width), false)?,
                layer(device, of, (15, SMALL), (third, width), true)?,
            ];
            let mut outs = outers.map(|outer| unwritten(device, tokens * outer));
            let [a, b, c] = outs.each_mut();
            let (a, b, c) = (a.as_mut(), b.as_mut(), c.as_mut());
            let (Ok(a), Ok(b), Ok(c)) = (a, b, c) else { anyhow::bail!("no memory") };
            let (residual, norm) = operands.residual(rows)?;
            let views = [
                (&layers[0], a.as_view_mut()?),
                (&layers[1], b.as_view_mut()?),
                (&layers[2], c.as_view_mut()?),
            ];
            norm_linear(residual, norm, views)?;
            all.extend([a.to_host_vec()?, b.to_host_vec()?, c.to_host_vec()?].concat());
            all.extend(operands.sum.to_host_vec()?);
        }
    }
    Ok(all)
}

fn gated(device: &Device, of: OfType, shapes: &[FusedShape]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for &(tokens, width, [outer, ..]) in shapes {
        for rows in [Rows::Plain, Rows::Added, Rows::Normed] {
            let mut operands = Operands::new(device, rows, tokens * width, width)?;
            let gate_up = layer(device, of, (11, SMALL), (outer, width), !matches!(rows, Rows::Added))?;
            let mut out = unwritten(device, tokens * outer / 2)?;
            let (residual, norm) = operands.residual(rows)?;
            norm_swiglu(residual, norm, &gate_up, out.as_view_mut()?)?;
            all.extend([out.to_host_vec()?, operands.sum.to_host_vec()?].concat());
        }
    }
    Ok(all)
}

/// Narrower and wider than what a block keeps of a row.
const NORMED: [(usize, usize); 3] = [(2, 5), (2, 300), (2, 4363)];

fn norm_of(device: &Device, seed: u64, width: usize, eps: f32) -> Result<RmsNorm> {
    Ok(RmsNorm::new(on(device, &uniform::<f32>(seed, width))?, eps)?)
}

fn norms(device: &Device) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (rows, width) in NORMED {
        let x = on(device, &uniform::<f32>(1, rows * width))?;
        let mut out = unwritten(device, rows * width)?;
        rms_norm(x.as_view(), &norm_of(device, 2, width, 1e-2)?, out.as_view_mut()?)?;
        all.extend(out.to_host_vec()?);
    }
    // Rows whose mean is 0, infinite and NaN.
    let special =
        [[0.0_f32; 3], [f32::INFINITY, 1.0, 2.0], [f32::NAN, 1.0, 2.0], [1e-30, 2e-30, 0.0]].concat();
    let mut out = unwritten(device, special.len())?;
    rms_norm(on(device, &special)?.as_view(), &norm_of(device, 2, 3, 0.0)?, out.as_view_mut()?)?;
    all.extend(out.to_host_vec()?);
    Ok(all)
}

fn added_norms(device: &Device) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (rows, width) in NORMED {
        for normed in [false, true] {
            // The mean of a last row is infinite, that of its branch or of their sum.
            let [mut x, mut branch] = [1, 2].map(|seed| uniform::<f32>(seed, (rows + 1) * width));
            (if normed { &mut branch } else { &mut x })[rows * width] = f32::INFINITY;
            let (mut x, branch) = (on(device, &x)?, on(device, &branch)?);
            let mut out = unwritten(device, x.len())?;
            let branch_norm = norm_of(device, 3, width, 1e-1)?;
            let norm = norm_of(device, 4, width, 1e-2)?;
            let branch_norm = normed.then_some(&branch_norm);
            add_rms_norm(x.as_view_mut()?, branch.as_view(), branch_norm, &norm, out.as_view_mut()?)?;
            all.extend([x.to_host_vec()?, out.to_host_vec()?].concat());
        }
    }
    Ok(all)
}

fn gates(device: &Device) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (tokens, width) in [(2, 5), (3, 300)] {
        // From where e^x is 0 to where the gate is open.
        let gate_up: Vec<f32> =
            uniform::<f32>(1, 2 * tokens * width).iter().map(|value| value * 100.0).collect();
        let mut out = unwritten(device, tokens * width)?;
        swiglu(on(device, &gate_up)?.as_view(), width, out.as_view_mut()?)?;
        all.extend(out.to_host_vec()?);
    }
    Ok(all)
}

fn sums(device: &Device) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for len in [1, 300] {
        let mut x = on(device, &uniform::<f32>(1, len))?;
        add(x.as_view_mut()?, on(device, &uniform::<f32>(2, len))?.as_view())?;
        all.extend(x.to_host_vec()?);
    }
    Ok(all)
}

fn embedded(device: &Device, of: OfType) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (hidden, ids) in [(5, vec![2_u32, 0, 6]), (300, vec![3, 5])] {
        let table = Embedding::new(of(device, &uniform_with_special::<f32>(1, 7 * hidden))?, 7, hidden)?;
        let mut out = unwritten(device, ids.len() * hidden)?;
        embed(&table, on(device, &ids)?.as_view(), out.as_view_mut()?)?;
        all.extend(out.to_host_vec()?);
    }
    Ok(all)
}

/// Maxima in every part of a row, one that is there twice, negative numbers alone, and a row without a choice; and numbers of
/// either sign that differ in their last bits.
fn choices(device: &Device) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (rows, vocab) in [(3, 3), (66, 2000), (3, 5001)] {
        let mut logits = uniform::<f32>(1, rows * vocab);
        for row in 0..rows {
            logits[row * vocab + (row * 31 + 1) % vocab] = 1.5;
        }
        logits[vocab - 1] = 1.5;
        logits[vocab..2 * vocab].iter_mut().for_each(|logit| *logit -= 3.0);
        logits[2 * vocab] = f32::NAN;
        all.extend(chosen(device, &logits, vocab)?);
    }
    let mut random = SplitMix64::new(1);
    let mut near = |sign: u32| f32::from_bits(sign | 1.5_f32.to_bits() | random.below(1 << 12));
    let positive: Vec<f32> = (0..16 * 40).map(|_| near(0)).collect();
    let negative: Vec<f32> = (0..16 * 40).map(|_| near(1 << 31)).collect();
    all.extend(chosen(device, &[positive, negative].concat(), 40)?);
    Ok(all)
}

fn chosen(device: &Device, logits: &[f32], vocab: usize) -> Result<Vec<f32>> {
    let mut tokens = on(device, &vec![7_u32; logits.len() / vocab])?;
    argmax(on(device, logits)?.as_view(), vocab, tokens.as_view_mut()?)?;
    Ok(as_f32(&tokens.to_host_vec()?))
}
