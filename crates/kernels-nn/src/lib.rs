//! The operations of a GLM-family transformer layer beside attention, and the choice of the next token.
//!
//! | operation | formula | types |
//! |---|---|---|
//! | [`embed`] | `out[t] = table[ids[t]]` | [`Embedding`] |
//! | [`linear`], [`linear_each`] | `out = x W^T + b`, of one layer or up to three | [`Linear`], [`Weight`] |
//! | [`rms_norm`], [`rms_norm_in_place`] | `out = x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich) | [`RmsNorm`] |
//! | [`add_rms_norm`] | `x = x + branch`, then `out = norm(x)`, in one pass | [`RmsNorm`] |
//! | [`norm_linear`] | `sum = x + branch`, then `out = norm(sum) W^T + b` for up to three layers | [`Residual`] |
//! | [`norm_swiglu`] | `sum = x + branch`, then `out = silu(gate) * up`, `[gate; up] = norm(sum) W^T` | [`Residual`] |
//! | [`swiglu`] | `out = silu(gate) * up`, `silu(a) = a / (1 + e^-a)` (Shazeer) | - |
//! | [`add`] | `x = x + y` | - |
//! | [`advance`] | `counts = counts + by`, of whole numbers | - |
//! | [`argmax`] | the index of each row's first maximum | - |
//! | [`sample`] | a draw from each row by temperature, top-k and top-p | [`SamplerConfig`] |
//!
//! - Activations are f32 `[tokens, width]`, row-major without gaps. Weights are f32, f16, bf16 or ggml's quantised
//!   blocks ([`BlockType`]); floats are widened as they are read, rows for blocks are rounded to 8 bits and multiplied in whole
//!   numbers, and every other sum is taken in f32 or wider.
//! - Constructors check shapes and devices once; an operation checks its operands against them, then runs where they
//!   live and says where that was. No tokens is allowed everywhere.
//! - Each sum has one fixed order, which does not depend on threads, card, size of a wave, vector instructions of the CPU,
//!   or number of tokens in the call: a decoded token is the prefilled one, bit for bit. The exception is [`linear`] of 16
//!   or more tokens, which multiplies tiles.
//! - [`Sampler`] turns logits in host memory into a token: greedy, or by temperature, top-k and top-p with a seed. [`argmax`]
//!   and [`sample`] choose the same tokens where the logits are.
//!
//! # On a HIP device
//!
//! Every operation is one launch into the device's stream (see [`kernels`]), [`norm_linear`] one for each type of weight that its
//! layers have in turn; it uploads, downloads, allocates and waits
//! for nothing. All that multiply no matrix compute the same bits on every device: sums of squares are f64 in 256 lanes,
//! exponential and inverse root are written out operation by operation, divisions are IEEE's. [`linear`] has orders for
//! CPUs and for cards, each with its bound. A kernel cannot refuse what only the device knows: [`embed`],
//! [`argmax`] and [`sample`] say what they give instead.
//!
//! What this crate does not do: it moves nothing between devices and never falls back from one to another. An error
//! leaves every operand as it was.
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

#![deny(unsafe_code)]

mod blocks;
mod cpu;
mod error;
mod fused;
#[expect(unsafe_code, reason = "launches, each with its proof")]
mod hip;
pub mod kernels;
mod layers;
mod linear;
mod philox;
mod sampling;

use device_mem::{RanOn, View, ViewMut};

pub use blocks::BlockType;
pub use error::NnError;
pub use fused::{Branch, Residual, norm_linear, norm_swiglu};
pub use layers::{Embedding, Linear, RmsNorm, Weight, WeightType};
pub use linear::{linear, linear_each};
use sampling::Rule;
pub use sampling::{Sampler, SamplerConfig};

/// What [`argmax`] gives for a row that holds no token to choose.
pub const NO_TOKEN: u32 = u32::MAX;

/// Elements of a row at most where kernels count the bytes of a few rows in 32 bits.
const MOST_WIDTH: usize = (1 << 25) - 1;

/// Copies row `ids[t]` of the table, widened to f32, to row `t` of `out` `[tokens, hidden]`. `ids` is `[tokens]`.
///
/// On a HIP device, where ids cannot be refused, one outside the vocabulary gives a row of NaN, and nothing outside the
/// table is read.
///
/// # Errors
/// [`NnError::OperandLength`], [`NnError::TokenId`] on the CPU,
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
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
        (_, ids, out) => hip::embed_device(embedding, ids, out).map(|()| RanOn::Hip),
    }
}

