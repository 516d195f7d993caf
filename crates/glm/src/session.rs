//! A model ready to answer: opened on a device, with tokenizer, template and defaults.

use std::path::Path;

use anyhow::{Context, Result};
use attention::KvCache;
use device_mem::{Device, MappedFile, Opened};
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::gguf::{Gguf, Value as GgufValue};
use model_glm::{
    CacheSize, ChatTemplate, Detokenizer, GenerateOptions, Generated, GlmConfig, GlmError, GlmModel,
    GlmWeights, LoadOptions, MemoryBudget, Message, Next, Tokenizer, generate, generate_with_failover,
};
use serde_json::Value;

use crate::args::{AnswerArgs, DeviceArgs};
use crate::device;
use crate::{embedded, selfcheck, ui};

/// Tokens of context prepared unasked.
const DEFAULT_CONTEXT: u32 = 8192;

/// A loaded model and why it runs where it runs.
pub(crate) struct Loaded {
    pub(crate) model: GlmModel,
    /// What was counted before it was loaded.
    pub(crate) memory: MemoryBudget,
    emulated: bool,
    /// Why `auto` took the CPU.
    pub(crate) fallback: Option<String>,
}

pub(crate) struct Session {
    pub(crate) loaded: Loaded,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// From generation_config.json.
    defaults: SamplerConfig,
    cache: KvCache,
    /// The ids whose keys and values the cache holds.
    cached: Vec<u32>,
    max_tokens: usize,
    sampling: Sampling,
    /// With `auto`: what a model on the CPU is made of, should the GPU fail.
    spare: Option<Spare>,
}

struct Spare {
    config: GlmConfig,
    weights: GlmWeights,
    args: DeviceArgs,
    caches: [CacheSize; 1],
}

impl Spare {
    /// The model on the CPU, what it takes, and an empty cache.
    fn load(&self) -> Result<(GlmModel, MemoryBudget, KvCache), GlmError> {
        let Spare { config, weights, args, caches } = self;
        let &[CacheSize { capacity, dtype }] = caches;
        let (model, memory) = load_on(config.clone(), weights, &Device::Cpu, *args, capacity, caches)?;
        let cache = model.new_cache(capacity, dtype)?;
        Ok((model, memory, cache))
    }
}

/// What the flags say about sampling.
#[derive(Clone, Copy)]
struct Sampling {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    seed: u64,
}

impl Session {
    /// Opens a GGUF file or a checkpoint folder, or the embedded toy.
    pub(crate) fn open(path: Option<&Path>, device: DeviceArgs, answer: &AnswerArgs) -> Result<Session> {
        let (config, weights, tokenizer, template, defaults) = match path {
            Some(path) => (
                GlmConfig::open(path)?,
                GlmWeights::open(path)?,
                Tokenizer::open(path)?,
                ChatTemplate::open(path)?,
                sampling_defaults(path),
            ),
            None => (
                embedded::config()?,
                embedded::weights()?,
                embedded::tokenizer()?,
                embedded::template()?,
                SamplerConfig::default(),
            ),
        };
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let context = answer.context.unwrap_or(DEFAULT_CONTEXT).min(config.max_positions);
        let cache = |model: &GlmModel| model.new_cache(context, answer.kv_dtype);
        let caches = [CacheSize { capacity: context, dtype: answer.kv_dtype }];
        let (loaded, cache) = load(config.clone(), &weights, device, context, &caches, cache)?;
        let may_fail = device.device.is_auto() && matches!(loaded.model.device(), Device::Hip(_));
        let spare = may_fail.then_some(Spare { config, weights, args: device, caches });
        let &AnswerArgs { temperature, top_p, top_k, seed, max_tokens, .. } = answer;
        let sampling = Sampling { temperature, top_p, top_k, seed };
        let cached = Vec::new();
        Ok(Session { loaded, tokenizer, template, defaults, cache, cached, max_tokens, sampling, spare })
    }

