//! More than 5,200 cases of attention against f64, on the CPU and on every device, each within both forms of the derived bound.
//! The normalised mean square error is at most 1e-11 where sums are f32, as all are with keys and values of f32.
//!
//! `PARITY_CASE` runs the cases whose name contains a text, `PARITY_SEED` draws other data, `PARITY_FULL=1` runs every case on
//! every device.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

#[path = "../suite/common.rs"]
#[allow(dead_code, reason = "each test target uses its part")]
mod common;
mod list;
mod run;
#[path = "../suite/truth.rs"]
#[allow(dead_code, reason = "each test target uses its part")]
mod truth;

use parity::{Suite, Tally, named_devices};

use crate::list::cases;
use crate::run::Worker;

/// Cases that an emulated card runs unless all are asked for.
const EMULATED: usize = 260;

#[test]
fn every_case_is_within_its_bounds() {
    let suite = Suite::from_env("attention", "cargo test -p attention --test cases").unwrap();
    let cases = cases();
    let names = Vec::from_iter(cases.iter().map(|case| case.name()));
    let chosen = suite.select(&names).unwrap();
    let part = suite.part(chosen.len(), EMULATED);
    let devices = Vec::from_iter(named_devices().unwrap().into_iter().map(|(name, _)| name));
    let run = |worker: &mut Worker<'_>, at: usize| {
        let index = chosen[at];
        worker.run(&cases[index], &names[index], |device| part[at] || !device.starts_with("emu"));
    };
    let mut tally = Tally::new([vec!["cpu".to_owned()], devices].concat());
    tally.share_out(chosen.len(), || Worker::new(&suite), run, |worker| worker.tally);
    suite.finish(cases.len(), chosen.len(), &tally);
}

#[test]
fn the_list_holds_what_it_is_said_to_hold() {
    let cases = cases();
    assert!(cases.len() >= 5_200, "{}", cases.len());
    for group in 1..=32 {
        assert!(cases.iter().any(|case| case.q_heads / case.kv_heads == group), "no group of {group}");
    }
    for head_dim in (40..=256).step_by(8) {
        assert!(cases.iter().any(|case| case.head_dim == head_dim), "no heads of {head_dim}");
    }
    for tile in [16, 32, 64, 256, 1024] {
        for end in [tile - 1, tile, tile + 1] {
            assert!(cases.iter().any(|case| case.end() == end), "no {end} keys");
        }
    }
}

#[test]
fn the_page_tells_what_the_list_holds() {
    parity::check_told_counts("Attention", &Vec::from_iter(cases().iter().map(|case| case.name())));
}