/// Divides each row of `x` `[tokens, hidden]` by its root mean square and multiplies it by the norm's weight; `out`
/// is `[tokens, hidden]`. Heads `[tokens, heads, head_dim]` are rows too, for a norm of width `head_dim`.
///
/// The mean and its inverse root are f64, rounded once to f32; two f32 products follow (`(x * scale) * weight`), as in
/// ChatGLM2. So `|error| <= gamma_3 |out|`. Element `i` of a row is squared and added to lane `i % 256`, and the lanes are
/// then added in halves, on every device.
///
/// # Errors
/// [`NnError::Ragged`], [`NnError::OperandLength`], [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the
/// device reports.
pub fn rms_norm(x: View<'_, f32>, norm: &RmsNorm, out: ViewMut<'_, f32>) -> Result<RanOn, NnError> {
    norm.weight.device().expect_same(&x.device())?;
    norm.weight.device().expect_same(&out.device())?;
    let tokens = whole_rows("x", norm.hidden(), x.len())?;
    expect_rows("out", tokens, norm.hidden(), out.len())?;
    match (x, norm.host(), out) {
        (View::Host(x), Some(norm), ViewMut::Host(out)) => {
            cpu::rms_norm_host(x, norm, out);
            Ok(RanOn::Cpu)
        }
        (x, _, out) => hip::rms_norm_device(x, norm, out).map(|()| RanOn::Hip),
    }
}

/// [`rms_norm`] in place: `x` is the output too. So heads `[tokens, heads, head_dim]` are normed before they are rotated
/// in place (`glm4_moe` norms queries and keys by head).
///
/// # Errors
/// [`NnError::Ragged`], [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
pub fn rms_norm_in_place(x: ViewMut<'_, f32>, norm: &RmsNorm) -> Result<RanOn, NnError> {
    norm.weight.device().expect_same(&x.device())?;
    whole_rows("x", norm.hidden(), x.len())?;
    match (x, norm.host()) {
        (ViewMut::Host(x), Some(norm)) => {
            cpu::rms_norm_in_place_host(x, norm);
            Ok(RanOn::Cpu)
        }
        (x, _) => hip::rms_norm_in_place_device(x, norm).map(|()| RanOn::Hip),
    }
}

/// The residual connection and the norm after it: `x += branch`, then `out = norm(x)`. All are `[tokens, hidden]`. Where
/// there is a `branch_norm`, as in `glm4`, the branch is normed first: `x += branch_norm(branch)`.
///
/// Every bit is that of [`rms_norm`] and [`add`] one after the other.
///
/// # Errors
/// [`NnError::Ragged`], [`NnError::OperandLength`], [`NnError::VectorLength`] when the norms differ in width,
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
pub fn add_rms_norm(
    x: ViewMut<'_, f32>,
    branch: View<'_, f32>,
    branch_norm: Option<&RmsNorm>,
    norm: &RmsNorm,
    out: ViewMut<'_, f32>,
) -> Result<RanOn, NnError> {
    let (device, hidden) = (norm.weight.device(), norm.hidden());
    for operand in [x.device(), branch.device(), out.device()] {
        device.expect_same(&operand)?;
    }
    if let Some(branch_norm) = branch_norm {
        device.expect_same(&branch_norm.weight.device())?;
        if branch_norm.hidden() != hidden {
            let found = branch_norm.hidden();
            return Err(NnError::VectorLength { vector: "branch_norm", expected: hidden, found });
        }
    }
    let tokens = whole_rows("x", hidden, x.len())?;
    expect_rows("branch", tokens, hidden, branch.len())?;
    expect_rows("out", tokens, hidden, out.len())?;
    match (x, branch, norm.host(), out) {
        (ViewMut::Host(x), View::Host(branch), Some(norm), ViewMut::Host(out)) => {
            cpu::add_rms_norm_host(x, branch, branch_norm.and_then(RmsNorm::host), norm, out);
            Ok(RanOn::Cpu)
        }
        (x, branch, _, out) => {
            hip::add_rms_norm_device(x, branch, branch_norm, norm, out).map(|()| RanOn::Hip)
        }
    }
}

/// `out = silu(gate) * up` for rows `[gate; up]`: `gate_up` is `[tokens, 2 * ff]`, `out` `[tokens, ff]`.
///
/// The exponential of `-|gate|` is within 2 units of `2^-24`, and the operations around it round once each, so
/// `|error| <= gamma_7 |out|`, wherever the values are not so small that f32 has no normal number for them. Gates below
/// -87.33 count as the limit: they give a zero, which misses silu by at most `1.1e-36`.
///
/// # Errors
/// [`NnError::ZeroDimension`] when `ff` is 0, [`NnError::Ragged`], [`NnError::OperandLength`],
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
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
        (gate_up, out) => hip::swiglu_device(gate_up, ff, out).map(|()| RanOn::Hip),
    }
}

