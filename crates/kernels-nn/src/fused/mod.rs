//! A norm and the linear maps that take it, in one launch.

use device_mem::{Device, RanOn, View, ViewMut};

use crate::{Linear, MOST_WIDTH, NnError, RmsNorm, cpu, expect_rows, whole_rows};

#[expect(unsafe_code, reason = "launches, each with its proof")]
mod hip;

/// Linear maps that a call of [`norm_linear`] takes at most.
const MOST_LAYERS: usize = 3;
/// Tokens that a call takes at most.
const MOST_TOKENS: usize = 1 << 16;

/// The rows that [`norm_linear`] and [`norm_swiglu`] norm: `x`, or the residual connection of `x` and a branch.
#[derive(Debug)]
pub struct Residual<'a> {
    /// `[tokens, hidden]`.
    pub x: View<'a, f32>,
    /// What is added to `x` first. Where there is none, `x` itself is normed.
    pub branch: Option<Branch<'a>>,
}

/// What is added to the rows of a [`Residual`].
#[derive(Debug)]
pub struct Branch<'a> {
    /// `[tokens, hidden]`.
    pub rows: View<'a, f32>,
    /// What norms the branch before it is added, as in `glm4`.
    pub norm: Option<&'a RmsNorm>,
    /// `[tokens, hidden]`: where the sum goes, which is the `x` of the next [`Residual`]. It is not `x` itself, which every
    /// part of the launch reads.
    pub sum: ViewMut<'a, f32>,
}

impl Residual<'_> {
    /// The tokens, if all operands are `[tokens, hidden]` on the norm's device.
    fn tokens(&self, norm: &RmsNorm) -> Result<usize, NnError> {
        let (device, hidden) = (norm.weight.device(), norm.hidden());
        device.expect_same(&self.x.device())?;
        if let Some(Branch { rows, norm, sum }) = &self.branch {
            device.expect_same(&rows.device())?;
            device.expect_same(&sum.device())?;
            if let Some(norm) = norm {
                device.expect_same(&norm.weight.device())?;
                expect_width("branch_norm", hidden, norm)?;
            }
        }
        if hidden > MOST_WIDTH {
            return Err(NnError::RowTooWide { width: hidden, most: MOST_WIDTH });
        }
        let tokens = whole_rows("x", hidden, self.x.len())?;
        if tokens > MOST_TOKENS {
            return Err(NnError::TooManyTokens { tokens, most: MOST_TOKENS });
        }
        if let Some(Branch { rows, sum, .. }) = &self.branch {
            expect_rows("branch", tokens, hidden, rows.len())?;
            expect_rows("sum", tokens, hidden, sum.len())?;
        }
        Ok(tokens)
    }
}

fn expect_width(vector: &'static str, expected: usize, norm: &RmsNorm) -> Result<(), NnError> {
    if norm.hidden() == expected {
        return Ok(());
    }
    Err(NnError::VectorLength { vector, expected, found: norm.hidden() })
}

