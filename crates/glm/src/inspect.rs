use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anyhow::Result;
use kernels_rope::Pairing;
use model_glm::{GlmConfig, GlmWeights};
use serde_json::{Value, json};

use crate::args::InspectArgs;
use crate::{run, ui};

pub(crate) fn execute(args: &InspectArgs) -> Result<()> {
    let config = GlmConfig::open(&args.model)?;
    let weights = GlmWeights::open(&args.model)?;
    let text = match args.json {
        true => format!("{}\n", as_json(&config, &weights, args.tensors)),
        false => as_text(&config, &weights, args.tensors)?,
    };
    run::say(&text)
}

fn as_text(config: &GlmConfig, weights: &GlmWeights, tensors: bool) -> Result<String> {
    let mut text = String::new();
    write_config(config, &mut text)?;
    write_weights(config, weights, &mut text)?;
    for (name, tensor) in weights.tensors().iter().filter(|_| tensors) {
        writeln!(text, "  {name} {} {:?}", tensor.dtype, tensor.shape)?;
    }
    Ok(text)
}

fn write_config(config: &GlmConfig, text: &mut String) -> fmt::Result {
    let rope = &config.rope;
    writeln!(text, "architecture  {}", config.architecture)?;
    writeln!(
        text,
        "layers        {}, hidden {}, MLP {}",
        config.layers, config.hidden_size, config.intermediate_size
    )?;
    writeln!(
        text,
        "heads         {} queries on {} keys and values, {} wide",
        config.q_heads, config.kv_heads, config.head_dim
    )?;
    writeln!(text, "vocabulary    {}, stop ids {:?}", config.vocab_size, config.stop_ids)?;
    writeln!(text, "context       {} tokens", config.max_positions)?;
    writeln!(
        text,
        "rotary        the first {} of {} elements of each head, pairs {}, base {}, scaling {}",
        rope.rotary_dim(),
        rope.head_dim(),
        pairs(config),
        rope.theta(),
        rope.scaling().kind()
    )?;
    writeln!(
        text,
        "norms         RMS, eps {:e}; q, k, v {} biases",
        config.rms_norm_eps,
        with(config.qkv_bias)
    )?;
    for warning in &config.warnings {
        writeln!(text, "warning       {warning}")?;
    }
    Ok(())
}

fn write_weights(config: &GlmConfig, weights: &GlmWeights, text: &mut String) -> fmt::Result {
    for (dtype, (count, elements, bytes)) in by_dtype(weights) {
        writeln!(text, "tensors       {count} in {dtype}: {elements} parameters, {}", ui::bytes(bytes))?;
    }
    let (token, context) = (config.kv_bytes_per_token(2), config.max_positions as usize);
    writeln!(
        text,
        "memory        weights {}, keys and values in bf16 {} per token, {} for the whole context",
        ui::bytes(weights.bytes()),
        ui::bytes(token),
        ui::bytes(token.saturating_mul(context))
    )
}

fn pairs(config: &GlmConfig) -> &'static str {
    match config.rope.pairing() {
        Pairing::Interleaved => "of neighbours (2i, 2i + 1)",
        Pairing::Halves => "of halves (i, i + width / 2)",
    }
}

fn with(yes: bool) -> &'static str {
    if yes { "with" } else { "without" }
}

/// Tensors, elements and bytes of each type.
fn by_dtype(weights: &GlmWeights) -> BTreeMap<&str, (usize, usize, usize)> {
    let mut sums = BTreeMap::new();
    for tensor in weights.tensors().values() {
        let (count, elements, bytes) = sums.entry(tensor.dtype.as_str()).or_insert((0, 0, 0));
        *count += 1;
        *elements += tensor.shape.iter().product::<usize>();
        *bytes += tensor.bytes();
    }
    sums
}

fn as_json(config: &GlmConfig, weights: &GlmWeights, tensors: bool) -> Value {
    let rope = &config.rope;
    let mut value = json!({
        "architecture": config.architecture.name(),
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "q_heads": config.q_heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_positions": config.max_positions,
        "stop_ids": config.stop_ids,
        "qkv_bias": config.qkv_bias,
        "rms_norm_eps": config.rms_norm_eps,
        "rope": {
            "rotary_dim": rope.rotary_dim(),
            "pairing": match rope.pairing() { Pairing::Interleaved => "interleaved", Pairing::Halves => "halves" },
            "theta": rope.theta(),
            "scaling": rope.scaling().kind(),
        },
        "weight_bytes": weights.bytes(),
        "kv_bytes_per_token_bf16": config.kv_bytes_per_token(2),
        "warnings": config.warnings,
    });
    if tensors {
        let rows = weights.tensors().iter();
        let rows =
            rows.map(|(name, tensor)| (name.clone(), json!({"dtype": tensor.dtype, "shape": tensor.shape})));
        value["tensors"] = Value::Object(rows.collect());
    }
    value
}
