//! Self-attention of GLM-family models with a cache of keys and values, on AMD GPUs and on CPUs.
//!
//! ```text
//! out[t, h] = sum_j p[t, h, j] * V[g, j]         g = h / (q_heads / kv_heads), j = 0 ..= len + t
//! p[t, h]   = softmax_j(head_dim^-0.5 * q[t, h] . K[g, j])
//! ```
//!
//! (Vaswani et al.; heads grouped as in Ainslie et al.) Token `t` of a pass sees the `len` tokens of the cache and the
//! tokens of the pass up to itself, so a prefill, a prefill in pieces and a decode step are one operation.
//!
//! - [`AttentionShape`] are the checked head counts, [`KvCache`] the keys and values of one sequence or several in
//!   [`KvDType`], contiguous or in the blocks of a table, with lengths that advance only by [`KvCache::commit`].
//! - [`self_attention`] rotates q and k in place, appends k and v to a layer of the cache and attends. [`attend`] is
//!   its last step alone. [`attend_with_prefix`] lets all tokens see a prefix. The result says where it ran.
//! - [`decode_attention`] takes a token of each sequence through all of that, and the norm of heads where there is one, in
//!   one launch that reads positions and lengths on the device: it can be recorded once and replayed.
//! - Scores, softmax and sums are f32; K and V are rounded once, to the cache's type. Every sum has one order that depends
//!   on a token's place in the cache alone: neither the number of threads nor the cutting into passes changes a bit (but for
//!   the tiles that are told below), and nothing of a later token reaches an earlier one. Memory beyond the cache does not
//!   grow with its length.
//!
//! # On a HIP device
//!
//! [`self_attention`] is two launches into the device's stream: the rotation, which appends too, and the attention; see
//! `apply_position_embeddings_device` of `kernels-rope` for the first and [`kernels`] for the second. Neither uploads,
//! downloads, allocates or waits for anything. What they append is the CPU's, bit for bit. [`decode_attention`] is one launch
//! of the same bits. Attention has an order of sums for CPUs and one for cards:
//!
//! - On the CPU products are added with one rounding (two on x86-64 without fused multiply-add). Elements are taken in slabs
//!   of 64, keys in blocks of 32, each rescaling what came before, and spans of 512 that are merged in order.
//! - On a HIP device products are added with one rounding. Elements are taken in slabs of 32, keys in chunks of 256 and spans
//!   of 1024; a long pass over the cache is shared out by spans, and no bit depends on it, nor on blocks of a table.
//! - On a HIP device with matrix units one token over a cache of bf16, contiguous or in blocks of at least 32 tokens, of heads of
//!   128 elements, is attended by waves that take steps of 32 keys each by themselves and meet at the end of a span; there are
//!   at most 64 spans, and fewer where many heads make enough blocks for a card. The same holds for what is multiplied as in
//!   tiles. Where a key or a value is not finite the order is that of other tokens.
//! - On a HIP device passes of 16 tokens and more over a cache of f16 or bf16, of heads up to 128 elements, are attended in
//!   tiles of 64 rows, 32 keys after another, on matrix units where the card has them (gfx11, gfx12, MI200, MI300, NVIDIA's):
//!   those multiply bf16 and add in f32. So queries and weights are split into two bf16, to `2^-17` of themselves, f16 into two
//!   that are exact, and the product of two rests, at most `2^-16` of the whole, is left out. Such passes have bits of their
//!   own: those of one pass, however it is cut into pieces of 16 tokens and more. No manual says how the units round: the
//!   bound allows an addition two units of `2^-24`. Queries and products must lie within the range of bf16.
//!
//! An output differs from exact arithmetic by at most a share of `sum p |v|`, to first order `2 eps + (n + c) u`: `eps` is
//! the largest error of a score, `n` the keys that are added one after another (on the CPU at most 32, on a HIP device at most
//! 256, but all in tiles), and `c` counts softmax, rescaling, division and, in tiles, what is left out.
//! `tests/suite/truth.rs` derives it.
//!
//! What this crate does not do: it projects nothing, masks nothing but the future, shares no block between sequences, moves
//! nothing between devices and never falls back from one to another.
//!
//! # Example
//!
//! Two query heads on one key/value head of 4; a prefill of two tokens, then one more:
//!
//! ```
//! use attention::{AttentionShape, KvCache, KvDType, Qkv, self_attention};
//! use device_mem::{Device, DeviceBuffer};
//! use kernels_rope::{
//!     Axes, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec = RopeSpec::new(RopeConfig {
//!     head_dim: 4,
//!     rotary_dim: 2,
//!     theta: 10_000.0,
//!     pairing: Pairing::Interleaved,
//!     scaling: Scaling::None,
//!     axes: Axes::Single,
//!     inv_freq: InvFreq::Exact,
//! })?;
//! let table = RopeTable::new(&spec, 16, &Device::Cpu)?;
//! let shape = AttentionShape::new(2, 1, 4)?;
//! let mut cache = KvCache::new(&Device::Cpu, 1, shape, 16, KvDType::F32)?;
//!
//! for tokens in [2_u32, 1] {
//!     let rows = |heads: usize, value: f32| {
//!         DeviceBuffer::from_host_vec(&Device::Cpu, vec![value; tokens as usize * heads * 4])
//!     };
//!     let (mut q, mut k, v, mut out) = (rows(2, 0.1)?, rows(1, 0.2)?, rows(1, 3.0)?, rows(2, 0.0)?);
//!     let at = Positions::span(&table, cache.len(), tokens)?;
//!     let qkv = Qkv::new(q.as_view_mut()?, k.as_view_mut()?, v.as_view(), tokens, shape)?;
//!     self_attention(qkv, &table, &at, cache.layer(0)?, out.as_view_mut()?)?;
//!     cache.commit(tokens)?;
//!     // All values are 3, so every weighted mean of them is.
//!     assert!(out.to_host_vec()?.iter().all(|mean| (mean - 3.0).abs() < 1e-6));
//! }
//! assert_eq!(cache.len(), 3);
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod cpu;
mod cpu_decode;
mod decode;
mod error;
#[expect(unsafe_code, reason = "launches, each with its proof")]
mod hip;
pub mod kernels;
mod kv_cache;
mod layer;
mod shape;

