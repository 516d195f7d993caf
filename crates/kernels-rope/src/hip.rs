//! The launches. No other file of this crate launches anything.

use std::sync::Arc;

use device_mem::{DType, Float, Grid, HipDevice, HipView, HipViewMut, Kernel, MemError, View, ViewMut};
use hsaco::KernelPointer;

use crate::kernels::{APPEND_KV, AppendKvArgs, POSITION_EMBEDDINGS, PositionEmbeddingsArgs, ROPE, RopeArgs};
use crate::{AppendAt, AppendKv, HeadsMut, KvBlocks, Layout, Positions, RopeError, RopeTable};

/// Threads of a block; the most that the kernels are declared for.
const BLOCK: u32 = 256;
/// Threads of a block where each thread has a quad: a token has few of them, and a larger block would leave more of it idle.
const BLOCK_OF_QUADS: u32 = 128;
/// Blocks take tokens in turn, so a grid needs no more than this, and its threads stay below 2^32.
const MAX_BLOCKS: u32 = 1 << 20;

/// The kernels of one device, one per data type.
#[derive(Debug)]
pub(crate) struct RopeKernels {
    rope: PerType<RopeArgs>,
    position_embeddings: PerType<PositionEmbeddingsArgs>,
    /// Of f32 activations with a cache of another type.
    narrowing: [Kernel<PositionEmbeddingsArgs>; 2],
}

#[derive(Debug)]
struct PerType<A: hsaco::KernelArgs> {
    f32: Kernel<A>,
    f16: Kernel<A>,
    bf16: Kernel<A>,
}

impl<A: hsaco::KernelArgs> PerType<A> {
    fn of(&self, dtype: DType) -> Result<&Kernel<A>, RopeError> {
        match dtype {
            DType::F32 => Ok(&self.f32),
            DType::F16 => Ok(&self.f16),
            DType::BF16 => Ok(&self.bf16),
            found => Err(RopeError::DType { found }),
        }
    }
}

impl RopeKernels {
    /// Loads the images for this card, once per table.
    pub(crate) fn load(device: &Arc<HipDevice>) -> Result<RopeKernels, MemError> {
        Ok(RopeKernels {
            rope: PerType {
                f32: Kernel::load(device, &ROPE, "rope_f32")?,
                f16: Kernel::load(device, &ROPE, "rope_f16")?,
                bf16: Kernel::load(device, &ROPE, "rope_bf16")?,
            },
            position_embeddings: PerType {
                f32: Kernel::load(device, &POSITION_EMBEDDINGS, "position_embeddings_f32")?,
                f16: Kernel::load(device, &POSITION_EMBEDDINGS, "position_embeddings_f16")?,
                bf16: Kernel::load(device, &POSITION_EMBEDDINGS, "position_embeddings_bf16")?,
            },
            narrowing: [
                Kernel::load(device, &POSITION_EMBEDDINGS, "position_embeddings_f32_f16")?,
                Kernel::load(device, &POSITION_EMBEDDINGS, "position_embeddings_f32_bf16")?,
            ],
        })
    }

    /// The kernel that rotates `dtype` and appends it to a cache of `cache`.
    fn position_embeddings(
        &self,
        dtype: DType,
        cache: DType,
    ) -> Result<&Kernel<PositionEmbeddingsArgs>, RopeError> {
        let [to_f16, to_bf16] = &self.narrowing;
        match (dtype, cache) {
            (DType::F32, DType::F16) => Ok(to_f16),
            (DType::F32, DType::BF16) => Ok(to_bf16),
            _ if dtype == cache => self.position_embeddings.of(dtype),
            _ => Err(RopeError::CacheDType { found: dtype, cache }),
        }
    }
}

/// Rotates one tensor on the device: [`apply_rope`](crate::apply_rope) -> `apply_rope_device` -> `rope_gpu_kernel` ->
/// `kernels/rope.hip`.
pub(crate) fn apply_rope_device<T: Float>(
    table: &RopeTable,
    x: HeadsMut<'_, T>,
    at: &Positions,
) -> Result<(), RopeError> {
    let (kernels, rotation) = on_device(table, at)?;
    let HeadsMut { data, layout } = x;
    rope_gpu_kernel(kernels.rope.of(T::DTYPE)?, &rotation, device_data(data)?, &layout)
}

