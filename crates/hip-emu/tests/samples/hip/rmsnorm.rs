use half::f16;

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, assert_same, dot, wide};
use crate::compile::Dialect;

const ROWS: usize = 3;
const DIM: usize = 1000;
const EPSILON: f32 = 1e-6;
/// The sum of squares takes at most 16 + 5 + 5 roundings of f32, of which the root keeps half; the mean, the root and
/// the products take five more. Outputs are below 3.
const LIMIT: f64 = 3.0 * 18.0 * f32::ROUNDING;

fn normalise(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let row = |row: &[f64]| {
        let scale = 1.0 / (dot(row, row) / DIM as f64 + EPSILON.wide()).sqrt();
        row.iter().zip(weight).map(|(x, weight)| x * scale * weight).collect::<Vec<_>>()
    };
    x.chunks_exact(DIM).flat_map(row).collect()
}

/// Rounds to f16 twice: before the weight and after it.
fn halves(card: &Card, block: usize) {
    let mut random = Random::new(3);
    let (x, weight) = (random.values::<f16>(ROWS * DIM), random.values::<f16>(DIM));
    let expected = normalise(&wide(&x), &wide(&weight));
    let (x, weight, y) = (card.upload(&x), card.upload(&weight), card.upload(&[f16::NAN; ROWS * DIM]));
    let arguments = Arguments::default().buffer(&x).buffer(&weight).buffer(&y).size(DIM).value(EPSILON);
    card.launch("rmsnorm_f16", [ROWS, 1, 1], block, arguments);
    assert_close(card, "rmsnorm_f16", &card.download(&y), &expected, LIMIT + 2.0 * f16::ROUNDING);
}

fn sum(card: &Card, block: usize) {
    let mut random = Random::new(4);
    let (x, residual, weight) =
        (random.values::<f32>(ROWS * DIM), random.values::<f32>(ROWS * DIM), random.values::<f32>(DIM));
    let sums: Vec<f32> = x.iter().zip(&residual).map(|(x, residual)| x + residual).collect();
    let expected = normalise(&wide(&sums), &wide(&weight));
    let (x, residual, weight) = (card.upload(&x), card.upload(&residual), card.upload(&weight));
    let y = card.upload(&[f32::NAN; ROWS * DIM]);
    let arguments = Arguments::default().buffer(&x).buffer(&residual).buffer(&weight).buffer(&y);
    card.launch("rmsnorm_add_f32", [ROWS, 1, 1], block, arguments.size(DIM).value(EPSILON));
    assert_same(card, "rmsnorm_add_f32: sums", &card.download(&x), &sums);
    assert_close(card, "rmsnorm_add_f32", &card.download(&y), &expected, LIMIT);
}

#[test]
fn rmsnorm() {
    each_build(Dialect::Hip, "rmsnorm", &[], |card| {
        for block in [64, 256] {
            halves(card, block);
            sum(card, block);
        }
    });
}
