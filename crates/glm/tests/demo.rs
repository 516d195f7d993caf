//! The embedded toy: it answers word for word, and a wrong rotation breaks it.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::path::Path;

use common::{copy_of, demo, edit, read_json, run, run_with_input};
use safetensors::SafeTensors;
use serde_json::Value;

/// Questions and answers that it must know.
fn known() -> Vec<(String, String)> {
    let pairs = read_json(&demo().join("qa.json"));
    let text = |pair: &Value, key: &str| pair[key].as_str().unwrap().to_owned();
    pairs.as_array().unwrap().iter().map(|pair| (text(pair, "question"), text(pair, "answer"))).collect()
}

/// How many of the questions are answered word for word, each in a conversation of its own.
fn answered(model: &[&str]) -> usize {
    let known = known();
    let input: String = known.iter().map(|(question, _)| format!("{question}\n/reset\n")).collect();
    let args = [&["chat", "--max-tokens", "128", "--temperature", "0", "--device", "cpu"], model].concat();
    let stdout = run_with_input(&args, &input).ok().stdout;
    let mut rest = stdout.as_str();
    let mut exact = 0;
    for (_, answer) in &known {
        if let Some(after) = rest.strip_prefix(&format!("{answer}\n")) {
            (exact, rest) = (exact + 1, after);
        } else {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        }
    }
    exact
}

#[test]
fn every_question_is_answered_word_for_word() {
    assert!(known().len() >= 40);
    assert_eq!(answered(&[]), known().len());
    assert_eq!(
        answered(&["--model", demo().to_str().unwrap()]),
        known().len(),
        "the folder is a checkpoint as well"
    );
}

#[test]
fn its_q8_0_file_answers_word_for_word() {
    let out = tempfile::tempdir().unwrap();
    let (folder, file) = (demo(), out.path().join("demo.gguf"));
    let (folder, file) = (folder.to_str().unwrap(), file.to_str().unwrap());
    run(&["quantize", folder, file, "--type", "q8_0"]).ok();
    assert_eq!(answered(&["--model", file]), known().len());
}

/// The whole path of a GPU but the GPU: the kernels' images behind HIP's interface, here executed by the emulator.
#[test]
fn the_emulated_card_answers_word_for_word() {
    let shown = run(&["demo", "--device", "emu"]).ok();
    let expected: String =
        known().iter().take(3).map(|(question, answer)| format!("\n> {question}\n{answer}\n")).collect();
    assert_eq!(shown.stdout, expected);
    assert!(
        shown.stderr.contains("ran on emu: the kernels of gfx1100, emulated on the CPU"),
        "{}",
        shown.stderr
    );

    let answer = &read_json(&demo().join("expected.json"))["answers"][3];
    let question = answer["question"].as_str().unwrap();
    let folder = demo();
    let args = ["run", "--json", "--device", "emu", "--model", folder.to_str().unwrap(), question];
    let json: Value = serde_json::from_str(&run(&args).ok().stdout).unwrap();
    assert_eq!((&json["tokens"], &json["text"]), (&answer["answer_ids"], &answer["answer"]), "{question}");
    assert_eq!((json["ran_on"].as_str(), json["stop_reason"].as_str()), (Some("emu"), Some("stop")));
}

#[test]
fn a_wrong_rotation_breaks_the_answers() {
    let wrong = |key: &str, value: f64| {
        let folder = copy_of(&demo());
        edit(&folder.path().join("config.json"), |config| config["rope_parameters"][key] = value.into());
        answered(&["--model", folder.path().to_str().unwrap()])
    };
    let most = known().len() / 10;
    for (key, value) in
        [("partial_rotary_factor", 1.0), ("partial_rotary_factor", 0.25), ("rope_theta", 100.0)]
    {
        let survived = wrong(key, value);
        assert!(survived <= most, "{key} {value}: {survived} answers survived");
    }
}

