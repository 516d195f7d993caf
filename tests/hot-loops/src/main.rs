//! The loops that the time of a model on the CPU goes into, one after another, for a program that counts instructions:
//! `cargo xtask instructions` runs it. It prints the instruction set that they take, and their names.

use std::io::{self, Write};

use anyhow::{Result, bail};
use attention::{AttentionShape, KvCache, KvDType, attend};
use device_mem::{Device, DeviceBuffer, Element, Float, Isa, RanOn};
use half::{bf16, f16};
use kernels_nn::{BlockType, Linear, RmsNorm, Weight, add_rms_norm, linear};
use kernels_rope::{
    Axes, HeadsMut, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling,
    apply_position_embeddings,
};

/// A loop, ready to run.
type Loop = Box<dyn FnMut() -> Result<RanOn>>;

/// A name, and what makes the loop.
type Named = (&'static str, fn() -> Result<Loop>);

const LOOPS: [Named; 16] = [
    ("token by f32", || product(1, f32_weight)),
    ("token by f16", || product(1, f16_weight)),
    ("token by bf16", || product(1, bf16_weight)),
    ("token by Q8_0", || product(1, |values| blocks(BlockType::Q8_0, values))),
    ("token by Q4_0", || product(1, |values| blocks(BlockType::Q4_0, values))),
    ("token by Q4_K", || product(1, |values| blocks(BlockType::Q4_K, values))),
    ("token by Q5_K", || product(1, |values| blocks(BlockType::Q5_K, values))),
    ("token by Q6_K", || product(1, |values| blocks(BlockType::Q6_K, values))),
    ("64 tokens by f32", || product(64, f32_weight)),
    ("64 tokens by bf16", || product(64, bf16_weight)),
    ("64 tokens by Q8_0", || product(64, |values| blocks(BlockType::Q8_0, values))),
    ("attention of a token to 1024 of bf16", || attention(1, 1023)),
    ("attention of 64 tokens of bf16", || attention(64, 0)),
    ("rotation of f32", rotation::<f32>),
    ("rotation of bf16", rotation::<bf16>),
    ("residual and norm", norm),
];

/// Elements of a row of a weight, and rows.
const IN_FEATURES: usize = 1024;
const OUT_FEATURES: usize = 256;

fn main() -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{:?}", Isa::best().level())?;
    // No other thread, which would count how long it looks for work.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    for (name, make) in LOOPS {
        writeln!(out, "{name}")?;
        let mut hot_loop = make()?;
        // Once before, so that what is made once does not count.
        hot_loop()?;
        match counted(&mut hot_loop)? {
            RanOn::Cpu => {}
            ran_on => bail!("{name} ran on {ran_on:?}"),
        }
    }
    Ok(())
}

/// What is counted, by its name.
#[inline(never)]
fn counted(hot_loop: &mut Loop) -> Result<RanOn> {
    hot_loop()
}

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

fn f32_weight(values: Vec<f32>) -> Result<Weight> {
    Ok(Weight::F32(on_cpu(values)?))
}

fn f16_weight(values: Vec<f32>) -> Result<Weight> {
    Ok(Weight::F16(on_cpu(values.into_iter().map(f16::from_f32).collect())?))
}

fn bf16_weight(values: Vec<f32>) -> Result<Weight> {
    Ok(Weight::BF16(on_cpu(values.into_iter().map(bf16::from_f32).collect())?))
}

fn blocks(block: BlockType, values: Vec<f32>) -> Result<Weight> {
    let mut bytes = vec![0; values.len() / block.block_len() * block.block_bytes()];
    block.quantize(&values, &mut bytes)?;
    Ok(Weight::Blocks(block, on_cpu(bytes)?))
}

fn product(tokens: usize, weight: impl FnOnce(Vec<f32>) -> Result<Weight>) -> Result<Loop> {
    let weight = weight(uniform(1, OUT_FEATURES * IN_FEATURES))?;
    let layer = Linear::new(weight, None, OUT_FEATURES, IN_FEATURES)?;
    let x = on_cpu(uniform::<f32>(2, tokens * IN_FEATURES))?;
    let mut out = on_cpu(vec![0.0_f32; tokens * OUT_FEATURES])?;
    Ok(Box::new(move || Ok(linear(x.as_view(), &layer, out.as_view_mut()?)?)))
}

fn attention(tokens: u32, before: u32) -> Result<Loop> {
    let shape = AttentionShape::new(32, 2, 128)?;
    let rows = |seed, rows: u32| on_cpu(uniform::<f32>(seed, rows as usize * 128));
    let mut cache = KvCache::new(&Device::Cpu, 1, shape, before + tokens, KvDType::BF16)?;
    let (k, v) = (rows(1, before * 2)?, rows(2, before * 2)?);
    cache.layer(0)?.append(k.as_view(), v.as_view(), before)?;
    cache.commit(before)?;
    let (k, v) = (rows(3, tokens * 2)?, rows(4, tokens * 2)?);
    cache.layer(0)?.append(k.as_view(), v.as_view(), tokens)?;
    let (q, mut out) = (rows(5, tokens * 32)?, rows(6, tokens * 32)?);
    Ok(Box::new(move || Ok(attend(q.as_view(), tokens, &mut cache.layer(0)?, out.as_view_mut()?)?)))
}

fn rotation<T: Float>() -> Result<Loop> {
    const TOKENS: u32 = 16;
    let spec = RopeSpec::new(RopeConfig {
        head_dim: 128,
        rotary_dim: 64,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    let table = RopeTable::new(&spec, TOKENS, &Device::Cpu)?;
    let positions = Positions::new(&table, &(0..TOKENS).collect::<Vec<_>>())?;
    let heads = |seed, heads: u32| on_cpu(uniform::<T>(seed, (TOKENS * heads * 128) as usize));
    let (mut q, mut k) = (heads(1, 32)?, heads(2, 2)?);
    Ok(Box::new(move || {
        let q = HeadsMut::new(q.as_view_mut()?, TOKENS, 32, 128)?;
        let k = HeadsMut::new(k.as_view_mut()?, TOKENS, 2, 128)?;
        Ok(apply_position_embeddings(&table, q, k, &positions)?)
    }))
}

fn norm() -> Result<Loop> {
    const WIDTH: usize = 4096;
    let values = |seed| on_cpu(uniform::<f32>(seed, WIDTH));
    let (mut x, branch, mut out) = (values(1)?, values(2)?, values(3)?);
    let norm = RmsNorm::new(values(4)?, 1e-5)?;
    Ok(Box::new(move || {
        Ok(add_rms_norm(x.as_view_mut()?, branch.as_view(), None, &norm, out.as_view_mut()?)?)
    }))
}
