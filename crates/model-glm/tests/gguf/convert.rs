//! Checkpoint folders as GGUF files, with the names and keys that llama.cpp's converters give them.

use std::path::Path;

use model_glm::{Architecture, GlmConfig};
use parity::golden_dir;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::builder::Builder;

/// Numbers of types in tensor infos.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const BF16: u32 = 30;

/// A golden checkpoint and what its GGUF file says of itself.
pub(crate) struct Checkpoint {
    pub(crate) architecture: &'static str,
    pub(crate) config: GlmConfig,
    /// Name, shape, values.
    pub(crate) tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Checkpoint {
    pub(crate) fn open(name: &str) -> Checkpoint {
        Checkpoint::of(&golden_dir().join(name))
    }

    pub(crate) fn of(folder: &Path) -> Checkpoint {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| {
            let values = widened(view.data(), view.dtype());
            (renamed(name), view.shape().to_vec(), values)
        });
        let config = GlmConfig::open(folder).unwrap();
        let architecture = if config.architecture == Architecture::Glm4 { "glm4" } else { "chatglm" };
        Checkpoint { architecture, tensors: tensors.collect(), config }
    }

    /// The file, with all tensors of one type.
    #[expect(clippy::cast_possible_truncation, reason = "the base is a whole number")]
    pub(crate) fn file(&self, number: u32) -> Builder {
        let (arch, config) = (self.architecture, &self.config);
        let u32_of = |count: usize| u32::try_from(count).unwrap();
        let key = |name: &str| format!("{arch}.{name}");
        let file = Builder::new()
            .text("general.architecture", arch)
            .u32(&key("context_length"), config.max_positions)
            .u32(&key("embedding_length"), u32_of(config.hidden_size))
            .u32(&key("block_count"), u32_of(config.layers))
            .u32(&key("feed_forward_length"), u32_of(config.intermediate_size))
            .u32(&key("attention.head_count"), config.q_heads)
            .u32(&key("attention.head_count_kv"), config.kv_heads)
            .f32(&key("attention.layer_norm_rms_epsilon"), config.rms_norm_eps)
            .u32(&key("attention.key_length"), config.head_dim)
            .u32(&key("attention.value_length"), config.head_dim)
            .u32(&key("rope.dimension_count"), config.rope.rotary_dim())
            .f32(&key("rope.freq_base"), config.rope.theta() as f32);
        self.tensors.iter().fold(file, |file, (name, shape, values)| {
            let dims: Vec<u64> = shape.iter().rev().map(|&dim| dim as u64).collect();
            // Vectors stay in f32, as the converters leave them.
            let number = if shape.len() == 1 { F32 } else { number };
            file.tensor(name, &dims, number, &stored(values, number))
        })
    }

    pub(crate) fn tensor_mut(&mut self, name: &str) -> &mut Vec<f32> {
        &mut self.tensors.iter_mut().find(|(tensor, ..)| tensor == name).unwrap().2
    }
}

fn widened(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    if dtype == Dtype::BF16 {
        let (values, _) = bytes.as_chunks::<2>();
        return values.iter().map(|&bytes| half::bf16::from_le_bytes(bytes).to_f32()).collect();
    }
    assert_eq!(dtype, Dtype::F32);
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn stored(values: &[f32], number: u32) -> Vec<u8> {
    let element = |&value: &f32| match number {
        F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
        BF16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    };
    values.iter().flat_map(element).collect()
}

/// The parts of names that differ, in the layout of transformers and in the original one.
const PARTS: [(&str, &str); 25] = [
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("transformer.embedding.word_embeddings", "token_embd"),
    ("transformer.encoder.final_layernorm", "output_norm"),
    ("transformer.output_layer", "output"),
    ("model.layers.", "blk."),
    ("transformer.encoder.layers.", "blk."),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("post_self_attn_layernorm", "post_attention_norm"),
    ("post_mlp_layernorm", "post_ffw_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attention.query_key_value", "attn_qkv"),
    ("self_attention.dense", "attn_output"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.dense_h_to_4h", "ffn_up"),
    ("mlp.dense_4h_to_h", "ffn_down"),
    ("transformer.", ""),
    ("encoder.", ""),
    ("model.", ""),
];

fn renamed(name: &str) -> String {
    PARTS.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// A folder's vocabulary: texts and types by id, then the merges.
pub(crate) fn vocabulary(folder: &Path) -> (Vec<String>, Vec<i32>, Vec<String>) {
    let text = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let tokenizer: Value = serde_json::from_str(&text).unwrap();
    let model = &tokenizer["model"];
    let mut tokens: Vec<(u64, String, i32)> = Vec::new();
    for (text, id) in model["vocab"].as_object().unwrap() {
        tokens.push((id.as_u64().unwrap(), text.clone(), 1));
    }
    for token in tokenizer["added_tokens"].as_array().unwrap() {
        tokens.push((token["id"].as_u64().unwrap(), token["content"].as_str().unwrap().to_owned(), 3));
    }
    tokens.sort_unstable();
    let merges = model["merges"].as_array().unwrap().iter();
    let merges = merges.map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    let (texts, types) = tokens.into_iter().map(|(_, text, number)| (text, number)).unzip();
    (texts, types, merges.collect())
}

/// Adds a tokenizer to a file.
pub(crate) fn with_tokenizer(
    file: Builder,
    pre: &str,
    tokens: &[String],
    types: &[i32],
    merges: &[String],
) -> Builder {
    file.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", tokens)
        .i32s("tokenizer.ggml.token_type", types)
        .texts("tokenizer.ggml.merges", merges)
}
