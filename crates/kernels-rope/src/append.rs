use device_mem::{Device, Float, RanOn, View, ViewMut};

use crate::{Layout, RopeError, cpu, hip};

/// The shape of K, and of V, in one layer of a cache: `[kv_heads, capacity, row_len]`, of which a head is the first
/// `head_dim` elements of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Key and value heads.
    pub kv_heads: u32,
    /// Tokens that there is room for.
    pub capacity: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// From one token to the next; at least `head_dim`.
    pub row_len: u32,
}

impl KvLayout {
    /// Elements of all heads; `None` beyond what an address can count.
    pub fn len(&self) -> Option<usize> {
        let rows = u64::from(self.kv_heads) * u64::from(self.capacity);
        usize::try_from(rows.checked_mul(u64::from(self.row_len))?).ok()
    }

    /// Whether there is room for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// Values `[tokens, kv_heads, head_dim]`, and the layer of a cache that they and their keys are appended to.
#[derive(Debug)]
pub struct AppendKv<'a, T: Float, C: Float> {
    pub(crate) v: View<'a, T>,
    pub(crate) keys: ViewMut<'a, C>,
    pub(crate) values: ViewMut<'a, C>,
    pub(crate) layout: KvLayout,
    pub(crate) first: u32,
}

impl<'a, T: Float, C: Float> AppendKv<'a, T, C> {
    /// `keys` and `values` are those of the cache; token `t` of the values becomes their token `first + t`.
    ///
    /// # Errors
    /// [`RopeError::CacheLength`] when `keys` or `values` hold another number of elements than the layout, or its rows
    /// are shorter than a head.
    pub fn new(
        v: View<'a, T>,
        keys: ViewMut<'a, C>,
        values: ViewMut<'a, C>,
        layout: KvLayout,
        first: u32,
    ) -> Result<AppendKv<'a, T, C>, RopeError> {
        for (operand, found) in [("keys", keys.len()), ("values", values.len())] {
            if layout.len() != Some(found) || layout.row_len < layout.head_dim {
                return Err(RopeError::CacheLength { operand, layout, found });
            }
        }
        Ok(AppendKv { v, keys, values, layout, first })
    }

    /// Fails unless the values are `tokens` of keys on `device`, shaped as `k`, and the cache is there and has room.
    pub(crate) fn check(&self, device: &Device, k: &Layout) -> Result<(), RopeError> {
        for operand in [self.v.device(), self.keys.device(), self.values.device()] {
            device.expect_same(&operand)?;
        }
        let &Layout { tokens, heads, head_dim, .. } = k;
        let (layout, first, found) = (self.layout, self.first, self.v.len());
        if (layout.kv_heads, layout.head_dim) != (heads, head_dim) {
            return Err(RopeError::CacheHeads { layout, kv_heads: heads, head_dim });
        }
        if Layout::contiguous(tokens, heads, head_dim).len() != Some(found) {
            return Err(RopeError::DataLength { tokens, heads, head_dim, found });
        }
        match first.checked_add(tokens) {
            Some(end) if end <= layout.capacity => Ok(()),
            _ => Err(RopeError::CacheFull { first, tokens, capacity: layout.capacity }),
        }
    }

    /// The shape of the values.
    pub(crate) fn v_layout(&self, tokens: u32) -> Layout {
        Layout::contiguous(tokens, self.layout.kv_heads, self.layout.head_dim)
    }
}

/// Appends keys `k` `[tokens, kv_heads, head_dim]` as they are, and their values, to a layer of a cache, each rounded once
/// to its type, and says where it ran.
///
/// # Errors
/// [`RopeError::DataLength`] unless keys and values are `tokens` of them, [`RopeError::CacheFull`],
/// [`MemError::ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports. The cache is then as it
/// was.
pub fn append_kv<C: Float>(
    k: View<'_, f32>,
    tokens: u32,
    append: AppendKv<'_, f32, C>,
) -> Result<RanOn, RopeError> {
    let k_layout = append.v_layout(tokens);
    append.check(&k.device(), &k_layout)?;
    if k_layout.len() != Some(k.len()) {
        let Layout { heads, head_dim, .. } = k_layout;
        return Err(RopeError::DataLength { tokens, heads, head_dim, found: k.len() });
    }
    match k {
        View::Host(k) => {
            cpu::append_kv_host((k, &k_layout), append);
            Ok(RanOn::Cpu)
        }
        k => hip::append_kv_device(k, tokens, append).map(|()| RanOn::Hip),
    }
}
