use std::fmt;
use std::str::FromStr;

use device_mem::{DType, Device, DeviceBuffer, Float, MemError};
use half::{bf16, f16};
use kernels_rope::{BlockTable, KvBlocks, KvLayout, RopeError};
use thiserror::Error;

use crate::hip::{self, HipAttention, Sums};
use crate::layer::LayerCacheMut;
use crate::{AttentionError, AttentionShape};

/// The type that keys and values are stored in. They are rounded to it once, when they are appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvDType {
    /// 4 bytes; nothing is rounded.
    F32,
    /// 2 bytes, 11 significant bits, at most 65504.
    F16,
    /// 2 bytes, 8 significant bits, the range of f32.
    #[default]
    BF16,
}

impl KvDType {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            KvDType::F32 => DType::F32,
            KvDType::F16 => DType::F16,
            KvDType::BF16 => DType::BF16,
        }
    }
}

impl fmt::Display for KvDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dtype().fmt(f)
    }
}

impl FromStr for KvDType {
    type Err = ParseKvDTypeError;

    fn from_str(text: &str) -> Result<KvDType, ParseKvDTypeError> {
        match text {
            "f32" => Ok(KvDType::F32),
            "f16" => Ok(KvDType::F16),
            "bf16" => Ok(KvDType::BF16),
            _ => Err(ParseKvDTypeError { found: text.to_owned() }),
        }
    }
}

/// The text names no type that a cache can hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected f32, f16 or bf16, found {found:?}")]
pub struct ParseKvDTypeError {
    /// The text that was found.
    pub found: String,
}

/// The keys and values of one sequence or several: per layer K and V `[blocks, kv_heads, capacity, head_dim]` on one device.
/// A sequence has the block of its own number, or in a [paged](KvCache::paged) cache those that it is
/// [given](KvCache::assign). On a HIP device rows are as wide as the next multiple of 8.
///
/// A forward pass appends its tokens to every layer behind [`len`](KvCache::len) and then calls
/// [`commit`](KvCache::commit). What was appended but not committed is overwritten by the next pass, so a pass that
/// fails between two layers leaves the cache as it was, and can be repeated.
#[derive(Debug)]
pub struct KvCache {
    device: Device,
    shape: AttentionShape,
    dtype: KvDType,
    /// Of a block.
    layout: KvLayout,
    table: Option<BlockTable>,
    /// Committed tokens of each sequence.
    lens: Vec<u32>,
    layers: Vec<Layer>,
    /// On a HIP device, what all layers need to attend, one after another.
    hip: Option<HipAttention>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) storage: Storage,
    /// Of each sequence, tokens behind its length that were appended since the last commit.
    pub(crate) pending: Vec<u32>,
}

#[derive(Debug)]
pub(crate) enum Storage {
    F32(KeysValues<f32>),
    F16(KeysValues<f16>),
    BF16(KeysValues<bf16>),
}

#[derive(Debug)]
pub(crate) struct KeysValues<T: Float> {
    pub(crate) keys: DeviceBuffer<T>,
    pub(crate) values: DeviceBuffer<T>,
}

impl KvCache {
    /// An empty cache of one sequence of up to `capacity` tokens. All memory is taken here:
    /// `2 * layers * capacity * kv_heads * head_dim` elements, and on a HIP device up to
    /// `max(64, capacity / 1024) * q_heads * (head_dim + 2)` f32 to put spans of keys together.
    ///
    /// # Errors
    /// [`AttentionError::CacheSize`] when the size cannot be addressed, [`AttentionError::HeadDim`] for heads wider than
    /// [`MAX_HIP_HEAD_DIM`](crate::MAX_HIP_HEAD_DIM) on a HIP device, or the device's error when it cannot allocate or has
    /// no image for this card.
    pub fn new(
        device: &Device,
        layers: usize,
        shape: AttentionShape,
        capacity: u32,
        dtype: KvDType,
    ) -> Result<KvCache, AttentionError> {
        KvCache::for_sequences(device, layers, shape, 1, capacity, dtype)
    }

    /// An empty cache of `sequences` sequences of up to `capacity` tokens each, otherwise as [`new`](KvCache::new).
    ///
    /// # Errors
    /// As [`new`](KvCache::new).
    pub fn for_sequences(
        device: &Device,
        layers: usize,
        shape: AttentionShape,
        sequences: u32,
        capacity: u32,
        dtype: KvDType,
    ) -> Result<KvCache, AttentionError> {
        let layout = layout(device, shape, capacity);
        KvCache::build(device, layers, shape, layout, KvBlocks::PerSequence(sequences), dtype)
    }

