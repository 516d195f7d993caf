//! The tokenizer in llama.cpp's keys, from `tokenizer.json` and `tokenizer_config.json`.

use std::path::Path;

use serde_json::Value;

use super::Field;
use crate::files::{self, MAX_TOKENIZER, MAX_TOKENIZER_CONFIG};
use crate::gguf::SPLIT;
use crate::json::Strict;
use crate::{Architecture, ChatTemplate, GlmConfig, GlmError, TokenizerError};

/// The keys, and what a person should know about them.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    pub(super) fields: Vec<(String, Field)>,
    pub(super) warnings: Vec<String>,
}

/// Kinds of tokens, `LLAMA_TOKEN_TYPE_*`.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
}

/// The tokenizer of a checkpoint folder; without `tokenizer.json`, keys that say that there is none.
pub(super) fn of_folder(folder: &Path, config: &GlmConfig) -> Result<Vocabulary, GlmError> {
    let Some(text) = files::read_optional_text(&folder.join("tokenizer.json"), MAX_TOKENIZER)? else {
        let warning =
            "the folder has no tokenizer.json, so the file has no tokenizer: it takes token ids only";
        let fields = vec![key("model", Field::Text(String::from("no_vocab")))];
        return Ok(Vocabulary { fields, warnings: vec![String::from(warning)] });
    };
    let tokenizer = parse("tokenizer.json", &text)?;
    let settings = folder.join("tokenizer_config.json");
    let settings = match files::read_optional_text(&settings, MAX_TOKENIZER_CONFIG)? {
        Some(text) => parse("tokenizer_config.json", &text)?,
        None => Value::Null,
    };
    let mut vocabulary = of_tokenizer(&tokenizer, &settings, config)?;
    if let Some(template) = ChatTemplate::source_of(folder)? {
        vocabulary.fields.push((String::from("tokenizer.chat_template"), Field::Text(template)));
    }
    Ok(vocabulary)
}

fn of_tokenizer(tokenizer: &Value, settings: &Value, config: &GlmConfig) -> Result<Vocabulary, GlmError> {
    let model = &tokenizer["model"];
    if model["type"] != "BPE" || !mentions(tokenizer, "ByteLevel") {
        return Err(failed("it is no byte-level BPE, which is all that can be written".to_owned()));
    }
    let tokens = Tokens::read(tokenizer, config.vocab_size)?;
    let mut warnings = Vec::new();
    if find(&tokenizer["pre_tokenizer"], "Regex").is_none_or(|split| split != SPLIT) {
        warnings.push(String::from(
            "tokenizer.json splits text by another pattern than GLM-4's, which llama.cpp will use: some texts will get other tokens",
        ));
    }
    // llama.cpp's two names differ in whether whole words of the vocabulary skip the merges.
    let pre = if model["ignore_merges"] == true { "glm4" } else { "chatglm-bpe" };
    let (texts, kinds) = (tokens.texts.clone(), tokens.kinds.clone());
    let mut fields = vec![
        key("model", Field::Text(String::from("gpt2"))),
        key("pre", Field::Text(pre.to_owned())),
        key("tokens", Field::Texts(texts)),
        key("token_type", Field::I32s(kinds)),
        key("merges", Field::Texts(merges(&model["merges"])?)),
    ];
    let ids = tokens.special(settings, config.architecture);
    let ends = |name: &str| ["eos_token_id", "eot_token_id", "eom_token_id"].contains(&name);
    let ending: Vec<u32> = ids.iter().filter(|(name, _)| ends(name)).map(|(_, id)| *id).collect();
    let others: Vec<u32> = config.stop_ids.iter().copied().filter(|id| !ending.contains(id)).collect();
    if !others.is_empty() {
        warnings.push(format!("no key of a GGUF file says that tokens {others:?} end an answer"));
    }
    fields.extend(ids.into_iter().map(|(name, id)| key(name, Field::U32(id))));
    fields.push(key("add_bos_token", Field::Bool(false)));
    Ok(Vocabulary { fields, warnings })
}

/// Text and kind of each id.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
}

