//! Tokenizer and template from a GGUF file: the same ids as from the folder, and vocabularies that none is made of.

use std::path::{Path, PathBuf};

use model_glm::gguf::{Gguf, GgufError};
use model_glm::{ChatTemplate, GlmError, Message, PromptPiece, Tokenizer};
use parity::SplitMix64;
use serde_json::Value;

use crate::builder::*;
use crate::convert::{vocabulary, with_tokenizer};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../glm/demo")
}

fn demo_file() -> Builder {
    let (mut tokens, mut types, merges) = vocabulary(&demo());
    // Converters fill the vocabulary up to the rows of the embedding.
    for id in tokens.len()..1300 {
        tokens.push(format!("[PAD{id}]"));
        types.push(5);
    }
    let template = std::fs::read_to_string(demo().join("chat_template.jinja")).unwrap();
    with_tokenizer(Builder::new(), "chatglm-bpe", &tokens, &types, &merges)
        .text("tokenizer.chat_template", &template)
}

fn tokenizer(file: &Builder) -> Result<Tokenizer, GlmError> {
    Tokenizer::from_gguf(&Gguf::read(&file.build())?)
}

#[test]
fn prompts_have_the_ids_that_the_folder_gives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.gguf");
    std::fs::write(&path, demo_file().build()).unwrap();
    let (from_file, from_folder) = (Tokenizer::open(&path).unwrap(), Tokenizer::open(&demo()).unwrap());
    let template = ChatTemplate::open(&path).unwrap();
    let text = std::fs::read_to_string(demo().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let answers = expected["answers"].as_array().unwrap();
    assert!(answers.len() >= 40);
    for answer in answers {
        let question = [Message::new("user", answer["question"].as_str().unwrap())];
        let prompt = template.render(&question, &from_file.control_tokens()).unwrap();
        let ids = from_file.encode_prompt(&prompt).unwrap();
        assert_eq!(serde_json::to_value(&ids).unwrap(), answer["prompt_ids"]);
        assert_eq!(from_file.decode(&ids).unwrap(), from_folder.decode(&ids).unwrap());
    }
    for token in from_folder.control_tokens() {
        assert_eq!(from_file.id(&token), from_folder.id(&token), "{token}");
    }
    assert_eq!(from_file.id("[PAD1299]"), Some(1299));
}

#[test]
fn any_text_has_the_ids_that_the_folder_gives_and_comes_back() {
    let (from_file, from_folder) = (tokenizer(&demo_file()).unwrap(), Tokenizer::open(&demo()).unwrap());
    let pieces = [
        "a", "The", " ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "123", "4567", "ü", "ſ", "智谱", "é",
        "e\u{301}", "😀", "[gMASK]", "<|user|>", "<", "|", ">", "_", "--", "\u{a0}", "\u{2028}", "\0", "GLM",
        "...",
    ];
    let mut random = SplitMix64::new(7);
    for _ in 0..2000 {
        let len = random.next_u64() % 12;
        let pick = |_| pieces[usize::try_from(random.next_u64() % pieces.len() as u64).unwrap()];
        let text: String = (0..len).map(pick).collect();
        let ids = from_file.encode(&text).unwrap();
        assert_eq!(ids, from_folder.encode(&text).unwrap(), "{text:?}");
        assert_eq!(from_file.decode(&ids).unwrap(), text);
        let prompt = [PromptPiece::Template(text.clone())];
        assert_eq!(
            from_file.encode_prompt(&prompt).unwrap(),
            from_folder.encode_prompt(&prompt).unwrap(),
            "{text:?}"
        );
    }
}

/// The 256 letters of bytes, then what the test adds.
pub(crate) fn small(pre: &str, added: &[(&str, i32)], merges: &[&str]) -> Builder {
    let (demo, ..) = vocabulary(&demo());
    let mut tokens: Vec<String> = demo.into_iter().filter(|text| text.chars().count() == 1).collect();
    assert_eq!(tokens.len(), 256);
    let mut types = vec![1; 256];
    for (text, number) in added {
        tokens.push((*text).to_owned());
        types.push(*number);
    }
    let merges: Vec<String> = merges.iter().map(|text| (*text).to_owned()).collect();
    with_tokenizer(Builder::new(), pre, &tokens, &types, &merges)
}

