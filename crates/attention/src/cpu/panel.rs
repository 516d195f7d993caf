//! Query rows side by side, and the keys that they see.

use std::ops::Range;

use device_mem::{Float, Isa, Onto, Strided};
use rayon::prelude::*;

use super::means::{Means, Weigh};
use super::{Extent, inverse_root};

/// Keys that are scored together. Blocks start at multiples of it from the first key of the cache, so the order of all sums
/// of a query depends on its place in the cache alone.
const KEY_BLOCK: usize = 32;
/// Elements of a dot product that are added up before their sum joins the others.
const SLAB: usize = 64;
/// Keys that have a softmax of their own; a multiple of a block. Spans are merged in ascending order, so that a long cache is
/// work for all threads and yet has one order.
const SPAN: usize = 512;

/// Spans from which on two heads share lanes.
const PAIRED_FROM: usize = 4;

/// What attention is computed in.
#[derive(Default)]
pub(super) struct Room {
    panels: Vec<PanelRoom>,
}

#[derive(Default)]
struct PanelRoom {
    /// The rows side by side, `[head_dim, lanes]`, with zeros in the lanes that have none.
    queries: Vec<f32>,
    /// `[lanes]`: keys that each row sees.
    visible: Vec<usize>,
    spans: Vec<SpanRoom>,
}

#[derive(Default)]
struct SpanRoom {
    means: Means,
    /// A block of keys or values as f32.
    wide: Vec<f32>,
    /// `[keys, lanes]`
    weights: Vec<f32>,
}

/// The first `count`, made where they are missing.
fn first<T: Default>(rooms: &mut Vec<T>, count: usize) -> &mut [T] {
    if rooms.len() < count {
        rooms.resize_with(count, T::default);
    }
    &mut rooms[..count]
}

/// Attends `q` `[tokens, q_heads, head_dim]`, whose first token is the first behind the extent.
pub(super) fn attend<T: Float>(
    isa: Isa,
    q: &[f32],
    cache: (&[T], &[T]),
    extent: &Extent<'_>,
    out: &mut [f32],
    room: &mut Room,
) {
    let panels = Panels::new(isa, out.len() / extent.head_dim / extent.q_heads(), extent);
    let rooms = first(&mut room.panels, panels.count(extent));
    rooms
        .par_iter_mut()
        .enumerate()
        .for_each(|(index, room)| panels.panel(index).attend(isa, q, cache, extent, room));
    for (index, room) in rooms.iter().enumerate() {
        panels.panel(index).write(room, extent, out);
    }
}

/// How the rows of some tokens x heads are laid side by side.
struct Panels {
    /// Rows of a key and value head.
    rows: usize,
    lanes: usize,
    /// Key and value heads of a panel.
    sides: usize,
}

impl Panels {
    fn new(isa: Isa, tokens: usize, extent: &Extent<'_>) -> Panels {
        let rows = tokens * extent.group;
        let lanes = isa.lanes(rows);
        // A short cache leaves more to share out when heads are alone.
        let is_long = extent.visible(tokens.saturating_sub(1)) >= PAIRED_FROM * SPAN;
        let is_even = extent.kv_heads.is_multiple_of(2);
        let sides = if is_long && is_even && 2 * rows <= lanes { 2 } else { 1 };
        Panels { rows, lanes, sides }
    }

    fn count(&self, extent: &Extent<'_>) -> usize {
        extent.kv_heads / self.sides * self.of_a_head()
    }

    fn of_a_head(&self) -> usize {
        self.rows.div_ceil(self.lanes)
    }

    fn panel(&self, index: usize) -> Panel {
        let &Panels { rows, lanes, sides } = self;
        let (kv_head, first) = (index / self.of_a_head() * sides, index % self.of_a_head() * lanes);
        Panel { kv_heads: kv_head..kv_head + sides, first, lanes, rows: lanes.min(sides * rows - first) }
    }
}

