use attention::{Qkv, self_attention};
use device_mem::{Device, DeviceBuffer};
use kernels_nn::{Linear, RmsNorm, add_rms_norm, linear, swiglu};
use kernels_rope::{Positions, RopeTable};

use crate::model::Sequence;
use crate::observe::ObservedLayer;
use crate::{GlmConfig, GlmError};

/// One decoder layer. `glm4` has a norm after attention and after the MLP as well.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) input_norm: RmsNorm,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) out: Linear,
    pub(crate) post_attention_norm: Option<RmsNorm>,
    pub(crate) mlp_norm: RmsNorm,
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
    pub(crate) post_mlp_norm: Option<RmsNorm>,
}

/// Buffers that every layer of a forward pass writes anew, for `tokens` tokens.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// `[tokens, hidden]`: what the next projection takes.
    pub(crate) normed: DeviceBuffer<f32>,
    /// `[tokens, hidden]`
    branch: DeviceBuffer<f32>,
    /// `[tokens, q_heads, head_dim]`
    q: DeviceBuffer<f32>,
    /// `[tokens, kv_heads, head_dim]`
    k: DeviceBuffer<f32>,
    /// `[tokens, kv_heads, head_dim]`
    v: DeviceBuffer<f32>,
    /// `[tokens, q_heads, head_dim]`
    attended: DeviceBuffer<f32>,
    /// `[tokens, 2 * intermediate]`
    gate_up: DeviceBuffer<f32>,
    /// `[tokens, intermediate]`
    activated: DeviceBuffer<f32>,
}

impl Scratch {
    pub(crate) fn new(config: &GlmConfig, device: &Device, tokens: usize) -> Result<Scratch, GlmError> {
        let zeroed = |width: usize| DeviceBuffer::zeroed(device, tokens.saturating_mul(width));
        Ok(Scratch {
            normed: zeroed(config.hidden_size)?,
            branch: zeroed(config.hidden_size)?,
            q: zeroed(config.q_width())?,
            k: zeroed(config.kv_width())?,
            v: zeroed(config.kv_width())?,
            attended: zeroed(config.q_width())?,
            gate_up: zeroed(2 * config.intermediate_size)?,
            activated: zeroed(config.intermediate_size)?,
        })
    }
}

impl Layer {
    /// `x = x + norm(attention(normed))`, then `x = x + norm(mlp(norm(x)))`, on `x` `[tokens, hidden]` in place.
    /// `scratch.normed` is `x` after this layer's input norm before, and after `next_norm` behind.
    #[expect(clippy::too_many_arguments, reason = "the state of a forward pass, which has no other home")]
    pub(crate) fn forward(
        &self,
        index: usize,
        x: &mut DeviceBuffer<f32>,
        scratch: &mut Scratch,
        batch: &mut [Sequence<'_>],
        positions: &[Positions],
        rope: &RopeTable,
        next_norm: &RmsNorm,
        observed: &mut ObservedLayer<'_, '_>,
    ) -> Result<(), GlmError> {
        let hidden = self.out.out_features();
        linear(scratch.normed.as_view(), &self.q, scratch.q.as_view_mut()?)?;
        linear(scratch.normed.as_view(), &self.k, scratch.k.as_view_mut()?)?;
        linear(scratch.normed.as_view(), &self.v, scratch.v.as_view_mut()?)?;
        observed.heads("q_pre", "k_pre", &scratch.q, &scratch.k)?;
        self.attend(index, scratch, batch, positions, rope)?;
        observed.heads("q_post", "k_post", &scratch.q, &scratch.k)?;
        linear(scratch.attended.as_view(), &self.out, scratch.branch.as_view_mut()?)?;
        observed.rows("attn_out", &scratch.branch, hidden)?;
        add_branch(x, scratch, self.post_attention_norm.as_ref(), &self.mlp_norm)?;

        linear(scratch.normed.as_view(), &self.gate_up, scratch.gate_up.as_view_mut()?)?;
        let intermediate = self.down.in_features();
        swiglu(scratch.gate_up.as_view(), intermediate, scratch.activated.as_view_mut()?)?;
        linear(scratch.activated.as_view(), &self.down, scratch.branch.as_view_mut()?)?;
        observed.rows("mlp_out", &scratch.branch, hidden)?;
        add_branch(x, scratch, self.post_mlp_norm.as_ref(), next_norm)?;
        observed.rows("out", x, hidden)
    }

    /// Self-attention of each sequence over its own part of the packed tokens.
    fn attend(
        &self,
        index: usize,
        scratch: &mut Scratch,
        batch: &mut [Sequence<'_>],
        positions: &[Positions],
        rope: &RopeTable,
    ) -> Result<(), GlmError> {
        let (q_width, kv_width) = (self.q.out_features(), self.k.out_features());
        let mut first = 0;
        for (sequence, at) in batch.iter_mut().zip(positions) {
            let last = first + sequence.tokens.len();
            let (q_part, kv_part) = (first * q_width..last * q_width, first * kv_width..last * kv_width);
            let shape = sequence.cache.shape();
            let qkv = Qkv::new(
                scratch.q.view_mut(q_part.clone())?,
                scratch.k.view_mut(kv_part.clone())?,
                scratch.v.view(kv_part)?,
                at.tokens(),
                shape,
            )?;
            self_attention(qkv, rope, at, sequence.cache.layer(index)?, scratch.attended.view_mut(q_part)?)?;
            first = last;
        }
        Ok(())
    }
}

/// `x = x + branch_norm(branch)`, then `normed = norm(x)`.
fn add_branch(
    x: &mut DeviceBuffer<f32>,
    scratch: &mut Scratch,
    branch_norm: Option<&RmsNorm>,
    norm: &RmsNorm,
) -> Result<(), GlmError> {
    let Scratch { normed, branch, .. } = scratch;
    add_rms_norm(x.as_view_mut()?, branch.as_view(), branch_norm, norm, normed.as_view_mut()?)?;
    Ok(())
}
