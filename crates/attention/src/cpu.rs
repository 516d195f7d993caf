//! The reference body, on slices of host memory whose lengths the callers have proven.

use std::array;
use std::ops::Range;

use device_mem::{Float, exp_nonpositive};
use half::{bf16, f16};
use kernels_rope::{KvBlocks, KvLayout};
use rayon::prelude::*;

use crate::AttentionShape;

/// Independent sums of one dot product: element `i` goes to lane `i % LANES`.
const LANES: usize = 8;
/// Keys that are widened and scored together. Blocks start at multiples of it from the first key of the cache, so the
/// order of all sums of a query depends on its place in the cache alone.
const KEY_BLOCK: usize = 32;
/// Keys, and values, that are multiplied together.
const ROWS: usize = 4;
/// Query rows (tokens x heads of a group) that share one read of the keys and values.
const QUERY_ROWS: usize = 64;

type Lanes = [f32; LANES];

/// Keys and values `[blocks, kv_heads, capacity, head_dim]` of one layer.
pub(crate) enum HostKv<'a> {
    F32((&'a [f32], &'a [f32])),
    F16((&'a [f16], &'a [f16])),
    BF16((&'a [bf16], &'a [bf16])),
}

/// The sizes of one layer of a cache, and of one of its sequences.
#[derive(Clone, Copy)]
pub(crate) struct Extent<'a> {
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    /// Tokens of a block.
    block_size: usize,
    blocks: KvBlocks<'a>,
    sequence: u32,
    /// Tokens before those of the pass.
    len: usize,
    /// Tokens that every token sees.
    prefix: usize,
}

impl<'a> Extent<'a> {
    pub(crate) fn new(
        shape: AttentionShape,
        layout: KvLayout,
        blocks: KvBlocks<'a>,
        sequence: u32,
        len: u32,
        prefix: u32,
    ) -> Extent<'a> {
        Extent {
            kv_heads: shape.kv_heads() as usize,
            group: shape.group() as usize,
            head_dim: shape.head_dim() as usize,
            block_size: layout.capacity as usize,
            blocks,
            sequence,
            len: len as usize,
            prefix: prefix as usize,
        }
    }

    /// Tokens that a token of the pass sees: those up to itself, and those of the prefix.
    fn visible(&self, token: usize) -> usize {
        (self.len + token + 1).max(self.prefix)
    }

    /// The rows of some tokens of a head, widened into `scratch` where they are not f32 in one piece.
    fn widened<'b, T: Float>(
        &self,
        elements: &[T],
        head: usize,
        tokens: Range<usize>,
        scratch: &'b mut [f32],
    ) -> &'b [f32] {
        let len = tokens.len() * self.head_dim;
        let (start, room) = self.row(head, tokens.start);
        if tokens.len() <= room {
            T::widen_slice(&elements[start..start + len], scratch);
            return &scratch[..len];
        }
        for (token, row) in tokens.zip(scratch.chunks_exact_mut(self.head_dim)) {
            let (start, _) = self.row(head, token);
            for (wide, value) in row.iter_mut().zip(&elements[start..]) {
                *wide = value.to_f32();
            }
        }
        &scratch[..len]
    }

    /// Where the row of a token of a head begins, and how many rows from it on lie in one piece.
    fn row(&self, head: usize, token: usize) -> (usize, usize) {
        // The cache's tokens are counted by a u32.
        let token = u32::try_from(token).unwrap_or(u32::MAX);
        let (block, place) = self.blocks.place(self.sequence, token);
        let (block, place) = (block as usize, place as usize);
        let rows_before = (block * self.kv_heads + head) * self.block_size + place;
        (rows_before * self.head_dim, self.block_size - place)
    }

    /// Elements of the query heads of one token that share a key and value head.
    fn group_len(&self) -> usize {
        self.group * self.head_dim
    }

    /// Elements of all query heads of one token.
    fn token_len(&self) -> usize {
        self.kv_heads * self.group_len()
    }
}

/// Attends `q` `[tokens, q_heads, head_dim]` over the cache; `out` has the same shape.
pub(crate) fn attend_host(q: &[f32], cache: HostKv<'_>, extent: &Extent<'_>, out: &mut [f32]) {
    match cache {
        HostKv::F32(cache) => attend(q, cache, extent, out),
        HostKv::F16(cache) => attend(q, cache, extent, out),
        HostKv::BF16(cache) => attend(q, cache, extent, out),
    }
}

fn attend<T: Float>(q: &[f32], (keys, values): (&[T], &[T]), extent: &Extent<'_>, out: &mut [f32]) {
    tasks(out, extent).into_par_iter().for_each(|mut task| {
        task.attend(q, (keys, values), extent);
    });
}

