//! The buffers of a case, before the operation: drawn by the case's seed, with room around every row.

use device_mem::{Device, DeviceBuffer, Float};
use kernels_rope::{
    AppendAt, AppendKv, BlockTable, HeadsMut, KvBlocks, KvLayout, Positions, RopeError, RopeTable,
};
use parity::{SplitMix64, uniform, uniform_with_special};

use crate::cases::{Cache, CacheKind, Case, Form, Place, Values};

/// In every element of a cache before the operation: not zero, so that a write shows, and exact in every type.
pub(crate) const UNTOUCHED: f32 = -77.0;

/// Queries (or the one tensor), keys and values, and where they go.
pub(crate) struct Operands<T: Float> {
    pub(crate) q: Vec<T>,
    pub(crate) k: Vec<T>,
    /// `[tokens, kv_heads, head_dim]`.
    pub(crate) v: Vec<T>,
    pub(crate) q_place: Place,
    pub(crate) k_place: Place,
    /// `[axes][tokens]`.
    pub(crate) positions: Vec<Vec<u32>>,
    pub(crate) cache: Option<CachePlan>,
}

impl<T: Float> Operands<T> {
    pub(crate) fn new(case: &Case, axes: usize, seed: u64) -> Operands<T> {
        let mut seeds = SplitMix64::new(seed);
        let Case { tokens, q_heads, kv_heads, view, .. } = *case;
        let head_dim = case.rotary.config.head_dim;
        let kv_heads = if case.form == Form::Rotate { 0 } else { kv_heads };
        let row = q_heads + 2 * kv_heads;
        let q_place = view.place(tokens, q_heads, head_dim, (row, 0));
        let k_place = view.place(tokens, kv_heads, head_dim, (row, q_heads));
        let mut data = |len: usize| drawn(case.values, seeds.next_u64(), len);
        let (q, k) = (data(q_place.len), data(k_place.len));
        let v = data(tokens as usize * kv_heads as usize * head_dim as usize);
        let positions = case.at.axes(axes, tokens, seeds.next_u64());
        let cache = match case.form {
            Form::Append(_, cache) => Some(CachePlan::new(cache, tokens, kv_heads, head_dim)),
            Form::Rotate | Form::Pair => None,
        };
        Operands { q, k, v, q_place, k_place, positions, cache }
    }
}

fn drawn<T: Float>(values: Values, seed: u64, len: usize) -> Vec<T> {
    match values {
        Values::Uniform => uniform(seed, len),
        Values::Special => uniform_with_special(seed, len),
        Values::Scaled(power) => {
            let mut random = SplitMix64::new(seed);
            let scale = 10.0_f64.powi(power);
            #[expect(clippy::cast_possible_truncation, reason = "rounded to the type of the case")]
            let value = |uniform: f32| T::from_f32((f64::from(uniform) * scale) as f32);
            (0..len).map(|_| value(random.uniform())).collect()
        }
    }
}

/// Rows of one tensor on a device, given to the library as the case says.
pub(crate) fn heads<'a, T: Float>(
    buffer: &'a mut DeviceBuffer<T>,
    place: &Place,
) -> Result<HeadsMut<'a, T>, RopeError> {
    let Place { layout, contiguous, start, end, .. } = *place;
    let rows = buffer.view_mut(start..end)?;
    if contiguous {
        HeadsMut::new(rows, layout.tokens, layout.heads, layout.head_dim)
    } else {
        HeadsMut::strided(rows, layout)
    }
}

/// The positions as the table's own where they are consecutive, else uploaded.
pub(crate) fn positions(case: &Case, table: &RopeTable, axes: &[Vec<u32>]) -> Result<Positions, RopeError> {
    match (&case.at, axes) {
        (crate::cases::At::Span(first), _) => Positions::span(table, *first, case.tokens),
        (_, [one]) => Positions::new(table, one),
        _ => Positions::with_axes(table, &axes.iter().map(Vec::as_slice).collect::<Vec<_>>()),
    }
}

/// A cache, what of it there is, and the row of the cache that each token must go to.
#[derive(Clone, Debug)]
pub(crate) struct CachePlan {
    pub(crate) layout: KvLayout,
    sequences: u32,
    blocks: u32,
    max_blocks: u32,
    /// The blocks of each sequence; none where each has the block of its number.
    assigned: Vec<Vec<u32>>,
    /// The sequence and the tokens of it that are there, or the lengths of all.
    sequence: u32,
    first: u32,
    lengths: Option<Vec<u32>>,
    /// Block and place in it of each token.
    places: Vec<(u32, u32)>,
}

