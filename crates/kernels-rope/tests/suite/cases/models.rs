//! Every scaling at the widths of models and at the edges, in every type, by every operation; then positions to 2^20.

use std::sync::Arc;

use device_mem::DType;
use kernels_rope::{InvFreq, RopeConfig, Scaling};

use super::rotary::{llama31, longrope, plain, yarn};
use super::{At, Case, FLOATS, Form, PAIRINGS, Rotary, Values, View, WHOLE_CACHE};

/// Width of a head, rotated width, heads of queries and keys.
const SHAPES: [[u32; 4]; 13] = [
    [128, 64, 32, 2],
    [128, 128, 4, 1],
    [64, 64, 8, 8],
    [64, 16, 12, 4],
    [80, 40, 4, 2],
    [96, 72, 3, 1],
    [112, 28, 2, 2],
    [256, 64, 4, 1],
    [256, 192, 1, 1],
    [1024, 6, 1, 1],
    [1024, 1024, 1, 1],
    [5, 2, 7, 3],
    [2, 2, 16, 2],
];

const LENGTH: u32 = 2048;
/// Below [`LENGTH`], so that what grows with the sequence has grown.
const TRAINED: u32 = 1024;

/// Every kind of scaling, with the lengths that it depends on.
fn scalings(pairs: u32) -> Vec<(&'static str, Scaling)> {
    let deepseek = Scaling::Yarn {
        factor: 40.0,
        trained_positions: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        mscale: Some(1.0),
        mscale_all_dim: Some(0.707),
        truncate: true,
    };
    let untruncated = Scaling::Yarn {
        factor: 32.0,
        trained_positions: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: Some(1.25),
        mscale: None,
        mscale_all_dim: None,
        truncate: false,
    };
    vec![
        ("plain", Scaling::None),
        ("linear4", Scaling::Linear { factor: 4.0 }),
        ("dynamic", Scaling::Dynamic { factor: 2.0, trained_positions: TRAINED }),
        ("dynamic-unreached", Scaling::Dynamic { factor: 2.0, trained_positions: 1 << 21 }),
        ("yarn", yarn(4.0, 32_768)),
        ("yarn-mscale", deepseek),
        ("yarn-untruncated", untruncated),
        ("llama3", llama31()),
        ("longrope-short", longrope(32.0, pairs, 1 << 21)),
        ("longrope-long", longrope(32.0, pairs, TRAINED)),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    [every_scaling(), every_base(), far(), farthest()].concat()
}

/// One embedding of each scaling, and of rounded frequencies.
fn embeddings(head_dim: u32, rotary_dim: u32) -> Vec<Arc<Rotary>> {
    let of_pairing = |pairing| {
        let config = plain(head_dim, rotary_dim, 1e4, pairing);
        let rounded = RopeConfig { inv_freq: InvFreq::RoundedToF16, ..config.clone() };
        let scaled = scalings(rotary_dim / 2);
        let scaled =
            scaled.into_iter().map(move |(label, scaling)| (label, RopeConfig { scaling, ..config.clone() }));
        scaled.chain([("f16-frequencies", rounded)])
    };
    let configs = PAIRINGS.into_iter().flat_map(of_pairing);
    configs.map(|(label, config)| Rotary::new(label, config)).collect()
}

fn every_scaling() -> Vec<Case> {
    let mut cases = Vec::new();
    for [head_dim, rotary_dim, q_heads, kv_heads] in SHAPES {
        for rotary in embeddings(head_dim, rotary_dim) {
            for dtype in FLOATS {
                for form in [Form::Rotate, Form::Pair, Form::Append(dtype, WHOLE_CACHE)] {
                    for (tokens, at) in [(1, At::Same(0)), (2, At::Span(LENGTH - 2)), (3, At::Below(LENGTH))]
                    {
                        let heads = [q_heads, kv_heads];
                        cases.push(case("models", &rotary, LENGTH, tokens, heads, dtype, at, form));
                    }
                }
            }
        }
    }
    cases
}

#[expect(clippy::too_many_arguments, reason = "the fields of a case")]
fn case(
    list: &str,
    rotary: &Arc<Rotary>,
    length: u32,
    tokens: u32,
    [q_heads, kv_heads]: [u32; 2],
    dtype: DType,
    at: At,
    form: Form,
) -> Case {
    Case {
        list: list.to_owned(),
        rotary: rotary.clone(),
        length,
        tokens,
        q_heads,
        kv_heads,
        dtype,
        at,
        view: View::Contiguous,
        form,
        values: Values::Uniform,
        inverse: false,
    }
}

/// The positions that ggml's and HF's methods are measured at, and each side of every power of two to them.
const EDGES: &[u32] = &[
    1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 2047, 2048, 4095,
    4096, 8191, 8192, 16_383, 16_384, 32_767, 32_768, 65_535, 65_536, 131_071, 131_072, 202_751,
];
const FAR: u32 = 202_752;

fn far_positions() -> [(u32, At); 4] {
    [(2, At::Same(131_071)), (2, At::Same(202_751)), (16, At::Below(FAR)), (35, At::Listed("edges", EDGES))]
}

/// Bases from 1e4 to 1e8 at positions to 202,751: GLM's width, and a quarter of it for the bases between.
fn every_base() -> Vec<Case> {
    let mut cases = Vec::new();
    for (theta, rotary_dim) in
        [(1e4, 64), (1e5, 32), (5e5, 32), (1e6, 32), (5e6, 64), (1e7, 32), (2.5e7, 32), (1e8, 32)]
    {
        for pairing in PAIRINGS {
            let rotary = Rotary::new("plain", plain(128, rotary_dim, theta, pairing));
            for (dtype, (tokens, at)) in
                FLOATS.into_iter().flat_map(|dtype| far_positions().map(|at| (dtype, at)))
            {
                for form in [Form::Rotate, Form::Append(dtype, WHOLE_CACHE)] {
                    cases.push(case("bases", &rotary, FAR, tokens, [2, 1], dtype, at.clone(), form));
                }
            }
        }
    }
    cases
}

/// Every scaling at the same positions.
fn far() -> Vec<Case> {
    let mut cases = Vec::new();
    for rotary in embeddings(64, 16) {
        for (dtype, (tokens, at)) in
            FLOATS.into_iter().flat_map(|dtype| far_positions().map(|at| (dtype, at)))
        {
            cases.push(case("far", &rotary, FAR, tokens, [4, 2], dtype, at, Form::Pair));
        }
    }
    cases
}

/// To the end of a table of 2^20 positions.
fn farthest() -> Vec<Case> {
    const LENGTH: u32 = 1 << 20;
    let mut cases = Vec::new();
    let [interleaved, halves] = PAIRINGS;
    for rotary in [
        Rotary::new("plain", plain(128, 64, 1e4, interleaved)),
        Rotary::new("plain", plain(64, 16, 5e6, halves)),
        Rotary::new("plain", plain(64, 16, 1e8, interleaved)),
        Rotary::new("yarn", RopeConfig { scaling: yarn(32.0, 32_768), ..plain(64, 16, 1e6, halves) }),
    ] {
        for dtype in FLOATS {
            for (tokens, at) in [
                (2, At::Same(LENGTH - 1)),
                (3, At::Span(LENGTH - 3)),
                (64, At::Below(LENGTH)),
                (35, At::Listed("edges", EDGES)),
            ] {
                for form in [Form::Rotate, Form::Pair, Form::Append(dtype, WHOLE_CACHE)] {
                    cases.push(case("farthest", &rotary, LENGTH, tokens, [4, 2], dtype, at.clone(), form));
                }
            }
        }
    }
    cases
}
