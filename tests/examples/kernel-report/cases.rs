//! Each kernel at the shapes of GLM-4-9B, once.

use anyhow::Result;
use attention::{AttentionShape, KvCache, KvDType, NewTokens, attend, decode_attention};
use device_mem::{DType, Device, DeviceBuffer, Element};
use half::bf16;
use kernels_nn::{
    BlockType, Embedding, RmsNorm, Sampler, SamplerConfig, Weight, WeightType, add, add_rms_norm, argmax,
    embed, rms_norm, sample, swiglu,
};
use kernels_rope::{
    AppendKv, Axes, HeadsMut, InvFreq, KvLayout, Pairing, Positions, RopeConfig, RopeSpec, RopeTable,
    Scaling, apply_position_embeddings_append,
};

use crate::products::{norm_gate, norm_logits, norm_qkv, product};

pub(crate) const HIDDEN: usize = 4096;
pub(crate) const INTERMEDIATE: usize = 13_696;
pub(crate) const VOCAB: usize = 151_552;
const Q_HEADS: usize = 32;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 128;
const ROTARY_DIM: usize = 64;
pub(crate) const QKV: usize = (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM;
pub(crate) const F32: usize = 4;
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

pub(crate) const BUDGET: Option<f64> = Some(1.05);

/// Each span of 256 keys leaves 16 rows of sums, which are written and read once more, within a card's second-level cache.
const ATTENTION_BUDGET: Option<f64> = Some(1.15);

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
    let bf16 = WeightType::Float(DType::BF16);
    let products = decoded.into_iter().map(|(name, inner, outer)| product(bf16, name, 1, inner, outer));
    let fused = [norm_qkv(bf16), norm_gate(bf16), norm_logits(bf16)];
    let rest = [
        product(bf16, "out", 16, HIDDEN, HIDDEN),
        attention(1, 4095),
        decode(4095),
        attention(128, 0),
        greedy(),
        drawn(),
    ];
    // Rows of 13696 elements are no whole blocks of 256.
    let narrow = [BlockType::Q8_0, BlockType::Q4_0, BlockType::Q5_0].map(WeightType::Blocks);
    let wide = [BlockType::Q8_0, BlockType::Q4_0, BlockType::Q4_K, BlockType::Q6_K].map(WeightType::Blocks);
    let down = narrow.map(|held| product(held, "down", 1, INTERMEDIATE, HIDDEN));
    let out = wide.map(|held| product(held, "out", 1, HIDDEN, HIDDEN));
    let gates = wide.map(norm_gate);
    let prompt = [product(WeightType::Blocks(BlockType::Q4_K), "out", 16, HIDDEN, HIDDEN)];
    let blocks = out.into_iter().chain(down).chain(gates).chain(prompt);
    per_token.chain(more).chain(products).chain(fused).chain(rest).chain(blocks).collect()
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

fn attention(tokens: usize, before: usize) -> Case {
    let (q, keys) = (tokens * Q_HEADS * HEAD_DIM, before + tokens);
    let pairs: usize = (before + 1..=keys).sum();
    Case {
        shape: format!("attend q [{tokens}, {Q_HEADS}, {HEAD_DIM}] to {keys} of bf16, {KV_HEADS} KV heads"),
        least_bytes: 2 * q * F32 + 2 * keys * KV_HEADS * HEAD_DIM * BF16,
        elements: ("query, key and element", pairs * Q_HEADS * HEAD_DIM),
        budget: if tokens == 1 { ATTENTION_BUDGET } else { None },
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
        budget: ATTENTION_BUDGET,
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

pub(crate) fn norm_of(device: &Device) -> Result<RmsNorm> {
    Ok(RmsNorm::new(filled(device, HIDDEN)?, 1e-5)?)
}

pub(crate) fn filled(device: &Device, len: usize) -> Result<DeviceBuffer<f32>> {
    upload(device, parity::uniform(1, len))
}

fn upload<T: Element>(device: &Device, values: Vec<T>) -> Result<DeviceBuffer<T>> {
    Ok(DeviceBuffer::from_host_vec(device, values)?)
}