    /// Answers a conversation; `on_text` sees the answer as it comes.
    pub(crate) fn answer(
        &mut self,
        messages: &[Message],
        mut on_text: impl FnMut(&str) -> Result<()>,
    ) -> Result<(String, Generated)> {
        let prompt = self
            .tokenizer
            .encode_prompt(&self.template.render(messages, &self.tokenizer.control_tokens())?)?;
        let fresh = self.reuse_cache(&prompt)?;
        let sampler = Sampler::new(self.sampler_config()).map_err(GlmError::from)?;
        let stop_ids = self.loaded.model.config().stop_ids.clone();
        let options = GenerateOptions { max_tokens: self.max_tokens, sampler, stop_ids: &stop_ids };
        let (mut detokenizer, mut text) = (Detokenizer::new(&self.tokenizer), String::new());
        // A failing reader ends the generation; its error is told afterwards.
        let mut told = Ok(());
        let mut tell = |piece: &str, text: &mut String| {
            // GLM-4 begins an answer with a line break, which belongs to the template.
            let piece = if text.is_empty() { piece.trim_start_matches('\n') } else { piece };
            text.push_str(piece);
            if piece.is_empty() { Ok(()) } else { on_text(piece) }
        };
        let on_token = |token| {
            let piece = detokenizer.push(token)?;
            told = tell(&piece, &mut text);
            Ok(if told.is_ok() { Next::Continue } else { Next::Stop })
        };
        let Loaded { model, memory, fallback, .. } = &mut self.loaded;
        let generated = match &self.spare {
            None => generate(model, &mut self.cache, fresh, options, on_token),
            Some(spare) => {
                let (device, place) = (model.device().clone(), (model, &mut self.cache));
                generate_with_failover(place, &self.cached, fresh, options, on_token, |error, tokens| {
                    let reason = format!("{device} failed after {tokens} tokens: {}", ui::one_line(error));
                    tracing::warn!(reason, "going on on the CPU");
                    *fallback = Some(reason);
                    let (model, taken, cache) = spare.load()?;
                    *memory = taken;
                    Ok((model, cache))
                })
            }
        };
        // On the CPU there is no other place.
        if matches!(self.loaded.model.device(), Device::Cpu) {
            self.spare = None;
        }
        let generated = generated?;
        told?;
        tell(&detokenizer.finish()?, &mut text)?;
        self.cached = prompt;
        // The last token is given but not run, so the cache may lack it.
        self.cached.extend(&generated.tokens);
        self.cached.truncate(self.cache.len() as usize);
        Ok((text, generated))
    }

    /// Tokens of the context.
    pub(crate) fn context(&self) -> u32 {
        self.cache.capacity()
    }

    /// Keeps what the cache shares with `prompt` and gives the rest of it, which is never empty.
    fn reuse_cache<'p>(&mut self, prompt: &'p [u32]) -> Result<&'p [u32]> {
        let shared = self.cached.iter().zip(prompt).take_while(|(cached, id)| cached == id).count();
        let shared = shared.min(prompt.len().saturating_sub(1));
        self.cache.truncate(u32::try_from(shared)?).map_err(GlmError::from)?;
        self.cached.truncate(shared);
        Ok(prompt.get(shared..).unwrap_or_default())
    }

    fn sampler_config(&self) -> SamplerConfig {
        let Sampling { temperature, top_p, top_k, seed } = self.sampling;
        SamplerConfig {
            temperature: temperature.unwrap_or(self.defaults.temperature),
            top_p: top_p.unwrap_or(self.defaults.top_p),
            top_k: top_k.unwrap_or(self.defaults.top_k),
            seed,
        }
    }
}

/// Loads weights on the device that the flags ask for, with a bar, and makes what else is `needed` there, the `caches` among
/// it. Where `auto` gets a device that cannot run the whole model, it takes the CPU and says so.
pub(crate) fn load<R>(
    config: GlmConfig,
    weights: &GlmWeights,
    args: DeviceArgs,
    context: u32,
    caches: &[CacheSize],
    needed: impl Fn(&GlmModel) -> Result<R, GlmError>,
) -> Result<(Loaded, R)> {
    let Opened { device, fallback } = args.device.open().with_context(|| {
        format!("--device {} is not to be had; --device auto would use the CPU", args.device)
    })?;
    let fallback = fallback.map(|reason| ui::one_line(&reason));
    let on = |device: &Device| {
        if !args.device.is_emulated() {
            selfcheck::before_first_use(device)?;
        }
        let (model, memory) = load_on(config.clone(), weights, device, args, context, caches)?;
        let needed = needed(&model)?;
        anyhow::Ok((model, memory, needed))
    };
    let ((model, memory, needed), fallback) = match on(&device) {
        Ok(loaded) => (loaded, fallback),
        Err(reason)
            if args.device.is_auto()
                && matches!(device, Device::Hip(_))
                && device::is_to_blame(reason.as_ref()) =>
        {
            let reason = format!("{device}: {}", ui::one_line(reason.as_ref()));
            tracing::warn!(reason, "running on the CPU");
            (on(&Device::Cpu)?, Some(reason))
        }
        Err(reason) if device::is_to_blame(reason.as_ref()) => {
            return Err(reason.context(format!("--device {} cannot run this model", args.device)));
        }
        Err(reason) => return Err(reason),
    };
    Ok((Loaded { model, memory, emulated: args.device.is_emulated(), fallback }, needed))
}

