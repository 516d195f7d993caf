//! Launches that are silently wrong: the check before first use finds each.

use std::env;

use device_mem::Device;
use hip_ffi::faults::{self, Fault, Mode};
use hip_ffi::sys::hipError_t;
use parity::{SPOILED_BIT, host_hip, spoil_launch, spoiled};

use super::case::{Bound, Case, Truth};
use super::cases;

/// Set to check every word's place of [`PLACES`], as `cargo xtask faults` does.
const FULL: &str = "FAULTS_FULL";
/// Which of the words that a launch writes is wrong, counted round.
const PLACES: [usize; 16] = [0, 1, 2, 3, 5, 7, 11, 13, 64, 127, 255, 256, 1000, 4095, 65_537, 1_000_003];

/// Kernels, and the operands of which they also write where their case does not look, so that a wrong bit there is not found: a
/// cache is appended to, and spans leave sums for each other.
const WRITE_MORE: [(&str, &str); 2] = [("decode_attention", ""), ("attention, cache bf16", "q [1, ")];

/// Whether a case passes; one that cannot run does not.
fn passes(case: &Case, device: &Device) -> bool {
    case.outcome(device).is_ok_and(|outcome| outcome.passed())
}

/// One test, because the plans are the process's.
#[test]
fn a_wrong_bit_and_a_launch_that_does_nothing_are_found() {
    let device = Device::from_api(faults::around(host_hip()), 0).unwrap();
    let places = if env::var_os(FULL).is_some() { &PLACES[..] } else { &PLACES[..1] };
    let (mut points, mut unseen, mut missed) = (0, 0, Vec::new());
    for case in cases().unwrap() {
        let before = device.transfers().launches;
        assert!(passes(&case, &device), "{}", case.kernel);
        let launches = usize::try_from(device.transfers().launches - before).unwrap();
        assert!(launches > 0, "{} launches nothing", case.kernel);
        for launch in 1..=launches {
            for &place in places {
                spoil_launch(launch, place);
                let passed = passes(&case, &device);
                assert!(spoiled().is_some_and(|words| words > 0), "{}: launch {launch}", case.kernel);
                points += 1;
                let writes_more = WRITE_MORE.iter().any(|(kernel, operands)| {
                    case.kernel.starts_with(kernel) && case.operands.starts_with(operands)
                });
                if passed && writes_more {
                    unseen += 1;
                } else if passed {
                    missed
                        .push(format!("{} {}: word {place} of launch {launch}", case.kernel, case.operands));
                }
            }
            let call = "hipModuleLaunchKernel";
            let silent = Fault { call, at: launch, code: hipError_t::hipSuccess, mode: Mode::Silent };
            faults::plan(Some(silent));
            let passed = passes(&case, &device);
            faults::plan(None);
            points += 1;
            if passed {
                missed.push(format!("{} {}: launch {launch} does nothing", case.kernel, case.operands));
            }
        }
    }
    println!(
        r#"faults: {{"phase": "check", "mode": "silent", "points": {points}, "unseen": {unseen}, "missed": {}}}"#,
        missed.len()
    );
    assert!(missed.is_empty(), "of {points} points: {missed:#?}");
}

/// Whatever a right launch writes, a wrong bit takes it out of its bound.
#[test]
#[expect(clippy::cast_possible_truncation, reason = "to the nearest f32, as a launch writes")]
fn no_bound_hides_a_wrong_bit() {
    let mut values = 0;
    for Case { kernel, operands, truth, .. } in cases().unwrap() {
        let Truth::Bounds(bounds) = truth else { continue };
        for Bound { exact, error } in bounds {
            for right in [exact - error, exact, exact + error] {
                let wrong = f32::from_bits((right as f32).to_bits() ^ SPOILED_BIT);
                let is_hidden = (f64::from(wrong) - exact).abs() <= error;
                assert!(!is_hidden, "{kernel} {operands}: {exact} within {error}");
                values += 1;
            }
        }
    }
    assert!(values > 3000, "{values} values");
}
