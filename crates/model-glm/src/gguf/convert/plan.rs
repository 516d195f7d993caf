//! Which tensors a file holds, and what of the checkpoint each is.

use super::file_type::Role;
use super::{FileType, Stored, TensorSpec};
use crate::names::{Names, QkvNames};
use crate::{Architecture, GlmConfig};

/// A tensor of the file and the tensor of the checkpoint that it is, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) spec: TensorSpec,
    pub(super) source: String,
}

impl Planned {
    /// The shape in the checkpoint, which is that in the file.
    pub(super) fn shape(&self) -> Vec<usize> {
        let TensorSpec { rows, columns, vector, .. } = self.spec;
        if vector { vec![columns] } else { vec![rows, columns] }
    }
}

/// The architecture's name in llama.cpp: `glm` and `chatglm` compute alike and are one there.
pub(super) fn architecture(config: &GlmConfig) -> &'static str {
    match config.architecture {
        Architecture::Glm4 => "glm4",
        Architecture::Glm | Architecture::ChatGlm => "chatglm",
    }
}

/// All tensors by their names in llama.cpp (`gguf-py/gguf/tensor_mapping.py`), in the order of the forward pass.
pub(super) fn tensors(config: &GlmConfig, names: Names, file_type: FileType) -> Vec<Planned> {
    let &GlmConfig { vocab_size, hidden_size, tied_embeddings, .. } = config;
    let mut plan = Plan { config, names, file_type, tensors: Vec::new() };
    let embedding = if tied_embeddings { Role::Output } else { Role::Other };
    plan.matrix("token_embd", names.embedding(), embedding, [vocab_size, hidden_size]);
    for index in 0..config.layers {
        plan.layer(index);
    }
    plan.vector(String::from("output_norm.weight"), names.final_norm(), hidden_size);
    if !tied_embeddings {
        plan.matrix("output", names.output(config), Role::Output, [vocab_size, hidden_size]);
    }
    plan.tensors
}

struct Plan<'a> {
    config: &'a GlmConfig,
    names: Names,
    file_type: FileType,
    tensors: Vec<Planned>,
}

impl Plan<'_> {
    fn layer(&mut self, layer: usize) {
        let &GlmConfig { hidden_size, intermediate_size, .. } = self.config;
        let q_width = self.config.q_width();
        let names = self.names.layer(layer);
        let at = |name: &str| format!("blk.{layer}.{name}");
        let weight = |name: &str| format!("{name}.weight");

        self.norm(layer, "attn_norm", Some(&names.input_norm));
        self.projections(layer, &names.qkv);
        self.matrix(&at("attn_output"), &weight(&names.out), Role::Other, [hidden_size, q_width]);
        self.norm(layer, "post_attention_norm", names.post_attention_norm.as_deref());
        self.norm(layer, "ffn_norm", Some(&names.mlp_norm));
        let (up, down) = ([2 * intermediate_size, hidden_size], [hidden_size, intermediate_size]);
        self.matrix(&at("ffn_up"), &weight(&names.gate_up), Role::Other, up);
        self.matrix(&at("ffn_down"), &weight(&names.down), Role::Down { layer }, down);
        self.norm(layer, "post_ffw_norm", names.post_mlp_norm.as_deref());
    }

    fn projections(&mut self, layer: usize, qkv: &QkvNames) {
        let (q_width, kv_width) = (self.config.q_width(), self.config.kv_width());
        let value = Role::Value { layer };
        match qkv {
            QkvNames::Separate([q, k, v]) => {
                self.projection(layer, "attn_q", q, Role::Other, q_width);
                self.projection(layer, "attn_k", k, Role::Other, kv_width);
                self.projection(layer, "attn_v", v, value, kv_width);
            }
            QkvNames::Fused(qkv) => self.projection(layer, "attn_qkv", qkv, value, q_width + 2 * kv_width),
        }
    }

    fn projection(&mut self, layer: usize, name: &str, source: &str, role: Role, rows: usize) {
        let shape = [rows, self.config.hidden_size];
        self.matrix(&format!("blk.{layer}.{name}"), &format!("{source}.weight"), role, shape);
        if self.config.qkv_bias {
            self.vector(format!("blk.{layer}.{name}.bias"), &format!("{source}.bias"), rows);
        }
    }

    fn norm(&mut self, layer: usize, name: &str, source: Option<&str>) {
        if let Some(source) = source {
            let width = self.config.hidden_size;
            self.vector(format!("blk.{layer}.{name}.weight"), &format!("{source}.weight"), width);
        }
    }

    fn matrix(&mut self, name: &str, source: &str, role: Role, [rows, columns]: [usize; 2]) {
        let stored = self.file_type.stored(role, self.config.layers, columns);
        let spec = TensorSpec { name: format!("{name}.weight"), rows, columns, vector: false, stored };
        self.tensors.push(Planned { spec, source: source.to_owned() });
    }

    fn vector(&mut self, name: String, source: &str, len: usize) {
        let spec = TensorSpec { name, rows: 1, columns: len, vector: true, stored: Stored::F32 };
        self.tensors.push(Planned { spec, source: source.to_owned() });
    }
}
