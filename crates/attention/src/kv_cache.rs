use std::fmt;
use std::str::FromStr;

use device_mem::{DType, Device, DeviceBuffer, Float, MemError, RanOn, View};
use half::{bf16, f16};
use kernels_rope::{
    AppendKv, HeadsMut, KvLayout, Positions, RopeError, RopeTable, append_kv,
    apply_position_embeddings_append,
};
use thiserror::Error;

use crate::hip::{self, HipAttention, Sums};
use crate::{AttentionError, AttentionShape, cpu};

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

/// The keys and values of one sequence: per layer K and V `[kv_heads, capacity, head_dim]` on one device. On a HIP device
/// rows are as wide as the next multiple of 8.
///
/// A forward pass appends its tokens to every layer behind [`len`](KvCache::len) and then calls
/// [`commit`](KvCache::commit). What was appended but not committed is overwritten by the next pass, so a pass that
/// fails between two layers leaves the cache as it was, and can be repeated.
#[derive(Debug)]
pub struct KvCache {
    device: Device,
    shape: AttentionShape,
    dtype: KvDType,
    capacity: u32,
    len: u32,
    layers: Vec<Layer>,
    /// On a HIP device, what all layers need to attend, one after another.
    hip: Option<HipAttention>,
}

#[derive(Debug)]
struct Layer {
    storage: Storage,
    /// Tokens behind `len` that were appended since the last commit.
    pending: u32,
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
    /// An empty cache for `capacity` tokens. All memory is taken here: `2 * layers * capacity * kv_heads * head_dim`
    /// elements, and on a HIP device `capacity / 256 * q_heads * (head_dim + 2)` f32 to put chunks of keys together.
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
        KvCache::bytes_of(device, layers, shape, capacity, dtype)?;
        let len = layout(device, shape, capacity).len().unwrap_or_default();
        let hip = match device {
            Device::Cpu => None,
            Device::Hip(hip) => Some(HipAttention::new(hip, shape, capacity, dtype)?),
        };
        let layer = |_| Ok(Layer { storage: Storage::new(device, len, dtype)?, pending: 0 });
        let layers = (0..layers).map(layer).collect::<Result<_, MemError>>()?;
        Ok(KvCache { device: device.clone(), shape, dtype, capacity, len: 0, layers, hip })
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
        let (kv_heads, head_dim) = (shape.kv_heads(), shape.head_dim());
        let len = layout(device, shape, capacity).len();
        let layer = len.and_then(|len| len.checked_mul(2 * dtype.dtype().size()));
        let bytes = layer.and_then(|bytes| bytes.checked_mul(layers));
        let bytes = bytes.ok_or(AttentionError::CacheSize { layers, capacity, kv_heads, head_dim })?;
        match device {
            Device::Cpu => Ok(bytes),
            Device::Hip(_) => Ok(bytes.saturating_add(Sums::bytes(shape, capacity)?)),
        }
    }

    /// Committed tokens.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no token is committed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that there is memory for.
    pub fn capacity(&self) -> u32 {
        self.capacity
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

    /// Memory of all layers' keys and values, in bytes.
    pub fn bytes(&self) -> usize {
        // `new` proved that the product fits.
        let elements = layout(&self.device, self.shape, self.capacity).len().unwrap_or_default();
        2 * self.layers.len() * elements * self.dtype.dtype().size()
    }

    /// One layer, to append to and to attend over.
    ///
    /// # Errors
    /// [`AttentionError::Layer`].
    pub fn layer(&mut self, index: usize) -> Result<LayerCacheMut<'_>, AttentionError> {
        let layers = self.layers.len();
        let layer = self.layers.get_mut(index).ok_or(AttentionError::Layer { index, layers })?;
        let (device, shape, capacity, len) = (&self.device, self.shape, self.capacity, self.len);
        Ok(LayerCacheMut { layer, index, device, shape, capacity, len, hip: self.hip.as_mut() })
    }

    /// Makes the `tokens` that every layer has appended part of the cache.
    ///
    /// # Errors
    /// [`AttentionError::Uncommitted`] names the first layer that has appended another number of tokens;
    /// [`AttentionError::Capacity`]. The length is then as it was.
    pub fn commit(&mut self, tokens: u32) -> Result<(), AttentionError> {
        let len = end_of(self.len, tokens, self.capacity)?;
        for (layer, &Layer { pending: found, .. }) in self.layers.iter().enumerate() {
            if found != tokens {
                return Err(AttentionError::Uncommitted { layer, expected: tokens, found });
            }
        }
        self.set_len(len);
        Ok(())
    }

    /// Forgets all tokens from `len` on, and what is not committed.
    ///
    /// # Errors
    /// [`AttentionError::Truncate`] when the cache holds fewer.
    pub fn truncate(&mut self, len: u32) -> Result<(), AttentionError> {
        if len > self.len {
            return Err(AttentionError::Truncate { len: self.len, asked: len });
        }
        self.set_len(len);
        Ok(())
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.set_len(0);
    }

    fn set_len(&mut self, len: u32) {
        self.len = len;
        for layer in &mut self.layers {
            layer.pending = 0;
        }
    }
}

