//! The launches, but those that multiply matrices, which are in `linear/hip.rs` and `fused/hip.rs`, and what they share.
//!
//! Each function takes operands whose lengths its caller in `lib.rs` has proven, and puts one launch into their device's
//! stream, or none where there is nothing to compute. The image was checked against the arguments' declaration when it
//! was loaded.

use device_mem::{DeviceBuffer, Element, Grid, HipView, HipViewMut, Kernel, MemError, View, ViewMut};
use hsaco::KernelPointer;

use crate::kernels::{
    ADD, ADD_RMS_NORM, ARGMAX, AddArgs, AddRmsNormArgs, ArgmaxArgs, EMBEDDING, EmbeddingArgs, RMS_NORM,
    RmsNormArgs, SAMPLE, SWIGLU, SampleArgs, SwigluArgs,
};
use crate::sampling::Rule;
use crate::{BlockType, Embedding, NnError, RmsNorm, Weight, cpu};

/// Threads of a block of every kernel that does not choose tokens.
pub(crate) const BLOCK: u32 = 256;
/// Threads of a block that chooses a token, one block being all that reads a row of logits.
const LOGIT_BLOCK: u32 = 1024;
/// Blocks take their work in turn, so a grid needs no more along x, and its threads stay below 2^32.
const MAX_BLOCKS: u32 = 1 << 20;
/// Blocks that keep the largest card busy. More would each begin anew what a block finds out once for all of its rows.
const ENOUGH_BLOCKS: u32 = 1 << 12;
/// The most blocks along y that every card takes.
const MAX_BLOCKS_Y: u32 = 65_535;

/// Elements that a thread takes of a row at once that is not multiplied with a matrix.
const QUAD: usize = 4;
/// Elements that a lane takes of a row of floats at once.
pub(crate) const CHUNK: usize = 8;
/// Elements that a lane takes of a row of blocks at once.
pub(crate) const PIECE: usize = 32;

/// `out[t] = table[ids[t]]`; a row of NaN for an id outside the table.
pub(crate) fn embed_device(
    embedding: &Embedding,
    ids: View<'_, u32>,
    out: ViewMut<'_, f32>,
) -> Result<(), NnError> {
    let (ids, mut out) = (on_device(ids)?, on_device_mut(out)?);
    let tokens = ids.len();
    if tokens == 0 {
        return Ok(());
    }
    let floats = ["embed_f32", "embed_f16", "embed_bf16"];
    let blocks =
        ["embed_q8_0", "embed_q4_0", "embed_q5_0", "embed_q5_1", "embed_q4_k", "embed_q5_k", "embed_q6_k"];
    let symbol = by_type(&embedding.weight, floats, blocks);
    // What a thread writes at once.
    let columns = match embedding.weight {
        Weight::Blocks(..) => embedding.hidden / PIECE,
        _ => embedding.hidden.div_ceil(QUAD),
    };
    let kernel = Kernel::<EmbeddingArgs>::load(ids.device(), &EMBEDDING, symbol)?;
    let row = embedding.weight.bytes() / embedding.vocab;
    let bytes = ids.bytes() + tokens * row + out.bytes();
    let args = EmbeddingArgs {
        table: matrix(&embedding.weight)?,
        ids: ids.pointer(),
        out: out.pointer(),
        tokens: tokens as u64,
        vocab: embedding.vocab as u64,
        hidden: embedding.hidden as u64,
    };
    // SAFETY: the kernel reads ids[..tokens], rows of the table below vocab, which `Embedding::new` proved to be there in
    // the symbol's type, and writes out[..tokens * hidden], which `embed` proved. All of it is borrowed, on the kernel's
    // device by `embed`, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(rows_and_columns(tokens, columns), bytes, &args) }?;
    Ok(())
}

/// What is for floats of a type: f32, f16, bf16.
pub(crate) type ForFloats<T> = [T; 3];
/// What is for blocks of a format, in the order of [`BlockType::ALL`].
pub(crate) type ForBlocks<T> = [T; 7];

