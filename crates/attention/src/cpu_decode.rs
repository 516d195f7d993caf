//! The reference body of a step of several sequences, whose operands the callers have proven.

use device_mem::{Scratch, View, ViewMut};
use kernels_rope::{Axes, HeadsMut, Positions, RopeTable, apply_position_embeddings};

use crate::decode::{HeadNorm, NewTokens};
use crate::layer::LayerCacheMut;
use crate::{AttentionError, cpu};

/// Queries, keys and values, of which the operands stay as they are.
static SCRATCH: Scratch<[Vec<f32>; 3]> = Scratch::new();

/// [`decode_attention`](crate::decode_attention) by the operations that it is made of.
pub(crate) fn decode_host(
    tokens: &NewTokens<'_>,
    norm: Option<&HeadNorm<'_>>,
    table: &RopeTable,
    positions: &[u32],
    lengths: &[u32],
    cache: &mut LayerCacheMut<'_>,
    out: &mut [f32],
) -> Result<(), AttentionError> {
    let &NewTokens { sequences, shape, .. } = tokens;
    let (q_heads, kv_heads, head_dim) = (shape.q_heads(), shape.kv_heads(), shape.head_dim());
    let at = positions_of(table, positions, sequences)?;
    SCRATCH.lend(|[q, k, v]| {
        gather(tokens, tokens.q, q_heads, q);
        gather(tokens, tokens.k, kv_heads, k);
        gather(tokens, tokens.v, kv_heads, v);
        if let Some(&HeadNorm { q_weight: View::Host(q_weight), k_weight: View::Host(k_weight), eps }) = norm
        {
            cpu::norm_heads(q, q_weight, eps);
            cpu::norm_heads(k, k_weight, eps);
        }
        let q_rows = HeadsMut::new(ViewMut::Host(q), sequences, q_heads, head_dim)?;
        let k_rows = HeadsMut::new(ViewMut::Host(k), sequences, kv_heads, head_dim)?;
        apply_position_embeddings(table, q_rows, k_rows, &at)?;
        cache.append_next(View::Host(k), View::Host(v), View::Host(lengths))?;
        attend_next_host(View::Host(q), lengths, cache, out);
        Ok(())
    })
}

/// Copies queries, keys or values to where they have no gaps.
fn gather(tokens: &NewTokens<'_>, view: View<'_, f32>, heads: u32, gathered: &mut Vec<f32>) {
    let &NewTokens { stride, sequences, shape, .. } = tokens;
    let row = heads as usize * shape.head_dim() as usize;
    let stride = if stride == 0 { row } else { stride as usize };
    gathered.clear();
    if let View::Host(values) = view {
        let rows = values.chunks(stride).take(sequences as usize);
        rows.for_each(|values| gathered.extend_from_slice(&values[..row]));
    }
}

/// Positions `[axes, sequences]`. One of one axis is the table's own, and allocates nothing.
fn positions_of(table: &RopeTable, positions: &[u32], sequences: u32) -> Result<Positions, AttentionError> {
    let axes = table.spec().axes();
    Ok(match (axes, positions) {
        (Axes::Single, &[position]) if position < table.length() => Positions::span(table, position, 1)?,
        (_, []) => Positions::with_axes(table, &vec![&[][..]; axes.count()])?,
        _ => Positions::with_axes(table, &Vec::from_iter(positions.chunks(sequences.max(1) as usize)))?,
    })
}

/// Attends a token of each sequence.
pub(crate) fn attend_next_host(
    q: View<'_, f32>,
    lengths: &[u32],
    cache: &LayerCacheMut<'_>,
    out: &mut [f32],
) {
    let View::Host(q) = q else { return };
    let row = cache.shape().q_heads() as usize * cache.shape().head_dim() as usize;
    let rows = q.chunks_exact(row).zip(out.chunks_exact_mut(row));
    for ((sequence, &len), (q, out)) in (0..).zip(lengths).zip(rows) {
        if let Some(kv) = cache.host() {
            cpu::attend_host(q, kv, &cache.extent(sequence, len, 0), out);
        }
    }
}
