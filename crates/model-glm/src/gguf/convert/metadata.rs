//! What a file says of the model, in the keys of llama.cpp (`gguf-py/gguf/constants.py`).

use kernels_rope::{Pairing, Scaling};

use super::plan::architecture;
use super::{Field, FileType};
use crate::{Architecture, GlmConfig, GlmError};

/// ggml's version of the block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// The keys of the model itself.
///
/// They are those that `convert_hf_to_gguf.py` writes, with the values of `config.json`. That script takes base, epsilon and
/// context of `chatglm` files from the original layout's keys only, and defaults where transformers' keys stand instead.
pub(super) fn of_model(
    config: &GlmConfig,
    file_type: FileType,
    name: &str,
) -> Result<Vec<(String, Field)>, GlmError> {
    expect_computable(config)?;
    let architecture = architecture(config);
    let mut fields = vec![
        (String::from("general.architecture"), Field::Text(architecture.to_owned())),
        (String::from("general.type"), Field::Text(String::from("model"))),
        (String::from("general.name"), Field::Text(name.to_owned())),
        (String::from("general.file_type"), Field::U32(file_type.number())),
        (String::from("general.quantization_version"), Field::U32(QUANTIZATION_VERSION)),
    ];
    let mut count = |key: &str, value: u32| fields.push((format!("{architecture}.{key}"), Field::U32(value)));
    // `GlmConfig` reads each from a u32.
    let fits = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    count("block_count", fits(config.layers));
    count("context_length", config.max_positions);
    count("embedding_length", fits(config.hidden_size));
    count("feed_forward_length", fits(config.intermediate_size));
    count("vocab_size", fits(config.vocab_size));
    count("attention.head_count", config.q_heads);
    count("attention.head_count_kv", config.kv_heads);
    count("attention.key_length", config.head_dim);
    count("attention.value_length", config.head_dim);
    count("rope.dimension_count", config.rope.rotary_dim());
    let mut number =
        |key: &str, value: f32| fields.push((format!("{architecture}.{key}"), Field::F32(value)));
    number("attention.layer_norm_rms_epsilon", config.rms_norm_eps);
    number("rope.freq_base", single(config.rope.theta()));
    scaling(config.rope.scaling(), architecture, &mut fields)?;
    Ok(fields)
}

/// Fails for what llama.cpp's graphs of these architectures do not compute.
fn expect_computable(config: &GlmConfig) -> Result<(), GlmError> {
    if config.rope.pairing() != Pairing::Interleaved {
        let what = String::from("a rotary embedding that pairs halves (original_rope false)");
        return Err(GlmError::NotInGguf { what });
    }
    let fused = config.architecture != Architecture::Glm4;
    if fused && config.q_width() != config.hidden_size {
        let what = format!(
            "{} query heads of {} on a width of {}",
            config.q_heads, config.head_dim, config.hidden_size
        );
        return Err(GlmError::NotInGguf { what });
    }
    Ok(())
}

fn scaling(scaling: &Scaling, architecture: &str, fields: &mut Vec<(String, Field)>) -> Result<(), GlmError> {
    let mut put =
        |key: &str, field: Field| fields.push((format!("{architecture}.rope.scaling.{key}"), field));
    match *scaling {
        Scaling::None => {}
        Scaling::Linear { factor } => {
            put("type", Field::Text(String::from("linear")));
            put("factor", Field::F32(single(factor)));
        }
        Scaling::Yarn {
            factor,
            trained_positions,
            beta_fast,
            beta_slow,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        } => {
            put("type", Field::Text(String::from("yarn")));
            put("factor", Field::F32(single(factor)));
            put("original_context_length", Field::U32(trained_positions));
            put("yarn_beta_fast", Field::F32(single(beta_fast)));
            put("yarn_beta_slow", Field::F32(single(beta_slow)));
        }
        ref other => {
            let what = format!("a rotary scaling {} with these parameters", other.kind());
            return Err(GlmError::NotInGguf { what });
        }
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the file holds f32")]
fn single(value: f64) -> f32 {
    value as f32
}