/// How K, and V, of one layer lie.
fn layout(device: &Device, shape: AttentionShape, capacity: u32) -> KvLayout {
    let row_len = match device {
        Device::Cpu => shape.head_dim(),
        Device::Hip(_) => hip::row_len(shape.head_dim()),
    };
    KvLayout { kv_heads: shape.kv_heads(), capacity, head_dim: shape.head_dim(), row_len }
}

/// The length after `tokens` more.
fn end_of(len: u32, tokens: u32, capacity: u32) -> Result<u32, AttentionError> {
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

/// One layer of a [`KvCache`], borrowed for one forward pass.
#[derive(Debug)]
pub struct LayerCacheMut<'a> {
    layer: &'a mut Layer,
    index: usize,
    device: &'a Device,
    shape: AttentionShape,
    capacity: u32,
    len: u32,
    hip: Option<&'a mut HipAttention>,
}

impl LayerCacheMut<'_> {
    /// Committed tokens: the position in the cache of the first token to append.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no token is committed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Head counts and width.
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// Where the layer lives.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// Writes `k` and `v` `[tokens, kv_heads, head_dim]` behind the committed tokens, rounded once to the cache's
    /// type. A second call before the commit overwrites the first.
    ///
    /// # Errors
    /// [`AttentionError::OperandLength`], [`AttentionError::Capacity`],
    /// [`ForeignDevice`](MemError::ForeignDevice), or what the device reports. Nothing is then written.
    pub fn append(
        &mut self,
        k: View<'_, f32>,
        v: View<'_, f32>,
        tokens: u32,
    ) -> Result<RanOn, AttentionError> {
        self.expect_room(tokens)?;
        for (operand, view) in [("k", k), ("v", v)] {
            self.device.expect_same(&view.device())?;
            expect_heads(operand, tokens, self.shape.kv_heads(), self.shape.head_dim(), view.len())?;
        }
        let (layout, first) = (self.layout(), self.len);
        let ran_on = match &mut self.layer.storage {
            Storage::F32(storage) => append_kv(k, tokens, storage.append(v, layout, first)?),
            Storage::F16(storage) => append_kv(k, tokens, storage.append(v, layout, first)?),
            Storage::BF16(storage) => append_kv(k, tokens, storage.append(v, layout, first)?),
        }?;
        self.layer.pending = tokens;
        Ok(ran_on)
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
        let (layout, first) = (self.layout(), self.len);
        let ran_on = match &mut self.layer.storage {
            Storage::F32(storage) => {
                apply_position_embeddings_append(table, q, k, storage.append(v, layout, first)?, at)
            }
            Storage::F16(storage) => {
                apply_position_embeddings_append(table, q, k, storage.append(v, layout, first)?, at)
            }
            Storage::BF16(storage) => {
                apply_position_embeddings_append(table, q, k, storage.append(v, layout, first)?, at)
            }
        }?;
        self.layer.pending = at.tokens();
        Ok(ran_on)
    }

    /// Fails unless `tokens` more fit.
    pub(crate) fn expect_room(&self, tokens: u32) -> Result<(), AttentionError> {
        end_of(self.len, tokens, self.capacity).map(|_| ())
    }

    /// Fails unless `tokens` were appended.
    pub(crate) fn expect_appended(&self, tokens: u32) -> Result<(), AttentionError> {
        let found = self.layer.pending;
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

    pub(crate) fn extent(&self) -> cpu::Extent {
        cpu::Extent::new(self.shape, self.capacity, self.len)
    }

    /// How keys, and values, lie.
    pub(crate) fn layout(&self) -> KvLayout {
        layout(self.device, self.shape, self.capacity)
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.layer.storage
    }

    /// What attending on a HIP device needs.
    pub(crate) fn hip(&mut self) -> Option<&mut HipAttention> {
        self.hip.as_deref_mut()
    }
}

impl<T: Float> KeysValues<T> {
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
        first: u32,
    ) -> Result<AppendKv<'a, f32, T>, RopeError> {
        AppendKv::new(v, self.keys.as_view_mut()?, self.values.as_view_mut()?, layout, first)
    }
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
