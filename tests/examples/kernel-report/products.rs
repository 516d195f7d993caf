//! Products of one layer, by the type of its weight.

use anyhow::Result;
use device_mem::{Device, DeviceBuffer};
use kernels_nn::{Branch, Linear, Residual, Weight, WeightType, linear, norm_linear, norm_swiglu};

use crate::cases::{
    BUDGET, Case, F32, HEAD_DIM, HIDDEN, INTERMEDIATE, KV_HEADS, QKV, VOCAB, filled, norm_of,
};

pub(crate) fn product(
    held: WeightType,
    name: &str,
    tokens: usize,
    in_features: usize,
    out_features: usize,
) -> Case {
    let weight_bytes = bytes(held, in_features * out_features);
    Case {
        shape: format!("linear {name}: [{tokens}, {in_features}] by {held} [{out_features}, {in_features}]"),
        least_bytes: weight_bytes + tokens * (in_features + out_features) * F32,
        elements: ("product", tokens * in_features * out_features),
        budget: if tokens == 1 { BUDGET } else { None },
        prepare: Box::new(move |device| {
            let layer = layer(device, held, in_features, out_features)?;
            let (x, mut out) =
                (filled(device, tokens * in_features)?, filled(device, tokens * out_features)?);
            Ok(Box::new(move || Ok(linear(x.as_view(), &layer, out.as_view_mut()?).map(drop)?)))
        }),
    }
}

/// What a layer does before attention, of one token: residual, two norms, three products.
pub(crate) fn norm_qkv(held: WeightType) -> Case {
    let kv = KV_HEADS * HEAD_DIM;
    let weight_bytes = bytes(held, QKV * HIDDEN);
    Case {
        shape: format!(
            "norm_linear qkv: both normed [1, {HIDDEN}] by {held} [{HIDDEN} + 2 * {kv}, {HIDDEN}]"
        ),
        least_bytes: weight_bytes + (5 * HIDDEN + QKV) * F32,
        elements: ("product", QKV * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (branch_norm, norm) = (norm_of(device)?, norm_of(device)?);
            let of = |rows| layer(device, held, HIDDEN, rows);
            let (q, k, v) = (of(HIDDEN)?, of(kv)?, of(kv)?);
            let (x, rows, mut sum) =
                (filled(device, HIDDEN)?, filled(device, HIDDEN)?, filled(device, HIDDEN)?);
            let (mut q_out, mut k_out, mut v_out) =
                (filled(device, HIDDEN)?, filled(device, kv)?, filled(device, kv)?);
            Ok(Box::new(move || {
                let branch =
                    Branch { rows: rows.as_view(), norm: Some(&branch_norm), sum: sum.as_view_mut()? };
                let residual = Residual { x: x.as_view(), branch: Some(branch) };
                let outs =
                    [(&q, q_out.as_view_mut()?), (&k, k_out.as_view_mut()?), (&v, v_out.as_view_mut()?)];
                Ok(norm_linear(residual, &norm, outs).map(drop)?)
            }))
        }),
    }
}

/// What a layer does between its products of attention and of the MLP's second half, of one token.
pub(crate) fn norm_gate(held: WeightType) -> Case {
    let weight_bytes = bytes(held, 2 * INTERMEDIATE * HIDDEN);
    Case {
        shape: format!("norm_swiglu: both normed [1, {HIDDEN}] by {held} [2 * {INTERMEDIATE}, {HIDDEN}]"),
        least_bytes: weight_bytes + (5 * HIDDEN + INTERMEDIATE) * F32,
        elements: ("product", 2 * INTERMEDIATE * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (branch_norm, norm) = (norm_of(device)?, norm_of(device)?);
            let gate_up = layer(device, held, HIDDEN, 2 * INTERMEDIATE)?;
            let (x, rows, mut sum) =
                (filled(device, HIDDEN)?, filled(device, HIDDEN)?, filled(device, HIDDEN)?);
            let mut out = filled(device, INTERMEDIATE)?;
            Ok(Box::new(move || {
                let branch =
                    Branch { rows: rows.as_view(), norm: Some(&branch_norm), sum: sum.as_view_mut()? };
                let residual = Residual { x: x.as_view(), branch: Some(branch) };
                Ok(norm_swiglu(residual, &norm, &gate_up, out.as_view_mut()?).map(drop)?)
            }))
        }),
    }
}

/// The last norms and the logits of one token, for a sixteenth of the vocabulary.
pub(crate) fn norm_logits(held: WeightType) -> Case {
    const ROWS: usize = VOCAB / 16;
    let weight_bytes = bytes(held, ROWS * HIDDEN);
    Case {
        shape: format!("norm_linear logits: both normed [1, {HIDDEN}] by {held} [{ROWS}, {HIDDEN}]"),
        least_bytes: weight_bytes + (5 * HIDDEN + ROWS) * F32,
        elements: ("product", ROWS * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (branch_norm, norm) = (norm_of(device)?, norm_of(device)?);
            let output = layer(device, held, HIDDEN, ROWS)?;
            let (x, rows, mut sum) =
                (filled(device, HIDDEN)?, filled(device, HIDDEN)?, filled(device, HIDDEN)?);
            let mut out = filled(device, ROWS)?;
            Ok(Box::new(move || {
                let branch =
                    Branch { rows: rows.as_view(), norm: Some(&branch_norm), sum: sum.as_view_mut()? };
                let residual = Residual { x: x.as_view(), branch: Some(branch) };
                Ok(norm_linear(residual, &norm, [(&output, out.as_view_mut()?)]).map(drop)?)
            }))
        }),
    }
}

fn layer(device: &Device, held: WeightType, in_features: usize, out_features: usize) -> Result<Linear> {
    let elements = in_features * out_features;
    let weight = match held {
        WeightType::Blocks(block) => {
            Weight::Blocks(block, DeviceBuffer::zeroed(device, bytes(held, elements))?)
        }
        _ => Weight::BF16(DeviceBuffer::zeroed(device, elements)?),
    };
    Ok(Linear::new(weight, None, out_features, in_features)?)
}

fn bytes(held: WeightType, elements: usize) -> usize {
    held.bytes(elements).unwrap_or_default()
}
