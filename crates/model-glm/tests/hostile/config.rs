//! 22 configs.

use std::fs::File;

use device_mem::Device;
use model_glm::{GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions};
use parity::golden_dir;
use serde_json::{Value, json};

use crate::case::{Case, Input, Outcome, says};
use crate::checkpoint::Checkpoint;

/// A good config with another value.
fn with(key: &str, value: Value) -> String {
    let text = std::fs::read_to_string(golden_dir().join("glm4/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config[key] = value;
    config.to_string()
}

fn rope(value: Value) -> String {
    with("rope_parameters", value)
}

/// A good config with a text in place of the value of `hidden_size`.
fn raw(value: &str) -> String {
    with("hidden_size", json!("HERE")).replace("\"HERE\"", value)
}

fn experts(key: &str, value: u32) -> String {
    let mut config: Value = serde_json::from_str(&with("model_type", json!("glm4_moe"))).unwrap();
    (config["n_routed_experts"], config["num_experts_per_tok"]) = (json!(8), json!(2));
    config[key] = json!(value);
    config.to_string()
}

fn read(input: &Input) -> Outcome {
    GlmConfig::from_json(input.text()).map(drop)
}

fn open(input: &Input) -> Outcome {
    GlmConfig::open(input.folder()).map(drop)
}

pub(crate) fn load(input: &Input) -> Outcome {
    let (config, weights) = (GlmConfig::open(input.folder())?, GlmWeights::open(input.folder())?);
    let options = LoadOptions { context: Some(64), ..LoadOptions::default() };
    GlmModel::load(config, &weights, &Device::Cpu, options).map(drop)
}

macro_rules! bad {
    ($name:literal, $config:expr, $key:literal) => {
        refused!($name, $config, read, GlmError::BadKey { key, .. } if key == $key)
    };
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        bad!("hidden_size 0", with("hidden_size", json!(0)), "hidden_size"),
        bad!("no heads", with("num_attention_heads", json!(0)), "num_attention_heads"),
        bad!("head_dim 0", with("head_dim", json!(0)), "head_dim"),
        bad!(
            "heads that kv heads do not divide",
            with("num_key_value_heads", json!(3)),
            "num_attention_heads"
        ),
        bad!("10^9 layers", with("num_hidden_layers", json!(1_000_000_000)), "num_hidden_layers"),
        refused!(
            "a vocabulary that is not the embedding's",
            Checkpoint::golden().config(|config| config["vocab_size"] = json!(255)).folder(),
            load,
            GlmError::Shape { tensor, expected, found } if (tensor.as_str(), expected[0], found[0]) == ("model.embed_tokens.weight", 255, 256)
        ),
        refused!("rope_theta 0", rope(json!({"rope_theta": 0.0})), read, GlmError::Rope(_)),
        refused!("rope_theta below 0", rope(json!({"rope_theta": -1.0})), read, GlmError::Rope(_)),
        bad!("rope_theta NaN", rope(json!({"rope_theta": "NaN"})), "rope_parameters.rope_theta"),
        bad!("a rotary factor of 0", rope(json!({"partial_rotary_factor": 0.0})), "partial_rotary_factor"),
        bad!("a rotary factor above 1", rope(json!({"partial_rotary_factor": 1.5})), "partial_rotary_factor"),
        refused!(
            "an odd rotary width",
            rope(json!({"partial_rotary_factor": 0.09375})),
            read,
            GlmError::Rope(_)
        ),
        bad!(
            "max_position_embeddings 2^40",
            with("max_position_embeddings", json!(1_u64 << 40)),
            "max_position_embeddings"
        ),
        bad!("an unknown rope_type", rope(json!({"rope_type": "spiral"})), "rope_parameters.rope_type"),
        bad!("a number as text", with("hidden_size", json!("64")), "hidden_size"),
        refused!("a key twice", raw("64, \"hidden_size\": 64"), read, error @ GlmError::Json { .. } if says(error, "\"hidden_size\" stands twice")),
        refused!("a literal NaN", raw("NaN"), read, GlmError::Json { .. }),
        refused!("depth 1000", raw(&format!("{}{}", "[".repeat(1000), "]".repeat(1000))), read, error @ GlmError::Json { .. } if says(error, "recursion limit")),
        refused!(
            "a text of 1 GB",
            {
                let checkpoint = Checkpoint::golden();
                let file = File::options().write(true).open(checkpoint.path().join("config.json")).unwrap();
                file.set_len(1_000_000_000).unwrap();
                checkpoint.folder()
            },
            open,
            GlmError::FileTooLarge { bytes: 1_000_000_000, .. }
        ),
        refused!("no experts", experts("n_routed_experts", 0), read, GlmError::Unsupported { found, .. } if found == "glm4_moe"),
        refused!("more experts chosen than there are", experts("num_experts_per_tok", 9), read, GlmError::Unsupported { found, .. } if found == "glm4_moe"),
        bad!("an end token outside the vocabulary", with("eos_token_id", json!([1, 256])), "eos_token_id"),
    ]
}
