//! Files that differ a little from right ones: read or refused, never a panic.

use model_glm::{GlmConfig, GlmError, GlmWeights, Tokenizer};
use parity::{Mutations, golden_dir};

use crate::safetensors::file;
use crate::tokenizer::good;

const COMMAND: &str = "cargo test --release -p model-glm --test hostile mutated";
const IN_FULL: u64 = 40_000_000;

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
        let files = Mutations {
            name: "safetensors mutations",
            command: COMMAND,
            few: 60_000,
            full: IN_FULL / 3,
            seeds: &seeds,
            words,
            reasons: 6,
        };
        files.try_all(|file| GlmWeights::from_bytes(file.to_vec()).map(drop));
    }
    let text = |header: &[u8]| [&(header.len() as u64).to_le_bytes(), header, &[0; 22]].concat();
    let headers = Mutations {
        name: "safetensors header mutations",
        command: COMMAND,
        few: 60_000,
        full: IN_FULL / 3,
        seeds: &[one.into_bytes(), several.into_bytes()],
        words: &fields,
        reasons: 12,
    };
    headers.try_all(|header| {
        let header = String::from_utf8_lossy(header);
        let data = if header.contains("\"b\"") { 22 } else { 16 };
        let mut file = text(header.as_bytes());
        file.truncate(8 + header.len() + data);
        GlmWeights::from_bytes(file).map(drop)
    });
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
    let configs = Mutations {
        name: "config mutations",
        command: COMMAND,
        few: 20_000,
        full: IN_FULL,
        seeds: &seeds,
        words: &keys.concat(),
        reasons: 20,
    };
    configs.try_all(|file| {
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
    let tokenizers = Mutations {
        name: "tokenizer mutations",
        command: COMMAND,
        few: 5_000,
        full: IN_FULL,
        seeds: &seeds,
        words: &words.concat(),
        reasons: 20,
    };
    tokenizers.try_all(|file| {
        let tokenizer = Tokenizer::from_json(&String::from_utf8_lossy(file))?;
        let ids = tokenizer.encode("ab <sop>a b智谱\0")?;
        tokenizer.decode(&ids)?;
        tokenizer.control_tokens();
        Ok::<(), GlmError>(())
    });
}
