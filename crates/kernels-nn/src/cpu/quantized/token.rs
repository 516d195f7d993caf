//! Tokens rounded to 8 bits.

use device_mem::{Body, Isa, Scratch};

/// Elements that share a scale.
pub(super) const GROUP: usize = 32;
/// The highest level.
const MOST: f32 = 127.0;
/// `1.5 * 2^23`: adding it rounds to the nearest whole number, which the low byte of the sum then holds.
const WHOLE: f32 = 12_582_912.0;
/// Elements of a group that are compared side by side.
const LANES: usize = 16;

/// Some tokens `[tokens, in_features]`, each group of 32 elements as `scale * level`.
///
/// A level is within half a unit of `x / scale`, `scale` being the largest magnitude of the group, divided by 127. A group
/// that holds NaN or infinity has NaN for a scale.
#[derive(Default)]
pub(in crate::cpu) struct Tokens {
    /// `[tokens, in_features]`
    levels: Vec<[i8; GROUP]>,
    scales: Vec<f32>,
    /// The sum of each group's levels.
    sums: Vec<f32>,
    /// `[tokens, groups / 4]`
    quads: Vec<Quad>,
    /// Groups of a token.
    groups: usize,
}

/// Groups whose levels stand side by side for weights with two levels in a byte.
pub(super) const QUAD: usize = 4;

/// The levels of four groups, as bytes hold those of a weight that they meet: the first half of a group, then the second.
#[derive(Clone, Copy)]
pub(super) struct Quad {
    /// The first 16 of each group, then the last 16, two groups' side by side.
    pub(super) levels: [[[i8; GROUP]; QUAD / 2]; 2],
    /// What a lane's products with levels of 8 come to, negated: lane `4 g + l` has elements `4 l` to `4 l + 3` of both halves of
    /// group `g`.
    pub(super) starts: [i32; LANES],
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) levels: &'a [[i8; GROUP]],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [f32],
    /// Of whole fours of groups.
    pub(super) quads: &'a [Quad],
}

/// A group of a token.
pub(super) struct Part<'a> {
    pub(super) levels: &'a [i8; GROUP],
    pub(super) scale: f32,
}

static SCRATCH: Scratch<Tokens> = Scratch::new();

impl Tokens {
    /// Rounds `x` `[tokens, in_features]`, rows of whole groups, and lends them to `run`.
    pub(in crate::cpu) fn with<R>(
        isa: Isa,
        x: &[f32],
        in_features: usize,
        run: impl FnOnce(&Tokens) -> R,
    ) -> R {
        SCRATCH.lend(|tokens| {
            tokens.groups = in_features / GROUP;
            isa.run(Round { x, tokens });
            run(tokens)
        })
    }

    pub(super) fn get(&self, token: usize) -> Token<'_> {
        let groups = token * self.groups..(token + 1) * self.groups;
        let quads = self.groups / QUAD;
        Token {
            levels: &self.levels[groups.clone()],
            scales: &self.scales[groups.clone()],
            sums: &self.sums[groups],
            quads: &self.quads[token * quads..(token + 1) * quads],
        }
    }
}

impl<'a> Token<'a> {
    pub(super) fn groups(self) -> impl Iterator<Item = Part<'a>> {
        self.levels.iter().zip(self.scales).map(|(levels, &scale)| Part { levels, scale })
    }
}

struct Round<'a> {
    x: &'a [f32],
    tokens: &'a mut Tokens,
}

impl Body for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Tokens { levels, scales, sums, quads, groups: token_groups } = self.tokens;
        let (groups, _) = self.x.as_chunks::<GROUP>();
        levels.resize(groups.len(), [0; GROUP]);
        scales.resize(groups.len(), 0.0);
        sums.resize(groups.len(), 0.0);
        for (index, x) in groups.iter().enumerate() {
            (levels[index], scales[index]) = round(x);
            sums[index] = levels[index].iter().map(|&level| i32::from(level)).sum::<i32>() as f32;
        }
        quads.clear();
        let tokens = levels.chunks_exact((*token_groups).max(1));
        quads.extend(tokens.flat_map(|levels| levels.as_chunks::<QUAD>().0).map(quad));
    }
}

