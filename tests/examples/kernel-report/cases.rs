//! Each kernel at the shapes of GLM-4-9B, once.

use anyhow::Result;
use attention::{AttentionShape, KvCache, KvDType, NewTokens, attend, decode_attention};
use device_mem::{Device, DeviceBuffer, Element};
use half::bf16;
use kernels_nn::{
    Branch, Embedding, Linear, Residual, RmsNorm, Sampler, SamplerConfig, Weight, add, add_rms_norm, argmax,
    embed, linear, norm_linear, norm_swiglu, rms_norm, sample, swiglu,
};
use kernels_rope::{
    AppendKv, Axes, HeadsMut, InvFreq, KvLayout, Pairing, Positions, RopeConfig, RopeSpec, RopeTable,
    Scaling, apply_position_embeddings_append,
};

const HIDDEN: usize = 4096;
const INTERMEDIATE: usize = 13_696;
const VOCAB: usize = 151_552;
const Q_HEADS: usize = 32;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 128;
const ROTARY_DIM: usize = 64;
const QKV: usize = (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM;
const F32: usize = 4;
const BF16: usize = 2;

/// One operation on operands of one shape.
pub(crate) struct Case {
    /// What is computed, with shapes and types.
    pub(crate) shape: String,
    /// The bytes that have to be read or written once: operands, parameters and results.
    pub(crate) least_bytes: usize,
    /// What instructions are counted per, and how many there are.
    pub(crate) elements: (&'static str, usize),
    /// The share of the least bytes that may be moved.
    pub(crate) budget: Option<f64>,
    /// Prepares operands on the device, and gives the operation.
    pub(crate) prepare: Prepare,
}

type Prepare = Box<dyn FnOnce(&Device) -> Result<Operation>>;
type Operation = Box<dyn FnOnce() -> Result<()>>;

const BUDGET: Option<f64> = Some(1.05);

pub(crate) fn cases() -> Vec<Case> {
    let per_token =
        [1, 512].into_iter().flat_map(|tokens| [rotation(tokens), embedding(tokens), norm(tokens)]);
    let more =
        [1, 512].into_iter().flat_map(|tokens| [residual_norm(tokens), gate(tokens), residual(tokens)]);
    let decoded = [
        ("qkv", HIDDEN, QKV),
        ("out", HIDDEN, HIDDEN),
        ("gate_up", HIDDEN, 2 * INTERMEDIATE),
        ("down", INTERMEDIATE, HIDDEN),
    ];
    let products = decoded.into_iter().map(|(name, inner, outer)| product(name, 1, inner, outer));
    let fused = [norm_qkv(), norm_gate(), norm_logits()];
    let rest = [
        product("out", 16, HIDDEN, HIDDEN),
        attention(1, 4095),
        decode(4095),
        attention(128, 0),
        greedy(),
        drawn(),
    ];
    per_token.chain(more).chain(products).chain(fused).chain(rest).collect()
}

fn rotation(tokens: usize) -> Case {
    let (q, kv) = (tokens * Q_HEADS * HEAD_DIM, tokens * KV_HEADS * HEAD_DIM);
    // The part of a head that is not rotated is not touched in q; k is read whole, since it is appended.
    let rotated = tokens * (Q_HEADS + KV_HEADS) * ROTARY_DIM;
    let appended = 2 * kv * BF16;
    let read_only = (tokens * KV_HEADS * (HEAD_DIM - ROTARY_DIM) + kv) * F32;
    let table = tokens * ROTARY_DIM * F32;
    Case {
        shape: format!(
            "rotate q, k [{tokens}, {Q_HEADS} + {KV_HEADS}, {HEAD_DIM}] by {ROTARY_DIM}, append to bf16"
        ),
        least_bytes: 2 * rotated * F32 + appended + read_only + table + tokens * F32,
        elements: ("rotated or appended element", rotated + 2 * kv),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let table = rope_table(device)?;
            let at = Positions::span(&table, 0, u32::try_from(tokens)?)?;
            let (mut q, mut k, v) = (filled(device, q)?, filled(device, kv)?, filled(device, kv)?);
            let layout = KvLayout { kv_heads: 2, capacity: 1024, head_dim: 128, row_len: 128 };
            let mut keys = DeviceBuffer::<bf16>::zeroed(device, 2 * 1024 * 128)?;
            let mut values = DeviceBuffer::<bf16>::zeroed(device, 2 * 1024 * 128)?;
            Ok(Box::new(move || {
                let append =
                    AppendKv::new(v.as_view(), keys.as_view_mut()?, values.as_view_mut()?, layout, 0)?;
                let q = HeadsMut::new(q.as_view_mut()?, at.tokens(), 32, 128)?;
                let k = HeadsMut::new(k.as_view_mut()?, at.tokens(), 2, 128)?;
                apply_position_embeddings_append(&table, q, k, append, &at)?;
                Ok(())
            }))
        }),
    }
}

