use device_mem::{Device, Float, RanOn, View};
use kernels_rope::{
    AppendAt, AppendKv, HeadsMut, KvBlocks, KvLayout, Positions, RopeError, RopeTable, append_kv,
    apply_position_embeddings_append,
};

use crate::hip::HipAttention;
use crate::kv_cache::{KeysValues, Layer, Storage, end_of};
use crate::{AttentionError, AttentionShape, cpu};

/// One layer of a [`KvCache`](crate::KvCache), borrowed for one forward pass. Operations on one sequence are on the one that
/// it was borrowed for.
#[derive(Debug)]
pub struct LayerCacheMut<'a> {
    pub(crate) layer: &'a mut Layer,
    pub(crate) index: usize,
    pub(crate) device: &'a Device,
    pub(crate) shape: AttentionShape,
    pub(crate) layout: KvLayout,
    pub(crate) blocks: KvBlocks<'a>,
    pub(crate) lens: &'a [u32],
    pub(crate) sequence: u32,
    pub(crate) hip: Option<&'a mut HipAttention>,
}

/// Runs `$body` with the keys and values of `$layer`, whatever their type.
macro_rules! with_storage {
    ($layer:expr, $storage:ident => $body:expr) => {
        match $layer {
            Storage::F32($storage) => $body,
            Storage::F16($storage) => $body,
            Storage::BF16($storage) => $body,
        }
    };
}
pub(crate) use with_storage;

impl LayerCacheMut<'_> {
    /// Committed tokens of the sequence: the position in the cache of the first token to append.
    pub fn len(&self) -> u32 {
        self.lens[self.sequence as usize]
    }

    /// Whether no token is committed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Head counts and width.
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// Where the layer lives.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// Sequences of the cache.
    pub fn sequences(&self) -> u32 {
        self.blocks.sequences()
    }

    /// Writes `k` and `v` `[tokens, kv_heads, head_dim]` behind the committed tokens of the sequence, rounded once to the
    /// cache's type. A second call before the commit overwrites the first.
    ///
    /// # Errors
    /// [`AttentionError::OperandLength`], [`AttentionError::Capacity`],
    /// [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports. Nothing is then written.
    pub fn append(
        &mut self,
        k: View<'_, f32>,
        v: View<'_, f32>,
        tokens: u32,
    ) -> Result<RanOn, AttentionError> {
        self.expect_room(tokens)?;
        let ran_on = self.append_at(k, v, tokens, self.behind())?;
        self.layer.pending[self.sequence as usize] = tokens;
        Ok(ran_on)
    }

    /// Writes a token of `k` and `v` `[sequences, kv_heads, head_dim]` behind each sequence, which has as many tokens as
    /// `lengths` `[sequences]` says; otherwise as [`append`](LayerCacheMut::append). On a HIP device the launch reads the
    /// lengths, so that it can be recorded and replayed while they grow; a sequence that is full then gets nothing.
    ///
    /// # Errors
    /// As [`append`](LayerCacheMut::append), and [`AttentionError::Length`].
    pub fn append_next(
        &mut self,
        k: View<'_, f32>,
        v: View<'_, f32>,
        lengths: View<'_, u32>,
    ) -> Result<RanOn, AttentionError> {
        self.expect_step(lengths)?;
        let ran_on = self.append_at(k, v, self.sequences(), AppendAt::Next(lengths))?;
        self.layer.pending.fill(1);
        Ok(ran_on)
    }

    fn append_at(
        &mut self,
        k: View<'_, f32>,
        v: View<'_, f32>,
        tokens: u32,
        at: AppendAt<'_>,
    ) -> Result<RanOn, AttentionError> {
        for (operand, view) in [("k", k), ("v", v)] {
            self.device.expect_same(&view.device())?;
            expect_heads(operand, tokens, self.shape.kv_heads(), self.shape.head_dim(), view.len())?;
        }
        let (layout, blocks) = (self.layout, self.blocks);
        Ok(with_storage!(&mut self.layer.storage, storage => {
            append_kv(k, tokens, storage.append(v, layout, blocks, at)?)
        })?)
    }

    /// Rotates `q` and `k` in place and appends the rotated keys and `v`, as [`append`](LayerCacheMut::append) does.
    pub(crate) fn append_rotated(
        &mut self,
        table: &RopeTable,
        q: HeadsMut<'_, f32>,
        k: HeadsMut<'_, f32>,
        v: View<'_, f32>,
        at: &Positions,
    ) -> Result<RanOn, RopeError> {
        let (layout, blocks, behind) = (self.layout, self.blocks, self.behind());
        let ran_on = with_storage!(&mut self.layer.storage, storage => {
            apply_position_embeddings_append(table, q, k, storage.append(v, layout, blocks, behind)?, at)
        })?;
        self.layer.pending[self.sequence as usize] = at.tokens();
        Ok(ran_on)
    }

    /// Behind the tokens of the sequence.
    fn behind(&self) -> AppendAt<'static> {
        AppendAt::Sequence { sequence: self.sequence, first: self.len() }
    }

    /// Fails unless `tokens` more fit into the sequence.
    pub(crate) fn expect_room(&self, tokens: u32) -> Result<(), AttentionError> {
        end_of(self.len(), tokens, self.blocks.room(&self.layout, self.sequence)).map(|_| ())
    }

    /// Fails unless there is a length for each sequence, on this device, and another token fits behind what it has. Lengths
    /// that a device holds are those of the cache, or the launch checks them.
    pub(crate) fn expect_step(&self, lengths: View<'_, u32>) -> Result<(), AttentionError> {
        self.device.expect_same(&lengths.device())?;
        let lens = match lengths {
            View::Host(lengths) => lengths,
            View::Hip(_) => self.lens,
        };
        expect_len("lengths", self.lens.len(), lengths.len())?;
        for (sequence, &len) in (0..).zip(lens) {
            end_of(len, 1, self.blocks.room(&self.layout, sequence))?;
        }
        Ok(())
    }

    /// Fails unless `tokens` were appended.
    pub(crate) fn expect_appended(&self, tokens: u32) -> Result<(), AttentionError> {
        self.expect_pending(self.sequence, tokens)
    }

    /// Fails unless a token was appended to every sequence.
    pub(crate) fn expect_appended_to_all(&self) -> Result<(), AttentionError> {
        (0..self.sequences()).try_for_each(|sequence| self.expect_pending(sequence, 1))
    }

    fn expect_pending(&self, sequence: u32, tokens: u32) -> Result<(), AttentionError> {
        let found = self.layer.pending[sequence as usize];
        if found == tokens {
            return Ok(());
        }
        Err(AttentionError::Uncommitted { layer: self.index, expected: tokens, found })
    }

    /// Keys and values, when they live in host memory.
    pub(crate) fn host(&self) -> Option<cpu::HostKv<'_>> {
        match &self.layer.storage {
            Storage::F32(storage) => storage.host().map(cpu::HostKv::F32),
            Storage::F16(storage) => storage.host().map(cpu::HostKv::F16),
            Storage::BF16(storage) => storage.host().map(cpu::HostKv::BF16),
        }
    }

    /// What the CPU attends over: a sequence of `len` tokens and those behind it.
    pub(crate) fn extent(&self, sequence: u32, len: u32, prefix: u32) -> cpu::Extent<'_> {
        cpu::Extent::new(self.shape, self.layout, self.blocks, sequence, len, prefix)
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.layer.storage
    }
}