    /// An empty cache of the blocks and sequences of `table`, which it takes: each layer has memory for `table.blocks()` blocks
    /// of `table.block_size()` tokens, and a sequence has room for the tokens of the blocks that it is
    /// [given](KvCache::assign). Otherwise as [`new`](KvCache::new); no bit of a result depends on where blocks lie.
    ///
    /// # Errors
    /// As [`new`](KvCache::new), and [`ForeignDevice`](MemError::ForeignDevice) when the table is elsewhere.
    pub fn paged(
        device: &Device,
        layers: usize,
        shape: AttentionShape,
        table: BlockTable,
        dtype: KvDType,
    ) -> Result<KvCache, AttentionError> {
        device.expect_same(&table.device())?;
        let layout = layout(device, shape, table.block_size());
        let mut cache = KvCache::build(device, layers, shape, layout, KvBlocks::Table(&table), dtype)?;
        cache.table = Some(table);
        Ok(cache)
    }

    fn build(
        device: &Device,
        layers: usize,
        shape: AttentionShape,
        layout: KvLayout,
        blocks: KvBlocks<'_>,
        dtype: KvDType,
    ) -> Result<KvCache, AttentionError> {
        let (sequences, capacity) = (blocks.sequences(), capacity(blocks, layout));
        bytes_of(layers, shape, layout, blocks, dtype)?;
        let too_large = || too_large(layers, shape, capacity);
        let count = usize::try_from(blocks.count()).map_err(|_| too_large())?;
        let len = layout.len().and_then(|each| each.checked_mul(count)).ok_or_else(too_large)?;
        let hip = match device {
            Device::Cpu => None,
            Device::Hip(hip) => Some(HipAttention::new(hip, shape, sequences, capacity, dtype)?),
        };
        let none = vec![0; usize::try_from(sequences).map_err(|_| too_large())?];
        let layer = |_| Ok(Layer { storage: Storage::new(device, len, dtype)?, pending: none.clone() });
        let layers = (0..layers).map(layer).collect::<Result<_, MemError>>()?;
        Ok(KvCache { device: device.clone(), shape, dtype, layout, table: None, lens: none, layers, hip })
    }

    /// Bytes that [`KvCache::new`] takes with these arguments.
    ///
    /// # Errors
    /// [`AttentionError::CacheSize`] when the size cannot be addressed.
    pub fn bytes_of(
        device: &Device,
        layers: usize,
        shape: AttentionShape,
        capacity: u32,
        dtype: KvDType,
    ) -> Result<usize, AttentionError> {
        let layout = layout(device, shape, capacity);
        let bytes = bytes_of(layers, shape, layout, KvBlocks::PerSequence(1), dtype)?;
        match device {
            Device::Cpu => Ok(bytes),
            Device::Hip(_) => Ok(bytes.saturating_add(Sums::bytes(shape, 1, capacity, dtype)?)),
        }
    }

    /// Committed tokens of the first sequence.
    pub fn len(&self) -> u32 {
        self.lens.first().copied().unwrap_or_default()
    }

    /// Committed tokens of each sequence.
    pub fn lens(&self) -> &[u32] {
        &self.lens
    }

    /// Whether no token is committed.
    pub fn is_empty(&self) -> bool {
        self.lens.iter().all(|&len| len == 0)
    }

    /// Tokens that a sequence may have. In a paged cache it must also be given blocks for them.
    pub fn capacity(&self) -> u32 {
        capacity(blocks(self.table.as_ref(), &self.lens), self.layout)
    }

    /// Layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Head counts and width.
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// The elements' type.
    pub fn dtype(&self) -> KvDType {
        self.dtype
    }

    /// Where keys and values live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The blocks of a paged cache.
    pub fn table(&self) -> Option<&BlockTable> {
        self.table.as_ref()
    }

    /// Memory of all layers' keys and values, in bytes.
    pub fn bytes(&self) -> usize {
        // `build` proved that the product fits.
        let blocks = usize::try_from(blocks(self.table.as_ref(), &self.lens).count()).unwrap_or_default();
        let elements = blocks * self.layout.len().unwrap_or_default();
        2 * self.layers.len() * elements * self.dtype.dtype().size()
    }

