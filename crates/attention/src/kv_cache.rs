use std::fmt;
use std::str::FromStr;

use device_mem::{DType, Device, DeviceBuffer, Float, MemError, RanOn, View, ViewMut};
use half::{bf16, f16};
use thiserror::Error;

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

/// The keys and values of one sequence: per layer K and V `[kv_heads, capacity, head_dim]` on one device.
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
}

#[derive(Debug)]
struct Layer {
    storage: Storage,
    /// Tokens behind `len` that were appended since the last commit.
    pending: u32,
}

#[derive(Debug)]
enum Storage {
    F32(KeysValues<f32>),
    F16(KeysValues<f16>),
    BF16(KeysValues<bf16>),
}

#[derive(Debug)]
struct KeysValues<T: Float> {
    keys: DeviceBuffer<T>,
    values: DeviceBuffer<T>,
}

impl KvCache {
    /// An empty cache for `capacity` tokens. All memory is taken here:
    /// `2 * layers * capacity * kv_heads * head_dim` elements.
    ///
    /// # Errors
    /// [`AttentionError::CacheSize`] when the size cannot be addressed, or the device's error when it cannot allocate.
    pub fn new(
        device: &Device,
        layers: usize,
        shape: AttentionShape,
        capacity: u32,
        dtype: KvDType,
    ) -> Result<KvCache, AttentionError> {
        let (kv_heads, head_dim) = (shape.kv_heads(), shape.head_dim());
        let too_large = || AttentionError::CacheSize { layers, capacity, kv_heads, head_dim };
        let len = layer_len(shape, capacity).ok_or_else(too_large)?;
        let layer_bytes = len.checked_mul(2 * dtype.dtype().size());
        layer_bytes.and_then(|bytes| bytes.checked_mul(layers)).ok_or_else(too_large)?;
        let layer = |_| Ok(Layer { storage: Storage::new(device, len, dtype)?, pending: 0 });
        let layers = (0..layers).map(layer).collect::<Result<_, MemError>>()?;
        Ok(KvCache { device: device.clone(), shape, dtype, capacity, len: 0, layers })
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

    /// Memory of all layers, in bytes.
    pub fn bytes(&self) -> usize {
        // `new` proved that the product fits.
        let elements = layer_len(self.shape, self.capacity).unwrap_or_default();
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
        Ok(LayerCacheMut { layer, index, device, shape, capacity, len })
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

/// Elements of K, or of V, of one layer.
fn layer_len(shape: AttentionShape, capacity: u32) -> Option<usize> {
    let row = u64::from(shape.kv_heads()) * u64::from(shape.head_dim());
    usize::try_from(row.checked_mul(u64::from(capacity))?).ok()
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
    /// [`ForeignDevice`](MemError::ForeignDevice), [`AttentionError::NoHipBody`]. Nothing is then written.
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
        let (View::Host(k), View::Host(v)) = (k, v) else {
            return Err(AttentionError::NoHipBody { operation: "append" });
        };
        let extent = self.extent();
        match &mut self.layer.storage {
            Storage::F32(storage) => storage.append(k, v, &extent)?,
            Storage::F16(storage) => storage.append(k, v, &extent)?,
            Storage::BF16(storage) => storage.append(k, v, &extent)?,
        }
        self.layer.pending = tokens;
        Ok(RanOn::Cpu)
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
}

impl<T: Float> KeysValues<T> {
    fn host(&self) -> Option<(&[T], &[T])> {
        match (self.keys.as_view(), self.values.as_view()) {
            (View::Host(keys), View::Host(values)) => Some((keys, values)),
            _ => None,
        }
    }

    fn append(&mut self, k: &[f32], v: &[f32], extent: &cpu::Extent) -> Result<(), AttentionError> {
        match (self.keys.as_view_mut()?, self.values.as_view_mut()?) {
            (ViewMut::Host(keys), ViewMut::Host(values)) => {
                cpu::append_host(k, keys, extent);
                cpu::append_host(v, values, extent);
                Ok(())
            }
            _ => Err(AttentionError::NoHipBody { operation: "append" }),
        }
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
