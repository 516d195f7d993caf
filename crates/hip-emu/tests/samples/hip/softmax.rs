use crate::card::{Arguments, each_build};
use crate::compare::{Random, Real, assert_close, assert_same};
use crate::compile::Dialect;

const ROWS: usize = 4;
const COLUMNS: usize = 150;
const PAST: usize = 145;
const SCALE: f32 = 4.0;
/// The exponent is a difference of at most 8, thrice rounded; exponential, sum (9 roundings) and quotient add 12.
const LIMIT: f64 = (3.0 * 8.0 + 12.0) * f32::ROUNDING;

#[test]
fn softmax() {
    each_build(Dialect::Hip, "softmax", &[], |card| {
        let x = Random::new(5).values::<f32>(ROWS * COLUMNS);
        for block in [card.lanes(), 3 * card.lanes()] {
            let (device_x, device_y) = (card.upload(&x), card.upload(&[f32::NAN; ROWS * COLUMNS]));
            let arguments = Arguments::default().buffer(&device_x).buffer(&device_y).size(COLUMNS);
            let arguments = arguments.value(SCALE).size(PAST);
            card.launch("softmax_causal_f32", [ROWS, 1, 1], block, arguments);
            for (row, found) in card.download(&device_y).chunks_exact(COLUMNS).enumerate() {
                let visible = PAST + row + 1;
                let scores = x[row * COLUMNS..][..visible].iter().map(|x| (x.wide() * SCALE.wide()).exp());
                let scores: Vec<f64> = scores.collect();
                let total: f64 = scores.iter().sum();
                let expected: Vec<f64> = scores.iter().map(|score| score / total).collect();
                assert_close(card, &format!("row {row}"), &found[..visible], &expected, LIMIT);
                assert_same(
                    card,
                    &format!("row {row}, masked"),
                    &found[visible..],
                    &vec![0.0; COLUMNS - visible],
                );
            }
        }
    });
}
