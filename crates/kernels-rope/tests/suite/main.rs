//! The RoPE correctness suite: every case on the CPU against truth in f64, and on every device of `PARITY_DEVICES` against the
//! CPU, bit for bit.
//!
//! `PARITY_CASE=TEXT` runs the cases whose name contains TEXT, `PARITY_SEED=N` draws other data, `PARITY_FULL=1` runs every
//! case on the emulated card, where otherwise an evenly spread part runs; the summary says how many did not.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod cases;
mod lists;
mod operands;
mod run;
mod truth;

use parity::{Suite, named_devices};

use crate::run::Job;

/// Cases that run on an emulated card unless all do, and the elements of the largest of them.
const EMULATED_CASES: usize = 12_000;
const EMULATED_ELEMENTS: u64 = 1 << 17;

#[test]
fn rope() {
    let suite = Suite::from_env("rope", "cargo test -p kernels-rope --test suite rope").unwrap();
    let cases = cases::all(suite.seed());
    let names = cases.iter().map(cases::Case::name).collect::<Vec<_>>();
    let chosen = suite.select(&names).unwrap();
    let devices = named_devices().unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let part = suite.part(chosen.len(), EMULATED_CASES);
    let jobs = chosen.iter().zip(part).map(|(&index, in_part)| {
        let case = &cases[index];
        let alone = chosen.len() == 1;
        let emulated = alone || suite.is_full() || (in_part && case.elements() <= EMULATED_ELEMENTS);
        let on = devices.iter().map(|device| emulated || !device.starts_with("emu")).collect();
        Job { case, name: &names[index], on }
    });
    let jobs = jobs.collect::<Vec<_>>();
    let all_devices = [vec!["cpu".to_owned()], devices].concat();
    suite.finish(cases.len(), chosen.len(), &run::run(&suite, &jobs, &all_devices));
}
