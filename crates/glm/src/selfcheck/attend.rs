//! The kernels of `attention`.

use anyhow::Result;
use attention::{AttentionShape, KvCache, KvDType, NewTokens, attend, decode_attention};
use device_mem::{Device, DeviceBuffer};
use half::{bf16, f16};
use kernels_rope::{HeadsMut, Pairing, Positions, apply_rope};

use super::case::{Bound, Case, Truth, bits, uniform, unwritten, upload};
use super::rotary::{HEAD_DIM, table};

const Q_HEADS: u32 = 8;
const KV_HEADS: u32 = 2;
/// Of the token that is decoded.
const POSITION: u32 = 1234;
/// Tokens from which on caches of 16 bits are attended in tiles.
const TILED_FROM: u32 = 16;
/// Committed before: the next key is in another chunk of 256 than the first.
const CONTEXT: u32 = 300;

pub(crate) fn cases() -> Result<Vec<Case>> {
    let types = [KvDType::F32, KvDType::F16, KvDType::BF16];
    let attended = types.into_iter().flat_map(|dtype| [1, 9, 33].map(|tokens| attended(dtype, tokens)));
    attended.map(Ok).chain(types.map(decoded)).collect()
}

/// A token that is rotated, appended and attended in one launch. What it is compared with is rotated on the CPU, whose bits
/// the launch has.
fn decoded(dtype: KvDType) -> Result<Case> {
    let (q_row, kv_row) = ((Q_HEADS * HEAD_DIM) as usize, (KV_HEADS * HEAD_DIM) as usize);
    let before = CONTEXT as usize * kv_row;
    let (q, k, v) = (uniform(33, q_row), uniform(34, before + kv_row), uniform(35, before + kv_row));
    let (old_k, new_k) = k.split_at(before);
    let (rotated_q, rotated_k) = (rotated(Q_HEADS, &q)?, rotated(KV_HEADS, new_k)?);
    let bounds = bounds(dtype, Order::Chunks, &rotated_q, &[old_k, &rotated_k].concat(), &v);
    Ok(Case {
        kernel: format!("decode_attention, cache {}", dtype.dtype()),
        operands: format!("q [1, {Q_HEADS}, {HEAD_DIM}], {KV_HEADS} KV heads, {CONTEXT} tokens before"),
        run: Box::new(move |device| {
            let (mut cache, k, v) = filled_cache(device, dtype, 1, &k, &v)?;
            let (q, mut out) = (upload(device, &q)?, unwritten(device, q_row)?);
            let shape = cache.shape();
            let new = before..before + kv_row;
            let tokens = NewTokens::new(q.as_view(), k.view(new.clone())?, v.view(new)?, 1, shape)?;
            let table = table(device, Pairing::Interleaved)?;
            let (positions, lengths) = (upload(device, &[POSITION])?, upload(device, &[CONTEXT])?);
            let (positions, lengths) = (positions.as_view(), lengths.as_view());
            decode_attention(
                tokens,
                None,
                &table,
                positions,
                lengths,
                &mut cache.layer(0)?,
                out.as_view_mut()?,
            )?;
            bits(&out)
        }),
        truth: Truth::Bounds(bounds),
    })
}

/// One token's heads, rotated on the CPU.
fn rotated(heads: u32, x: &[f32]) -> Result<Vec<f32>> {
    let table = table(&Device::Cpu, Pairing::Interleaved)?;
    let mut x = upload(&Device::Cpu, x)?;
    let at = Positions::new(&table, &[POSITION])?;
    apply_rope(&table, HeadsMut::new(x.as_view_mut()?, 1, heads, HEAD_DIM)?, &at)?;
    Ok(x.to_host_vec()?)
}

/// A cache that the first tokens of `k` and `v` are committed to, with room for `tokens` more, and `k` and `v` themselves.
fn filled_cache(
    device: &Device,
    dtype: KvDType,
    tokens: u32,
    k: &[f32],
    v: &[f32],
) -> Result<(KvCache, DeviceBuffer<f32>, DeviceBuffer<f32>)> {
    let shape = AttentionShape::new(Q_HEADS, KV_HEADS, HEAD_DIM)?;
    let mut cache = KvCache::new(device, 1, shape, CONTEXT + tokens, dtype)?;
    let (k, v) = (upload(device, k)?, upload(device, v)?);
    let before = 0..(CONTEXT * KV_HEADS * HEAD_DIM) as usize;
    cache.layer(0)?.append(k.view(before.clone())?, v.view(before)?, CONTEXT)?;
    cache.commit(CONTEXT)?;
    Ok((cache, k, v))
}

/// `tokens` that see what is committed and each other.
fn attended(dtype: KvDType, tokens: u32) -> Case {
    let (q, k, v) = (
        uniform(30, (tokens * Q_HEADS * HEAD_DIM) as usize),
        uniform(31, ((CONTEXT + tokens) * KV_HEADS * HEAD_DIM) as usize),
        uniform(32, ((CONTEXT + tokens) * KV_HEADS * HEAD_DIM) as usize),
    );
    let order = Order::of(dtype, tokens);
    let bounds = bounds(dtype, order, &q, &k, &v);
    let kernel = if let Order::Chunks = order { "attention" } else { "attention_tiled" };
    Case {
        kernel: format!("{kernel}, cache {}", dtype.dtype()),
        operands: format!(
            "q [{tokens}, {Q_HEADS}, {HEAD_DIM}], {KV_HEADS} KV heads, {CONTEXT} tokens before"
        ),
        run: Box::new(move |device| {
            let (mut cache, k, v) = filled_cache(device, dtype, tokens, &k, &v)?;
            let split = (CONTEXT * KV_HEADS * HEAD_DIM) as usize;
            let mut layer = cache.layer(0)?;
            layer.append(k.view(split..k.len())?, v.view(split..v.len())?, tokens)?;
            let (q, mut out) = (upload(device, &q)?, unwritten(device, q.len())?);
            attend(q.as_view(), tokens, &mut layer, out.as_view_mut()?)?;
            bits(&out)
        }),
        truth: Truth::Bounds(bounds),
    }
}

