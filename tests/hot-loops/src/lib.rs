//! The loops that the time of a model on the CPU goes into, at given shapes. Two programs run them: `hot-loops` for one that
//! counts instructions, `operations` to time them.

use anyhow::{Context, Result};
use attention::{AttentionShape, KvCache, KvDType, attend};
use device_mem::{Device, DeviceBuffer, Element, Float, RanOn};
use half::{bf16, f16};
use kernels_nn::{BlockType, Linear, RmsNorm, Weight, add_rms_norm, linear};
use kernels_rope::{
    Axes, HeadsMut, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling,
    apply_position_embeddings,
};

/// A loop, ready to run.
pub type Loop = Box<dyn FnMut() -> Result<RanOn>>;

/// `len` values from -1 to 1, by Knuth's generator for MMIX.
fn uniform<T: Float>(seed: u64, len: usize) -> Vec<T> {
    let mut state = seed;
    let mut value = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::from_f32((state >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..len).map(|_| value()).collect()
}

fn on_cpu<T: Element>(values: Vec<T>) -> Result<DeviceBuffer<T>> {
    Ok(DeviceBuffer::from_host_vec(&Device::Cpu, values)?)
}

/// A weight of `values`.
///
/// # Errors
/// As [`Linear`] reports.
pub fn f32_weight(values: Vec<f32>) -> Result<Weight> {
    Ok(Weight::F32(on_cpu(values)?))
}

/// A weight of `values`, rounded.
///
/// # Errors
/// As [`Linear`] reports.
pub fn f16_weight(values: Vec<f32>) -> Result<Weight> {
    Ok(Weight::F16(on_cpu(values.into_iter().map(f16::from_f32).collect())?))
}

/// A weight of `values`, rounded.
///
/// # Errors
/// As [`Linear`] reports.
pub fn bf16_weight(values: Vec<f32>) -> Result<Weight> {
    Ok(Weight::BF16(on_cpu(values.into_iter().map(bf16::from_f32).collect())?))
}

/// A weight of `values`, quantised.
///
/// # Errors
/// As [`BlockType::quantize`] reports.
pub fn blocks(block: BlockType, values: Vec<f32>) -> Result<Weight> {
    let mut bytes = vec![0; values.len() / block.block_len() * block.block_bytes()];
    block.quantize(&values, &mut bytes)?;
    Ok(Weight::Blocks(block, on_cpu(bytes)?))
}

/// Tokens times a weight `[out_features, in_features]`.
///
/// # Errors
/// As [`linear`] reports.
pub fn product(
    tokens: usize,
    [out_features, in_features]: [usize; 2],
    weight: impl FnOnce(Vec<f32>) -> Result<Weight>,
) -> Result<Loop> {
    let weight = weight(uniform(1, out_features * in_features))?;
    let layer = Linear::new(weight, None, out_features, in_features)?;
    let x = on_cpu(uniform::<f32>(2, tokens * in_features))?;
    let mut out = on_cpu(vec![0.0_f32; tokens * out_features])?;
    Ok(Box::new(move || Ok(linear(x.as_view(), &layer, out.as_view_mut()?)?)))
}

/// Tokens that 32 heads over two of keys and values, each of 128 elements, attend to those before and to themselves. Each run
/// takes the next of some caches.
///
/// # Errors
/// As [`attend`] reports.
pub fn attention(tokens: u32, before: u32, dtype: KvDType, caches: usize) -> Result<Loop> {
    let shape = AttentionShape::new(32, 2, 128)?;
    let rows = |seed, rows: u32| on_cpu(uniform::<f32>(seed, rows as usize * 128));
    let filled = || {
        let mut cache = KvCache::new(&Device::Cpu, 1, shape, before + tokens, dtype)?;
        let (k, v) = (rows(1, before * 2)?, rows(2, before * 2)?);
        cache.layer(0)?.append(k.as_view(), v.as_view(), before)?;
        cache.commit(before)?;
        let (k, v) = (rows(3, tokens * 2)?, rows(4, tokens * 2)?);
        cache.layer(0)?.append(k.as_view(), v.as_view(), tokens)?;
        Ok(cache)
    };
    let mut caches = (0..caches).map(|_| filled()).collect::<Result<Vec<_>>>()?;
    let (q, mut out) = (rows(5, tokens * 32)?, rows(6, tokens * 32)?);
    Ok(Box::new(move || {
        caches.rotate_left(1);
        let cache = caches.first_mut().context("there is no cache")?;
        Ok(attend(q.as_view(), tokens, &mut cache.layer(0)?, out.as_view_mut()?)?)
    }))
}

/// The rotation of half of each head: of queries `[tokens, 32, 128]` and keys `[tokens, 2, 128]`, in place. Each run takes the next
/// of some buffers.
///
/// # Errors
/// As [`apply_position_embeddings`] reports.
pub fn rotation<T: Float>(tokens: u32, buffers: usize) -> Result<Loop> {
    let spec = RopeSpec::new(RopeConfig {
        head_dim: 128,
        rotary_dim: 64,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    let table = RopeTable::new(&spec, tokens, &Device::Cpu)?;
    let positions = Positions::new(&table, &(0..tokens).collect::<Vec<_>>())?;
    let heads = |seed, heads: u32| on_cpu(uniform::<T>(seed, (tokens * heads * 128) as usize));
    let both = (0..buffers).map(|_| Ok((heads(1, 32)?, heads(2, 2)?)));
    let mut both = both.collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move || {
        both.rotate_left(1);
        let (q, k) = both.first_mut().context("there is no buffer")?;
        let q = HeadsMut::new(q.as_view_mut()?, tokens, 32, 128)?;
        let k = HeadsMut::new(k.as_view_mut()?, tokens, 2, 128)?;
        Ok(apply_position_embeddings(&table, q, k, &positions)?)
    }))
}

/// The residual connection and the norm of a token of 4096.
///
/// # Errors
/// As [`add_rms_norm`] reports.
pub fn norm() -> Result<Loop> {
    const WIDTH: usize = 4096;
    let values = |seed| on_cpu(uniform::<f32>(seed, WIDTH));
    let (mut x, branch, mut out) = (values(1)?, values(2)?, values(3)?);
    let norm = RmsNorm::new(values(4)?, 1e-5)?;
    Ok(Box::new(move || {
        Ok(add_rms_norm(x.as_view_mut()?, branch.as_view(), None, &norm, out.as_view_mut()?)?)
    }))
}
