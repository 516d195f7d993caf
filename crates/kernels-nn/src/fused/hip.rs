//! The launches of fused operations, whose operands `super` has proven.

use device_mem::{Grid, HipDevice, HipProperties, HipView, Kernel, ViewMut};
use hsaco::KernelPointer;

use super::{Branch, MOST_LAYERS, Residual};
use crate::hip::{
    BLOCK, CHUNK, ForBlocks, ForFloats, blocks, by_type, is_aligned, matrix, on_device, on_device_mut,
    optional,
};
use crate::kernels::{NORM_LINEAR, NormLinearArgs};
use crate::{Linear, MOST_WIDTH, NnError, RmsNorm, Weight, cpu};

/// Blocks of a token. Each norms the token's row for itself, which is as many instructions as multiplying 20 rows of 4096
/// elements, so that few blocks with several tiles each cost less than many with one.
const MAX_BLOCKS: usize = 144;
/// Blocks that a unit of an NVIDIA card runs at once: fewer leave its memory waiting, more norm the row in turns.
const BLOCKS_OF_UNIT: usize = 3;

/// A kernel, and the rows of a matrix that a block of it takes at once.
#[derive(Clone, Copy)]
struct Form {
    symbol: &'static str,
    tile_rows: usize,
}

/// The kernels for a type of weight: for rows of any width that start anywhere, and for rows of whole chunks that start aligned, of
/// layers that have at least a tile of them. Blocks have one for both.
type Forms = [Form; 2];

const fn floats(any: &'static str, wide: &'static str) -> Forms {
    [Form { symbol: any, tile_rows: 4 }, Form { symbol: wide, tile_rows: 16 }]
}

const fn of_blocks(symbol: &'static str) -> Forms {
    [Form { symbol, tile_rows: 16 }; 2]
}

const LINEARS: ForFloats<Forms> = [
    floats("norm_linear_f32_any", "norm_linear_f32"),
    floats("norm_linear_f16_any", "norm_linear_f16"),
    floats("norm_linear_bf16_any", "norm_linear_bf16"),
];
/// For products that are gated and not.
const OF_BLOCKS: ForBlocks<Forms> = [
    of_blocks("norm_linear_q8_0"),
    of_blocks("norm_linear_q4_0"),
    of_blocks("norm_linear_q5_0"),
    of_blocks("norm_linear_q5_1"),
    of_blocks("norm_linear_q4_k"),
    of_blocks("norm_linear_q5_k"),
    of_blocks("norm_linear_q6_k"),
];
const SWIGLUS: ForFloats<Forms> = [
    floats("norm_swiglu_f32_any", "norm_swiglu_f32"),
    floats("norm_swiglu_f16_any", "norm_swiglu_f16"),
    floats("norm_swiglu_bf16_any", "norm_swiglu_bf16"),
];

/// A layer's product as the kernel takes it; all zeros for none.
#[derive(Clone, Copy)]
struct Product {
    weight: KernelPointer,
    bias: KernelPointer,
    out: KernelPointer,
    /// Width of a row of `out`.
    columns: usize,
    /// Of weight, bias and out.
    bytes: usize,
}

impl Product {
    const NONE: Product = Product {
        weight: KernelPointer(0),
        bias: KernelPointer(0),
        out: KernelPointer(0),
        columns: 0,
        bytes: 0,
    };

    fn new(layer: &Linear, out: ViewMut<'_, f32>, columns: usize) -> Result<Product, NnError> {
        let mut out = on_device_mut(out)?;
        Ok(Product {
            weight: matrix(&layer.weight)?,
            bias: optional(layer.bias.as_ref())?,
            out: out.pointer(),
            columns,
            bytes: layer.bytes() + out.bytes(),
        })
    }
}

/// What is normed, and its norm, as the kernel takes them.
struct Rows<'a> {
    x: HipView<'a, f32>,
    tokens: usize,
    width: usize,
    branch: KernelPointer,
    branch_weight: KernelPointer,
    branch_eps: f32,
    /// Null where nothing is to be written.
    sum: KernelPointer,
    norm_weight: KernelPointer,
    eps: f32,
    /// Of the norms.
    norm_bytes: usize,
}

