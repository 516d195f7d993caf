//! Softmax and weighted means of query rows side by side.

use device_mem::{Body, exp_nonpositive};

/// What each row has gathered: softmax with a running maximum (online normalisation, Milakov and Gimelshein), so that no row
/// of scores is ever held whole.
#[derive(Default)]
pub(super) struct Means {
    /// `[lanes]`
    pub(super) max: Vec<f32>,
    /// `[lanes]`: sums of `e^(score - max)`.
    pub(super) sum: Vec<f32>,
    /// `[head_dim, lanes]`: sums of `e^(score - max) * value`.
    pub(super) weighted: Vec<f32>,
    /// `[lanes]`: what the sums are rescaled by for the keys that come next.
    pub(super) rescale: Vec<f32>,
}

impl Means {
    /// Those of no keys.
    pub(super) fn reset(&mut self, lanes: usize, head_dim: usize) {
        for (values, len, value) in [
            (&mut self.max, lanes, f32::NEG_INFINITY),
            (&mut self.sum, lanes, 0.0),
            (&mut self.weighted, head_dim * lanes, 0.0),
            (&mut self.rescale, lanes, 1.0),
        ] {
            values.clear();
            values.resize(len, value);
        }
    }

    /// Adds those of the keys after.
    pub(super) fn merge(&mut self, after: &mut Means) {
        let lanes = self.max.len();
        for lane in 0..lanes {
            let max = larger(self.max[lane], after.max[lane]);
            let shares = [share(self.max[lane], max), share(after.max[lane], max)];
            self.max[lane] = max;
            self.sum[lane] = self.sum[lane] * shares[0] + after.sum[lane] * shares[1];
            [self.rescale[lane], after.rescale[lane]] = shares;
        }
        let shares = self.rescale.iter().zip(&after.rescale);
        let rows = self.weighted.chunks_exact_mut(lanes).zip(after.weighted.chunks_exact(lanes));
        for (row, after) in rows {
            for ((value, after), (share, share_after)) in row.iter_mut().zip(after).zip(shares.clone()) {
                *value = *value * share + after * share_after;
            }
        }
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

/// Makes weights `e^(score - max)` of the products of a block of keys, and adds them to the sums; the sums over values are to be
/// rescaled.
pub(super) struct Weigh<'a> {
    /// `[keys, lanes]`
    pub(super) weights: &'a mut [f32],
    pub(super) scale: f32,
    pub(super) means: &'a mut Means,
}

impl Body for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Weigh { weights, scale, means } = self;
        match means.max.len() % 16 {
            0 => weigh::<16>(weights, scale, means),
            _ => weigh::<8>(weights, scale, means),
        }
    }
}

/// Rows side by side `LANES` at a time. Counted loops over arrays are what the compiler turns into vector code.
#[inline(always)]
fn weigh<const LANES: usize>(weights: &mut [f32], scale: f32, means: &mut Means) {
    let lanes = means.max.len();
    for first in (0..lanes).step_by(LANES) {
        let (Some(before), Some(sums), Some(rescale)) = (
            means.max[first..].first_chunk_mut::<LANES>(),
            means.sum[first..].first_chunk_mut::<LANES>(),
            means.rescale[first..].first_chunk_mut::<LANES>(),
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
