//! Linear layers, norms, SwiGLU and sampling against f64, case by case: on the CPU within the bound that each operation
//! documents, on every device within its own bound, or bit for bit where the operation promises that.
//!
//! `PARITY_CASE` runs the cases whose name contains a text, `PARITY_SEED` draws other data, `PARITY_FULL=1` runs every case on
//! every device.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod list;
mod run;
mod truth;

use parity::{Suite, Tally, named_devices};

use crate::list::{Operation, cases};
use crate::run::Worker;

/// Cases that an emulated card runs unless all are asked for.
const EMULATED: usize = 1000;

#[test]
fn every_case_is_within_its_bound() {
    let suite = Suite::from_env("layers", "cargo test -p kernels-nn --test cases").unwrap();
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
fn the_list_holds_every_operation() {
    let cases = cases();
    let of = |holds: fn(&Operation) -> bool| cases.iter().filter(|case| holds(&case.operation)).count();
    assert!(of(|operation| matches!(operation, Operation::Linear { .. })) >= 2_000);
    assert!(of(|operation| matches!(operation, Operation::Norm { .. })) >= 300);
    assert!(of(|operation| matches!(operation, Operation::AddNorm { .. })) >= 100);
    assert!(of(|operation| matches!(operation, Operation::SwiGlu)) >= 90);
    assert!(of(|operation| matches!(operation, Operation::Sample(_))) >= 150);
}

#[test]
fn the_page_tells_what_the_list_holds() {
    parity::check_told_counts("Layers and sampling", &Vec::from_iter(cases().iter().map(|case| case.name())));
}
