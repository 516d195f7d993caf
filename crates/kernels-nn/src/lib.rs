//! The operations of a GLM-family transformer layer beside attention, and the choice of the next token.
//!
//! | operation | formula | types |
//! |---|---|---|
//! | [`embed`] | `out[t] = table[ids[t]]` | [`Embedding`] |
//! | [`linear`] | `out = x W^T + b` | [`Linear`], [`Weight`] |
//! | [`rms_norm`] | `out = x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich) | [`RmsNorm`] |
//! | [`swiglu`] | `out = silu(gate) * up`, `silu(a) = a / (1 + e^-a)` (Shazeer) | - |
//! | [`add`] | `x = x + y` | - |
//!
//! - Activations are f32 `[tokens, width]`, row-major without gaps. Weights are f32, f16 or bf16; they are widened as
//!   they are read, and every sum is taken in f32 or wider.
//! - Constructors check shapes and devices once; an operation checks its operands against them, then runs where they
//!   live and says where that was. No tokens is allowed everywhere.
//! - On the CPU each sum has one fixed order, so a result depends on neither the number of threads nor the number of
//!   tokens in the call: a decoded token is the prefilled one, bit for bit.
//! - [`Sampler`] turns logits into a token: greedy, or by temperature, top-k and top-p with a seed.
//!
//! What this crate does not do: it moves nothing between devices and never falls back from one to another. An
//! operation without a body for HIP devices refuses them with [`NnError::NoHipBody`]. An error leaves every operand as
//! it was.
//!
//! # Example
//!
//! ```
//! use device_mem::{Device, DeviceBuffer};
//! use kernels_nn::{Linear, Sampler, SamplerConfig, Weight, linear};
//!
//! # fn main() -> Result<(), kernels_nn::NnError> {
//! // Two tokens of width 3 through W [2, 3] and b [2].
//! let weight = DeviceBuffer::from_host_vec(&Device::Cpu, vec![1.0, 2.0, 3.0, 0.0, -1.0, 0.5])?;
//! let bias = DeviceBuffer::from_host_vec(&Device::Cpu, vec![0.5, 0.0])?;
//! let layer = Linear::new(Weight::F32(weight), Some(bias), 2, 3)?;
//!
//! let x = DeviceBuffer::from_host_vec(&Device::Cpu, vec![1.0, 1.0, 1.0, 0.0, 2.0, 4.0])?;
//! let mut y = DeviceBuffer::zeroed(&Device::Cpu, 2 * 2)?;
//! linear(x.as_view(), &layer, y.as_view_mut()?)?;
//! assert_eq!(y.to_host_vec()?, [6.5, -0.5, 16.5, 0.0]);
//!
//! let mut greedy = Sampler::new(SamplerConfig::default())?;
//! assert_eq!(greedy.sample(&[0.1, 2.5, -1.0])?, 1);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod cpu;
mod error;
mod layers;
mod philox;
mod sampling;

use device_mem::{DeviceBuffer, RanOn, View, ViewMut};

pub use error::NnError;
pub use layers::{Embedding, Linear, RmsNorm, Weight};
pub use sampling::{Sampler, SamplerConfig};

/// Copies row `ids[t]` of the table, widened to f32, to row `t` of `out` `[tokens, hidden]`. `ids` is `[tokens]`.
///
/// # Errors
/// [`NnError::OperandLength`], [`NnError::TokenId`], [`ForeignDevice`](device_mem::MemError::ForeignDevice),
/// [`NnError::NoHipBody`].
pub fn embed(embedding: &Embedding, ids: View<'_, u32>, out: ViewMut<'_, f32>) -> Result<RanOn, NnError> {
    let &Embedding { ref weight, vocab, hidden } = embedding;
    weight.device().expect_same(&ids.device())?;
    weight.device().expect_same(&out.device())?;
    expect_rows("out", ids.len(), hidden, out.len())?;
    match (weight.host(), ids, out) {
        (Some(table), View::Host(ids), ViewMut::Host(out)) => {
            let outside = ids.iter().enumerate().find(|&(_, &id)| id as usize >= vocab);
            if let Some((index, &id)) = outside {
                return Err(NnError::TokenId { id, index, vocab });
            }
            cpu::embed_host(table, ids, hidden, out);
            Ok(RanOn::Cpu)
        }
        _ => Err(NnError::NoHipBody { operation: "embed" }),
    }
}