/// Some query rows of a key and value head, those from `first` on of its tokens x heads, or all of two heads where they leave
/// half of the lanes.
struct Panel {
    kv_heads: Range<usize>,
    first: usize,
    /// Rows that stand side by side: at least as many as there are. Those of two heads take turns.
    lanes: usize,
    /// Rows that there are.
    rows: usize,
}

impl Panel {
    /// The token of a lane.
    fn token(&self, lane: usize, extent: &Extent<'_>) -> usize {
        (self.first + lane / self.kv_heads.len()) / extent.group
    }

    /// The row of a lane among all tokens x heads.
    fn row(&self, lane: usize, extent: &Extent<'_>) -> usize {
        let sides = self.kv_heads.len();
        let head =
            (self.kv_heads.start + lane % sides) * extent.group + (self.first + lane / sides) % extent.group;
        self.token(lane, extent) * extent.q_heads() + head
    }

    /// Leaves the means of all keys in the first span's room.
    fn attend<T: Float>(
        &self,
        isa: Isa,
        q: &[f32],
        cache: (&[T], &[T]),
        extent: &Extent<'_>,
        room: &mut PanelRoom,
    ) {
        let PanelRoom { queries, visible, spans } = room;
        self.lay(q, extent, queries);
        visible.clear();
        visible.extend((0..self.lanes).map(|lane| match lane < self.rows {
            true => extent.visible(self.token(lane, extent)),
            false => 0,
        }));
        let (queries, visible) = (&*queries, &*visible);
        let end = visible.iter().copied().max().unwrap_or(0);
        let spans = first(spans, end.div_ceil(SPAN));
        spans.par_iter_mut().enumerate().for_each(|(span, room)| {
            let keys = span * SPAN..end.min((span + 1) * SPAN);
            let (kv_heads, rows) = (self.kv_heads.clone(), self.rows);
            let span = Span { isa, extent, kv_heads, lanes: self.lanes, rows, visible };
            span.attend(queries, cache, keys, room);
        });
        if let Some((all, after)) = spans.split_first_mut() {
            after.iter_mut().for_each(|after| all.means.merge(&mut after.means));
        }
    }

    /// Writes the means of each row to its output `[head_dim]`.
    fn write(&self, room: &PanelRoom, extent: &Extent<'_>, out: &mut [f32]) {
        let Some(SpanRoom { means, .. }) = room.spans.first() else { return };
        for lane in 0..self.rows {
            let out = &mut out[self.row(lane, extent) * extent.head_dim..][..extent.head_dim];
            for (value, row) in out.iter_mut().zip(means.weighted.chunks_exact(self.lanes)) {
                *value = row[lane] / means.sum[lane];
            }
        }
    }

    /// Lays the rows side by side.
    fn lay(&self, q: &[f32], extent: &Extent<'_>, queries: &mut Vec<f32>) {
        queries.clear();
        queries.resize(extent.head_dim * self.lanes, 0.0);
        for lane in 0..self.rows {
            let row = self.row(lane, extent);
            let row = &q[row * extent.head_dim..(row + 1) * extent.head_dim];
            for (column, value) in queries.chunks_exact_mut(self.lanes).zip(row) {
                column[lane] = *value;
            }
        }
    }
}

/// Some keys for the rows of a panel.
struct Span<'a> {
    isa: Isa,
    extent: &'a Extent<'a>,
    kv_heads: Range<usize>,
    lanes: usize,
    /// Lanes that hold a row; the others come to nothing.
    rows: usize,
    /// Keys that each row sees.
    visible: &'a [usize],
}

