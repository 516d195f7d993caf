//! A norm and what it goes to, as the bodies of the operations that they are made of.

use device_mem::{MemError, Scratch, View, ViewMut};

use super::{add_rms_norm_host, linear_host, rms_norm_host, swiglu_host};
use crate::{Branch, Linear, NnError, Residual, RmsNorm};

/// `out = norm(rows) W^T + b` for each layer.
pub(crate) fn norm_linear_host<const LAYERS: usize>(
    rows: Residual<'_>,
    norm: &RmsNorm,
    layers: [(&Linear, ViewMut<'_, f32>); LAYERS],
) -> Result<(), NnError> {
    let on_cpu = layers.map(|(layer, out)| Some((layer.host()?, on_host_mut(out).ok()?)));
    if on_cpu.iter().any(Option::is_none) {
        return Err(foreign().into());
    }
    SCRATCH.lend(|room| {
        linear_host(normed(rows, norm, &mut room.normed)?, on_cpu);
        Ok(())
    })
}

/// `out = silu(gate) * up` for `[gate; up] = norm(rows) W^T + b`.
pub(crate) fn norm_swiglu_host(
    rows: Residual<'_>,
    norm: &RmsNorm,
    gate_up: &Linear,
    out: ViewMut<'_, f32>,
) -> Result<(), NnError> {
    let out = on_host_mut(out)?;
    let layer = gate_up.host().ok_or_else(foreign)?;
    SCRATCH.lend(|Room { normed: room, products }| {
        let normed = normed(rows, norm, room)?;
        products.resize(2 * out.len(), 0.0);
        linear_host(normed, [Some((layer, &mut products[..]))]);
        swiglu_host(products, gate_up.out_features / 2, out);
        Ok(())
    })
}

/// What a call works in.
#[derive(Default)]
struct Room {
    /// `[tokens, hidden]`
    normed: Vec<f32>,
    /// `[tokens, 2 * ff]`
    products: Vec<f32>,
}

static SCRATCH: Scratch<Room> = Scratch::new();

/// The normed rows; writes their sum with the branch where there is one.
fn normed<'a>(rows: Residual<'_>, norm: &RmsNorm, normed: &'a mut Vec<f32>) -> Result<&'a [f32], MemError> {
    let x = on_host(rows.x)?;
    let host_norm = norm.host().ok_or_else(foreign)?;
    normed.resize(x.len(), 0.0);
    match rows.branch {
        Some(Branch { rows, norm: branch_norm, sum }) => {
            let (branch, sum) = (on_host(rows)?, on_host_mut(sum)?);
            sum.copy_from_slice(x);
            add_rms_norm_host(sum, branch, branch_norm.and_then(RmsNorm::host), host_norm, normed);
        }
        None => rms_norm_host(x, host_norm, normed),
    }
    Ok(normed)
}

fn on_host(view: View<'_, f32>) -> Result<&[f32], MemError> {
    match view {
        View::Host(values) => Ok(values),
        View::Hip(_) => Err(foreign()),
    }
}

fn on_host_mut(view: ViewMut<'_, f32>) -> Result<&mut [f32], MemError> {
    match view {
        ViewMut::Host(values) => Ok(values),
        ViewMut::Hip(_) => Err(foreign()),
    }
}

/// The callers compared the devices, so this tells of an operand that they forgot.
fn foreign() -> MemError {
    MemError::ForeignDevice { left: "cpu".to_owned(), right: "hip".to_owned() }
}