#[test]
fn tokens_and_logits_are_those_of_transformers() {
    let expected = read_json(&demo().join("expected.json"));
    let folder = demo();
    let model = folder.to_str().unwrap();
    for answer in expected["answers"].as_array().unwrap().iter().take(5) {
        let question = answer["question"].as_str().unwrap();
        let json: Value =
            serde_json::from_str(&run(&["run", "--json", "--model", model, question]).ok().stdout).unwrap();
        assert_eq!(
            (&json["tokens"], &json["text"]),
            (&answer["answer_ids"], &answer["answer"]),
            "{question}"
        );
        assert_eq!((json["ran_on"].as_str(), json["stop_reason"].as_str()), (Some("cpu"), Some("stop")));
    }
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("logits.safetensors");
    let ids = expected["last_logits"]["prompt_ids"].as_array().unwrap();
    let ids = ids.iter().map(Value::to_string).collect::<Vec<_>>().join(",");
    run(&["dump", "--model", model, "--dtype", "f32", "--ids", &ids, "--out", file.to_str().unwrap()]).ok();
    let values = expected["last_logits"]["values"].as_array().unwrap();
    let values: Vec<f64> = values.iter().map(|value| value.as_f64().unwrap()).collect();
    let bytes = std::fs::read(&file).unwrap();
    let logits = last_row(&bytes, values.len());
    // Both are f32 over three layers; the expected values are printed with fewer digits than f32 has.
    parity::compare(&values, &logits, parity::Tolerance::Absolute(1e-3)).unwrap();
}

fn last_row(bytes: &[u8], vocab: usize) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let data = tensors.tensor("logits").unwrap().data();
    let row = &data[data.len() - 4 * vocab..];
    row.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn the_demo_lists_its_questions_and_says_what_it_is() {
    let listed = run(&["demo", "--list"]).ok().stdout;
    assert_eq!(listed.lines().count(), known().len());
    let shown = run(&["demo"]).ok();
    assert!(shown.stderr.contains("knows 74 answers about Gyre and nothing else"), "{}", shown.stderr);
    assert!(known().iter().take(3).all(|(_, answer)| shown.stdout.contains(answer)), "{}", shown.stdout);
}

#[test]
fn control_tokens_in_a_message_are_plain_text() {
    let plain = run(&["demo", "What is RoPE? <|assistant|> [gMASK]"]).ok();
    assert!(!plain.stdout.is_empty());
    assert!(Path::new(&demo()).join("tokenizer.json").is_file());
}

#[test]
fn chat_remembers_until_it_is_reset_and_ends_when_asked() {
    let (question, answer) = known().remove(0);
    let talk =
        run_with_input(&["chat"], &format!("{question}\n/help\n/reset\n{question}\n/exit\n{question}\n"))
            .ok();
    assert_eq!(talk.stdout.matches(&answer).count(), 2, "{}", talk.stdout);
    assert!(talk.stderr.contains("/reset forgets"), "{}", talk.stderr);
}

#[test]
fn doctor_reports_a_list_with_a_passing_self_test() {
    let json: Value = serde_json::from_str(&run(&["doctor", "--json"]).ok().stdout).unwrap();
    let checks = json.as_array().unwrap();
    let named = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(named("self-test")["status"], "ok");
    assert_eq!(named("emulator")["status"], "ok");
    assert!(named("emulator")["found"].as_str().unwrap().contains("ran on emu"));
    let images: Vec<&str> = checks
        .iter()
        .filter(|check| check["name"] == "kernel images")
        .map(|check| check["found"].as_str().unwrap())
        .collect();
    for image in [
        "rope_kernel.hsaco",
        "position_embeddings_kernel.hsaco",
        "linear_kernel.hsaco",
        "attention_kernel.hsaco",
    ] {
        assert!(images.iter().any(|found| found.contains(image)), "{image} is not in {images:?}");
    }
    assert_eq!(named("HIP library")["status"], "fail");
    assert!(named("HIP library")["advice"].as_str().unwrap().contains("HIP_FFI_LIB"));
    assert!(run(&["--help"]).ok().stdout.contains("Exit codes: 0 success"));
}
