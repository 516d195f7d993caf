use std::cmp::Ordering;

use crate::sampling::{Draw, Rule};
use crate::{NO_TOKEN, NnError};
use device_mem::{Scratch, exp_nonpositive};

/// A token that can be drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    id: u32,
    logit: f32,
    /// Its probability, in units of `2^-40` of the most likely token's; at least 1.
    weight: u64,
}

/// The most likely token of each row of `logits` `[rows, vocab]`, or [`NO_TOKEN`].
pub(crate) fn argmax_host(logits: &[f32], vocab: usize, tokens: &mut [u32]) {
    for (row, token) in logits.chunks_exact(vocab).zip(tokens) {
        *token = first_maximum(row).map_or(NO_TOKEN, |(id, _)| id);
    }
}

/// A token for each row of `logits` `[rows, vocab]`, or [`NO_TOKEN`]. The draw of a row that gets one is used up.
pub(crate) fn sample_host(
    logits: &[f32],
    vocab: usize,
    rule: Rule,
    draws: &mut [[u32; 4]],
    tokens: &mut [u32],
) {
    static SCRATCH: Scratch<Vec<Candidate>> = Scratch::new();
    SCRATCH.lend(|candidates| {
        for ((row, state), token) in logits.chunks_exact(vocab).zip(draws).zip(tokens) {
            let draw = Draw::from_words(*state);
            match choose(row, rule, draw.random(), candidates) {
                Ok(id) => {
                    *token = id;
                    *state = draw.next().to_words();
                }
                Err(_) => *token = NO_TOKEN,
            }
        }
    });
}

/// The most likely token, the first of equals, and its logit.
pub(crate) fn first_maximum(logits: &[f32]) -> Result<(u32, f32), NnError> {
    let unusable = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    if let Some(id) = logits.iter().position(unusable) {
        return Err(NnError::Logit { id, found: logits[id] });
    }
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in (0..).zip(logits) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    if best.1 == f32::NEG_INFINITY {
        return Err(NnError::NoCandidate { vocab: logits.len() });
    }
    Ok(best)
}

/// The token that the random number `random` chooses, uniform in `0..2^64`; the steps are [`Sampler`](crate::Sampler)'s.
/// There are less than `2^24` logits. `candidates` is room to work in.
pub(crate) fn choose(
    logits: &[f32],
    rule: Rule,
    random: u64,
    candidates: &mut Vec<Candidate>,
) -> Result<u32, NnError> {
    let (_, largest) = first_maximum(logits)?;
    candidates.clear();
    candidates.extend((0..).zip(logits).filter_map(|(id, &logit)| {
        let weight = weight((0.5 * logit - 0.5 * largest) * rule.scale);
        (weight > 0).then_some(Candidate { id, logit, weight })
    }));
    let mut ranking = Ranking { candidates, sorted: 0 };
    let mut mass = mass(ranking.candidates);
    let top_k = rule.top_k as usize;
    if top_k < ranking.candidates.len() {
        ranking.sort_to(top_k);
        mass = self::mass(&ranking.candidates[..top_k]);
    }
    (_, mass) = ranking.reaching(product_high(mass, rule.share, u64::MAX).max(1));
    let (id, _) = ranking.reaching(product_high(mass, random, 0) + 1);
    Ok(id)
}

/// `e^x` in units of `2^-40`, rounded down.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^40, rounded down")]
fn weight(x: f32) -> u64 {
    const UNITS: f32 = (1_u64 << 40) as f32;
    (exp_nonpositive(x) * UNITS) as u64
}

/// The sum of the weights, which is below `2^64`.
fn mass(candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

/// The upper 64 bits of `a * b + c`.
fn product_high(a: u64, b: u64, c: u64) -> u64 {
    ((u128::from(a) * u128::from(b) + u128::from(c)) >> 64) as u64
}

/// Candidates, the most likely ones in order in front.
struct Ranking<'a> {
    candidates: &'a mut [Candidate],
    sorted: usize,
}

