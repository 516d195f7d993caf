//! Runs the feed-forward half of a small layer on the CPU and draws a token from the result:
//! `cargo run -p kernels-nn --example layer`.

use device_mem::{Device, DeviceBuffer, MemError};
use kernels_nn::{
    Embedding, Linear, NnError, RmsNorm, Sampler, SamplerConfig, Weight, add, embed, linear, rms_norm, swiglu,
};

const VOCAB: usize = 11;
const HIDDEN: usize = 8;
const FF: usize = 16;

#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
fn main() -> Result<(), NnError> {
    let cpu = Device::Cpu;
    let embedding = Embedding::new(weight(VOCAB, HIDDEN, 0.7)?, VOCAB, HIDDEN)?;
    let norm = RmsNorm::new(DeviceBuffer::from_host_vec(&cpu, vec![1.0; HIDDEN])?, 1e-5)?;
    let gate_up = Linear::new(weight(2 * FF, HIDDEN, 0.3)?, None, 2 * FF, HIDDEN)?;
    let down = Linear::new(weight(HIDDEN, FF, 0.5)?, None, HIDDEN, FF)?;
    let head = Linear::new(weight(VOCAB, HIDDEN, 0.9)?, None, VOCAB, HIDDEN)?;

    let ids = DeviceBuffer::from_host_vec(&cpu, vec![3_u32, 1, 4])?;
    let tokens = ids.len();
    let buffer = |width: usize| DeviceBuffer::<f32>::zeroed(&cpu, tokens * width);
    let (mut residual, mut normed, mut wide) = (buffer(HIDDEN)?, buffer(HIDDEN)?, buffer(2 * FF)?);
    let (mut activated, mut mlp, mut logits) = (buffer(FF)?, buffer(HIDDEN)?, buffer(VOCAB)?);

    embed(&embedding, ids.as_view(), residual.as_view_mut()?)?;
    rms_norm(residual.as_view(), &norm, normed.as_view_mut()?)?;
    linear(normed.as_view(), &gate_up, wide.as_view_mut()?)?;
    swiglu(wide.as_view(), FF, activated.as_view_mut()?)?;
    linear(activated.as_view(), &down, mlp.as_view_mut()?)?;
    add(residual.as_view_mut()?, mlp.as_view())?;
    let ran_on = linear(residual.as_view(), &head, logits.as_view_mut()?)?;

    let last = logits.view((tokens - 1) * VOCAB..tokens * VOCAB)?.to_host_vec()?;
    let mut sampler = Sampler::new(SamplerConfig { temperature: 0.8, top_k: 5, top_p: 0.95, seed: 1 })?;
    println!("on the {ran_on}, logits of the last token: {last:.3?}");
    println!("drawn tokens: {:?}", [sampler.sample(&last)?, sampler.sample(&last)?, sampler.sample(&last)?]);
    Ok(())
}

/// A weight `[rows, columns]` without meaning.
fn weight(rows: usize, columns: usize, frequency: f32) -> Result<Weight, MemError> {
    let angles = (0_u16..).map(|index| f32::from(index) * frequency);
    let values = angles.map(f32::sin).take(rows * columns).collect();
    DeviceBuffer::from_host_vec(&Device::Cpu, values).map(Weight::F32)
}
