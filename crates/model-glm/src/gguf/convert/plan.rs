//! Which tensors a file holds, and what of the checkpoint each is.

use super::file_type::Role;
use super::{FileType, Stored, TensorSpec};
use crate::names::{LayerNames, Names, QkvNames};
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
    let (mut plan, to) = (Plan { config, file_type, tensors: Vec::new() }, names.in_gguf());
    let embedding = if tied_embeddings { Role::Output } else { Role::Other };
    plan.matrix(to.embedding(), names.embedding(), embedding, [vocab_size, hidden_size]);
    for index in 0..config.layers {
        plan.layer(index, to.layer(index), names.layer(index));
    }
    plan.vector(to.final_norm(), names.final_norm(), hidden_size);
    if !tied_embeddings {
        plan.matrix(to.output(config), names.output(config), Role::Output, [vocab_size, hidden_size]);
    }
    plan.tensors
}

struct Plan<'a> {
    config: &'a GlmConfig,
    file_type: FileType,
    tensors: Vec<Planned>,
}

impl Plan<'_> {
    fn layer(&mut self, layer: usize, to: LayerNames, from: LayerNames) {
        let &GlmConfig { hidden_size, intermediate_size, .. } = self.config;
        let (q_width, ff) = (self.config.q_width(), intermediate_size);
        self.norm(Some(to.input_norm), Some(from.input_norm));
        self.projections(layer, to.qkv, from.qkv);
        self.weight(&to.out, &from.out, Role::Other, [hidden_size, q_width]);
        self.norm(to.post_attention_norm, from.post_attention_norm);
        self.norm(Some(to.mlp_norm), Some(from.mlp_norm));
        self.weight(&to.gate_up, &from.gate_up, Role::Other, [2 * ff, hidden_size]);
        self.weight(&to.down, &from.down, Role::Down { layer }, [hidden_size, ff]);
        self.norm(to.post_mlp_norm, from.post_mlp_norm);
    }

    fn projections(&mut self, layer: usize, to: QkvNames, from: QkvNames) {
        let (q_width, kv_width) = (self.config.q_width(), self.config.kv_width());
        let value = Role::Value { layer };
        match (to, from) {
            (QkvNames::Separate(to), QkvNames::Separate(from)) => {
                let parts = [(Role::Other, q_width), (Role::Other, kv_width), (value, kv_width)];
                for ((to, from), (role, rows)) in to.iter().zip(&from).zip(parts) {
                    self.projection(to, from, role, rows);
                }
            }
            (QkvNames::Fused(to), QkvNames::Fused(from)) => {
                self.projection(&to, &from, value, q_width + 2 * kv_width);
            }
            // `Names::in_gguf` keeps what is fused.
            _ => {}
        }
    }

    fn projection(&mut self, to: &str, from: &str, role: Role, rows: usize) {
        self.weight(to, from, role, [rows, self.config.hidden_size]);
        if self.config.qkv_bias {
            self.vector(&format!("{to}.bias"), &format!("{from}.bias"), rows);
        }
    }

    fn norm(&mut self, to: Option<String>, from: Option<String>) {
        if let Some((to, from)) = to.zip(from) {
            self.vector(&format!("{to}.weight"), &format!("{from}.weight"), self.config.hidden_size);
        }
    }

    fn weight(&mut self, to: &str, from: &str, role: Role, shape: [usize; 2]) {
        self.matrix(&format!("{to}.weight"), &format!("{from}.weight"), role, shape);
    }

    fn matrix(&mut self, name: &str, source: &str, role: Role, [rows, columns]: [usize; 2]) {
        let stored = self.file_type.stored(role, self.config.layers, columns);
        let spec = TensorSpec { name: name.to_owned(), rows, columns, vector: false, stored };
        self.tensors.push(Planned { spec, source: source.to_owned() });
    }

    fn vector(&mut self, name: &str, source: &str, len: usize) {
        let spec =
            TensorSpec { name: name.to_owned(), rows: 1, columns: len, vector: true, stored: Stored::F32 };
        self.tensors.push(Planned { spec, source: source.to_owned() });
    }
}
