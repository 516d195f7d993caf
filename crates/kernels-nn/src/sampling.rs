use std::cmp::Ordering;

use crate::philox::uniform;
use crate::{NO_TOKEN, NnError};

/// How the next token is chosen. The default is greedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Logits are divided by it; finite, at least 0. 0 is greedy: the most likely token, whatever the other fields say.
    pub temperature: f32,
    /// Only this many most likely tokens are kept; 0 keeps all.
    pub top_k: u32,
    /// Of those only the fewest most likely ones are kept whose probabilities add up to at least this; above 0, at
    /// most 1. 1 keeps all.
    pub top_p: f32,
    /// The same seed chooses the same tokens from the same logits.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> SamplerConfig {
        SamplerConfig { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

/// Chooses one token after the other.
///
/// Temperature, top-k and top-p apply in this order, as in transformers; probabilities are f64. Of equally likely
/// tokens the one with the lower id comes first, so top-k keeps exactly k. The random number of a step is a function
/// of seed and step alone (Philox4x32-10), so a run can be repeated on any device.
///
/// ```
/// use kernels_nn::{Sampler, SamplerConfig};
///
/// # fn main() -> Result<(), kernels_nn::NnError> {
/// let config = SamplerConfig { temperature: 0.8, top_k: 2, top_p: 1.0, seed: 42 };
/// let logits = [1.0, 3.0, 2.5, -4.0];
/// let (mut first, mut second) = (Sampler::new(config)?, Sampler::new(config)?);
/// for _ in 0..100 {
///     let token = first.sample(&logits)?;
///     assert!(token == 1 || token == 2);
///     assert_eq!(token, second.sample(&logits)?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    step: u64,
    /// Kept for its capacity.
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
    /// Probability, up to a common factor.
    weight: f64,
}

impl Sampler {
    /// A sampler at step 0.
    ///
    /// # Errors
    /// [`NnError::Temperature`], [`NnError::TopP`].
    pub fn new(config: SamplerConfig) -> Result<Sampler, NnError> {
        let SamplerConfig { temperature, top_p, .. } = config;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(NnError::Temperature { found: temperature });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(NnError::TopP { found: top_p });
        }
        Ok(Sampler { config, step: 0, candidates: Vec::new() })
    }

    /// What the sampler was made from.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Tokens chosen so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The token chosen from `logits` `[vocab]`. A logit of `-inf` excludes its token.
    ///
    /// # Errors
    /// [`NnError::Logit`] for NaN or `+inf`, [`NnError::NoCandidate`] when no logit is above `-inf`,
    /// [`NnError::VocabTooLarge`]. The step is then as it was.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, NnError> {
        let best = first_maximum(logits)?;
        let token = if self.config.temperature == 0.0 { best.id } else { self.draw(logits, best) };
        self.step += 1;
        Ok(token)
    }

    fn draw(&mut self, logits: &[f32], best: Candidate) -> u32 {
        let temperature = f64::from(self.config.temperature);
        self.candidates.clear();
        self.candidates.extend((0_u32..).zip(logits).filter(|&(_, &logit)| logit > f32::NEG_INFINITY).map(
            |(id, &logit)| {
                let weight = ((f64::from(logit) - f64::from(best.logit)) / temperature).exp();
                Candidate { id, logit, weight }
            },
        ));
        keep_most_likely(&mut self.candidates, self.config.top_k);
        if self.config.top_p < 1.0 {
            keep_nucleus(&mut self.candidates, f64::from(self.config.top_p));
        }
        let mass: f64 = self.candidates.iter().map(|candidate| candidate.weight).sum();
        let mut left = uniform(self.config.seed, self.step) * mass;
        for candidate in &self.candidates {
            if left < candidate.weight {
                return candidate.id;
            }
            left -= candidate.weight;
        }
        // Rounding can leave a trace of the mass behind the last token.
        self.candidates
            .iter()
            .rfind(|candidate| candidate.weight > 0.0)
            .map_or(best.id, |candidate| candidate.id)
    }
}

/// The most likely token of each row of `logits` `[rows, vocab]`, or [`NO_TOKEN`].
pub(crate) fn argmax_host(logits: &[f32], vocab: usize, tokens: &mut [u32]) {
    for (row, token) in logits.chunks_exact(vocab).zip(tokens) {
        *token = first_maximum(row).map_or(NO_TOKEN, |best| best.id);
    }
}

/// The most likely token, the first of equals.
fn first_maximum(logits: &[f32]) -> Result<Candidate, NnError> {
    let vocab = logits.len();
    if u32::try_from(vocab).is_err() {
        return Err(NnError::VocabTooLarge { vocab });
    }
    let unusable = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    if let Some(id) = logits.iter().position(unusable) {
        return Err(NnError::Logit { id, found: logits[id] });
    }
    let mut best = Candidate { id: 0, logit: f32::NEG_INFINITY, weight: 1.0 };
    for (id, &logit) in (0..).zip(logits) {
        if logit > best.logit {
            best = Candidate { id, logit, ..best };
        }
    }
    if best.logit == f32::NEG_INFINITY {
        return Err(NnError::NoCandidate { vocab });
    }
    Ok(best)
}

/// Descending logits; of equals the lower id first.
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    // No logit is NaN, and zeros of either sign are equal, as they are to the greedy choice.
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// Keeps the `top_k` most likely candidates; 0 keeps all.
fn keep_most_likely(candidates: &mut Vec<Candidate>, top_k: u32) {
    let top_k = top_k as usize;
    if 0 < top_k && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k, by_likelihood);
        candidates.truncate(top_k);
        candidates.sort_unstable_by(by_likelihood);
    }
}

/// Keeps the fewest most likely candidates whose share of the mass is at least `top_p`. They are sorted in growing
/// portions, since the nucleus is mostly a small part of the vocabulary.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f64) {
    const FIRST_PORTION: usize = 256;
    let limit = top_p * candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
    let (mut sorted, mut mass) = (0, 0.0);
    while sorted < candidates.len() {
        let end = (4 * sorted).max(FIRST_PORTION).min(candidates.len());
        if end < candidates.len() {
            candidates[sorted..].select_nth_unstable_by(end - sorted, by_likelihood);
        }
        candidates[sorted..end].sort_unstable_by(by_likelihood);
        for index in sorted..end {
            mass += candidates[index].weight;
            if mass >= limit {
                candidates.truncate(index + 1);
                return;
            }
        }
        sorted = end;
    }
}
