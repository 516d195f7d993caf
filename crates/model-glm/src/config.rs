use std::fmt;
use std::path::Path;

use kernels_rope::{Axes, InvFreq, Pairing, RopeConfig, RopeSpec, theta_from_ratio};

use crate::GlmError;
use crate::files::{self, MAX_CONFIG};
use crate::gguf::{self, Gguf};
use crate::json::Strict;
use crate::keys::Keys;
use crate::rope_config::read_scaling;

/// The architectures that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// `glm4`: GLM-4-0414 and GLM-Z1; a norm before and after attention and MLP.
    Glm4,
    /// `glm`: glm-4-9b-chat-hf and GLM-Edge; a norm before each.
    Glm,
    /// `chatglm`: ChatGLM2, ChatGLM3 and glm-4-9b in their original layout, and what GGUF files call so; computes as
    /// `glm`.
    ChatGlm,
}

impl Architecture {
    /// `model_type` as `config.json` has it, or `general.architecture` of a GGUF file.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Glm4 => "glm4",
            Architecture::Glm => "glm",
            Architecture::ChatGlm => "chatglm",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What `config.json` or a GGUF file says about a model, checked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GlmConfig {
    /// Which graph and which tensor names.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub q_heads: u32,
    /// Key and value heads; they divide `q_heads`.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f32,
    /// Whether the q, k and v projections have biases.
    pub qkv_bias: bool,
    /// Whether the output layer is the embedding.
    pub tied_embeddings: bool,
    /// The context that the model was trained for, in tokens.
    pub max_positions: u32,
    /// The rotary embedding.
    pub rope: RopeSpec,
    /// Tokens that end an answer.
    pub stop_ids: Vec<u32>,
    /// What a person should know before trusting the output.
    pub warnings: Vec<String>,
}

const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";

/// Larger counts are lies or need another program.
pub(crate) const MAX_COUNT: u32 = 1 << 24;
pub(crate) const MAX_LAYERS: u32 = 10_000;

impl GlmConfig {
    /// Reads the metadata of a GGUF file, or `config.json` of a checkpoint folder and the stop ids of
    /// `generation_config.json` when it is there.
    ///
    /// # Errors
    /// [`GlmError::Read`], and those of [`GlmConfig::from_json`] and [`GlmConfig::from_gguf`].
    pub fn open(path: &Path) -> Result<GlmConfig, GlmError> {
        if gguf::is_gguf(path) {
            return gguf::open(path, GlmConfig::from_gguf);
        }
        let mut config = GlmConfig::from_json(&files::read_text(&path.join(CONFIG), MAX_CONFIG)?)?;
        if let Some(text) = files::read_optional_text(&path.join(GENERATION_CONFIG), MAX_CONFIG)? {
            config.add_stop_ids(&text)?;
        }
        Ok(config)
    }

    /// Reads the text of a `config.json`, with the keys of transformers 4 or 5 or of the original ChatGLM layout.
    ///
    /// # Errors
    /// [`GlmError::Json`], [`GlmError::Unsupported`], [`GlmError::MissingKey`], [`GlmError::BadKey`] naming the key and
    /// what it should hold, [`GlmError::Rope`] for an impossible rotary embedding.
    pub fn from_json(text: &str) -> Result<GlmConfig, GlmError> {
        let Strict(value) = parse(CONFIG, text)?;
        let keys = Keys::new(CONFIG, "", &value)?;
        match keys.text("model_type")? {
            "glm4" => from_hugging_face(Architecture::Glm4, &keys),
            "glm" => from_hugging_face(Architecture::Glm, &keys),
            "chatglm" => from_original(&keys),
            other => Err(unsupported(other)),
        }
    }

    /// Reads the metadata of a GGUF file. What it does not say, such as whether there are biases, its tensors do.
    ///
    /// # Errors
    /// [`GlmError::Unsupported`], [`GlmError::MissingKey`], [`GlmError::BadKey`], [`GlmError::Rope`], and
    /// [`GlmError::Gguf`] for a special token outside the vocabulary.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<GlmConfig, GlmError> {
        gguf::read_config(gguf)
    }