fn load_on(
    config: GlmConfig,
    weights: &GlmWeights,
    device: &Device,
    args: DeviceArgs,
    context: u32,
    caches: &[CacheSize],
) -> Result<(GlmModel, MemoryBudget), GlmError> {
    let mut loading = ui::Loading::new("loading");
    let mut progress = |loaded: usize, total: usize, tensor: &str| loading.advance(loaded, total, tensor);
    let options = LoadOptions {
        dtype: args.dtype,
        allow_non_finite: args.allow_non_finite,
        context: Some(context),
        caches,
        progress: Some(&mut progress),
        ..LoadOptions::default()
    };
    let memory = MemoryBudget::of(&config, weights, device, &options)?;
    ui::tell_memory(&memory, device.free_memory()?, device.shared_memory());
    let model = GlmModel::load(config, weights, device, options);
    loading.finish();
    Ok((model?, memory))
}

impl Loaded {
    /// One word for where it ran.
    pub(crate) fn ran_on(&self) -> String {
        if self.emulated { String::from("emu") } else { self.model.ran_on().to_string() }
    }

    /// One line that says where it ran and, for `auto`, why not on the GPU.
    pub(crate) fn where_it_ran(&self) -> String {
        match (self.model.device(), &self.fallback) {
            (Device::Hip(hip), _) if self.emulated => {
                format!("ran on emu: the kernels of {}, emulated on the CPU", hip.properties().arch)
            }
            (device @ Device::Hip(_), _) => format!("ran on {device}"),
            (Device::Cpu, Some(reason)) => format!("ran on cpu, not on a GPU: {reason}"),
            (Device::Cpu, None) => String::from("ran on cpu"),
        }
    }
}

/// Temperature, top-p and top-k of a GGUF file, or of a folder's generation_config.json when it samples, else greedy.
fn sampling_defaults(path: &Path) -> SamplerConfig {
    let greedy = SamplerConfig::default();
    if let Ok(file) = MappedFile::open(path) {
        return Gguf::read(file.bytes()).map_or(greedy, |gguf| sampling_of(&gguf));
    }
    let text = std::fs::read_to_string(path.join("generation_config.json"));
    let Some(config) = text.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok()) else {
        return greedy;
    };
    if config.get("do_sample") != Some(&Value::Bool(true)) {
        return greedy;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a setting that people write with two digits")]
    let number = |key: &str| config.get(key).and_then(Value::as_f64).map(|number| number as f32);
    let top_k = config.get("top_k").and_then(Value::as_u64).and_then(|top_k| u32::try_from(top_k).ok());
    SamplerConfig {
        temperature: number("temperature").unwrap_or(1.0),
        top_p: number("top_p").unwrap_or(greedy.top_p),
        top_k: top_k.unwrap_or(greedy.top_k),
        ..greedy
    }
}

/// What a GGUF file recommends; one that names no temperature recommends nothing.
fn sampling_of(gguf: &Gguf<'_>) -> SamplerConfig {
    let greedy = SamplerConfig::default();
    let number = |key: &str| match gguf.get(key) {
        Some(GgufValue::F32(number)) => Some(number),
        _ => None,
    };
    let Some(temperature) = number("general.sampling.temp") else { return greedy };
    // A negative one keeps all, as 0 does.
    let top_k = gguf.get("general.sampling.top_k").and_then(|top_k| u32::try_from(top_k.as_i128()?).ok());
    SamplerConfig {
        temperature,
        top_p: number("general.sampling.top_p").unwrap_or(greedy.top_p),
        top_k: top_k.unwrap_or(greedy.top_k),
        ..greedy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(keys: &[(&str, u32, [u8; 4])]) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend([0, keys.len() as u64].iter().flat_map(|count| count.to_le_bytes()));
        for (key, value_type, value) in keys {
            file.extend((key.len() as u64).to_le_bytes());
            file.extend([key.as_bytes(), &value_type.to_le_bytes(), value].concat());
        }
        file
    }

    #[test]
    fn a_gguf_file_recommends_how_to_sample() {
        let of = |keys: &[(&str, u32, [u8; 4])]| sampling_of(&Gguf::read(&file(keys)).unwrap());
        let temperature = ("general.sampling.temp", 6, 0.8_f32.to_le_bytes());
        let top_p = ("general.sampling.top_p", 6, 0.9_f32.to_le_bytes());
        let top_k = |top_k: i32| ("general.sampling.top_k", 5, top_k.to_le_bytes());
        let expected = SamplerConfig { temperature: 0.8, top_p: 0.9, top_k: 40, ..SamplerConfig::default() };
        assert_eq!(of(&[temperature, top_p, top_k(40)]), expected);
        assert_eq!(of(&[temperature, top_p, top_k(-1)]).top_k, SamplerConfig::default().top_k);
        assert_eq!(of(&[top_p, top_k(40)]), SamplerConfig::default());
    }
}
