use device_mem::{Device, Float, RanOn, View, ViewMut};

use crate::{BlockTable, Layout, RopeError, cpu, hip};

/// The shape of K, and of V, in one block of a layer of a cache: `[kv_heads, capacity, row_len]`, of which a head is the
/// first `head_dim` elements of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Key and value heads.
    pub kv_heads: u32,
    /// Tokens that there is room for.
    pub capacity: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// From one token to the next; at least `head_dim`.
    pub row_len: u32,
}

impl KvLayout {
    /// Elements of all heads; `None` beyond what an address can count.
    pub fn len(&self) -> Option<usize> {
        let rows = u64::from(self.kv_heads) * u64::from(self.capacity);
        usize::try_from(rows.checked_mul(u64::from(self.row_len))?).ok()
    }

    /// Whether there is room for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// The blocks of a cache, and whose they are.
#[derive(Clone, Copy, Debug)]
pub enum KvBlocks<'a> {
    /// As many sequences as this, each with the block of its own number.
    PerSequence(u32),
    /// Blocks of a paged cache.
    Table(&'a BlockTable),
}

impl KvBlocks<'_> {
    /// Blocks.
    pub fn count(&self) -> u32 {
        match self {
            KvBlocks::PerSequence(sequences) => *sequences,
            KvBlocks::Table(table) => table.blocks(),
        }
    }

    /// Sequences.
    pub fn sequences(&self) -> u32 {
        match self {
            KvBlocks::PerSequence(sequences) => *sequences,
            KvBlocks::Table(table) => table.sequences(),
        }
    }

    /// Tokens that a sequence has room for now, in blocks of `layout`; none beyond the last sequence.
    pub fn room(&self, layout: &KvLayout, sequence: u32) -> u32 {
        match self {
            KvBlocks::PerSequence(sequences) => {
                if sequence < *sequences {
                    layout.capacity
                } else {
                    0
                }
            }
            KvBlocks::Table(table) => table.room(sequence),
        }
    }

    /// Block and place in it of a token that a sequence has room for.
    pub fn place(&self, sequence: u32, token: u32) -> (u32, u32) {
        match self {
            KvBlocks::PerSequence(_) => (sequence, token),
            KvBlocks::Table(table) => table.place(sequence, token),
        }
    }
}

/// Where tokens go in a cache.
#[derive(Clone, Copy, Debug)]
pub enum AppendAt<'a> {
    /// All to one sequence, from its token `first` on.
    Sequence {
        /// The sequence.
        sequence: u32,
        /// Tokens of it that are there.
        first: u32,
    },
    /// Token `t` behind the tokens of sequence `t`, which are counted by element `t` of these lengths `[sequences]`. On a HIP
    /// device they are read by the launch; a sequence that is full then gets nothing.
    Next(View<'a, u32>),
}

/// Values `[tokens, kv_heads, head_dim]`, and the layer of a cache that they and their keys are appended to.
#[derive(Debug)]
pub struct AppendKv<'a, T: Float, C: Float> {
    pub(crate) v: View<'a, T>,
    pub(crate) keys: ViewMut<'a, C>,
    pub(crate) values: ViewMut<'a, C>,
    pub(crate) layout: KvLayout,
    pub(crate) blocks: KvBlocks<'a>,
    pub(crate) at: AppendAt<'a>,
}

