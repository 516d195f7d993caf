use std::time::{Duration, Instant};

use attention::KvCache;
use device_mem::RanOn;
use kernels_nn::Sampler;

use crate::draw::Draw;
use crate::{GlmError, GlmModel, TokenId};

/// How an answer is generated.
#[derive(Debug)]
pub struct GenerateOptions<'a> {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Chooses each token.
    pub sampler: Sampler,
    /// Tokens that end the answer; they are not part of it.
    pub stop_ids: &'a [TokenId],
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The model gave this stop token.
    StopToken(TokenId),
    /// As many tokens as were asked for.
    MaxTokens,
    /// The cache is full.
    ContextFull,
    /// The callback asked to end.
    Callback,
}

/// An answer, and what it took.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Generated {
    /// The answer's tokens, without the stop token.
    pub tokens: Vec<TokenId>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Where it ran.
    pub ran_on: RanOn,
    /// Time for the prompt, the first token included.
    pub prompt_time: Duration,
    /// Time for the tokens after the first.
    pub decode_time: Duration,
    /// Forward passes after the prompt's.
    pub decode_steps: usize,
    /// Tokens that a device gave before it failed, if one did; times and passes are then those of what came after.
    pub failed_after: Option<usize>,
}

/// What a callback wants after a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another token.
    Continue,
    /// The answer to end here.
    Stop,
}

/// Continues `prompt` token by token until a stop token, the limit, or the end of the cache. `on_token` sees each
/// token of the answer as it comes.
///
/// Tokens are drawn where the model is, and are those that the [`Sampler`] chooses from the same logits. On a HIP device
/// one that was drawn stays there for the next pass: a step after the prompt's uploads nothing, allocates nothing, and
/// waits once, to download the token. From the second step on, a step is one graph, where the library has graphs.
///
/// # Errors
/// As [`GlmModel::forward`], and [`GlmError::Nn`] when logits cannot be sampled.
pub fn generate(
    model: &GlmModel,
    cache: &mut KvCache,
    prompt: &[TokenId],
    options: GenerateOptions<'_>,
    mut on_token: impl FnMut(TokenId) -> Result<Next, GlmError>,
) -> Result<Generated, GlmError> {
    let GenerateOptions { max_tokens, sampler, stop_ids } = options;
    let start = Instant::now();
    let room = cache.capacity().saturating_sub(cache.len()) as usize;
    let mut tokens = Vec::with_capacity(max_tokens.min(room));
    let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX).saturating_add(cache.len());
    let mut draw = Draw::new(model.device(), sampler, length)?;
    let mut next = model.prefill(cache, prompt, &mut draw)?;
    let prompt_time = start.elapsed();
    let start = Instant::now();
    let mut decode_steps = 0;
    let stop_reason = loop {
        if stop_ids.contains(&next) {
            break StopReason::StopToken(next);
        }
        if tokens.len() >= max_tokens {
            break StopReason::MaxTokens;
        }
        tokens.push(next);
        if on_token(next)? == Next::Stop {
            break StopReason::Callback;
        }
        if tokens.len() == max_tokens {
            break StopReason::MaxTokens;
        }
        if cache.len() == cache.capacity() {
            break StopReason::ContextFull;
        }
        next = model.decode(cache, &mut draw)?;
        decode_steps += 1;
    };
    let decode_time = start.elapsed();
    let (ran_on, failed_after) = (model.ran_on(), None);
    Ok(Generated { tokens, stop_reason, ran_on, prompt_time, decode_time, decode_steps, failed_after })
}
