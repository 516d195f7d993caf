//! The tokenizer of a file: byte-level BPE as GLM-4 has it.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};

use super::vocabulary::{Kind, Vocabulary, bad};
use super::{Gguf, GgufError, METADATA, ValueType};
use crate::{GlmError, TokenId, TokenizerError};

/// How GLM-4 cuts text before merging, as its `tokenizer.json` has it and llama.cpp for both names.
pub(crate) const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const MERGES: &str = "tokenizer.ggml.merges";
/// GLM-4's longest has 256.
const MAX_TOKEN_BYTES: usize = 1 << 16;

/// Text tokens by their text; their ids are `0..len`.
type Texts<'a> = HashMap<&'a str, usize>;

/// Builds what the metadata describe.
pub(crate) fn read_tokenizer(gguf: &Gguf<'_>) -> Result<Tokenizer, GlmError> {
    let ignore_merges = expect_glm(gguf)?;
    let vocabulary = Vocabulary::read(gguf)?;
    if vocabulary.len() == 0 {
        return Err(missing("tokenizer.ggml.tokens", "the vocabulary"));
    }
    if !vocabulary.has_types() {
        return Err(missing("tokenizer.ggml.token_type", "what each token is"));
    }
    vocabulary.stop_ids(gguf)?;
    let (texts, added) = split_tokens(&vocabulary)?;
    expect_all_bytes(&texts)?;
    let merges = read_merges(gguf, &texts)?;

    let ids = texts.iter().filter_map(|(text, id)| Some(((*text).to_owned(), TokenId::try_from(*id).ok()?)));
    let model = BPE::builder()
        .vocab_and_merges(ids.collect::<Vocab>(), merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(failed)?;
    let split = Split::new(SplitPattern::Regex(SPLIT.to_owned()), SplitDelimiterBehavior::Isolated, false);
    let bytes = ByteLevel::new(false, true, false);
    let mut tokenizer = Tokenizer::new(model);
    let steps = vec![split.map_err(failed)?.into(), bytes.into()];
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer.with_decoder(Some(bytes));
    tokenizer.add_tokens(added).map_err(failed)?;
    Ok(tokenizer)
}

/// The chat template, where there is one.
pub(crate) fn read_template<'a>(gguf: &Gguf<'a>) -> Result<Option<&'a str>, GlmError> {
    const TEMPLATE: &str = "tokenizer.chat_template";
    let Some(value) = gguf.get(TEMPLATE) else { return Ok(None) };
    let wrong = || bad(TEMPLATE, "a text", value.value_type().name().to_owned());
    value.as_str().map(Some).ok_or_else(wrong)
}

/// Fails for any other tokenizer than GLM-4's; says whether words that are tokens are not merged.
fn expect_glm(gguf: &Gguf<'_>) -> Result<bool, GlmError> {
    let text = |key: &str| gguf.get(key).and_then(|value| value.as_str()).unwrap_or("(none)");
    match (text("tokenizer.ggml.model"), text("tokenizer.ggml.pre")) {
        ("gpt2", "glm4") => Ok(true),
        ("gpt2", "chatglm-bpe") => Ok(false),
        (model, pre) => Err(GgufError::Tokenizer { model: model.to_owned(), pre: pre.to_owned() }.into()),
    }
}

/// Text tokens, and those behind them that are found in text as a whole. The latter get the ids behind the text tokens in
/// their order, which must be their own.
fn split_tokens<'a>(vocabulary: &Vocabulary<'a>) -> Result<(Texts<'a>, Vec<AddedToken>), GlmError> {
    let mut seen: Texts<'a> = HashMap::new();
    let (mut texts, mut added) = (Texts::new(), Vec::new());
    for (id, (text, number)) in vocabulary.tokens().enumerate() {
        if !(1..=MAX_TOKEN_BYTES).contains(&text.len()) {
            return Err(GgufError::TokenLength { id, length: text.len(), most: MAX_TOKEN_BYTES }.into());
        }
        if let Some(first) = seen.insert(text, id) {
            return Err(GgufError::DuplicateToken { first, second: id, text: text.to_owned() }.into());
        }
        let whole = |special| AddedToken::from(text, special).normalized(false);
        match Kind::of(number) {
            Some(Kind::Text) if added.is_empty() => {
                texts.insert(text, id);
            }
            // Unused ones are only there for the count; as control tokens no text becomes one.
            Some(Kind::Control | Kind::Unused) => added.push(whole(true)),
            Some(Kind::UserDefined) => added.push(whole(false)),
            Some(Kind::Text) => {
                return Err(GgufError::TokenOrder { id, text: text.to_owned(), kind: number }.into());
            }
            None => {
                return Err(bad("tokenizer.ggml.token_type", "1 to 6 for each token", number.to_string()));
            }
        }
    }
    Ok((texts, added))
}

/// Fails where a byte of a text would be lost.
fn expect_all_bytes(texts: &Texts<'_>) -> Result<(), GlmError> {
    for byte in 0..=u8::MAX {
        let letter = byte_letter(byte);
        if !texts.contains_key(letter.encode_utf8(&mut [0; 4]) as &str) {
            return Err(GgufError::ByteToken { byte }.into());
        }
    }
    Ok(())
}

/// The letter that byte-level BPE writes for a byte: itself where it is printable, else the next one from U+0100 on.
fn byte_letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count();
    u32::try_from(before).ok().and_then(|before| char::from_u32(0x100 + before)).unwrap_or_default()
}

/// The merges, each of which is known to name tokens: the library that takes them trusts their lengths.
fn read_merges(gguf: &Gguf<'_>, texts: &Texts<'_>) -> Result<Vec<(String, String)>, GlmError> {
    let value = gguf.get(MERGES).ok_or_else(|| missing(MERGES, "the merges"))?;
    let array = value.as_array().filter(|array| array.element_type() == ValueType::Str);
    let Some(array) = array else {
        return Err(bad(MERGES, "an array of strings", value.value_type().name().to_owned()));
    };
    let mut merges = Vec::new();
    for (index, text) in array.iter().filter_map(|value| value.as_str()).enumerate() {
        let parts = text.split_once(' ').filter(|(_, second)| !second.contains(' '));
        let (first, second) = parts.ok_or_else(|| GgufError::Merge { index, text: text.to_owned() })?;
        for token in [first, second, &format!("{first}{second}")] {
            if !texts.contains_key(token) {
                return Err(GgufError::MergeToken { index, token: token.to_owned() }.into());
            }
        }
        merges.push((first.to_owned(), second.to_owned()));
    }
    Ok(merges)
}

fn missing(key: &str, expected: &'static str) -> GlmError {
    GlmError::MissingKey { file: METADATA, key: key.to_owned(), expected }
}

fn failed(error: tokenizers::Error) -> GlmError {
    TokenizerError::Library { reason: error.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_letters_of_bytes_are_those_of_byte_level_bpe() {
        let letters: BTreeSet<char> = (0..=u8::MAX).map(byte_letter).collect();
        assert_eq!(letters, ByteLevel::alphabet().into_iter().collect());
        assert_eq!([b' ', b'\n', b'a'].map(byte_letter), ['Ġ', 'Ċ', 'a']);
    }
}
