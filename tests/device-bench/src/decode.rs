//! Tokens of a whole model, launch by launch and as a graph, after contexts of some lengths.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use attention::{KvCache, KvDType};
use device_mem::{DType, Device};
use hip_ffi::HipApi;
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::{GenerateOptions, GlmConfig, GlmModel, GlmWeights, LoadOptions, Next, generate};
use serde_json::{Value, json};

use crate::cases::{BF16, filled};

const CONTEXTS: [u32; 4] = [512, 8192, 32_768, 131_072 - STEPS];
/// Tokens that are decoded after each, of which the first steps are not like the rest.
const STEPS: u32 = 68;
const FIRST: usize = 4;

/// For each way and context: launches and seconds of a token, and the bytes that it has to read.
pub(crate) fn measure(api: &HipApi, ordinal: u32, folder: &Path) -> Result<Vec<Value>> {
    let ways = [("graph", api.clone()), ("eager", HipApi { graph: None, ..api.clone() })];
    let mut found = Vec::new();
    for (way, api) in ways {
        let device = Device::from_api(api, ordinal)?;
        let (config, weights) = (GlmConfig::open(folder)?, GlmWeights::open(folder)?);
        let options = LoadOptions {
            dtype: Some(DType::BF16),
            context: Some(CONTEXTS[3] + STEPS),
            ..LoadOptions::default()
        };
        let start = Instant::now();
        let model = GlmModel::load(config, &weights, &device, options)?;
        eprintln!("{way}: loaded in {:.1} s", start.elapsed().as_secs_f64());
        for context in CONTEXTS {
            let row = one(&model, way, context).with_context(|| format!("{way} after {context}"))?;
            eprintln!("{row}");
            found.push(row);
        }
    }
    Ok(found)
}

fn one(model: &GlmModel, way: &str, context: u32) -> Result<Value> {
    let mut cache = cache_of(model, context)?;
    let sampler = Sampler::new(SamplerConfig { temperature: 0.0, ..SamplerConfig::default() })?;
    let options = GenerateOptions { max_tokens: STEPS as usize, sampler, stop_ids: &[] };
    let (mut times, mut launched) = (Vec::new(), Vec::new());
    generate(model, &mut cache, &[7], options, |_| {
        times.push(Instant::now());
        launched.push(model.device().transfers());
        Ok(Next::Continue)
    })?;
    let (times, launched) = (times.split_off(FIRST), launched.split_off(FIRST));
    let mut steps = Vec::from_iter(times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()));
    steps.sort_by(f64::total_cmp);
    let (first, last) = (launched.first().context("no step")?, launched.last().context("no step")?);
    let each = |all: u64| all as f64 / steps.len() as f64;
    Ok(json!({
        "way": way,
        "model": "GLM-4-9B",
        "context": context,
        "seconds": steps[steps.len() / 2],
        "range": [steps[0], steps[steps.len() - 1]],
        "launches": each(last.launches - first.launches),
        "graphs": each(last.graph_launches - first.graph_launches),
        "bytes": bytes(model.config(), context),
    }))
}

/// A cache of `context` random tokens in every layer.
fn cache_of(model: &GlmModel, context: u32) -> Result<KvCache> {
    let mut cache = model.new_cache(context + STEPS, KvDType::BF16)?;
    let row = model.config().kv_width();
    let k = filled(model.device(), context as usize * row)?;
    for layer in 0..model.config().layers {
        cache.layer(layer)?.append(k.as_view(), k.as_view(), context)?;
    }
    cache.commit(context)?;
    Ok(cache)
}

/// What a token reads at least: every matrix once, one row of the embedding, and the cache.
fn bytes(config: &GlmConfig, context: u32) -> usize {
    let hidden = config.hidden_size;
    let attention = hidden * (config.q_width() + 2 * config.kv_width()) + config.q_width() * hidden;
    let layer = attention + 3 * hidden * config.intermediate_size;
    let matrices = config.layers * layer + (config.vocab_size + 1) * hidden;
    matrices * BF16 + context as usize * config.kv_bytes_per_token(BF16)
}