/// # GPU RoPE execution flow
///
/// Rotates the queries `[tokens, q_heads, head_dim]` and the keys `[tokens, kv_heads, head_dim]` of device tensors, in
/// place and in one launch, which also appends the rotated keys and the values to a layer of a cache where `append` names
/// one. [`apply_position_embeddings`](crate::apply_position_embeddings) and
/// [`apply_position_embeddings_append`](crate::apply_position_embeddings_append) call it for operands on a HIP device,
/// after they have checked them.
///
/// ```text
/// GlmModel::forward                            model-glm
/// └ self_attention                             attention
///   └ apply_position_embeddings_append         kernels-rope: checks operands, one match over the device
///     └ apply_position_embeddings_device       this function: the kernel for the data types, views as addresses
///       └ position_embeddings_gpu_kernel       packs PositionEmbeddingsArgs, one launch into the device's stream
///         └ kernels/position_embeddings.hip    rotates and appends; the image was chosen and checked when the table
///                                              was built
/// ```
///
/// and for one tensor `apply_rope` -> `apply_rope_device` -> `rope_gpu_kernel` -> `kernels/rope.hip`.
///
/// What crosses the bus: cos and sin `[length, rotary_dim / 2]` once per model, when
/// [`RopeTable::new`](crate::RopeTable::new) hands them to `from_host_vec`, with the positions `0..length`, of which
/// [`Positions::span`](crate::Positions::span) takes a part; other [`Positions`](crate::Positions) once per forward pass,
/// when they are made. The call itself uploads, downloads, allocates and waits for nothing; its
/// launch is the only entry in the device's [`Transfers`](device_mem::Transfers).
///
/// There is no detour: when the launch is refused or the device is lost, the caller gets the error. An error that the
/// kernel itself meets comes out at a later call, as HIP reports it.
///
/// # Errors
/// [`MemError::ForeignDevice`] unless all operands live on the table's HIP device, [`RopeError::CacheDType`], or what the
/// device reports.
pub fn apply_position_embeddings_device<T: Float, C: Float>(
    table: &RopeTable,
    q: HeadsMut<'_, T>,
    k: HeadsMut<'_, T>,
    append: Option<AppendKv<'_, T, C>>,
    at: &Positions,
) -> Result<(), RopeError> {
    crate::check_all(table, &q, &k, append.as_ref(), at)?;
    let (kernels, rotation) = on_device(table, at)?;
    let cache = if append.is_some() { C::DTYPE } else { T::DTYPE };
    let kernel = kernels.position_embeddings(T::DTYPE, cache)?;
    let append = append.map(DeviceAppend::new).transpose()?;
    let (q_layout, k_layout) = (q.layout, k.layout);
    let q = (device_data(q.data)?, &q_layout);
    let k = (device_data(k.data)?, &k_layout);
    position_embeddings_gpu_kernel(kernel, &rotation, q, k, append.unwrap_or_default())
}

/// What every launch reads: addresses of table and positions, and the shape of the rotation.
struct DeviceRotation {
    cos: KernelPointer,
    sin: KernelPointer,
    positions: KernelPointer,
    pair_axis: KernelPointer,
    tokens: u32,
    rotary_dim: u32,
    pair_span: u32,
    /// Of the positions, and of a row of cos and of sin for each token.
    bytes: usize,
}

impl DeviceRotation {
    /// What is read and written of heads of type `T` that are rotated in place.
    fn rotated<T>(&self, layout: &Layout) -> usize {
        2 * layout.rows() * self.rotary_dim as usize * size_of::<T>()
    }

    /// What is read besides where all of the heads is needed.
    fn not_rotated<T>(&self, layout: &Layout) -> usize {
        layout.rows() * layout.head_dim.saturating_sub(self.rotary_dim) as usize * size_of::<T>()
    }
}

/// Addresses and shape of what is appended to; without a cache, zeros.
#[derive(Default)]
struct DeviceAppend {
    v: KernelPointer,
    keys: KernelPointer,
    values: KernelPointer,
    block_table: KernelPointer,
    lengths: KernelPointer,
    block_stride: u64,
    head_stride: u64,
    row_len: u32,
    block_shift: u32,
    table_len: u32,
    capacity: u32,
    sequence: u32,
    first: u32,
    /// Of the values, of what is appended, and of the lengths.
    bytes: usize,
}

impl DeviceAppend {
    fn new<T: Float, C: Float>(append: AppendKv<'_, T, C>) -> Result<DeviceAppend, RopeError> {
        let AppendKv { v, keys, values, layout, blocks, at } = append;
        let v = device_view(v)?;
        // Two 32-bit factors cannot overflow 64 bits, and `to_blocks` proved that blocks are addressable.
        let head_stride = u64::from(layout.capacity) * u64::from(layout.row_len);
        let block_stride = head_stride.saturating_mul(layout.kv_heads.into());
        let mut args = DeviceAppend {
            v: v.pointer(),
            keys: device_data(keys)?.pointer(),
            values: device_data(values)?.pointer(),
            block_stride,
            head_stride,
            row_len: layout.row_len,
            capacity: layout.capacity,
            bytes: v.bytes() + 2 * v.len() * size_of::<C>(),
            ..DeviceAppend::default()
        };
        if let KvBlocks::Table(table) = blocks {
            args.block_table = device_view(table.as_view())?.pointer();
            args.block_shift = table.block_size().trailing_zeros();
            (args.table_len, args.capacity) = (table.max_blocks(), table.capacity());
        }
        match at {
            AppendAt::Sequence { sequence, first } => (args.sequence, args.first) = (sequence, first),
            AppendAt::Next(lengths) => {
                let lengths = device_view(lengths)?;
                (args.lengths, args.bytes) = (lengths.pointer(), args.bytes + lengths.bytes());
            }
        }
        Ok(args)
    }
}