impl<T: Float> KeysValues<T> {
    pub(crate) fn element_bytes(&self) -> usize {
        size_of::<T>()
    }

    fn host(&self) -> Option<(&[T], &[T])> {
        match (self.keys.as_view(), self.values.as_view()) {
            (View::Host(keys), View::Host(values)) => Some((keys, values)),
            _ => None,
        }
    }

    /// Where `v` and its keys are appended.
    fn append<'a>(
        &'a mut self,
        v: View<'a, f32>,
        layout: KvLayout,
        blocks: KvBlocks<'a>,
        at: AppendAt<'a>,
    ) -> Result<AppendKv<'a, f32, T>, RopeError> {
        let (keys, values) = (self.keys.as_view_mut()?, self.values.as_view_mut()?);
        AppendKv::to_blocks(v, keys, values, layout, blocks, at)
    }
}

/// Fails unless an operand has `expected` elements.
pub(crate) fn expect_len(operand: &'static str, expected: usize, found: usize) -> Result<(), AttentionError> {
    if expected == found {
        return Ok(());
    }
    Err(AttentionError::Length { operand, expected, found })
}

/// Fails unless `found` elements are `[tokens, heads, head_dim]`.
pub(crate) fn expect_heads(
    operand: &'static str,
    tokens: u32,
    heads: u32,
    head_dim: u32,
    found: usize,
) -> Result<(), AttentionError> {
    let row = u64::from(heads) * u64::from(head_dim);
    let expected = row.checked_mul(u64::from(tokens)).and_then(|len| usize::try_from(len).ok());
    if expected == Some(found) {
        return Ok(());
    }
    Err(AttentionError::OperandLength { operand, tokens, heads, head_dim, found })
}
