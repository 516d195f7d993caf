use attention::{KvCache, Qkv, self_attention};
use kernels_nn::{Linear, RmsNorm, add_rms_norm, linear, linear_each, swiglu};
use kernels_rope::{Positions, RopeTable};

use crate::GlmError;
use crate::arena::Rows;
use crate::observe::ObservedLayer;

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

/// One sequence's part of a pass: its tokens continue what its cache holds.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) cache: &'a mut KvCache,
    pub(crate) positions: Positions,
}

impl Part<'_> {
    /// Makes the part's tokens its cache's, once every layer has appended them.
    pub(crate) fn commit(self) -> Result<(), GlmError> {
        self.cache.commit(self.positions.tokens())?;
        Ok(())
    }
}

impl Layer {
    /// `x = x + norm(attention(normed))`, then `x = x + norm(mlp(norm(x)))`, on the rows of a pass, which are those of its
    /// parts in order. `normed` is `x` after this layer's input norm before, and after `next_norm` behind.
    pub(crate) fn forward(
        &self,
        index: usize,
        rows: &mut Rows<'_>,
        parts: &mut [Part<'_>],
        rope: &RopeTable,
        next_norm: &RmsNorm,
        observed: &mut ObservedLayer<'_, '_>,
    ) -> Result<(), GlmError> {
        let hidden = self.out.out_features();
        let projections =
            [(&self.q, rows.q.reborrow()), (&self.k, rows.k.reborrow()), (&self.v, rows.v.reborrow())];
        linear_each(rows.normed.as_view(), projections)?;
        observed.heads("q_pre", "k_pre", rows.q.as_view(), rows.k.as_view())?;
        self.attend(index, rows, parts, rope)?;
        observed.heads("q_post", "k_post", rows.q.as_view(), rows.k.as_view())?;
        linear(rows.attended.as_view(), &self.out, rows.branch.reborrow())?;
        observed.rows("attn_out", rows.branch.as_view(), hidden)?;
        add_branch(rows, self.post_attention_norm.as_ref(), &self.mlp_norm)?;

        linear(rows.normed.as_view(), &self.gate_up, rows.gate_up.reborrow())?;
        swiglu(rows.gate_up.as_view(), self.down.in_features(), rows.activated.reborrow())?;
        linear(rows.activated.as_view(), &self.down, rows.branch.reborrow())?;
        observed.rows("mlp_out", rows.branch.as_view(), hidden)?;
        add_branch(rows, self.post_mlp_norm.as_ref(), next_norm)?;
        observed.rows("out", rows.x.as_view(), hidden)
    }

    /// Self-attention of each part.
    fn attend(
        &self,
        index: usize,
        rows: &mut Rows<'_>,
        parts: &mut [Part<'_>],
        rope: &RopeTable,
    ) -> Result<(), GlmError> {
        let (q_width, kv_width) = (self.q.out_features(), self.k.out_features());
        let mut first = 0;
        for Part { cache, positions } in parts {
            let last = first + positions.tokens() as usize;
            let (q_part, kv_part) = (first * q_width..last * q_width, first * kv_width..last * kv_width);
            let shape = cache.shape();
            let qkv = Qkv::new(
                rows.q.reborrow().slice(q_part.clone())?,
                rows.k.reborrow().slice(kv_part.clone())?,
                rows.v.as_view().slice(kv_part)?,
                positions.tokens(),
                shape,
            )?;
            self_attention(
                qkv,
                rope,
                positions,
                cache.layer(index)?,
                rows.attended.reborrow().slice(q_part)?,
            )?;
            first = last;
        }
        Ok(())
    }
}

/// `x = x + branch_norm(branch)`, then `normed = norm(x)`.
fn add_branch(rows: &mut Rows<'_>, branch_norm: Option<&RmsNorm>, norm: &RmsNorm) -> Result<(), GlmError> {
    let Rows { x, normed, branch, .. } = rows;
    add_rms_norm(x.reborrow(), branch.as_view(), branch_norm, norm, normed.reborrow())?;
    Ok(())
}
