//! GGUF files where folders are taken: the toy as a file answers word for word, and bad files are refused by name.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

#[allow(dead_code, reason = "of use to the tests of model-glm")]
#[path = "../../model-glm/tests/gguf/builder.rs"]
mod builder;
#[allow(dead_code, reason = "of use to the tests of model-glm")]
#[path = "../../model-glm/tests/gguf/convert.rs"]
mod convert;

use std::fs;
use std::path::{Path, PathBuf};

use builder::Builder;
use common::{demo, read_json, run, run_with_input};
use convert::{BF16, Checkpoint, vocabulary, with_tokenizer};
use serde_json::Value;
use tempfile::TempDir;

fn toy() -> Builder {
    let (tokens, types, merges) = vocabulary(&demo());
    let file = with_tokenizer(Checkpoint::of(&demo()).file(BF16), "chatglm-bpe", &tokens, &types, &merges);
    let template = fs::read_to_string(demo().join("chat_template.jinja")).unwrap();
    file.u32("tokenizer.ggml.eos_token_id", 1270).text("tokenizer.chat_template", &template)
}

fn write(file: &Builder) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("toy.gguf");
    fs::write(&path, file.build()).unwrap();
    (folder, path)
}

#[test]
fn run_and_chat_answer_as_from_the_folder() {
    let (_folder, path) = write(&toy());
    let pairs = read_json(&demo().join("qa.json"));
    let (mut input, mut expected) = (String::new(), String::new());
    for pair in &pairs.as_array().unwrap()[..5] {
        input += &format!("{}\n/reset\n", pair["question"].as_str().unwrap());
        expected += &format!("{}\n", pair["answer"].as_str().unwrap());
    }
    let model = ["--model", path.to_str().unwrap(), "--device", "cpu"];
    assert_eq!(run_with_input(&[&["chat"][..], &model].concat(), &input).ok().stdout, expected);

    let question = pairs[0]["question"].as_str().unwrap();
    let shown = run(&[&["run", "--json"][..], &model, &[question]].concat()).ok();
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&shown["text"], &shown["stop_reason"]), (&pairs[0]["answer"], &Value::from("stop")));
}

#[test]
fn inspect_shows_what_it_shows_of_the_folder() {
    let (_folder, path) = write(&toy());
    let inspect = |model: &Path| {
        let shown = run(&["inspect", "--json", model.to_str().unwrap()]).ok();
        serde_json::from_str::<Value>(&shown.stdout).unwrap()
    };
    let (mut from_file, from_folder) = (inspect(&path), inspect(&demo()));
    // Files keep vectors in f32.
    assert!(from_file["weight_bytes"].as_u64().unwrap() > from_folder["weight_bytes"].as_u64().unwrap());
    from_file["weight_bytes"] = from_folder["weight_bytes"].clone();
    assert_eq!(from_file, from_folder);
    let shown = run(&["inspect", "--tensors", path.to_str().unwrap()]).ok().stdout;
    for line in ["  blk.0.attn_q.weight BF16 [192, 192]", "  blk.0.attn_norm.weight F32 [192]"] {
        assert!(shown.contains(line), "{shown}");
    }
}

#[test]
fn bad_files_are_refused_by_name() {
    let cases: [(Builder, &[&str]); 4] = [
        (Builder { magic: *b"GGML", ..toy() }, &["GGUF file is refused", "found \"GGML\""]),
        (toy().u32("glm4.block_count", 0), &["the GGUF metadata", "glm4.block_count", "found 0"]),
        (toy().text("general.architecture", "glm4moe"), &["\"glm4moe\"", "mixtures of experts"]),
        (toy().u32("glm4.rope.dimension_count", 7), &["rotary embedding", "rotary_dim"]),
    ];
    for (file, named) in cases {
        let (_folder, path) = write(&file);
        run(&["inspect", path.to_str().unwrap()]).refused(4, named);
    }
    let (_folder, path) = write(&toy().text("tokenizer.ggml.model", "llama"));
    run(&["run", "--device", "cpu", "--model", path.to_str().unwrap(), "hi"])
        .refused(4, &["\"llama\"", "gpt2"]);
    run(&["inspect", "/no/such/model.gguf"]).refused(4, &["/no/such/model.gguf"]);
}
