//! Operands that do not fit each other, and those of two devices.

use device_mem::{Device, MemError};
use kernels_rope::{Axes, RopeConfig, RopeError};

use super::attempt::{Attempt, Call, Operand};
use super::{Refusal, refused};
use crate::cases::{Cache, CacheKind};

pub(super) fn refusals() -> Vec<Refusal> {
    let mut list = Vec::new();
    for call in [Call::Rotate, Call::Pair, Call::Append] {
        list.extend(of_every_call(call));
    }
    list.extend(caches());
    list.extend(devices());
    list
}

/// A call of which `change` breaks something.
fn with(call: Call, change: impl Fn(&mut Attempt)) -> impl Fn(&Device) -> Result<RopeError, String> {
    let mut attempt = Attempt::new(call);
    change(&mut attempt);
    move |device| attempt.refused(device)
}

fn of_every_call(call: Call) -> Vec<Refusal> {
    let mut list = Vec::new();
    let named = |what: &str| format!("{}/{what}", format!("{call:?}").to_lowercase());
    let longer = with(call, |attempt| (attempt.at.1, attempt.positions[3]) = (32, 16));
    refused!(
        list,
        named("positions-of-a-longer-table"),
        longer,
        RopeError::OtherTable { highest: 16, length: 16 }
    );
    let axes = with(call, |attempt| {
        attempt.at.0 = RopeConfig { axes: Axes::Sections(vec![1, 1]), ..attempt.at.0.clone() };
    });
    refused!(list, named("three-axes-for-one"), axes, RopeError::AxisCount { expected: 1, found: 3 });
    let width = with(call, |attempt| attempt.q = [4, 2, 16]);
    refused!(
        list,
        named("wider-queries"),
        width,
        RopeError::HeadDim { operand: "x" | "q", expected: 8, found: 16 }
    );
    let tokens = with(call, |attempt| attempt.q = [5, 4, 8]);
    refused!(
        list,
        named("more-queries"),
        tokens,
        RopeError::Tokens { operand: "x" | "q", expected: 4, found: 5 }
    );
    if call != Call::Rotate {
        let width = with(call, |attempt| attempt.k = [4, 4, 4]);
        refused!(
            list,
            named("narrower-keys"),
            width,
            RopeError::HeadDim { operand: "k", expected: 8, found: 4 }
        );
        let tokens = with(call, |attempt| attempt.k = [2, 4, 8]);
        refused!(
            list,
            named("fewer-keys"),
            tokens,
            RopeError::Tokens { operand: "k", expected: 4, found: 2 }
        );
    }
    list
}

fn append(change: impl Fn(&mut Attempt)) -> impl Fn(&Device) -> Result<RopeError, String> {
    with(Call::Append, change)
}

fn caches() -> Vec<Refusal> {
    let mut list = Vec::new();
    for (index, operand) in ["keys", "values"].into_iter().enumerate() {
        let run = append(move |attempt| attempt.cached[index] -= 1);
        refused!(list, format!("cache/short-{operand}"), run, RopeError::CacheLength { found: 143, .. });
    }
    let rows = append(|attempt| (attempt.layout.row_len, attempt.cached) = (7, [2 * 9 * 7; 2]));
    refused!(list, "cache/rows-shorter-than-heads", rows, RopeError::CacheLength { .. });
    let heads = append(|attempt| (attempt.layout.kv_heads, attempt.cached) = (1, [9 * 8; 2]));
    refused!(list, "cache/fewer-heads", heads, RopeError::CacheHeads { kv_heads: 2, head_dim: 8, .. });
    let width = append(|attempt| attempt.layout.head_dim = 4);
    refused!(list, "cache/narrower-heads", width, RopeError::CacheHeads { kv_heads: 2, head_dim: 8, .. });
    let values = append(|attempt| attempt.v_len -= 1);
    refused!(
        list,
        "cache/fewer-values",
        values,
        RopeError::DataLength { tokens: 4, heads: 2, found: 63, .. }
    );
    for first in [6, 9, 10, u32::MAX] {
        let run = append(move |attempt| attempt.cache.first = first);
        refused!(
            list,
            format!("cache/full-at-{first}"),
            run,
            RopeError::CacheFull { tokens: 4, capacity: 9, .. }
        );
    }
    for (kind, sequence) in [(CacheKind::One, 1), (CacheKind::OfThree, 3)] {
        let run = append(move |attempt| {
            (attempt.cache.kind, attempt.sequence) = (kind, sequence);
            if kind == CacheKind::OfThree {
                attempt.cached = [3 * 2 * 9 * 8; 2];
            }
        });
        refused!(list, format!("cache/sequence-{sequence}"), run, RopeError::Sequence { .. });
    }
    let few = append(|attempt| next(attempt, vec![0; 3]));
    refused!(
        list,
        "cache/three-lengths-of-four",
        few,
        RopeError::Lengths { sequences: 4, tokens: 4, found: 3 }
    );
    let paged = append(|attempt| paged(attempt, 16));
    refused!(list, "cache/blocks-of-another-size", paged, RopeError::BlockSize { block_size: 9 });
    list
}

/// One token to each of four sequences.
fn next(attempt: &mut Attempt, lengths: Vec<u32>) {
    attempt.cache = Cache { kind: CacheKind::Next, ..attempt.cache };
    attempt.cached = [4 * 2 * 9 * 8; 2];
    attempt.lengths = lengths;
}

fn paged(attempt: &mut Attempt, block_size: u32) {
    attempt.cache = Cache { kind: CacheKind::Paged(block_size), ..attempt.cache };
    attempt.block_size = block_size;
}

fn devices() -> Vec<Refusal> {
    let mut list = Vec::new();
    let foreign = |operand: Operand| {
        append(move |attempt| {
            attempt.elsewhere = Some(operand);
            match operand {
                Operand::Lengths => next(attempt, vec![0; 4]),
                Operand::Blocks => {
                    paged(attempt, 16);
                    (attempt.layout.capacity, attempt.cached) = (16, [2 * 16 * 8; 2]);
                }
                _ => {}
            }
        })
    };
    for operand in [
        Operand::Queries,
        Operand::Keys,
        Operand::Values,
        Operand::CachedKeys,
        Operand::CachedValues,
        Operand::Positions,
        Operand::Lengths,
        Operand::Blocks,
    ] {
        let name = format!("foreign/{}", format!("{operand:?}").to_lowercase());
        refused!(list, name, foreign(operand), RopeError::Mem(MemError::ForeignDevice { .. }));
    }
    let one = with(Call::Rotate, |attempt| attempt.elsewhere = Some(Operand::Queries));
    refused!(list, "foreign/one-tensor", one, RopeError::Mem(MemError::ForeignDevice { .. }));
    list
}
