//! Configs of published models, in the keys they were published with, and what the two key styles share.

use kernels_rope::{Pairing, Scaling};
use model_glm::{Architecture, GlmConfig, GlmError};
use parity::golden_dir;
use serde_json::{Value, json};

/// What distinguishes the models: hidden, layers, heads, kv heads, MLP, bias, eps; the rest is common to GLM-4.
fn hugging_face(model_type: &str, shape: [u32; 5], bias: bool, eps: f64) -> Value {
    let [hidden, layers, heads, kv_heads, intermediate] = shape;
    json!({
        "model_type": model_type, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": 128, "intermediate_size": intermediate, "vocab_size": 151552,
        "rms_norm_eps": eps, "attention_bias": bias, "hidden_act": "silu", "max_position_embeddings": 32768,
        "partial_rotary_factor": 0.5, "rope_theta": 10000.0, "eos_token_id": [151329, 151336, 151338]
    })
}

#[test]
fn published_models_have_their_published_shapes() {
    let chatglm3 = json!({
        "model_type": "chatglm", "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "kv_channels": 128,
        "multi_query_attention": true, "multi_query_group_num": 2, "ffn_hidden_size": 13696, "padded_vocab_size": 65024,
        "seq_length": 8192, "layernorm_epsilon": 1e-5, "add_qkv_bias": true, "add_bias_linear": false, "rmsnorm": true,
        "post_layer_norm": true, "original_rope": true, "eos_token_id": 2
    });
    // Name, config, bytes of keys and values per token in bf16.
    let models = [
        ("GLM-4-9B-0414", hugging_face("glm4", [4096, 40, 32, 2, 13_696], true, 1e-5), 40 << 10),
        ("GLM-4-32B-0414", hugging_face("glm4", [6144, 61, 48, 2, 23_040], false, 1e-5), 61 << 10),
        ("glm-4-9b-chat-hf", hugging_face("glm", [4096, 40, 32, 2, 13_696], true, 1.5625e-7), 40 << 10),
        ("ChatGLM3-6B", chatglm3, 28 << 10),
    ];
    for (name, text, kv_bytes) in models {
        let config = GlmConfig::from_json(&text.to_string()).unwrap();
        assert_eq!((config.rope.rotary_dim(), config.rope.pairing()), (64, Pairing::Interleaved), "{name}");
        assert_eq!(config.rope.theta(), 10_000.0, "{name}");
        assert_eq!((config.head_dim, config.kv_heads), (128, 2), "{name}");
        assert_eq!(config.kv_bytes_per_token(2), kv_bytes, "{name}");
        assert_eq!(config.qkv_bias, name != "GLM-4-32B-0414", "{name}");
        assert!(!config.stop_ids.is_empty(), "{name}");
    }
}

#[test]
fn the_keys_of_transformers_4_and_5_say_the_same() {
    for (checkpoint, architecture) in [("glm4", Architecture::Glm4), ("glm", Architecture::Glm)] {
        let read = |name: &str| {
            let path = golden_dir().join(checkpoint).join(name);
            GlmConfig::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        assert_eq!(read("config.json"), read("config.legacy.json"));
        assert_eq!(read("config.json").architecture, architecture);
    }
}

#[test]
fn every_scaling_is_read_in_both_places() {
    let factors = vec![1.5; 32];
    let kinds = [
        (json!({"rope_type": "linear", "factor": 2.0}), "linear"),
        (json!({"rope_type": "dynamic", "factor": 2.0}), "dynamic"),
        (json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}), "yarn"),
        (
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
            "llama3",
        ),
        (
            json!({"rope_type": "longrope", "factor": 8.0, "original_max_position_embeddings": 4096,
                "short_factor": factors, "long_factor": factors}),
            "longrope",
        ),
        (json!({"rope_type": "default"}), "default"),
    ];
    for (scaling, kind) in kinds {
        for key in ["rope_parameters", "rope_scaling"] {
            let mut config = hugging_face("glm4", [4096, 40, 32, 2, 13_696], true, 1e-5);
            config[key] = scaling.clone();
            let config = GlmConfig::from_json(&config.to_string()).unwrap();
            assert_eq!(config.rope.scaling().kind(), kind, "{key}");
        }
    }
    let mut config = hugging_face("glm4", [4096, 40, 32, 2, 13_696], true, 1e-5);
    config["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0});
    let config = GlmConfig::from_json(&config.to_string()).unwrap();
    assert!(matches!(config.rope.scaling(), Scaling::Yarn { trained_positions: 32_768, .. }));
}

#[test]
fn rope_ratio_scales_the_base_and_a_doubtful_base_is_warned_of() {
    let path = golden_dir().join("chatglm_orig/config.json");
    let config = GlmConfig::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!((config.architecture, config.rope.theta()), (Architecture::ChatGlm, 5_000_000.0));

    let mut chat = hugging_face("glm", [4096, 40, 32, 2, 13_696], true, 1.5625e-7);
    chat["max_position_embeddings"] = json!(131_072);
    let warnings = GlmConfig::from_json(&chat.to_string()).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("5000000"), "{warnings:?}");
}

#[test]
fn stop_ids_come_from_both_files() {
    let mut config =
        GlmConfig::from_json(&hugging_face("glm4", [4096, 40, 32, 2, 13_696], true, 1e-5).to_string())
            .unwrap();
    config.add_stop_ids(r#"{"eos_token_id": [151338, 7]}"#).unwrap();
    assert_eq!(config.stop_ids, [7, 151_329, 151_336, 151_338]);
    let error = config.add_stop_ids(r#"{"eos_token_id": -1}"#).unwrap_err();
    assert!(matches!(error, GlmError::BadKey { ref key, .. } if key == "eos_token_id"), "{error}");
}

#[test]
fn the_first_chatglm_is_told_from_its_successors() {
    let error =
        GlmConfig::from_json(r#"{"model_type": "chatglm", "position_encoding_2d": true}"#).unwrap_err();
    assert!(error.to_string().contains("ChatGLM-6B"), "{error}");
}
