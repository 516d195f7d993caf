use half::f16;

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, wide};
use crate::compile::Dialect;
use crate::reference::matmul;

/// Neither side is a multiple of the tile's 64.
fn gemm(card: &Card) {
    const ROWS: usize = 70;
    const COLUMNS: usize = 43;
    const INNER: usize = 64;
    let mut random = Random::new(12);
    let (a, b) = (random.values::<f16>(ROWS * INNER), random.values::<f16>(COLUMNS * INNER));
    let expected = matmul(&wide(&a), &wide(&b), INNER);
    let (a, b, c) = (card.upload(&a), card.upload(&b), card.upload(&[f16::NAN; ROWS * COLUMNS]));
    let arguments = Arguments::default().buffer(&a).buffer(&b).buffer(&c);
    let arguments = arguments.size(ROWS).size(COLUMNS).size(INNER);
    card.launch("gemm_f16_lds", [1, 2, 1], 256, arguments);
    // 64 roundings of sums whose terms' sizes add up to less than 24.
    assert_close(card, "gemm_f16_lds", &card.download(&c), &expected, 64.0 * 24.0 * f32::ROUNDING);
}

/// In f16: the products may be rounded, and are at most 1.
fn packed(card: &Card) {
    const COUNT: usize = 101;
    let mut random = Random::new(13);
    let (x, y, scales) =
        (random.values::<f16>(2 * COUNT), random.values::<f16>(2 * COUNT), random.values::<f16>(2));
    let sum = |(x, y): (&f16, &f16)| (scales[0].wide() * x.wide() + scales[1].wide() * y.wide()).max(0.0);
    let expected: Vec<f64> = x.iter().zip(&y).map(sum).collect();
    let (x, y) = (card.upload(&x), card.upload(&y));
    let arguments = Arguments::default().buffer(&x).buffer(&y).value(scales[0]).value(scales[1]);
    card.launch("axpby_f16x2", [2, 1, 1], 64, arguments.size(COUNT));
    assert_close(card, "axpby_f16x2", &card.download(&y), &expected, 2.0 * f16::ROUNDING);
}

#[test]
fn gemm_lds() {
    each_build(Dialect::Hip, "gemm_lds", &[], |card| {
        gemm(card);
        packed(card);
    });
}