    /// Adds the stop ids of a `generation_config.json`.
    ///
    /// # Errors
    /// [`GlmError::Json`], [`GlmError::BadKey`].
    pub fn add_stop_ids(&mut self, generation_config: &str) -> Result<(), GlmError> {
        let Strict(value) = parse(GENERATION_CONFIG, generation_config)?;
        let ids = Keys::new(GENERATION_CONFIG, "", &value)?.ids("eos_token_id", self.vocab_size)?;
        self.stop_ids.extend(ids);
        self.stop_ids.sort_unstable();
        self.stop_ids.dedup();
        Ok(())
    }

    /// Bytes of keys and values per token, for cache elements of `element_bytes`.
    pub fn kv_bytes_per_token(&self, element_bytes: usize) -> usize {
        2 * self.layers * self.kv_heads as usize * self.head_dim as usize * element_bytes
    }

    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.q_heads as usize * self.head_dim as usize
    }

    /// Width of all key heads together, which is that of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads as usize * self.head_dim as usize
    }
}

fn parse(file: &str, text: &str) -> Result<Strict, GlmError> {
    serde_json::from_str(text).map_err(|source| GlmError::Json { file: file.to_owned(), source })
}

pub(crate) fn unsupported(found: &str) -> GlmError {
    let hint = match found {
        "glm4_moe" | "glm4moe" => Some("GLM-4.5 to 4.7 are mixtures of experts, which do not run yet"),
        "glm4_moe_lite" | "deepseek2" | "glm_moe_dsa" | "glm-dsa" => {
            Some("its latent attention does not run yet")
        }
        "glm4v" | "glm4v_moe" | "glm_ocr" => {
            Some("vision models do not run; their text layers resemble glm4")
        }
        _ => None,
    };
    GlmError::Unsupported { found: found.to_owned(), hint }
}