/// `x += y`: the residual connection. Both have the same shape; each sum is rounded once.
///
/// # Errors
/// [`NnError::VectorLength`], [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
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
        (x, y) => hip::add_device(x, y, "add_f32").map(|()| RanOn::Hip),
    }
}

/// `counts += by`, element by element, beyond `2^32` from 0 again: lengths and positions that go on where the launches that
/// read them are.
///
/// # Errors
/// [`NnError::VectorLength`], [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
pub fn advance(counts: ViewMut<'_, u32>, by: View<'_, u32>) -> Result<RanOn, NnError> {
    counts.device().expect_same(&by.device())?;
    if counts.len() != by.len() {
        return Err(NnError::VectorLength { vector: "by", expected: counts.len(), found: by.len() });
    }
    match (counts, by) {
        (ViewMut::Host(counts), View::Host(by)) => {
            counts.iter_mut().zip(by).for_each(|(count, by)| *count = count.wrapping_add(*by));
            Ok(RanOn::Cpu)
        }
        (counts, by) => hip::add_device(counts, by, "add_u32").map(|()| RanOn::Hip),
    }
}

/// The greedy choice: `tokens[r]` is the index of the first maximum of row `r` of `logits` `[rows, vocab]`, as
/// [`Sampler`] chooses it with temperature 0. Zeros of either sign are equal.
///
/// [`NO_TOKEN`] stands for a row that the sampler refuses: one that holds NaN or `+inf`, or nothing above `-inf`. A kernel
/// cannot refuse, so whoever reads the token does.
///
/// # Errors
/// [`NnError::ZeroDimension`] when `vocab` is 0, [`NnError::VocabTooLarge`], [`NnError::OperandLength`],
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
pub fn argmax(logits: View<'_, f32>, vocab: usize, tokens: ViewMut<'_, u32>) -> Result<RanOn, NnError> {
    logits.device().expect_same(&tokens.device())?;
    if vocab == 0 {
        return Err(NnError::ZeroDimension { dimension: "vocab" });
    }
    let most = u32::MAX as usize;
    let width = u32::try_from(vocab).map_err(|_| NnError::VocabTooLarge { vocab, most })?;
    expect_rows("logits", tokens.len(), vocab, logits.len())?;
    match (logits, tokens) {
        (View::Host(logits), ViewMut::Host(tokens)) => {
            cpu::argmax_host(logits, vocab, tokens);
            Ok(RanOn::Cpu)
        }
        (logits, tokens) => hip::argmax_device(logits, width, tokens).map(|()| RanOn::Hip),
    }
}

/// A draw: `tokens[r]` is what [`Sampler`] with this `config` chooses from row `r` of `logits` `[rows, vocab]`, bit for bit
/// on every device.
///
/// `draws` `[rows, 4]` are the rows' random numbers, which stay where the logits are: the low and the high word of a row's
/// seed, then of its step, as [`Sampler::draw`] gives them. They are used instead of the `config`'s seed, and the step of
/// each row that gets a token goes on by 1, so that the next call, or the same call of a recorded graph, draws the next
/// number. With temperature 0 this is [`argmax`], which draws nothing and leaves `draws` as they are.
///
/// [`NO_TOKEN`] stands for a row that the sampler refuses, as in [`argmax`].
///
/// # Errors
/// [`NnError::Temperature`], [`NnError::TopP`], [`NnError::ZeroDimension`] when `vocab` is 0, [`NnError::VocabTooLarge`] from
/// `2^24` on, [`NnError::OperandLength`], [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
pub fn sample(
    logits: View<'_, f32>,
    vocab: usize,
    config: &SamplerConfig,
    draws: ViewMut<'_, u32>,
    tokens: ViewMut<'_, u32>,
) -> Result<RanOn, NnError> {
    config.check()?;
    logits.device().expect_same(&draws.device())?;
    logits.device().expect_same(&tokens.device())?;
    if vocab == 0 {
        return Err(NnError::ZeroDimension { dimension: "vocab" });
    }
    let width = sampling::expect_vocab(vocab)?;
    expect_rows("logits", tokens.len(), vocab, logits.len())?;
    expect_rows("draws", tokens.len(), 4, draws.len())?;
    if config.is_greedy() {
        return argmax(logits, vocab, tokens);
    }
    let rule = Rule::of(config);
    match (logits, draws, tokens) {
        (View::Host(logits), ViewMut::Host(draws), ViewMut::Host(tokens)) => {
            cpu::sample_host(logits, vocab, rule, draws.as_chunks_mut().0, tokens);
            Ok(RanOn::Cpu)
        }
        (logits, draws, tokens) => {
            hip::sample_device(logits, width, rule, draws, tokens).map(|()| RanOn::Hip)
        }
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
