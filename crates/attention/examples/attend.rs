//! Prefills three tokens, decodes two and prints what they attended to: `cargo run -p attention --example attend`.

use attention::{AttentionShape, KvCache, KvDType, Qkv, self_attention};
use device_mem::{Device, DeviceBuffer};
use kernels_rope::{Axes, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling};

const Q_HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const HEAD_DIM: u32 = 8;

#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spec = RopeSpec::new(RopeConfig {
        head_dim: HEAD_DIM,
        rotary_dim: HEAD_DIM / 2,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    let table = RopeTable::new(&spec, 64, &Device::Cpu)?;
    let shape = AttentionShape::new(Q_HEADS, KV_HEADS, HEAD_DIM)?;
    let mut cache = KvCache::new(&Device::Cpu, 1, shape, 64, KvDType::BF16)?;
    println!("{shape}, a cache of {} bytes", cache.bytes());

    for tokens in [3, 1, 1] {
        let first = cache.len();
        let mut q = activations(first, tokens, Q_HEADS, 0.7)?;
        let mut k = activations(first, tokens, KV_HEADS, 0.3)?;
        let v = activations(first, tokens, KV_HEADS, 0.5)?;
        let mut out = DeviceBuffer::zeroed(&Device::Cpu, q.len())?;

        let at = Positions::span(&table, first, tokens)?;
        let qkv = Qkv::new(q.as_view_mut()?, k.as_view_mut()?, v.as_view(), tokens, shape)?;
        let ran_on = self_attention(qkv, &table, &at, cache.layer(0)?, out.as_view_mut()?)?;
        cache.commit(tokens)?;

        let row = (Q_HEADS * HEAD_DIM) as usize;
        for (token, out) in (first..).zip(out.to_host_vec()?.chunks_exact(row)) {
            println!("token {token}, on the {ran_on}, head 0: {:.3?}", &out[..HEAD_DIM as usize]);
        }
    }
    Ok(())
}

/// Projections `[tokens, heads, HEAD_DIM]` without meaning, different for each token.
fn activations(
    first: u32,
    tokens: u32,
    heads: u32,
    frequency: f64,
) -> Result<DeviceBuffer<f32>, device_mem::MemError> {
    let row = heads * HEAD_DIM;
    let elements = first * row..(first + tokens) * row;
    #[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
    let values = elements.map(|index| (f64::from(index) * frequency).sin() as f32).collect();
    DeviceBuffer::from_host_vec(&Device::Cpu, values)
}