/// Some tokens of the query heads that share a key and value head.
struct Task<'a> {
    kv_head: usize,
    first_token: usize,
    /// Per token `[group, head_dim]`.
    out: Vec<&'a mut [f32]>,
}

fn tasks<'a>(out: &'a mut [f32], extent: &Extent<'_>) -> Vec<Task<'a>> {
    let block_tokens = (QUERY_ROWS / extent.group).max(1);
    let mut tasks = Vec::new();
    for (block, out) in out.chunks_mut(block_tokens * extent.token_len()).enumerate() {
        let first_task = tasks.len();
        let first_token = block * block_tokens;
        let task = |kv_head| Task { kv_head, first_token, out: Vec::with_capacity(block_tokens) };
        tasks.extend((0..extent.kv_heads).map(task));
        for token in out.chunks_exact_mut(extent.token_len()) {
            let parts = token.chunks_exact_mut(extent.group_len());
            for (task, part) in tasks[first_task..].iter_mut().zip(parts) {
                task.out.push(part);
            }
        }
    }
    tasks
}

impl Task<'_> {
    /// `keys` and `values` are those of the whole cache.
    fn attend<T: Float>(&mut self, q: &[f32], (keys, values): (&[T], &[T]), extent: &Extent<'_>) {
        let &Extent { group, head_dim, .. } = extent;
        let scale = inverse_root(head_dim);
        let end = extent.visible(self.first_token + self.out.len() - 1);
        let mut rows = vec![Softmax::EMPTY; self.out.len() * group];
        let (mut key_scratch, mut value_scratch) =
            (vec![0.0; KEY_BLOCK * head_dim], vec![0.0; KEY_BLOCK * head_dim]);
        self.out.iter_mut().for_each(|out| out.fill(0.0));
        for start in (0..end).step_by(KEY_BLOCK) {
            let tokens = start..end.min(start + KEY_BLOCK);
            let keys = extent.widened(keys, self.kv_head, tokens.clone(), &mut key_scratch);
            let values = extent.widened(values, self.kv_head, tokens, &mut value_scratch);
            for (token, out) in self.out.iter_mut().enumerate() {
                let visible = extent.visible(self.first_token + token);
                let visible = visible.saturating_sub(start).min(KEY_BLOCK);
                if visible == 0 {
                    continue;
                }
                let group_start =
                    (self.first_token + token) * extent.token_len() + self.kv_head * extent.group_len();
                let heads = q[group_start..].chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
                for ((q, out), softmax) in heads.zip(&mut rows[token * group..]) {
                    let mut scores = [0.0; KEY_BLOCK];
                    score(q, keys, scale, &mut scores[..visible]);
                    softmax.absorb(&mut scores, visible, values, out);
                }
            }
        }
        let out = self.out.iter_mut().flat_map(|out| out.chunks_exact_mut(head_dim));
        for (out, softmax) in out.zip(&rows) {
            out.iter_mut().for_each(|value| *value /= softmax.sum);
        }
    }
}

/// `head_dim^-0.5`, in f64, rounded once.
#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
#[expect(clippy::cast_precision_loss, reason = "head_dim comes from a u32")]
pub(crate) fn inverse_root(head_dim: usize) -> f32 {
    (1.0 / (head_dim as f64).sqrt()) as f32
}

/// Lanes of a sum of squares.
const NORM_LANES: usize = 256;

/// Norms each row `[head_dim]` in place: `(x * scale) * weight`, `scale = 1 / sqrt(mean(x^2) + eps)` in f64 and rounded once.
/// Formula and order are those of `kernels/include/rms_norm.h`; squares of f32 are exact in f64.
#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
#[expect(clippy::cast_precision_loss, reason = "head_dim comes from a u32")]
pub(crate) fn norm_heads(rows: &mut [f32], weight: &[f32], eps: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let mut lanes = [0.0_f64; NORM_LANES];
        for chunk in row.chunks(NORM_LANES) {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(value) * f64::from(value);
            }
        }
        let mut half = NORM_LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        let mean = lanes[0] * (1.0 / weight.len() as f64);
        let scale = newton_inverse_root(mean + f64::from(eps)) as f32;
        for (value, weight) in row.iter_mut().zip(weight) {
            *value = *value * scale * weight;
        }
    }
}