use device_mem::{RanOn, View, ViewMut};
use kernels_rope::{HeadsMut, Positions, RopeTable};

use crate::layer::expect_heads;

pub use decode::{HeadNorm, NewTokens, attend_next, decode_attention};
pub use error::AttentionError;
pub use kv_cache::{KvCache, KvDType, ParseKvDTypeError};
pub use layer::LayerCacheMut;
pub use shape::AttentionShape;

/// The widest heads that [`attend`] takes on a HIP device, in elements.
pub const MAX_HIP_HEAD_DIM: u32 = 256;

/// The projected queries, keys and values of one pass, proven to fit their shape.
#[derive(Debug)]
pub struct Qkv<'a> {
    q: ViewMut<'a, f32>,
    k: ViewMut<'a, f32>,
    v: View<'a, f32>,
    tokens: u32,
    shape: AttentionShape,
}

impl<'a> Qkv<'a> {
    /// `q` `[tokens, q_heads, head_dim]`, `k` and `v` `[tokens, kv_heads, head_dim]`, without gaps. `q` and `k` are
    /// what gets rotated in place.
    ///
    /// # Errors
    /// [`AttentionError::OperandLength`].
    pub fn new(
        q: ViewMut<'a, f32>,
        k: ViewMut<'a, f32>,
        v: View<'a, f32>,
        tokens: u32,
        shape: AttentionShape,
    ) -> Result<Qkv<'a>, AttentionError> {
        expect_heads("q", tokens, shape.q_heads(), shape.head_dim(), q.len())?;
        expect_heads("k", tokens, shape.kv_heads(), shape.head_dim(), k.len())?;
        expect_heads("v", tokens, shape.kv_heads(), shape.head_dim(), v.len())?;
        Ok(Qkv { q, k, v, tokens, shape })
    }
}

/// Rotates q and k in place by the positions `at`, appends k and v to the layer, and attends; `out` is
/// `[tokens, q_heads * head_dim]`. The cache's length stays: [`KvCache::commit`] follows when all layers are done.
///
/// # Errors
/// [`AttentionError::ShapeMismatch`], [`AttentionError::OperandLength`], [`AttentionError::Capacity`],
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), [`AttentionError::Rope`]. All are found before anything is
/// written: operands and cache are then as they were. What the device reports may come after the rotation; the cache's
/// length is then as it was.
pub fn self_attention(
    qkv: Qkv<'_>,
    table: &RopeTable,
    at: &Positions,
    cache: LayerCacheMut<'_>,
    out: ViewMut<'_, f32>,
) -> Result<RanOn, AttentionError> {
    self_attention_with_prefix(qkv, table, at, 0, cache, out)
}