#[test]
fn words_that_are_tokens_are_not_merged_by_glm4() {
    // "abc" is a token that no merges lead to.
    let added = [("bc", 1), ("abc", 1), ("ab", 1)];
    let ids = |pre: &str| tokenizer(&small(pre, &added, &["a b", "b c"])).unwrap().encode("abc").unwrap();
    assert_eq!(ids("glm4"), [257]);
    let [first, second] = ids("chatglm-bpe")[..] else { panic!("two tokens") };
    assert_eq!(
        (first, tokenizer(&small("glm4", &added, &[])).unwrap().decode(&[second]).unwrap()),
        (258, String::from("c"))
    );
}

#[test]
fn control_tokens_are_never_text_and_user_defined_ones_are() {
    // "sop" is one word of letters, which would be the token if it were among those of text.
    let file = small("glm4", &[("sop", 3), ("<think>", 4), ("[PAD258]", 5)], &[]);
    let tokenizer = tokenizer(&file).unwrap();
    assert_eq!(tokenizer.encode("sop").unwrap().len(), 3);
    assert_eq!(tokenizer.encode("[PAD258]").unwrap().len(), 8);
    assert_eq!(tokenizer.encode("a<think>").unwrap()[1..], [257]);
    let prompt = [PromptPiece::Template(String::from("sop")), PromptPiece::Literal(String::from("sop"))];
    let ids = tokenizer.encode_prompt(&prompt).unwrap();
    assert_eq!((ids[0], ids.len()), (256, 4));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "sop", "the control token is not shown");
}

#[test]
fn a_file_without_a_template_has_glm4s() {
    let rendered = |file: &Builder| {
        let bytes = file.build();
        let template = ChatTemplate::from_gguf(&Gguf::read(&bytes).unwrap()).unwrap();
        format!("{:?}", template.render(&[Message::new("user", "hi")], &[]).unwrap())
    };
    let file = small("glm4", &[], &[]);
    assert!(rendered(&file).contains("[gMASK]<sop><|user|>\\nhi<|assistant|>"), "{}", rendered(&file));
    assert!(rendered(&file.text("tokenizer.chat_template", "mine")).contains("\"mine\""));
    let wrong = small("glm4", &[], &[]).u32("tokenizer.chat_template", 1).build();
    let error = ChatTemplate::from_gguf(&Gguf::read(&wrong).unwrap()).unwrap_err();
    assert!(matches!(error, GlmError::BadKey { .. }), "{error}");
}

fn of_gguf(error: &GlmError) -> Option<&GgufError> {
    if let GlmError::Gguf(error) = error { Some(error) } else { None }
}

fn bad(error: &GlmError, name: &str) -> bool {
    matches!(error, GlmError::BadKey { key, .. } if key == name)
}

fn lacks(error: &GlmError, name: &str) -> bool {
    matches!(error, GlmError::MissingKey { key, .. } if key == name)
}

