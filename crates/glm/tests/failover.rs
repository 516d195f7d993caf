//! A card that fails in the middle of an answer: a library around the emulated card, whose calls fail from one on.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::failing_library::{glm_with, wrapper};
use common::{Outcome, outcome};
use tempfile::TempDir;

const QUESTION: [&str; 2] = ["demo", "What is RoPE?"];
const ANSWER: &str = "RoPE is rotary position embedding";

/// An answer on a device that fails at call `at` of a function, and what was told of it.
fn answer_in(folder: &TempDir, device: &str, mode: &str, call: &str, at: u32) -> Outcome {
    let mut command = glm_with(&wrapper(folder), folder.path());
    command.args(QUESTION).args(["--device", device, "--device-timeout", "0.5"]);
    command.env("FAIL_MODE", mode).env("FAIL_CALL", call).env("FAIL_AT", at.to_string());
    command.env("TELL_BLOCKED", folder.path().join("blocked"));
    command.env("TELL_TEARDOWN", folder.path().join("teardown"));
    outcome(command.output().unwrap())
}

fn answer(device: &str, call: &str, at: u32) -> Outcome {
    answer_in(&tempfile::tempdir().unwrap(), device, "lost", call, at)
}

#[test]
fn auto_ends_the_answer_on_the_cpu_and_says_so_once() {
    for (call, at) in [("hipGraphLaunch", 1), ("hipGraphLaunch", 4), ("hipGraphInstantiate", 1)] {
        let answer = answer("auto", call, at).ok();
        assert!(answer.stdout.contains(ANSWER), "{}", answer.stdout);
        assert_eq!(answer.stdout.matches("RoPE is").count(), 1, "{}", answer.stdout);
        assert_eq!(answer.stderr.matches("WARN").count(), 1, "{}", answer.stderr);
        let place =
            answer.stderr.lines().find(|line| line.starts_with("ran on cpu, not on a GPU: ")).unwrap();
        assert!(place.contains("failed after") && place.contains(&format!("{call} returned")), "{place}");
        assert!(place.contains("(700)"), "{place}");
    }
}

#[test]
fn a_card_that_never_gets_ready_is_lost_at_the_deadline() {
    for (call, at) in [("hipGraphLaunch", 3), ("hipStreamQuery", 40)] {
        let folder = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let answer = answer_in(&folder, "auto", "hang", call, at).ok();
        assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
        assert!(answer.stdout.contains(ANSWER), "{}", answer.stdout);
        assert_eq!(answer.stderr.matches("WARN").count(), 1, "{}", answer.stderr);
        let place = answer.stderr.lines().find(|line| line.starts_with("ran on cpu, not on a GPU: "));
        assert!(place.unwrap().contains("still not ready after 0.5 s"), "{place:?}");
        let blocked = fs::read_to_string(folder.path().join("blocked"));
        assert!(blocked.is_err(), "a call would not have returned: {blocked:?}");
        assert!(!folder.path().join("teardown").exists(), "the library's own teardown was run");
    }
}

#[test]
fn auto_without_a_failure_stays_on_the_card() {
    let folder = tempfile::tempdir().unwrap();
    let answer = answer_in(&folder, "auto", "lost", "hipGraphLaunch", u32::MAX >> 1).ok();
    assert!(answer.stdout.contains(ANSWER) && answer.stderr.contains("ran on hip:0"), "{}", answer.stderr);
    assert!(!answer.stderr.contains("WARN"), "{}", answer.stderr);
    assert!(folder.path().join("teardown").exists(), "a library that lost nothing ends as it likes");
}

#[test]
fn hip_fails_with_the_cause_the_work_and_what_to_do() {
    let answer = answer("hip", "hipGraphLaunch", 3);
    answer.refused(3, &["hipGraphLaunch returned", "(700)", "lost", "a graph of", "known to be done"]);
    assert_eq!(answer.stderr.matches("try: start again").count(), 1, "{}", answer.stderr);
}
