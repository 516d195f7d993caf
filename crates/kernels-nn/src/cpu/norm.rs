use device_mem::{Body, Isa};
use rayon::prelude::*;

use super::TASK_LEN;

/// Lanes of a sum of squares, as threads of the kernel's block.
const LANES: usize = 256;

/// The weight and epsilon of a norm, in host memory.
#[derive(Clone, Copy)]
pub(crate) struct HostNorm<'a> {
    /// `[width]`.
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
}

impl HostNorm<'_> {
    fn width(&self) -> usize {
        self.weight.len()
    }

    /// The factor of a row.
    #[inline(always)]
    fn scale(&self, row: &[f32]) -> f32 {
        inverse_rms(row, self.eps)
    }
}

/// Norms each row of `x` `[rows, width]`.
pub(crate) fn rms_norm_host(x: &[f32], norm: HostNorm<'_>, out: &mut [f32]) {
    let width = norm.width();
    let rows = x.par_chunks_exact(width).zip(out.par_chunks_exact_mut(width));
    let isa = Isa::best();
    rows.with_min_len(TASK_LEN.div_ceil(width)).for_each(|(x, out)| isa.run(Norm { x, norm, out }));
}

/// Norms each row of `x` `[rows, width]` in place.
pub(crate) fn rms_norm_in_place_host(x: &mut [f32], norm: HostNorm<'_>) {
    let width = norm.width();
    let rows = x.par_chunks_exact_mut(width).with_min_len(TASK_LEN.div_ceil(width));
    let isa = Isa::best();
    rows.for_each(|x| isa.run(NormInPlace { x, norm }));
}

/// `x += branch`, normed first where there is a norm for it; then `out = norm(x)`. All are `[rows, width]`.
pub(crate) fn add_rms_norm_host(
    x: &mut [f32],
    branch: &[f32],
    branch_norm: Option<HostNorm<'_>>,
    norm: HostNorm<'_>,
    out: &mut [f32],
) {
    let width = norm.width();
    let rows = x.par_chunks_exact_mut(width).zip(branch.par_chunks_exact(width));
    let rows = rows.zip(out.par_chunks_exact_mut(width));
    let isa = Isa::best();
    rows.with_min_len(TASK_LEN.div_ceil(width)).for_each(|((x, branch), out)| {
        isa.run(AddBranch { x, branch, norm: branch_norm });
        isa.run(Norm { x, norm, out });
    });
}

/// `out = norm(x)` of a row.
struct Norm<'a> {
    x: &'a [f32],
    norm: HostNorm<'a>,
    out: &'a mut [f32],
}

impl Body for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let scale = self.norm.scale(self.x);
        for (y, (value, weight)) in self.out.iter_mut().zip(self.x.iter().zip(self.norm.weight)) {
            *y = value * scale * weight;
        }
    }
}

/// `x = norm(x)` of a row.
struct NormInPlace<'a> {
    x: &'a mut [f32],
    norm: HostNorm<'a>,
}

impl Body for NormInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let scale = self.norm.scale(self.x);
        for (value, weight) in self.x.iter_mut().zip(self.norm.weight) {
            *value = *value * scale * weight;
        }
    }
}

/// `x += norm(branch)` of a row, or `x += branch`.
struct AddBranch<'a> {
    x: &'a mut [f32],
    branch: &'a [f32],
    norm: Option<HostNorm<'a>>,
}

impl Body for AddBranch<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let AddBranch { x, branch, norm } = self;
        let Some(norm) = norm else {
            return x.iter_mut().zip(branch).for_each(|(x, value)| *x += value);
        };
        let scale = norm.scale(branch);
        for (x, (value, weight)) in x.iter_mut().zip(branch.iter().zip(norm.weight)) {
            *x += value * scale * weight;
        }
    }
}

/// `1 / sqrt(mean(x^2) + eps)`, in f64, rounded once to f32. The order of the sum is that of
/// `kernels/include/rms_norm.h`; squares of f32 are exact in f64.
#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
#[inline(always)]
fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    inverse_root(sum_of_squares(row) * inverse_width(row.len()) + f64::from(eps)) as f32
}

/// `1 / width`, rounded once.
#[expect(clippy::cast_precision_loss, reason = "no row has 2^53 elements")]
#[inline(always)]
pub(crate) fn inverse_width(width: usize) -> f64 {
    1.0 / width as f64
}

/// Element `i` belongs to lane `i % LANES`, which adds in ascending order; the lanes are then added in halves.
#[inline(always)]
fn sum_of_squares(row: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    for chunk in row.chunks(LANES) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    // Lanes without elements are +0, and adding that changes nothing.
    let mut left = &mut lanes[..row.len().next_power_of_two().min(LANES)];
    while left.len() > 1 {
        let (low, high) = left.split_at_mut(left.len() / 2);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        left = low;
    }
    lanes[0]
}

/// `1 / sqrt(value)` within 3 units of `2^-53` of itself for a normal value: an estimate from the exponent, within
/// 0.035, and four steps of Newton's method, each operation rounded once. 0 for infinity, NaN for NaN.
#[inline(always)]
fn inverse_root(value: f64) -> f64 {
    let mut root = f64::from_bits(0x5fe6_eb50_c7b5_37a9_u64.wrapping_sub(value.to_bits() >> 1));
    let half = 0.5 * value;
    for _ in 0..4 {
        root *= 1.5 - half * root * root;
    }
    if value > 0.0 && value < f64::INFINITY { root } else { 1.0 / value.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_roots_are_within_three_units() {
        let (mut worst, mut value) = (0.0_f64, 1e-300);
        while value < 1e300 {
            let (root, exact) = (inverse_root(value), 1.0 / value.sqrt());
            worst = worst.max((root - exact).abs() / exact / 2.0_f64.powi(-53));
            value *= 1.000_73;
        }
        // The quotient itself is within 1.5 units.
        assert!(worst <= 4.0, "{worst}");
        assert_eq!((inverse_root(0.0), inverse_root(f64::INFINITY)), (f64::INFINITY, 0.0));
        assert!(inverse_root(f64::NAN).is_nan());
    }

    #[test]
    fn skipping_empty_lanes_changes_no_bit() {
        for len in [1, 2, 3, 100, 127, 128, 129, 255, 256, 257, 600] {
            let row = parity::uniform::<f32>(9, len);
            let mut padded = row.clone();
            padded.resize(len.next_multiple_of(LANES), 0.0);
            assert_eq!(sum_of_squares(&row).to_bits(), sum_of_squares(&padded).to_bits(), "{len}");
        }
    }
}