    /// Gives a sequence of a paged cache its blocks, those of committed tokens as they were: [`BlockTable::assign`].
    ///
    /// # Errors
    /// [`AttentionError::NotPaged`], [`AttentionError::BlocksInUse`] when committed tokens would lose theirs, and those of
    /// [`BlockTable::assign`]. The blocks are then as they were.
    pub fn assign(&mut self, sequence: u32, blocks: &[u32]) -> Result<(), AttentionError> {
        let table = self.table.as_mut().ok_or(AttentionError::NotPaged)?;
        let held = table.blocks_of(sequence)?;
        let len = self.lens.get(sequence as usize).copied().unwrap_or_default();
        let used = held.get(..len.div_ceil(table.block_size()) as usize).unwrap_or(held);
        if !blocks.starts_with(used) {
            return Err(AttentionError::BlocksInUse { sequence, len, blocks: used.len() });
        }
        Ok(table.assign(sequence, blocks)?)
    }

    /// One layer, to append to and to attend over: the first sequence, where an operation is on one.
    ///
    /// # Errors
    /// [`AttentionError::Layer`].
    pub fn layer(&mut self, index: usize) -> Result<LayerCacheMut<'_>, AttentionError> {
        self.layer_of(index, 0)
    }

    /// One layer of a sequence.
    ///
    /// # Errors
    /// [`AttentionError::Layer`]; [`AttentionError::Rope`] of [`RopeError::Sequence`].
    pub fn layer_of(&mut self, index: usize, sequence: u32) -> Result<LayerCacheMut<'_>, AttentionError> {
        self.expect_sequence(sequence)?;
        let layers = self.layers.len();
        let layer = self.layers.get_mut(index).ok_or(AttentionError::Layer { index, layers })?;
        let blocks = blocks(self.table.as_ref(), &self.lens);
        Ok(LayerCacheMut {
            layer,
            index,
            device: &self.device,
            shape: self.shape,
            layout: self.layout,
            blocks,
            lens: &self.lens,
            sequence,
            hip: self.hip.as_mut(),
        })
    }

    /// Makes the `tokens` that every layer has appended to every sequence part of the cache.
    ///
    /// # Errors
    /// [`AttentionError::Uncommitted`] names the first layer that has appended another number of tokens;
    /// [`AttentionError::Capacity`]. The lengths are then as they were.
    pub fn commit(&mut self, tokens: u32) -> Result<(), AttentionError> {
        (0..self.sequences()).try_for_each(|sequence| self.expect_pending(sequence, tokens))?;
        (0..self.sequences()).for_each(|sequence| self.advance(sequence, tokens));
        Ok(())
    }

    /// Makes the `tokens` that every layer has appended to one sequence part of the cache.
    ///
    /// # Errors
    /// As [`commit`](KvCache::commit), and [`AttentionError::Rope`] of [`RopeError::Sequence`].
    pub fn commit_sequence(&mut self, sequence: u32, tokens: u32) -> Result<(), AttentionError> {
        self.expect_sequence(sequence)?;
        self.expect_pending(sequence, tokens)?;
        self.advance(sequence, tokens);
        Ok(())
    }

    /// Takes note that a launch which was recorded before has appended a token to every layer of every sequence, as
    /// [`decode_attention`](crate::decode_attention) does when it is called. [`commit`](KvCache::commit) follows.
    ///
    /// # Errors
    /// [`AttentionError::Capacity`] when one has no room: the launch then has not appended to it.
    pub fn replayed(&mut self) -> Result<(), AttentionError> {
        (0..self.sequences()).try_for_each(|sequence| self.end_of(sequence, 1).map(|_| ()))?;
        self.layers.iter_mut().for_each(|layer| layer.pending.fill(1));
        Ok(())
    }

    /// Forgets all tokens from `len` on of the first sequence, and what is not committed.
    ///
    /// # Errors
    /// [`AttentionError::Truncate`] when the cache holds fewer.
    pub fn truncate(&mut self, len: u32) -> Result<(), AttentionError> {
        self.truncate_sequence(0, len)
    }

    /// Forgets all tokens from `len` on of one sequence, and what is not committed to it. It keeps its blocks.
    ///
    /// # Errors
    /// [`AttentionError::Truncate`] when the sequence has fewer; [`AttentionError::Rope`] of [`RopeError::Sequence`].
    pub fn truncate_sequence(&mut self, sequence: u32, len: u32) -> Result<(), AttentionError> {
        self.expect_sequence(sequence)?;
        let found = self.lens[sequence as usize];
        if len > found {
            return Err(AttentionError::Truncate { len: found, asked: len });
        }
        self.set_len(sequence, len);
        Ok(())
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        (0..self.sequences()).for_each(|sequence| self.set_len(sequence, 0));
    }

    fn sequences(&self) -> u32 {
        blocks(self.table.as_ref(), &self.lens).sequences()
    }

    fn expect_sequence(&self, sequence: u32) -> Result<(), AttentionError> {
        let sequences = self.sequences();
        if sequence < sequences {
            return Ok(());
        }
        Err(RopeError::Sequence { sequence, sequences }.into())
    }

    fn end_of(&self, sequence: u32, tokens: u32) -> Result<u32, AttentionError> {
        let room = blocks(self.table.as_ref(), &self.lens).room(&self.layout, sequence);
        end_of(self.lens[sequence as usize], tokens, room)
    }

    fn expect_pending(&self, sequence: u32, tokens: u32) -> Result<(), AttentionError> {
        self.end_of(sequence, tokens)?;
        for (layer, Layer { pending, .. }) in self.layers.iter().enumerate() {
            let found = pending[sequence as usize];
            if found != tokens {
                return Err(AttentionError::Uncommitted { layer, expected: tokens, found });
            }
        }
        Ok(())
    }

    fn advance(&mut self, sequence: u32, tokens: u32) {
        // `expect_pending` proved that there is room.
        self.set_len(sequence, self.lens[sequence as usize].saturating_add(tokens));
    }

    fn set_len(&mut self, sequence: u32, len: u32) {
        self.lens[sequence as usize] = len;
        for layer in &mut self.layers {
            layer.pending[sequence as usize] = 0;
        }
    }
}

