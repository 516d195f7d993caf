//! The reference body, on slices of host memory whose lengths the callers have proven.
//!
//! Query rows of a key and value head, which are tokens x heads of a group, stand side by side in the lanes of vectors. Blocks
//! of keys are multiplied with all of them at once, then blocks of values with their weights.

use std::ops::Range;

use device_mem::{Body, Float, Isa, Strided, exp_nonpositive};
use half::{bf16, f16};
use kernels_rope::{KvBlocks, KvLayout};
use rayon::prelude::*;

use crate::AttentionShape;

/// Keys that are scored together. Blocks start at multiples of it from the first key of the cache, so the order of all sums
/// of a query depends on its place in the cache alone.
const KEY_BLOCK: usize = 32;
/// Elements of a dot product that are added up before their sum joins the others.
const SLAB: usize = 64;
/// Keys that have a softmax of their own; a multiple of a block. Spans are merged in ascending order, so that a long cache is
/// work for all threads and yet has one order.
const SPAN: usize = 512;

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

    /// Widens the rows of some tokens of a head to the start of `wide`.
    fn widen<T: Float>(&self, isa: Isa, elements: &[T], head: usize, tokens: Range<usize>, wide: &mut [f32]) {
        let len = tokens.len() * self.head_dim;
        let (start, room) = self.row(head, tokens.start);
        if tokens.len() <= room {
            return isa.widen(&elements[start..start + len], wide);
        }
        for (token, row) in tokens.zip(wide.chunks_exact_mut(self.head_dim)) {
            let (start, _) = self.row(head, token);
            isa.widen(&elements[start..], row);
        }
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

    /// Query heads of one token.
    fn q_heads(&self) -> usize {
        self.kv_heads * self.group
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

fn attend<T: Float>(q: &[f32], cache: (&[T], &[T]), extent: &Extent<'_>, out: &mut [f32]) {
    let isa = Isa::best();
    panels(isa, out, extent).into_par_iter().for_each(|panel| panel.attend(isa, q, cache, extent));
}

/// Some query rows of a key and value head: those from `first` on of its tokens x heads.
struct Panel<'a> {
    kv_head: usize,
    first: usize,
    /// Rows that stand side by side: at least as many as there are.
    lanes: usize,
    /// Each row's output `[head_dim]`.
    out: Vec<&'a mut [f32]>,
}

fn panels<'a>(isa: Isa, out: &'a mut [f32], extent: &Extent<'_>) -> Vec<Panel<'a>> {
    let tokens = out.len() / extent.head_dim / extent.q_heads();
    let rows = tokens * extent.group;
    let lanes = isa.lanes(rows);
    let panel =
        |kv_head: usize, first: usize| Panel { kv_head, first, lanes, out: Vec::with_capacity(lanes) };
    let firsts = || (0..rows).step_by(lanes);
    let mut panels =
        Vec::from_iter((0..extent.kv_heads).flat_map(|head| firsts().map(move |first| panel(head, first))));
    let panels_of_head = rows.div_ceil(lanes);
    for (index, row) in out.chunks_exact_mut(extent.head_dim).enumerate() {
        let (token, head) = (index / extent.q_heads(), index % extent.q_heads());
        let place = token * extent.group + head % extent.group;
        panels[head / extent.group * panels_of_head + place / lanes].out.push(row);
    }
    panels
}

impl Panel<'_> {
    fn attend<T: Float>(self, isa: Isa, q: &[f32], cache: (&[T], &[T]), extent: &Extent<'_>) {
        let queries = self.queries(q, extent);
        let visible = Vec::from_iter((0..self.lanes).map(|lane| match lane < self.out.len() {
            true => extent.visible((self.first + lane) / extent.group),
            false => 0,
        }));
        let end = visible.iter().copied().max().unwrap_or(0);
        let spans = (0..end.div_ceil(SPAN)).into_par_iter().map(|span| {
            let keys = span * SPAN..end.min((span + 1) * SPAN);
            Span { isa, extent, kv_head: self.kv_head, lanes: self.lanes, visible: &visible }
                .attend(&queries, cache, keys)
        });
        let spans: Vec<Means> = spans.collect();
        let Some(means) = spans.into_iter().reduce(|before, after| before.merged(after)) else { return };
        for (lane, out) in self.out.into_iter().enumerate() {
            for (value, row) in out.iter_mut().zip(means.weighted.chunks_exact(self.lanes)) {
                *value = row[lane] / means.sum[lane];
            }
        }
    }

    /// The rows side by side, `[head_dim, lanes]`, with zeros in the lanes that have none.
    fn queries(&self, q: &[f32], extent: &Extent<'_>) -> Vec<f32> {
        let mut queries = vec![0.0; extent.head_dim * self.lanes];
        for lane in 0..self.out.len() {
            let (token, head) = ((self.first + lane) / extent.group, (self.first + lane) % extent.group);
            let row = token * extent.q_heads() + self.kv_head * extent.group + head;
            let row = &q[row * extent.head_dim..(row + 1) * extent.head_dim];
            for (column, value) in queries.chunks_exact_mut(self.lanes).zip(row) {
                column[lane] = *value;
            }
        }
        queries
    }
}

