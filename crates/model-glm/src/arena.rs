use device_mem::{Device, DeviceBuffer, ViewMut};

use crate::{GlmConfig, GlmError};

/// What a model computes in, allocated once: buffers for `tokens` tokens, of which each pass takes as many rows as it
/// needs, one more row of the residual stream, and one row of logits. They stay buffers of their own, so that what leaves one meets no other.
#[derive(Debug)]
pub(crate) struct Arena {
    /// `[tokens]`
    pub(crate) ids: DeviceBuffer<u32>,
    pub(crate) activations: Activations,
    /// `[hidden]`: the residual stream of a single token is summed into it and `activations.x` by turns.
    pub(crate) spare: DeviceBuffer<f32>,
    /// `[vocab]`: what the next token is drawn from.
    pub(crate) logits: DeviceBuffer<f32>,
}

/// Buffers that a pass writes anew.
#[derive(Debug)]
pub(crate) struct Activations {
    tokens: usize,
    x: DeviceBuffer<f32>,
    normed: DeviceBuffer<f32>,
    branch: DeviceBuffer<f32>,
    q: DeviceBuffer<f32>,
    k: DeviceBuffer<f32>,
    v: DeviceBuffer<f32>,
    attended: DeviceBuffer<f32>,
    gate_up: DeviceBuffer<f32>,
    activated: DeviceBuffer<f32>,
}

/// The rows of one pass.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    /// `[tokens, hidden]`: the residual stream.
    pub(crate) x: ViewMut<'a, f32>,
    /// `[tokens, hidden]`: what the next projection takes.
    pub(crate) normed: ViewMut<'a, f32>,
    /// `[tokens, hidden]`
    pub(crate) branch: ViewMut<'a, f32>,
    /// `[tokens, q_heads, head_dim]`
    pub(crate) q: ViewMut<'a, f32>,
    /// `[tokens, kv_heads, head_dim]`
    pub(crate) k: ViewMut<'a, f32>,
    /// `[tokens, kv_heads, head_dim]`
    pub(crate) v: ViewMut<'a, f32>,
    /// `[tokens, q_heads, head_dim]`
    pub(crate) attended: ViewMut<'a, f32>,
    /// `[tokens, 2 * intermediate]`
    pub(crate) gate_up: ViewMut<'a, f32>,
    /// `[tokens, intermediate]`
    pub(crate) activated: ViewMut<'a, f32>,
}

/// Elements that the buffers of a token have.
#[derive(Clone, Copy, Debug)]
struct Widths {
    hidden: usize,
    q: usize,
    kv: usize,
    intermediate: usize,
}

impl Widths {
    fn of(config: &GlmConfig) -> Widths {
        let &GlmConfig { hidden_size: hidden, intermediate_size: intermediate, .. } = config;
        Widths { hidden, q: config.q_width(), kv: config.kv_width(), intermediate }
    }
}

impl Arena {
    pub(crate) fn new(config: &GlmConfig, device: &Device, tokens: usize) -> Result<Arena, GlmError> {
        Ok(Arena {
            ids: DeviceBuffer::zeroed(device, tokens)?,
            activations: Activations::new(config, device, tokens)?,
            spare: DeviceBuffer::zeroed(device, config.hidden_size)?,
            logits: DeviceBuffer::zeroed(device, config.vocab_size)?,
        })
    }

    /// Bytes that [`Arena::new`] takes.
    pub(crate) fn bytes(config: &GlmConfig, tokens: usize) -> u64 {
        let Widths { hidden, q, kv, intermediate } = Widths::of(config);
        let [hidden, q, kv, intermediate] = [hidden, q, kv, intermediate].map(|width| width as u64);
        let of_a_token = 1 + 3 * hidden + 2 * q + 2 * kv + 3 * intermediate;
        let rows = hidden.saturating_add(config.vocab_size as u64);
        let elements = of_a_token.saturating_mul(tokens as u64).saturating_add(rows);
        elements.saturating_mul(size_of::<f32>() as u64)
    }
}

impl Activations {
    pub(crate) fn new(config: &GlmConfig, device: &Device, tokens: usize) -> Result<Activations, GlmError> {
        let Widths { hidden, q, kv, intermediate } = Widths::of(config);
        let zeroed = |width: usize| DeviceBuffer::zeroed(device, tokens.saturating_mul(width));
        Ok(Activations {
            tokens,
            x: zeroed(hidden)?,
            normed: zeroed(hidden)?,
            branch: zeroed(hidden)?,
            q: zeroed(q)?,
            k: zeroed(kv)?,
            v: zeroed(kv)?,
            attended: zeroed(q)?,
            gate_up: zeroed(2 * intermediate)?,
            activated: zeroed(intermediate)?,
        })
    }

    /// The first `tokens` rows of every buffer.
    pub(crate) fn rows(&mut self, tokens: usize) -> Result<Rows<'_>, GlmError> {
        let most = self.tokens.max(1);
        let first = |buffer| first_rows(buffer, most, tokens);
        Ok(Rows {
            x: first(&mut self.x)?,
            normed: first(&mut self.normed)?,
            branch: first(&mut self.branch)?,
            q: first(&mut self.q)?,
            k: first(&mut self.k)?,
            v: first(&mut self.v)?,
            attended: first(&mut self.attended)?,
            gate_up: first(&mut self.gate_up)?,
            activated: first(&mut self.activated)?,
        })
    }
}

/// The first `rows` of `most`.
fn first_rows(
    buffer: &mut DeviceBuffer<f32>,
    most: usize,
    rows: usize,
) -> Result<ViewMut<'_, f32>, GlmError> {
    let width = buffer.len() / most;
    Ok(buffer.view_mut(0..rows * width)?)
}