/// Four groups side by side.
#[inline(always)]
fn quad(groups: &[[i8; GROUP]; QUAD]) -> Quad {
    let mut quad = Quad { levels: [[[0; GROUP]; QUAD / 2]; 2], starts: [0; LANES] };
    for (half, of_half) in quad.levels.iter_mut().enumerate() {
        for (levels, group) in of_half.as_flattened_mut().chunks_exact_mut(GROUP / 2).zip(groups) {
            levels.copy_from_slice(&group[half * GROUP / 2..][..GROUP / 2]);
        }
        for (start, fours) in quad.starts.iter_mut().zip(of_half.as_flattened().as_chunks::<4>().0) {
            *start -= 8 * fours.iter().map(|&level| i32::from(level)).sum::<i32>();
        }
    }
    quad
}

/// The levels of a group, and their scale.
#[inline(always)]
pub(super) fn round(x: &[f32; GROUP]) -> ([i8; GROUP], f32) {
    let mut largest = [0.0_f32; LANES];
    // 0 where all are finite, else NaN.
    let mut nothing = [0.0_f32; LANES];
    for x in x.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            largest[lane] = larger(largest[lane], x[lane].abs());
            nothing[lane] += x[lane] * 0.0;
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            largest[lane] = larger(largest[lane], largest[lane + half]);
            nothing[lane] += nothing[lane + half];
        }
        half /= 2;
    }
    let scale = largest[0] / MOST;
    let inverse = if scale > 0.0 { MOST / largest[0] } else { 0.0 };
    let mut levels = [0; GROUP];
    for (level, x) in levels.iter_mut().zip(x) {
        // The inverse of a subnormal scale may be infinite, and NaN times 0, which becomes the least.
        let bounded = smaller(larger(-MOST, x * inverse), MOST);
        [*level, ..] = (bounded + WHOLE).to_bits().to_le_bytes().map(u8::cast_signed);
    }
    (levels, scale + nothing[0])
}

/// The larger number; NaN is none.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The smaller number; NaN is none.
#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_nearest_and_what_is_not_finite_spoils_its_group_alone() {
        let mut x = parity::uniform::<f32>(1, 4 * GROUP);
        x[GROUP] = f32::NAN;
        x[2 * GROUP + 3] = f32::NEG_INFINITY;
        for isa in Isa::available() {
            Tokens::with(isa, &x, 4 * GROUP, |tokens| {
                let token = tokens.get(0);
                assert!(token.scales[1].is_nan() && token.scales[2].is_nan());
                for group in [0, 3] {
                    let scale = token.scales[group];
                    for (x, &level) in x[group * GROUP..].iter().zip(&token.levels[group]) {
                        let miss = (f64::from(*x) - f64::from(scale) * f64::from(level)).abs();
                        assert!(miss <= f64::from(scale) * 0.500_1, "{x} {scale} {level}");
                    }
                    assert!(token.levels[group].iter().any(|level| level.abs() == 127));
                    let sum: i32 = token.levels[group].iter().map(|&level| i32::from(level)).sum();
                    assert_eq!(token.sums[group], sum as f32);
                }
            });
        }
    }

    #[test]
    fn zeros_and_the_least_numbers_have_levels() {
        for value in [0.0, -0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX] {
            for isa in Isa::available() {
                Tokens::with(isa, &[value; GROUP], GROUP, |tokens| {
                    let token = tokens.get(0);
                    let back = f64::from(token.scales[0]) * f64::from(token.levels[0][0]);
                    let value = f64::from(value);
                    assert!((back - value).abs() <= value.abs() * 1e-6 + 1e-43, "{value} {back}");
                });
            }
        }
    }
}