fn from_hugging_face(architecture: Architecture, keys: &Keys<'_>) -> Result<GlmConfig, GlmError> {
    let hidden_size = keys.count("hidden_size", MAX_COUNT)?;
    let q_heads = keys.count("num_attention_heads", MAX_COUNT)?;
    let kv_heads = keys.optional_count("num_key_value_heads", MAX_COUNT)?.unwrap_or(q_heads);
    let head_dim = match keys.optional_count("head_dim", MAX_COUNT)? {
        Some(head_dim) => head_dim,
        None => keys.quotient("hidden_size", hidden_size, "num_attention_heads", q_heads)?,
    };
    keys.quotient("num_attention_heads", q_heads, "num_key_value_heads", kv_heads)?;
    keys.expect_text_or_absent("hidden_act", "silu")?;
    let max_positions = keys.count("max_position_embeddings", u32::MAX)?;
    let rope_keys = keys.object("rope_parameters")?;
    let legacy_scaling = keys.object("rope_scaling")?;
    let at = |name| rope_keys.as_ref().filter(|rope| rope.has(name)).unwrap_or(keys);
    let theta = at("rope_theta").optional_number("rope_theta")?.unwrap_or(10_000.0);
    let partial = at("partial_rotary_factor").optional_number("partial_rotary_factor")?.unwrap_or(0.5);
    let rope = RopeSpec::new(RopeConfig {
        head_dim,
        rotary_dim: rotary_dim(head_dim, partial)?,
        theta,
        pairing: Pairing::Interleaved,
        scaling: read_scaling(rope_keys.as_ref().or(legacy_scaling.as_ref()), max_positions)?,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    let vocab_size = keys.count("vocab_size", MAX_COUNT)? as usize;
    let mut warnings = Vec::new();
    let long_chat = architecture == Architecture::Glm && max_positions >= 131_072;
    if long_chat && theta <= 10_000.0 {
        warnings.push(format!(
            "rope_theta is {theta} for a context of {max_positions}: published glm-4-9b-chat-hf configs say 10000 where \
             the original repository means 5000000; check it if long prompts go wrong"
        ));
    }
    Ok(GlmConfig {
        architecture,
        hidden_size: hidden_size as usize,
        layers: keys.count("num_hidden_layers", MAX_LAYERS)? as usize,
        q_heads,
        kv_heads,
        head_dim,
        intermediate_size: keys.count("intermediate_size", MAX_COUNT)? as usize,
        vocab_size,
        rms_norm_eps: keys.eps("rms_norm_eps")?,
        qkv_bias: keys.flag("attention_bias")?.unwrap_or(false),
        tied_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        max_positions,
        rope,
        stop_ids: keys.ids("eos_token_id", vocab_size)?,
        warnings,
    })
}

fn from_original(keys: &Keys<'_>) -> Result<GlmConfig, GlmError> {
    if keys.flag("position_encoding_2d")? == Some(true) || !keys.has("kv_channels") {
        let hint = Some("this is the first ChatGLM-6B, whose layers and positions differ");
        return Err(GlmError::Unsupported { found: String::from("chatglm"), hint });
    }
    for (flag, expected) in [("rmsnorm", true), ("add_bias_linear", false), ("post_layer_norm", true)] {
        if keys.flag(flag)?.is_some_and(|found| found != expected) {
            return Err(keys.bad(flag, if expected { "true" } else { "false" }));
        }
    }
    let q_heads = keys.count("num_attention_heads", MAX_COUNT)?;
    let kv_heads = match keys.flag("multi_query_attention")? {
        Some(true) => keys.count("multi_query_group_num", MAX_COUNT)?,
        _ => q_heads,
    };
    keys.quotient("num_attention_heads", q_heads, "multi_query_group_num", kv_heads)?;
    let head_dim = keys.count("kv_channels", MAX_COUNT)?;
    let rope_ratio = keys.optional_number("rope_ratio")?.unwrap_or(1.0);
    let original_rope = keys.flag("original_rope")?.unwrap_or(true);
    let max_positions = keys.count("seq_length", u32::MAX)?;
    let rope = RopeSpec::new(RopeConfig {
        head_dim,
        rotary_dim: rotary_dim(head_dim, 0.5)?,
        theta: theta_from_ratio(rope_ratio),
        pairing: if original_rope { Pairing::Interleaved } else { Pairing::Halves },
        scaling: read_scaling(None, max_positions)?,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    let vocab_size = keys.count("padded_vocab_size", MAX_COUNT)? as usize;
    let mut warnings = Vec::new();
    if rope_ratio == 16.0 {
        warnings.push(String::from(
            "rope_ratio 16 is read as a base of 160000; chatglm2-6b-32k means a division of the position instead",
        ));
    }
    Ok(GlmConfig {
        architecture: Architecture::ChatGlm,
        hidden_size: keys.count("hidden_size", MAX_COUNT)? as usize,
        layers: keys.count("num_layers", MAX_LAYERS)? as usize,
        q_heads,
        kv_heads,
        head_dim,
        intermediate_size: keys.count("ffn_hidden_size", MAX_COUNT)? as usize,
        vocab_size,
        rms_norm_eps: keys.eps("layernorm_epsilon")?,
        qkv_bias: keys.flag("add_qkv_bias")?.unwrap_or(false),
        tied_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        max_positions,
        rope,
        stop_ids: keys.ids("eos_token_id", vocab_size)?,
        warnings,
    })
}

/// The rotary width `head_dim * partial`, which must come out whole.
fn rotary_dim(head_dim: u32, partial: f64) -> Result<u32, GlmError> {
    let width = f64::from(head_dim) * partial;
    let whole = (1..=head_dim).find(|&candidate| f64::from(candidate) == width);
    whole.ok_or_else(|| GlmError::BadKey {
        file: CONFIG,
        key: String::from("partial_rotary_factor"),
        expected: "above 0, at most 1, and such that head_dim times it is whole",
        found: partial.to_string(),
    })
}
