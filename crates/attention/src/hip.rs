//! The launches. No other file of this crate launches anything.

use std::sync::Arc;

use device_mem::{
    DType, Device, DeviceBuffer, Element, Float, Grid, HipDevice, HipView, HipViewMut, Kernel, MemError,
    View, ViewMut,
};
use hsaco::KernelPointer;
use kernels_rope::{KvBlocks, RopeTable};

use crate::decode::{HeadNorm, NewTokens};
use crate::kernels::{
    ATTENTION, ATTENTION_TILED, AttentionArgs, AttentionTiledArgs, DECODE_ATTENTION, DecodeAttentionArgs,
};
use crate::kv_cache::Storage;
use crate::layer::{LayerCacheMut, with_storage};
use crate::{AttentionError, AttentionShape, KvDType, MAX_HIP_HEAD_DIM, cpu};

/// Threads of a block.
const BLOCK: u32 = 256;
/// Rows that a block of the kernel takes.
const ROWS: u32 = 16;
/// Keys of a span; where waves may attend by themselves (`include/attention_waves.h`), the fewest of one and the width of a head.
const SPAN: u32 = 1024;
const WAVE_SPAN: u32 = 256;
const WAVE_HEAD_DIM: u32 = 128;
/// Spans that waves cut a sequence into: at most so many, for any number of heads so many, and between them as many as make
/// enough blocks, as `include/attention.h` has them.
const MOST_WAVE_SPANS: u32 = 64;
const LEAST_WAVE_SPANS: u32 = 8;
const ENOUGH_BLOCKS: u64 = 128;
/// Rows that a block of the kernel for many tokens takes.
const TILE_ROWS: u32 = 64;
/// Elements that a span leaves of a row beside its sums.
const PARTIAL_SOFTMAX: u32 = 2;
/// Tokens from which on `kernels/attention_tiled.hip` attends, and the widest heads that it takes.
const TILED_FROM: u32 = 16;
const TILED_HEAD_DIM: u32 = 128;
/// Rows of the cache begin at multiples of this many elements, 16 bytes of the smallest type.
const ROW_ALIGNMENT: u32 = 8;

/// What attending over one cache needs on its device. It is made with the cache, so that no call allocates.
#[derive(Debug)]
pub(crate) struct HipAttention {
    attend: Kernel<AttentionArgs>,
    attend_split: Kernel<AttentionArgs>,
    /// None for caches of f32 and for wider heads.
    attend_tiled: Option<Kernel<AttentionTiledArgs>>,
    decode: Kernel<DecodeAttentionArgs>,
    /// See [`AttentionArgs`]; for the rows of one token of each sequence and all spans of the cache.
    partials: DeviceBuffer<f32>,
    counters: DeviceBuffer<u32>,
    /// Spans that a sequence has room for.
    spans: u32,
    dtype: KvDType,
}

/// Elements from one token of a cache to the next.
pub(crate) fn row_len(head_dim: u32) -> u32 {
    head_dim.next_multiple_of(ROW_ALIGNMENT)
}

/// Tiles of a head with `rows` rows.
fn tiles(rows: u64) -> u64 {
    rows.div_ceil(u64::from(ROWS))
}

/// Tiles of all heads of one token.
fn tiles_of_token(shape: AttentionShape) -> u64 {
    u64::from(shape.kv_heads()) * tiles(shape.group().into())
}

/// Spans of one token that sees up to `keys` keys, at most, whether or not the card has matrix units.
fn most_spans(shape: AttentionShape, dtype: KvDType, keys: u32) -> u32 {
    let spans = keys.div_ceil(SPAN);
    let by_waves = dtype == KvDType::BF16 && shape.head_dim() == WAVE_HEAD_DIM;
    if by_waves { spans.max(keys.div_ceil(WAVE_SPAN).min(most_wave_spans(shape))) } else { spans }
}

