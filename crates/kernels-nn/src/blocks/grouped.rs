//! The scales and levels of `Q4_K` and `Q5_K`: eight groups of 32 elements, each `scale * level - minimum`.
//!
//! Each group's scale and minimum are fitted by weighted least squares to levels from several trial scales; then all are
//! rounded to 6 bits below two f16, and the levels are chosen again for what the rounded ones stand for. The search is
//! that of ggml's `make_qkx2_quants`, sum for sum, so that its bits are.

use super::rounding::{level, nearest};
use super::scales::{GROUPS, PACKED, Pair, pack, put_half};

const GROUP: usize = 32;
pub(super) const LEN: usize = GROUPS * GROUP;
/// Two f16 and the packed pairs.
pub(super) const HEAD: usize = 4 + PACKED;

/// How far and how finely trial scales are searched.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// The highest level.
    pub(super) most: u8,
    /// What the first trial adds to the highest level.
    pub(super) first: f32,
    /// Trials after the first; each adds 0.1 more.
    pub(super) steps: u8,
}

/// Writes scales and pairs to a block's first bytes, and gives the levels.
pub(super) fn quantize(x: &[f32; LEN], search: Search, head: &mut [u8]) -> [u8; LEN] {
    let (groups, _) = x.as_chunks::<GROUP>();
    let mut levels = [[0; GROUP]; GROUPS];
    let mut fits = [Fit::default(); GROUPS];
    for ((fit, levels), group) in fits.iter_mut().zip(&mut levels).zip(groups) {
        *fit = Fit::search(group, &weights(group), search, levels);
    }

    let largest = |part: fn(&Fit) -> f32| fits.iter().map(part).fold(0.0, larger);
    let (scale, minimum) = (largest(|fit| fit.scale), largest(|fit| fit.minimum));
    let pairs = fits.map(|fit| Pair {
        scale: six_bits(per_largest(scale) * fit.scale),
        minimum: six_bits(per_largest(minimum) * fit.minimum),
    });
    let scale = put_half(head, 0, scale / SIX_BITS);
    let minimum = put_half(head, 2, minimum / SIX_BITS);
    head[4..HEAD].copy_from_slice(&pack(&pairs));

    for ((pair, levels), group) in pairs.iter().zip(&mut levels).zip(groups) {
        let (scale, minimum) = (scale * f32::from(pair.scale), minimum * f32::from(pair.minimum));
        if scale != 0.0 {
            *levels = group.map(|x| level((x + minimum) / scale, search.most));
        }
    }
    let mut flat = [0; LEN];
    flat.copy_from_slice(levels.as_flattened());
    flat
}

const SIX_BITS: f32 = 63.0;

fn larger(so_far: f32, value: f32) -> f32 {
    if value > so_far { value } else { so_far }
}

fn per_largest(largest: f32) -> f32 {
    if largest > 0.0 { SIX_BITS / largest } else { 0.0 }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ggml keeps the low byte")]
fn six_bits(x: f32) -> u8 {
    (nearest(x) as u8).min(63)
}

/// What an element's error counts: its magnitude and the group's root mean square.
fn weights(x: &[f32; GROUP]) -> [f32; GROUP] {
    let squares = x.iter().fold(0.0, |sum: f32, x| sum + x * x);
    let root_mean_square = (squares / GROUP as f32).sqrt();
    x.map(|x| root_mean_square + x.abs())
}

/// `scale * level - minimum`.
#[derive(Clone, Copy, Default)]
struct Fit {
    scale: f32,
    minimum: f32,
}

impl Fit {
    fn search(x: &[f32; GROUP], weights: &[f32; GROUP], search: Search, levels: &mut [u8; GROUP]) -> Fit {
        let (low, high) = x.iter().fold((x[0], x[0]), |(low, high), &x| {
            (if x < low { x } else { low }, if x > high { x } else { high })
        });
        let low = if low > 0.0 { 0.0 } else { low };
        if high == low {
            *levels = [0; GROUP];
            return Fit { scale: 0.0, minimum: -low };
        }
        let most = f32::from(search.most);
        let at = |inverse: f32, low: f32| x.map(|x| level(inverse * (x - low), search.most));

        let inverse = most / (high - low);
        let mut best = Fit { scale: 1.0 / inverse, minimum: -low };
        *levels = at(inverse, low);
        let mut least = best.error(x, weights, levels);
        let sums = Sums::of(x, weights);
        for step in 0..=search.steps {
            // The range begins at the best minimum so far.
            let low = -best.minimum;
            let trial = at((search.first + 0.1 * f32::from(step) + most) / (high - low), low);
            let Some(fit) = sums.fit(x, weights, &trial) else { continue };
            let error = fit.error(x, weights, &trial);
            if error < least {
                (best, least, *levels) = (fit, error, trial);
            }
        }
        best
    }

    /// The weighted sum of squared errors.
    fn error(self, x: &[f32; GROUP], weights: &[f32; GROUP], levels: &[u8; GROUP]) -> f32 {
        let terms = x.iter().zip(weights).zip(levels);
        terms.fold(0.0, |sum: f32, ((x, weight), &level)| {
            let miss = self.scale * f32::from(level) - self.minimum - x;
            sum + weight * (miss * miss)
        })
    }
}

/// The sums of a group that no trial changes.
struct Sums {
    weight: f32,
    x: f32,
}

impl Sums {
    fn of(x: &[f32; GROUP], weights: &[f32; GROUP]) -> Sums {
        let mut sums = Sums { weight: weights[0], x: weights[0] * x[0] };
        for (x, weight) in x.iter().zip(weights).skip(1) {
            sums.weight += weight;
            sums.x += weight * x;
        }
        sums
    }

    /// The least-squares scale and minimum for given levels, the minimum at least 0; `None` where they are not determined.
    fn fit(&self, x: &[f32; GROUP], weights: &[f32; GROUP], levels: &[u8; GROUP]) -> Option<Fit> {
        let (mut level_sum, mut square_sum, mut product_sum) = (0.0_f32, 0.0_f32, 0.0_f32);
        for ((x, weight), &level) in x.iter().zip(weights).zip(levels) {
            let level = f32::from(level);
            let weighted = weight * level;
            level_sum += weighted;
            square_sum += weighted * level;
            product_sum += weighted * x;
        }
        let determinant = self.weight * square_sum - level_sum * level_sum;
        // False for NaN too.
        if determinant > 0.0 {
            let scale = (self.weight * product_sum - self.x * level_sum) / determinant;
            let offset = (square_sum * self.x - level_sum * product_sum) / determinant;
            if offset > 0.0 {
                return Some(Fit { scale: product_sum / square_sum, minimum: -0.0 });
            }
            return Some(Fit { scale, minimum: -offset });
        }
        None
    }
}
