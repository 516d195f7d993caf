//! The kernels of `kernels-rope`.

use anyhow::Result;
use device_mem::{Device, DeviceBuffer, Float};
use half::{bf16, f16};
use kernels_rope::{
    AppendKv, Axes, HeadsMut, InvFreq, KvLayout, Pairing, Positions, RopeConfig, RopeSpec, RopeTable,
    Scaling, append_kv, apply_position_embeddings_append, apply_rope,
};

use super::case::{Case, Truth, bits, uniform, upload, upload_as};

const TOKENS: u32 = 3;
const Q_HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
pub(super) const HEAD_DIM: u32 = 128;
const CAPACITY: u32 = 8;
const FIRST: u32 = 2;
const TABLE: u32 = 4096;
const POSITIONS: [u32; TOKENS as usize] = [0, 77, TABLE - 1];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        rotated::<f32>(Pairing::Interleaved),
        rotated::<f16>(Pairing::Halves),
        rotated::<bf16>(Pairing::Interleaved),
        rotated_and_appended::<f32>(),
        rotated_and_appended::<f16>(),
        rotated_and_appended::<bf16>(),
        appended::<f32>(),
        appended::<f16>(),
        appended::<bf16>(),
    ]
}

fn rotated<T: Float>(pairing: Pairing) -> Case {
    Case {
        kernel: format!("rope {}", T::DTYPE),
        operands: format!("x [{TOKENS}, {Q_HEADS}, {HEAD_DIM}], {pairing:?}"),
        run: Box::new(move |device| {
            let table = table(device, pairing)?;
            let mut x = upload_as::<T>(device, &uniform(1, elements(Q_HEADS)))?;
            let heads = HeadsMut::new(x.as_view_mut()?, TOKENS, Q_HEADS, HEAD_DIM)?;
            apply_rope(&table, heads, &Positions::new(&table, &POSITIONS)?)?;
            bits(&x)
        }),
        truth: Truth::Cpu,
    }
}

fn rotated_and_appended<C: Float>() -> Case {
    Case {
        kernel: format!("position_embeddings f32, cache {}", C::DTYPE),
        operands: format!("q [{TOKENS}, {Q_HEADS}, {HEAD_DIM}], k [{TOKENS}, {KV_HEADS}, {HEAD_DIM}]"),
        run: Box::new(|device| {
            let table = table(device, Pairing::Interleaved)?;
            let mut q = upload(device, &uniform(2, elements(Q_HEADS)))?;
            let mut k = upload(device, &uniform(3, elements(KV_HEADS)))?;
            let v = upload(device, &uniform(4, elements(KV_HEADS)))?;
            let (mut keys, mut values) = cache::<C>(device)?;
            let append =
                AppendKv::new(v.as_view(), keys.as_view_mut()?, values.as_view_mut()?, LAYOUT, FIRST)?;
            let q_heads = HeadsMut::new(q.as_view_mut()?, TOKENS, Q_HEADS, HEAD_DIM)?;
            let k_heads = HeadsMut::new(k.as_view_mut()?, TOKENS, KV_HEADS, HEAD_DIM)?;
            let at = Positions::new(&table, &POSITIONS)?;
            apply_position_embeddings_append(&table, q_heads, k_heads, append, &at)?;
            Ok([bits(&q)?, bits(&k)?, bits(&keys)?, bits(&values)?].concat())
        }),
        truth: Truth::Cpu,
    }
}

fn appended<C: Float>() -> Case {
    Case {
        kernel: format!("append_kv {}", C::DTYPE),
        operands: format!("k, v [{TOKENS}, {KV_HEADS}, {HEAD_DIM}]"),
        run: Box::new(|device| {
            let k = upload(device, &uniform(5, elements(KV_HEADS)))?;
            let v = upload(device, &uniform(6, elements(KV_HEADS)))?;
            let (mut keys, mut values) = cache::<C>(device)?;
            let append =
                AppendKv::new(v.as_view(), keys.as_view_mut()?, values.as_view_mut()?, LAYOUT, FIRST)?;
            append_kv(k.as_view(), TOKENS, append)?;
            Ok([bits(&keys)?, bits(&values)?].concat())
        }),
        truth: Truth::Cpu,
    }
}

/// Half of each head is rotated.
pub(super) fn table(device: &Device, pairing: Pairing) -> Result<RopeTable> {
    let spec = RopeSpec::new(RopeConfig {
        head_dim: HEAD_DIM,
        rotary_dim: HEAD_DIM / 2,
        theta: 10_000.0,
        pairing,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    Ok(RopeTable::new(&spec, TABLE, device)?)
}

const LAYOUT: KvLayout =
    KvLayout { kv_heads: KV_HEADS, capacity: CAPACITY, head_dim: HEAD_DIM, row_len: HEAD_DIM };

/// Keys and values that nothing was appended to.
fn cache<C: Float>(device: &Device) -> Result<(DeviceBuffer<C>, DeviceBuffer<C>)> {
    let before = vec![-77.25; (KV_HEADS * CAPACITY * HEAD_DIM) as usize];
    Ok((upload_as(device, &before)?, upload_as(device, &before)?))
}

fn elements(heads: u32) -> usize {
    (TOKENS * heads * HEAD_DIM) as usize
}
