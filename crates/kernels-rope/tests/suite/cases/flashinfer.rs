//! FlashInfer's RoPE tests (tests/attention/test_rope.py): the 23,050 parametrised cases without quantisation, and the shapes
//! of those with it, in our terms:
//!
//! | FlashInfer | here |
//! |---|---|
//! | `test_rope`, `test_rope_pos_ids` with int32 ids | tokens in the order of the batch |
//! | `test_rope_pos_ids` with int64 ids | ids are u32 here: tokens in a drawn order |
//! | `inplace` | `apply_position_embeddings`; out of place: appended to a cache |
//! | queries and keys are slices of one packed row | [`View::Packed`] |
//! | `batch_size` x `qkv_len` tokens, to 201,756 | a token's row depends on its position alone: the first, the last and up to six that the seed draws |
//! | `llama31` | base 5e5, Llama 3 scaling of 8, 1, 4, 8192, which are the defaults of FlashInfer's functions |
//! | `torch.randn` | uniform in `[-1, 1)` |
//! | `test_rope_cos_sin_cache`, of which one appears twice | bf16, halves for `is_neox_style` |
//! | `test_generalized_rope_quantize`: fp8 is not in our contract | its 13 shapes with 6 numbers of tokens, in f16 and bf16 without quantisation; of more than 8 tokens, 8 run |

use std::sync::Arc;

use device_mem::DType;
use kernels_rope::{Pairing, RopeConfig};

use super::rotary::{llama31, plain};
use super::{At, Case, Form, PAIRINGS, Rotary, Values, View, WHOLE_CACHE};

/// Tokens that run, for the widest and the narrowest heads.
const FEWEST_TOKENS: u32 = 2;
const MOST_TOKENS: u32 = 8;
/// Elements that a case aims for.
const ELEMENTS: u32 = 6144;
/// Longest sequence and highest offset.
const LENGTH: u32 = 204 + 99;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for head_dim in [64, 128, 256] {
        for rotary_dim in [head_dim / 4, head_dim / 2, head_dim / 4 * 3, head_dim] {
            for pairing in PAIRINGS {
                let llama = Rotary::new("llama", plain(head_dim, rotary_dim, 1e4, pairing));
                let scaled = RopeConfig { scaling: llama31(), ..plain(head_dim, rotary_dim, 5e5, pairing) };
                for rotary in [llama, Rotary::new("llama31", scaled)] {
                    batches(&mut cases, &rotary);
                }
            }
        }
    }
    cos_sin_cache(&mut cases);
    quantised_shapes(&mut cases);
    cases
}

/// `test_rope` (interleaved only) and `test_rope_pos_ids` with both types of ids.
fn batches(cases: &mut Vec<Case>, rotary: &Arc<Rotary>) {
    let interleaved = rotary.config.pairing == Pairing::Interleaved;
    let tests: &[(&str, bool)] = &[("rope", false), ("pos-ids-i32", false), ("pos-ids-i64", true)];
    for &(test, shuffled) in &tests[usize::from(!interleaved)..] {
        for (sequences, tokens) in
            [1, 19, 99, 989].into_iter().flat_map(|batch| [1, 4, 19, 204].map(|len| (batch, len)))
        {
            for (q_heads, first) in
                [8, 16].into_iter().flat_map(|heads| [0, 15, 99].map(|first| (heads, first)))
            {
                for form in [Form::Pair, Form::Append(DType::F16, WHOLE_CACHE)] {
                    let at = At::Batch { sequences, tokens, first, shuffled };
                    cases.push(case(test, rotary, (sequences * tokens, q_heads, 8), DType::F16, at, form));
                }
            }
        }
    }
}

fn case(
    test: &str,
    rotary: &Arc<Rotary>,
    (tokens, q_heads, kv_heads): (u32, u32, u32),
    dtype: DType,
    at: At,
    form: Form,
) -> Case {
    let row = (q_heads + kv_heads) * rotary.config.head_dim;
    Case {
        list: format!("flashinfer-{test}"),
        rotary: rotary.clone(),
        length: LENGTH,
        tokens: tokens.min((ELEMENTS / row).clamp(FEWEST_TOKENS, MOST_TOKENS)),
        q_heads,
        kv_heads,
        dtype,
        at,
        view: View::Packed,
        form,
        values: Values::Uniform,
        inverse: false,
    }
}

/// Width of a head, rotated width, base, whether pairs are halves, sequences, their length, heads.
type CosSinCache = (u32, u32, f64, bool, u32, u32, u32, u32);

const COS_SIN_CACHE: [CosSinCache; 10] = [
    (64, 64, 8000.0, true, 32, 32, 1, 1),
    (256, 128, 10_000.0, true, 2, 512, 4, 2),
    (64, 32, 8432.0, true, 2, 199, 4, 1),
    (64, 64, 8000.0, false, 32, 32, 1, 1),
    (64, 64, 8000.0, false, 32, 32, 1, 1),
    (256, 128, 9231.0, false, 3, 231, 4, 2),
    (192, 128, 9231.0, true, 3, 231, 3, 2),
    (80, 64, 10_000.0, false, 4, 64, 2, 2),
    (112, 64, 12_000.0, true, 5, 77, 2, 1),
    (160, 96, 10_000.0, false, 2, 128, 6, 3),
];

fn cos_sin_cache(cases: &mut Vec<Case>) {
    for (number, (head_dim, rotary_dim, theta, halves, sequences, tokens, q_heads, kv_heads)) in
        COS_SIN_CACHE.into_iter().enumerate()
    {
        let pairing = if halves { Pairing::Halves } else { Pairing::Interleaved };
        let rotary = Rotary::new("plain", plain(head_dim, rotary_dim, theta, pairing));
        let at = At::Batch { sequences, tokens, first: 0, shuffled: false };
        let heads = (sequences * tokens, q_heads, kv_heads);
        let case = case(&format!("cos-sin-cache-{number}"), &rotary, heads, DType::BF16, at, Form::Pair);
        cases.push(Case { view: View::Contiguous, length: 512, ..case });
    }
}

/// Query heads, key heads, width with and without rotation.
const QUANTISED: [[u32; 4]; 13] = [
    [128, 1, 64, 512],
    [64, 1, 128, 256],
    [128, 1, 64, 128],
    [32, 1, 32, 96],
    [32, 8, 64, 64],
    [64, 16, 128, 128],
    [24, 6, 32, 96],
    [32, 8, 128, 0],
    [64, 8, 128, 0],
    [64, 8, 64, 0],
    [32, 32, 64, 64],
    [16, 16, 128, 128],
    [8, 8, 32, 96],
];

fn quantised_shapes(cases: &mut Vec<Case>) {
    for [q_heads, kv_heads, rotary_dim, rest] in QUANTISED {
        let config = plain(rotary_dim + rest, rotary_dim, 1e4, Pairing::Interleaved);
        let rotary = Rotary::new("plain", config);
        for tokens in [1, 19, 128, 199, 899, 2047] {
            for dtype in [DType::F16, DType::BF16] {
                let at = At::Batch { sequences: 1, tokens, first: 0, shuffled: false };
                let form = Form::Append(dtype, WHOLE_CACHE);
                let case = case("quantize", &rotary, (tokens, q_heads, kv_heads), dtype, at, form);
                cases.push(Case { view: View::Contiguous, length: 2047, ..case });
            }
        }
    }
}
