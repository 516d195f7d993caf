//! Showing the tensors of a forward pass to a person who compares it with another program.

use attention::AttentionShape;
use device_mem::View;
use kernels_rope::RopeTable;

use crate::GlmError;

/// Is shown the tensors of a forward pass as they come.
///
/// Names and shapes: `embed` `[tokens, hidden]`, `cos` and `sin` `[tokens, rotary_dim / 2]`; for each layer `i`
/// `layer{i}.q_pre`, `layer{i}.k_pre`, `layer{i}.q_post`, `layer{i}.k_post` `[heads, tokens, head_dim]`,
/// `layer{i}.attn_out`, `layer{i}.mlp_out`, `layer{i}.out` `[tokens, hidden]`; `final_norm` `[tokens, hidden]`.
pub trait Observer {
    /// One tensor, row-major.
    fn tensor(&mut self, name: &str, shape: &[usize], values: Vec<f32>);
}

/// An observer, or none; nothing is copied for none.
pub(crate) struct Observed<'o> {
    observer: Option<&'o mut dyn Observer>,
}

impl<'o> Observed<'o> {
    pub(crate) fn new(observer: Option<&'o mut dyn Observer>) -> Observed<'o> {
        Observed { observer }
    }

    pub(crate) fn nothing() -> Observed<'o> {
        Observed { observer: None }
    }

    /// `[tokens, width]`.
    pub(crate) fn rows(&mut self, name: &str, width: usize, buffer: View<'_, f32>) -> Result<(), GlmError> {
        if let Some(observer) = &mut self.observer {
            observer.tensor(name, &[buffer.len() / width, width], buffer.to_host_vec()?);
        }
        Ok(())
    }

    /// The rows of the table that `tokens` positions from `first` on read.
    pub(crate) fn table(&mut self, rope: &RopeTable, first: usize, tokens: usize) -> Result<(), GlmError> {
        let Some(observer) = &mut self.observer else { return Ok(()) };
        let pairs = rope.spec().pairs() as usize;
        for (name, table) in [("cos", rope.cos_to_host()?), ("sin", rope.sin_to_host()?)] {
            let rows = table.get(first * pairs..(first + tokens) * pairs).unwrap_or_default();
            observer.tensor(name, &[tokens, pairs], rows.to_vec());
        }
        Ok(())
    }

    pub(crate) fn layer(&mut self, index: usize, shape: AttentionShape) -> ObservedLayer<'_, 'o> {
        ObservedLayer { observed: self, index, shape }
    }
}

/// An observer inside one layer.
pub(crate) struct ObservedLayer<'a, 'o> {
    observed: &'a mut Observed<'o>,
    index: usize,
    shape: AttentionShape,
}

impl ObservedLayer<'_, '_> {
    pub(crate) fn rows(&mut self, name: &str, buffer: View<'_, f32>, width: usize) -> Result<(), GlmError> {
        let name = format!("layer{}.{name}", self.index);
        self.observed.rows(&name, width, buffer)
    }

    /// Queries and keys, `[tokens, heads, head_dim]`, shown as `[heads, tokens, head_dim]`.
    pub(crate) fn heads(
        &mut self,
        q_name: &str,
        k_name: &str,
        q: View<'_, f32>,
        k: View<'_, f32>,
    ) -> Result<(), GlmError> {
        let head_dim = self.shape.head_dim() as usize;
        let both = [(q_name, self.shape.q_heads(), q), (k_name, self.shape.kv_heads(), k)];
        let Some(observer) = &mut self.observed.observer else { return Ok(()) };
        for (name, heads, buffer) in both {
            let heads = heads as usize;
            let tokens = buffer.len() / (heads * head_dim);
            let values = by_head(&buffer.to_host_vec()?, heads, head_dim);
            observer.tensor(&format!("layer{}.{name}", self.index), &[heads, tokens, head_dim], values);
        }
        Ok(())
    }
}

fn by_head(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let rows = |head| values.chunks_exact(head_dim).skip(head).step_by(heads);
    (0..heads).flat_map(rows).flatten().copied().collect()
}
