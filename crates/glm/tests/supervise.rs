//! `--supervise`: what a driver does to the process that holds the model costs that process, not the answer.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fs};

use common::failing_library::{glm_with, wrapper};
use common::{Outcome, outcome};
use tempfile::TempDir;

const QUESTION: [&str; 3] = ["demo", "What is RoPE?", "--supervise"];
const ANSWER: &str = "RoPE is rotary position embedding";

/// Set to fail many calls of every function, as `cargo xtask faults` does.
const FULL: &str = "FAULTS_FULL";

/// The library, and where it is remembered that the kernels were checked: by the first run, so that the others begin at once.
fn prepared() -> &'static (TempDir, PathBuf) {
    static PREPARED: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = wrapper(&folder);
        let args = ["demo", "What is RoPE?", "--device", "hip"];
        outcome(glm_with(&library, folder.path()).args(args).output().unwrap()).ok();
        (folder, library)
    })
}

struct Fault<'a> {
    mode: &'a str,
    call: &'a str,
    at: usize,
    /// One process fails, or each.
    once: bool,
}

/// A supervised answer. `prepared` has checked the kernels, so that a fault counts calls of the model alone.
fn answer(device: &str, fault: &Fault<'_>, more: &[&str]) -> Outcome {
    let (cache, library) = prepared();
    let folder = tempfile::tempdir().unwrap();
    let mut command = glm_with(library, cache.path());
    command.args(QUESTION).args(["--device", device, "--device-timeout", "0.5"]).args(more);
    command.env("FAIL_MODE", fault.mode).env("FAIL_CALL", fault.call).env("FAIL_AT", fault.at.to_string());
    if fault.once {
        command.env("ONCE", folder.path().join("once"));
    }
    outcome(command.output().unwrap())
}

/// Fails unless the whole answer was told, once.
fn told_once(answer: &Outcome, fault: &Fault<'_>) {
    let Fault { mode, call, at, .. } = fault;
    let what = format!("{mode} at call {at} of {call}: {}{}", answer.stdout, answer.stderr);
    assert_eq!(answer.code, Some(0), "{what}");
    assert!(answer.stdout.contains(expected()), "{what}");
    assert_eq!(answer.stdout.matches(ANSWER).count(), 1, "{what}");
}

/// What the CPU answers, to the last letter; the card gives the same tokens.
fn expected() -> &'static str {
    static EXPECTED: OnceLock<String> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let args = ["demo", "What is RoPE?", "--device", "cpu"];
        let whole = outcome(common::glm().args(args).output().unwrap()).ok();
        assert!(whole.stdout.contains(ANSWER), "{}", whole.stdout);
        whole.stdout
    })
}

#[test]
fn without_a_failure_the_answer_is_that_of_one_process() {
    let answer = answer("hip", &Fault { mode: "abort", call: "none", at: 1, once: false }, &[]).ok();
    assert_eq!(answer.stdout, expected());
    assert!(answer.stderr.contains("ran on hip:0") && !answer.stderr.contains("WARN"), "{}", answer.stderr);
}

#[test]
fn a_worker_that_ends_once_is_started_again_on_the_device() {
    for (mode, call, at) in [
        ("abort", "hipGraphLaunch", 4),
        ("stuck", "hipGraphLaunch", 2),
        ("hang", "hipGraphLaunch", 3),
        ("lost", "hipMalloc", 20),
    ] {
        let fault = Fault { mode, call, at, once: true };
        let answer = answer("hip", &fault, &[]);
        told_once(&answer, &fault);
        assert_eq!(answer.stderr.matches("WARN").count(), 1, "{}", answer.stderr);
        assert!(answer.stderr.contains("started again (1)"), "{}", answer.stderr);
    }
}

#[test]
fn a_device_that_ends_each_worker_is_left_for_the_cpu() {
    let fault = Fault { mode: "abort", call: "hipGraphLaunch", at: 3, once: false };
    let on_auto = answer("auto", &fault, &[]);
    told_once(&on_auto, &fault);
    let place = on_auto.stderr.lines().find(|line| line.starts_with("ran on cpu, not on a GPU: ")).unwrap();
    assert!(place.contains("SIGABRT"), "{place}");
    answer("hip", &fault, &[]).refused(3, &["the worker ended", "SIGABRT"]);
}

#[test]
fn an_error_that_no_device_made_starts_no_other() {
    let (cache, library) = prepared();
    let folder = tempfile::tempdir().unwrap();
    let args = ["run", "--supervise", "--device", "hip", "--model", folder.path().to_str().unwrap(), "hello"];
    outcome(glm_with(library, cache.path()).args(args).output().unwrap()).refused(4, &["config.json"]);
}

/// Whichever call of a worker's life aborts it or never returns, the answer is whole and told once.
#[test]
fn any_call_may_end_the_worker() {
    let (cache, library) = prepared();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("calls");
    let mut command = glm_with(library, cache.path());
    outcome(command.args(QUESTION).args(["--device", "hip"]).env("TELL_CALLS", &list).output().unwrap()).ok();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in fs::read_to_string(&list).unwrap().lines() {
        *counts.entry(call.to_owned()).or_default() += 1;
    }
    assert!(counts.len() > 20, "{counts:?}");
    let is_full = env::var_os(FULL).is_some();
    let (mut points, mut restarted) = (0, 0);
    for (index, (call, &count)) in counts.iter().enumerate() {
        let places = if is_full { vec![1, count.div_ceil(2), count] } else { vec![count.div_ceil(2)] };
        // The others are left for the full run.
        if !is_full && index % 8 != 0 {
            continue;
        }
        for mode in ["abort", "stuck"] {
            for &at in &places {
                let fault = Fault { mode, call, at, once: true };
                let answer = answer("hip", &fault, &[]);
                told_once(&answer, &fault);
                points += 1;
                restarted += usize::from(answer.stderr.contains("started again (1)"));
            }
        }
    }
    // A worker that ends while it gives things back has answered.
    assert!(restarted > 0, "{restarted} of {points}");
    println!(r#"faults: {{"phase": "worker", "mode": "abort", "points": {points}, "missed": 0}}"#);
}