/// Spans that waves cut a sequence into, at most.
fn most_wave_spans(shape: AttentionShape) -> u32 {
    let mut spans = MOST_WAVE_SPANS;
    while spans > LEAST_WAVE_SPANS && tiles_of_token(shape).saturating_mul(spans.into()) > ENOUGH_BLOCKS {
        spans /= 2;
    }
    spans
}

/// Elements that the spans of one token of each sequence leave for each other.
pub(crate) struct Sums {
    partials: usize,
    counters: usize,
}

impl Sums {
    fn of(shape: AttentionShape, sequences: u32, capacity: u32, dtype: KvDType) -> Result<Sums, MemError> {
        let spans = most_spans(shape, dtype, capacity);
        // A single span leaves nothing.
        let kept_spans = if spans > 1 { u64::from(spans) } else { 0 };
        let row = u64::from(ROWS) * u64::from(PARTIAL_SOFTMAX + row_len(shape.head_dim()));
        let too_large = || MemError::TooLarge { elements: usize::MAX, dtype: DType::F32 };
        let all_tiles = tiles_of_token(shape).checked_mul(sequences.into()).ok_or_else(too_large)?;
        let partials = all_tiles.checked_mul(row).and_then(|row| row.checked_mul(kept_spans));
        let partials = partials.and_then(|len| usize::try_from(len).ok()).ok_or_else(too_large)?;
        let counters =
            if kept_spans == 0 { 0 } else { usize::try_from(all_tiles).map_err(|_| too_large())? };
        Ok(Sums { partials, counters })
    }

    /// Bytes for a cache of this many sequences, each of this capacity.
    pub(crate) fn bytes(
        shape: AttentionShape,
        sequences: u32,
        capacity: u32,
        dtype: KvDType,
    ) -> Result<usize, MemError> {
        let Sums { partials, counters } = Sums::of(shape, sequences, capacity, dtype)?;
        Ok(partials.saturating_add(counters).saturating_mul(size_of::<f32>()))
    }
}

impl HipAttention {
    /// Loads the images for this card, and allocates what one token's spans leave for each other.
    pub(crate) fn new(
        device: &Arc<HipDevice>,
        shape: AttentionShape,
        sequences: u32,
        capacity: u32,
        dtype: KvDType,
    ) -> Result<HipAttention, AttentionError> {
        let found = shape.head_dim();
        if found > MAX_HIP_HEAD_DIM {
            return Err(AttentionError::HeadDim { found, most: MAX_HIP_HEAD_DIM });
        }
        let ([attend, attend_split, decode], tiled) = match dtype {
            KvDType::F32 => (["attend_f32", "attend_split_f32", "decode_attention_f32"], None),
            KvDType::F16 => {
                (["attend_f16", "attend_split_f16", "decode_attention_f16"], Some("attend_tiled_f16"))
            }
            KvDType::BF16 => {
                (["attend_bf16", "attend_split_bf16", "decode_attention_bf16"], Some("attend_tiled_bf16"))
            }
        };
        let tiled = tiled.filter(|_| shape.head_dim() <= TILED_HEAD_DIM);
        let Sums { partials, counters } = Sums::of(shape, sequences, capacity, dtype)?;
        let on = Device::Hip(device.clone());
        Ok(HipAttention {
            attend: Kernel::load(device, &ATTENTION, attend)?,
            attend_split: Kernel::load(device, &ATTENTION, attend_split)?,
            attend_tiled: tiled.map(|tiled| Kernel::load(device, &ATTENTION_TILED, tiled)).transpose()?,
            decode: Kernel::load(device, &DECODE_ATTENTION, decode)?,
            partials: DeviceBuffer::zeroed(&on, partials)?,
            counters: DeviceBuffer::zeroed(&on, counters)?,
            spans: most_spans(shape, dtype, capacity),
            dtype,
        })
    }
}

/// How many tokens are before those of a pass.
#[derive(Clone, Copy)]
pub(crate) enum Before<'a> {
    /// As many, in the layer's sequence.
    Tokens(u32),
    /// As many as the device says for each sequence `[sequences]`, each of which has one token in the pass.
    OnDevice(View<'a, u32>),
}