fn rope_table(device: &Device) -> Result<RopeTable> {
    let spec = RopeSpec::new(RopeConfig {
        head_dim: 128,
        rotary_dim: 64,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    Ok(RopeTable::new(&spec, 1024, device)?)
}

fn embedding(tokens: usize) -> Case {
    // A short table: what is read does not depend on its length.
    const ROWS: usize = 1024;
    Case {
        shape: format!("embed {tokens} ids of bf16 [{ROWS}, {HIDDEN}]"),
        least_bytes: tokens * (HIDDEN * (BF16 + F32) + F32),
        elements: ("element", tokens * HIDDEN),
        budget: None,
        prepare: Box::new(move |device| {
            let table =
                Embedding::new(Weight::BF16(DeviceBuffer::zeroed(device, ROWS * HIDDEN)?), ROWS, HIDDEN)?;
            let ids = upload(device, (0..u32::try_from(tokens)?).collect())?;
            let mut out = filled(device, tokens * HIDDEN)?;
            Ok(Box::new(move || Ok(embed(&table, ids.as_view(), out.as_view_mut()?).map(drop)?)))
        }),
    }
}

fn norm(tokens: usize) -> Case {
    Case {
        shape: format!("rms_norm [{tokens}, {HIDDEN}]"),
        least_bytes: (2 * tokens + 1) * HIDDEN * F32,
        elements: ("element", tokens * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let norm = norm_of(device)?;
            let (x, mut out) = (filled(device, tokens * HIDDEN)?, filled(device, tokens * HIDDEN)?);
            Ok(Box::new(move || Ok(rms_norm(x.as_view(), &norm, out.as_view_mut()?).map(drop)?)))
        }),
    }
}

fn residual_norm(tokens: usize) -> Case {
    Case {
        shape: format!("add_rms_norm, both normed [{tokens}, {HIDDEN}]"),
        least_bytes: (4 * tokens + 2) * HIDDEN * F32,
        elements: ("element", tokens * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (branch_norm, norm) = (norm_of(device)?, norm_of(device)?);
            let (mut x, branch) = (filled(device, tokens * HIDDEN)?, filled(device, tokens * HIDDEN)?);
            let mut out = filled(device, tokens * HIDDEN)?;
            Ok(Box::new(move || {
                let (x, out) = (x.as_view_mut()?, out.as_view_mut()?);
                Ok(add_rms_norm(x, branch.as_view(), Some(&branch_norm), &norm, out).map(drop)?)
            }))
        }),
    }
}

fn gate(tokens: usize) -> Case {
    Case {
        shape: format!("swiglu [{tokens}, 2 * {INTERMEDIATE}]"),
        least_bytes: 3 * tokens * INTERMEDIATE * F32,
        elements: ("element", tokens * INTERMEDIATE),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let gate_up = filled(device, 2 * tokens * INTERMEDIATE)?;
            let mut out = filled(device, tokens * INTERMEDIATE)?;
            Ok(Box::new(move || Ok(swiglu(gate_up.as_view(), INTERMEDIATE, out.as_view_mut()?).map(drop)?)))
        }),
    }
}

fn residual(tokens: usize) -> Case {
    Case {
        shape: format!("add [{tokens}, {HIDDEN}]"),
        least_bytes: 3 * tokens * HIDDEN * F32,
        elements: ("element", tokens * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (mut x, y) = (filled(device, tokens * HIDDEN)?, filled(device, tokens * HIDDEN)?);
            Ok(Box::new(move || Ok(add(x.as_view_mut()?, y.as_view()).map(drop)?)))
        }),
    }
}

