//! Files that differ a little from right ones: read or refused, never a panic. `PARITY_FULL=1` tries 40 million of each kind,
//! `PARITY_TRIES=N` so many, `PARITY_SEED=N` others. All cores take part.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Instant;

use model_glm::{ChatTemplate, GlmConfig, GlmError, GlmWeights, Message, Tokenizer};
use parity::{Suite, golden_dir};

use crate::case::causes;
use crate::safetensors::file;
use crate::tokenizer::good;

const COMMAND: &str = "cargo test --release -p model-glm --test hostile mutated";
const IN_FULL: u64 = 40_000_000;

/// Tries files that are made of `seeds`: `few` of them, or `full` where all are asked for. Both outcomes must come, the refusals
/// for as many reasons as `kinds` at least.
fn sweep(
    name: &'static str,
    (few, full): (u64, u64),
    kinds: usize,
    seeds: &[Vec<u8>],
    words: &[&str],
    read: impl Fn(&[u8]) -> Result<(), GlmError> + Sync,
) {
    let suite = Suite::from_env(name, COMMAND).unwrap();
    let (tries, start) = (suite.tries(few, full), Instant::now());
    let count = |(taken, refused): &mut (u64, BTreeSet<String>), file: &[u8]| match read(file) {
        Ok(()) => *taken += 1,
        Err(error) => drop(refused.insert(reason(&error))),
    };
    let counts = parity::sweep((suite.seed(), tries), seeds, (4, words), Default::default, count);
    let taken: u64 = counts.iter().map(|(taken, _)| taken).sum();
    let refused: BTreeSet<String> = counts.into_iter().flat_map(|(_, refused)| refused).collect();
    let rate = tries as f64 / start.elapsed().as_secs_f64();
    let _ = writeln!(
        std::io::stderr(),
        "{name}: seed {}: {tries} executions, {rate:.0} a second: {taken} taken, refused for {} reasons",
        suite.seed(),
        refused.len()
    );
    if tries < few {
        return;
    }
    // A mutator that breaks nothing, or everything at the same place, would try nothing.
    assert!(taken > tries / 200 && taken < tries - tries / 20, "{taken} of {tries} were taken");
    assert!(refused.len() >= kinds, "{name}: only these reasons came: {refused:?}");
}

/// What kind of error it is: the first words of the innermost one.
fn reason(error: &GlmError) -> String {
    let text = causes(error).map(|error| error.to_string()).last().unwrap_or_default();
    let words = text.split(|letter: char| !letter.is_ascii_alphabetic());
    words.filter(|word| word.len() > 3).take(3).collect::<Vec<_>>().join(" ")
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "0",
    "-1",
    "1e308",
    "0.5",
    "NaN",
    "18446744073709551615",
    "4294967296",
    "\"a\":",
    "{\"a\":1}",
    "[[[[[[[[",
];

#[test]
fn mutated_safetensors_are_read_or_refused() {
    let _alone = crate::case::alone();
    let tensor = |name: &str, dtype: &str, shape: &str, start: u32, end: u32| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let one = format!("{{{}}}", tensor("a", "F32", "[2,2]", 0, 16));
    let several = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{},{},{}}}"#,
        tensor("b", "BF16", "[3]", 16, 22),
        tensor("c", "U8", "[0]", 22, 22),
        tensor("a", "F32", "[2,2]", 0, 16)
    );
    let seeds = [file("{}", 0), file(&one, 16), file(&several, 22)];
    let fields = [JSON, &["F32", "F4", "dtype", "shape", "data_offsets", "__metadata__", "[0,16]"]].concat();
    // Numbers and words take turns: the header's length is no text.
    let numbers: &[&str] = &[];
    for words in [numbers, fields.as_slice()] {
        sweep("safetensors mutations", (60_000, IN_FULL / 3), 6, &seeds, words, |file| {
            GlmWeights::from_bytes(file.to_vec()).map(drop)
        });
    }
    let text = |header: &[u8]| [&(header.len() as u64).to_le_bytes(), header, &[0; 22]].concat();
    sweep(
        "safetensors header mutations",
        (60_000, IN_FULL / 3),
        12,
        &[one.into_bytes(), several.into_bytes()],
        &fields,
        |header| {
            let header = String::from_utf8_lossy(header);
            let data = if header.contains("\"b\"") { 22 } else { 16 };
            let mut file = text(header.as_bytes());
            file.truncate(8 + header.len() + data);
            GlmWeights::from_bytes(file).map(drop)
        },
    );
}

#[test]
fn mutated_configs_are_read_or_refused() {
    let _alone = crate::case::alone();
    let read = |path: &str| std::fs::read(golden_dir().join(path)).unwrap();
    let seeds = [
        read("glm4/config.json"),
        read("glm4/config.legacy.json"),
        read("glm/config.json"),
        read("chatglm_orig/config.json"),
    ];
    let keys = [
        JSON,
        &[
            "\"rope_type\": \"yarn\",",
            "\"factor\": 4.0,",
            "\"rope_theta\": 0,",
            "\"glm\"",
            "\"chatglm\"",
            "\"glm4_moe\"",
        ],
    ];
    sweep("config mutations", (20_000, IN_FULL), 20, &seeds, &keys.concat(), |file| {
        let text = String::from_utf8_lossy(file);
        let mut config = GlmConfig::from_json(&text)?;
        config.add_stop_ids(&text)
    });
}

