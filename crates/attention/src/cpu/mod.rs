//! The reference body, on slices of host memory whose lengths the callers have proven.
//!
//! Query rows of a key and value head, which are tokens x heads of a group, stand side by side in the lanes of vectors. Blocks
//! of keys are multiplied with all of them at once, then blocks of values with their weights.

mod heads;
mod means;
mod panel;

use std::ops::Range;

use device_mem::{Float, Isa, Scratch, prefetch};
use half::{bf16, f16};
use kernels_rope::{KvBlocks, KvLayout};
use rayon::prelude::*;

use self::panel::Room;
use crate::AttentionShape;

pub(crate) use heads::norm_heads;

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

    /// That of the pass without its first tokens.
    fn after(&self, tokens: usize) -> Extent<'a> {
        Extent { len: self.len + tokens, ..*self }
    }

    /// Tokens that a token of the pass sees: those up to itself, and those of the prefix.
    fn visible(&self, token: usize) -> usize {
        (self.len + token + 1).max(self.prefix)
    }

    /// Widens the rows of some tokens to the start of `wide`: of one head `[tokens, head_dim]`, or of two that follow each other,
    /// whose elements alternate, `[tokens, head_dim, 2]`.
    fn widen<T: Float>(
        &self,
        isa: Isa,
        elements: &[T],
        heads: Range<usize>,
        tokens: Range<usize>,
        wide: &mut [f32],
    ) {
        let (_, room) = self.row(heads.start, tokens.start);
        let rows_at_once = if tokens.len() <= room { tokens.len() } else { 1 };
        let len = rows_at_once * self.head_dim;
        let of_head = |head: usize, token: usize| &elements[self.row(head, token).0..][..len];
        let places = wide.chunks_exact_mut((len * heads.len()).max(1));
        for (token, wide) in tokens.step_by(rows_at_once.max(1)).zip(places) {
            match heads.len() {
                1 => isa.widen(of_head(heads.start, token), wide),
                _ => isa.widen_pair([of_head(heads.start, token), of_head(heads.start + 1, token)], wide),
            }
        }
    }

    /// Asks for the rows of some tokens of these heads, which are widened soon: so memory is read while others are multiplied.
    fn prefetch<T: Float>(&self, elements: &[T], heads: Range<usize>, tokens: Range<usize>) {
        const LINE: usize = 64;
        for head in heads {
            let (start, room) = self.row(head, tokens.start);
            let len = tokens.len().min(room) * self.head_dim;
            for element in (start..start + len).step_by(LINE / size_of::<T>()) {
                prefetch(elements.as_ptr().wrapping_add(element));
            }
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
    static SCRATCH: Scratch<Room> = Scratch::new();
    let isa = Isa::best();
    let row = extent.q_heads() * extent.head_dim;
    // Tokens whose rows fill the lanes.
    let tokens = (isa.lanes(q.len() / row * extent.group) / extent.group).max(1);
    let parts = q.par_chunks(tokens * row).zip(out.par_chunks_mut(tokens * row));
    parts.enumerate().for_each(|(part, (q, out))| {
        let extent = extent.after(part * tokens);
        SCRATCH.lend(|room| panel::attend(isa, q, cache, &extent, out, room));
    });
}

/// `head_dim^-0.5`, in f64, rounded once.
#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
#[expect(clippy::cast_precision_loss, reason = "head_dim comes from a u32")]
pub(crate) fn inverse_root(head_dim: usize) -> f32 {
    (1.0 / (head_dim as f64).sqrt()) as f32
}
