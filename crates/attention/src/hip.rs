//! The launches. No other file of this crate launches anything.

use std::sync::Arc;

use device_mem::{
    DType, Device, DeviceBuffer, Element, Float, Grid, HipDevice, HipView, HipViewMut, Kernel, MemError,
    View, ViewMut,
};
use hsaco::KernelPointer;

use crate::kernels::{ATTENTION, AttentionArgs};
use crate::kv_cache::{LayerCacheMut, Storage};
use crate::{AttentionError, AttentionShape, KvDType, MAX_HIP_HEAD_DIM, cpu};

/// Threads of a block.
const BLOCK: u32 = 256;
/// Rows that a block of the kernel takes.
const ROWS: u32 = 16;
/// Keys that a block of the kernel takes at once.
const CHUNK: u32 = 256;
/// Rows of the cache begin at multiples of this many elements, 16 bytes of the smallest type.
const ROW_ALIGNMENT: u32 = 8;

/// What attending over one cache needs on its device. It is made with the cache, so that no call allocates.
#[derive(Debug)]
pub(crate) struct HipAttention {
    attend: Kernel<AttentionArgs>,
    attend_split: Kernel<AttentionArgs>,
    /// See [`AttentionArgs`]; for the rows of one token and all chunks of the cache.
    partials: DeviceBuffer<f32>,
    counters: DeviceBuffer<u32>,
}

/// Elements from one token of a cache to the next.
pub(crate) fn row_len(head_dim: u32) -> u32 {
    head_dim.next_multiple_of(ROW_ALIGNMENT)
}

/// Tiles of a head with `rows` rows.
fn tiles(rows: u64) -> u64 {
    rows.div_ceil(u64::from(ROWS))
}

/// Elements that the chunks of one token need.
pub(crate) struct Sums {
    partials: usize,
    counters: usize,
}

impl Sums {
    fn of(shape: AttentionShape, capacity: u32) -> Result<Sums, MemError> {
        let token_tiles = u64::from(shape.kv_heads()) * tiles(shape.group().into());
        // A single chunk is never split.
        let chunks = if capacity > CHUNK { u64::from(capacity.div_ceil(CHUNK)) } else { 0 };
        let row = u64::from(ROWS) * u64::from(2 + row_len(shape.head_dim()));
        let too_large = || MemError::TooLarge { elements: usize::MAX, dtype: DType::F32 };
        let partials = token_tiles.checked_mul(row).and_then(|row| row.checked_mul(chunks));
        let partials = partials.and_then(|len| usize::try_from(len).ok()).ok_or_else(too_large)?;
        let counters = if chunks == 0 { 0 } else { usize::try_from(token_tiles).map_err(|_| too_large())? };
        Ok(Sums { partials, counters })
    }

    /// Bytes for a cache of this capacity.
    pub(crate) fn bytes(shape: AttentionShape, capacity: u32) -> Result<usize, MemError> {
        let Sums { partials, counters } = Sums::of(shape, capacity)?;
        Ok(partials.saturating_add(counters).saturating_mul(size_of::<f32>()))
    }
}

impl HipAttention {
    /// Loads the images for this card, and allocates what one token's chunks leave for each other.
    pub(crate) fn new(
        device: &Arc<HipDevice>,
        shape: AttentionShape,
        capacity: u32,
        dtype: KvDType,
    ) -> Result<HipAttention, AttentionError> {
        let found = shape.head_dim();
        if found > MAX_HIP_HEAD_DIM {
            return Err(AttentionError::HeadDim { found, most: MAX_HIP_HEAD_DIM });
        }
        let [attend, attend_split] = match dtype {
            KvDType::F32 => ["attend_f32", "attend_split_f32"],
            KvDType::F16 => ["attend_f16", "attend_split_f16"],
            KvDType::BF16 => ["attend_bf16", "attend_split_bf16"],
        };
        let Sums { partials, counters } = Sums::of(shape, capacity)?;
        let on = Device::Hip(device.clone());
        Ok(HipAttention {
            attend: Kernel::load(device, &ATTENTION, attend)?,
            attend_split: Kernel::load(device, &ATTENTION, attend_split)?,
            partials: DeviceBuffer::zeroed(&on, partials)?,
            counters: DeviceBuffer::zeroed(&on, counters)?,
        })
    }
}

