//! `tokenizer.json` of the GLM family: byte-level BPE, read by its parts. The library that encodes is given what was checked
//! and never the file: it trusts lengths, and runs whatever parts a file names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use regex_syntax::ast::{self, Ast};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::TokenizerError;
use crate::files::MAX_TOKENIZER;

/// Bytes of all added tokens: text is searched for them by an automaton that takes many times as much.
const MAX_ADDED: usize = 1 << 18;

/// What counts of the file. Padding and truncation do not, nor what is put around a text: the template writes all of it.
#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    added_tokens: Vec<Added<'a>>,
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    decoder: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    vocab: Tokens<'a>,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
    dropout: Option<f32>,
    #[serde(borrow)]
    unk_token: Option<Text<'a>>,
    #[serde(borrow)]
    continuing_subword_prefix: Option<Text<'a>>,
    #[serde(borrow)]
    end_of_word_suffix: Option<Text<'a>>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
struct Added<'a> {
    id: i64,
    #[serde(borrow)]
    content: Text<'a>,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

/// The tokenizer that a file's text describes.
pub(super) fn read(text: &str) -> Result<Tokenizer, TokenizerError> {
    let bytes = text.len() as u64;
    if bytes > MAX_TOKENIZER {
        return Err(TokenizerError::TooLong { bytes, most: MAX_TOKENIZER });
    }
    let File { added_tokens, normalizer, pre_tokenizer, decoder, model } =
        serde_json::from_str(text).map_err(TokenizerError::Json)?;
    model.expect_plain()?;
    let ids = vocabulary(&model.vocab)?;
    let added = added(added_tokens, &ids)?;
    let mut tokenizer = Tokenizer::new(model.build(&ids)?);
    if let Some(raw) = normalizer {
        let (part, expected) = ("normalizer", "none, or NFC");
        let value = part_of(part, raw, expected)?;
        expect_kind(part, &value, &["NFC"], expected)?;
        tokenizer.with_normalizer(Some(parsed::<NormalizerWrapper>(value)?)).map_err(library)?;
    }
    if let Some(raw) = pre_tokenizer {
        tokenizer.with_pre_tokenizer(Some(read_pre_tokenizer(raw)?));
    }
    if let Some(raw) = decoder {
        let (part, expected) = ("decoder", "ByteLevel");
        let value = part_of(part, raw, expected)?;
        expect_kind(part, &value, &["ByteLevel"], expected)?;
        tokenizer.with_decoder(Some(parsed::<DecoderWrapper>(value)?));
    }
    tokenizer.add_tokens(added).map_err(library)?;
    Ok(tokenizer)
}

impl Model<'_> {
    /// Fails for another model than BPE, and for what GLM's have not.
    fn expect_plain(&self) -> Result<(), TokenizerError> {
        let part = |part, found: String, expected| Err(TokenizerError::Part { part, found, expected });
        match &self.kind {
            Some(kind) if kind.0 != "BPE" => return part("model", kind.0.to_string(), "BPE"),
            _ => {}
        }
        if let Some(dropout) = self.dropout {
            return part("dropout", dropout.to_string(), "none: the same text has the same tokens");
        }
        let affixes = [
            ("continuing_subword_prefix", &self.continuing_subword_prefix),
            ("end_of_word_suffix", &self.end_of_word_suffix),
        ];
        for (name, affix) in affixes {
            if let Some(Text(affix)) = affix.as_ref().filter(|affix| !affix.0.is_empty()) {
                return part(name, format!("{affix:?}"), "none");
            }
        }
        Ok(())
    }

    /// The library takes a merge's lengths on trust, so each is known to name tokens.
    fn build(&self, ids: &HashMap<&str, u32>) -> Result<BPE, TokenizerError> {
        let (mut merges, mut joined) = (Vec::new(), String::new());
        for (index, Merge(Text(first), Text(second))) in self.merges.iter().enumerate() {
            joined.clear();
            joined.push_str(first);
            joined.push_str(second);
            let absent = [first, second, joined.as_str()].into_iter().find(|token| !ids.contains_key(*token));
            if let Some(token) = absent {
                return Err(TokenizerError::Merge { index, token: token.to_owned() });
            }
            merges.push((first.to_string(), second.to_string()));
        }
        let vocabulary: Vocab = ids.iter().map(|(text, id)| ((*text).to_owned(), *id)).collect();
        let mut builder = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .fuse_unk(self.fuse_unk)
            .byte_fallback(self.byte_fallback)
            .ignore_merges(self.ignore_merges);
        if let Some(Text(unknown)) = &self.unk_token {
            builder = builder.unk_token(unknown.to_string());
        }
        builder.build().map_err(library)
    }
}

