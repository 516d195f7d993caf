use device_mem::{RanOn, View, ViewMut};
use kernels_rope::{RopeError, RopeTable};

use crate::layer::{LayerCacheMut, expect_heads, expect_len};
use crate::{AttentionError, AttentionShape, cpu_decode, hip};

/// The projected queries, keys and values of one new token of each of several sequences.
#[derive(Clone, Copy, Debug)]
pub struct NewTokens<'a> {
    pub(crate) q: View<'a, f32>,
    pub(crate) k: View<'a, f32>,
    pub(crate) v: View<'a, f32>,
    /// Elements from one sequence to the next, or 0 where q, k and v each lie without gaps.
    pub(crate) stride: u32,
    pub(crate) sequences: u32,
    pub(crate) shape: AttentionShape,
}

impl<'a> NewTokens<'a> {
    /// `q` `[sequences, q_heads, head_dim]`, `k` and `v` `[sequences, kv_heads, head_dim]`, without gaps.
    ///
    /// # Errors
    /// [`AttentionError::OperandLength`].
    pub fn new(
        q: View<'a, f32>,
        k: View<'a, f32>,
        v: View<'a, f32>,
        sequences: u32,
        shape: AttentionShape,
    ) -> Result<NewTokens<'a>, AttentionError> {
        let (q_heads, kv_heads, head_dim) = (shape.q_heads(), shape.kv_heads(), shape.head_dim());
        expect_heads("q", sequences, q_heads, head_dim, q.len())?;
        expect_heads("k", sequences, kv_heads, head_dim, k.len())?;
        expect_heads("v", sequences, kv_heads, head_dim, v.len())?;
        Ok(NewTokens { q, k, v, stride: 0, sequences, shape })
    }

    /// `qkv` `[sequences, q_heads + 2 * kv_heads, head_dim]`: of each sequence the queries, the keys and the values, as one
    /// projection gives them.
    ///
    /// # Errors
    /// [`AttentionError::OperandLength`].
    pub fn packed(
        qkv: View<'a, f32>,
        sequences: u32,
        shape: AttentionShape,
    ) -> Result<NewTokens<'a>, AttentionError> {
        let heads = shape.kv_heads().checked_mul(2).and_then(|heads| heads.checked_add(shape.q_heads()));
        let heads = heads.unwrap_or(u32::MAX);
        let (head_dim, found) = (shape.head_dim(), qkv.len());
        let too_wide =
            AttentionError::OperandLength { operand: "qkv", tokens: sequences, heads, head_dim, found };
        expect_heads("qkv", sequences, heads, head_dim, found)?;
        let stride = heads.checked_mul(head_dim).filter(|_| heads < u32::MAX).ok_or(too_wide)?;
        // Both are parts of the stride.
        let (q_row, kv_row) = (shape.q_heads() * head_dim, shape.kv_heads() * head_dim);
        let from = |start: u32| qkv.slice((start as usize).min(qkv.len())..qkv.len());
        Ok(NewTokens { q: qkv, k: from(q_row)?, v: from(q_row + kv_row)?, stride, sequences, shape })
    }
}

/// The norm of each query and key head before its rotation: `x / sqrt(mean(x^2) + eps) * weight`, with one weight `[head_dim]`
/// for all query heads and one for all key heads.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm<'a> {
    /// Of query heads `[head_dim]`.
    pub q_weight: View<'a, f32>,
    /// Of key heads `[head_dim]`.
    pub k_weight: View<'a, f32>,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// The attention of one new token of each sequence of the cache: norms the heads of its queries and keys where there is a norm,
