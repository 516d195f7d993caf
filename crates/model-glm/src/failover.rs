//! Answers that outlive their device.

use attention::KvCache;

use crate::generate::{GenerateOptions, Generated, Next, generate};
use crate::{GlmError, GlmModel, TokenId};

/// As [`generate`], and where the device fails on the way, the answer goes on in another place. What the device held is lost, so
/// the sequence is rebuilt from its ids there: those that the cache held, `cached`, then the prompt, then the answer so far.
/// `on_token` sees every token once, and each is drawn at the step that it would have been.
///
/// `another` makes the other place, a model and an empty cache, and is given the error and the number of tokens so far. They
/// take the place of `model` and `cache`, also when the rest fails. Tokens before the failure are those of the device's logits,
/// tokens after it those of the other place, which may be different within the bounds of the operations.
///
/// Errors that fail over are those [of a device](GlmError::is_of_device).
///
/// # Errors
/// As [`generate`] when no device is to blame, what `another` reports, or as [`generate`] in the other place.
pub fn generate_with_failover(
    (model, cache): (&mut GlmModel, &mut KvCache),
    cached: &[TokenId],
    prompt: &[TokenId],
    options: GenerateOptions<'_>,
    mut on_token: impl FnMut(TokenId) -> Result<Next, GlmError>,
    another: impl FnOnce(&GlmError, usize) -> Result<(GlmModel, KvCache), GlmError>,
) -> Result<Generated, GlmError> {
    let GenerateOptions { max_tokens, sampler, stop_ids } = options;
    let mut tokens = Vec::new();
    let options = GenerateOptions { max_tokens, sampler: sampler.clone(), stop_ids };
    let done = generate(model, cache, prompt, options, |token| {
        tokens.push(token);
        on_token(token)
    });
    let error = match done {
        Err(error) if error.is_of_device() => error,
        done => return done,
    };
    (*model, *cache) = another(&error, tokens.len())?;
    let ids = [cached, prompt, &tokens].concat();
    let sampler = {
        let step = sampler.step() + tokens.len() as u64;
        sampler.at_step(step)
    };
    let options = GenerateOptions { max_tokens: max_tokens - tokens.len(), sampler, stop_ids };
    let rest = generate(model, cache, &ids, options, on_token)?;
    let failed_after = Some(tokens.len());
    tokens.extend(&rest.tokens);
    Ok(Generated { tokens, failed_after, ..rest })
}
