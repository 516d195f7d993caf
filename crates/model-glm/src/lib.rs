//! GLM-4 family language models: config, weights, tokenizer, chat template, forward pass, generation.
//!
//! | `model_type` | checkpoints |
//! |---|---|
//! | `glm4` | GLM-4-0414, GLM-Z1 |
//! | `glm` | glm-4-9b-chat-hf, GLM-Edge |
//! | `chatglm` | ChatGLM2, ChatGLM3, glm-4-9b in the original layout |
//!
//! | `general.architecture` of a GGUF file | models |
//! |---|---|
//! | `glm4` | GLM-4-0414, GLM-Z1; the text layers of GLM-4.1V |
//! | `chatglm` | glm-4-9b, GLM-Edge; ChatGLM3 without its tokenizer |
//!
//! - [`GlmConfig`] reads `config.json` in the keys of transformers 4, 5 or the original layout, or the metadata of a GGUF file,
//!   and checks it.
//! - [`GlmWeights`] maps safetensors, single or sharded, or a GGUF file; [`GlmModel::load`] puts them on a device.
//! - [`gguf`] is the reader of GGUF files, which refuses damaged and hostile ones by name.
//! - [`MemoryBudget`] counts what that takes, and loading refuses what does not fit.
//! - [`GlmModel::forward`] computes logits, [`generate`] an answer; [`Sequence`] and [`GlmModel::forward_batch`] run
//!   several sequences packed without padding.
//! - [`gguf::convert`] writes a checkpoint as a GGUF file for llama.cpp, quantised or not.
//! - [`Tokenizer`], [`Detokenizer`] and [`ChatTemplate`] turn text into ids and back.
//!
//! A forward pass runs where the model was loaded, in memory that is allocated with the model; long prompts run in pieces.
//! On a HIP device it uploads the ids, launches 11 kernels per layer, and downloads nothing until the logits are asked for.
//! [`generate`] draws tokens there too: per token after the prompt's, 4 bytes cross the bus.
//!
//! What this crate does not do: it names no kernel, grid or pointer, downloads nothing, and does not run mixtures of
//! experts, latent attention or vision towers. It never replaces a device by another. Of GGUF files it takes tensors of F32,
//! F16, BF16 and of the blocks of [`BlockType`](kernels_nn::BlockType), and byte-level BPE: files of other types, split files
//! and sentencepiece vocabularies are refused by name.
//!
//! # Example
//!
//! A model of one layer with made-up weights:
//!
//! ```
//! use attention::KvDType;
//! use device_mem::Device;
//! use model_glm::{GlmConfig, GlmModel, GlmWeights, LoadOptions};
//! use safetensors::tensor::{Dtype, TensorView};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = GlmConfig::from_json(
//!     r#"{"model_type": "glm", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
//!         "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 8, "vocab_size": 16,
//!         "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "partial_rotary_factor": 0.5}"#,
//! )?;
//! let shapes: &[(&str, &[usize])] = &[
//!     ("model.embed_tokens.weight", &[16, 8]),
//!     ("model.layers.0.input_layernorm.weight", &[8]),
//!     ("model.layers.0.self_attn.q_proj.weight", &[8, 8]),
//!     ("model.layers.0.self_attn.k_proj.weight", &[4, 8]),
//!     ("model.layers.0.self_attn.v_proj.weight", &[4, 8]),
//!     ("model.layers.0.self_attn.o_proj.weight", &[8, 8]),
//!     ("model.layers.0.post_attention_layernorm.weight", &[8]),
//!     ("model.layers.0.mlp.gate_up_proj.weight", &[16, 8]),
//!     ("model.layers.0.mlp.down_proj.weight", &[8, 8]),
//!     ("model.norm.weight", &[8]),
//!     ("lm_head.weight", &[16, 8]),
//! ];
//! let bytes: Vec<u8> = (0..256_u32).flat_map(|i| ((i * 37 % 64) as f32 / 64.0 - 0.5).to_le_bytes()).collect();
//! let view = |shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..4 * shape.iter().product::<usize>()]);
//! let tensors = shapes.iter().map(|(name, shape)| Ok((*name, view(shape)?)));
//! let file = safetensors::serialize(tensors.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?, None)?;
//!
//! let weights = GlmWeights::from_bytes(file)?;
//! let model = GlmModel::load(config, &weights, &Device::Cpu, LoadOptions::default())?;
//! let mut cache = model.new_cache(32, KvDType::BF16)?;
//! let logits = model.forward(&[3, 1, 4], &mut cache)?.to_host_vec()?;
//! assert_eq!((logits.len(), cache.len()), (16, 3));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod arena;
mod config;
mod draw;
mod error;
mod failover;
mod files;
mod finite;
mod forward;
mod generate;
pub mod gguf;
mod json;
mod keys;
mod layer;
mod load;
mod memory;
mod model;
mod names;
mod observe;
mod passes;
mod rope_config;
mod safetensors_header;
mod step;
mod template;
mod tokenizer;
mod weights;

pub use config::{Architecture, GlmConfig};
pub use error::GlmError;
pub use failover::generate_with_failover;
pub use generate::{GenerateOptions, Generated, Next, StopReason, generate};
pub use memory::{CacheSize, MemoryBudget};
pub use model::{DEFAULT_CHUNK, DEFAULT_CONTEXT, GlmModel, LoadOptions, Logits, Progress, Sequence, TokenId};
pub use observe::Observer;
pub use safetensors_header::SafetensorsError;
pub use template::{ChatTemplate, Message, PromptPiece};
pub use tokenizer::{Detokenizer, Tokenizer, TokenizerError};
pub use weights::{GlmWeights, Tensor};