/// Bytes of the keys and values of all layers.
fn bytes_of(
    layers: usize,
    shape: AttentionShape,
    layout: KvLayout,
    blocks: KvBlocks<'_>,
    dtype: KvDType,
) -> Result<usize, AttentionError> {
    let count = usize::try_from(blocks.count()).ok();
    let len = layout.len().zip(count).and_then(|(each, count)| each.checked_mul(count));
    let layer = len.and_then(|len| len.checked_mul(2 * dtype.dtype().size()));
    let bytes = layer.and_then(|bytes| bytes.checked_mul(layers));
    bytes.ok_or_else(|| too_large(layers, shape, capacity(blocks, layout)))
}

fn too_large(layers: usize, shape: AttentionShape, capacity: u32) -> AttentionError {
    AttentionError::CacheSize { layers, capacity, kv_heads: shape.kv_heads(), head_dim: shape.head_dim() }
}

/// The blocks of a cache of as many sequences as there are lengths.
fn blocks<'a>(table: Option<&'a BlockTable>, lens: &[u32]) -> KvBlocks<'a> {
    let sequences = u32::try_from(lens.len()).unwrap_or(u32::MAX);
    table.map_or(KvBlocks::PerSequence(sequences), KvBlocks::Table)
}

/// Tokens that a sequence may have.
fn capacity(blocks: KvBlocks<'_>, layout: KvLayout) -> u32 {
    match blocks {
        KvBlocks::PerSequence(_) => layout.capacity,
        KvBlocks::Table(table) => table.capacity(),
    }
}

/// How K, and V, of one block lie.
fn layout(device: &Device, shape: AttentionShape, capacity: u32) -> KvLayout {
    let row_len = match device {
        Device::Cpu => shape.head_dim(),
        Device::Hip(_) => hip::row_len(shape.head_dim()),
    };
    KvLayout { kv_heads: shape.kv_heads(), capacity, head_dim: shape.head_dim(), row_len }
}

/// The length after `tokens` more.
pub(crate) fn end_of(len: u32, tokens: u32, capacity: u32) -> Result<u32, AttentionError> {
    let end = len.checked_add(tokens).filter(|&end| end <= capacity);
    end.ok_or(AttentionError::Capacity { len, tokens, capacity })
}

impl Storage {
    fn new(device: &Device, len: usize, dtype: KvDType) -> Result<Storage, MemError> {
        match dtype {
            KvDType::F32 => KeysValues::new(device, len).map(Storage::F32),
            KvDType::F16 => KeysValues::new(device, len).map(Storage::F16),
            KvDType::BF16 => KeysValues::new(device, len).map(Storage::BF16),
        }
    }
}

impl<T: Float> KeysValues<T> {
    fn new(device: &Device, len: usize) -> Result<KeysValues<T>, MemError> {
        Ok(KeysValues {
            keys: DeviceBuffer::zeroed(device, len)?,
            values: DeviceBuffer::zeroed(device, len)?,
        })
    }
}