/// Attends `q` `[tokens, q_heads, head_dim]` over the layer, in one launch. Passes of few rows take a block for each span of
/// keys, so that a decoded token is spread over a card. Passes of many tokens are attended in tiles.
pub(crate) fn attend_device(
    q: View<'_, f32>,
    tokens: u32,
    before: Before<'_>,
    prefix: u32,
    cache: &mut LayerCacheMut<'_>,
    out: ViewMut<'_, f32>,
) -> Result<(), AttentionError> {
    let (q, mut out) = (on_device(q)?, on_device_mut(out)?);
    if q.len() == 0 {
        return Ok(());
    }
    let kv = CacheArgs::of(cache)?;
    let shape = cache.shape();
    let keys = match before {
        Before::Tokens(len) => len as usize + tokens as usize,
        Before::OnDevice(_) => keys_of_all(cache),
    };
    let bytes = q.bytes() + out.bytes() + keys * kv.token_bytes;
    let HipAttention { attend, attend_split, attend_tiled, partials, counters, spans: room, dtype, .. } =
        cache.hip.as_deref_mut().ok_or_else(foreign)?;
    if let (Before::Tokens(len), Some(kernel), TILED_FROM..) = (before, attend_tiled, tokens) {
        let pass = TiledPass { sequence: cache.sequence, shape, tokens, len, prefix };
        return attend_tiled_device(kernel, &pass, &q, &kv, bytes, &mut out);
    }
    let (sequence, sequences, tokens, len, lengths, spans) = match before {
        // The cache has room for the tokens, so their end is a u32.
        Before::Tokens(len) => {
            let spans = most_spans(shape, *dtype, len + tokens);
            (cache.sequence, 1, tokens, len, KernelPointer::default(), spans)
        }
        Before::OnDevice(lengths) => (0, tokens, 1, 0, on_device(lengths)?.pointer(), *room),
    };
    let pass_tiles = tiles(u64::from(tokens) * u64::from(shape.group()));
    // One token has the bits of `decode_attention`.
    let split = tokens == 1 || (spans > 1 && pass_tiles <= tiles(shape.group().into()));
    let (kernel, spans) = if split { (attend_split, spans.max(1)) } else { (attend, 0) };
    let args = AttentionArgs {
        q: q.pointer(),
        keys: kv.keys,
        values: kv.values,
        out: out.pointer(),
        partials: on_device_mut(partials.as_view_mut()?)?.pointer(),
        counters: on_device_mut(counters.as_view_mut()?)?.pointer(),
        block_table: kv.block_table,
        lengths,
        cache_block_stride: kv.block_stride,
        cache_head_stride: kv.head_stride,
        cache_row_len: kv.row_len,
        block_shift: kv.block_shift,
        table_len: kv.table_len,
        capacity: kv.capacity,
        scale: cpu::inverse_root(shape.head_dim() as usize),
        sequence,
        tokens,
        kv_heads: shape.kv_heads(),
        group: shape.group(),
        head_dim: shape.head_dim(),
        len,
        prefix,
        spans,
    };
    // SAFETY: the kernel reads q and writes out [..sequences * tokens * q_heads * head_dim], which `attend` or `attend_next`
    // proved, and `lengths` [sequences]. It reads rows of keys and values [blocks, kv_heads, capacity, row_len] in the
    // symbol's type, which `KvCache` allocated in that type, with zeros behind each head: those of tokens before len + tokens
    // and, by `attend`, before `prefix`, which is not above that. Where that is beyond the room of a sequence, it reads none;
    // the table's blocks are proven by `BlockTable`. The grid has a block for each tile and, if split, span. `partials` and
    // `counters` are made for the tiles of one token of each sequence and the spans of the whole cache, and no more are split;
    // counters are 0 between launches. All of it is borrowed, what is written mutably, is on the kernel's device, and is freed
    // by hipFree, which waits for the stream.
    unsafe {
        kernel.launch(
            grid([pass_tiles, shape.kv_heads().into(), sequences.into(), spans.max(1).into()]),
            bytes,
            &args,
        )
    }?;
    Ok(())
}

