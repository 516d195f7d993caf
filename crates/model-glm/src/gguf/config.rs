//! A model's config from the metadata.

use kernels_rope::{Axes, InvFreq, Pairing, RopeConfig, RopeSpec, Scaling};
use serde_json::{Map, Number};

use super::vocabulary::Vocabulary;
use super::{Gguf, METADATA, Value};
use crate::config::{MAX_COUNT, MAX_LAYERS, unsupported};
use crate::keys::Keys;
use crate::{Architecture, GlmConfig, GlmError};

/// Reads what the metadata and the tensors say of a model.
pub(crate) fn read_config(gguf: &Gguf<'_>) -> Result<GlmConfig, GlmError> {
    let general = object(gguf, "general");
    let architecture = match Keys::new(METADATA, "general", &general)?.text("architecture")? {
        "glm4" => Architecture::Glm4,
        "chatglm" => Architecture::ChatGlm,
        other => return Err(unsupported(other)),
    };
    let object = object(gguf, architecture.name());
    let keys = Keys::new(METADATA, architecture.name(), &object)?;
    let vocabulary = Vocabulary::read(gguf)?;

    let hidden_size = keys.count("embedding_length", MAX_COUNT)?;
    let q_heads = keys.count("attention.head_count", MAX_COUNT)?;
    let kv_heads = keys.optional_count("attention.head_count_kv", MAX_COUNT)?.unwrap_or(q_heads);
    keys.quotient("attention.head_count", q_heads, "attention.head_count_kv", kv_heads)?;
    let head_dim = match keys.optional_count("attention.key_length", MAX_COUNT)? {
        Some(head_dim) => head_dim,
        None => keys.quotient("embedding_length", hidden_size, "attention.head_count", q_heads)?,
    };
    if keys.optional_count("attention.value_length", MAX_COUNT)?.is_some_and(|length| length != head_dim) {
        return Err(keys.bad("attention.value_length", "attention.key_length"));
    }
    let max_positions = keys.count("context_length", u32::MAX)?;
    let mut warnings = Vec::new();
    let rope = read_rope(&keys, head_dim, max_positions, &mut warnings)?;
    if architecture == Architecture::ChatGlm && rope.theta() <= 10_000.0 {
        warnings.extend(doubtful_base(max_positions, hidden_size));
    }
    let has = |name: &str| gguf.tensor(name).is_some();
    Ok(GlmConfig {
        architecture,
        hidden_size: hidden_size as usize,
        layers: read_layers(&keys)?,
        q_heads,
        kv_heads,
        head_dim,
        intermediate_size: keys.count("feed_forward_length", MAX_COUNT)? as usize,
        vocab_size: match vocabulary.len() {
            0 => embedding_rows(gguf, &keys)?,
            tokens => tokens,
        },
        rms_norm_eps: keys.eps("attention.layer_norm_rms_epsilon")?,
        qkv_bias: has("blk.0.attn_qkv.bias") || has("blk.0.attn_q.bias"),
        tied_embeddings: !has("output.weight"),
        max_positions,
        rope,
        stop_ids: vocabulary.stop_ids(gguf)?,
        warnings,
    })
}

/// The keys below `prefix`, without it.
fn object(gguf: &Gguf<'_>, prefix: &str) -> serde_json::Value {
    let below = gguf.metadata().iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(prefix)?.strip_prefix('.')?;
        Some((name.to_owned(), json(value)))
    });
    serde_json::Value::Object(below.collect::<Map<_, _>>())
}

/// A value as JSON has it. What JSON has no number for is a text, which no number is read from.
fn json(value: &Value<'_>) -> serde_json::Value {
    let float = |number: f64| match Number::from_f64(number) {
        Some(number) => number.into(),
        None => number.to_string().into(),
    };
    match *value {
        Value::F32(value) => float(value.into()),
        Value::F64(value) => float(value),
        Value::Bool(value) => value.into(),
        Value::Str(value) => value.into(),
        Value::Array(array) => {
            format!("{} values of type {}", array.len(), array.element_type().name()).into()
        }
        _ => value.as_i128().and_then(Number::from_i128).map_or(serde_json::Value::Null, Into::into),
    }
}

