//! The RoPE correctness suite: every case on the CPU against truth in f64, and on every device of `PARITY_DEVICES` against the
//! CPU, bit for bit.
//!
//! `PARITY_CASE=TEXT` runs the cases whose name contains TEXT, `PARITY_SEED=N` draws other data, `PARITY_FULL=1` runs every
//! case on the emulated card, where otherwise an evenly spread part runs; the summary says how many did not.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod cases;
mod lists;
mod operands;
mod refusals;
mod run;
mod truth;

use parity::{Suite, named_devices};

use crate::run::Job;

/// Cases that run on an emulated card unless all do, and the elements of the largest of them.
const EMULATED_CASES: usize = 8_000;
const EMULATED_ELEMENTS: u64 = 1 << 17;

#[test]
fn rope() {
    let suite = Suite::from_env("rope", "cargo test -p kernels-rope --test suite rope").unwrap();
    let (cases, refusals) = (cases::all(suite.seed()), refusals::all());
    let of_refusals = refusals.iter().map(|refusal| refusal.name.clone());
    let names = cases.iter().map(cases::Case::name).chain(of_refusals).collect::<Vec<_>>();
    let chosen = suite.select(&names).unwrap();
    let (devices, opened): (Vec<_>, Vec<_>) = named_devices().unwrap().into_iter().unzip();
    let all_devices = [vec!["cpu".to_owned()], devices.clone()].concat();
    let part = suite.part(chosen.len(), EMULATED_CASES);
    let run_here = |(&index, in_part): (&usize, bool)| {
        let case = cases.get(index)?;
        let emulated =
            chosen.len() == 1 || suite.is_full() || (in_part && case.elements() <= EMULATED_ELEMENTS);
        let on = devices.iter().map(|device| emulated || !device.starts_with("emu")).collect();
        Some(Job { case, name: &names[index], on })
    };
    let jobs = chosen.iter().zip(part).filter_map(run_here).collect::<Vec<_>>();
    let mut tally = run::run(&suite, &jobs, &all_devices);
    for refusal in chosen.iter().filter_map(|index| refusals.get(index.checked_sub(cases.len())?)) {
        refusal.count(&suite, &opened, &mut tally);
    }
    suite.finish(names.len(), chosen.len(), &tally);
}
