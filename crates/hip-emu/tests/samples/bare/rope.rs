use half::{bf16, f16};

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close};
use crate::compile::Dialect;

const TOKENS: usize = 2;
const HEADS: usize = 3;
const HEAD_DIM: usize = 128;
const ROTARY_DIM: usize = 64;
const POSITIONS: [i32; TOKENS] = [3, 11];
/// Two products and their sum, of values of at most 1 each: three roundings of f32, the last of at most 2.
const LIMIT: f64 = 4.0 * f32::ROUNDING;

/// `[16][ROTARY_DIM]`: each position's cosines, then its sines.
fn table() -> Vec<f32> {
    let angle = |position: usize, pair: usize| {
        position as f64 * 10_000f64.powf(-2.0 * pair as f64 / ROTARY_DIM as f64)
    };
    let row = |position: usize| {
        let angles = (0..ROTARY_DIM / 2).map(move |pair| angle(position, pair));
        angles.clone().map(f64::cos).chain(angles.map(f64::sin)).map(f32::nearest)
    };
    (0..16).flat_map(row).collect()
}

fn rotate<T: Real>(card: &Card, kernel: &str, interleaved: bool) {
    let (x, table) = (Random::new(1).values::<T>(TOKENS * HEADS * HEAD_DIM), table());
    let mut expected: Vec<f64> = x.iter().map(|value| value.wide()).collect();
    for (vector, head) in expected.chunks_exact_mut(HEAD_DIM).enumerate() {
        let row = &table[usize::try_from(POSITIONS[vector / HEADS]).unwrap() * ROTARY_DIM..][..ROTARY_DIM];
        for pair in 0..ROTARY_DIM / 2 {
            let (a, b) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + ROTARY_DIM / 2) };
            let (cosine, sine) = (row[pair].wide(), row[pair + ROTARY_DIM / 2].wide());
            (head[a], head[b]) = (head[a] * cosine - head[b] * sine, head[a] * sine + head[b] * cosine);
        }
    }
    let (x, table, positions) = (card.upload(&x), card.upload(&table), card.upload(&POSITIONS));
    let sizes = [HEADS, HEAD_DIM, ROTARY_DIM].map(|size| i32::try_from(size).unwrap());
    let arguments = Arguments::default().buffer(&x).buffer(&table).buffer(&positions);
    let arguments = arguments.value(sizes[0]).value(sizes[1]).value(sizes[2]).value(i32::from(interleaved));
    card.launch(kernel, [HEADS, TOKENS, 1], 32, arguments);
    assert_close(card, kernel, &card.download(&x), &expected, LIMIT);
}

#[test]
fn rope() {
    each_build(Dialect::Bare, "rope", &[], |card| {
        for interleaved in [false, true] {
            rotate::<f32>(card, "rope_f32", interleaved);
            rotate::<f16>(card, "rope_f16", interleaved);
            rotate::<bf16>(card, "rope_bf16", interleaved);
        }
    });
}
