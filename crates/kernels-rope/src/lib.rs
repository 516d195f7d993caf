//! Rotary position embedding (RoPE) for GLM-family models, on AMD GPUs and on CPUs.
//!
//! Each pair of elements of a query or key head is rotated by an angle that grows with the token's position, so that
//! their dot product depends on the distance of two tokens only (Su et al., RoFormer):
//!
//! ```text
//! a' = a cos - b sin        angle = position * theta^(-2p / rotary_dim), p = the pair's index
//! b' = b cos + a sin
//! ```
//!
//! - [`RopeSpec`] is a model's rotary embedding, checked: width, [`Pairing`], base, [`Scaling`], [`Axes`].
//! - [`RopeTable`] holds cos and sin of every position, computed in f64 and rounded once, on one [`Device`].
//! - [`Positions`] are the positions of one forward pass, proven to lie inside the table.
//! - [`HeadsMut`] borrows heads `[tokens, heads, head_dim]` of f32, f16 or bf16, contiguous or strided.
//! - [`apply_rope`] rotates one tensor, [`apply_position_embeddings`] rotates queries and keys, in place, where they
//!   live. The result says where that was.
//! - [`apply_position_embeddings_append`] also appends the rotated keys and the values to a layer of a cache,
//!   [`AppendKv`]; [`append_kv`] appends keys as they are. A cache may hold several sequences, and be paged: a
//!   [`BlockTable`] then says which of its blocks are whose. [`AppendAt::Next`] appends a token to each sequence, at lengths
//!   that are read on the device.
//!
//! What this crate does not do: it moves no activations between devices, it does not fall back from one to the other,
//! it projects and attends nothing, and the cache is its caller's. An error leaves every operand as it was.
//!
//! # Example
//!
//! Half of each head of 4 elements is rotated, pairs `(2i, 2i + 1)`, as in GLM-4:
//!
//! ```
//! use device_mem::{Device, DeviceBuffer, RanOn};
//! use kernels_rope::{
//!     Axes, HeadsMut, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling, apply_rope,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec = RopeSpec::new(RopeConfig {
//!     head_dim: 4,
//!     rotary_dim: 2,
//!     theta: 10_000.0,
//!     pairing: Pairing::Interleaved,
//!     scaling: Scaling::None,
//!     axes: Axes::Single,
//!     inv_freq: InvFreq::Exact,
//! })?;
//! let table = RopeTable::new(&spec, 131_072, &Device::Cpu)?;
//!
//! // Two tokens of one head, at the positions 0 and 131071.
//! let mut x = DeviceBuffer::from_host_vec(&Device::Cpu, vec![1.0_f32, 0.0, 5.0, 6.0, 1.0, 0.0, 7.0, 8.0])?;
//! let at = Positions::new(&table, &[0, 131_071])?;
//! let ran_on = apply_rope(&table, HeadsMut::new(x.as_view_mut()?, 2, 1, 4)?, &at)?;
//!
//! let (sin, cos) = 131_071_f64.sin_cos();
//! assert_eq!(ran_on, RanOn::Cpu);
//! assert_eq!(x.to_host_vec()?, [1.0, 0.0, 5.0, 6.0, cos as f32, sin as f32, 7.0, 8.0]);
//! # Ok(())
//! # }
//! ```
//!
//! [`Device`]: device_mem::Device

#![deny(unsafe_code)]

mod append;
mod block_table;
mod cpu;
mod error;
mod heads;
#[expect(unsafe_code, reason = "launches, each with its proof")]
mod hip;
pub mod kernels;
mod positions;
mod scaling;
mod spec;
mod table;

use device_mem::{Float, RanOn, View, ViewMut};

use crate::cpu::HostRotation;

pub use append::{AppendAt, AppendKv, KvBlocks, KvLayout, append_kv};
pub use block_table::BlockTable;
pub use error::RopeError;
pub use heads::{HeadsMut, Layout};
pub use hip::apply_position_embeddings_device;
pub use positions::Positions;
pub use scaling::Scaling;
pub use spec::{Axes, InvFreq, Pairing, RopeConfig, RopeSpec, theta_from_ratio};
pub use table::RopeTable;

/// Rotates `x` `[tokens, heads, head_dim]` in place, token `t` by position `at[t]`, and says where it ran. The
/// elements from `rotary_dim` on are not touched.
///
/// Arithmetic is f32 with every product and sum rounded once; the result is rounded once to `T`. Against exact
/// arithmetic `|error| <= 3 * 2^-24 * (|a cos| + |b sin|)`, plus half an ulp of `T`.
///
/// # Errors
/// [`RopeError::HeadDim`], [`RopeError::Tokens`], [`RopeError::OtherTable`], [`RopeError::AxisCount`],
/// [`MemError::ForeignDevice`](device_mem::MemError::ForeignDevice) unless all operands live on the table's device, or
/// what the device reports. `x` is then as it was.
pub fn apply_rope<T: Float>(
    table: &RopeTable,
    x: HeadsMut<'_, T>,
    at: &Positions,
) -> Result<RanOn, RopeError> {
    check_operands(table, &[("x", &x)], at)?;
    match (host_rotation(table, at), x) {
        (Some(rotation), HeadsMut { data: ViewMut::Host(data), layout }) => {
            cpu::apply_rope_host(rotation, data, &layout);
            Ok(RanOn::Cpu)
        }
        (_, x) => hip::apply_rope_device(table, x, at).map(|()| RanOn::Hip),
    }
}

