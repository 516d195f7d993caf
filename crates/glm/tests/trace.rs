//! `--trace` and RUST_LOG: what is launched, in a file and on stderr.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use common::{glm, outcome, run};
use serde_json::Value;

const QUESTION: [&str; 4] = ["demo", "What is RoPE?", "--device", "emu"];

#[test]
fn a_trace_holds_launches_under_their_kernels_names_and_copies_with_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.json");
    let traced = run(&[&QUESTION[..], &["--trace", file.to_str().unwrap()]].concat()).ok();
    assert!(traced.stderr.contains("ran on emu"), "{}", traced.stderr);

    let events: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let begun = |family: &str| {
        let of_kernel = |event: &&Value| {
            event["ph"] == "B" && event["name"].as_str().is_some_and(|name| name.starts_with(family))
        };
        events.iter().filter(of_kernel).cloned().collect::<Vec<_>>()
    };
    // A prefill and a step for each further token.
    let forwards = begun("embed").len();
    assert!(forwards > 20, "{forwards}");
    // Three layers. Steps are launched one kernel after the other, so that each is seen.
    assert_eq!((begun("attend").len(), begun("decode_attention").len()), (3, 3 * (forwards - 1)));
    assert!(begun("graph").is_empty());
    let first = &begun("embed")[0]["args"];
    assert_eq!((&first["blocks"], &first["threads"]), (&"[1, 9, 1]".into(), &"[256, 1, 1]".into()));
    assert!(first["args"].as_str().unwrap().contains("tokens: 9, vocab: 1280, hidden: 192"), "{first}");
    // Ids, rows of bf16, rows of f32.
    assert_eq!(first["bytes"], (9 * (4 + 192 * 2 + 192 * 4)).to_string());
    // One token at a time comes down, four bytes.
    let downloads = begun("download");
    let of_a_token = downloads.iter().filter(|event| event["args"]["bytes"] == "4").count();
    assert!(of_a_token + 1 >= forwards, "{of_a_token} downloads of a token in {forwards} passes");
    let ended = events.iter().filter(|event| event["ph"] == "E").count();
    let launches = events.iter().filter(|event| event["ph"] == "B").count();
    assert_eq!(launches, ended);
}

#[test]
fn rust_log_puts_launches_on_stderr() {
    let logged = outcome(glm().args(QUESTION).env("RUST_LOG", "device_mem=trace").output().unwrap()).ok();
    assert!(logged.stderr.contains("launch{kernel=\"embed_bf16\" blocks=[1, 9, 1]"), "{}", logged.stderr);
    let silent = run(&QUESTION).ok();
    assert_eq!(silent.stdout, logged.stdout);
    assert!(!silent.stderr.contains("launch{"));
}

#[test]
fn what_cannot_be_written_or_read_is_told_before_anything_runs() {
    run(&["--trace", "/no/such/folder/trace.json", "doctor"])
        .refused(1, &["--trace /no/such/folder/trace.json cannot be written", "No such file"]);
    outcome(glm().arg("doctor").env("RUST_LOG", "device_mem=loud").output().unwrap())
        .refused(1, &["RUST_LOG is \"device_mem=loud\""]);
}
