//! The toy model that ships in the binary; see its folder's README for what it is and how it was made.

use anyhow::Result;
use model_glm::{ChatTemplate, GlmConfig, GlmWeights, Tokenizer};

const CONFIG: &str = include_str!("../demo/config.json");
const GENERATION_CONFIG: &str = include_str!("../demo/generation_config.json");
const TOKENIZER: &str = include_str!("../demo/tokenizer.json");
const TEMPLATE: &str = include_str!("../demo/chat_template.jinja");
const WEIGHTS: &[u8] = include_bytes!("../demo/model.safetensors");
const QUESTIONS: &str = include_str!("../demo/qa.json");

/// The toy forgets what came more than this many turns ago: it was trained on dialogues of ten.
pub(crate) const TURNS: usize = 10;

pub(crate) fn config() -> Result<GlmConfig> {
    let mut config = GlmConfig::from_json(CONFIG)?;
    config.add_stop_ids(GENERATION_CONFIG)?;
    Ok(config)
}

pub(crate) fn weights() -> Result<GlmWeights> {
    Ok(GlmWeights::from_bytes(WEIGHTS)?)
}

pub(crate) fn tokenizer() -> Result<Tokenizer> {
    Ok(Tokenizer::from_json(TOKENIZER)?)
}

pub(crate) fn template() -> Result<ChatTemplate> {
    Ok(ChatTemplate::new(TEMPLATE.to_owned())?)
}

/// The questions that the toy knows, and their answers.
pub(crate) fn questions() -> Result<Vec<(String, String)>> {
    let pairs: Vec<serde_json::Value> = serde_json::from_str(QUESTIONS)?;
    let text =
        |pair: &serde_json::Value, key: &str| pair.get(key).and_then(|text| text.as_str()).map(str::to_owned);
    Ok(pairs.iter().filter_map(|pair| Some((text(pair, "question")?, text(pair, "answer")?))).collect())
}