/// What is for the weight's type.
pub(crate) fn by_type<T>(weight: &Weight, [f32, f16, bf16]: ForFloats<T>, blocks: ForBlocks<T>) -> T {
    match weight {
        Weight::F32(_) => f32,
        Weight::F16(_) => f16,
        Weight::BF16(_) => bf16,
        Weight::Blocks(block, _) => by_format(*block, blocks),
    }
}

pub(crate) fn by_format<T>(block: BlockType, [q8_0, q4_0, q5_0, q5_1, q4_k, q5_k, q6_k]: ForBlocks<T>) -> T {
    match block {
        BlockType::Q8_0 => q8_0,
        BlockType::Q4_0 => q4_0,
        BlockType::Q5_0 => q5_0,
        BlockType::Q5_1 => q5_1,
        BlockType::Q4_K => q4_k,
        BlockType::Q5_K => q5_k,
        BlockType::Q6_K => q6_k,
    }
}

/// Whether rows of whole chunks that start here may be read 16 bytes at a time.
pub(crate) fn is_aligned(pointer: KernelPointer) -> bool {
    pointer.0.is_multiple_of(16)
}

/// `out = norm(x)`.
pub(crate) fn rms_norm_device(
    x: View<'_, f32>,
    norm: &RmsNorm,
    out: ViewMut<'_, f32>,
) -> Result<(), NnError> {
    let (x, mut out) = (on_device(x)?, on_device_mut(out)?);
    let args = rms_norm_args(x.pointer(), out.pointer(), x.len(), norm)?;
    if args.rows == 0 {
        return Ok(());
    }
    let kernel = Kernel::<RmsNormArgs>::load(x.device(), &RMS_NORM, "rms_norm_f32")?;
    let bytes = x.bytes() + norm.bytes() + out.bytes();
    // SAFETY: the kernel reads x[..rows * width] and weight[..width] and writes out[..rows * width], as `rms_norm` proved;
    // all of it is borrowed, on the kernel's device, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(rows_in_turn(x.len() / norm.hidden()), bytes, &args) }?;
    Ok(())
}

/// `x = norm(x)`.
pub(crate) fn rms_norm_in_place_device(x: ViewMut<'_, f32>, norm: &RmsNorm) -> Result<(), NnError> {
    let mut x = on_device_mut(x)?;
    let args = rms_norm_args(x.pointer(), x.pointer(), x.len(), norm)?;
    if args.rows == 0 {
        return Ok(());
    }
    let kernel = Kernel::<RmsNormArgs>::load(x.device(), &RMS_NORM, "rms_norm_f32")?;
    let bytes = 2 * x.bytes() + norm.bytes();
    // SAFETY: the kernel reads weight[..width] and reads and writes x[..rows * width], as `rms_norm_in_place` proved; its
    // output may be its input. All of it is borrowed, on the kernel's device, and is freed by hipFree, which waits for the
    // stream.
    unsafe { kernel.launch(rows_in_turn(x.len() / norm.hidden()), bytes, &args) }?;
    Ok(())
}

fn rms_norm_args(
    x: KernelPointer,
    out: KernelPointer,
    len: usize,
    norm: &RmsNorm,
) -> Result<RmsNormArgs, MemError> {
    let width = norm.hidden();
    Ok(RmsNormArgs {
        x,
        weight: on_device(norm.weight.as_view())?.pointer(),
        out,
        rows: (len / width) as u64,
        width: width as u64,
        inverse_width: cpu::inverse_width(width),
        eps: norm.eps,
    })
}

