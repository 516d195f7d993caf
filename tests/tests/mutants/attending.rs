//! Cases of attention.

use anyhow::Result;
use attention::kernels::{ATTENTION, DECODE_ATTENTION};
use attention::{
    AttentionShape, HeadNorm, KvCache, KvDType, NewTokens, attend, attend_next, attend_with_prefix,
    decode_attention,
};
use device_mem::Device;
use kernels_rope::{Axes, BlockTable, Pairing};
use parity::uniform;

use crate::cases::{Case, on, unwritten};
use crate::rotating::table;

/// By which queries are larger than 1.
const Q_SCALE: f32 = 4.0;

pub(crate) fn cases() -> Vec<Case> {
    let case = |kernel, images, run, bounds| Case { kernel, images, run, bounds: Some(bounds), fewest: None };
    vec![
        case("attend_f32", &ATTENTION, passes::<F32>, pass_bounds::<F32>),
        case("attend_f16", &ATTENTION, passes::<F16>, pass_bounds::<F16>),
        case("attend_bf16", &ATTENTION, passes::<BF16>, pass_bounds::<BF16>),
        case("attend_split_f32", &ATTENTION, steps::<F32>, step_bounds::<F32>),
        case("attend_split_bf16", &ATTENTION, steps::<BF16>, step_bounds::<BF16>),
        case("decode_attention_f32", &DECODE_ATTENTION, decoded::<F32>, decode_bounds::<F32>),
        case("decode_attention_bf16", &DECODE_ATTENTION, decoded::<BF16>, decode_bounds::<BF16>),
    ]
}

/// The type of a cache.
trait Stored {
    const DTYPE: KvDType;
}
struct F32;
struct F16;
struct BF16;
impl Stored for F32 {
    const DTYPE: KvDType = KvDType::F32;
}
impl Stored for F16 {
    const DTYPE: KvDType = KvDType::F16;
}
impl Stored for BF16 {
    const DTYPE: KvDType = KvDType::BF16;
}

/// How the values are taken: as they are, or without their signs, of which the weighted sums bound the errors.
#[derive(Clone, Copy)]
enum Values {
    Signed,
    Unsigned,
}

impl Values {
    fn of(self, seed: u64, len: usize) -> Vec<f32> {
        let values = uniform::<f32>(seed, len);
        match self {
            Values::Signed => values,
            Values::Unsigned => values.iter().map(|value| value.abs()).collect(),
        }
    }

    /// Values above zero, behind which there are those below: a weight that is off by its chunk shows.
    fn falling(self, seed: u64, len: usize) -> Vec<f32> {
        let mut values = Values::Unsigned.of(seed, len);
        if matches!(self, Values::Signed) {
            values[len / 2..].iter_mut().for_each(|value| *value = -*value);
        }
        values
    }
}

/// Keys that grow, so that later chunks have larger scores, or shrink.
fn sloped(seed: u64, len: usize, grow: bool) -> Vec<f32> {
    let keys = uniform::<f32>(seed, len);
    let factor = |at: usize| (if grow { at + 1 } else { len - at }) as f32 / len as f32;
    keys.iter().enumerate().map(|(at, key)| key * factor(at)).collect()
}

/// Twice the bound of a result of attention over `keys` keys of `head_dim` elements, as a share of the weighted sum of
/// unsigned values: `2 max eps + (6 sqrt(n) + 8) u + 2 u spread` with `eps = 8 u scale sqrt(sum q^2 k^2) + u |s|`, and neither a
/// score nor half of the spread above `Q_SCALE sqrt(head_dim)`.
fn share(keys: u32, head_dim: u32) -> f64 {
    let unit = 1.0 / f64::from(1 << 24);
    let score = f64::from(Q_SCALE) * f64::from(head_dim).sqrt();
    let eps = 8.0 * f64::from(Q_SCALE) + score;
    2.0 * unit * (2.0 * eps + 6.0 * f64::from(keys).sqrt() + 8.0 + 4.0 * score)
}

fn queries(seed: u64, len: usize) -> Vec<f32> {
    uniform::<f32>(seed, len).iter().map(|value| value * Q_SCALE).collect()
}

/// Tokens before a pass and in it, query and key heads, width of a head, prefix.
type Pass = (u32, u32, (u32, u32), u32, u32);