impl<'a> Rows<'a> {
    fn new(rows: Residual<'a>, norm: &RmsNorm) -> Result<Rows<'a>, NnError> {
        let x = on_device(rows.x)?;
        let (branch, branch_norm, sum) = match rows.branch {
            Some(Branch { rows, norm, sum }) => {
                (on_device(rows)?.pointer(), norm, on_device_mut(sum)?.pointer())
            }
            None => (KernelPointer(0), None, KernelPointer(0)),
        };
        Ok(Rows {
            x,
            tokens: x.len() / norm.hidden(),
            width: norm.hidden(),
            branch,
            branch_weight: optional(branch_norm.map(|norm| &norm.weight))?,
            branch_eps: branch_norm.map_or(0.0, |norm| norm.eps),
            sum,
            norm_weight: on_device(norm.weight.as_view())?.pointer(),
            eps: norm.eps,
            norm_bytes: norm.bytes() + branch_norm.map_or(0, RmsNorm::bytes),
        })
    }

    /// Of what is read and written.
    fn bytes(&self) -> usize {
        let rows = [self.branch, self.sum].into_iter().filter(|rows| *rows != KernelPointer(0)).count();
        (1 + rows) * self.x.bytes() + self.norm_bytes
    }

    fn are_aligned(&self) -> bool {
        [self.x.pointer(), self.branch, self.branch_weight, self.norm_weight].into_iter().all(is_aligned)
    }
}

/// `out = norm(rows) W^T + b` for each layer: a launch for each run of layers of one type, of which the first writes the sum.
pub(super) fn norm_linear_device<const LAYERS: usize>(
    rows: Residual<'_>,
    norm: &RmsNorm,
    layers: [(&Linear, ViewMut<'_, f32>); LAYERS],
) -> Result<(), NnError> {
    let mut rows = Rows::new(rows, norm)?;
    let weights = layers.each_ref().map(|(layer, _)| &layer.weight);
    let mut products = [Product::NONE; LAYERS];
    for (product, (layer, out)) in products.iter_mut().zip(layers) {
        *product = Product::new(layer, out, layer.out_features)?;
    }
    let mut rest = products.iter().zip(weights).peekable();
    while let Some((&first, weight)) = rest.next() {
        let mut run = [first, Product::NONE, Product::NONE];
        for place in &mut run[1..] {
            let same = |(_, next): &(_, &Weight)| next.weight_type() == weight.weight_type();
            *place = rest.next_if(same).map_or(Product::NONE, |(product, _)| *product);
        }
        launch(&rows, run, 1, by_type(weight, LINEARS, OF_BLOCKS))?;
        rows.sum = KernelPointer(0);
    }
    Ok(())
}

/// `out = silu(gate) * up` for `[gate; up] = norm(rows) W^T + b`.
pub(super) fn norm_swiglu_device(
    rows: Residual<'_>,
    norm: &RmsNorm,
    gate_up: &Linear,
    out: ViewMut<'_, f32>,
) -> Result<(), NnError> {
    let product = Product::new(gate_up, out, gate_up.out_features / 2)?;
    let forms = by_type(&gate_up.weight, SWIGLUS, OF_BLOCKS);
    launch(&Rows::new(rows, norm)?, [product, Product::NONE, Product::NONE], 2, forms)
}

/// One launch for products of weights of one type, each of whose columns takes `rows_of_column` rows of the weight.
fn launch(
    rows: &Rows<'_>,
    products: [Product; MOST_LAYERS],
    rows_of_column: usize,
    [any, wide]: Forms,
) -> Result<(), NnError> {
    let &Rows { x, tokens, width, branch, branch_weight, branch_eps, sum, norm_weight, eps, .. } = rows;
    if tokens == 0 {
        return Ok(());
    }
    let bytes = rows.bytes() + products.iter().map(|product| product.bytes).sum::<usize>();
    let present = products.iter().filter(|product| product.columns != 0);
    let aligned = rows.are_aligned() && products.iter().all(|product| is_aligned(product.weight));
    let is_wide = width.is_multiple_of(CHUNK)
        && aligned
        && present.clone().all(|product| product.columns >= wide.tile_rows / rows_of_column);
    let Form { symbol, tile_rows } = if is_wide { wide } else { any };
    let columns = tile_rows / rows_of_column;
    let tiles = present.map(|product| product.columns.div_ceil(columns)).sum();
    let kernel = Kernel::<NormLinearArgs>::load(x.device(), &NORM_LINEAR, symbol)?;
    let [first, second, third] = products;
    let args = NormLinearArgs {
        x: x.pointer(),
        branch,
        branch_weight,
        sum,
        norm_weight,
        weight_1: first.weight,
        bias_1: first.bias,
        out_1: first.out,
        out_features_1: first.columns as u64,
        weight_2: second.weight,
        bias_2: second.bias,
        out_2: second.out,
        out_features_2: second.columns as u64,
        weight_3: third.weight,
        bias_3: third.bias,
        out_3: third.out,
        out_features_3: third.columns as u64,
        inverse_width: cpu::inverse_width(width),
        in_features: u32::try_from(width).map_err(|_| NnError::RowTooWide { width, most: MOST_WIDTH })?,
        branch_eps,
        eps,
        gated: u32::from(rows_of_column == 2),
    };
    // SAFETY: the kernel reads x[..tokens * width], norm_weight[..width] and, where not null, branch[..tokens * width] and
    // branch_weight[..width], and writes sum[..tokens * width] where not null: `Residual::tokens` proved them. Of each
    // product whose columns are not 0 it reads weight[..rows_of_column * columns * width] in the symbol's type, which the
    // callers make that of all, whole blocks in each row if it is one, and bias[..rows_of_column * columns], if not null, both
    // proven by `Linear::new`, and writes out[..tokens * columns], proven in `super`. Outputs are distinct and none is an
    // input, all being borrowed for writing by the callers. There is a block along x for each token, width is below 2^25, and
    // a symbol for floats is for any rows unless they are whole chunks and aligned, and no layer has less than a tile; a
    // buffer of blocks starts where hipMalloc put it, aligned to 256 bytes. All of it is borrowed by the callers, on the
    // norm's device, and is freed by hipFree, which waits for the stream.
    unsafe {
        kernel.launch(
            Grid {
                blocks: [blocks(tokens), turns(tiles, most_blocks(x.device())), 1],
                threads: [BLOCK, 1, 1],
            },
            bytes,
            &args,
        )
    }?;
    Ok(())
}

fn most_blocks(device: &HipDevice) -> usize {
    let HipProperties { arch, units, .. } = device.properties();
    if arch.starts_with("sm_") { BLOCKS_OF_UNIT * (*units).max(1) as usize } else { MAX_BLOCKS }
}

/// Blocks that take `tiles` in as many turns each, at most `most`.
fn turns(tiles: usize, most: usize) -> u32 {
    blocks(tiles.div_ceil(tiles.div_ceil(most).max(1)))
}