fn on_device<'a>(
    table: &'a RopeTable,
    at: &Positions,
) -> Result<(&'a RopeKernels, DeviceRotation), RopeError> {
    let kernels = table.kernels.as_ref().ok_or_else(foreign)?;
    let (cos, sin) = (device_view(table.cos.as_view())?, device_view(table.sin.as_view())?);
    let pair_axis = device_view(table.pair_axis.as_view())?;
    let positions = device_view(at.view()?)?;
    // A row of each has half as many elements as are rotated.
    let rows = at.tokens as usize * table.spec().rotary_dim() as usize * size_of::<f32>();
    let rotation = DeviceRotation {
        cos: cos.pointer(),
        sin: sin.pointer(),
        positions: positions.pointer(),
        pair_axis: pair_axis.pointer(),
        tokens: at.tokens,
        rotary_dim: table.spec().rotary_dim(),
        pair_span: table.spec().pair_span(),
        bytes: positions.bytes() + rows,
    };
    Ok((kernels, rotation))
}

fn rope_gpu_kernel<T: Float>(
    kernel: &Kernel<RopeArgs>,
    rotation: &DeviceRotation,
    mut x: HipViewMut<'_, T>,
    layout: &Layout,
) -> Result<(), RopeError> {
    if layout.is_empty() {
        return Ok(());
    }
    let bytes = rotation.bytes + rotation.rotated::<T>(layout);
    let args = RopeArgs {
        x: x.pointer(),
        cos: rotation.cos,
        sin: rotation.sin,
        positions: rotation.positions,
        pair_axis: rotation.pair_axis,
        token_stride: layout.token_stride,
        head_stride: layout.head_stride,
        tokens: rotation.tokens,
        heads: layout.heads,
        rotary_dim: rotation.rotary_dim,
        pair_span: rotation.pair_span,
    };
    // SAFETY: the kernel touches x[token * token_stride + head * head_stride + 0..rotary_dim] for tokens and heads below
    // their counts: `HeadsMut` proved these rows to lie inside the view that `x` borrows for writing, with rotary_dim <=
    // head_dim by `RopeSpec` and equal tokens and head_dim by `check_operands`; T is the symbol's type, by `of`. It reads
    // rows of cos and sin at positions that `Positions` proved to lie inside the table, `positions` at an axis below
    // their count, and `pair_axis` below rotary_dim / 2, which `RopeTable` allocated. All of it is on the kernel's
    // device, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(grid(rotation.tokens), bytes, &args) }?;
    Ok(())
}