/// What is attended in tiles.
struct TiledPass {
    sequence: u32,
    shape: AttentionShape,
    tokens: u32,
    /// Tokens before those of the pass.
    len: u32,
    prefix: u32,
}

fn attend_tiled_device(
    kernel: &Kernel<AttentionTiledArgs>,
    pass: &TiledPass,
    q: &HipView<'_, f32>,
    kv: &CacheArgs,
    bytes: usize,
    out: &mut HipViewMut<'_, f32>,
) -> Result<(), AttentionError> {
    let &TiledPass { sequence, shape, tokens, len, prefix } = pass;
    let args = AttentionTiledArgs {
        q: q.pointer(),
        keys: kv.keys,
        values: kv.values,
        out: out.pointer(),
        block_table: kv.block_table,
        cache_block_stride: kv.block_stride,
        cache_head_stride: kv.head_stride,
        cache_row_len: kv.row_len,
        block_shift: kv.block_shift,
        table_len: kv.table_len,
        capacity: kv.capacity,
        scale: cpu::inverse_root(shape.head_dim() as usize),
        sequence,
        tokens,
        kv_heads: shape.kv_heads(),
        group: shape.group(),
        head_dim: shape.head_dim(),
        len,
        prefix,
    };
    let tiles = (u64::from(tokens) * u64::from(shape.group())).div_ceil(TILE_ROWS.into());
    // SAFETY: as for `attend_device`, of one sequence, without partials, counters and lengths; head_dim is at most 128 where
    // `HipAttention` has this kernel.
    unsafe { kernel.launch(grid([tiles, shape.kv_heads().into(), 1, 1]), bytes, &args) }?;
    Ok(())
}

/// Rotates, appends and attends a token of each sequence, in one launch.
pub(crate) fn decode_attention_device(
    tokens: &NewTokens<'_>,
    norm: Option<&HeadNorm<'_>>,
    table: &RopeTable,
    positions: View<'_, u32>,
    lengths: View<'_, u32>,
    cache: &mut LayerCacheMut<'_>,
    out: ViewMut<'_, f32>,
) -> Result<(), AttentionError> {
    let mut out = on_device_mut(out)?;
    if tokens.sequences == 0 {
        return Ok(());
    }
    let kv = CacheArgs::of(cache)?;
    let shape = cache.shape();
    // A token of each sequence is appended to what is read.
    let keys = keys_of_all(cache);
    let HipAttention { decode, partials, counters, spans, .. } =
        cache.hip.as_deref_mut().ok_or_else(foreign)?;
    let weight = |weight: Option<View<'_, f32>>| {
        weight.map_or(Ok(KernelPointer::default()), |weight| on_device(weight).map(|view| view.pointer()))
    };
    let spans = (*spans).max(1);
    let axes = u32::try_from(table.spec().axes().count()).unwrap_or(u32::MAX);
    let args = DecodeAttentionArgs {
        q: on_device(tokens.q)?.pointer(),
        k: on_device(tokens.k)?.pointer(),
        v: on_device(tokens.v)?.pointer(),
        keys: kv.keys,
        values: kv.values,
        out: out.pointer(),
        partials: on_device_mut(partials.as_view_mut()?)?.pointer(),
        counters: on_device_mut(counters.as_view_mut()?)?.pointer(),
        block_table: kv.block_table,
        lengths: on_device(lengths)?.pointer(),
        positions: on_device(positions)?.pointer(),
        cos: on_device(table.cos())?.pointer(),
        sin: on_device(table.sin())?.pointer(),
        pair_axis: on_device(table.pair_axis())?.pointer(),
        q_norm: weight(norm.map(|norm| norm.q_weight))?,
        k_norm: weight(norm.map(|norm| norm.k_weight))?,
        block_shift: kv.block_shift,
        capacity: kv.capacity,
        stride: tokens.stride,
        scale: cpu::inverse_root(shape.head_dim() as usize),
        eps: norm.map_or(0.0, |norm| norm.eps),
        sequences: tokens.sequences,
        kv_heads: shape.kv_heads(),
        group: shape.group(),
        head_dim: shape.head_dim(),
        rotary_dim: table.spec().rotary_dim(),
        pair_span: table.spec().pair_span(),
        axes,
        table_length: table.length(),
        spans,
    };
    let head_tiles = tiles(shape.group().into());
    // q, out, k, v, a row of cos and of sin, the positions and the length of each sequence; then the cache.
    let heads = (2 * shape.q_heads() + 2 * shape.kv_heads()) as usize * shape.head_dim() as usize;
    let words = heads + table.spec().rotary_dim() as usize + axes as usize + 1;
    let norms = norm.map_or(0, |_| 2 * shape.head_dim() as usize * size_of::<f32>());
    let bytes = tokens.sequences as usize * words * size_of::<f32>() + norms + keys * kv.token_bytes;
    // SAFETY: the kernel reads heads [head_dim] of q, k and v, which `NewTokens` proved for each sequence, `positions`
    // [axes, sequences] and `lengths` [sequences], of which `decode_attention` proved the numbers, weights [head_dim], likewise,
    // and rows of cos, sin and pair_axis, which `RopeTable` allocated: it compares each position with the table's length. It
    // writes out [..sequences * q_heads * head_dim]. Of the cache it reads rows before the length of a sequence and writes the
    // row at it, after it has compared that with the sequence's room. Everything else is as in `attend_device`; the cache is
    // borrowed mutably by `LayerCacheMut`, so that nothing else reads or writes it.
    unsafe {
        decode.launch(
            grid([head_tiles, shape.kv_heads().into(), tokens.sequences.into(), spans.into()]),
            bytes,
            &args,
        )
    }?;
    Ok(())
}