/// What each row has gathered: softmax with a running maximum (online normalisation, Milakov and Gimelshein), so that no row
/// of scores is ever held whole.
struct Means {
    /// `[lanes]`
    max: Vec<f32>,
    /// `[lanes]`: sums of `e^(score - max)`.
    sum: Vec<f32>,
    /// `[head_dim, lanes]`: sums of `e^(score - max) * value`.
    weighted: Vec<f32>,
}

impl Means {
    /// Those of all keys, from those of the keys before and after.
    fn merged(mut self, after: Means) -> Means {
        let lanes = self.max.len();
        let mut shares = vec![[0.0; 2]; lanes];
        for (lane, shares) in shares.iter_mut().enumerate() {
            let max = larger(self.max[lane], after.max[lane]);
            *shares = [share(self.max[lane], max), share(after.max[lane], max)];
            self.max[lane] = max;
            self.sum[lane] = self.sum[lane] * shares[0] + after.sum[lane] * shares[1];
        }
        let rows = self.weighted.chunks_exact_mut(lanes).zip(after.weighted.chunks_exact(lanes));
        for (row, after) in rows {
            for ((value, after), shares) in row.iter_mut().zip(after).zip(&shares) {
                *value = *value * shares[0] + after * shares[1];
            }
        }
        self
    }
}

/// The larger number; NaN is none.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// `e^(from - to)` for maxima, 1 where both are -inf.
#[inline(always)]
fn share(from: f32, to: f32) -> f32 {
    if from == to { 1.0 } else { exp_nonpositive(from - to) }
}

/// Some keys for the rows of a panel.
struct Span<'a> {
    isa: Isa,
    extent: &'a Extent<'a>,
    kv_head: usize,
    lanes: usize,
    /// Keys that each row sees.
    visible: &'a [usize],
}

impl Span<'_> {
    fn attend<T: Float>(&self, queries: &[f32], (keys, values): (&[T], &[T]), span: Range<usize>) -> Means {
        let &Span { isa, extent, kv_head, lanes, visible } = self;
        let head_dim = extent.head_dim;
        let mut means = Means {
            max: vec![f32::NEG_INFINITY; lanes],
            sum: vec![0.0; lanes],
            weighted: vec![0.0; head_dim * lanes],
        };
        let mut wide = vec![0.0; KEY_BLOCK * head_dim];
        let mut weights = vec![0.0; KEY_BLOCK * lanes];
        let (mut slab, mut products) = (vec![0.0; KEY_BLOCK * lanes], vec![0.0; head_dim * lanes]);
        let scale = inverse_root(head_dim);
        let least_visible = visible.iter().copied().min().unwrap_or(0);
        for start in span.clone().step_by(KEY_BLOCK) {
            let block = start..span.end.min(start + KEY_BLOCK);
            let weights = &mut weights[..block.len() * lanes];
            let all_visible = block.end <= least_visible;

            extent.widen(isa, keys, kv_head, block.clone(), &mut wide);
            self.score(&wide, queries, weights, &mut slab);
            if !all_visible {
                hide(weights, lanes, visible, start);
            }
            let rescale = isa.run(Weigh { weights, scale, means: &mut means });

            extent.widen(isa, values, kv_head, block.clone(), &mut wide);
            let is_finite = || wide[..block.len() * head_dim].iter().all(|value| value.is_finite());
            if all_visible || is_finite() {
                if let Some(values) = Strided::new(&wide, [head_dim, block.len()], [1, head_dim]) {
                    isa.multiply(values, weights, lanes, &mut products);
                }
            } else {
                self.multiply_visible(&wide, weights, start, &mut products);
            }
            isa.run(Add { weighted: &mut means.weighted, rescale: &rescale, products: &products });
        }
        means
    }

    /// The products of `keys` `[keys, head_dim]` with the queries. Slabs are added in ascending order.
    fn score(&self, keys: &[f32], queries: &[f32], scores: &mut [f32], slab: &mut [f32]) {
        let &Span { isa, extent, lanes, .. } = self;
        let head_dim = extent.head_dim;
        let slab = &mut slab[..scores.len()];
        for first in (0..head_dim).step_by(SLAB) {
            let depth = SLAB.min(head_dim - first);
            let shape = [scores.len() / lanes, depth];
            let Some(keys) = Strided::new(&keys[first..], shape, [head_dim, 1]) else { return };
            let queries = &queries[first * lanes..(first + depth) * lanes];
            if first == 0 {
                isa.multiply(keys, queries, lanes, scores);
                continue;
            }
            isa.multiply(keys, queries, lanes, slab);
            for (score, part) in scores.iter_mut().zip(&*slab) {
                *score += part;
            }
        }
    }

    /// The products of each row with the values that it sees: one that is not finite spoils no row that does not see it.
    fn multiply_visible(&self, values: &[f32], weights: &[f32], start: usize, products: &mut [f32]) {
        let &Span { isa, extent, lanes, visible, .. } = self;
        let head_dim = extent.head_dim;
        let mut some = vec![0.0; products.len()];
        for keys in 0..=weights.len() / lanes {
            let sees = |lane: usize| visible[lane].saturating_sub(start).min(weights.len() / lanes) == keys;
            if !(0..lanes).any(sees) {
                continue;
            }
            some.fill(0.0);
            if let Some(values) = Strided::new(values, [head_dim, keys], [1, head_dim]) {
                isa.multiply(values, &weights[..keys * lanes], lanes, &mut some);
            }
            for (products, some) in products.chunks_exact_mut(lanes).zip(some.chunks_exact(lanes)) {
                for lane in (0..lanes).filter(|&lane| sees(lane)) {
                    products[lane] = some[lane];
                }
            }
        }
    }
}

