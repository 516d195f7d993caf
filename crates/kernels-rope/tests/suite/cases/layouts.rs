//! Views, caches, position axes, special and extreme values, empty operands, and many tokens.

use std::sync::Arc;

use device_mem::DType;
use kernels_rope::{Axes, InvFreq, Pairing, RopeConfig};

use super::rotary::{plain, yarn};
use super::{At, Cache, CacheKind, Case, FLOATS, Form, PAIRINGS, Rotary, Values, View, WHOLE_CACHE};

const LENGTH: u32 = 4096;

/// Width of a head and rotated width: a part, all, an odd width, the least.
const WIDTHS: [(u32, u32); 5] = [(128, 64), (80, 40), (64, 64), (5, 2), (2, 2)];

pub(super) fn cases() -> Vec<Case> {
    [views(), caches(), axes(), special_values(), magnitudes(), empty(), many_tokens()].concat()
}

fn embeddings() -> Vec<Arc<Rotary>> {
    let of_widths = |(head_dim, rotary_dim)| {
        PAIRINGS.map(|pairing| Rotary::new("plain", plain(head_dim, rotary_dim, 1e4, pairing)))
    };
    WIDTHS.into_iter().flat_map(of_widths).collect()
}

fn case(list: &str, rotary: &Arc<Rotary>, dtype: DType, tokens: u32, form: Form) -> Case {
    Case {
        list: list.to_owned(),
        rotary: rotary.clone(),
        length: LENGTH,
        tokens,
        q_heads: 4,
        kv_heads: 2,
        dtype,
        at: At::Below(LENGTH),
        view: View::Contiguous,
        form,
        values: Values::Uniform,
        inverse: false,
    }
}

fn views() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rotary, dtype) in embeddings().iter().flat_map(|rotary| FLOATS.map(|dtype| (rotary, dtype))) {
        let head_dim = rotary.config.head_dim;
        for view in [
            View::Contiguous,
            View::Packed,
            View::HeadMajor,
            View::HeadMajorGaps,
            View::Quarter,
            View::SecondHalf,
            View::Window(head_dim + 9, 4),
            View::Odd,
        ] {
            for (tokens, form) in [1, 2, 19].into_iter().flat_map(|tokens| {
                [Form::Rotate, Form::Pair, Form::Append(dtype, WHOLE_CACHE)].map(|form| (tokens, form))
            }) {
                cases.push(Case { view, ..case("views", rotary, dtype, tokens, form) });
            }
        }
    }
    cases
}

/// Types of activations and cache that there are kernels for.
const CACHE_TYPES: [(DType, DType); 5] = [
    (DType::F32, DType::F32),
    (DType::F32, DType::F16),
    (DType::F32, DType::BF16),
    (DType::F16, DType::F16),
    (DType::BF16, DType::BF16),
];

fn caches() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rotary, (dtype, cache)) in
        embeddings().iter().flat_map(|rotary| CACHE_TYPES.map(|types| (rotary, types)))
    {
        for (kind, first, gap) in [
            (CacheKind::One, 0, 0),
            (CacheKind::One, 7, 8),
            (CacheKind::OfThree, 3, 1),
            (CacheKind::Paged(16), 5, 0),
            (CacheKind::Paged(4), 2, 3),
            (CacheKind::Paged(1), 1, 0),
            (CacheKind::Next, 2, 0),
            (CacheKind::NextPaged(4), 3, 8),
        ] {
            for (tokens, view) in [(1, View::Contiguous), (5, View::Packed)] {
                let form = Form::Append(cache, Cache { kind, first, gap });
                cases.push(Case { view, ..case("caches", rotary, dtype, tokens, form) });
                if dtype == DType::F32 {
                    let values = Values::Special;
                    cases.push(Case { view, values, ..case("caches", rotary, dtype, tokens, form) });
                }
            }
        }
    }
    cases
}