const PASSES: [Pass; 7] = [
    (0, 5, (4, 2), 12, 0),
    (258, 3, (2, 1), 16, 260),
    (3, 2, (17, 1), 40, 0),
    (0, 20, (1, 1), 136, 7),
    (70, 9, (2, 2), 72, 0),
    (1100, 2, (17, 1), 72, 0),
    (600, 2, (1, 1), 8, 0),
];

fn passes<T: Stored>(device: &Device) -> Result<Vec<f32>> {
    run_passes(device, T::DTYPE, Values::Signed)
}

fn pass_bounds<T: Stored>() -> Result<Vec<f64>> {
    let sums = run_passes(&Device::Cpu, T::DTYPE, Values::Unsigned)?;
    let shares = PASSES.iter().flat_map(|&(before, tokens, (q_heads, _), head_dim, _)| {
        let outputs = (tokens * q_heads * head_dim) as usize;
        std::iter::repeat_n(share(before + tokens, head_dim), outputs)
    });
    Ok(sums.iter().zip(shares).map(|(sum, share)| f64::from(*sum) * share).collect())
}

fn run_passes(device: &Device, dtype: KvDType, values: Values) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (before, tokens, (q_heads, kv_heads), head_dim, prefix) in PASSES {
        let shape = AttentionShape::new(q_heads, kv_heads, head_dim)?;
        let mut cache = KvCache::new(device, 1, shape, before + tokens + 1, dtype)?;
        let row = (kv_heads * head_dim) as usize;
        let rows = |seed: u64, tokens: u32| -> Result<_> {
            let len = tokens as usize * row;
            Ok((on(device, &sloped(seed, len, q_heads > 1))?, on(device, &values.falling(seed + 1, len))?))
        };
        if before > 0 {
            let (k, v) = rows(10, before)?;
            cache.layer(0)?.append(k.as_view(), v.as_view(), before)?;
            cache.commit(before)?;
        }
        let (k, v) = rows(20, tokens)?;
        let q = on(device, &queries(30, (tokens * q_heads * head_dim) as usize))?;
        let mut out = unwritten(device, q.len())?;
        let mut layer = cache.layer(0)?;
        layer.append(k.as_view(), v.as_view(), tokens)?;
        attend_with_prefix(q.as_view(), tokens, prefix, &mut layer, out.as_view_mut()?)?;
        all.extend(out.to_host_vec()?);
    }
    Ok(all)
}

/// Tokens of two sequences of a paged cache, before a new one of each: one span and several.
const LENGTHS: [u32; 2] = [5, 1040];
/// Query and key heads, and width of a head.
const STEP: ((u32, u32), u32) = ((3, 1), 40);

fn steps<T: Stored>(device: &Device) -> Result<Vec<f32>> {
    run_steps(device, T::DTYPE, Values::Signed)
}

fn step_bounds<T: Stored>() -> Result<Vec<f64>> {
    let sums = run_steps(&Device::Cpu, T::DTYPE, Values::Unsigned)?;
    Ok(sums.iter().map(|sum| f64::from(*sum) * share(LENGTHS[1] + 5, STEP.1)).collect())
}

/// A paged cache of sequences with tokens before the new ones.
fn paged(device: &Device, dtype: KvDType, values: Values) -> Result<KvCache> {
    let ((q_heads, kv_heads), head_dim) = STEP;
    let shape = AttentionShape::new(q_heads, kv_heads, head_dim)?;
    let mut cache = KvCache::paged(device, 1, shape, BlockTable::new(device, 40, 64, 2, 18)?, dtype)?;
    cache.assign(0, &[39])?;
    cache.assign(1, &(0..18).map(|block| (block * 7 + 3) % 39).collect::<Vec<u32>>())?;
    for (sequence, len) in (0..).zip(LENGTHS) {
        let elements = (len * kv_heads * head_dim) as usize;
        let k = on(device, &sloped(40 + u64::from(sequence), elements, true))?;
        let v = on(device, &values.falling(50 + u64::from(sequence), elements))?;
        cache.layer_of(0, sequence)?.append(k.as_view(), v.as_view(), len)?;
        cache.commit_sequence(sequence, len)?;
    }
    Ok(cache)
}

