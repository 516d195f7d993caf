//! Tensor names of the layouts.

use crate::weights::GlmWeights;
use crate::{Architecture, GlmConfig};

/// The names of one checkpoint's tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    layout: Layout,
    /// Whether there are norms of what attention and MLP give.
    branch_norms: bool,
}

#[derive(Clone, Copy, Debug)]
enum Layout {
    /// As transformers names them.
    HuggingFace,
    /// As the original ChatGLM repositories do.
    Original,
    /// As llama.cpp does; its q, k and v are fused where the original's were.
    Gguf { fused: bool },
}

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
    /// Rows of gate, then of up.
    pub(crate) gate_up: String,
    pub(crate) down: String,
    pub(crate) post_mlp_norm: Option<String>,
}

impl Names {
    /// The names that these weights should have.
    pub(crate) fn of(config: &GlmConfig, weights: &GlmWeights) -> Names {
        let layout = match (weights.is_gguf(), config.architecture) {
            (true, _) => Layout::Gguf { fused: weights.tensors().contains_key("blk.0.attn_qkv.weight") },
            (false, Architecture::ChatGlm) => Layout::Original,
            (false, _) => Layout::HuggingFace,
        };
        Names { layout, branch_norms: config.architecture == Architecture::Glm4 }
    }

    /// The names of the same tensors in a GGUF file.
    pub(crate) fn in_gguf(self) -> Names {
        let fused = match self.layout {
            Layout::HuggingFace => false,
            Layout::Original => true,
            Layout::Gguf { fused } => fused,
        };
        Names { layout: Layout::Gguf { fused }, ..self }
    }

    pub(crate) fn embedding(self) -> &'static str {
        match self.layout {
            Layout::HuggingFace => "model.embed_tokens.weight",
            Layout::Original => "transformer.embedding.word_embeddings.weight",
            Layout::Gguf { .. } => "token_embd.weight",
        }
    }

    pub(crate) fn final_norm(self) -> &'static str {
        match self.layout {
            Layout::HuggingFace => "model.norm.weight",
            Layout::Original => "transformer.encoder.final_layernorm.weight",
            Layout::Gguf { .. } => "output_norm.weight",
        }
    }

    /// The output layer's, which is the embedding's where they are one.
    pub(crate) fn output(self, config: &GlmConfig) -> &'static str {
        match self.layout {
            _ if config.tied_embeddings => self.embedding(),
            Layout::HuggingFace => "lm_head.weight",
            Layout::Original => "transformer.output_layer.weight",
            Layout::Gguf { .. } => "output.weight",
        }
    }

    pub(crate) fn layer(self, index: usize) -> LayerNames {
        let branch_norm = |name: String| self.branch_norms.then_some(name);
        match self.layout {
            Layout::HuggingFace => {
                let at = |name: &str| format!("model.layers.{index}.{name}");
                LayerNames {
                    input_norm: at("input_layernorm"),
                    qkv: QkvNames::Separate(["q", "k", "v"].map(|one| at(&format!("self_attn.{one}_proj")))),
                    out: at("self_attn.o_proj"),
                    post_attention_norm: branch_norm(at("post_self_attn_layernorm")),
                    // In glm4 the norm of this name stands before the MLP as well.
                    mlp_norm: at("post_attention_layernorm"),
                    gate_up: at("mlp.gate_up_proj"),
                    down: at("mlp.down_proj"),
                    post_mlp_norm: branch_norm(at("post_mlp_layernorm")),
                }
            }
            Layout::Original => {
                let at = |name: &str| format!("transformer.encoder.layers.{index}.{name}");
                LayerNames {
                    input_norm: at("input_layernorm"),
                    qkv: QkvNames::Fused(at("self_attention.query_key_value")),
                    out: at("self_attention.dense"),
                    post_attention_norm: branch_norm(at("post_self_attn_layernorm")),
                    mlp_norm: at("post_attention_layernorm"),
                    gate_up: at("mlp.dense_h_to_4h"),
                    down: at("mlp.dense_4h_to_h"),
                    post_mlp_norm: branch_norm(at("post_mlp_layernorm")),
                }
            }
            Layout::Gguf { fused } => {
                let at = |name: &str| format!("blk.{index}.{name}");
                LayerNames {
                    input_norm: at("attn_norm"),
                    qkv: match fused {
                        true => QkvNames::Fused(at("attn_qkv")),
                        false => QkvNames::Separate(["q", "k", "v"].map(|one| at(&format!("attn_{one}")))),
                    },
                    out: at("attn_output"),
                    // Of what attention gives, whatever the name says; other architectures mean the one before the MLP.
                    post_attention_norm: branch_norm(at("post_attention_norm")),
                    mlp_norm: at("ffn_norm"),
                    gate_up: at("ffn_up"),
                    down: at("ffn_down"),
                    post_mlp_norm: branch_norm(at("post_ffw_norm")),
                }
            }
        }
    }
}
