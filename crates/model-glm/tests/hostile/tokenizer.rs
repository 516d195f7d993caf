//! 7 tokenizers, and further ones.

use model_glm::{GlmError, Tokenizer, TokenizerError as Bad};
use serde_json::{Value, json};

use crate::case::{Case, Input, Outcome};

/// A tokenizer of a few bytes, one merge and two control tokens.
pub(crate) fn good() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [
            {"id": 4, "content": "<|user|>", "special": true, "normalized": false},
            {"id": 5, "content": "<sop>", "special": true, "normalized": false},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": [["a", "b"]]},
    })
}

fn with(pointer: &str, value: Value) -> String {
    let mut tokenizer = good();
    match tokenizer.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            tokenizer.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    tokenizer.to_string()
}

fn vocab(value: Value) -> String {
    with("/model/vocab", value)
}

fn split(pattern: &str) -> String {
    with("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!(pattern))
}

/// A merge as often as said.
fn merges(count: usize) -> String {
    let text = with("/model/merges", json!(["HERE"]));
    text.replace("[\"HERE\"]", &format!("[{}[\"a\",\"b\"]]", "[\"a\",\"b\"],".repeat(count - 1)))
}

fn read(input: &Input) -> Outcome {
    Tokenizer::from_json(input.text()).map(drop)
}

/// Reads it and a text of 10,000 letters.
fn encode(input: &Input) -> Outcome {
    Tokenizer::from_json(input.text())?.encode(&"ab b".repeat(2500)).map(drop)
}

macro_rules! bad {
    ($name:literal, $text:expr, $pattern:pat $(if $guard:expr)?) => {
        refused!($name, $text, encode, GlmError::Tokenizer($pattern) $(if $guard)?)
    };
}

pub(crate) fn cases() -> Vec<Case> {
    let added = |first: u32, second: u32| {
        with("/added_tokens", json!([{"id": first, "content": "a"}, {"id": second, "content": "b"}]))
    };
    vec![
        bad!("added tokens that stand for each other", added(1, 0), Bad::AddedId { added: 0 | 1, .. }),
        bad!("a pattern of catastrophic time", split(r"(a+)+(?!\S)b|\s+"), Bad::Pattern { pattern } if pattern.starts_with("(a+)+")),
        bad!("10^7 merges", merges(10_000_000), Bad::TooLong { bytes: 100_000_000.., .. }),
        bad!(
            "an id that no token has",
            vocab(json!({"a": 0, "b": 1, "ab": 3, "Ġ": 4})),
            Bad::IdGap { missing: 2, most: 4 }
        ),
        bad!(
            "an id that two tokens have",
            vocab(json!({"a": 0, "b": 1, "ab": 1, "Ġ": 2})),
            Bad::SameId { id: 1, .. }
        ),
        bad!("a negative id", vocab(json!({"a": 0, "b": 1, "ab": -2, "Ġ": 3})), Bad::TokenId { token, id: -2 } if token == "ab"),
        bad!("an unknown normalizer", with("/normalizer", json!({"type": "Frobnicate"})), Bad::Part { part: "normalizer", found, .. } if found == "Frobnicate"),
    ]
}

pub(crate) fn further() -> Vec<Case> {
    vec![
        taken!("tokenizer: a good one", good().to_string(), encode),
        taken!(
            "tokenizer: padding to 2^40 tokens, which does not count",
            with(
                "/padding",
                json!({"strategy": {"Fixed": 1_u64 << 40}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"})
            ),
            encode
        ),
        taken!(
            "tokenizer: truncation to no tokens, which does not count",
            with(
                "/truncation",
                json!({"max_length": 0, "strategy": "LongestFirst", "stride": 0, "direction": "Right"})
            ),
            encode
        ),
        bad!(
            "tokenizer: a normalizer that makes much of little",
            with(
                "/normalizer",
                json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1000)})
            ),
            Bad::Part { part: "normalizer", .. }
        ),
        bad!(
            "tokenizer: a pre-tokenizer of another kind",
            with(
                "/pre_tokenizer",
                json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"})
            ),
            Bad::Part { part: "pre_tokenizer", .. }
        ),
        bad!(
            "tokenizer: sequences in sequences",
            with(
                "/pre_tokenizer",
                json!({"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": []}]})
            ),
            Bad::Part { part: "pre_tokenizer", .. }
        ),
        bad!(
            "tokenizer: a decoder of another kind",
            with("/decoder", json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})),
            Bad::Part { part: "decoder", .. }
        ),
        bad!("tokenizer: another model", with("/model/type", json!("Unigram")), Bad::Part { part: "model", found, .. } if found == "Unigram"),
        bad!("tokenizer: dropout", with("/model/dropout", json!(0.5)), Bad::Part { part: "dropout", .. }),
        bad!(
            "tokenizer: a prefix longer than a token",
            with("/model/continuing_subword_prefix", json!("####")),
            Bad::Part { part: "continuing_subword_prefix", .. }
        ),
        bad!("tokenizer: a merge of no token", with("/model/merges", json!([["a", "a"]])), Bad::Merge { index: 0, token } if token == "aa"),
        bad!("tokenizer: a merge of one token", with("/model/merges", json!(["a"])), Bad::Json(_)),
        bad!("tokenizer: a token twice", vocab(json!("HERE")).replace("\"HERE\"", r#"{"a": 0, "a": 1, "b": 2, "ab": 3}"#), Bad::SameToken { token } if token == "a"),
        bad!("tokenizer: an added token twice", with("/added_tokens", json!([{"id": 4, "content": "c"}, {"id": 5, "content": "c"}])), Bad::SameToken { token } if token == "c"),
        bad!(
            "tokenizer: an added token of no text",
            with("/added_tokens/0/content", json!("")),
            Bad::SameToken { .. }
        ),
        bad!(
            "tokenizer: an added token with another's id",
            with("/added_tokens/1/id", json!(4)),
            Bad::SameId { id: 4, .. }
        ),
        bad!(
            "tokenizer: an added token far behind the others",
            with("/added_tokens/1/id", json!(u32::MAX)),
            Bad::IdGap { missing: 5, most: u32::MAX }
        ),
        bad!(
            "tokenizer: an id of 2^32",
            with("/added_tokens/1/id", json!(1_u64 << 32)),
            Bad::TokenId { id: 0x1_0000_0000, .. }
        ),
        bad!(
            "tokenizer: added tokens of a megabyte",
            with("/added_tokens/0/content", json!("x".repeat(1 << 20))),
            Bad::Part { part: "added_tokens", .. }
        ),
        bad!(
            "tokenizer: a pattern of a megabyte",
            split(&"a".repeat(1 << 20)),
            Bad::Part { part: "pre_tokenizer", .. }
        ),
        bad!(
            "tokenizer: a pattern of many megabytes when compiled",
            split(r"(\p{L}{1000}){1000}"),
            Bad::Json(_) | Bad::Pattern { .. } | Bad::Library { .. }
        ),
        bad!("tokenizer: a reference back", split(r"(a)\1"), Bad::Pattern { .. }),
        bad!(
            "tokenizer: depth 1000",
            with("/decoder", json!("HERE")).replace("\"HERE\"", &"[".repeat(1000)),
            Bad::Json(_)
        ),
        bad!("tokenizer: a model twice", good().to_string().replacen("\"version\"", "\"model\":{\"vocab\":{},\"merges\":[]},\"version\"", 1), Bad::Json(error) if error.to_string().contains("duplicate field `model`")),
        refused!("tokenizer: no JSON", "{", read, GlmError::Tokenizer(Bad::Json(_))),
        refused!("tokenizer: no model", "{}", read, GlmError::Tokenizer(Bad::Json(_))),
        taken!(
            "tokenizer: 400,000 merges",
            {
                let tokens: Vec<String> = (0..=400_000).map(|at| format!("t{at:06}")).collect();
                let joined = tokens.windows(2).map(|pair| pair.concat());
                let all: serde_json::Map<String, Value> = tokens
                    .iter()
                    .cloned()
                    .chain(joined)
                    .zip(0..)
                    .map(|(token, id): (String, u32)| (token, json!(id)))
                    .collect();
                let merges: Vec<[&String; 2]> = tokens.windows(2).map(|pair| [&pair[0], &pair[1]]).collect();
                let mut tokenizer = good();
                tokenizer["added_tokens"] = json!([]);
                tokenizer["model"] = json!({"type": "BPE", "vocab": all, "merges": merges});
                tokenizer.to_string()
            },
            read
        ),
    ]
}

#[test]
fn padding_and_truncation_change_no_token() {
    let _alone = crate::case::alone();
    let ids = |text: &str| Tokenizer::from_json(text).unwrap().encode("ab ab").unwrap();
    let expected = [2, 3, 2];
    assert_eq!(ids(&good().to_string()), expected);
    assert_eq!(
        ids(&with(
            "/truncation",
            json!({"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"})
        )),
        expected
    );
}
