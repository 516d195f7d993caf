use half::{bf16, f16};

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, wide};
use crate::compile::Dialect;

const TOKENS: usize = 3;
const HEADS: usize = 2;
const HEAD_DIM: usize = 80;
const ROTARY_DIM: usize = 64;
const PAIRS: usize = ROTARY_DIM / 2;
const POSITIONS: [i32; TOKENS] = [3, 0, 14];
const THETA: f32 = 10_000.0;
/// Two products and their sum, of values of at most 1 each: three roundings of f32, the last of at most 2.
const ROTATION: f64 = 4.0 * f32::ROUNDING;

fn angle(position: usize, pair: usize) -> f64 {
    position as f64 * THETA.wide().powf(-2.0 * pair as f64 / ROTARY_DIM as f64)
}

/// Rotates one head by each pair's cosine and sine.
fn rotate(head: &mut [f64], neox: bool, turn: impl Fn(usize) -> (f64, f64)) {
    for pair in 0..PAIRS {
        let (a, b) = if neox { (pair, pair + PAIRS) } else { (2 * pair, 2 * pair + 1) };
        let (cosine, sine) = turn(pair);
        (head[a], head[b]) = (head[a] * cosine - head[b] * sine, head[b] * cosine + head[a] * sine);
    }
}

/// A token's heads are followed by values of another tensor, which must stay.
fn table<T: Real>(card: &Card, kernel: &str, neox: bool) {
    const STRIDE: usize = HEADS * HEAD_DIM + 24;
    let x = Random::new(1).values::<T>(TOKENS * STRIDE);
    let pairs = (0..16).flat_map(|position| (0..PAIRS).map(move |pair| angle(position, pair)));
    let table: Vec<f32> = pairs.flat_map(|angle| [angle.cos(), angle.sin()]).map(f32::nearest).collect();
    let mut expected = wide(&x);
    for (token, row) in expected.chunks_exact_mut(STRIDE).enumerate() {
        let turns = &table[usize::try_from(POSITIONS[token]).unwrap() * ROTARY_DIM..];
        for head in row[..HEADS * HEAD_DIM].chunks_exact_mut(HEAD_DIM) {
            rotate(head, neox, |pair| (turns[2 * pair].wide(), turns[2 * pair + 1].wide()));
        }
    }
    let (x, table, positions) = (card.upload(&x), card.upload(&table), card.upload(&POSITIONS));
    let arguments = Arguments::default().buffer(&x).buffer(&table).buffer(&positions).size(HEADS);
    let arguments = arguments.size(HEAD_DIM).size(ROTARY_DIM).size(STRIDE);
    card.launch(kernel, [2, HEADS, TOKENS], 24, arguments);
    assert_close(card, kernel, &card.download(&x), &expected, ROTATION);
}

/// The frequency takes two roundings and the angle a third: they turn the pair by at most 3 roundings of the position.
/// A sine and a cosine take one more each.
fn on_the_fly<T: Real>(card: &Card, kernel: &str, neox: bool, positions: [i32; TOKENS]) {
    let x = Random::new(2).values::<T>(TOKENS * HEADS * HEAD_DIM);
    let mut expected = wide(&x);
    for (vector, head) in expected.chunks_exact_mut(HEAD_DIM).enumerate() {
        let position = usize::try_from(positions[vector / HEADS]).unwrap();
        rotate(head, neox, |pair| (angle(position, pair).cos(), angle(position, pair).sin()));
    }
    let (x, device_positions) = (card.upload(&x), card.upload(&positions));
    let arguments = Arguments::default().buffer(&x).buffer(&device_positions).size(HEADS);
    let arguments = arguments.size(HEAD_DIM).size(ROTARY_DIM).value(THETA).size(TOKENS);
    card.launch(kernel, [2, 1, 1], 64, arguments);
    let row = HEADS * HEAD_DIM;
    let found = card.download(&x);
    for (token, (found, expected)) in found.chunks_exact(row).zip(expected.chunks_exact(row)).enumerate() {
        let turned = 2.0 * (3.0 * f64::from(positions[token]) + 1.0) * f32::ROUNDING;
        assert_close(card, &format!("{kernel}, token {token}"), found, expected, turned + ROTATION);
    }
}

fn both<T: Real>(card: &Card, element: &str) {
    for (layout, neox) in [("neox", true), ("ilv", false)] {
        table::<T>(card, &format!("rope_tab_{element}_{layout}"), neox);
        let kernel = format!("rope_fly_{element}_{layout}");
        on_the_fly::<T>(card, &kernel, neox, POSITIONS);
        on_the_fly::<T>(card, &kernel, neox, [100, 1000, 8191]);
    }
}

#[test]
fn rope() {
    each_build(Dialect::Hip, "rope", &[], |card| {
        both::<f32>(card, "f32");
        both::<f16>(card, "f16");
        both::<bf16>(card, "bf16");
    });
}