/// Tokens of all sequences, with the one that each gets.
fn keys_of_all(cache: &LayerCacheMut<'_>) -> usize {
    cache.lens.iter().map(|&len| len as usize + 1).sum()
}

/// As many blocks as the product says. A launch refuses 2^24 blocks of 256 threads and more, so that a kernel can count rows.
fn grid(factors: [u64; 4]) -> Grid {
    let blocks = factors.into_iter().fold(1_u64, u64::saturating_mul);
    Grid { blocks: [u32::try_from(blocks).unwrap_or(u32::MAX), 1, 1], threads: [BLOCK, 1, 1] }
}

/// Where a layer lies.
struct CacheArgs {
    keys: KernelPointer,
    values: KernelPointer,
    block_table: KernelPointer,
    block_stride: u64,
    head_stride: u64,
    row_len: u32,
    block_shift: u32,
    table_len: u32,
    capacity: u32,
    /// Bytes of a token's keys and values.
    token_bytes: usize,
}

impl CacheArgs {
    fn of(cache: &LayerCacheMut<'_>) -> Result<CacheArgs, MemError> {
        let (keys, values) = with_storage!(cache.storage(), kv => addresses(&kv.keys, &kv.values)?);
        let layout = cache.layout;
        // Two 32-bit factors cannot overflow 64 bits, and `KvCache` proved that blocks are addressable.
        let head_stride = u64::from(layout.capacity) * u64::from(layout.row_len);
        let block_stride = head_stride.saturating_mul(layout.kv_heads.into());
        let (block_table, block_shift, table_len, capacity) = match cache.blocks {
            KvBlocks::PerSequence(_) => (KernelPointer::default(), 0, 0, layout.capacity),
            KvBlocks::Table(table) => {
                let shift = table.block_size().trailing_zeros();
                (on_device(table.as_view())?.pointer(), shift, table.max_blocks(), table.capacity())
            }
        };
        let row_len = layout.row_len;
        let element = with_storage!(cache.storage(), kv => kv.element_bytes());
        let shape = cache.shape();
        Ok(CacheArgs {
            token_bytes: 2 * shape.kv_heads() as usize * shape.head_dim() as usize * element,
            keys,
            values,
            block_table,
            block_stride,
            head_stride,
            row_len,
            block_shift,
            table_len,
            capacity,
        })
    }
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