impl<'a, T: Float, C: Float> AppendKv<'a, T, C> {
    /// `keys` and `values` are those of a cache of one sequence; token `t` of the values becomes their token `first + t`.
    ///
    /// # Errors
    /// [`RopeError::CacheLength`] when `keys` or `values` hold another number of elements than the layout, or its rows
    /// are shorter than a head.
    pub fn new(
        v: View<'a, T>,
        keys: ViewMut<'a, C>,
        values: ViewMut<'a, C>,
        layout: KvLayout,
        first: u32,
    ) -> Result<AppendKv<'a, T, C>, RopeError> {
        let at = AppendAt::Sequence { sequence: 0, first };
        AppendKv::to_blocks(v, keys, values, layout, KvBlocks::PerSequence(1), at)
    }

    /// `keys` and `values` are those of a cache of several blocks `[blocks, kv_heads, capacity, row_len]`.
    ///
    /// # Errors
    /// [`RopeError::CacheLength`] when `keys` or `values` hold another number of elements, or rows are shorter than a head;
    /// [`RopeError::BlockSize`] when the table is for blocks of another size than the layout.
    pub fn to_blocks(
        v: View<'a, T>,
        keys: ViewMut<'a, C>,
        values: ViewMut<'a, C>,
        layout: KvLayout,
        blocks: KvBlocks<'a>,
        at: AppendAt<'a>,
    ) -> Result<AppendKv<'a, T, C>, RopeError> {
        let each = layout.len().filter(|_| layout.row_len >= layout.head_dim);
        let expected = each.and_then(|each| each.checked_mul(usize::try_from(blocks.count()).ok()?));
        for (operand, found) in [("keys", keys.len()), ("values", values.len())] {
            if expected != Some(found) {
                return Err(RopeError::CacheLength { operand, layout, blocks: blocks.count(), found });
            }
        }
        match blocks {
            KvBlocks::Table(table) if table.block_size() != layout.capacity => {
                Err(RopeError::BlockSize { block_size: layout.capacity })
            }
            _ => Ok(AppendKv { v, keys, values, layout, blocks, at }),
        }
    }

    /// Fails unless the values are `tokens` of keys on `device`, shaped as `k`, and the cache is there and has room.
    pub(crate) fn check(&self, device: &Device, k: &Layout) -> Result<(), RopeError> {
        for operand in [self.v.device(), self.keys.device(), self.values.device()] {
            device.expect_same(&operand)?;
        }
        if let KvBlocks::Table(table) = self.blocks {
            device.expect_same(&table.device())?;
        }
        let &Layout { tokens, heads, head_dim, .. } = k;
        let (layout, found) = (self.layout, self.v.len());
        if (layout.kv_heads, layout.head_dim) != (heads, head_dim) {
            return Err(RopeError::CacheHeads { layout, kv_heads: heads, head_dim });
        }
        if Layout::contiguous(tokens, heads, head_dim).len() != Some(found) {
            return Err(RopeError::DataLength { tokens, heads, head_dim, found });
        }
        let room = |sequence: u32, first: u32, tokens: u32| {
            let capacity = self.blocks.room(&layout, sequence);
            match first.checked_add(tokens) {
                Some(end) if end <= capacity => Ok(()),
                _ => Err(RopeError::CacheFull { first, tokens, capacity }),
            }
        };
        match self.at {
            AppendAt::Sequence { sequence, first } => {
                let sequences = self.blocks.sequences();
                if sequence >= sequences {
                    return Err(RopeError::Sequence { sequence, sequences });
                }
                room(sequence, first, tokens)
            }
            AppendAt::Next(lengths) => {
                device.expect_same(&lengths.device())?;
                let (sequences, found) = (self.blocks.sequences(), lengths.len());
                if tokens != sequences || found != tokens as usize {
                    return Err(RopeError::Lengths { sequences, tokens, found });
                }
                let View::Host(lengths) = lengths else { return Ok(()) };
                (0..).zip(lengths).try_for_each(|(sequence, &first)| room(sequence, first, 1))
            }
        }
    }

    /// The shape of the values.
    pub(crate) fn v_layout(&self, tokens: u32) -> Layout {
        Layout::contiguous(tokens, self.layout.kv_heads, self.layout.head_dim)
    }
}

/// Appends keys `k` `[tokens, kv_heads, head_dim]` as they are, and their values, to a layer of a cache, each rounded once
/// to its type, and says where it ran.
///
/// # Errors
/// [`RopeError::DataLength`] unless keys and values are `tokens` of them, [`RopeError::CacheFull`], [`RopeError::Sequence`],
/// [`RopeError::Lengths`], [`MemError::ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports. The
/// cache is then as it was.
pub fn append_kv<C: Float>(
    k: View<'_, f32>,
    tokens: u32,
    append: AppendKv<'_, f32, C>,
) -> Result<RanOn, RopeError> {
    let k_layout = append.v_layout(tokens);
    append.check(&k.device(), &k_layout)?;
    if k_layout.len() != Some(k.len()) {
        let Layout { heads, head_dim, .. } = k_layout;
        return Err(RopeError::DataLength { tokens, heads, head_dim, found: k.len() });
    }
    match k {
        View::Host(k) => {
            cpu::append_kv_host((k, &k_layout), append);
            Ok(RanOn::Cpu)
        }
        k => hip::append_kv_device(k, tokens, append).map(|()| RanOn::Hip),
    }
}