/// Twice, so that counters which are not reset show; then a pass of several tokens, which see each other in order.
fn run_steps(device: &Device, dtype: KvDType, values: Values) -> Result<Vec<f32>> {
    let ((q_heads, kv_heads), head_dim) = STEP;
    let mut cache = paged(device, dtype, values)?;
    let mut all = Vec::new();
    for step in 0..2_u32 {
        let len = |heads: u32| (2 * heads * head_dim) as usize;
        let k = on(device, &uniform::<f32>(60 + u64::from(step), len(kv_heads)))?;
        let v = on(device, &values.of(70 + u64::from(step), len(kv_heads)))?;
        let q = on(device, &queries(80 + u64::from(step), len(q_heads)))?;
        let lengths = on(device, &LENGTHS.map(|length| length + step))?;
        let mut out = unwritten(device, q.len())?;
        let mut layer = cache.layer(0)?;
        layer.append_next(k.as_view(), v.as_view(), lengths.as_view())?;
        attend_next(q.as_view(), lengths.as_view(), &mut layer, out.as_view_mut()?)?;
        for sequence in 0..2 {
            cache.commit_sequence(sequence, 1)?;
        }
        all.extend(out.to_host_vec()?);
    }
    let len = |heads: u32| (3 * heads * head_dim) as usize;
    let k = on(device, &uniform::<f32>(62, len(kv_heads)))?;
    let v = on(device, &values.of(72, len(kv_heads)))?;
    let q = on(device, &queries(82, len(q_heads)))?;
    let mut out = unwritten(device, q.len())?;
    let mut layer = cache.layer_of(0, 1)?;
    layer.append(k.as_view(), v.as_view(), 3)?;
    attend(q.as_view(), 3, &mut layer, out.as_view_mut()?)?;
    all.extend(out.to_host_vec()?);
    Ok(all)
}

fn decoded<T: Stored>(device: &Device) -> Result<Vec<f32>> {
    run_decoded(device, T::DTYPE, Values::Signed)
}

fn decode_bounds<T: Stored>() -> Result<Vec<f64>> {
    let sums = run_decoded(&Device::Cpu, T::DTYPE, Values::Unsigned)?;
    // A norm with weights of at most 1.5 makes queries of at most sqrt(head_dim) * 1.5, which is not above those without.
    Ok(sums.iter().map(|sum| f64::from(*sum) * 2.0 * share(LENGTHS[1] + 3, STEP.1)).collect())
}

/// Three steps, without a norm and with one, each of which reads what the one before it appended.
fn run_decoded(device: &Device, dtype: KvDType, values: Values) -> Result<Vec<f32>> {
    let ((q_heads, kv_heads), head_dim) = STEP;
    let mut cache = paged(device, dtype, values)?;
    let shape = cache.shape();
    // The key is rotated by another wave than the one that reads it.
    let rope = table(device, (head_dim, 24), Pairing::Interleaved, Axes::Single)?;
    let weight = |seed| -> Result<_> {
        let weights: Vec<f32> =
            uniform::<f32>(seed, head_dim as usize).iter().map(|weight| 1.0 + weight / 2.0).collect();
        on(device, &weights)
    };
    let (q_weight, k_weight) = (weight(1)?, weight(2)?);
    let mut all = Vec::new();
    for step in 0..3_u32 {
        let len = |heads: u32| (2 * heads * head_dim) as usize;
        let k = on(device, &uniform::<f32>(60 + u64::from(step), len(kv_heads)))?;
        let v = on(device, &values.of(70 + u64::from(step), len(kv_heads)))?;
        let q = on(device, &queries(80 + u64::from(step), len(q_heads)))?;
        let lengths = on(device, &LENGTHS.map(|length| length + step))?;
        let positions = on(device, &[11 + step, 60 - step])?;
        let mut out = unwritten(device, q.len())?;
        let tokens = NewTokens::new(q.as_view(), k.as_view(), v.as_view(), 2, shape)?;
        let norm = (step > 0).then(|| HeadNorm {
            q_weight: q_weight.as_view(),
            k_weight: k_weight.as_view(),
            eps: 1e-2,
        });
        let (at, lengths) = (positions.as_view(), lengths.as_view());
        decode_attention(tokens, norm, &rope, at, lengths, &mut cache.layer(0)?, out.as_view_mut()?)?;
        for sequence in 0..2 {
            cache.commit_sequence(sequence, 1)?;
        }
        all.extend(out.to_host_vec()?);
    }
    Ok(all)
}
