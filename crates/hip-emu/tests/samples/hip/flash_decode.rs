use half::f16;

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, wide};
use crate::compile::Dialect;
use crate::reference::{Attention, attend};

const SHAPE: Attention = Attention { heads: 4, kv_heads: 2, head_dim: 128 };
/// Values of a token's keys.
const ROW: usize = SHAPE.kv_heads * SHAPE.head_dim;

fn scale() -> f32 {
    f32::nearest(1.0 / (SHAPE.head_dim as f64).sqrt())
}

/// Pages lie in another order than their tokens, and the last split has no token.
fn decode(card: &Card) {
    const POSITIONS: usize = 50;
    const PAGE: usize = 8;
    const PAGES: [i32; 7] = [4, 0, 6, 2, 7, 1, 5];
    const SPLIT: usize = 16;
    const SPLITS: usize = 5;
    let Attention { heads, kv_heads, head_dim } = SHAPE;
    let mut random = Random::new(23);
    let query = random.values::<f16>(heads * head_dim);
    let (key, value) = (random.values::<f16>(8 * PAGE * ROW), random.values::<f16>(8 * PAGE * ROW));
    let in_order = |cache: &[f16]| -> Vec<f64> {
        PAGES.iter().flat_map(|&page| wide(&cache[page as usize * PAGE * ROW..][..PAGE * ROW])).collect()
    };
    let expected = attend(SHAPE, &wide(&query), &in_order(&key), &in_order(&value), POSITIONS);
    let (query, key, value) = (card.upload(&query), card.upload(&key), card.upload(&value));
    let (pages, out) = (card.upload(&PAGES), card.upload(&vec![f16::NAN; heads * head_dim]));
    let parts = card.upload(&vec![f32::NAN; heads * SPLITS * head_dim]);
    let sums = card.upload(&vec![f32::NAN; heads * SPLITS * 2]);
    let arguments = Arguments::default().buffer(&query).buffer(&key).buffer(&value).buffer(&pages);
    let mut arguments = arguments.buffer(&parts).buffer(&sums);
    for size in [POSITIONS, kv_heads, heads / kv_heads, PAGE, SPLIT] {
        arguments = arguments.size(size);
    }
    card.launch("flash_decode_f16", [heads, SPLITS, 1], card.lanes(), arguments.value(scale()));
    let arguments = Arguments::default().buffer(&parts).buffer(&sums).buffer(&out).size(SPLITS);
    card.launch("flash_combine_f16", [heads, 1, 1], 128, arguments);
    // Scores of at most 10 roundings of terms whose sizes add up to 5, twice in a weight; 16 steps of three roundings
    // and the merge of the splits: 170 roundings, of outputs below 1.
    assert_close(card, "flash_decode_f16", &card.download(&out), &expected, 170.0 * f32::ROUNDING);
}

/// Two blocks of queries, the second with two tokens.
fn prefill(card: &Card) {
    const TOKENS: usize = 66;
    const HEADS: usize = 2;
    let shape = Attention { heads: HEADS, kv_heads: 1, head_dim: SHAPE.head_dim };
    let row = shape.heads * shape.head_dim;
    let mut random = Random::new(24);
    let query = random.values::<f16>(TOKENS * row);
    let (key, value) =
        (random.values::<f16>(TOKENS * shape.head_dim), random.values::<f16>(TOKENS * shape.head_dim));
    let (wide_key, wide_value) = (wide(&key), wide(&value));
    let tokens = query.chunks_exact(row).enumerate();
    let expected: Vec<f64> = tokens
        .flat_map(|(token, query)| attend(shape, &wide(query), &wide_key, &wide_value, token + 1))
        .collect();
    let (query, key, value) = (card.upload(&query), card.upload(&key), card.upload(&value));
    let out = card.upload(&vec![f16::NAN; TOKENS * row]);
    let arguments = Arguments::default().buffer(&query).buffer(&key).buffer(&value).buffer(&out);
    let arguments = arguments.size(TOKENS).value(1i32).size(HEADS).value(scale());
    card.launch("flash_prefill_f16", [2, HEADS, 1], 128, arguments);
    // As above, with 64 roundings of a score and 66 steps.
    assert_close(card, "flash_prefill_f16", &card.download(&out), &expected, 850.0 * f32::ROUNDING);
}

#[test]
fn flash_decode() {
    each_build(Dialect::Hip, "flash_decode", &[], |card| {
        decode(card);
        prefill(card);
    });
}