/// M-RoPE by sections of every kind, and ChatGLM's two blocks.
fn axes() -> Vec<Case> {
    let sections: [(&str, u32, &[u32]); 8] = [
        ("8+12+12", 64, &[8, 12, 12]),
        ("16+24+24", 128, &[16, 24, 24]),
        ("0+32+0", 64, &[0, 32, 0]),
        ("0+0+32", 64, &[0, 0, 32]),
        ("10+6", 32, &[10, 6]),
        ("8+8+8+8", 64, &[8, 8, 8, 8]),
        ("1+1+1+1+1+1", 12, &[1; 6]),
        ("1", 2, &[1]),
    ];
    let mut rotaries = Vec::new();
    for pairing in PAIRINGS {
        for (label, rotary_dim, sections) in sections {
            let config = RopeConfig {
                axes: Axes::Sections(sections.to_vec()),
                ..plain(128, rotary_dim, 1e4, pairing)
            };
            let scaled = RopeConfig { scaling: yarn(4.0, 1024), ..config.clone() };
            rotaries.push(Rotary::new(&format!("plain-sections{label}"), config));
            rotaries.push(Rotary::new(&format!("yarn-sections{label}"), scaled));
        }
        for (head_dim, rotary_dim) in [(128, 128), (128, 64), (64, 4), (12, 8)] {
            let config = RopeConfig { axes: Axes::TwoBlocks, ..plain(head_dim, rotary_dim, 1e4, pairing) };
            let rounded = RopeConfig { inv_freq: InvFreq::RoundedToF16, ..config.clone() };
            rotaries.push(Rotary::new("plain-blocks", config));
            rotaries.push(Rotary::new("f16-frequencies-blocks", rounded));
        }
    }
    let with_types = rotaries.iter().flat_map(|rotary| FLOATS.map(|dtype| (rotary, dtype)));
    let forms = |dtype| [Form::Rotate, Form::Pair, Form::Append(dtype, WHOLE_CACHE)];
    with_types
        .flat_map(|(rotary, dtype)| forms(dtype).map(|form| case("axes", rotary, dtype, 5, form)))
        .collect()
}

fn special_values() -> Vec<Case> {
    let scaled = |(head_dim, rotary_dim), pairing: Pairing| {
        let config = RopeConfig { scaling: yarn(32.0, 4096), ..plain(head_dim, rotary_dim, 1e4, pairing) };
        Rotary::new("yarn", config)
    };
    let scaled = WIDTHS.into_iter().flat_map(|widths| PAIRINGS.map(|pairing| scaled(widths, pairing)));
    let mut cases = Vec::new();
    for (rotary, dtype) in
        embeddings().into_iter().chain(scaled).flat_map(|rotary| FLOATS.map(|dtype| (rotary.clone(), dtype)))
    {
        for form in [Form::Rotate, Form::Pair, Form::Append(dtype, WHOLE_CACHE)] {
            for at in [At::Same(0), At::Below(LENGTH)] {
                let values = Values::Special;
                cases.push(Case { at, values, ..case("special", &rotary, dtype, 7, form) });
            }
        }
    }
    cases
}

/// From where every product is subnormal to where sums overflow.
fn magnitudes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rotary, dtype) in embeddings().iter().flat_map(|rotary| FLOATS.map(|dtype| (rotary, dtype))) {
        let powers: &[i32] =
            if dtype == DType::F16 { &[-7, -5, -3, 4] } else { &[-44, -39, -37, -20, 20, 38] };
        for &power in powers {
            let values = Values::Scaled(power);
            cases.push(Case { values, ..case("magnitudes", rotary, dtype, 7, Form::Pair) });
        }
    }
    cases
}

fn empty() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rotary, dtype) in embeddings().iter().flat_map(|rotary| FLOATS.map(|dtype| (rotary, dtype))) {
        for form in [Form::Rotate, Form::Pair, Form::Append(dtype, WHOLE_CACHE)] {
            for (tokens, q_heads, kv_heads) in [(0, 4, 2), (3, 0, 2), (3, 4, 0), (3, 0, 0)] {
                cases.push(Case { q_heads, kv_heads, ..case("empty", rotary, dtype, tokens, form) });
            }
        }
    }
    cases
}

/// As many tokens as the largest cases of ggml and FlashInfer have, and beyond what one dimension of a small grid takes.
fn many_tokens() -> Vec<Case> {
    let mut cases = Vec::new();
    for (head_dim, rotary_dim, heads, tokens) in
        [(36, 36, 16, 2457), (16, 16, 16, 8192), (2, 2, 1, 65_537), (4, 2, 1, 201_756)]
    {
        for (pairing, dtype) in PAIRINGS.into_iter().zip([DType::F32, DType::F16]) {
            let rotary = Rotary::new("plain", plain(head_dim, rotary_dim, 1e4, pairing));
            for (form, kv_heads) in [(Form::Rotate, 0), (Form::Append(dtype, WHOLE_CACHE), 1)] {
                let case = case("many", &rotary, dtype, tokens, form);
                cases.push(Case { q_heads: heads, kv_heads, ..case });
            }
        }
    }
    cases
}
