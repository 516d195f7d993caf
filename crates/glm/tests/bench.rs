//! `glm bench`: what it prints, where it ran, and what it refuses.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use common::{demo, run};
use serde_json::Value;

fn bench(device: &str, more: &[&str]) -> common::Outcome {
    let folder = demo();
    let small = ["--prompt", "20", "--decode", "2", "--depths", "0,17", "--device", device];
    run(&[&["bench", "--model", folder.to_str().unwrap()][..], &small, more].concat())
}

#[test]
fn figures_have_the_keys_that_programs_are_compared_by() {
    let told = bench("cpu", &["--json", "--runs", "2"]).ok();
    let figures: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told.stdout.lines().count(), 1);
    assert!(told.stderr.contains("measuring: 6 of 6"), "{}", told.stderr);
    assert_eq!((&figures["ran_on"], &figures["prompt"]), (&Value::from("cpu"), &Value::from(20)));
    let is_positive = |value: &Value| value.as_f64().is_some_and(|figure| figure > 0.0);
    assert!(
        is_positive(&figures["prefill_tps"]) && is_positive(&figures["load_to_first_token_s"]),
        "{figures}"
    );
    for depth in ["d0", "d17"] {
        let rate = &figures["decode_tps"][depth];
        assert!(is_positive(&rate["median"]) && is_positive(&rate["mean"]), "{figures}");
    }
    assert_eq!(figures["peak_rss_kib"].is_null(), !cfg!(target_os = "linux"));
}

#[test]
fn people_get_lines_that_say_where_it_ran() {
    let told = bench("cpu", &[]).ok();
    for line in ["load to first token", "prompt of 20", "tokens after 17", "ran on cpu"] {
        assert!(told.stdout.contains(line), "{line}: {}", told.stdout);
    }
}

#[test]
fn counts_and_models_that_cannot_be_are_refused() {
    bench("cpu", &["--runs", "0"]).refused(2, &["--runs"]);
    run(&["bench", "--model", "/no/such/folder"]).refused(4, &["config.json cannot be read"]);
}
