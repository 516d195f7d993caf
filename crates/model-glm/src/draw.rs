use device_mem::{Device, DeviceBuffer, View, ViewMut};
use kernels_nn::{NO_TOKEN, NnError, Sampler, sample};

use crate::GlmError;
use crate::model::TokenId;
use crate::step::Replay;

/// Draws one sequence's tokens where its logits are. What changes from token to token is kept there: the token, which
/// the next pass embeds, the sequence's length, and the step of the random numbers.
#[derive(Debug)]
pub(crate) struct Draw {
    sampler: Sampler,
    /// `[4]`: seed and step.
    state: DeviceBuffer<u32>,
    /// `[1]`
    token: DeviceBuffer<u32>,
    /// `[1]`: tokens of the sequence that the cache holds.
    pub(crate) length: DeviceBuffer<u32>,
    /// `[1]`: what a step adds to the length.
    one: DeviceBuffer<u32>,
    pub(crate) replay: Replay,
}

impl Draw {
    /// Draws the tokens that `sampler` would, for a sequence of which the cache will hold `length` tokens.
    pub(crate) fn new(device: &Device, sampler: Sampler, length: u32) -> Result<Draw, GlmError> {
        let upload = |values: Vec<u32>| DeviceBuffer::from_host_vec(device, values);
        Ok(Draw {
            state: upload(sampler.draw().to_vec())?,
            token: DeviceBuffer::zeroed(device, 1)?,
            length: upload(vec![length])?,
            one: upload(vec![1])?,
            sampler,
            replay: Replay::default(),
        })
    }

    /// Draws from `logits` `[vocab]`; [`token`](Draw::token) follows.
    pub(crate) fn draw(&mut self, logits: &DeviceBuffer<f32>) -> Result<(), GlmError> {
        let (state, token) = (self.state.as_view_mut()?, self.token.as_view_mut()?);
        sample(logits.as_view(), logits.len(), self.sampler.config(), state, token)?;
        Ok(())
    }

    /// Downloads the token that was drawn from `logits`; an error of what was launched before comes out here.
    pub(crate) fn token(&mut self, logits: &DeviceBuffer<f32>) -> Result<TokenId, GlmError> {
        let token = match self.token.as_view() {
            View::Host(&[token]) => token,
            on_device => on_device.to_host_vec()?.first().copied().unwrap_or(NO_TOKEN),
        };
        match token {
            token if token != NO_TOKEN => Ok(token),
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

    /// Tokens of the sequence that the cache holds, `[1]`.
    pub(crate) fn length(&self) -> View<'_, u32> {
        self.length.as_view()
    }

    /// The length, and what a step adds to it.
    pub(crate) fn lengthen(&mut self) -> Result<(ViewMut<'_, u32>, View<'_, u32>), GlmError> {
        Ok((self.length.as_view_mut()?, self.one.as_view()))
    }
}
