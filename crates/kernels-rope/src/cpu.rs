//! The reference body, on slices of host memory.

use std::borrow::Cow;

use device_mem::{Body, Float, Isa, View, ViewMut};
use rayon::prelude::*;

use crate::{AppendAt, AppendKv, KvLayout, Layout};

/// A table and the positions to rotate by, in host memory.
#[derive(Clone, Copy)]
pub(crate) struct HostRotation<'a> {
    /// `[length, pairs]`.
    pub(crate) cos: &'a [f32],
    /// `[length, pairs]`.
    pub(crate) sin: &'a [f32],
    /// `[pairs]`.
    pub(crate) pair_axis: &'a [u32],
    /// `[axes, tokens]`, each below `length`.
    pub(crate) positions: &'a [u32],
    /// Distance between the elements of a pair.
    pub(crate) pair_span: usize,
    pub(crate) tokens: usize,
}

impl HostRotation<'_> {
    fn pairs(&self) -> usize {
        self.pair_axis.len()
    }

    /// cos and sin `[pairs]` of one token: rows of the table, where all pairs have one axis.
    fn row(&self, token: usize) -> [Cow<'_, [f32]>; 2] {
        let start = |axis: u32| self.positions[axis as usize * self.tokens + token] as usize * self.pairs();
        [self.cos, self.sin].map(|table| match self.pair_axis {
            [axis, others @ ..] if others.iter().all(|other| other == axis) => {
                Cow::Borrowed(&table[start(*axis)..][..self.pairs()])
            }
            axes => axes.iter().enumerate().map(|(pair, &axis)| table[start(axis) + pair]).collect(),
        })
    }
}

/// Rotates q and k in place.
pub(crate) fn apply_position_embeddings_host<T: Float>(
    rotation: HostRotation<'_>,
    (q, q_layout): (&mut [T], &Layout),
    (k, k_layout): (&mut [T], &Layout),
) {
    apply_rope_host(rotation, q, q_layout);
    apply_rope_host(rotation, k, k_layout);
}

/// Appends keys of `k_layout` and their values to a cache. All of it is proven to fit, and to be in host memory.
pub(crate) fn append_kv_host<T: Float, C: Float>((k, k_layout): (&[T], &Layout), append: AppendKv<'_, T, C>) {
    let v_layout = append.v_layout(k_layout.tokens);
    let AppendKv { v, keys, values, layout, blocks, at } = append;
    let place = |token: u32| match at {
        AppendAt::Sequence { sequence, first } => blocks.place(sequence, first.saturating_add(token)),
        AppendAt::Next(View::Host(lengths)) => blocks.place(token, lengths[token as usize]),
        AppendAt::Next(View::Hip(_)) => (u32::MAX, 0),
    };
    if let (View::Host(v), ViewMut::Host(keys), ViewMut::Host(values)) = (v, keys, values) {
        append_rows((k, k_layout), (keys, &layout), place);
        append_rows((v, &v_layout), (values, &layout), place);
    }
}

/// Writes row `token` of each head to the block and place that the token has.
fn append_rows<T: Float, C: Float>(
    (rows, layout): (&[T], &Layout),
    (cache, cache_layout): (&mut [C], &KvLayout),
    place: impl Fn(u32) -> (u32, u32),
) {
    if layout.is_empty() {
        return;
    }
    let index = |count: u32, stride: u64| usize::try_from(u64::from(count) * stride).unwrap_or(usize::MAX);
    let row_len = u64::from(cache_layout.row_len);
    for token in 0..layout.tokens {
        let (block, place) = place(token);
        for head in 0..layout.heads {
            let rows_before = u64::from(block) * u64::from(layout.heads) + u64::from(head);
            let rows_before = rows_before * u64::from(cache_layout.capacity) + u64::from(place);
            let to = usize::try_from(rows_before * row_len).unwrap_or(usize::MAX);
            let target = cache.get_mut(to..).unwrap_or_default();
            let from = index(token, layout.token_stride) + index(head, layout.head_stride);
            let row = rows.get(from..).unwrap_or_default();
            for (stored, value) in target.iter_mut().zip(row).take(cache_layout.head_dim as usize) {
                *stored = C::from_f32(value.to_f32());
            }
        }
    }
}

/// Rotates the rows of `data` in place. `layout` is proven to fit `data`.
pub(crate) fn apply_rope_host<T: Float>(rotation: HostRotation<'_>, data: &mut [T], layout: &Layout) {
    if layout.is_empty() {
        return;
    }
    let isa = Isa::best();
    let (tokens, heads, pair_span) = (layout.tokens as usize, layout.heads as usize, rotation.pair_span);
    if layout.token_major() {
        let token_len = block_len(data.len(), tokens, layout.token_stride);
        data.par_chunks_mut(token_len).take(tokens).enumerate().for_each(|(token, block)| {
            let [cos, sin] = &rotation.row(token);
            let row_stride = block_len(block.len(), heads, layout.head_stride);
            isa.run(Rotate { block, row_stride, rows: heads, cos, sin, pair_span });
        });
    } else {
        let head_len = block_len(data.len(), heads, layout.head_stride);
        data.par_chunks_mut(head_len).take(heads).for_each(|block| {
            let row_stride = block_len(block.len(), tokens, layout.token_stride);
            for (token, block) in block.chunks_mut(row_stride).take(tokens).enumerate() {
                let [cos, sin] = &rotation.row(token);
                isa.run(Rotate { block, row_stride, rows: 1, cos, sin, pair_span });
            }
        });
    }
}

/// Elements from one of `count` blocks to the next; a lone block is all of `len`, and its stride is never taken.
fn block_len(len: usize, count: usize, stride: u64) -> usize {
    if count == 1 { len } else { usize::try_from(stride).unwrap_or(len) }
}

/// Rotates the pairs at the start of each row of a token, all by the same angles. Every product and sum is rounded once, as
/// in the kernels.
struct Rotate<'a, T> {
    block: &'a mut [T],
    row_stride: usize,
    rows: usize,
    /// `[pairs]`
    cos: &'a [f32],
    /// `[pairs]`
    sin: &'a [f32],
    pair_span: usize,
}

impl<T: Float> Body for Rotate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Rotate { block, row_stride, rows, cos, sin, pair_span } = self;
        for row in block.chunks_mut(row_stride).take(rows) {
            let rotated = &mut row[..2 * cos.len()];
            if pair_span == 1 {
                rotate_neighbours(rotated, cos, sin);
                continue;
            }
            let spans = cos.chunks_exact(pair_span).zip(sin.chunks_exact(pair_span));
            for (block, (cos, sin)) in rotated.chunks_exact_mut(2 * pair_span).zip(spans) {
                let (first, second) = block.split_at_mut(pair_span);
                for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                    [*a, *b] = rotate([*a, *b], *cos, *sin);
                }
            }
        }
    }
}

#[inline(always)]
fn rotate_neighbours<T: Float>(row: &mut [T], cos: &[f32], sin: &[f32]) {
    for (pair, (cos, sin)) in row.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
        *pair = rotate(*pair, *cos, *sin);
    }
}

#[inline(always)]
fn rotate<T: Float>(pair: [T; 2], cos: f32, sin: f32) -> [T; 2] {
    let [x, y] = T::widen(&pair);
    // One by one: of pairs the compiler makes no vectors of f32.
    let ([first], [second]) = (T::narrow(&[x * cos - y * sin]), T::narrow(&[y * cos + x * sin]));
    [first, second]
}
