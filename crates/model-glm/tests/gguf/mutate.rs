//! Files that differ a little from right ones. `PARITY_FULL=1` tries 40 million, `PARITY_SEED=N` others.

use std::collections::HashSet;
use std::mem::discriminant;

use model_glm::gguf::{Array, Gguf, GgufError, Value};
use model_glm::{ChatTemplate, GlmConfig, GlmWeights, Tokenizer};
use parity::{SplitMix64, Suite, mutate};

use crate::builder::*;
use crate::convert::Checkpoint;
use crate::text::small;

const COMMAND: &str = "cargo test --release -p model-glm --test gguf mutate";
/// What a test run has about two seconds for, unoptimised.
const READ: u64 = 250_000;
const LOADED: u64 = 2_000;
/// Of each in full.
const READ_IN_FULL: u64 = 40_000_000;
const LOADED_IN_FULL: u64 = 400_000;

fn seeds() -> Vec<Vec<u8>> {
    let nested = [&ARRAY.to_le_bytes()[..], &length(2), &U8.to_le_bytes(), &length(1), &[7]].concat();
    let nested = [&nested[..], &BOOL.to_le_bytes(), &length(2), &[0, 1]].concat();
    let values = Builder::new()
        .text("general.architecture", "glm4")
        .u32("general.alignment", 8)
        .f32("f32", 0.5)
        .key("flag", BOOL, [1])
        .texts("texts", &["a", "", "bcd", "智谱"])
        .i32s("numbers", &[1, 2, 3])
        .key("nested", ARRAY, nested);
    let tensors = Builder { alignment: 8, ..values.clone() };
    let tensors = tensors.tensor("a", &[4, 2], 0, &[1; 32]).tensor("b", &[32, 2], 8, &[2; 68]);
    let tensors = tensors.tensor("c", &[256], 12, &[3; 144]).tensor("d", &[1, 1, 1, 5], 24, &[4; 5]);
    let plain = Builder { version: 2, ..Builder::new() }.tensor("t", &[3], 30, &[5; 6]);
    [Builder::new(), values, tensors, plain].iter().map(Builder::build).collect()
}

/// Reads all that a file lends, which must lie in it.
fn walk(gguf: &Gguf<'_>, file: &[u8]) -> usize {
    let values: usize = gguf.metadata().iter().map(|(_, value)| values(value)).sum();
    let mut places: Vec<_> = gguf.tensors().iter().map(|tensor| tensor.bytes()).collect();
    places.retain(|place| !place.is_empty());
    places.sort_by_key(|place| place.start);
    assert!(places.iter().all(|place| place.end <= file.len()));
    assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start));
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor(tensor.name()), Some(tensor));
    }
    values
}

fn values(value: &Value<'_>) -> usize {
    let of_array = |array: Array<'_>| {
        let elements: Vec<usize> = array.iter().map(|value| values(&value)).collect();
        assert_eq!(elements.len(), array.len());
        elements.iter().sum()
    };
    value.as_array().map_or(1, of_array)
}

#[test]
fn files_with_a_few_changes_are_read_or_refused() {
    let suite = Suite::from_env("gguf mutations", COMMAND).unwrap();
    let (seeds, mut random) = (seeds(), SplitMix64::new(suite.seed()));
    let (mut read, mut refused, mut kinds) = (0_u64, 0_u64, HashSet::new());
    let mut file = Vec::new();
    for at in 0..if suite.is_full() { READ_IN_FULL } else { READ } {
        file.clone_from(&seeds[usize::try_from(at % seeds.len() as u64).unwrap()]);
        mutate(&mut file, 4, &[], &mut random);
        match Gguf::read(&file) {
            Ok(gguf) => {
                walk(&gguf, &file);
                read += 1;
            }
            Err(error) => {
                refused += 1;
                kinds.insert(discriminant::<GgufError>(&error));
            }
        }
    }
    // A mutator that breaks nothing, or all at the same place, would try nothing.
    assert!(read > refused / 50 && refused > read / 2, "{read} were read, {refused} refused");
    assert!(kinds.len() >= 28, "only {} kinds of error came", kinds.len());
}

#[test]
fn models_with_a_few_changes_are_taken_or_refused() {
    let suite = Suite::from_env("gguf model mutations", COMMAND).unwrap();
    let checkpoint = Checkpoint::open("glm4");
    let config = Builder { tensors: Vec::new(), data: Vec::new(), ..checkpoint.file(0) };
    let config =
        config.u32("glm4.vocab_size", 256).text("tokenizer.chat_template", "{{ messages[0].content }}");
    let vocabulary = small("glm4", &[("ab", 1), ("<|user|>", 3)], &["a b"]);
    let vocabulary = vocabulary.u32("tokenizer.ggml.eos_token_id", 257);
    let (seeds, mut random) = ([config.build(), vocabulary.build()], SplitMix64::new(suite.seed()));
    let mut taken = [0_u64; 4];
    for at in 0..if suite.is_full() { LOADED_IN_FULL } else { LOADED } {
        let mut file = seeds[usize::try_from(at % 2).unwrap()].clone();
        // Long files have more places that the reader refuses.
        mutate(&mut file, 1, &[], &mut random);
        let Ok(gguf) = Gguf::read(&file) else { continue };
        let results = [
            GlmConfig::from_gguf(&gguf).is_ok(),
            Tokenizer::from_gguf(&gguf).is_ok_and(|tokenizer| tokenizer.encode("ab <|user|>").is_ok()),
            ChatTemplate::from_gguf(&gguf).is_ok(),
            GlmWeights::from_bytes(file.clone()).is_ok(),
        ];
        for (count, ok) in taken.iter_mut().zip(results) {
            *count += u64::from(ok);
        }
    }
    assert!(taken.iter().all(|&count| count > 10), "{taken:?}");
}
