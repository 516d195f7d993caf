//! References in f64 that several kernels share.

use crate::compare::dot;

/// The sizes of an attention with grouped queries.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

/// Softmax attention of one token, scores divided by the root of `head_dim`: `query` is `[heads][head_dim]`, `key` and
/// `value` are `[positions or more][kv_heads][head_dim]`; returns `[heads][head_dim]`.
pub(crate) fn attend(
    shape: Attention,
    query: &[f64],
    key: &[f64],
    value: &[f64],
    positions: usize,
) -> Vec<f64> {
    let Attention { heads, kv_heads, head_dim } = shape;
    let mut out = Vec::with_capacity(heads * head_dim);
    for (head, query) in query.chunks_exact(head_dim).enumerate() {
        let kv_head = head / (heads / kv_heads);
        let start = |position: usize| (position * kv_heads + kv_head) * head_dim;
        let score = |position| dot(query, &key[start(position)..][..head_dim]) / (head_dim as f64).sqrt();
        let scores: Vec<f64> = (0..positions).map(score).collect();
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - greatest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mean = |d: usize| {
            let terms =
                weights.iter().enumerate().map(|(position, weight)| weight * value[start(position) + d]);
            terms.sum::<f64>() / total
        };
        out.extend((0..head_dim).map(mean));
    }
    out
}

/// `a` `[rows][inner]` times the transpose of `b` `[columns][inner]`: `[rows][columns]`.
pub(crate) fn matmul(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
    a.chunks_exact(inner).flat_map(|row| b.chunks_exact(inner).map(|column| dot(row, column))).collect()
}