/// Blocks of the decoder, without those that predict further tokens, which stand behind it.
fn read_layers(keys: &Keys<'_>) -> Result<usize, GlmError> {
    let blocks = keys.count("block_count", MAX_LAYERS)?;
    let predicting = keys.whole_or_zero("nextn_predict_layers", blocks - 1)?;
    Ok((blocks - predicting) as usize)
}

fn embedding_rows(gguf: &Gguf<'_>, keys: &Keys<'_>) -> Result<usize, GlmError> {
    if let Some(rows) = keys.optional_count("vocab_size", MAX_COUNT)? {
        return Ok(rows as usize);
    }
    let rows = gguf.tensor("token_embd.weight").and_then(|tensor| tensor.dims().get(1).copied());
    rows.and_then(|rows| usize::try_from(rows).ok()).ok_or_else(|| GlmError::MissingKey {
        file: METADATA,
        key: String::from("tokenizer.ggml.tokens"),
        expected: "the vocabulary, or the tensor token_embd.weight",
    })
}

fn read_rope(
    keys: &Keys<'_>,
    head_dim: u32,
    max_positions: u32,
    warnings: &mut Vec<String>,
) -> Result<RopeSpec, GlmError> {
    let whole_head = "rope.dimension_count is the whole head: early files of GLM-4-0414 said so by mistake, and it rotates \
                      half; convert the model again if the output is gibberish";
    // Vision models have positions of three axes, all alike in text, and their q and k rows are permuted for halves.
    let sections = keys.has("rope.dimension_sections");
    let rotary_dim = match keys.optional_count("rope.dimension_count", MAX_COUNT)? {
        Some(rotary_dim) => rotary_dim,
        None => {
            warnings.push(format!(
                "rope.dimension_count is missing; {} of the {head_dim} elements of a head are rotated, as in GLM-4",
                head_dim / 2
            ));
            head_dim / 2
        }
    };
    if rotary_dim == head_dim && keys.path() == Architecture::Glm4.name() && !sections {
        warnings.push(String::from(whole_head));
    }
    Ok(RopeSpec::new(RopeConfig {
        head_dim,
        rotary_dim,
        theta: keys.optional_number("rope.freq_base")?.unwrap_or(10_000.0),
        pairing: if sections { Pairing::Halves } else { Pairing::Interleaved },
        scaling: read_scaling(keys, max_positions)?,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?)
}

fn read_scaling(keys: &Keys<'_>, max_positions: u32) -> Result<Scaling, GlmError> {
    const KIND: &str = "rope.scaling.type";
    let kind = if keys.has(KIND) { keys.text(KIND)? } else { "none" };
    let trained = keys.optional_count("rope.scaling.original_context_length", u32::MAX)?;
    match kind {
        "none" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: keys.number("rope.scaling.factor")? }),
        "yarn" => Ok(Scaling::Yarn {
            factor: keys.number("rope.scaling.factor")?,
            trained_positions: trained.unwrap_or(max_positions),
            beta_fast: keys.optional_number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.optional_number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        }),
        _ => Err(keys.bad(KIND, "none, linear or yarn")),
    }
}

/// What to know of a base of 10000: converters lose it for checkpoints in the layout of transformers, and then write the
/// hidden size for the context; published configs of glm-4-9b-chat-hf say it by mistake.
fn doubtful_base(max_positions: u32, hidden_size: u32) -> Option<String> {
    let base = "rope.freq_base is 10000, which converters write where they lose it";
    if max_positions == hidden_size {
        return Some(format!(
            "{base}, and the context is the hidden size, as they then write: glm-4-9b-chat means a base of 5000000, \
             norms with eps 1.5625e-7 and 131072 tokens; convert it from the original repository"
        ));
    }
    (max_positions >= 131_072).then(|| {
        format!(
            "{base}: with a context of {max_positions} glm-4-9b-chat means 5000000; check it if long prompts go wrong"
        )
    })
}