impl Tokens {
    fn read(tokenizer: &Value, vocab_size: usize) -> Result<Tokens, GlmError> {
        let unused = |id: usize| format!("[PAD{id}]");
        let mut tokens =
            Tokens { texts: (0..vocab_size).map(unused).collect(), kinds: vec![kind::UNUSED; vocab_size] };
        let words = tokenizer["model"]["vocab"]
            .as_object()
            .ok_or_else(|| failed("it has no vocabulary".to_owned()))?;
        for (text, id) in words {
            tokens.set(id, text, kind::NORMAL)?;
        }
        for added in tokenizer["added_tokens"].as_array().into_iter().flatten() {
            let text = added["content"].as_str().unwrap_or_default();
            // As the script does: texts between bars are control tokens even where they are not marked so.
            let control = added["special"] == true || text.starts_with("<|") && text.ends_with("|>");
            tokens.set(&added["id"], text, if control { kind::CONTROL } else { kind::USER_DEFINED })?;
        }
        Ok(tokens)
    }

    fn set(&mut self, id: &Value, text: &str, kind: i32) -> Result<(), GlmError> {
        let at = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < self.texts.len());
        let vocab_size = self.texts.len();
        let at = at
            .ok_or_else(|| failed(format!("{text:?} has id {id}, outside the vocabulary of {vocab_size}")))?;
        self.texts[at] = text.to_owned();
        self.kinds[at] = kind;
        Ok(())
    }

    fn id(&self, text: &str) -> Option<u32> {
        self.texts.iter().position(|known| known == text).and_then(|id| u32::try_from(id).ok())
    }

    /// The ids that have keys. All three of GLM's ends of an answer are among them: the script leaves out `<|observation|>`.
    fn special(&self, settings: &Value, architecture: Architecture) -> Vec<(&'static str, u32)> {
        let end = self.id("<|endoftext|>");
        let set = |name: &str| {
            let token = &settings[name];
            token.as_str().or(token["content"].as_str()).and_then(|text| self.id(text))
        };
        let ids = [
            ("bos_token_id", set("bos_token").or(end.filter(|_| architecture == Architecture::Glm4))),
            ("eos_token_id", set("eos_token").or(end)),
            ("eot_token_id", self.id("<|user|>")),
            ("eom_token_id", self.id("<|observation|>")),
            ("unknown_token_id", set("unk_token").or(end)),
            ("padding_token_id", set("pad_token")),
        ];
        ids.into_iter().filter_map(|(name, id)| Some((name, id?))).collect()
    }
}

/// Merges as `left right`, from that form or from pairs. A space inside one is written as byte-level BPE does.
fn merges(merges: &Value) -> Result<Vec<String>, GlmError> {
    let merges = merges.as_array().ok_or_else(|| failed("it has no merges".to_owned()))?;
    let text = |merge: &Value| match merge.as_array().map(Vec::as_slice) {
        Some([left, right]) => {
            Some(format!("{} {}", left.as_str()?.replace(' ', "Ġ"), right.as_str()?.replace(' ', "Ġ")))
        }
        _ => merge.as_str().map(str::to_owned),
    };
    let all = merges.iter().map(text).collect::<Option<Vec<_>>>();
    all.ok_or_else(|| failed("a merge is neither a text nor a pair of texts".to_owned()))
}

fn key(name: &str, field: Field) -> (String, Field) {
    (format!("tokenizer.ggml.{name}"), field)
}

fn failed(reason: String) -> GlmError {
    TokenizerError::Library { reason }.into()
}

fn parse(file: &str, text: &str) -> Result<Value, GlmError> {
    let json = |source| GlmError::Json { file: file.to_owned(), source };
    serde_json::from_str(text).map(|Strict(value)| value).map_err(json)
}

/// Whether a part of the tokenizer is of the type `name`.
fn mentions(tokenizer: &Value, name: &str) -> bool {
    ["pre_tokenizer", "decoder"].iter().any(|part| {
        let part = &tokenizer[*part];
        part["type"] == name
            || ["pretokenizers", "decoders"].iter().any(|list| {
                part[*list].as_array().is_some_and(|parts| parts.iter().any(|part| part["type"] == name))
            })
    })
}

/// The first text under `name`, at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    match value {
        Value::Object(object) => {
            let here = object.get(name).and_then(Value::as_str);
            here.or_else(|| object.values().find_map(|value| find(value, name)))
        }
        Value::Array(items) => items.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}