impl Span<'_> {
    /// Leaves the means of the keys in the room.
    fn attend<T: Float>(
        &self,
        queries: &[f32],
        (keys, values): (&[T], &[T]),
        span: Range<usize>,
        room: &mut SpanRoom,
    ) {
        let &Span { isa, extent, ref kv_heads, lanes, rows, visible } = self;
        let head_dim = extent.head_dim;
        let SpanRoom { means, wide, weights } = room;
        means.reset(lanes, head_dim);
        wide.resize(KEY_BLOCK * head_dim * kv_heads.len(), 0.0);
        weights.resize(KEY_BLOCK * lanes, 0.0);
        let scale = inverse_root(head_dim);
        extent.prefetch(keys, kv_heads.clone(), span.start..span.end.min(span.start + KEY_BLOCK));
        let least_visible = visible[..rows].iter().copied().min().unwrap_or(0);
        for start in span.clone().step_by(KEY_BLOCK) {
            let block = start..span.end.min(start + KEY_BLOCK);
            let weights = &mut weights[..block.len() * lanes];
            let all_visible = block.end <= least_visible;

            extent.widen(isa, keys, kv_heads.clone(), block.clone(), wide);
            extent.prefetch(values, kv_heads.clone(), block.clone());
            self.score(wide, queries, weights);
            if !all_visible {
                hide(weights, lanes, visible, start);
            }
            isa.run(Weigh { weights, scale, means });
            let Means { rescale, weighted, .. } = &mut *means;

            extent.widen(isa, values, kv_heads.clone(), block.clone(), wide);
            extent.prefetch(keys, kv_heads.clone(), block.end..span.end.min(block.end + KEY_BLOCK));
            let is_finite =
                || wide[..block.len() * head_dim * kv_heads.len()].iter().all(|value| value.is_finite());
            if all_visible || is_finite() {
                if let Some(values) = self.values(wide, block.len()) {
                    isa.multiply(values, weights, lanes, Onto::Rescaled(rescale), weighted);
                }
            } else {
                self.add_visible(wide, weights, start, rescale, weighted);
            }
        }
    }

    /// One head's matrix, or those of both.
    fn matrix<'w>(&self, wide: &'w [f32], shape: [usize; 2], strides: [usize; 2]) -> Option<Strided<'w>> {
        match self.kv_heads.len() {
            1 => Strided::new(wide, shape, strides),
            sides => Strided::pair(wide, shape, strides.map(|stride| stride * sides)),
        }
    }

    /// The values of some keys, `[head_dim, keys]`.
    fn values<'w>(&self, wide: &'w [f32], keys: usize) -> Option<Strided<'w>> {
        let head_dim = self.extent.head_dim;
        self.matrix(wide, [head_dim, keys], [1, head_dim])
    }

    /// The products of `keys` `[keys, head_dim]` with the queries. Slabs are added in ascending order.
    fn score(&self, keys: &[f32], queries: &[f32], scores: &mut [f32]) {
        let &Span { isa, extent, lanes, .. } = self;
        let head_dim = extent.head_dim;
        for first in (0..head_dim).step_by(SLAB) {
            let depth = SLAB.min(head_dim - first);
            let shape = [scores.len() / lanes, depth];
            let sides = self.kv_heads.len();
            let Some(keys) = self.matrix(&keys[first * sides..], shape, [head_dim, 1]) else { return };
            let queries = &queries[first * lanes..(first + depth) * lanes];
            let onto = if first == 0 { Onto::Nothing } else { Onto::Sums };
            isa.multiply(keys, queries, lanes, onto, scores);
        }
    }

    /// `weighted = weighted * rescale + products`, of each row with the values that it sees: one that is not finite spoils no row
    /// that does not see it.
    fn add_visible(
        &self,
        values: &[f32],
        weights: &[f32],
        start: usize,
        rescale: &[f32],
        weighted: &mut [f32],
    ) {
        let &Span { isa, lanes, visible, .. } = self;
        let before = weighted.to_vec();
        let mut some = vec![0.0; weighted.len()];
        for keys in 0..=weights.len() / lanes {
            let sees = |lane: usize| visible[lane].saturating_sub(start).min(weights.len() / lanes) == keys;
            if !(0..lanes).any(sees) {
                continue;
            }
            some.copy_from_slice(&before);
            if let Some(values) = self.values(values, keys) {
                isa.multiply(values, &weights[..keys * lanes], lanes, Onto::Rescaled(rescale), &mut some);
            }
            for (weighted, some) in weighted.chunks_exact_mut(lanes).zip(some.chunks_exact(lanes)) {
                for lane in (0..lanes).filter(|&lane| sees(lane)) {
                    weighted[lane] = some[lane];
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