/// Gives -inf to the keys, from `start` on, that a row does not see.
fn hide(scores: &mut [f32], lanes: usize, visible: &[usize], start: usize) {
    for (key, scores) in (start..).zip(scores.chunks_exact_mut(lanes)) {
        for (score, &visible) in scores.iter_mut().zip(visible) {
            if key >= visible {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

/// Makes weights `e^(score - max)` of the products of a block of keys, and adds them to the sums; gives what the sums over
/// values are rescaled by.
struct Weigh<'a> {
    /// `[keys, lanes]`
    weights: &'a mut [f32],
    scale: f32,
    means: &'a mut Means,
}

impl Body for Weigh<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let Weigh { weights, scale, means } = self;
        let lanes = means.max.len();
        let mut rescale = vec![1.0; lanes];
        match lanes % 16 {
            0 => weigh::<16>(weights, scale, means, &mut rescale),
            _ => weigh::<8>(weights, scale, means, &mut rescale),
        }
        rescale
    }
}

/// Rows side by side `LANES` at a time. Counted loops over arrays are what the compiler turns into vector code.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "see above")]
fn weigh<const LANES: usize>(weights: &mut [f32], scale: f32, means: &mut Means, rescale: &mut [f32]) {
    let lanes = means.max.len();
    for first in (0..lanes).step_by(LANES) {
        let (Some(before), Some(sums), Some(rescale)) = (
            means.max[first..].first_chunk_mut::<LANES>(),
            means.sum[first..].first_chunk_mut::<LANES>(),
            rescale[first..].first_chunk_mut::<LANES>(),
        ) else {
            return;
        };
        let mut max = *before;
        for scores in weights.chunks_exact_mut(lanes) {
            let Some(scores) = scores[first..].first_chunk_mut::<LANES>() else { return };
            for lane in 0..LANES {
                scores[lane] *= scale;
                max[lane] = larger(max[lane], scores[lane]);
            }
        }
        // Scores of -inf weigh nothing, also while no other score was seen.
        let mut shift = max;
        for lane in 0..LANES {
            shift[lane] = if max[lane] == f32::NEG_INFINITY { 0.0 } else { max[lane] };
            rescale[lane] = share(before[lane], max[lane]);
        }
        let mut sum = *sums;
        for lane in 0..LANES {
            sum[lane] *= rescale[lane];
        }
        let mut added = [0.0; LANES];
        for weights in weights.chunks_exact_mut(lanes) {
            let Some(weights) = weights[first..].first_chunk_mut::<LANES>() else { return };
            for lane in 0..LANES {
                weights[lane] = exp_nonpositive(weights[lane] - shift[lane]);
                added[lane] += weights[lane];
            }
        }
        for lane in 0..LANES {
            sum[lane] += added[lane];
        }
        (*before, *sums) = (max, sum);
    }
}

/// `weighted = weighted * rescale + products`, each operation rounded.
struct Add<'a> {
    /// `[head_dim, lanes]`
    weighted: &'a mut [f32],
    /// `[lanes]`
    rescale: &'a [f32],
    /// `[head_dim, lanes]`
    products: &'a [f32],
}

impl Body for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let lanes = self.rescale.len();
        for (weighted, products) in
            self.weighted.chunks_exact_mut(lanes).zip(self.products.chunks_exact(lanes))
        {
            for ((value, product), rescale) in weighted.iter_mut().zip(products).zip(self.rescale) {
                *value = *value * rescale + product;
            }
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
