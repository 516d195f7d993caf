//! Softmax and weighted means of query rows side by side.

use device_mem::{Body, exp_nonpositive};

/// What each row has gathered: softmax with a running maximum (online normalisation, Milakov and Gimelshein), so that no row
/// of scores is ever held whole.
pub(super) struct Means {
    /// `[lanes]`
    pub(super) max: Vec<f32>,
    /// `[lanes]`: sums of `e^(score - max)`.
    pub(super) sum: Vec<f32>,
    /// `[head_dim, lanes]`: sums of `e^(score - max) * value`.
    pub(super) weighted: Vec<f32>,
}

impl Means {
    /// Those of all keys, from those of the keys before and after.
    pub(super) fn merged(mut self, after: Means) -> Means {
        let lanes = self.max.len();
        let mut shares = vec![[0.0; 2]; lanes];
        for (lane, shares) in shares.iter_mut().enumerate() {
            let max = larger(self.max[lane], after.max[lane]);
            *shares = [share(self.max[lane], max), share(after.max[lane], max)];
            self.max[lane] = max;
            self.sum[lane] = self.sum[lane] * shares[0] + after.sum[lane] * shares[1];
        }
        let rows = self.weighted.chunks_exact_mut(lanes).zip(after.weighted.chunks_exact(lanes));
        for (row, after) in rows {
            for ((value, after), shares) in row.iter_mut().zip(after).zip(&shares) {
                *value = *value * shares[0] + after * shares[1];
            }
        }
        self
    }
}

/// The larger number; NaN is none.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// `e^(from - to)` for maxima, 1 where both are -inf.
#[inline(always)]
fn share(from: f32, to: f32) -> f32 {
    if from == to { 1.0 } else { exp_nonpositive(from - to) }
}

/// Makes weights `e^(score - max)` of the products of a block of keys, and adds them to the sums; gives what the sums over
/// values are rescaled by.
pub(super) struct Weigh<'a> {
    /// `[keys, lanes]`
    pub(super) weights: &'a mut [f32],
    pub(super) scale: f32,
    pub(super) means: &'a mut Means,
}

impl Body for Weigh<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let Weigh { weights, scale, means } = self;
        let lanes = means.max.len();
        let mut rescale = vec![1.0; lanes];
        match lanes % 16 {
            0 => weigh::<16>(weights, scale, means, &mut rescale),
            _ => weigh::<8>(weights, scale, means, &mut rescale),
        }
        rescale
    }
}

/// Rows side by side `LANES` at a time. Counted loops over arrays are what the compiler turns into vector code.
#[inline(always)]
fn weigh<const LANES: usize>(weights: &mut [f32], scale: f32, means: &mut Means, rescale: &mut [f32]) {
    let lanes = means.max.len();
    for first in (0..lanes).step_by(LANES) {
        let (Some(before), Some(sums), Some(rescale)) = (
            means.max[first..].first_chunk_mut::<LANES>(),
            means.sum[first..].first_chunk_mut::<LANES>(),
            rescale[first..].first_chunk_mut::<LANES>(),
        ) else {
            return;
        };
        let mut max = *before;
        for scores in weights.chunks_exact_mut(lanes) {
            let Some(scores) = scores[first..].first_chunk_mut::<LANES>() else { return };
            for lane in 0..LANES {
                scores[lane] *= scale;
                max[lane] = larger(max[lane], scores[lane]);
            }
        }
        // Scores of -inf weigh nothing, also while no other score was seen.
        let mut shift = max;
        for lane in 0..LANES {
            shift[lane] = if max[lane] == f32::NEG_INFINITY { 0.0 } else { max[lane] };
            rescale[lane] = share(before[lane], max[lane]);
        }
        let mut sum = *sums;
        for lane in 0..LANES {
            sum[lane] *= rescale[lane];
        }
        let mut added = [0.0; LANES];
        for weights in weights.chunks_exact_mut(lanes) {
            let Some(weights) = weights[first..].first_chunk_mut::<LANES>() else { return };
            for lane in 0..LANES {
                weights[lane] = exp_nonpositive(weights[lane] - shift[lane]);
                added[lane] += weights[lane];
            }
        }
        for lane in 0..LANES {
            sum[lane] += added[lane];
        }
        (*before, *sums) = (max, sum);
    }
}
