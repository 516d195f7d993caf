use device_mem::{Device, DeviceBuffer, View};
use kernels_nn::{NO_TOKEN, NnError, Sampler, sample};

use crate::GlmError;
use crate::model::TokenId;

/// Draws one sequence's tokens where its logits are. What changes from token to token is kept there: the token, which
/// the next pass embeds, and the step of the random numbers.
#[derive(Debug)]
pub(crate) struct Draw {
    sampler: Sampler,
    /// `[4]`: seed and step.
    state: DeviceBuffer<u32>,
    /// `[1]`
    token: DeviceBuffer<u32>,
}

impl Draw {
    /// Draws the tokens that `sampler` would.
    pub(crate) fn new(device: &Device, sampler: Sampler) -> Result<Draw, GlmError> {
        let state = DeviceBuffer::from_host_vec(device, sampler.draw().to_vec())?;
        Ok(Draw { sampler, state, token: DeviceBuffer::zeroed(device, 1)? })
    }

    /// Draws from `logits` `[vocab]`, and downloads the token; an error of what was launched before comes out here.
    pub(crate) fn next(&mut self, logits: &DeviceBuffer<f32>) -> Result<TokenId, GlmError> {
        let (state, token) = (self.state.as_view_mut()?, self.token.as_view_mut()?);
        sample(logits.as_view(), logits.len(), self.sampler.config(), state, token)?;
        match *self.token.to_host_vec()? {
            [token] if token != NO_TOKEN => Ok(token),
            // The sampler refuses the same logits, and says why.
            _ => match self.sampler.sample(&logits.to_host_vec()?) {
                Err(error) => Err(error.into()),
                Ok(_) => Err(NnError::NoCandidate { vocab: logits.len() }.into()),
            },
        }
    }

    /// The token that was drawn last, `[1]`.
    pub(crate) fn last(&self) -> View<'_, u32> {
        self.token.as_view()
    }
}