/// `x += branch` or `x += branch_norm(branch)`, then `out = norm(x)`.
pub(crate) fn add_rms_norm_device(
    x: ViewMut<'_, f32>,
    branch: View<'_, f32>,
    branch_norm: Option<&RmsNorm>,
    norm: &RmsNorm,
    out: ViewMut<'_, f32>,
) -> Result<(), NnError> {
    let (mut x, branch, mut out) = (on_device_mut(x)?, on_device(branch)?, on_device_mut(out)?);
    let rows = branch.len() / norm.hidden();
    if rows == 0 {
        return Ok(());
    }
    let kernel = Kernel::<AddRmsNormArgs>::load(branch.device(), &ADD_RMS_NORM, "add_rms_norm_f32")?;
    let norms = norm.bytes() + branch_norm.map_or(0, RmsNorm::bytes);
    let bytes = 2 * x.bytes() + branch.bytes() + norms + out.bytes();
    let args = AddRmsNormArgs {
        x: x.pointer(),
        branch: branch.pointer(),
        branch_weight: optional(branch_norm.map(|norm| &norm.weight))?,
        weight: on_device(norm.weight.as_view())?.pointer(),
        out: out.pointer(),
        rows: rows as u64,
        width: norm.hidden() as u64,
        inverse_width: cpu::inverse_width(norm.hidden()),
        branch_eps: branch_norm.map_or(0.0, |norm| norm.eps),
        eps: norm.eps,
    };
    // SAFETY: the kernel reads branch[..rows * width], weight[..width] and branch_weight[..width], if not null, reads and
    // writes x[..rows * width] and writes out[..rows * width], as `add_rms_norm` proved. x and out are distinct, both
    // being borrowed for writing. All of it is on the kernel's device, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(rows_in_turn(rows), bytes, &args) }?;
    Ok(())
}

/// `out = silu(gate) * up`.
pub(crate) fn swiglu_device(gate_up: View<'_, f32>, ff: usize, out: ViewMut<'_, f32>) -> Result<(), NnError> {
    let (gate_up, mut out) = (on_device(gate_up)?, on_device_mut(out)?);
    let tokens = out.len() / ff;
    if tokens == 0 {
        return Ok(());
    }
    let kernel = Kernel::<SwigluArgs>::load(gate_up.device(), &SWIGLU, "swiglu_f32")?;
    let args =
        SwigluArgs { gate_up: gate_up.pointer(), out: out.pointer(), tokens: tokens as u64, ff: ff as u64 };
    // SAFETY: the kernel reads gate_up[..tokens * 2 * ff] and writes out[..tokens * ff], as `swiglu` proved; both are
    // borrowed, on the kernel's device, and are freed by hipFree, which waits for the stream.
    unsafe {
        kernel.launch(rows_and_columns(tokens, ff.div_ceil(QUAD)), gate_up.bytes() + out.bytes(), &args)
    }?;
    Ok(())
}

/// `x += y`, by the kernel for their type. Both are of the same length.
pub(crate) fn add_device<T: Element>(
    x: ViewMut<'_, T>,
    y: View<'_, T>,
    symbol: &'static str,
) -> Result<(), NnError> {
    let (mut x, y) = (on_device_mut(x)?, on_device(y)?);
    if y.len() == 0 {
        return Ok(());
    }
    let kernel = Kernel::<AddArgs>::load(y.device(), &ADD, symbol)?;
    let args = AddArgs { x: x.pointer(), y: y.pointer(), len: y.len() as u64 };
    // SAFETY: the kernel reads y[..len] and reads and writes x[..len], which the caller proved to be as long; both are borrowed,
    // on the kernel's device, and are freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(rows_and_columns(1, y.len().div_ceil(QUAD)), 2 * x.bytes() + y.bytes(), &args) }?;
    Ok(())
}

/// The first maximum of each row. `vocab` is at least 1.
pub(crate) fn argmax_device(
    logits: View<'_, f32>,
    vocab: u32,
    tokens: ViewMut<'_, u32>,
) -> Result<(), NnError> {
    let (logits, mut tokens) = (on_device(logits)?, on_device_mut(tokens)?);
    let rows = tokens.len();
    if rows == 0 {
        return Ok(());
    }
    let kernel = Kernel::<ArgmaxArgs>::load(logits.device(), &ARGMAX, "argmax_f32")?;
    let args =
        ArgmaxArgs { logits: logits.pointer(), tokens: tokens.pointer(), rows: rows as u64, width: vocab };
    // SAFETY: the kernel reads logits[..rows * vocab] and writes tokens[..rows], as `argmax` proved; both are borrowed, on
    // the kernel's device, and are freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(one_block_each(rows), logits.bytes() + tokens.bytes(), &args) }?;
    Ok(())
}

