use half::f16;

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, assert_same, dot, wide};
use crate::compile::Dialect;

const ROWS: usize = 9;
const COLUMNS: usize = 512;
/// Eight packed products of two a lane and five additions between lanes: 21 roundings of a sum whose terms' sizes add
/// up to less than 160.
const LIMIT: f64 = 21.0 * 160.0 * f32::ROUNDING;

/// A wave for each row.
fn groups(card: &Card) -> [usize; 3] {
    [(ROWS * card.lanes()).div_ceil(256), 1, 1]
}

fn halves(card: &Card) {
    let mut random = Random::new(3);
    let (weight, x) = (random.values::<f16>(ROWS * COLUMNS), random.values::<f16>(COLUMNS));
    let wide_x = wide(&x);
    let expected: Vec<f64> = wide(&weight).chunks_exact(COLUMNS).map(|row| dot(row, &wide_x)).collect();
    let (y, weight, x) = (card.upload(&[f32::NAN; ROWS]), card.upload(&weight), card.upload(&x));
    let arguments = Arguments::default().buffer(&y).buffer(&weight).buffer(&x);
    card.launch("gemv_f16", groups(card), 256, arguments.size(ROWS).size(COLUMNS));
    assert_close(card, "gemv_f16", &card.download(&y), &expected, LIMIT);
}

/// Sums stay below 2^24 and scales are powers of two: nothing rounds.
fn bytes(card: &Card) {
    let mut random = Random::new(4);
    let mut byte = || i8::try_from(random.below(255).cast_signed() - 127).unwrap();
    let weight: Vec<i8> = (0..ROWS * COLUMNS).map(|_| byte()).collect();
    let x: Vec<i8> = (0..COLUMNS).map(|_| byte()).collect();
    let scales: Vec<f32> = (0..ROWS).map(|row| 0.5 * (1 << row) as f32).collect();
    let sum = |row: &[i8]| row.iter().zip(&x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>();
    let rows = weight.chunks_exact(COLUMNS).zip(&scales);
    let expected: Vec<f32> = rows.map(|(row, scale)| sum(row) as f32 * scale * 0.25).collect();
    let y = card.upload(&[f32::NAN; ROWS]);
    let (weight, scales, x) = (card.upload(&weight), card.upload(&scales), card.upload(&x));
    let arguments = Arguments::default().buffer(&y).buffer(&weight).buffer(&scales).buffer(&x).value(0.25f32);
    card.launch("gemv_i8", groups(card), 256, arguments.size(ROWS).size(COLUMNS));
    assert_same(card, "gemv_i8", &card.download(&y), &expected);
}

#[test]
fn gemv() {
    each_build(Dialect::Bare, "gemv", &[], |card| {
        halves(card);
        bytes(card);
    });
}
