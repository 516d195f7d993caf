use half::{bf16, f16};

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, dot, wide};
use crate::compile::Dialect;

const ROWS: usize = 2;
const DIM: usize = 1000;
const EPSILON: f32 = 1e-5;
/// The sum of squares takes at most 16 + 5 + 4 roundings of f32, of which the root keeps half; the root, the products
/// and the mean take five more. Outputs are below 2.
const LIMIT: f64 = 2.0 * 18.0 * f32::ROUNDING;

fn normalise<T: Real>(card: &Card, kernel: &str, block: usize) {
    let mut random = Random::new(2);
    let (x, weight) = (random.values::<T>(ROWS * DIM), random.values::<T>(DIM));
    let (wide_x, wide_weight) = (wide(&x), wide(&weight));
    let row = |row: &[f64]| {
        let scale = 1.0 / (dot(row, row) / DIM as f64 + EPSILON.wide()).sqrt();
        row.iter().zip(&wide_weight).map(|(x, weight)| x * scale * weight).collect::<Vec<_>>()
    };
    let expected: Vec<f64> = wide_x.chunks_exact(DIM).flat_map(row).collect();
    let (y, x, weight) = (card.upload(&[T::zeroed(); ROWS * DIM]), card.upload(&x), card.upload(&weight));
    let arguments = Arguments::default().buffer(&y).buffer(&x).buffer(&weight).size(DIM).value(EPSILON);
    card.launch(kernel, [ROWS, 1, 1], block, arguments);
    assert_close(card, kernel, &card.download(&y), &expected, LIMIT);
}

#[test]
fn rmsnorm() {
    each_build(Dialect::Bare, "rmsnorm", &[], |card| {
        for block in [64, 256] {
            normalise::<f32>(card, "rmsnorm_f32", block);
            normalise::<f16>(card, "rmsnorm_f16", block);
            normalise::<bf16>(card, "rmsnorm_bf16", block);
        }
    });
}