/// How the keys of a pass are taken.
#[derive(Clone, Copy)]
enum Order {
    /// By 256.
    Chunks,
    /// By 32, as products of bf16: so many for each, of which at most `left_out` units of 2^-24 are missing.
    Tiles { products: u32, left_out: u32 },
}

impl Order {
    fn of(dtype: KvDType, tokens: u32) -> Order {
        match dtype {
            KvDType::F16 if tokens >= TILED_FROM => Order::Tiles { products: 3, left_out: 384 },
            KvDType::BF16 if tokens >= TILED_FROM => Order::Tiles { products: 2, left_out: 128 },
            _ => Order::Chunks,
        }
    }

    /// Roundings of a product on its way into a score, and what is left out of it.
    fn score_roundings(self) -> u32 {
        match self {
            Order::Chunks => HEAD_DIM.min(32) + HEAD_DIM.div_ceil(32) + 1,
            Order::Tiles { products, left_out } => {
                2 * products * HEAD_DIM.next_multiple_of(32) + 2 + left_out
            }
        }
    }

    /// How often an output is rescaled, and the roundings of a weight's product on its way into an output.
    fn mean_roundings(self, keys: f64) -> (f64, f64) {
        match self {
            Order::Chunks => {
                let chunks = (keys / 256.0).ceil();
                (chunks, keys.min(256.0) + 20.0 + 2.0 * (1.0 + chunks))
            }
            Order::Tiles { products, left_out } => {
                let steps = (keys / 32.0).ceil();
                (steps, 64.0 * f64::from(products) * steps + 10.0 + 2.0 * steps + f64::from(left_out))
            }
        }
    }
}

/// Attention in f64, with the bound that `attention` documents for HIP devices.
fn bounds(dtype: KvDType, order: Order, q: &[f32], k: &[f32], v: &[f32]) -> Vec<Bound> {
    let head_dim = HEAD_DIM as usize;
    let stored = |values: &[f32]| Vec::from_iter(values.iter().map(|&value| stored(dtype, value)));
    let (k, v) = (stored(k), stored(v));
    let row = |token: usize, kv_head: usize| (token * KV_HEADS as usize + kv_head) * head_dim;
    let mut bounds = Vec::with_capacity(q.len());
    for (index, q) in q.chunks_exact(head_dim).enumerate() {
        let (token, head) = (index / Q_HEADS as usize, index % Q_HEADS as usize);
        let (keys, kv_head) = (CONTEXT as usize + token + 1, head / (Q_HEADS / KV_HEADS) as usize);
        let part = |values: &[f64], key: usize| {
            values
                .get(row(key, kv_head)..)
                .unwrap_or_default()
                .iter()
                .copied()
                .take(head_dim)
                .collect::<Vec<f64>>()
        };
        let weights = weights(order, q, (0..keys).map(|key| part(&k, key)));
        let (mut mean, mut magnitude) = (vec![0.0; head_dim], vec![0.0; head_dim]);
        for (key, share) in weights.shares.iter().enumerate() {
            for ((value, mean), magnitude) in part(&v, key).iter().zip(&mut mean).zip(&mut magnitude) {
                *mean += share * value;
                *magnitude += share * value.abs();
            }
        }
        let error = weights.error;
        bounds.extend(mean.iter().zip(magnitude).map(|(&exact, size)| Bound { exact, error: error * size }));
    }
    bounds
}

/// The softmax of a query's scores, and how far an output may be off as a share of `sum p |v|`.
struct Weights {
    shares: Vec<f64>,
    error: f64,
}

/// A score has the sums of its products, and two roundings of the scale. A weight carries the score's error, the rounding of
/// `score - max` and of `e^x`, and 3 at each rescaling; an output the sums of its keys, above and below the division.
fn weights(order: Order, q: &[f32], keys: impl Iterator<Item = Vec<f64>>) -> Weights {
    let unit = 2.0_f64.powi(-24);
    let scale = 1.0 / f64::from(HEAD_DIM).sqrt();
    let (mut scores, mut score_error) = (Vec::new(), 0.0_f64);
    for key in keys {
        let products = || q.iter().zip(&key).map(|(&q, k)| f64::from(q) * k);
        scores.push(scale * products().sum::<f64>());
        score_error = score_error
            .max(f64::from(order.score_roundings()) * unit * scale * products().map(f64::abs).sum::<f64>());
    }
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let spread = max - scores.iter().copied().fold(f64::INFINITY, f64::min);
    let exps = Vec::from_iter(scores.iter().map(|score| (score - max).exp()));
    let total: f64 = exps.iter().sum();
    let (rescalings, sums) = order.mean_roundings(exps.len() as f64);
    let weight = score_error + (2.0 * spread + 2.0 + 3.0 * rescalings) * unit;
    Weights {
        shares: exps.iter().map(|exp| exp / total).collect(),
        error: (1.01 * (2.0 * weight + (sums + 1.0) * unit)).exp_m1(),
    }
}

/// A key or value as the cache holds it.
fn stored(dtype: KvDType, value: f32) -> f64 {
    match dtype {
        KvDType::F16 => f16::from_f32(value).to_f64(),
        KvDType::BF16 => bf16::from_f32(value).to_f64(),
        KvDType::F32 => f64::from(value),
    }
}
