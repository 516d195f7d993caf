use crate::NnError;
use crate::cpu::{Candidate, choose, first_maximum};
use crate::philox::random_bits;

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

impl SamplerConfig {
    /// Whether the most likely token is taken.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Fails unless the fields can be used.
    pub(crate) fn check(&self) -> Result<(), NnError> {
        let &SamplerConfig { temperature, top_p, .. } = self;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(NnError::Temperature { found: temperature });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(NnError::TopP { found: top_p });
        }
        Ok(())
    }
}

/// Chooses one token after the other from logits in host memory; [`sample`](crate::sample) chooses the same tokens on
/// any device.
///
/// Temperature, top-k and top-p apply in this order, as in transformers. Of equally likely tokens the one with the lower
/// id comes first, so top-k keeps exactly k. The random number of a step is a function of seed and step alone
/// (Philox4x32-10), so a run can be repeated on any device.
///
/// # How a token is drawn
///
/// Probabilities are whole numbers, whose sums depend on no order:
///
/// 1. `x = (logit / 2 - largest / 2) * min(2 / temperature, f32::MAX)`, each operation rounded to f32 once.
/// 2. `weight = floor(2^40 e^x)`, with `e^x` within 2 units of `2^-24` of itself. A token of weight 0 is left out: it is
///    less than `2^-40` as likely as the most likely one. Any other weight is within `(3 |x| + 3) 2^-24` of its exact
///    share, and one unit.
/// 3. Tokens are ranked: greater logits first, of equals the lower id. Top-k keeps the first `top_k`. With `mass` the sum
///    of their weights, top-p keeps the first tokens up to the one at which the sum reaches `ceil(mass * top_p)`.
/// 4. With `mass` the sum of what is left and `random` the 64 bits of the step (the second word of the generator above the
///    first), the token is the first at which the sum of the weights exceeds `floor(mass * random / 2^64)`.
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

impl Sampler {
    /// A sampler at step 0.
    ///
    /// # Errors
    /// [`NnError::Temperature`], [`NnError::TopP`].
    pub fn new(config: SamplerConfig) -> Result<Sampler, NnError> {
        config.check()?;
        Ok(Sampler { config, step: 0, candidates: Vec::new() })
    }

    /// The sampler at another step.
    #[must_use]
    pub fn at_step(self, step: u64) -> Sampler {
        Sampler { step, ..self }
    }

    /// What the sampler was made from.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Tokens chosen so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What [`sample`](crate::sample) keeps of a row, to go on from here: the low and the high word of the seed, then of
    /// the step.
    pub fn draw(&self) -> [u32; 4] {
        Draw { seed: self.config.seed, step: self.step }.to_words()
    }

    /// The token chosen from `logits` `[vocab]`. A logit of `-inf` excludes its token.
    ///
    /// # Errors
    /// [`NnError::Logit`] for NaN or `+inf`, [`NnError::NoCandidate`] when no logit is above `-inf`,
    /// [`NnError::VocabTooLarge`]. The step is then as it was.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, NnError> {
        expect_vocab(logits.len())?;
        let token = if self.config.is_greedy() {
            first_maximum(logits)?.0
        } else {
            let draw = Draw { seed: self.config.seed, step: self.step };
            choose(logits, Rule::of(&self.config), draw.random(), &mut self.candidates)?
        };
        self.step += 1;
        Ok(token)
    }
}

/// Below this many logits the sum of all weights fits 64 bits.
const VOCAB_END: usize = 1 << 24;

/// The width of a row that can be sampled.
pub(crate) fn expect_vocab(vocab: usize) -> Result<u32, NnError> {
    let width = u32::try_from(vocab).ok().filter(|_| vocab < VOCAB_END);
    width.ok_or(NnError::VocabTooLarge { vocab, most: VOCAB_END - 1 })
}

/// A [`SamplerConfig`] that is not greedy, in the numbers that are computed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// `2 / temperature`, at most the largest f32.
    pub(crate) scale: f32,
    /// At least 1; `2^32 - 1` keeps all.
    pub(crate) top_k: u32,
    /// `2^64 top_p`, rounded down; `2^64 - 1` keeps all.
    pub(crate) share: u64,
}

impl Rule {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "above 0, and it saturates at 2^64 - 1"
    )]
    pub(crate) fn of(config: &SamplerConfig) -> Rule {
        let &SamplerConfig { temperature, top_k, top_p, .. } = config;
        let share = (f64::from(top_p) * 2.0_f64.powi(64)) as u64;
        let top_k = if top_k == 0 { u32::MAX } else { top_k };
        Rule { scale: (2.0 / temperature).min(f32::MAX), top_k, share }
    }
}

/// Where a row of random numbers stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    seed: u64,
    step: u64,
}

impl Draw {
    pub(crate) fn from_words([seed_low, seed_high, step_low, step_high]: [u32; 4]) -> Draw {
        let wide = |low: u32, high: u32| (u64::from(high) << 32) | u64::from(low);
        Draw { seed: wide(seed_low, seed_high), step: wide(step_low, step_high) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the words are what is asked for")]
    pub(crate) fn to_words(self) -> [u32; 4] {
        [self.seed as u32, (self.seed >> 32) as u32, self.step as u32, (self.step >> 32) as u32]
    }

    pub(crate) fn next(self) -> Draw {
        Draw { step: self.step.wrapping_add(1), ..self }
    }

    /// The number of this step.
    pub(crate) fn random(self) -> u64 {
        random_bits(self.seed, self.step)
    }
}
