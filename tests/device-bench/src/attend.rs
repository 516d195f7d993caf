//! Operations of `kernels-rope` and `attention`, over a cache of bf16.

use anyhow::Result;
use attention::{AttentionShape, KvCache, KvDType, NewTokens, attend, decode_attention};
use device_mem::{Device, DeviceBuffer};
use half::bf16;
use kernels_rope::{
    AppendKv, Axes, HeadsMut, InvFreq, KvLayout, Pairing, Positions, RopeConfig, RopeSpec, RopeTable,
    Scaling, apply_position_embeddings_append,
};
use serde_json::json;

use crate::cases::{BF16, Case, F32, HEAD_DIM, ROTARY_DIM, Shapes, filled, upload};

/// Positions of the rotary table.
const POSITIONS: u32 = 131_072;

/// Rotates queries and keys, and appends keys and values.
pub(crate) fn rotation(Shapes { model, q_heads, kv_heads, .. }: Shapes, tokens: usize) -> Case {
    let (q, kv) = (tokens * q_heads * HEAD_DIM, tokens * kv_heads * HEAD_DIM);
    // The part of a head that is not rotated is not touched in q; k is read whole, since it is appended.
    let rotated = tokens * (q_heads + kv_heads) * ROTARY_DIM;
    let read_only = (tokens * kv_heads * (HEAD_DIM - ROTARY_DIM) + kv) * F32;
    let table = tokens * ROTARY_DIM * F32;
    Case {
        op: "rope_append",
        model,
        tokens,
        shape: json!({"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": HEAD_DIM, "rotary_dim": ROTARY_DIM}),
        bytes: 2 * rotated * F32 + 2 * kv * BF16 + read_only + table + tokens * F32,
        operations: 3 * rotated,
        prepare: Box::new(move |device| {
            let table = rope_table(device)?;
            let at = Positions::span(&table, 0, u32::try_from(tokens)?)?;
            let (mut q, mut k, v) = (filled(device, q)?, filled(device, kv)?, filled(device, kv)?);
            let (heads, kv_heads) = (u32::try_from(q_heads)?, u32::try_from(kv_heads)?);
            let (head_dim, capacity) = (u32::try_from(HEAD_DIM)?, u32::try_from(tokens)?);
            let layout = KvLayout { kv_heads, capacity, head_dim, row_len: head_dim };
            let mut keys = DeviceBuffer::<bf16>::zeroed(device, kv)?;
            let mut values = DeviceBuffer::<bf16>::zeroed(device, kv)?;
            Ok(Box::new(move || {
                let append =
                    AppendKv::new(v.as_view(), keys.as_view_mut()?, values.as_view_mut()?, layout, 0)?;
                let q = HeadsMut::new(q.as_view_mut()?, at.tokens(), heads, head_dim)?;
                let k = HeadsMut::new(k.as_view_mut()?, at.tokens(), kv_heads, head_dim)?;
                apply_position_embeddings_append(&table, q, k, append, &at)?;
                Ok(())
            }))
        }),
    }
}

fn rope_table(device: &Device) -> Result<RopeTable> {
    let spec = RopeSpec::new(RopeConfig {
        head_dim: u32::try_from(HEAD_DIM)?,
        rotary_dim: u32::try_from(ROTARY_DIM)?,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    Ok(RopeTable::new(&spec, POSITIONS, device)?)
}

fn shape_of(q_heads: usize, kv_heads: usize) -> Result<AttentionShape> {
    Ok(AttentionShape::new(u32::try_from(q_heads)?, u32::try_from(kv_heads)?, u32::try_from(HEAD_DIM)?)?)
}

/// A cache with `before` tokens committed, and room for `more`.
fn cache_of(device: &Device, shape: AttentionShape, before: usize, more: usize) -> Result<KvCache> {
    let (before, more) = (u32::try_from(before)?, u32::try_from(more)?);
    let mut cache = KvCache::new(device, 1, shape, before + more, KvDType::BF16)?;
    let row = shape.kv_heads() as usize * HEAD_DIM;
    let (k, v) = (filled(device, before as usize * row)?, filled(device, before as usize * row)?);
    cache.layer(0)?.append(k.as_view(), v.as_view(), before)?;
    cache.commit(before)?;
    device.synchronize()?;
    Ok(cache)
}

/// A token that is rotated, appended and attended to `keys` keys, in one launch.
pub(crate) fn decode(Shapes { model, q_heads, kv_heads, .. }: Shapes, keys: usize) -> Case {
    let (q, kv) = (q_heads * HEAD_DIM, kv_heads * HEAD_DIM);
    Case {
        op: "decode_attention",
        model,
        tokens: 1,
        shape: json!({"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": HEAD_DIM, "keys": keys}),
        bytes: (2 * q + 2 * kv + ROTARY_DIM + 2) * F32 + 2 * keys * kv * BF16,
        operations: 4 * keys * q,
        prepare: Box::new(move |device| {
            let (table, shape) = (rope_table(device)?, shape_of(q_heads, kv_heads)?);
            let mut cache = cache_of(device, shape, keys - 1, 1)?;
            let length = u32::try_from(keys - 1)?;
            let (positions, lengths) = (upload(device, vec![length])?, upload(device, vec![length])?);
            let (rows, k, v) = (filled(device, q)?, filled(device, kv)?, filled(device, kv)?);
            let mut out = filled(device, q)?;
            Ok(Box::new(move || {
                let tokens = NewTokens::new(rows.as_view(), k.as_view(), v.as_view(), 1, shape)?;
                let (at, lengths) = (positions.as_view(), lengths.as_view());
                let layer = &mut cache.layer(0)?;
                decode_attention(tokens, None, &table, at, lengths, layer, out.as_view_mut()?)?;
                Ok(())
            }))
        }),
    }
}

/// The last `tokens` of `keys`, each of which sees those before it.
pub(crate) fn pass(Shapes { model, q_heads, kv_heads, .. }: Shapes, tokens: usize, keys: usize) -> Case {
    let (q, before) = (tokens * q_heads * HEAD_DIM, keys - tokens);
    let pairs: usize = (before + 1..=keys).sum();
    Case {
        op: "attend",
        model,
        tokens,
        shape: json!({"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": HEAD_DIM, "keys": keys}),
        bytes: 2 * q * F32 + 2 * keys * kv_heads * HEAD_DIM * BF16,
        operations: 4 * pairs * q_heads * HEAD_DIM,
        prepare: Box::new(move |device| {
            let mut cache = cache_of(device, shape_of(q_heads, kv_heads)?, before, tokens)?;
            let row = kv_heads * HEAD_DIM;
            let (k, v) = (filled(device, tokens * row)?, filled(device, tokens * row)?);
            let tokens = u32::try_from(tokens)?;
            cache.layer(0)?.append(k.as_view(), v.as_view(), tokens)?;
            let (rows, mut out) = (filled(device, q)?, filled(device, q)?);
            Ok(Box::new(move || {
                Ok(attend(rows.as_view(), tokens, &mut cache.layer(0)?, out.as_view_mut()?).map(drop)?)
            }))
        }),
    }
}