fn position_embeddings_gpu_kernel<T: Float>(
    kernel: &Kernel<PositionEmbeddingsArgs>,
    rotation: &DeviceRotation,
    (mut q, q_layout): (HipViewMut<'_, T>, &Layout),
    (mut k, k_layout): (HipViewMut<'_, T>, &Layout),
    append: DeviceAppend,
) -> Result<(), RopeError> {
    if q_layout.is_empty() && k_layout.is_empty() {
        return Ok(());
    }
    let grid = quads_of_each_token(rotation, q_layout, k_layout, append.bytes != 0);
    // Keys that are appended are read whole.
    let whole = if append.bytes == 0 { 0 } else { rotation.not_rotated::<T>(k_layout) };
    let rotated = rotation.rotated::<T>(q_layout) + rotation.rotated::<T>(k_layout);
    let bytes = rotation.bytes + rotated + whole + append.bytes;
    let args = PositionEmbeddingsArgs {
        q: q.pointer(),
        k: k.pointer(),
        v: append.v,
        keys: append.keys,
        values: append.values,
        block_table: append.block_table,
        lengths: append.lengths,
        cos: rotation.cos,
        sin: rotation.sin,
        positions: rotation.positions,
        pair_axis: rotation.pair_axis,
        q_token_stride: q_layout.token_stride,
        q_head_stride: q_layout.head_stride,
        k_token_stride: k_layout.token_stride,
        k_head_stride: k_layout.head_stride,
        cache_block_stride: append.block_stride,
        cache_head_stride: append.head_stride,
        cache_row_len: append.row_len,
        block_shift: append.block_shift,
        table_len: append.table_len,
        capacity: append.capacity,
        sequence: append.sequence,
        first_row: append.first,
        tokens: rotation.tokens,
        q_heads: q_layout.heads,
        kv_heads: k_layout.heads,
        head_dim: k_layout.head_dim,
        rotary_dim: rotation.rotary_dim,
        pair_span: rotation.pair_span,
    };
    // SAFETY: as in `rope_gpu_kernel`, for q and for k. With a cache, the kernel reads v[..tokens * kv_heads * head_dim]
    // and writes rows of keys and values [blocks, kv_heads, capacity, row_len]: of blocks that `BlockTable` or
    // `KvBlocks::count` bounds, and of tokens below the capacity, which the kernel checks where it reads `lengths`, of which
    // `check` proved one for each token. C is the symbol's second type. q, k, keys and values are distinct since all are
    // borrowed for writing.
    unsafe { kernel.launch(grid, bytes, &args) }?;
    Ok(())
}

/// Appends keys and values to a cache on the device.
pub(crate) fn append_kv_device<C: Float>(
    k: View<'_, f32>,
    tokens: u32,
    append: AppendKv<'_, f32, C>,
) -> Result<(), RopeError> {
    let k = device_view(k)?;
    let layout = append.layout;
    if append.v_layout(tokens).is_empty() {
        return Ok(());
    }
    let symbol = match C::DTYPE {
        DType::F32 => "append_kv_f32",
        DType::F16 => "append_kv_f16",
        DType::BF16 => "append_kv_bf16",
        cache => return Err(RopeError::CacheDType { found: DType::F32, cache }),
    };
    let kernel = Kernel::<AppendKvArgs>::load(k.device(), &APPEND_KV, symbol)?;
    let append = DeviceAppend::new(append)?;
    let args = AppendKvArgs {
        k: k.pointer(),
        v: append.v,
        keys: append.keys,
        values: append.values,
        block_table: append.block_table,
        lengths: append.lengths,
        cache_block_stride: append.block_stride,
        cache_head_stride: append.head_stride,
        cache_row_len: append.row_len,
        block_shift: append.block_shift,
        table_len: append.table_len,
        capacity: append.capacity,
        sequence: append.sequence,
        first_row: append.first,
        tokens,
        kv_heads: layout.kv_heads,
        head_dim: layout.head_dim,
    };
    // SAFETY: the kernel reads k and v [..tokens * kv_heads * head_dim], which `append_kv` proved, and writes rows of the
    // cache in the symbol's type as in `position_embeddings_gpu_kernel`; keys and values are distinct, both being borrowed for
    // writing. All of it is on the kernel's device, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(block_per_token(tokens), k.bytes() + append.bytes, &args) }?;
    Ok(())
}

/// Blocks for each token, a thread for each four pairs, and for each four elements that are appended without rotation.
fn quads_of_each_token(rotation: &DeviceRotation, q: &Layout, k: &Layout, appends: bool) -> Grid {
    let [q_heads, kv_heads, head_dim, rotary_dim] =
        [q.heads, k.heads, k.head_dim, rotation.rotary_dim].map(u64::from);
    let copied = if appends { (2 * head_dim).saturating_sub(rotary_dim) } else { 0 };
    let quads = (q_heads + kv_heads).saturating_mul(rotary_dim / 8).saturating_add(kv_heads * (copied / 4));
    let down = u16::try_from(quads.div_ceil(BLOCK_OF_QUADS.into())).unwrap_or(u16::MAX).max(1);
    Grid { blocks: [rotation.tokens, down.into(), 1], threads: [BLOCK_OF_QUADS, 1, 1] }
}

/// A block per token.
fn block_per_token(tokens: u32) -> Grid {
    Grid { blocks: [tokens, 1, 1], threads: [BLOCK, 1, 1] }
}

/// A block per token, up to the most that is useful.
fn grid(tokens: u32) -> Grid {
    Grid { blocks: [tokens.min(MAX_BLOCKS), 1, 1], threads: [BLOCK, 1, 1] }
}

fn device_view<T: device_mem::Element>(view: View<'_, T>) -> Result<HipView<'_, T>, RopeError> {
    match view {
        View::Hip(view) => Ok(view),
        View::Host(_) => Err(foreign()),
    }
}

fn device_data<T: Float>(data: ViewMut<'_, T>) -> Result<HipViewMut<'_, T>, RopeError> {
    match data {
        ViewMut::Hip(view) => Ok(view),
        ViewMut::Host(_) => Err(foreign()),
    }
}

/// The callers compared the devices, so this tells of an operand that they forgot.
fn foreign() -> RopeError {
    RopeError::Mem(MemError::ForeignDevice { left: "hip".to_owned(), right: "cpu".to_owned() })
}
