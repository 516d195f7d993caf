//! Tables far beyond position 2048, against truth that is computed another way than theirs and the suite's. What is rotated
//! by them is in `tests/suite`.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use common::{glm4, table};
use device_mem::Device;
use kernels_rope::RopeConfig;
use parity::{Tolerance, compare, half_ulp};

/// `(cos, sin)` of `position * theta^(-2 pair / width)` without `sin` of a large angle and without `powf`: the frequency
/// by `exp`, the rotation by repeated squaring of the rotation by one position. Also its error bound.
fn by_repeated_squaring(theta: f64, width: u32, pair: u32, position: u32) -> (f64, f64, f64) {
    let frequency = (-f64::from(2 * pair) / f64::from(width) * theta.ln()).exp();
    let multiply = |(a, b): (f64, f64), (c, d): (f64, f64)| (a * c - b * d, a * d + b * c);
    let (mut result, mut power) = ((1.0, 0.0), (frequency.cos(), frequency.sin()));
    let mut rest = position;
    while rest > 0 {
        if rest & 1 == 1 {
            result = multiply(result, power);
        }
        power = multiply(power, power);
        rest >>= 1;
    }
    // exp's argument reaches ln(theta) < 19 and is known to 2^-53 of that; each squaring doubles the relative error and
    // adds a few roundings, which sums up to a few roundings per position.
    let frequency_error = (theta.ln() + 2.0) * f64::EPSILON * f64::from(position) * frequency;
    (result.0, result.1, frequency_error + 4.0 * f64::EPSILON * f64::from(position))
}

const POSITIONS: [u32; 10] =
    [2047, 2048, 2049, 32_767, 65_536, 131_071, 131_072, 202_751, 524_288, 1_048_575];

#[test]
fn rope_03_tables_are_right_to_half_an_ulp_up_to_a_million() {
    for theta in [1e4, 1e6, 5e6, 1e8] {
        let config = RopeConfig { theta, ..glm4() };
        let table = table(config, 1 << 20, &Device::Cpu);
        let (cos, sin) = (table.cos_to_host().unwrap(), table.sin_to_host().unwrap());
        for position in POSITIONS {
            for pair in 0..32 {
                let (cos_truth, sin_truth, error) = by_repeated_squaring(theta, 64, pair, position);
                let entry = position as usize * 32 + pair as usize;
                let bounds = [cos_truth, sin_truth].map(|value| half_ulp::<f32>(value) + error);
                compare(&[cos_truth, sin_truth], &[cos[entry], sin[entry]], Tolerance::Elementwise(&bounds))
                    .unwrap_or_else(|mismatch| panic!("theta {theta} position {position}: {mismatch}"));
            }
        }
    }
}