/// Attends `q` `[tokens, q_heads, head_dim]` over the layer, in one launch. Passes of few rows over several chunks take a
/// block for each chunk, so that a decoded token fills a card; the bits are the same.
pub(crate) fn attend_device(
    q: View<'_, f32>,
    tokens: u32,
    cache: &mut LayerCacheMut<'_>,
    out: ViewMut<'_, f32>,
) -> Result<(), AttentionError> {
    let (q, mut out) = (on_device(q)?, on_device_mut(out)?);
    if tokens == 0 {
        return Ok(());
    }
    let (shape, layout, len) = (cache.shape(), cache.layout(), cache.len());
    let (keys, values) = match cache.storage() {
        Storage::F32(storage) => addresses(&storage.keys, &storage.values)?,
        Storage::F16(storage) => addresses(&storage.keys, &storage.values)?,
        Storage::BF16(storage) => addresses(&storage.keys, &storage.values)?,
    };
    let HipAttention { attend, attend_split, partials, counters } = cache.hip().ok_or_else(foreign)?;
    // The cache has room for the tokens, so their end is a u32.
    let chunks = (len + tokens).div_ceil(CHUNK);
    let pass_tiles = tiles(u64::from(tokens) * u64::from(shape.group()));
    let split = chunks > 1 && pass_tiles <= tiles(shape.group().into());
    let (kernel, chunks) = if split { (attend_split, chunks) } else { (attend, 0) };
    let head_blocks = pass_tiles.saturating_mul(chunks.max(1).into());
    let blocks = u32::try_from(head_blocks.saturating_mul(shape.kv_heads().into()));
    let args = AttentionArgs {
        q: q.pointer(),
        keys,
        values,
        out: out.pointer(),
        partials: on_device_mut(partials.as_view_mut()?)?.pointer(),
        counters: on_device_mut(counters.as_view_mut()?)?.pointer(),
        cache_head_stride: u64::from(layout.capacity) * u64::from(layout.row_len),
        cache_row_len: layout.row_len,
        scale: cpu::inverse_root(shape.head_dim() as usize),
        tokens,
        kv_heads: shape.kv_heads(),
        group: shape.group(),
        head_dim: shape.head_dim(),
        len,
        chunks,
    };
    // A launch refuses 2^24 blocks of 256 threads and more, so that rows can be counted by the kernel.
    let grid = Grid { blocks: [blocks.unwrap_or(u32::MAX), 1, 1], threads: [BLOCK, 1, 1] };
    // SAFETY: the kernel reads q and writes out [..tokens * q_heads * head_dim], which `attend` proved, and reads rows
    // ..len + tokens of keys and values [kv_heads, capacity, row_len] in the symbol's type, which `KvCache` allocated in
    // that type, with zeros behind each head; `expect_appended` proved the rows to be there. The grid has a block for each
    // tile and, if split, chunk. `partials` and `counters` are made for the tiles of one token and the chunks of the whole
    // cache, and no more are split; counters are 0 between launches. All of it is borrowed, what is written mutably, is on
    // the kernel's device, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(grid, &args) }?;
    Ok(())
}

fn addresses<T: Float>(
    keys: &DeviceBuffer<T>,
    values: &DeviceBuffer<T>,
) -> Result<(KernelPointer, KernelPointer), MemError> {
    Ok((on_device(keys.as_view())?.pointer(), on_device(values.as_view())?.pointer()))
}

fn on_device<T: Element>(view: View<'_, T>) -> Result<HipView<'_, T>, MemError> {
    match view {
        View::Hip(view) => Ok(view),
        View::Host(_) => Err(foreign()),
    }
}

fn on_device_mut<T: Element>(view: ViewMut<'_, T>) -> Result<HipViewMut<'_, T>, MemError> {
    match view {
        ViewMut::Hip(view) => Ok(view),
        ViewMut::Host(_) => Err(foreign()),
    }
}

/// The callers compared the devices, so this tells of an operand that they forgot.
fn foreign() -> MemError {
    MemError::ForeignDevice { left: "hip".to_owned(), right: "cpu".to_owned() }
}
