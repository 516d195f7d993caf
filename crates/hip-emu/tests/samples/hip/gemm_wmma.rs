use half::{bf16, f16};

use crate::card::{Arguments, Card, each_build_for};
use crate::compare::{Random, Real, assert_close, assert_same, wide};
use crate::compile::Dialect;
use crate::reference::matmul;

fn halves(card: &Card) {
    const ROWS: usize = 32;
    const COLUMNS: usize = 64;
    const INNER: usize = 48;
    let mut random = Random::new(14);
    let (a, b) = (random.values::<f16>(ROWS * INNER), random.values::<f16>(COLUMNS * INNER));
    let expected = matmul(&wide(&a), &wide(&b), INNER);
    let (a, b, c) = (card.upload(&a), card.upload(&b), card.upload(&[f32::NAN; ROWS * COLUMNS]));
    let arguments = Arguments::default().buffer(&a).buffer(&b).buffer(&c);
    let arguments = arguments.size(ROWS).size(COLUMNS).size(INNER);
    card.launch("gemm_wmma_f16", [2, 1, 1], 128, arguments);
    // 48 roundings of sums whose terms' sizes add up to less than 20.
    assert_close(card, "gemm_wmma_f16", &card.download(&c), &expected, 48.0 * 20.0 * f32::ROUNDING);
}

fn bf16_and_bytes(card: &Card) {
    let mut random = Random::new(15);
    let (a, b) = (random.values::<bf16>(256), random.values::<bf16>(256));
    let mut bytes =
        || -> Vec<i8> { random.integers(256, 256).iter().map(|x| i8::try_from(x - 128).unwrap()).collect() };
    let (p, q) = (bytes(), bytes());
    let expected = matmul(&wide(&a), &wide(&b), 16);
    let integers = |values: &[i8]| -> Vec<f64> { values.iter().map(|&value| f64::from(value)).collect() };
    let expected_sums: Vec<f64> = matmul(&integers(&p), &integers(&q), 16);
    let (a, b, c) = (card.upload(&a), card.upload(&b), card.upload(&[f32::NAN; 256]));
    let (p, q, r) = (card.upload(&p), card.upload(&q), card.upload(&[i32::MIN; 256]));
    let arguments = Arguments::default().buffer(&a).buffer(&b).buffer(&c).buffer(&p).buffer(&q).buffer(&r);
    card.launch("gemm_wmma_bf16_iu8", [1, 1, 1], 32, arguments);
    // 16 roundings of sums of 16 products of at most 1.
    assert_close(card, "bf16", &card.download(&c), &expected, 256.0 * f32::ROUNDING);
    let sums: Vec<f64> = card.download(&r).into_iter().map(f64::from).collect();
    assert_same(card, "iu8", &sums, &expected_sums);
}

#[test]
fn gemm_wmma() {
    each_build_for(&["gfx1100", "gfx1151"], Dialect::Hip, "gemm_wmma", &[], |card| {
        halves(card);
        bf16_and_bytes(card);
    });
    each_build_for(&["gfx1201"], Dialect::Hip, "gemm_wmma", &[], halves);
}
