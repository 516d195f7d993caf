//! Operations of `kernels-nn`.

use anyhow::Result;
use device_mem::{Device, DeviceBuffer};
use kernels_nn::{
    Branch, Embedding, Linear, Residual, RmsNorm, Sampler, SamplerConfig, Weight, add, add_rms_norm, argmax,
    embed, linear, norm_swiglu, rms_norm, sample, swiglu,
};
use serde_json::json;

use crate::cases::{BF16, Case, F32, Shapes, filled, filled_bf16, upload};

fn norm_of(device: &Device, hidden: usize) -> Result<RmsNorm> {
    Ok(RmsNorm::new(filled(device, hidden)?, 1e-5)?)
}

pub(crate) fn norm(Shapes { model, hidden, .. }: Shapes, tokens: usize) -> Case {
    Case {
        op: "rms_norm",
        model,
        tokens,
        shape: json!({"hidden": hidden}),
        bytes: (2 * tokens + 1) * hidden * F32,
        operations: 4 * tokens * hidden,
        prepare: Box::new(move |device| {
            let norm = norm_of(device, hidden)?;
            let (x, mut out) = (filled(device, tokens * hidden)?, filled(device, tokens * hidden)?);
            Ok(Box::new(move || Ok(rms_norm(x.as_view(), &norm, out.as_view_mut()?).map(drop)?)))
        }),
    }
}

pub(crate) fn residual_norm(Shapes { model, hidden, .. }: Shapes, tokens: usize) -> Case {
    Case {
        op: "add_rms_norm",
        model,
        tokens,
        shape: json!({"hidden": hidden}),
        bytes: (4 * tokens + 1) * hidden * F32,
        operations: 5 * tokens * hidden,
        prepare: Box::new(move |device| {
            let norm = norm_of(device, hidden)?;
            let (mut x, branch) = (filled(device, tokens * hidden)?, filled(device, tokens * hidden)?);
            let mut out = filled(device, tokens * hidden)?;
            Ok(Box::new(move || {
                let (x, out) = (x.as_view_mut()?, out.as_view_mut()?);
                Ok(add_rms_norm(x, branch.as_view(), None, &norm, out).map(drop)?)
            }))
        }),
    }
}

pub(crate) fn gate(Shapes { model, intermediate, .. }: Shapes, tokens: usize) -> Case {
    Case {
        op: "swiglu",
        model,
        tokens,
        shape: json!({"intermediate": intermediate}),
        bytes: 3 * tokens * intermediate * F32,
        operations: 20 * tokens * intermediate,
        prepare: Box::new(move |device| {
            let gate_up = filled(device, 2 * tokens * intermediate)?;
            let mut out = filled(device, tokens * intermediate)?;
            Ok(Box::new(move || Ok(swiglu(gate_up.as_view(), intermediate, out.as_view_mut()?).map(drop)?)))
        }),
    }
}

pub(crate) fn sum(Shapes { model, hidden, .. }: Shapes, tokens: usize) -> Case {
    Case {
        op: "add",
        model,
        tokens,
        shape: json!({"hidden": hidden}),
        bytes: 3 * tokens * hidden * F32,
        operations: tokens * hidden,
        prepare: Box::new(move |device| {
            let (mut x, y) = (filled(device, tokens * hidden)?, filled(device, tokens * hidden)?);
            Ok(Box::new(move || Ok(add(x.as_view_mut()?, y.as_view()).map(drop)?)))
        }),
    }
}

pub(crate) fn product(shapes: Shapes, op: &'static str, tokens: usize, columns: usize, rows: usize) -> Case {
    Case {
        op,
        model: shapes.model,
        tokens,
        shape: json!({"in": columns, "out": rows}),
        bytes: rows * columns * BF16 + tokens * (rows + columns) * F32,
        operations: 2 * tokens * rows * columns,
        prepare: Box::new(move |device| {
            let layer = layer(device, columns, rows)?;
            let (x, mut out) = (filled(device, tokens * columns)?, filled(device, tokens * rows)?);
            Ok(Box::new(move || Ok(linear(x.as_view(), &layer, out.as_view_mut()?).map(drop)?)))
        }),
    }
}