impl CachePlan {
    fn new(Cache { kind, first, gap }: Cache, tokens: u32, kv_heads: u32, head_dim: u32) -> CachePlan {
        let next = matches!(kind, CacheKind::Next | CacheKind::NextPaged(_));
        let lengths = next.then(|| (0..tokens).map(|token| first + 3 * (token % 4)).collect::<Vec<_>>());
        let (sequences, sequence) = match kind {
            CacheKind::One => (1, 0),
            CacheKind::OfThree | CacheKind::Paged(_) => (3, 1),
            CacheKind::Next | CacheKind::NextPaged(_) => (tokens, 0),
        };
        let longest = if next { first + 3 * 3 + 1 } else { first + tokens };
        let block = match kind {
            CacheKind::Paged(block) | CacheKind::NextPaged(block) => Some(block),
            _ => None,
        };
        let capacity = block.unwrap_or(longest + 2);
        let max_blocks = block.map_or(1, |block| longest.div_ceil(block) + 1);
        let blocks = sequences * max_blocks;
        // Every sequence has blocks from all over the cache, in falling order.
        let of_sequence = |sequence: u32| {
            (1..=max_blocks).map(move |index| blocks - 1 - (sequence + (index - 1) * sequences))
        };
        let assigned = match block {
            Some(_) => (0..sequences).map(|sequence| of_sequence(sequence).collect()).collect(),
            None => Vec::new(),
        };
        let place_of = |sequence: u32, token: u32| match (block, &assigned) {
            (Some(block), assigned) => {
                let blocks: &Vec<u32> = &assigned[sequence as usize];
                (blocks[(token / block) as usize], token % block)
            }
            (None, _) => (sequence, token),
        };
        let places = (0..tokens).map(|token| match &lengths {
            Some(lengths) => place_of(token, lengths[token as usize]),
            None => place_of(sequence, first + token),
        });
        let places = places.collect();
        let layout = KvLayout { kv_heads, capacity, head_dim, row_len: head_dim + gap };
        CachePlan { layout, sequences, blocks, max_blocks, assigned, sequence, first, lengths, places }
    }

    /// Elements of the keys, and of the values.
    pub(crate) fn len(&self) -> usize {
        let KvLayout { kv_heads, capacity, row_len, .. } = self.layout;
        self.blocks as usize * kv_heads as usize * capacity as usize * row_len as usize
    }

    /// Where the row of a token's head starts: the cache is `[blocks, kv_heads, capacity, row_len]`.
    pub(crate) fn row(&self, token: usize, head: usize) -> usize {
        let KvLayout { kv_heads, capacity, row_len, .. } = self.layout;
        let (block, place) = self.places[token];
        ((block as usize * kv_heads as usize + head) * capacity as usize + place as usize) * row_len as usize
    }

    /// Gives the cache on a device, with what says whose its blocks are, to `run`.
    pub(crate) fn with_append<T: Float, C: Float, R>(
        &self,
        device: &Device,
        v: &DeviceBuffer<T>,
        [keys, values]: [&mut DeviceBuffer<C>; 2],
        run: impl FnOnce(AppendKv<'_, T, C>) -> Result<R, RopeError>,
    ) -> Result<R, RopeError> {
        let lengths =
            self.lengths.clone().map(|lengths| DeviceBuffer::from_host_vec(device, lengths)).transpose()?;
        let at = match &lengths {
            Some(lengths) => AppendAt::Next(lengths.as_view()),
            None => AppendAt::Sequence { sequence: self.sequence, first: self.first },
        };
        let mut table =
            BlockTable::new(device, self.blocks, self.block_size(), self.sequences, self.max_blocks)?;
        for (sequence, blocks) in (0..).zip(&self.assigned) {
            table.assign(sequence, blocks)?;
        }
        let blocks = if self.assigned.is_empty() {
            KvBlocks::PerSequence(self.sequences)
        } else {
            KvBlocks::Table(&table)
        };
        let (keys, values) = (keys.as_view_mut()?, values.as_view_mut()?);
        run(AppendKv::to_blocks(v.as_view(), keys, values, self.layout, blocks, at)?)
    }

    /// That of a table, which is made of a size that is allowed where there is none.
    fn block_size(&self) -> u32 {
        if self.assigned.is_empty() { 1 } else { self.layout.capacity }
    }
}
