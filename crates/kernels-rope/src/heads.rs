use device_mem::{Float, ViewMut};

use crate::RopeError;

/// Where the rows `[head_dim]` of every token and head lie; strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Tokens.
    pub tokens: u32,
    /// Heads of each token.
    pub heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// From a head of one token to the same head of the next token.
    pub token_stride: u64,
    /// From one head of a token to its next head.
    pub head_stride: u64,
}

impl Layout {
    /// `[tokens, heads, head_dim]` without gaps.
    pub fn contiguous(tokens: u32, heads: u32, head_dim: u32) -> Layout {
        let head_stride = u64::from(head_dim);
        // Two 32-bit factors cannot overflow 64 bits.
        Layout { tokens, heads, head_dim, token_stride: u64::from(heads) * head_stride, head_stride }
    }

    /// Elements of all heads; `None` beyond what an address can count.
    pub(crate) fn len(&self) -> Option<usize> {
        let row = u64::from(self.heads) * u64::from(self.head_dim);
        usize::try_from(row.checked_mul(u64::from(self.tokens))?).ok()
    }

    /// Rows `[head_dim]`.
    pub(crate) fn rows(&self) -> usize {
        self.tokens as usize * self.heads as usize
    }

    /// Whether there is nothing to rotate.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0 || self.heads == 0 || self.head_dim == 0
    }

    /// Elements from the first of the first row to the last of the last row; `None` beyond 64 bits.
    fn extent(&self) -> Option<u64> {
        if self.is_empty() {
            return Some(0);
        }
        let last_token = u64::from(self.tokens - 1).checked_mul(self.token_stride)?;
        let last_head = u64::from(self.heads - 1).checked_mul(self.head_stride)?;
        last_token.checked_add(last_head)?.checked_add(u64::from(self.head_dim))
    }

    /// Whether the rows nest: all rows along one stride end before the other stride's next step.
    fn rows_are_apart(&self) -> bool {
        self.is_empty() || self.token_major() || self.head_major()
    }

    /// Whether all heads of a token come before the next token.
    pub(crate) fn token_major(&self) -> bool {
        nests((self.tokens, self.token_stride), (self.heads, self.head_stride), self.head_dim)
    }

    /// Whether all tokens of a head come before the next head.
    fn head_major(&self) -> bool {
        nests((self.heads, self.head_stride), (self.tokens, self.token_stride), self.head_dim)
    }
}

/// Whether `inner` steps of rows of `width` lie apart and end before the next `outer` step.
fn nests(outer: (u32, u64), inner: (u32, u64), width: u32) -> bool {
    let width = u64::from(width);
    let inner_extent = u64::from(inner.0.saturating_sub(1)).saturating_mul(inner.1).saturating_add(width);
    (inner.0 <= 1 || inner.1 >= width) && (outer.0 <= 1 || outer.1 >= inner_extent)
}

/// Heads `[tokens, heads, head_dim]` borrowed for rotating in place. The constructors prove that every row lies
/// inside the data and that no two rows share an element, so nothing below checks again.
#[derive(Debug)]
pub struct HeadsMut<'a, T: Float> {
    pub(crate) data: ViewMut<'a, T>,
    pub(crate) layout: Layout,
}

impl<'a, T: Float> HeadsMut<'a, T> {
    /// Contiguous `[tokens, heads, head_dim]`. No tokens or no heads is allowed: then nothing is rotated.
    ///
    /// # Errors
    /// [`RopeError::DataLength`] when `data` holds another number of elements.
    pub fn new(
        data: ViewMut<'a, T>,
        tokens: u32,
        heads: u32,
        head_dim: u32,
    ) -> Result<HeadsMut<'a, T>, RopeError> {
        let layout = Layout::contiguous(tokens, heads, head_dim);
        let found = data.len();
        if layout.len() != Some(found) {
            return Err(RopeError::DataLength { tokens, heads, head_dim, found });
        }
        Ok(HeadsMut { data, layout })
    }

    /// Rows with gaps: heads inside a fused QKV row, or `[heads, tokens, head_dim]`. Elements between the rows are
    /// not touched.
    ///
    /// # Errors
    /// [`RopeError::RowsOverlap`] unless the rows along one stride end before the other stride's next step, and
    /// [`RopeError::RowsOutside`] when a row leaves `data`.
    pub fn strided(data: ViewMut<'a, T>, layout: Layout) -> Result<HeadsMut<'a, T>, RopeError> {
        if !layout.rows_are_apart() {
            let Layout { head_dim, token_stride, head_stride, .. } = layout;
            return Err(RopeError::RowsOverlap { head_dim, token_stride, head_stride });
        }
        let found = data.len();
        let needed = layout.extent().unwrap_or(u64::MAX);
        if needed > found as u64 {
            return Err(RopeError::RowsOutside { needed, found });
        }
        Ok(HeadsMut { data, layout })
    }

    /// Where the rows lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}
