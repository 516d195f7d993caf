//! Query rows side by side, and the keys that they see.

use std::ops::Range;

use device_mem::{Float, Isa, Strided};
use rayon::prelude::*;

use super::means::{Add, Means, Weigh};
use super::{Extent, inverse_root};

/// Keys that are scored together. Blocks start at multiples of it from the first key of the cache, so the order of all sums
/// of a query depends on its place in the cache alone.
const KEY_BLOCK: usize = 32;
/// Elements of a dot product that are added up before their sum joins the others.
const SLAB: usize = 64;
/// Keys that have a softmax of their own; a multiple of a block. Spans are merged in ascending order, so that a long cache is
/// work for all threads and yet has one order.
const SPAN: usize = 512;

/// Some query rows of a key and value head: those from `first` on of its tokens x heads.
pub(super) struct Panel<'a> {
    kv_head: usize,
    first: usize,
    /// Rows that stand side by side: at least as many as there are.
    lanes: usize,
    /// Each row's output `[head_dim]`.
    out: Vec<&'a mut [f32]>,
}

pub(super) fn panels<'a>(isa: Isa, out: &'a mut [f32], extent: &Extent<'_>) -> Vec<Panel<'a>> {
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
    pub(super) fn attend<T: Float>(self, isa: Isa, q: &[f32], cache: (&[T], &[T]), extent: &Extent<'_>) {
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
