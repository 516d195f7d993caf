//! `glm quantize`: what it prints and writes, and what it refuses with which exit code.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::fs;

use common::{copy_of, demo, edit, golden, read_json, run};
use serde_json::{Value, json};

#[test]
fn the_demo_becomes_a_file_and_is_described() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("demo.gguf");
    let (folder, file) = (demo(), file.to_str().unwrap().to_owned());
    let args = ["quantize", folder.to_str().unwrap(), &file, "--type", "Q4_K_M"];
    let told = run(&args).ok();
    assert!(fs::read(&file).unwrap().starts_with(b"GGUF\x03\0\0\0"));
    assert_eq!(told.stderr, "");
    assert!(told.stdout.contains(&format!("{file}, 1.2 MiB as Q4_K_M")), "{}", told.stdout);

    run(&args).refused(1, &["demo.gguf is there already"]);
    let json: Value =
        serde_json::from_str(&run(&[&args[..], &["--force", "--json"]].concat()).ok().stdout).unwrap();
    assert_eq!(json["bytes"], fs::metadata(&file).unwrap().len());
    // Rows of 192 elements are no blocks of 256, rows of 512 are two: ffn_down of three layers, one with more bits.
    assert_eq!(json["stored"]["Q4_K"]["tensors"], 2);
    assert_eq!(
        json["stored"]["Q6_K"],
        json!({"tensors": 1, "parameters": 192 * 512, "bytes": 192 * 2 * 210})
    );
    assert_eq!(json["stored"]["Q8_0"]["tensors"], 2, "the output and one attn_v");
    assert_eq!(json["stored"]["Q5_0"]["tensors"], 15);
    assert_eq!(json["warnings"], json!([]));
}

#[test]
fn a_quantised_file_runs_on_an_emulated_card() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("demo.gguf");
    let file = file.to_str().unwrap();
    run(&["quantize", demo().to_str().unwrap(), file, "--type", "Q4_K_M"]).ok();
    let pairs = read_json(&demo().join("qa.json"));
    let question = pairs[0]["question"].as_str().unwrap();
    let answers = ["cpu", "emu"].map(|device| {
        let args = ["run", "--json", "--device", device, "--max-tokens", "6", "--model", file, question];
        let json: Value = serde_json::from_str(&run(&args).ok().stdout).unwrap();
        assert_eq!(json["ran_on"], device);
        json["text"].as_str().unwrap().to_owned()
    });
    let expected = pairs[0]["answer"].as_str().unwrap();
    assert!(!answers[0].is_empty() && expected.starts_with(&answers[0]), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn refusals_have_their_exit_codes() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("model.gguf").to_str().unwrap().to_owned();
    let quantize = |folder: &str, file: &str, kind: &str| run(&["quantize", folder, file, "--type", kind]);

    let folder = golden("glm4");
    let folder = folder.to_str().unwrap();
    quantize(folder, &file, "q3_k").refused(2, &["q3_k", "q4_k_m"]);
    quantize("/no/such/folder", &file, "q8_0").refused(4, &["config.json cannot be read"]);
    quantize(folder, "/no/such/folder/model.gguf", "q8_0").refused(1, &["model.gguf.part cannot be written"]);

    let copy = copy_of(&golden("chatglm_orig"));
    edit(&copy.path().join("config.json"), |config| config["original_rope"] = json!(false));
    quantize(copy.path().to_str().unwrap(), &file, "q8_0").refused(4, &["cannot hold", "original_rope"]);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_without_a_tokenizer_is_told() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("model.gguf").to_str().unwrap().to_owned();
    let told = run(&["quantize", golden("glm").to_str().unwrap(), &file, "--type", "f32"]).ok();
    assert!(told.stderr.contains("warning: the folder has no tokenizer.json"), "{}", told.stderr);
}