/// `out = x W^T + b` for each row of `x` `[tokens, in_features]`; `out` is `[tokens, out_features]`.
///
/// Every product and sum is rounded once to f32. On the CPU element `i` of a row is added to lane `i % 8`, the lanes
/// are then added in halves, and the bias comes last, so with `m = ceil(in_features / 8) + 4`,
/// `|error| <= gamma_m * (sum |w x| + |b|)`, `gamma_m = m u / (1 - m u)`, `u = 2^-24` (Higham, Accuracy and Stability
/// of Numerical Algorithms, 3.1).
///
/// # Errors
/// [`NnError::Ragged`], [`NnError::OperandLength`], [`ForeignDevice`](device_mem::MemError::ForeignDevice),
/// [`NnError::NoHipBody`].
pub fn linear(x: View<'_, f32>, layer: &Linear, out: ViewMut<'_, f32>) -> Result<RanOn, NnError> {
    let Linear { weight, bias, out_features, in_features } = layer;
    weight.device().expect_same(&x.device())?;
    weight.device().expect_same(&out.device())?;
    let tokens = whole_rows("x", *in_features, x.len())?;
    expect_rows("out", tokens, *out_features, out.len())?;
    let bias = bias.as_ref().map(DeviceBuffer::as_view);
    match (x, weight.host(), bias, out) {
        (View::Host(x), Some(weight), None, ViewMut::Host(out)) => {
            cpu::linear_host(x, weight, None, *in_features, out);
            Ok(RanOn::Cpu)
        }
        (View::Host(x), Some(weight), Some(View::Host(bias)), ViewMut::Host(out)) => {
            cpu::linear_host(x, weight, Some(bias), *in_features, out);
            Ok(RanOn::Cpu)
        }
        _ => Err(NnError::NoHipBody { operation: "linear" }),
    }
}

/// Divides each row of `x` `[tokens, hidden]` by its root mean square and multiplies it by the norm's weight; `out`
/// is `[tokens, hidden]`.
///
/// The mean and its inverse root are f64, rounded once to f32; two f32 products follow (`(x * scale) * weight`), as in
/// ChatGLM2. So `|error| <= gamma_3 |out|`.
///
/// # Errors
/// [`NnError::Ragged`], [`NnError::OperandLength`], [`ForeignDevice`](device_mem::MemError::ForeignDevice),
/// [`NnError::NoHipBody`].
pub fn rms_norm(x: View<'_, f32>, norm: &RmsNorm, out: ViewMut<'_, f32>) -> Result<RanOn, NnError> {
    norm.weight.device().expect_same(&x.device())?;
    norm.weight.device().expect_same(&out.device())?;
    let tokens = whole_rows("x", norm.hidden(), x.len())?;
    expect_rows("out", tokens, norm.hidden(), out.len())?;
    match (x, norm.weight.as_view(), out) {
        (View::Host(x), View::Host(weight), ViewMut::Host(out)) => {
            cpu::rms_norm_host(x, weight, norm.eps, out);
            Ok(RanOn::Cpu)
        }
        _ => Err(NnError::NoHipBody { operation: "rms_norm" }),
    }
}

/// `out = silu(gate) * up` for rows `[gate; up]`: `gate_up` is `[tokens, 2 * ff]`, `out` `[tokens, ff]`.
///
/// silu is the f64 value rounded once to f32; one f32 product follows. So `|error| <= gamma_2 |out|`, wherever the
/// values are not so small that f32 has no normal number for them.
///
/// # Errors
/// [`NnError::ZeroDimension`] when `ff` is 0, [`NnError::Ragged`], [`NnError::OperandLength`],
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), [`NnError::NoHipBody`].
pub fn swiglu(gate_up: View<'_, f32>, ff: usize, out: ViewMut<'_, f32>) -> Result<RanOn, NnError> {
    gate_up.device().expect_same(&out.device())?;
    if ff == 0 {
        return Err(NnError::ZeroDimension { dimension: "ff" });
    }
    let tokens = whole_rows("out", ff, out.len())?;
    let width = ff.saturating_mul(2);
    expect_rows("gate_up", tokens, width, gate_up.len())?;
    match (gate_up, out) {
        (View::Host(gate_up), ViewMut::Host(out)) => {
            cpu::swiglu_host(gate_up, ff, out);
            Ok(RanOn::Cpu)
        }
        _ => Err(NnError::NoHipBody { operation: "swiglu" }),
    }
}

/// `x += y`: the residual connection. Both have the same shape; each sum is rounded once.
///
/// # Errors
/// [`NnError::VectorLength`], [`ForeignDevice`](device_mem::MemError::ForeignDevice), [`NnError::NoHipBody`].
pub fn add(x: ViewMut<'_, f32>, y: View<'_, f32>) -> Result<RanOn, NnError> {
    x.device().expect_same(&y.device())?;
    if x.len() != y.len() {
        return Err(NnError::VectorLength { vector: "y", expected: x.len(), found: y.len() });
    }
    match (x, y) {
        (ViewMut::Host(x), View::Host(y)) => {
            cpu::add_host(x, y);
            Ok(RanOn::Cpu)
        }
        _ => Err(NnError::NoHipBody { operation: "add" }),
    }
}

/// The rows of `width` that `found` elements make.
fn whole_rows(operand: &'static str, width: usize, found: usize) -> Result<usize, NnError> {
    if found.is_multiple_of(width) {
        Ok(found / width)
    } else {
        Err(NnError::Ragged { operand, width, found })
    }
}

/// Fails unless `found` elements are `[tokens, width]`.
fn expect_rows(operand: &'static str, tokens: usize, width: usize, found: usize) -> Result<(), NnError> {
    if tokens.checked_mul(width) == Some(found) {
        return Ok(());
    }
    Err(NnError::OperandLength { operand, tokens, width, found })
}