/// `1 / sqrt(value)` within 3 units of `2^-53` of itself for a normal value: an estimate from the exponent and four steps of
/// Newton's method, each operation rounded once. 0 for infinity, NaN for NaN.
fn newton_inverse_root(value: f64) -> f64 {
    let mut root = f64::from_bits(0x5fe6_eb50_c7b5_37a9_u64.wrapping_sub(value.to_bits() >> 1));
    let half = 0.5 * value;
    for _ in 0..4 {
        root *= 1.5 - half * root * root;
    }
    if value > 0.0 && value < f64::INFINITY { root } else { 1.0 / value.sqrt() }
}

/// `scores[j] = scale * (q . keys[j])`. Products are added to their lane in ascending order, the lanes in halves.
fn score(q: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) {
    let head_dim = q.len();
    let (groups, rest) = scores.as_chunks_mut::<ROWS>();
    let (group_keys, rest_keys) = keys.split_at(groups.len() * ROWS * head_dim);
    for (scores, keys) in groups.iter_mut().zip(group_keys.chunks_exact(ROWS * head_dim)) {
        let dots = dot::<ROWS>(array::from_fn(|row| &keys[row * head_dim..(row + 1) * head_dim]), q);
        *scores = dots.map(|dot| dot * scale);
    }
    for (score, key) in rest.iter_mut().zip(rest_keys.chunks_exact(head_dim)) {
        let [dot] = dot([key], q);
        *score = dot * scale;
    }
}

/// The dot products of `x` with each row. Counted loops over local arrays are what the compiler turns into SIMD code.
#[inline]
#[expect(clippy::needless_range_loop, reason = "see above")]
fn dot<const R: usize>(rows: [&[f32]; R], x: &[f32]) -> [f32; R] {
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    let rows: [(&[Lanes], &[f32]); R] = array::from_fn(|row| rows[row][..x.len()].as_chunks());
    let mut lanes = [[0.0; LANES]; R];
    for chunk in 0..x_body.len() {
        let x = x_body[chunk];
        for row in 0..R {
            let y = rows[row].0[chunk];
            for lane in 0..LANES {
                lanes[row][lane] += y[lane] * x[lane];
            }
        }
    }
    for row in 0..R {
        for lane in 0..x_tail.len() {
            lanes[row][lane] += rows[row].1[lane] * x_tail[lane];
        }
    }
    lanes.map(add_lanes)
}

/// Adds the lanes in halves.
#[inline]
fn add_lanes([a, b, c, d, e, f, g, h]: Lanes) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The softmax of one query over the keys seen so far (online normalisation, Milakov and Gimelshein): no row of scores
/// is ever held whole.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    /// Sum of `e^(score - max)`.
    sum: f32,
}

impl Softmax {
    const EMPTY: Softmax = Softmax { max: f32::NEG_INFINITY, sum: 0.0 };

    /// Adds a block of keys: `out` becomes the sum of `e^(score - max) * value` over all keys so far. `scores` from
    /// `visible` on are 0 and stay out of it.
    fn absorb(&mut self, scores: &mut [f32; KEY_BLOCK], visible: usize, values: &[f32], out: &mut [f32]) {
        let max = scores[..visible].iter().fold(self.max, |max, &score| max.max(score));
        if max > self.max {
            let rescale = exp_nonpositive(self.max - max);
            self.sum *= rescale;
            out.iter_mut().for_each(|value| *value *= rescale);
            self.max = max;
        }
        // Scores of -inf weigh nothing, also while no other score was seen.
        let max = if max == f32::NEG_INFINITY { 0.0 } else { max };
        for score in &mut scores[..visible] {
            *score = exp_nonpositive(*score - max);
        }
        let (chunks, _) = scores.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            lanes = array::from_fn(|lane| lanes[lane] + chunk[lane]);
        }
        self.sum += add_lanes(lanes);
        add_values(&scores[..visible], values, out);
    }
}

/// `out += sum weights[j] * values[j]`, added in ascending order, each product and sum rounded.
fn add_values(weights: &[f32], values: &[f32], out: &mut [f32]) {
    let head_dim = out.len();
    let (groups, rest) = weights.as_chunks::<ROWS>();
    let (group_values, rest_values) = values.split_at(groups.len() * ROWS * head_dim);
    for (weights, values) in groups.iter().zip(group_values.chunks_exact(ROWS * head_dim)) {
        let rows: [&[f32]; ROWS] = array::from_fn(|row| &values[row * head_dim..(row + 1) * head_dim]);
        for (index, out) in out.iter_mut().enumerate() {
            for (weight, row) in weights.iter().zip(rows) {
                *out += weight * row[index];
            }
        }
    }
    for (weight, row) in rest.iter().zip(rest_values.chunks_exact(head_dim)) {
        for (out, value) in out.iter_mut().zip(row) {
            *out += weight * value;
        }
    }
}
