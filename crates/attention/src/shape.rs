use std::fmt;

use crate::AttentionError;

/// Head counts and width of an attention, checked. `q_heads / kv_heads` query heads share one key and value head
/// (grouped-query attention, Ainslie et al.): query head `h` reads key and value head `h / group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionShape {
    q_heads: u32,
    kv_heads: u32,
    head_dim: u32,
}

impl AttentionShape {
    /// GLM-4-9B: 32, 2, 128.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] when one is 0 or `kv_heads` does not divide `q_heads`.
    pub fn new(q_heads: u32, kv_heads: u32, head_dim: u32) -> Result<AttentionShape, AttentionError> {
        // A remainder by 0 is none, so this refuses kv_heads = 0 as well.
        let divides = q_heads.checked_rem(kv_heads) == Some(0);
        if q_heads == 0 || head_dim == 0 || !divides {
            return Err(AttentionError::Shape { q_heads, kv_heads, head_dim });
        }
        Ok(AttentionShape { q_heads, kv_heads, head_dim })
    }

    /// Query heads.
    pub fn q_heads(&self) -> u32 {
        self.q_heads
    }

    /// Key and value heads.
    pub fn kv_heads(&self) -> u32 {
        self.kv_heads
    }

    /// Width of a head, in elements.
    pub fn head_dim(&self) -> u32 {
        self.head_dim
    }

    /// Query heads that share a key and value head.
    pub fn group(&self) -> u32 {
        self.q_heads / self.kv_heads
    }
}

impl fmt::Display for AttentionShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttentionShape { q_heads, kv_heads, head_dim } = self;
        write!(f, "{q_heads} query heads on {kv_heads} key/value heads of {head_dim}")
    }
}