#[test]
fn mutated_tokenizers_are_read_or_refused() {
    let _alone = crate::case::alone();
    let real = golden_dir().join("../../crates/glm/demo/tokenizer.json");
    let real = std::fs::read_to_string(real).unwrap();
    let mut cut: serde_json::Value = serde_json::from_str(&real).unwrap();
    let vocab = cut["model"]["vocab"].as_object().unwrap().iter().take(120);
    let vocab: serde_json::Map<_, _> = vocab.map(|(token, id)| (token.clone(), id.clone())).collect();
    cut["model"]["vocab"] = vocab.into();
    cut["model"]["merges"] = serde_json::json!([]);
    for (at, added) in cut["added_tokens"].as_array_mut().unwrap().iter_mut().enumerate() {
        added["id"] = (120 + at).into();
    }
    let mut bare = good();
    bare["pre_tokenizer"] = bare["pre_tokenizer"]["pretokenizers"][1].take();
    // Compiling a pattern takes ten to a hundred times as long as reading all else.
    let mut seeds = vec![bare.to_string().into_bytes(); 16];
    seeds[7] = good().to_string().into_bytes();
    seeds[15] = cut.to_string().into_bytes();
    let words = [
        JSON,
        &[
            "\"type\"",
            "ByteLevel",
            "Split",
            "Sequence",
            "NFC",
            "BPE",
            "(?!\\\\S)",
            "a+",
            "\\\\p{L}",
            "(a|",
            "{9}",
            "<sop>",
            "ab",
            "\"id\": 5",
            "\"a\",\"b\"",
        ],
    ];
    sweep("tokenizer mutations", (5_000, IN_FULL), 20, &seeds, &words.concat(), |file| {
        let tokenizer = Tokenizer::from_json(&String::from_utf8_lossy(file))?;
        let ids = tokenizer.encode("ab <sop>a b智谱\0")?;
        tokenizer.decode(&ids)?;
        tokenizer.control_tokens();
        Ok(())
    });
}

#[test]
fn mutated_templates_are_rendered_or_refused() {
    let _alone = crate::case::alone();
    let seeds = [
        "[gMASK]<sop>{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "{%- set ns = namespace(last=-1, text='') -%}{% for m in messages %}{% if m.role == 'user' and not loop.first %}{% set ns.last = loop.index0 %}{% set ns.text = ns.text ~ m.content.strip() %}{% elif m['content'] is string %}{{ m.content.split('</think>')[-1].strip('\\n') | tojson(ensure_ascii=False) }}{% endif %}{% endfor %}{{ ns.text[:5] ~ ns.last }}",
        "{% macro visible(x) %}{% if x is string %}{{ x }}{% elif x is iterable and x is not mapping %}{% for i in x %}{{ visible(i) }}{% endfor %}{% else %}{{ x }}{% endif %}{% endmacro %}{{ visible([messages[0].content, ['a', {'b': 1}]]) | upper | replace('A', 'bc') }}{{ [3, 1, 2] | sort | join(',') }}",
    ]
    .map(|seed| seed.as_bytes().to_vec());
    let words = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-%}",
        "{% if ",
        "{% else %}",
        "{% endif %}",
        "{% for x in ",
        "{% endfor %}",
        "{% set x = ",
        "| tojson",
        "| length",
        "| join(x)",
        "| replace('a', 'aaaa')",
        "| indent(9)",
        "| center(99999999)",
        "~",
        "+",
        "*",
        "//",
        "%",
        "**",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "messages",
        "ns.x",
        "namespace()",
        // Loops that run until they are stopped have their named cases.
        "range(9)",
        "loop",
        "recursive",
        "'",
        "\"",
        "-1",
        "0",
        "99999999999999999999",
        "1.5",
        "is ",
        "not ",
        "in ",
        "and ",
        "None",
        "True",
        ".__class__",
        ".items()",
        "[::-1]",
        "x",
        "{% include 'a' %}",
        "{% extends 'a' %}",
        "{% block b %}",
        "{% macro f(x) %}",
        "{% endmacro %}",
        "f(",
        "caller()",
    ];
    let messages = [
        Message::new("user", "hello"),
        Message::new("assistant", "<think>a</think>b"),
        Message::new("user", "again"),
    ];
    let control = [String::from("<|user|>"), String::from("again")];
    sweep("template mutations", (5_000, IN_FULL), 8, &seeds, &words, |file| {
        let template = ChatTemplate::new(String::from_utf8_lossy(file).into_owned())?;
        template.render(&messages, &control).map(drop)
    });
}
