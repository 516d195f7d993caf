//! The reference body of a step of several sequences, whose operands the callers have proven.

use device_mem::{Device, DeviceBuffer, View};
use kernels_rope::{HeadsMut, Positions, RopeTable, apply_position_embeddings};

use crate::decode::{HeadNorm, NewTokens};
use crate::layer::LayerCacheMut;
use crate::{AttentionError, cpu};

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
    let &NewTokens { q, k, v, stride, sequences, shape } = tokens;
    let (q_heads, kv_heads, head_dim) = (shape.q_heads(), shape.kv_heads(), shape.head_dim());
    // Queries, keys or values without gaps.
    let gathered = |view: View<'_, f32>, heads: u32| {
        let row = heads as usize * head_dim as usize;
        let stride = if stride == 0 { row } else { stride as usize };
        let View::Host(values) = view else { return Vec::new() };
        values.chunks(stride).take(sequences as usize).flat_map(|values| &values[..row]).copied().collect()
    };
    let (mut q, mut k, v) = (gathered(q, q_heads), gathered(k, kv_heads), gathered(v, kv_heads));
    if let Some(&HeadNorm { q_weight: View::Host(q_weight), k_weight: View::Host(k_weight), eps }) = norm {
        cpu::norm_heads(&mut q, q_weight, eps);
        cpu::norm_heads(&mut k, k_weight, eps);
    }
    let axes = Vec::from_iter(positions.chunks(sequences.max(1) as usize));
    let at = match axes.is_empty() {
        true => Positions::with_axes(table, &vec![&[][..]; table.spec().axes().count()])?,
        false => Positions::with_axes(table, &axes)?,
    };
    let mut q = DeviceBuffer::from_host_vec(&Device::Cpu, q)?;
    let mut k = DeviceBuffer::from_host_vec(&Device::Cpu, k)?;
    let q_rows = HeadsMut::new(q.as_view_mut()?, sequences, q_heads, head_dim)?;
    let k_rows = HeadsMut::new(k.as_view_mut()?, sequences, kv_heads, head_dim)?;
    apply_position_embeddings(table, q_rows, k_rows, &at)?;
    cache.append_next(k.as_view(), View::Host(&v), View::Host(lengths))?;
    attend_next_host(q.as_view(), lengths, cache, out);
    Ok(())
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
