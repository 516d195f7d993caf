//! The cases: plain data with a name each. The lists are in the modules below; nothing here rotates anything.
#![allow(dead_code, reason = "the benches use a part")]

mod flashinfer;
mod ggml;
mod layouts;
mod models;
mod place;
mod positions;
pub(crate) mod rotary;

use std::sync::Arc;

use device_mem::DType;
use kernels_rope::Pairing;

pub(crate) use place::{Place, View};
pub(crate) use positions::At;
pub(crate) use rotary::{Definition, GgmlMode, Rotary};

pub(crate) const PAIRINGS: [Pairing; 2] = [Pairing::Interleaved, Pairing::Halves];
pub(crate) const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// One case: what is rotated by what, where it lies, and which operation does it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The list that it is in, with what tells it apart there.
    pub(crate) list: String,
    /// Shared by all cases that one table serves.
    pub(crate) rotary: Arc<Rotary>,
    /// Positions of the table.
    pub(crate) length: u32,
    pub(crate) tokens: u32,
    /// Heads of the queries, or of the one tensor of [`Form::Rotate`].
    pub(crate) q_heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) dtype: DType,
    pub(crate) at: At,
    pub(crate) view: View,
    pub(crate) form: Form,
    pub(crate) values: Values,
    /// Rotate back: by the negative angle, which is the rotation with the elements of each pair exchanged.
    pub(crate) inverse: bool,
}

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `apply_rope`, in place.
    Rotate,
    /// `apply_position_embeddings`, in place.
    Pair,
    /// `apply_position_embeddings_append`: out of place as well, into a cache of this type.
    Append(DType, Cache),
}

/// Where in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) kind: CacheKind,
    /// Tokens of the sequence that are there.
    pub(crate) first: u32,
    /// Elements between one row and the next.
    pub(crate) gap: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheKind {
    /// The one sequence of a contiguous cache.
    One,
    /// The second of three sequences of a contiguous cache.
    OfThree,
    /// The second of three sequences of a cache in blocks of this many tokens.
    Paged(u32),
    /// One token to each sequence, at lengths that are on the device, in blocks of this many tokens.
    NextPaged(u32),
    /// One token to each sequence of a contiguous cache, at lengths that are on the device.
    Next,
}

/// The only sequence, from its start on, without gaps.
pub(crate) const WHOLE_CACHE: Cache = Cache { kind: CacheKind::One, first: 0, gap: 0 };

/// What the elements are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Values {
    /// `[-1, 1)`.
    Uniform,
    /// Uniform with one in eight of signed zeros, subnormal, extreme, infinite and NaN.
    Special,
    /// `[-1, 1)` times this power of ten.
    Scaled(i32),
}

impl Case {
    /// What it is called: unique among all cases.
    pub(crate) fn name(&self) -> String {
        let Case { list, rotary, length, tokens, q_heads, kv_heads, dtype, .. } = self;
        let shape = format!("n{length}/t{tokens}-q{q_heads}-k{kv_heads}");
        let mut name = format!(
            "{list}/{}/{shape}/{dtype}/{}/{}/{}",
            rotary.name(),
            self.at.name(),
            self.view.name(),
            self.form.name()
        );
        match self.values {
            Values::Uniform => {}
            Values::Special => name += "/special",
            Values::Scaled(power) => name += &format!("/times-1e{power}"),
        }
        if self.inverse {
            name += "/back";
        }
        name
    }

    /// Elements that are given to the operation, both tensors and the values.
    pub(crate) fn elements(&self) -> u64 {
        let heads = match self.form {
            Form::Rotate => u64::from(self.q_heads),
            Form::Pair => u64::from(self.q_heads) + u64::from(self.kv_heads),
            Form::Append(..) => u64::from(self.q_heads) + 2 * u64::from(self.kv_heads),
        };
        u64::from(self.tokens) * heads * u64::from(self.rotary.config.head_dim)
    }

    /// Whether there is anything to rotate, for which a device launches.
    pub(crate) fn launches(&self) -> bool {
        let heads = if self.form == Form::Rotate { self.q_heads } else { self.q_heads + self.kv_heads };
        self.tokens > 0 && heads > 0
    }
}

impl Form {
    fn name(self) -> String {
        match self {
            Form::Rotate => "rotate".to_owned(),
            Form::Pair => "pair".to_owned(),
            Form::Append(dtype, Cache { kind, first, gap }) => {
                let kind = match kind {
                    CacheKind::One => "one".to_owned(),
                    CacheKind::OfThree => "of-three".to_owned(),
                    CacheKind::Paged(block) => format!("paged{block}"),
                    CacheKind::NextPaged(block) => format!("next-paged{block}"),
                    CacheKind::Next => "next".to_owned(),
                };
                format!("append-{dtype}-{kind}-{first}-gap{gap}")
            }
        }
    }
}

/// Every case. `seed` draws the frequency factors of ggml's cases, and nothing that a name tells.
pub(crate) fn all(seed: u64) -> Vec<Case> {
    [ggml::cases(seed), flashinfer::cases(), models::cases(), layouts::cases()].concat()
}