fn product(name: &str, tokens: usize, in_features: usize, out_features: usize) -> Case {
    Case {
        shape: format!("linear {name}: [{tokens}, {in_features}] by bf16 [{out_features}, {in_features}]"),
        least_bytes: in_features * out_features * BF16 + tokens * (in_features + out_features) * F32,
        elements: ("product", tokens * in_features * out_features),
        budget: if tokens == 1 { BUDGET } else { None },
        prepare: Box::new(move |device| {
            let layer = layer(device, in_features, out_features)?;
            let (x, mut out) =
                (filled(device, tokens * in_features)?, filled(device, tokens * out_features)?);
            Ok(Box::new(move || Ok(linear(x.as_view(), &layer, out.as_view_mut()?).map(drop)?)))
        }),
    }
}

/// What a layer does before attention, of one token: residual, two norms, three products.
fn norm_qkv() -> Case {
    let kv = KV_HEADS * HEAD_DIM;
    Case {
        shape: format!("norm_linear qkv: both normed [1, {HIDDEN}] by bf16 [{HIDDEN} + 2 * {kv}, {HIDDEN}]"),
        least_bytes: QKV * HIDDEN * BF16 + (5 * HIDDEN + QKV) * F32,
        elements: ("product", QKV * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (branch_norm, norm) = (norm_of(device)?, norm_of(device)?);
            let (q, k, v) =
                (layer(device, HIDDEN, HIDDEN)?, layer(device, HIDDEN, kv)?, layer(device, HIDDEN, kv)?);
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
fn norm_gate() -> Case {
    Case {
        shape: format!("norm_swiglu: both normed [1, {HIDDEN}] by bf16 [2 * {INTERMEDIATE}, {HIDDEN}]"),
        least_bytes: 2 * INTERMEDIATE * HIDDEN * BF16 + (5 * HIDDEN + INTERMEDIATE) * F32,
        elements: ("product", 2 * INTERMEDIATE * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (branch_norm, norm) = (norm_of(device)?, norm_of(device)?);
            let gate_up = layer(device, HIDDEN, 2 * INTERMEDIATE)?;
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
fn norm_logits() -> Case {
    const ROWS: usize = VOCAB / 16;
    Case {
        shape: format!("norm_linear logits: both normed [1, {HIDDEN}] by bf16 [{ROWS}, {HIDDEN}]"),
        least_bytes: ROWS * HIDDEN * BF16 + (5 * HIDDEN + ROWS) * F32,
        elements: ("product", ROWS * HIDDEN),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (branch_norm, norm) = (norm_of(device)?, norm_of(device)?);
            let output = layer(device, HIDDEN, ROWS)?;
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

fn layer(device: &Device, in_features: usize, out_features: usize) -> Result<Linear> {
    let weight = Weight::BF16(DeviceBuffer::zeroed(device, in_features * out_features)?);
    Ok(Linear::new(weight, None, out_features, in_features)?)
}

fn attention(tokens: usize, before: usize) -> Case {
    let (q, keys) = (tokens * Q_HEADS * HEAD_DIM, before + tokens);
    let pairs: usize = (before + 1..=keys).sum();
    Case {
        shape: format!("attend q [{tokens}, {Q_HEADS}, {HEAD_DIM}] to {keys} of bf16, {KV_HEADS} KV heads"),
        least_bytes: 2 * q * F32 + 2 * keys * KV_HEADS * HEAD_DIM * BF16,
        elements: ("query, key and element", pairs * Q_HEADS * HEAD_DIM),
        budget: if tokens == 1 { BUDGET } else { None },
        prepare: Box::new(move |device| {
            let shape = AttentionShape::new(32, 2, 128)?;
            let (before, tokens) = (u32::try_from(before)?, u32::try_from(tokens)?);
            let mut cache = KvCache::new(device, 1, shape, before + tokens, KvDType::BF16)?;
            let rows = |tokens: u32| filled(device, tokens as usize * KV_HEADS * HEAD_DIM);
            let (old_k, old_v, k, v) = (rows(before)?, rows(before)?, rows(tokens)?, rows(tokens)?);
            cache.layer(0)?.append(old_k.as_view(), old_v.as_view(), before)?;
            cache.commit(before)?;
            cache.layer(0)?.append(k.as_view(), v.as_view(), tokens)?;
            let (q, mut out) = (filled(device, q)?, filled(device, q)?);
            Ok(Box::new(move || {
                Ok(attend(q.as_view(), tokens, &mut cache.layer(0)?, out.as_view_mut()?).map(drop)?)
            }))
        }),
    }
}

/// A token that is rotated, appended and attended in one launch.
fn decode(before: usize) -> Case {
    let (q, kv) = (Q_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    Case {
        shape: format!(
            "rotate, append and attend q [1, {Q_HEADS}, {HEAD_DIM}] to {} of bf16, {KV_HEADS} KV heads",
            before + 1
        ),
        least_bytes: (2 * q + 2 * kv + ROTARY_DIM + 2) * F32 + 2 * (before + 1) * kv * BF16,
        elements: ("query, key and element", (before + 1) * q),
        budget: BUDGET,
        prepare: Box::new(move |device| {
            let (table, shape) = (rope_table(device)?, AttentionShape::new(32, 2, 128)?);
            let length = u32::try_from(before)?;
            let mut cache = KvCache::new(device, 1, shape, length + 1, KvDType::BF16)?;
            let (old_k, old_v) = (filled(device, before * kv)?, filled(device, before * kv)?);
            cache.layer(0)?.append(old_k.as_view(), old_v.as_view(), length)?;
            cache.commit(length)?;
            let (positions, lengths) = (upload(device, vec![77_u32])?, upload(device, vec![length])?);
            let (rows, k, v) = (filled(device, q)?, filled(device, kv)?, filled(device, kv)?);
            let mut out = filled(device, q)?;
            Ok(Box::new(move || {
                let tokens = NewTokens::new(rows.as_view(), k.as_view(), v.as_view(), 1, shape)?;
                let (at, lengths) = (positions.as_view(), lengths.as_view());
                decode_attention(
                    tokens,
                    None,
                    &table,
                    at,
                    lengths,
                    &mut cache.layer(0)?,
                    out.as_view_mut()?,
                )?;
                Ok(())
            }))
        }),
    }
}

fn greedy() -> Case {
    Case {
        shape: format!("argmax [1, {VOCAB}]"),
        least_bytes: VOCAB * F32 + F32,
        elements: ("logit", VOCAB),
        budget: None,
        prepare: Box::new(|device| {
            let (logits, mut token) = (filled(device, VOCAB)?, upload(device, vec![0_u32])?);
            Ok(Box::new(move || Ok(argmax(logits.as_view(), VOCAB, token.as_view_mut()?).map(drop)?)))
        }),
    }
}

fn drawn() -> Case {
    let config = SamplerConfig { temperature: 0.8, top_k: 50, top_p: 0.9, seed: 1 };
    Case {
        shape: format!("sample [1, {VOCAB}], top-k 50, top-p 0.9"),
        // Seed and step in, the step's low word and the token out.
        least_bytes: (VOCAB + 4 + 2) * F32,
        elements: ("logit", VOCAB),
        budget: None,
        prepare: Box::new(move |device| {
            let (logits, mut token) = (filled(device, VOCAB)?, upload(device, vec![0_u32])?);
            let mut draws = upload(device, Sampler::new(config)?.draw().to_vec())?;
            Ok(Box::new(move || {
                let (draws, token) = (draws.as_view_mut()?, token.as_view_mut()?);
                Ok(sample(logits.as_view(), VOCAB, &config, draws, token).map(drop)?)
            }))
        }),
    }
}

fn norm_of(device: &Device) -> Result<RmsNorm> {
    Ok(RmsNorm::new(filled(device, HIDDEN)?, 1e-5)?)
}

fn filled(device: &Device, len: usize) -> Result<DeviceBuffer<f32>> {
    upload(device, parity::uniform(1, len))
}

fn upload<T: Element>(device: &Device, values: Vec<T>) -> Result<DeviceBuffer<T>> {
    Ok(DeviceBuffer::from_host_vec(device, values)?)
}