impl Ranking<'_> {
    /// Puts the `len` most likely candidates in order.
    fn sort_to(&mut self, len: usize) {
        let rest = &mut self.candidates[self.sorted..];
        let portion = len.saturating_sub(self.sorted);
        if portion < rest.len() {
            rest.select_nth_unstable_by(portion, by_likelihood);
        }
        rest[..portion].sort_unstable_by(by_likelihood);
        self.sorted = self.sorted.max(len);
    }

    /// The first candidate at which the sum of the weights is at least `limit`, and that sum; the sum of all is. They are
    /// sorted in growing portions, since mostly a small part of the vocabulary decides.
    fn reaching(&mut self, limit: u64) -> (u32, u64) {
        const FIRST_PORTION: usize = 256;
        let (mut id, mut mass) = (NO_TOKEN, 0);
        for index in 0..self.candidates.len() {
            if index == self.sorted {
                self.sort_to((4 * self.sorted).max(FIRST_PORTION).min(self.candidates.len()));
            }
            id = self.candidates[index].id;
            mass += self.candidates[index].weight;
            if mass >= limit {
                break;
            }
        }
        (id, mass)
    }
}

/// Descending logits; of equals the lower id first.
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    // No logit is NaN, and zeros of either sign are equal, as they are to the greedy choice.
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SamplerConfig;

    fn rule(temperature: f32, top_k: u32, top_p: f32) -> Rule {
        Rule::of(&SamplerConfig { temperature, top_k, top_p, seed: 0 })
    }

    #[test]
    fn weights_are_within_their_bound() {
        let units = 2.0_f64.powi(40);
        let mut worst = 0.0_f64;
        for temperature in [0.1_f32, 0.7, 1.0, 3.0, 1e30] {
            for (seed, spread) in [(1, 0.1_f32), (2, 3.0), (3, 20.0), (4, 3e30)] {
                let logits = parity::uniform::<f32>(seed, 2000).into_iter().map(|logit| logit * spread);
                for logit in logits.filter(|&logit| logit <= 0.7 * spread) {
                    let largest = 0.7 * spread;
                    let x = (f64::from(logit) - f64::from(largest)) / f64::from(temperature);
                    let scaled = (0.5 * logit - 0.5 * largest) * rule(temperature, 0, 1.0).scale;
                    let (exact, found) = (units * x.exp(), weight(scaled) as f64);
                    let bound = exact * (4.0 * x.abs() + 3.0) * 2.0_f64.powi(-24);
                    assert!((exact - found).abs() <= bound + 1.0, "{temperature} {x}: {exact} {found}");
                    worst = worst.max((exact - found).abs() / (bound + 1.0));
                }
            }
        }
        assert!(worst > 0.1, "the bound is far from what happens: {worst}");
    }

    #[test]
    fn weights_end_at_one_unit() {
        assert_eq!([weight(0.0), weight(-0.0)], [1 << 40; 2]);
        // 2^-40 is e^-27.7259.
        assert_eq!([weight(-27.72), weight(-27.73), weight(f32::NEG_INFINITY)], [1, 0, 0]);
    }

    #[test]
    fn limits_are_met_exactly() {
        // Of four equally likely tokens, the quarter that a random number lies in is drawn, of those that are left.
        let chosen =
            |rule: Rule, quarter: u64| choose(&[2.5; 4], rule, (quarter << 62) | 5, &mut Vec::new()).unwrap();
        let all = |rule: Rule| [0, 1, 2, 3].map(|quarter| chosen(rule, quarter));
        assert_eq!(all(rule(1.0, 0, 1.0)), [0, 1, 2, 3]);
        assert_eq!(all(rule(1.0, 2, 1.0)), [0, 0, 1, 1]);
        assert_eq!(all(rule(1.0, 0, 0.5)), [0, 0, 1, 1]);
        assert_eq!(all(rule(1.0, 0, 0.5_f32.next_up())), [0, 0, 1, 2]);
        assert_eq!(all(rule(1.0, 3, 0.34)), [0, 0, 1, 1]);
        assert_eq!(all(rule(1.0, 0, f32::MIN_POSITIVE)), [0; 4]);
        let last = choose(&[2.5; 4], rule(1.0, 0, 1.0), u64::MAX, &mut Vec::new()).unwrap();
        assert_eq!(last, 3);
    }

    #[test]
    fn rankings_in_portions_are_those_of_a_sort() {
        let logits = parity::uniform::<f32>(5, 3000);
        let mut candidates = Vec::from_iter((0..).zip(&logits).map(|(id, logit)| Candidate {
            id,
            logit: logit.abs(),
            weight: 1,
        }));
        let mut sorted = candidates.clone();
        sorted.sort_by(by_likelihood);
        let mut ranking = Ranking { candidates: &mut candidates, sorted: 0 };
        for limit in [1_u16, 2, 255, 256, 257, 700, 1024, 1025, 3000] {
            let expected = (sorted[usize::from(limit) - 1].id, u64::from(limit));
            assert_eq!(ranking.reaching(u64::from(limit)), expected);
        }
    }
}