/// Rotates the queries `q` `[tokens, q_heads, head_dim]` and the keys `k` `[tokens, kv_heads, head_dim]` in place, in
/// one pass, and says where it ran. The head counts are independent (GLM-4-9B: 32 and 2). Otherwise as
/// [`apply_rope`]. On a HIP device this is [`apply_position_embeddings_device`], which tells the whole flow.
///
/// # Errors
/// As [`apply_rope`]; `q` and `k` are then both as they were.
pub fn apply_position_embeddings<T: Float>(
    table: &RopeTable,
    q: HeadsMut<'_, T>,
    k: HeadsMut<'_, T>,
    at: &Positions,
) -> Result<RanOn, RopeError> {
    position_embeddings::<T, T>(table, q, k, None, at)
}

/// [`apply_position_embeddings`], and in the same pass appends the rotated keys and the values to a layer of a cache,
/// rounded once to its type. On a HIP device that is one launch as well, and the bits are those of the separate
/// operations.
///
/// # Errors
/// As [`apply_rope`], [`RopeError::CacheHeads`], [`RopeError::DataLength`] for the values, [`RopeError::CacheFull`], and
/// on a HIP device [`RopeError::CacheDType`]. Operands and cache are then as they were.
pub fn apply_position_embeddings_append<T: Float, C: Float>(
    table: &RopeTable,
    q: HeadsMut<'_, T>,
    k: HeadsMut<'_, T>,
    append: AppendKv<'_, T, C>,
    at: &Positions,
) -> Result<RanOn, RopeError> {
    position_embeddings(table, q, k, Some(append), at)
}

fn position_embeddings<T: Float, C: Float>(
    table: &RopeTable,
    q: HeadsMut<'_, T>,
    k: HeadsMut<'_, T>,
    append: Option<AppendKv<'_, T, C>>,
    at: &Positions,
) -> Result<RanOn, RopeError> {
    check_all(table, &q, &k, append.as_ref(), at)?;
    match (host_rotation(table, at), q, k) {
        (
            Some(rotation),
            HeadsMut { data: ViewMut::Host(q), layout: q_layout },
            HeadsMut { data: ViewMut::Host(k), layout: k_layout },
        ) => {
            cpu::apply_position_embeddings_host(rotation, (q, &q_layout), (k, &k_layout));
            if let Some(append) = append {
                cpu::append_kv_host((k, &k_layout), append);
            }
            Ok(RanOn::Cpu)
        }
        (_, q, k) => apply_position_embeddings_device(table, q, k, append, at).map(|()| RanOn::Hip),
    }
}

fn check_all<T: Float, C: Float>(
    table: &RopeTable,
    q: &HeadsMut<'_, T>,
    k: &HeadsMut<'_, T>,
    append: Option<&AppendKv<'_, T, C>>,
    at: &Positions,
) -> Result<(), RopeError> {
    check_operands(table, &[("q", q), ("k", k)], at)?;
    append.map_or(Ok(()), |append| append.check(table.device(), &k.layout))
}

/// Fails unless every operand fits the table and the positions, on one device.
fn check_operands<T: Float>(
    table: &RopeTable,
    operands: &[(&'static str, &HeadsMut<'_, T>)],
    at: &Positions,
) -> Result<(), RopeError> {
    at.check_against(table)?;
    table.device().expect_same(&at.view()?.device())?;
    for &(operand, x) in operands {
        table.device().expect_same(&x.data.device())?;
        let expected = table.spec().head_dim();
        if x.layout.head_dim != expected {
            return Err(RopeError::HeadDim { operand, expected, found: x.layout.head_dim });
        }
        if x.layout.tokens != at.tokens {
            return Err(RopeError::Tokens { operand, expected: at.tokens, found: x.layout.tokens });
        }
    }
    Ok(())
}

/// The table and the positions as slices, when they live in host memory.
fn host_rotation<'a>(table: &'a RopeTable, at: &'a Positions) -> Option<HostRotation<'a>> {
    let tables = (table.cos.as_view(), table.sin.as_view(), table.pair_axis.as_view());
    let ((View::Host(cos), View::Host(sin), View::Host(pair_axis)), Ok(View::Host(positions))) =
        (tables, at.view())
    else {
        return None;
    };
    let pair_span = table.spec().pair_span() as usize;
    Some(HostRotation { cos, sin, pair_axis, positions, pair_span, tokens: at.tokens as usize })
}