/// The ids of the vocabulary's tokens, which are `0..len`.
fn vocabulary<'t>(tokens: &'t Tokens<'_>) -> Result<HashMap<&'t str, u32>, TokenizerError> {
    let mut ids = HashMap::with_capacity(tokens.0.len());
    for (Text(token), id) in &tokens.0 {
        if ids.insert(&**token, token_id(token, *id)?).is_some() {
            return Err(TokenizerError::SameToken { token: token.to_string() });
        }
    }
    let mut in_order: Vec<(u32, &str)> = ids.iter().map(|(token, id)| (*id, *token)).collect();
    in_order.sort_unstable();
    expect_consecutive(0, &in_order)?;
    Ok(ids)
}

/// Added tokens by id. Those that the vocabulary lacks get the ids behind it from the library, in this order: these must be
/// their own.
fn added(tokens: Vec<Added<'_>>, ids: &HashMap<&str, u32>) -> Result<Vec<AddedToken>, TokenizerError> {
    let bytes: usize = tokens.iter().map(|token| token.content.0.len()).sum();
    if bytes > MAX_ADDED {
        let found = format!("{} of {bytes} bytes together", tokens.len());
        let expected = "the few dozen control tokens of a model";
        return Err(TokenizerError::Part { part: "added_tokens", found, expected });
    }
    let mut in_order = Vec::with_capacity(tokens.len());
    for token in tokens {
        let id = token_id(&token.content.0, token.id)?;
        if token.content.0.is_empty() {
            return Err(TokenizerError::SameToken { token: String::new() });
        }
        match ids.get(&*token.content.0) {
            Some(&known) if known != id => {
                return Err(TokenizerError::AddedId {
                    token: token.content.0.into_owned(),
                    added: id,
                    id: known,
                });
            }
            known => in_order.push((id, known.is_some(), token)),
        }
    }
    in_order.sort_by_key(|(id, ..)| *id);
    let behind = in_order.iter().filter(|(_, known, _)| !known);
    let behind: Vec<(u32, &str)> = behind.map(|(id, _, token)| (*id, &*token.content.0)).collect();
    expect_consecutive(ids.len(), &behind)?;
    let mut seen = HashMap::new();
    for (_, _, token) in &in_order {
        if seen.insert(&*token.content.0, ()).is_some() {
            return Err(TokenizerError::SameToken { token: token.content.0.to_string() });
        }
    }
    let library = |(_, _, token): (u32, bool, Added<'_>)| {
        AddedToken::from(token.content.0, token.special)
            .single_word(token.single_word)
            .lstrip(token.lstrip)
            .rstrip(token.rstrip)
            .normalized(token.normalized.unwrap_or(!token.special))
    };
    Ok(in_order.into_iter().map(library).collect())
}

fn token_id(token: &str, id: i64) -> Result<u32, TokenizerError> {
    u32::try_from(id).map_err(|_| TokenizerError::TokenId { token: token.to_owned(), id })
}

/// Fails unless the ids, which are sorted, are `first`, `first + 1`, ...
fn expect_consecutive(first: usize, tokens: &[(u32, &str)]) -> Result<(), TokenizerError> {
    let most = tokens.last().map_or(0, |(most, _)| *most);
    for (at, &(id, token)) in tokens.iter().enumerate() {
        let expected = first + at;
        if (id as usize) < expected {
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            let first =
                before.map_or_else(|| String::from("of the vocabulary"), |(_, text)| (*text).to_owned());
            return Err(TokenizerError::SameId { id, first, second: token.to_owned() });
        }
        if id as usize > expected {
            return Err(TokenizerError::IdGap { missing: u32::try_from(expected).unwrap_or(id), most });
        }
    }
    Ok(())
}

fn read_pre_tokenizer(raw: &RawValue) -> Result<PreTokenizerWrapper, TokenizerError> {
    let (part, expected) = ("pre_tokenizer", "none, ByteLevel, Split, or a Sequence of these");
    let value = part_of(part, raw, expected)?;
    let steps = match value["type"].as_str() {
        Some("Sequence") => value["pretokenizers"].as_array().map(Vec::as_slice).unwrap_or_default(),
        _ => std::slice::from_ref(&value),
    };
    for step in steps {
        expect_kind(part, step, &["ByteLevel", "Split"], expected)?;
        if let Some(pattern) = step["pattern"]["Regex"].as_str() {
            expect_linear(pattern)?;
        }
    }
    parsed(value)
}

