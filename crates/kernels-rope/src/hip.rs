//! The launches. No other file of this crate launches anything.

use std::sync::Arc;

use device_mem::{DType, Float, Grid, HipDevice, HipView, HipViewMut, Kernel, MemError, View, ViewMut};
use hsaco::KernelPointer;

use crate::kernels::{POSITION_EMBEDDINGS, PositionEmbeddingsArgs, ROPE, RopeArgs};
use crate::{HeadsMut, Layout, Positions, RopeError, RopeTable};

/// Threads of a block; the most that the kernels are declared for.
const BLOCK: u32 = 256;
/// Blocks take tokens in turn, so a grid needs no more than this, and its threads stay below 2^32.
const MAX_BLOCKS: u32 = 1 << 20;

/// The kernels of one device, one per data type.
#[derive(Debug)]
pub(crate) struct RopeKernels {
    rope: PerType<RopeArgs>,
    position_embeddings: PerType<PositionEmbeddingsArgs>,
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
        })
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
    rope_gpu_kernel(kernels.rope.of(T::DTYPE)?, &rotation, device_data(table, data)?, &layout)
}

/// # GPU RoPE execution flow
///
/// Rotates the queries `[tokens, q_heads, head_dim]` and the keys `[tokens, kv_heads, head_dim]` of device tensors, in
/// place and in one launch. [`apply_position_embeddings`](crate::apply_position_embeddings) calls it for operands on a
/// HIP device, after it has checked them.
///
/// ```text
/// GlmModel::forward                            model-glm
/// └ self_attention                             attention
///   └ apply_position_embeddings                kernels-rope: checks operands, one match over the device
///     └ apply_position_embeddings_device       this function: the kernel for the data type, views as addresses
///       └ position_embeddings_gpu_kernel       packs PositionEmbeddingsArgs, one launch into the device's stream
///         └ kernels/position_embeddings.hip    rotates; the image was chosen and checked when the table was built
/// ```
///
/// and for one tensor `apply_rope` -> `apply_rope_device` -> `rope_gpu_kernel` -> `kernels/rope.hip`.
///
/// What crosses the bus: cos and sin `[length, rotary_dim / 2]` once per model, when
/// [`RopeTable::new`](crate::RopeTable::new) hands them to `from_host_vec`; the positions once per forward pass, when
/// [`Positions`](crate::Positions) are made. The call itself uploads, downloads, allocates and waits for nothing; its
/// launch is the only entry in the device's [`Transfers`](device_mem::Transfers).
///
/// There is no detour: when the launch is refused or the device is lost, the caller gets the error. An error that the
/// kernel itself meets comes out at a later call, as HIP reports it.
///
/// # Errors
/// [`MemError::ForeignDevice`] unless all operands live on the table's HIP device, or what the device reports.
pub fn apply_position_embeddings_device<T: Float>(
    table: &RopeTable,
    q: HeadsMut<'_, T>,
    k: HeadsMut<'_, T>,
    at: &Positions,
) -> Result<(), RopeError> {
    crate::check_operands(table, &[("q", &q), ("k", &k)], at)?;
    let (kernels, rotation) = on_device(table, at)?;
    let kernel = kernels.position_embeddings.of(T::DTYPE)?;
    let (q_layout, k_layout) = (q.layout, k.layout);
    let q = (device_data(table, q.data)?, &q_layout);
    let k = (device_data(table, k.data)?, &k_layout);
    position_embeddings_gpu_kernel(kernel, &rotation, q, k)
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
}

fn on_device<'a>(
    table: &'a RopeTable,
    at: &Positions,
) -> Result<(&'a RopeKernels, DeviceRotation), RopeError> {
    let kernels = table.kernels.as_ref().ok_or_else(|| foreign(table, "cpu"))?;
    let (cos, sin) = (device_view(table, table.cos.as_view())?, device_view(table, table.sin.as_view())?);
    let pair_axis = device_view(table, table.pair_axis.as_view())?;
    let positions = device_view(table, at.indices.as_view())?;
    let rotation = DeviceRotation {
        cos: cos.pointer(),
        sin: sin.pointer(),
        positions: positions.pointer(),
        pair_axis: pair_axis.pointer(),
        tokens: at.tokens,
        rotary_dim: table.spec().rotary_dim(),
        pair_span: table.spec().pair_span(),
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
    unsafe { kernel.launch(grid(rotation.tokens), &args) }?;
    Ok(())
}

fn position_embeddings_gpu_kernel<T: Float>(
    kernel: &Kernel<PositionEmbeddingsArgs>,
    rotation: &DeviceRotation,
    (mut q, q_layout): (HipViewMut<'_, T>, &Layout),
    (mut k, k_layout): (HipViewMut<'_, T>, &Layout),
) -> Result<(), RopeError> {
    if q_layout.is_empty() && k_layout.is_empty() {
        return Ok(());
    }
    let args = PositionEmbeddingsArgs {
        q: q.pointer(),
        k: k.pointer(),
        cos: rotation.cos,
        sin: rotation.sin,
        positions: rotation.positions,
        pair_axis: rotation.pair_axis,
        q_token_stride: q_layout.token_stride,
        q_head_stride: q_layout.head_stride,
        k_token_stride: k_layout.token_stride,
        k_head_stride: k_layout.head_stride,
        tokens: rotation.tokens,
        q_heads: q_layout.heads,
        kv_heads: k_layout.heads,
        rotary_dim: rotation.rotary_dim,
        pair_span: rotation.pair_span,
    };
    // SAFETY: as in `rope_gpu_kernel`, for q and for k, which are distinct since both are borrowed for writing.
    unsafe { kernel.launch(grid(rotation.tokens), &args) }?;
    Ok(())
}

/// A block per token, up to the most that is useful.
fn grid(tokens: u32) -> Grid {
    Grid { blocks: [tokens.min(MAX_BLOCKS), 1, 1], threads: [BLOCK, 1, 1] }
}

fn device_view<'a, T: device_mem::Element>(
    table: &RopeTable,
    view: View<'a, T>,
) -> Result<HipView<'a, T>, RopeError> {
    match view {
        View::Hip(view) => Ok(view),
        View::Host(_) => Err(foreign(table, "cpu")),
    }
}

fn device_data<'a, T: Float>(
    table: &RopeTable,
    data: ViewMut<'a, T>,
) -> Result<HipViewMut<'a, T>, RopeError> {
    match data {
        ViewMut::Hip(view) => Ok(view),
        ViewMut::Host(_) => Err(foreign(table, "cpu")),
    }
}

fn foreign(table: &RopeTable, found: &str) -> RopeError {
    RopeError::Mem(MemError::ForeignDevice { left: table.device().to_string(), right: found.to_owned() })
}