/// [`self_attention`] with a prefix that is seen as a whole: [`attend_with_prefix`].
///
/// # Errors
/// As [`self_attention`], and [`AttentionError::Prefix`], likewise before anything is written.
pub fn self_attention_with_prefix(
    qkv: Qkv<'_>,
    table: &RopeTable,
    at: &Positions,
    prefix: u32,
    mut cache: LayerCacheMut<'_>,
    out: ViewMut<'_, f32>,
) -> Result<RanOn, AttentionError> {
    let Qkv { mut q, mut k, v, tokens, shape } = qkv;
    if shape != cache.shape() {
        return Err(AttentionError::ShapeMismatch { operands: shape, cache: cache.shape() });
    }
    for device in [q.device(), k.device(), v.device(), out.device(), table.device().clone()] {
        cache.device().expect_same(&device)?;
    }
    expect_heads("out", tokens, shape.q_heads(), shape.head_dim(), out.len())?;
    cache.expect_room(tokens)?;
    let end = cache.len().saturating_add(tokens);
    if prefix > end {
        return Err(AttentionError::Prefix { prefix, end });
    }

    let q_heads = HeadsMut::new(q.reborrow(), tokens, shape.q_heads(), shape.head_dim())?;
    let k_heads = HeadsMut::new(k.reborrow(), tokens, shape.kv_heads(), shape.head_dim())?;
    cache.append_rotated(table, q_heads, k_heads, v, at)?;
    attend_with_prefix(q.as_view(), tokens, prefix, &mut cache, out)
}

/// Attends the rotated queries `q` `[tokens, q_heads, head_dim]` over the committed tokens of the sequence and the
/// `tokens` that were appended to it; `out` is `[tokens, q_heads * head_dim]`.
///
/// A score of NaN or `+inf` makes the query's output NaN, as the formula does.
///
/// # Errors
/// [`AttentionError::OperandLength`], [`AttentionError::Uncommitted`] unless exactly `tokens` were appended,
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports. `out` is then as it was.
pub fn attend(
    q: View<'_, f32>,
    tokens: u32,
    cache: &mut LayerCacheMut<'_>,
    out: ViewMut<'_, f32>,
) -> Result<RanOn, AttentionError> {
    attend_with_prefix(q, tokens, 0, cache, out)
}

/// [`attend`], where the first `prefix` tokens of the sequence are seen by all others and by each other, as in the prefix
/// language model of the original GLM (Du et al.): the token at position `p` sees the tokens before `max(p + 1, prefix)`. A
/// prefix of 0 or 1 is causal attention.
///
/// # Errors
/// As [`attend`], and [`AttentionError::Prefix`] when the prefix ends behind the tokens of the pass.
pub fn attend_with_prefix(
    q: View<'_, f32>,
    tokens: u32,
    prefix: u32,
    cache: &mut LayerCacheMut<'_>,
    out: ViewMut<'_, f32>,
) -> Result<RanOn, AttentionError> {
    let shape = cache.shape();
    cache.device().expect_same(&q.device())?;
    cache.device().expect_same(&out.device())?;
    expect_heads("q", tokens, shape.q_heads(), shape.head_dim(), q.len())?;
    expect_heads("out", tokens, shape.q_heads(), shape.head_dim(), out.len())?;
    cache.expect_appended(tokens)?;
    let len = cache.len();
    // What was appended had room.
    let end = len.saturating_add(tokens);
    if prefix > end {
        return Err(AttentionError::Prefix { prefix, end });
    }
    match (q, cache.host(), out) {
        (View::Host(q), Some(kv), ViewMut::Host(out)) => {
            cpu::attend_host(q, kv, &cache.extent(cache.sequence, len, prefix), out);
            Ok(RanOn::Cpu)
        }
        (q, _, out) => {
            let before = hip::Before::Tokens(len);
            hip::attend_device(q, tokens, before, prefix, cache, out).map(|()| RanOn::Hip)
        }
    }
}
