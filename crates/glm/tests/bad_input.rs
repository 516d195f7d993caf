//! Bad files: each is refused with exit code 4, the thing is named, nothing panics.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::fs;
use std::path::Path;

use common::{Outcome, copy_of, demo, edit, golden, run};
use serde_json::{Value, json};

const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn inspect(folder: &Path) -> Outcome {
    run(&["inspect", folder.to_str().unwrap()])
}

fn load(folder: &Path) -> Outcome {
    load_with(folder, &[])
}

fn load_with(folder: &Path, flags: &[&str]) -> Outcome {
    let (out, folder) = (folder.join("out.safetensors"), folder.to_str().unwrap());
    let args = ["dump", "--model", folder, "--ids", "1,2", "--device", "cpu", "--out", out.to_str().unwrap()];
    run(&[&args[..], flags].concat())
}

#[test]
fn configs_that_cannot_be() {
    let cases: &[(&str, Value, &[&str])] = &[
        ("num_attention_heads", json!(0), &["num_attention_heads", "at least 1", "found 0"]),
        ("num_key_value_heads", json!(3), &["num_attention_heads", "multiple", "num_key_value_heads 3"]),
        ("num_hidden_layers", json!(1_000_000_000), &["num_hidden_layers", "1000000000"]),
        ("hidden_size", json!("64"), &["hidden_size", "whole number", "\"64\""]),
        ("rms_norm_eps", json!(-1.0), &["rms_norm_eps", "above 0"]),
        ("hidden_act", json!("gelu"), &["hidden_act", "silu"]),
        ("eos_token_id", json!("x"), &["eos_token_id", "token id"]),
        ("model_type", json!("llama"), &["\"llama\"", "supported are glm4, glm and chatglm"]),
        ("model_type", json!("glm4_moe"), &["\"glm4_moe\"", "mixtures of experts"]),
        ("rope_parameters", json!({"rope_theta": 0.0}), &["rotary embedding", "theta"]),
        ("rope_parameters", json!({"rope_theta": -1.0}), &["rotary embedding", "theta"]),
        (
            "rope_parameters",
            json!({"partial_rotary_factor": 1.5}),
            &["partial_rotary_factor", "at most 1", "1.5"],
        ),
        ("rope_parameters", json!({"partial_rotary_factor": 0.03125}), &["rotary_dim", "even"]),
        ("rope_parameters", json!({"partial_rotary_factor": 0.01}), &["partial_rotary_factor", "whole"]),
        ("rope_parameters", json!({"rope_type": "spiral"}), &["rope_parameters.rope_type", "yarn", "spiral"]),
        ("rope_parameters", json!({"rope_type": "yarn"}), &["rope_parameters.factor"]),
    ];
    for (key, value, named) in cases {
        let folder = copy_of(&golden("glm4"));
        edit(&folder.path().join("config.json"), |config| config[*key] = value.clone());
        inspect(folder.path()).refused(4, named);
    }
}

