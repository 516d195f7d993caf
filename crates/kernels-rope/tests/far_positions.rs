//! Positions far beyond 2048, against truth that is computed another way.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use common::{U, glm4, pair_elements, rotated, table};
use device_mem::Device;
use kernels_rope::{Layout, Positions, RopeConfig};
use parity::{Tolerance, compare, half_ulp, uniform};

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

#[test]
fn rope_03_rotations_keep_their_bound_and_an_nmse_below_1e_14_at_any_position() {
    for pairing in common::PAIRINGS {
        let config = RopeConfig { pairing, ..glm4() };
        let table = table(config.clone(), 1 << 20, &Device::Cpu);
        for (seed, position) in POSITIONS.into_iter().enumerate() {
            let x = uniform::<f32>(seed as u64, 4 * 128);
            let at = Positions::new(&table, &[position]).unwrap();
            let (got, _) = rotated(&table, &at, &x, Layout::contiguous(1, 4, 128));
            let mut truth = Vec::from_iter(x.iter().map(|&x| f64::from(x)));
            let mut bounds = vec![0.0; truth.len()];
            for (pair, head) in (0..32).flat_map(|pair| (0..4).map(move |head| (pair, head * 128))) {
                let (cos, sin, error) = by_repeated_squaring(1e4, 64, pair, position);
                let (a, b) = pair_elements(&config, pair as usize);
                let (a, b) = (head + a, head + b);
                let (x, y) = (truth[a], truth[b]);
                (truth[a], truth[b]) = (x * cos - y * sin, y * cos + x * sin);
                let angle = error * (x.abs() + y.abs());
                bounds[a] = 3.0 * U * ((x * cos).abs() + (y * sin).abs()) + angle;
                bounds[b] = 3.0 * U * ((y * cos).abs() + (x * sin).abs()) + angle;
            }
            compare(&truth, &got, Tolerance::Elementwise(&bounds))
                .unwrap_or_else(|mismatch| panic!("position {position}: {mismatch}"));
            compare(&truth, &got, Tolerance::Nmse(1e-14)).unwrap();
        }
    }
}
