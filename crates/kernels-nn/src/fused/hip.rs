//! The launches of fused operations, whose operands `super` has proven.

use device_mem::{Grid, Kernel, ViewMut};
use hsaco::KernelPointer;

use super::{Branch, MOST_LAYERS, MOST_WIDTH, Residual};
use crate::hip::{BLOCK, CHUNK, blocks, by_type, is_aligned, matrix, on_device, on_device_mut, optional};
use crate::kernels::{NORM_LINEAR, NormLinearArgs};
use crate::{Linear, NnError, RmsNorm, cpu};

/// Blocks of a token. Each norms the token's row for itself, which is as many instructions as multiplying 20 rows of 4096
/// elements, so that few blocks with several tiles each cost less than many with one.
const MAX_BLOCKS: usize = 144;

/// Rows of a matrix that a block takes at once, by the symbol: those that end in `any` are for rows of any width that start
/// anywhere, the others for rows of whole chunks that start aligned, of layers that have at least a tile of them.
const TILE_ROWS: [usize; 2] = [4, 16];

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

/// `out = norm(rows) W^T + b` for each layer.
pub(super) fn norm_linear_device<const LAYERS: usize>(
    rows: Residual<'_>,
    norm: &RmsNorm,
    layers: [(&Linear, ViewMut<'_, f32>); LAYERS],
) -> Result<(), NnError> {
    let types = layers.each_ref().map(|(layer, _)| layer.weight.weight_type());
    if let Some(&found) = types.iter().find(|&found| *found != types[0]) {
        return Err(NnError::WeightsDiffer { expected: types[0], found });
    }
    let mut products = [Product::NONE; MOST_LAYERS];
    let mut symbols = [""; 2];
    for (product, (layer, out)) in products.iter_mut().zip(layers) {
        *product = Product::new(layer, out, layer.out_features)?;
        let types = [
            ["norm_linear_f32_any", "norm_linear_f32"],
            ["norm_linear_f16_any", "norm_linear_f16"],
            ["norm_linear_bf16_any", "norm_linear_bf16"],
        ];
        symbols = by_type(&layer.weight, types)?;
    }
    launch(rows, norm, products, 1, symbols)
}

/// `out = silu(gate) * up` for `[gate; up] = norm(rows) W^T + b`.
pub(super) fn norm_swiglu_device(
    rows: Residual<'_>,
    norm: &RmsNorm,
    gate_up: &Linear,
    out: ViewMut<'_, f32>,
) -> Result<(), NnError> {
    let product = Product::new(gate_up, out, gate_up.out_features / 2)?;
    let types = [
        ["norm_swiglu_f32_any", "norm_swiglu_f32"],
        ["norm_swiglu_f16_any", "norm_swiglu_f16"],
        ["norm_swiglu_bf16_any", "norm_swiglu_bf16"],
    ];
    let symbols = by_type(&gate_up.weight, types)?;
    launch(rows, norm, [product, Product::NONE, Product::NONE], 2, symbols)
}

/// One launch for all products, each of whose columns takes `rows_of_column` rows of the weight.
fn launch(
    rows: Residual<'_>,
    norm: &RmsNorm,
    products: [Product; MOST_LAYERS],
    rows_of_column: usize,
    symbols: [&'static str; 2],
) -> Result<(), NnError> {
    let width = norm.hidden();
    let x = on_device(rows.x)?;
    let tokens = x.len() / width;
    if tokens == 0 {
        return Ok(());
    }
    let (branch, branch_norm, sum) = match rows.branch {
        Some(Branch { rows, norm, sum }) => (on_device(rows)?.pointer(), norm, on_device_mut(sum)?.pointer()),
        None => (KernelPointer(0), None, KernelPointer(0)),
    };
    let branch_weight = optional(branch_norm.map(|norm| &norm.weight))?;
    let norm_weight = on_device(norm.weight.as_view())?.pointer();
    let read = [x.pointer(), branch, branch_weight, norm_weight];
    let aligned = read.into_iter().chain(products.iter().map(|product| product.weight)).all(is_aligned);
    // Rows and their norm; with a branch, that, its norm, and the sum.
    let norms = norm.bytes() + branch_norm.map_or(0, RmsNorm::bytes);
    let rows_moved = if sum == KernelPointer(0) { 1 } else { 3 };
    let bytes = rows_moved * x.bytes() + norms + products.iter().map(|product| product.bytes).sum::<usize>();
    let present = products.iter().filter(|product| product.columns != 0);
    let [any_columns, columns] = TILE_ROWS.map(|rows| rows / rows_of_column);
    let wide =
        width.is_multiple_of(CHUNK) && aligned && present.clone().all(|product| product.columns >= columns);
    let [any_symbol, symbol] = symbols;
    let (symbol, columns) = if wide { (symbol, columns) } else { (any_symbol, any_columns) };
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
        branch_eps: branch_norm.map_or(0.0, |norm| norm.eps),
        eps: norm.eps,
    };
    // SAFETY: the kernel reads x[..tokens * width], norm_weight[..width] and, where not null, branch[..tokens * width] and
    // branch_weight[..width], and writes sum[..tokens * width] where not null: `Residual::tokens` proved them. Of each
    // product whose columns are not 0 it reads weight[..rows_of_column * columns * width] in the symbol's type, which the
    // callers' check of types makes that of all, and bias[..rows_of_column * columns], if not null, both proven by
    // `Linear::new`, and writes out[..tokens * columns], proven in `super`. Outputs are distinct and none is an input, all
    // being borrowed for writing. There is a block along x for each token, width is below 2^26, and the symbol is for any rows
    // unless they are whole chunks and aligned, and no layer has less than a tile. All of it is borrowed, on the norm's
    // device, and is freed by hipFree, which waits for the stream.
    unsafe {
        kernel.launch(
            Grid { blocks: [blocks(tokens), turns(tiles), 1], threads: [BLOCK, 1, 1] },
            bytes,
            &args,
        )
    }?;
    Ok(())
}

/// Blocks that take `tiles` in as many turns each.
fn turns(tiles: usize) -> u32 {
    blocks(tiles.div_ceil(tiles.div_ceil(MAX_BLOCKS).max(1)))
}