#[test]
fn configs_that_are_no_configs() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["config.json is not valid JSON"]),
        ("[1]", &["an object"]),
        (r#"{"model_type": "glm4", "model_type": "glm"}"#, &["config.json", "stands twice"]),
        (r#"{"model_type": "glm4", "hidden_size": NaN}"#, &["config.json is not valid JSON"]),
        (r#"{"model_type": "glm4"}"#, &["config.json lacks hidden_size"]),
    ];
    for (text, named) in cases {
        let folder = copy_of(&golden("glm4"));
        fs::write(folder.path().join("config.json"), text).unwrap();
        inspect(folder.path()).refused(4, named);
    }
    let empty = tempfile::tempdir().unwrap();
    inspect(empty.path()).refused(4, &["config.json cannot be read"]);
}

#[test]
fn safetensors_that_are_cut_or_lie() {
    let whole = fs::read(golden("glm4").join(MODEL)).unwrap();
    let header = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let mut files: Vec<Vec<u8>> =
        [0, 7, 8, 100, header, header + 8, whole.len() - 1].map(|len| whole[..len].to_vec()).into();
    for lie in [0, 1, u64::MAX, u64::MAX - 7, whole.len() as u64, 100_000_001] {
        files.push([&lie.to_le_bytes(), &whole[8..]].concat());
    }
    files.push([&whole[..], b"tail"].concat());
    for bytes in files {
        let folder = copy_of(&golden("glm4"));
        fs::write(folder.path().join(MODEL), bytes).unwrap();
        inspect(folder.path()).refused(4, &["model.safetensors"]);
    }
}

#[test]
fn tensors_that_do_not_fit_the_config() {
    let folder = copy_of(&golden("glm4"));
    edit(&folder.path().join("config.json"), |config| config["intermediate_size"] = json!(95));
    load(folder.path()).refused(4, &["mlp.gate_up_proj.weight", "[192, 64]", "[190, 64]"]);
    edit(&folder.path().join("config.json"), |config| {
        config["intermediate_size"] = json!(96);
        config["num_hidden_layers"] = json!(3);
    });
    load(folder.path()).refused(4, &["model.layers.2.self_attn.q_proj.weight is missing"]);
}

#[test]
fn weights_that_are_no_numbers_are_refused_unless_they_are_allowed() {
    let folder = copy_of(&golden("glm4"));
    let path = folder.path().join(MODEL);
    let mut file = fs::read(&path).unwrap();
    // The last element of the last tensor.
    let end = file.len();
    file[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, file).unwrap();
    load(folder.path()).refused(4, &["model.norm.weight holds NaN at element 63", "--allow-non-finite"]);
    load_with(folder.path(), &["--allow-non-finite"]).ok();
}

#[test]
fn shards_that_are_missing_escape_or_repeat() {
    let cases: &[(&str, &[&str])] = &[
        ("absent.safetensors", &["absent.safetensors", "not in the folder"]),
        ("../model.safetensors", &["../model.safetensors", "plain file name"]),
        ("/etc/passwd", &["/etc/passwd", "plain file name"]),
        ("a/b.safetensors", &["a/b.safetensors", "plain file name"]),
    ];
    for (shard, named) in cases {
        let folder = copy_of(&golden("glm4"));
        let index = json!({"weight_map": {"lm_head.weight": shard}});
        fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
        inspect(folder.path()).refused(4, named);
    }
    let folder = copy_of(&golden("glm4"));
    fs::copy(folder.path().join(MODEL), folder.path().join("second.safetensors")).unwrap();
    let index = json!({"weight_map": {"a": MODEL, "b": "second.safetensors"}});
    fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
    inspect(folder.path()).refused(4, &["is in model.safetensors and in second.safetensors"]);
}

#[test]
fn shards_that_fit_are_one_checkpoint() {
    let folder = copy_of(&golden("glm4"));
    fs::rename(folder.path().join(MODEL), folder.path().join("model-00001-of-00001.safetensors")).unwrap();
    let index = json!({"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}});
    fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
    load(folder.path()).ok();
}

#[test]
fn tokens_prompts_and_flags_that_do_not_fit() {
    let folder = copy_of(&golden("glm4"));
    let model = folder.path().to_str().unwrap();
    let out = folder.path().join("out.safetensors");
    let dump = |ids: &str| {
        run(&["dump", "--model", model, "--device", "cpu", "--out", out.to_str().unwrap(), "--ids", ids])
    };
    dump("1,256").refused(1, &["256", "vocab"]);
    dump("1,,2").refused(2, &["token ids like 1,2,3"]);
    assert!(!out.exists());
    run(&["run", "--model", model, "--device", "cpu", "hello"])
        .refused(4, &["tokenizer.json cannot be read"]);
    let demo = demo();
    let short =
        ["run", "--model", demo.to_str().unwrap(), "--device", "cpu", "--context", "4", "What is RoPE?"];
    run(&short).refused(1, &["do not fit a context of 4"]);
    let bad = [
        "run",
        "--model",
        demo.to_str().unwrap(),
        "--device",
        "cpu",
        "--temperature",
        "NaN",
        "What is RoPE?",
    ];
    assert_ne!(run(&bad).code, Some(0));
}

#[test]
fn a_tokenizer_or_template_that_is_damaged() {
    let folder = copy_of(&demo());
    let ask =
        || run(&["run", "--model", folder.path().to_str().unwrap(), "--device", "cpu", "What is RoPE?"]);
    fs::write(folder.path().join("chat_template.jinja"), "{% for %}").unwrap();
    ask().refused(4, &["the chat template failed"]);
    fs::write(folder.path().join("chat_template.jinja"), "{% for i in range(1000000000) %}x{% endfor %}")
        .unwrap();
    ask().refused(4, &["the chat template"]);
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    ask().refused(4, &["the tokenizer failed"]);
}