/// Fails for a pattern that is not matched in time linear in the text: one that looks around, looks back or is possessive,
/// but for the end that byte-level patterns have, which looks at one character.
fn expect_linear(pattern: &str) -> Result<(), TokenizerError> {
    const END: &str = r"|\s+(?!\S)|\s+";
    let start = pattern.strip_suffix(END).unwrap_or(pattern);
    let is_linear = ast::parse::Parser::new().parse(start).is_ok_and(|pattern| {
        let repeats_once = ast::visit(&pattern, NoPossessive).is_ok();
        repeats_once && regex_syntax::parse(start).is_ok()
    });
    match is_linear {
        true => Ok(()),
        false => Err(TokenizerError::Pattern { pattern: pattern.to_owned() }),
    }
}

/// Fails at a repetition right behind another, `a++`, which this parser takes for a repetition of a repetition, and the one
/// that matches for a possessive one.
struct NoPossessive;

impl ast::Visitor for NoPossessive {
    type Output = ();
    type Err = ();

    fn finish(self) -> Result<(), ()> {
        Ok(())
    }

    fn visit_pre(&mut self, pattern: &Ast) -> Result<(), ()> {
        match pattern {
            Ast::Repetition(outer) if matches!(*outer.ast, Ast::Repetition(_)) => Err(()),
            _ => Ok(()),
        }
    }
}

/// A part of the file as a value. Values take many times their text, so a long one is refused as it stands.
fn part_of(part: &'static str, raw: &RawValue, expected: &'static str) -> Result<Value, TokenizerError> {
    const MOST: usize = 1 << 16;
    if raw.get().len() > MOST {
        let found = format!("{} bytes long", raw.get().len());
        return Err(TokenizerError::Part { part, found, expected });
    }
    serde_json::from_str(raw.get()).map_err(TokenizerError::Json)
}

fn expect_kind(
    part: &'static str,
    value: &Value,
    kinds: &[&str],
    expected: &'static str,
) -> Result<(), TokenizerError> {
    let found = value["type"].as_str();
    match found.is_some_and(|found| kinds.contains(&found)) {
        true => Ok(()),
        false => {
            let found = found.unwrap_or("of no kind").to_owned();
            Err(TokenizerError::Part { part, found, expected })
        }
    }
}

fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, TokenizerError> {
    serde_json::from_value(value).map_err(TokenizerError::Json)
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library { reason: error.to_string() }
}

/// A text of the file, lent by it where nothing in it is escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Texts and ids, in the order of the file.
struct Tokens<'a>(Vec<(Text<'a>, i64)>);

impl<'de: 'a, 'a> Deserialize<'de> for Tokens<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TokensVisitor).map(Tokens)
    }
}

struct TokensVisitor;

impl<'de> Visitor<'de> for TokensVisitor {
    type Value = Vec<(Text<'de>, i64)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ids by token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut tokens = Vec::new();
        while let Some(entry) = access.next_entry()? {
            tokens.push(entry);
        }
        Ok(tokens)
    }
}

/// Two tokens that are joined: `["a", "b"]` or `"a b"`.
struct Merge<'a>(Text<'a>, Text<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two tokens, as a list or with a space between")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Merge<'de>, E> {
        let (first, second) = text.split_once(' ').ok_or_else(|| E::custom("a merge of one token"))?;
        Ok(Merge(Text(Cow::Borrowed(first)), Text(Cow::Borrowed(second))))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge<'de>, E> {
        let (first, second) = text.split_once(' ').ok_or_else(|| E::custom("a merge of one token"))?;
        Ok(Merge(Text(Cow::Owned(first.to_owned())), Text(Cow::Owned(second.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Merge<'de>, A::Error> {
        let (Some(first), Some(second)) = (access.next_element()?, access.next_element()?) else {
            return Err(A::Error::custom("a merge of less than two tokens"));
        };
        match access.next_element::<Text<'_>>()? {
            None => Ok(Merge(first, second)),
            Some(_) => Err(A::Error::custom("a merge of more than two tokens")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::SPLIT;

    #[test]
    fn published_patterns_are_linear_and_those_that_backtrack_are_refused() {
        let gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        for pattern in [SPLIT, gpt2, r"\d+", r"\p{N}{1,3}", r"(?:a+)+", r"a+?", r"|\s+(?!\S)|\s+"] {
            expect_linear(pattern).unwrap();
        }
        let slow = [
            r"(a+)+(?!b)",
            r"(\s+(?!\S))+|\s+(?!\S)|\s+",
            r"((a|\s+(?!\S)|\s+",
            r"(a)\1",
            r"(?<=a)b",
            r"\p{L}++",
            r"a{2}+b",
            r"(?>a+)",
        ];
        for pattern in slow {
            let error = expect_linear(pattern).unwrap_err();
            assert!(matches!(error, TokenizerError::Pattern { .. }), "{pattern}");
        }
    }
}
