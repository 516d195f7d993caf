//! Attention factors that no golden holds: DeepSeek's pair of mscales, and factors that a config gives.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use common::{glm4, spec};
use kernels_rope::{RopeConfig, Scaling};
use parity::{Tolerance, compare};

fn factor(attention_factor: Option<f64>, mscale: Option<f64>, mscale_all_dim: Option<f64>) -> f64 {
    let scaling = Scaling::Yarn {
        factor: 40.0,
        trained_positions: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor,
        mscale,
        mscale_all_dim,
        truncate: true,
    };
    spec(RopeConfig { scaling, ..glm4() }).attention_factor()
}

#[test]
fn rope_05_mscales_count_together_or_not_at_all() {
    // 0.1 m ln(40) + 1 for m = 1 and m = 0.707, and the first by the second.
    let (one, all_dim): (f64, f64) = (1.368_887_945_411_394, 1.260_803_777_405_855_5);
    let plain = factor(None, None, None);
    for (expected, got) in [
        (one, plain),
        (one / all_dim, factor(None, Some(1.0), Some(0.707))),
        (all_dim / one, factor(None, Some(0.707), Some(1.0))),
        (one, factor(None, Some(0.707), None)),
        (one, factor(None, Some(0.0), Some(0.707))),
        (1.25, factor(Some(1.25), Some(1.0), Some(0.707))),
    ] {
        compare(&[expected], &[got], Tolerance::Absolute(1e-12)).unwrap();
    }
}
