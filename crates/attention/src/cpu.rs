//! The reference body, on slices of host memory whose lengths the callers have proven.

use std::array;

use device_mem::{Float, exp_nonpositive};
use half::{bf16, f16};
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

/// Keys and values `[kv_heads, capacity, head_dim]` of one layer.
pub(crate) enum HostKv<'a> {
    F32((&'a [f32], &'a [f32])),
    F16((&'a [f16], &'a [f16])),
    BF16((&'a [bf16], &'a [bf16])),
}

/// The sizes of one layer of a cache.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    capacity: usize,
    /// Committed tokens.
    len: usize,
}

impl Extent {
    pub(crate) fn new(shape: AttentionShape, capacity: u32, len: u32) -> Extent {
        Extent {
            kv_heads: shape.kv_heads() as usize,
            group: shape.group() as usize,
            head_dim: shape.head_dim() as usize,
            capacity: capacity as usize,
            len: len as usize,
        }
    }

    /// Elements of the query heads of one token that share a key and value head.
    fn group_len(&self) -> usize {
        self.group * self.head_dim
    }

    /// Elements of all query heads of one token.
    fn token_len(&self) -> usize {
        self.kv_heads * self.group_len()
    }

    /// Elements of K, or of V, of one head.
    fn head_len(&self) -> usize {
        self.capacity * self.head_dim
    }
}

/// Attends `q` `[tokens, q_heads, head_dim]` over the cache; `out` has the same shape.
pub(crate) fn attend_host(q: &[f32], cache: HostKv<'_>, extent: &Extent, out: &mut [f32]) {
    match cache {
        HostKv::F32(cache) => attend(q, cache, extent, out),
        HostKv::F16(cache) => attend(q, cache, extent, out),
        HostKv::BF16(cache) => attend(q, cache, extent, out),
    }
}

fn attend<T: Float>(q: &[f32], (keys, values): (&[T], &[T]), extent: &Extent, out: &mut [f32]) {
    tasks(out, extent).into_par_iter().for_each(|mut task| {
        let head = task.kv_head * extent.head_len()..(task.kv_head + 1) * extent.head_len();
        task.attend(q, (&keys[head.clone()], &values[head]), extent);
    });
}

/// Some tokens of the query heads that share a key and value head.
struct Task<'a> {
    kv_head: usize,
    first_token: usize,
    /// Per token `[group, head_dim]`.
    out: Vec<&'a mut [f32]>,
}

fn tasks<'a>(out: &'a mut [f32], extent: &Extent) -> Vec<Task<'a>> {
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
    /// `keys` and `values` are `[capacity, head_dim]`.
    fn attend<T: Float>(&mut self, q: &[f32], (keys, values): (&[T], &[T]), extent: &Extent) {
        let &Extent { group, head_dim, len, .. } = extent;
        let scale = inverse_root(head_dim);
        let first_visible = len + self.first_token + 1;
        let end = len + self.first_token + self.out.len();
        let mut rows = vec![Softmax::EMPTY; self.out.len() * group];
        let (mut key_scratch, mut value_scratch) =
            (vec![0.0; KEY_BLOCK * head_dim], vec![0.0; KEY_BLOCK * head_dim]);
        self.out.iter_mut().for_each(|out| out.fill(0.0));
        for start in (0..end).step_by(KEY_BLOCK) {
            let block = start * head_dim..end.min(start + KEY_BLOCK) * head_dim;
            let keys = T::widened(&keys[block.clone()], &mut key_scratch);
            let values = T::widened(&values[block], &mut value_scratch);
            for (token, out) in self.out.iter_mut().enumerate() {
                let visible = (first_visible + token).saturating_sub(start).min(KEY_BLOCK);
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