/// A draw from each row. `vocab` is at least 1 and less than `2^24`.
pub(crate) fn sample_device(
    logits: View<'_, f32>,
    vocab: u32,
    rule: Rule,
    draws: ViewMut<'_, u32>,
    tokens: ViewMut<'_, u32>,
) -> Result<(), NnError> {
    let (logits, mut draws, mut tokens) = (on_device(logits)?, on_device_mut(draws)?, on_device_mut(tokens)?);
    let rows = tokens.len();
    if rows == 0 {
        return Ok(());
    }
    let kernel = Kernel::<SampleArgs>::load(logits.device(), &SAMPLE, "sample_f32")?;
    // Of four words of a draw, all are read and one is written.
    let bytes = logits.bytes() + draws.bytes() + draws.bytes() / 4 + tokens.bytes();
    let args = SampleArgs {
        logits: logits.pointer(),
        draws: draws.pointer(),
        tokens: tokens.pointer(),
        rows: rows as u64,
        width: vocab,
        top_k: rule.top_k,
        share: rule.share,
        scale: rule.scale,
    };
    // SAFETY: the kernel reads logits[..rows * vocab], reads and writes draws[..rows * 4] and writes tokens[..rows], as
    // `sample` proved; draws and tokens are distinct, both being borrowed for writing. `Rule::of` gives a positive and
    // finite scale. All of it is on the kernel's device, and is freed by hipFree, which waits for the stream.
    unsafe { kernel.launch(one_block_each(rows), bytes, &args) }?;
    Ok(())
}

/// Blocks for `work` pieces, which they take in turn.
pub(crate) fn blocks(work: usize) -> u32 {
    u32::try_from(work).map_or(MAX_BLOCKS, |work| work.min(MAX_BLOCKS))
}

/// A block that chooses a token for each row of logits, or as many as there may be.
fn one_block_each(rows: usize) -> Grid {
    Grid { blocks: [blocks(rows), 1, 1], threads: [LOGIT_BLOCK, 1, 1] }
}

/// A block for each row, or as many as there may be.
fn rows_in_turn(rows: usize) -> Grid {
    Grid { blocks: [blocks(rows), 1, 1], threads: [BLOCK, 1, 1] }
}

/// Threads for the columns along x and blocks for the rows along y, each of which takes as many in turn.
fn rows_and_columns(rows: usize, columns: usize) -> Grid {
    let across = blocks(columns.div_ceil(BLOCK as usize));
    let turns = rows.div_ceil((ENOUGH_BLOCKS / across.max(1)).max(1) as usize).max(1);
    let down = blocks(rows.div_ceil(turns)).min(MAX_BLOCKS_Y);
    Grid { blocks: [across, down, 1], threads: [BLOCK, 1, 1] }
}

pub(crate) fn matrix(weight: &Weight) -> Result<KernelPointer, MemError> {
    match weight {
        Weight::F32(buffer) => Ok(on_device(buffer.as_view())?.pointer()),
        Weight::F16(buffer) => Ok(on_device(buffer.as_view())?.pointer()),
        Weight::BF16(buffer) => Ok(on_device(buffer.as_view())?.pointer()),
        Weight::Blocks(_, bytes) => Ok(on_device(bytes.as_view())?.pointer()),
    }
}

/// The address of a vector, or null.
pub(crate) fn optional(vector: Option<&DeviceBuffer<f32>>) -> Result<KernelPointer, MemError> {
    match vector {
        Some(vector) => Ok(on_device(vector.as_view())?.pointer()),
        None => Ok(KernelPointer(0)),
    }
}

pub(crate) fn on_device<T: Element>(view: View<'_, T>) -> Result<HipView<'_, T>, MemError> {
    match view {
        View::Hip(view) => Ok(view),
        View::Host(_) => Err(foreign()),
    }
}

pub(crate) fn on_device_mut<T: Element>(view: ViewMut<'_, T>) -> Result<HipViewMut<'_, T>, MemError> {
    match view {
        ViewMut::Hip(view) => Ok(view),
        ViewMut::Host(_) => Err(foreign()),
    }
}

/// The callers compared the devices, so this tells of an operand that they forgot.
fn foreign() -> MemError {
    MemError::ForeignDevice { left: "hip".to_owned(), right: "cpu".to_owned() }
}