/// Linear maps of a normed residual connection: `sum = x + branch`, then `out = norm(sum) W^T + b` for one to three layers,
/// such as the projections to queries, keys and values, or the last one to logits. `x`, the branch and `sum` are
/// `[tokens, hidden]`, each `out` is `[tokens, out_features]`. A branch may be normed first, and there may be none: see
/// [`Residual`].
///
/// Every bit of `sum` and of the normed rows is that of [`rms_norm`](crate::rms_norm) and [`add`](crate::add). The product is
/// that of [`linear`](crate::linear) on the CPU. On a HIP device it has the order of a layer with less than 16384
/// `out_features`, whatever their number and that of tokens: in its bound `m = 8 ceil(hidden / 2048) + 9`, for a weight of blocks
/// `m = 32 ceil(hidden / 4096) + 8`. There it is one launch, or one for each run of layers whose weights have one type.
///
/// It is for few tokens, best for one: every block of the launch norms the row of one token for itself, and reads its rows of
/// the weights for that token alone.
///
/// # Errors
/// [`NnError::Ragged`], [`NnError::OperandLength`], [`NnError::VectorLength`] when a norm's width is not the layers',
/// [`NnError::TooManyTokens`] above `2^16`, [`NnError::RowTooWide`] from `2^25` on,
/// [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
///
/// ```
/// use device_mem::{Device, DeviceBuffer};
/// use kernels_nn::{Branch, Linear, Residual, RmsNorm, Weight, norm_linear};
///
/// # fn main() -> Result<(), kernels_nn::NnError> {
/// let on_cpu = |values: &[f32]| DeviceBuffer::from_host_vec(&Device::Cpu, values.to_vec());
/// let norm = RmsNorm::new(on_cpu(&[1.0, 1.0])?, 0.0)?;
/// let layer = Linear::new(Weight::F32(on_cpu(&[1.0, 2.0])?), None, 1, 2)?;
/// let (x, branch, mut sum, mut out) = (on_cpu(&[1.0, 1.0])?, on_cpu(&[2.0, 2.0])?, on_cpu(&[0.0; 2])?, on_cpu(&[0.0])?);
/// let branch = Branch { rows: branch.as_view(), norm: None, sum: sum.as_view_mut()? };
/// norm_linear(Residual { x: x.as_view(), branch: Some(branch) }, &norm, [(&layer, out.as_view_mut()?)])?;
/// assert_eq!((sum.to_host_vec()?, out.to_host_vec()?), (vec![3.0, 3.0], vec![3.0]));
/// # Ok(())
/// # }
/// ```
pub fn norm_linear<const LAYERS: usize>(
    rows: Residual<'_>,
    norm: &RmsNorm,
    layers: [(&Linear, ViewMut<'_, f32>); LAYERS],
) -> Result<RanOn, NnError> {
    const { assert!(1 <= LAYERS && LAYERS <= MOST_LAYERS, "one to three layers go into a launch") };
    let tokens = rows.tokens(norm)?;
    for (layer, out) in &layers {
        expect_layer(layer, norm)?;
        norm.weight.device().expect_same(&out.device())?;
        expect_rows("out", tokens, layer.out_features, out.len())?;
    }
    match norm.weight.device() {
        Device::Cpu => cpu::norm_linear_host(rows, norm, layers).map(|()| RanOn::Cpu),
        Device::Hip(_) => hip::norm_linear_device(rows, norm, layers).map(|()| RanOn::Hip),
    }
}

/// The first half of a gated MLP: `sum = x + branch`, then `out = silu(gate) * up` for
/// `[gate; up] = norm(sum) W^T + b`, the rows of W being those of the gates and then those that they gate: `gate_up` maps
/// `hidden` to `2 * ff`, `out` is `[tokens, ff]`.
///
/// It is [`norm_linear`], whose orders and bounds gate and up have, and then [`swiglu`](crate::swiglu) of their bits.
///
/// # Errors
/// Those of [`norm_linear`], and [`NnError::GateUp`] when `gate_up` has an odd number of rows.
pub fn norm_swiglu(
    rows: Residual<'_>,
    norm: &RmsNorm,
    gate_up: &Linear,
    out: ViewMut<'_, f32>,
) -> Result<RanOn, NnError> {
    let tokens = rows.tokens(norm)?;
    expect_layer(gate_up, norm)?;
    norm.weight.device().expect_same(&out.device())?;
    let out_features = gate_up.out_features;
    if !out_features.is_multiple_of(2) {
        return Err(NnError::GateUp { out_features });
    }
    expect_rows("out", tokens, out_features / 2, out.len())?;
    match norm.weight.device() {
        Device::Cpu => cpu::norm_swiglu_host(rows, norm, gate_up, out).map(|()| RanOn::Cpu),
        Device::Hip(_) => hip::norm_swiglu_device(rows, norm, gate_up, out).map(|()| RanOn::Hip),
    }
}

/// Fails unless the layer takes what the norm gives, on its device.
fn expect_layer(layer: &Linear, norm: &RmsNorm) -> Result<(), NnError> {
    norm.weight.device().expect_same(&layer.weight.device())?;
    expect_width("norm", layer.in_features, norm)
}