/// A name, a file, and what must come of it.
type Case = (&'static str, Builder, fn(&GlmError) -> bool);

macro_rules! case {
    ($name:literal, $file:expr, $pattern:pat $(if $guard:expr)?) => {
        ($name, $file, |error| matches!(of_gguf(error), Some($pattern) $(if $guard)?))
    };
}

#[test]
fn every_wrong_vocabulary_has_its_error() {
    let good = || small("glm4", &[("ab", 1), ("<|user|>", 3)], &["a b"]);
    tokenizer(&good()).unwrap();
    let scores = [&F32.to_le_bytes()[..], &length(3), &[0; 12]].concat();
    let bytes = [&U8.to_le_bytes()[..], &length(258), &[0; 258]].concat();
    let huge = [&STRING.to_le_bytes()[..], &length(1), &(1_u64 << 31).to_le_bytes(), b"abc"].concat();
    let many: Vec<String> = (0..256).map(|id| format!("t{id}")).collect();
    let cases: Vec<Case> = vec![
        case!("a token of 2^31 bytes", good().key("tokenizer.ggml.tokens", ARRAY, huge), GgufError::StringLength { key, length: 0x8000_0000, .. } if key == "tokenizer.ggml.tokens"),
        case!(
            "a token of 70000 bytes",
            small("glm4", &[(&"x".repeat(70_000), 1)], &[]),
            GgufError::TokenLength { id: 256, length: 70_000, .. }
        ),
        case!(
            "an empty token",
            small("glm4", &[("", 3)], &[]),
            GgufError::TokenLength { id: 256, length: 0, .. }
        ),
        case!("a token twice", small("glm4", &[("a", 1)], &[]), GgufError::DuplicateToken { second: 256, text, .. } if text == "a"),
        case!(
            "a token and a control token of one text",
            small("glm4", &[("ab", 1), ("ab", 3)], &[]),
            GgufError::DuplicateToken { first: 256, second: 257, .. }
        ),
        case!("text behind control tokens", small("glm4", &[("<|user|>", 3), ("ab", 1)], &[]), GgufError::TokenOrder { id: 257, text, kind: 1 } if text == "ab"),
        case!(
            "a byte without a token",
            with_tokenizer(Builder::new(), "glm4", &many, &[1; 256], &[]),
            GgufError::ByteToken { byte: 0 }
        ),
        case!("a merge naming an absent token", small("glm4", &[("ab", 1)], &["a b", "ab zz"]), GgufError::MergeToken { index: 1, token } if token == "zz"),
        case!("a merge whose result is absent", small("glm4", &[("ab", 1)], &["a b", "ab c"]), GgufError::MergeToken { index: 1, token } if token == "abc"),
        case!("a merge of a control token", small("glm4", &[("ab", 1), ("<|user|>", 3)], &["ab <|user|>"]), GgufError::MergeToken { index: 0, token } if token == "<|user|>"),
        case!("a merge of one token", small("glm4", &[("ab", 1)], &["ab"]), GgufError::Merge { index: 0, text } if text == "ab"),
        case!(
            "a merge of three tokens",
            small("glm4", &[("ab", 1)], &["a b c"]),
            GgufError::Merge { index: 0, .. }
        ),
        case!(
            "a special id out of range",
            good().u32("tokenizer.ggml.eos_token_id", 258),
            GgufError::SpecialId { key: "tokenizer.ggml.eos_token_id", id: 258, vocabulary: 258 }
        ),
        case!(
            "a negative special id",
            good().key("tokenizer.ggml.padding_token_id", I32, [255; 4]),
            GgufError::SpecialId { key: "tokenizer.ggml.padding_token_id", id: -1, .. }
        ),
        case!("sentencepiece", good().text("tokenizer.ggml.model", "llama").text("tokenizer.ggml.pre", "chatglm-spm"), GgufError::Tokenizer { model, pre } if model == "llama" && pre == "chatglm-spm"),
        case!("another split", good().text("tokenizer.ggml.pre", "qwen2"), GgufError::Tokenizer { pre, .. } if pre == "qwen2"),
        case!("no tokenizer", good().without("tokenizer.ggml.model"), GgufError::Tokenizer { model, .. } if model == "(none)"),
        ("a special id that is text", good().text("tokenizer.ggml.eot_token_id", "7"), |error| {
            bad(error, "tokenizer.ggml.eot_token_id")
        }),
        ("tokens that are numbers", good().i32s("tokenizer.ggml.tokens", &[1, 2]), |error| {
            bad(error, "tokenizer.ggml.tokens")
        }),
        ("tokens that are no array", good().text("tokenizer.ggml.tokens", "abc"), |error| {
            bad(error, "tokenizer.ggml.tokens")
        }),
        ("scores typed u8", good().key("tokenizer.ggml.scores", ARRAY, bytes), |error| {
            bad(error, "tokenizer.ggml.scores")
        }),
        ("scores of other tokens", good().key("tokenizer.ggml.scores", ARRAY, scores), |error| {
            bad(error, "tokenizer.ggml.scores")
        }),
        ("types of other tokens", good().i32s("tokenizer.ggml.token_type", &[1; 7]), |error| {
            bad(error, "tokenizer.ggml.token_type")
        }),
        ("a type of 9", small("glm4", &[("ab", 9)], &[]), |error| bad(error, "tokenizer.ggml.token_type")),
        (
            "no tokens",
            good().without("tokenizer.ggml.tokens").without("tokenizer.ggml.token_type"),
            |error| lacks(error, "tokenizer.ggml.tokens"),
        ),
        ("no types", good().without("tokenizer.ggml.token_type"), |error| {
            lacks(error, "tokenizer.ggml.token_type")
        }),
        ("no merges", good().without("tokenizer.ggml.merges"), |error| lacks(error, "tokenizer.ggml.merges")),
        ("merges that are numbers", good().i32s("tokenizer.ggml.merges", &[1]), |error| {
            bad(error, "tokenizer.ggml.merges")
        }),
    ];
    for (name, file, expected) in &cases {
        match tokenizer(file) {
            Ok(_) => panic!("{name}: it was read"),
            Err(error) => assert!(expected(&error), "{name}: {error:?}"),
        }
    }
}
