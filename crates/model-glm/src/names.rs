//! Tensor names of the layouts.

use crate::Architecture;

/// Where a layer keeps its q, k and v projections.
pub(crate) enum QkvNames {
    /// Three tensors: `{0}.weight`, and `{0}.bias` where there are biases.
    Separate([String; 3]),
    /// One tensor with the rows of q, k and v in this order.
    Fused(String),
}

/// The names of one layer's tensors, without `.weight`.
pub(crate) struct LayerNames {
    pub(crate) input_norm: String,
    pub(crate) qkv: QkvNames,
    pub(crate) out: String,
    pub(crate) post_attention_norm: Option<String>,
    pub(crate) mlp_norm: String,
    pub(crate) gate_up: String,
    pub(crate) down: String,
    pub(crate) post_mlp_norm: Option<String>,
}

pub(crate) fn embedding(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::ChatGlm => "transformer.embedding.word_embeddings.weight",
        _ => "model.embed_tokens.weight",
    }
}

pub(crate) fn final_norm(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::ChatGlm => "transformer.encoder.final_layernorm.weight",
        _ => "model.norm.weight",
    }
}

pub(crate) fn output(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::ChatGlm => "transformer.output_layer.weight",
        _ => "lm_head.weight",
    }
}

pub(crate) fn layer(architecture: Architecture, index: usize) -> LayerNames {
    if architecture == Architecture::ChatGlm {
        let at = |name: &str| format!("transformer.encoder.layers.{index}.{name}");
        return LayerNames {
            input_norm: at("input_layernorm"),
            qkv: QkvNames::Fused(at("self_attention.query_key_value")),
            out: at("self_attention.dense"),
            post_attention_norm: None,
            mlp_norm: at("post_attention_layernorm"),
            gate_up: at("mlp.dense_h_to_4h"),
            down: at("mlp.dense_4h_to_h"),
            post_mlp_norm: None,
        };
    }
    let at = |name: &str| format!("model.layers.{index}.{name}");
    // In glm4 the norm of this name stands before the MLP as well; the two after attention and MLP have their own.
    let sandwich = |name: &str| (architecture == Architecture::Glm4).then(|| at(name));
    LayerNames {
        input_norm: at("input_layernorm"),
        qkv: QkvNames::Separate(["q", "k", "v"].map(|one| at(&format!("self_attn.{one}_proj")))),
        out: at("self_attn.o_proj"),
        post_attention_norm: sandwich("post_self_attn_layernorm"),
        mlp_norm: at("post_attention_layernorm"),
        gate_up: at("mlp.gate_up_proj"),
        down: at("mlp.down_proj"),
        post_mlp_norm: sandwich("post_mlp_layernorm"),
    }
}
