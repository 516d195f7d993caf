use half::f16;

use crate::card::{Arguments, each_build};
use crate::compare::{Random, Real, assert_close, wide};
use crate::compile::Dialect;
use crate::reference::matmul;

const INNER: usize = 64;
/// Sums of 64 products, each addition rounded; the terms' sizes add up to less than 24.
const LIMIT: f64 = 64.0 * 24.0 * f32::ROUNDING;

#[test]
fn matrix() {
    each_build(Dialect::Bare, "matrix", &[], |card| {
        let mut random = Random::new(8);
        let (a, b) = (random.values::<f16>(16 * INNER), random.values::<f16>(16 * INNER));
        let expected = matmul(&wide(&a), &wide(&b), INNER);
        let (c, a, b) = (card.upload(&[f32::NAN; 256]), card.upload(&a), card.upload(&b));
        let arguments = Arguments::default().buffer(&c).buffer(&a).buffer(&b).size(INNER);
        card.launch("mat16_f16", [1, 1, 1], card.lanes(), arguments);
        assert_close(card, "mat16_f16", &card.download(&c), &expected, LIMIT);
    });
}