/// Residual, norm, two products and SwiGLU of one token.
pub(crate) fn norm_gate(Shapes { model, hidden, intermediate, .. }: Shapes) -> Case {
    Case {
        op: "norm_swiglu",
        model,
        tokens: 1,
        shape: json!({"in": hidden, "out": 2 * intermediate}),
        bytes: 2 * intermediate * hidden * BF16 + (4 * hidden + intermediate) * F32,
        operations: 4 * intermediate * hidden,
        prepare: Box::new(move |device| {
            let (norm, gate_up) = (norm_of(device, hidden)?, layer(device, hidden, 2 * intermediate)?);
            let (x, rows, mut sum) =
                (filled(device, hidden)?, filled(device, hidden)?, filled(device, hidden)?);
            let mut out = filled(device, intermediate)?;
            Ok(Box::new(move || {
                let branch = Branch { rows: rows.as_view(), norm: None, sum: sum.as_view_mut()? };
                let residual = Residual { x: x.as_view(), branch: Some(branch) };
                Ok(norm_swiglu(residual, &norm, &gate_up, out.as_view_mut()?).map(drop)?)
            }))
        }),
    }
}

fn layer(device: &Device, columns: usize, rows: usize) -> Result<Linear> {
    Ok(Linear::new(Weight::BF16(filled_bf16(device, rows * columns)?), None, rows, columns)?)
}

pub(crate) fn embedding(Shapes { model, hidden, vocab, .. }: Shapes, tokens: usize) -> Case {
    Case {
        op: "embedding",
        model,
        tokens,
        shape: json!({"hidden": hidden, "vocab": vocab}),
        bytes: tokens * (hidden * (BF16 + F32) + F32),
        operations: 0,
        prepare: Box::new(move |device| {
            // A shorter table: what is read does not depend on its length.
            let rows = tokens.max(1024);
            let table = Embedding::new(Weight::BF16(filled_bf16(device, rows * hidden)?), rows, hidden)?;
            let ids = upload(device, (0..u32::try_from(tokens)?).rev().collect())?;
            let mut out = filled(device, tokens * hidden)?;
            Ok(Box::new(move || Ok(embed(&table, ids.as_view(), out.as_view_mut()?).map(drop)?)))
        }),
    }
}

pub(crate) fn greedy(Shapes { model, vocab, .. }: Shapes) -> Case {
    Case {
        op: "argmax",
        model,
        tokens: 1,
        shape: json!({"vocab": vocab}),
        bytes: (vocab + 1) * F32,
        operations: vocab,
        prepare: Box::new(move |device| {
            let (logits, mut token) = (filled(device, vocab)?, one(device)?);
            Ok(Box::new(move || Ok(argmax(logits.as_view(), vocab, token.as_view_mut()?).map(drop)?)))
        }),
    }
}

pub(crate) fn drawn(Shapes { model, vocab, .. }: Shapes) -> Case {
    let config = SamplerConfig { temperature: 0.8, top_k: 50, top_p: 0.9, seed: 1 };
    Case {
        op: "sample",
        model,
        tokens: 1,
        shape: json!({"vocab": vocab}),
        bytes: (vocab + 6) * F32,
        operations: vocab,
        prepare: Box::new(move |device| {
            let (logits, mut token) = (filled(device, vocab)?, one(device)?);
            let mut draws = upload(device, Sampler::new(config)?.draw().to_vec())?;
            Ok(Box::new(move || {
                let (draws, token) = (draws.as_view_mut()?, token.as_view_mut()?);
                Ok(sample(logits.as_view(), vocab, &config, draws, token).map(drop)?)
            }))
        }),
    }
}

fn one(device: &Device) -> Result<DeviceBuffer<u32>> {
    upload(device, vec![0])
}
