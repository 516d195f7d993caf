//! A model ready to answer: in this process or in a worker, with tokenizer, template and defaults.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use device_mem::MappedFile;
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::gguf::{Gguf, Value as GgufValue};
use model_glm::{
    CacheSize, ChatTemplate, Detokenizer, GenerateOptions, Generated, GlmConfig, GlmError, GlmWeights,
    Message, Next, StopReason, TokenId, Tokenizer,
};
use serde_json::Value;

use crate::args::{AnswerArgs, DeviceArgs};
use crate::embedded;
use crate::place::{Here, Report};
use crate::supervise::Supervisor;

/// Tokens of context prepared unasked.
const DEFAULT_CONTEXT: u32 = 8192;

pub(crate) struct Session {
    engine: Engine,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// From generation_config.json.
    defaults: SamplerConfig,
    stop_ids: Vec<TokenId>,
    context: u32,
    max_tokens: usize,
    sampling: Sampling,
}

/// Where the model is.
enum Engine {
    Here(Box<Here>),
    /// In a process of its own.
    Apart(Box<Supervisor>),
}

/// An answer's tokens, and what they took.
pub(crate) struct Answered {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) stop_reason: StopReason,
    pub(crate) prompt_time: Duration,
    pub(crate) decode_time: Duration,
    pub(crate) decode_steps: usize,
}

impl From<Generated> for Answered {
    fn from(generated: Generated) -> Answered {
        let Generated { tokens, stop_reason, prompt_time, decode_time, decode_steps, .. } = generated;
        Answered { tokens, stop_reason, prompt_time, decode_time, decode_steps }
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

/// Weights are read where the model is.
pub(crate) fn weights(path: Option<&Path>) -> Result<GlmWeights> {
    path.map_or_else(embedded::weights, |path| Ok(GlmWeights::open(path)?))
}

pub(crate) fn config(path: Option<&Path>) -> Result<GlmConfig> {
    path.map_or_else(embedded::config, |path| Ok(GlmConfig::open(path)?))
}

impl Session {
    /// Opens a GGUF file or a checkpoint folder, or the embedded toy.
    pub(crate) fn open(path: Option<&Path>, device: DeviceArgs, answer: &AnswerArgs) -> Result<Session> {
        let config = config(path)?;
        let (tokenizer, template, defaults) = match path {
            Some(path) => (Tokenizer::open(path)?, ChatTemplate::open(path)?, sampling_defaults(path)),
            None => (embedded::tokenizer()?, embedded::template()?, SamplerConfig::default()),
        };
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let &AnswerArgs { temperature, top_p, top_k, seed, max_tokens, kv_dtype, supervise, .. } = answer;
        let context = answer.context.unwrap_or(DEFAULT_CONTEXT).min(config.max_positions);
        let stop_ids = config.stop_ids.clone();
        let cache = CacheSize { capacity: context, dtype: kv_dtype };
        let engine = match supervise {
            true => Engine::Apart(Box::new(Supervisor::start(path, device, cache)?)),
            false => Engine::Here(Box::new(Here::open((config, weights(path)?), device, cache, true)?)),
        };
        let sampling = Sampling { temperature, top_p, top_k, seed };
        Ok(Session { engine, tokenizer, template, defaults, stop_ids, context, max_tokens, sampling })
    }

    /// Answers a conversation; `on_text` sees the answer as it comes.
    pub(crate) fn answer(
        &mut self,
        messages: &[Message],
        mut on_text: impl FnMut(&str) -> Result<()>,
    ) -> Result<(String, Answered)> {
        let prompt = self
            .tokenizer
            .encode_prompt(&self.template.render(messages, &self.tokenizer.control_tokens())?)?;
        let sampler = Sampler::new(self.sampler_config()).map_err(GlmError::from)?;
        let options = GenerateOptions { max_tokens: self.max_tokens, sampler, stop_ids: &self.stop_ids };
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
        let answered = match &mut self.engine {
            Engine::Here(here) => here.generate(&prompt, options, on_token)?.into(),
            Engine::Apart(supervisor) => supervisor.generate(&prompt, options, on_token)?,
        };
        told?;
        tell(&detokenizer.finish()?, &mut text)?;
        Ok((text, answered))
    }

    /// Tokens of the context.
    pub(crate) fn context(&self) -> u32 {
        self.context
    }

    /// What is told of where it ran.
    pub(crate) fn report(&self) -> Report {
        match &self.engine {
            Engine::Here(here) => here.loaded.report(),
            Engine::Apart(supervisor) => supervisor.report(),
        }
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