/// rotates them by `positions` `[axes, sequences]`, appends keys and values behind the tokens of the sequences, of which
/// `lengths` `[sequences]` says how many there are, and attends; `out` is `[sequences, q_heads * head_dim]`. The operands stay
/// as they are. [`KvCache::commit`](crate::KvCache::commit) of one token follows when all layers are done.
///
/// On a HIP device this is one launch, whose grid depends on the cache's capacity alone: positions and lengths are read by the
/// launch, so that it can be recorded once and replayed while they advance in their buffers;
/// [`KvCache::replayed`](crate::KvCache::replayed) tells the cache. The bits are those of the separate operations. A sequence
/// that is full by `lengths`, or a position beyond the table, is not appended, and its output is NaN.
///
/// # Errors
/// [`AttentionError::ShapeMismatch`], [`AttentionError::Sequences`], [`AttentionError::OperandLength`],
/// [`AttentionError::Length`], [`AttentionError::Capacity`], [`ForeignDevice`](device_mem::MemError::ForeignDevice),
/// [`AttentionError::Rope`], or what the device reports. Nothing is then written.
pub fn decode_attention(
    tokens: NewTokens<'_>,
    norm: Option<HeadNorm<'_>>,
    table: &RopeTable,
    positions: View<'_, u32>,
    lengths: View<'_, u32>,
    cache: &mut LayerCacheMut<'_>,
    mut out: ViewMut<'_, f32>,
) -> Result<RanOn, AttentionError> {
    check(&tokens, norm.as_ref(), table, positions, cache, out.as_view())?;
    cache.expect_step(lengths)?;
    let ran_on = match (positions, lengths, out.reborrow()) {
        (View::Host(positions), View::Host(lengths), ViewMut::Host(out)) => {
            cpu_decode::decode_host(&tokens, norm.as_ref(), table, positions, lengths, cache, out)?;
            RanOn::Cpu
        }
        (positions, lengths, out) => {
            hip::decode_attention_device(&tokens, norm.as_ref(), table, positions, lengths, cache, out)?;
            RanOn::Hip
        }
    };
    cache.layer.pending.fill(1);
    Ok(ran_on)
}

fn check(
    tokens: &NewTokens<'_>,
    norm: Option<&HeadNorm<'_>>,
    table: &RopeTable,
    positions: View<'_, u32>,
    cache: &LayerCacheMut<'_>,
    out: View<'_, f32>,
) -> Result<(), AttentionError> {
    let &NewTokens { q, k, v, sequences, shape, .. } = tokens;
    if shape != cache.shape() {
        return Err(AttentionError::ShapeMismatch { operands: shape, cache: cache.shape() });
    }
    if sequences != cache.sequences() {
        return Err(AttentionError::Sequences { expected: cache.sequences(), found: sequences });
    }
    for device in
        [q.device(), k.device(), v.device(), out.device(), table.device().clone(), positions.device()]
    {
        cache.device().expect_same(&device)?;
    }
    expect_heads("out", sequences, shape.q_heads(), shape.head_dim(), out.len())?;
    let (expected, found) = (table.spec().head_dim(), shape.head_dim());
    if expected != found {
        return Err(RopeError::HeadDim { operand: "q", expected, found }.into());
    }
    let expected = table.spec().axes().count().saturating_mul(sequences as usize);
    expect_len("positions", expected, positions.len())?;
    let Some(norm) = norm else { return Ok(()) };
    for (operand, weight) in [("q_weight", norm.q_weight), ("k_weight", norm.k_weight)] {
        cache.device().expect_same(&weight.device())?;
        expect_len(operand, shape.head_dim() as usize, weight.len())?;
    }
    Ok(())
}

/// Attends the rotated queries `q` `[sequences, q_heads, head_dim]` of a new token of each sequence, which
/// [`LayerCacheMut::append_next`] has appended behind the `lengths` `[sequences]`; `out` is
/// `[sequences, q_heads * head_dim]`. On a HIP device the launch reads the lengths, and its grid depends on the cache's capacity
/// alone, as that of [`decode_attention`]; a sequence that is full gets NaN.
///
/// # Errors
/// [`AttentionError::OperandLength`], [`AttentionError::Length`], [`AttentionError::Capacity`],
/// [`AttentionError::Uncommitted`] unless a token was appended to every sequence,
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports. `out` is then as it was.
pub fn attend_next(
    q: View<'_, f32>,
    lengths: View<'_, u32>,
    cache: &mut LayerCacheMut<'_>,
    out: ViewMut<'_, f32>,
) -> Result<RanOn, AttentionError> {
    let (shape, sequences) = (cache.shape(), cache.sequences());
    cache.device().expect_same(&q.device())?;
    cache.device().expect_same(&out.device())?;
    expect_heads("q", sequences, shape.q_heads(), shape.head_dim(), q.len())?;
    expect_heads("out", sequences, shape.q_heads(), shape.head_dim(), out.len())?;
    cache.expect_step(lengths)?;
    cache.expect_appended_to_all()?;
    match (lengths, out) {
        (View::Host(lengths), ViewMut::Host(out)) => {
            cpu_decode::attend_next_host(q, lengths, cache, out);
            Ok(RanOn::Cpu)
        }
        (lengths, out) => {
            let before = hip::Before::OnDevice(lengths);
            hip::attend_device(q, sequences, before, 0, cache, out).map(|()| RanOn::Hip)
        }
    }
}
