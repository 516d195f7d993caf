//! Files that differ a little from right ones. `PARITY_FULL=1` tries 40 million, `PARITY_TRIES=N` so many,
//! `PARITY_SEED=N` others. All cores take part.

use std::collections::HashSet;
use std::io::Write;
use std::mem::discriminant;
use std::time::Instant;

use model_glm::gguf::{Array, Gguf, GgufError, Value};
use model_glm::{ChatTemplate, GlmConfig, GlmWeights, Tokenizer};
use parity::{Suite, sweep};

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
    let (tries, start) = (suite.tries(READ, READ_IN_FULL), Instant::now());
    let count = |(read, kinds): &mut (u64, HashSet<_>), file: &[u8]| match Gguf::read(file) {
        Ok(gguf) => {
            walk(&gguf, file);
            *read += 1;
        }
        Err(error) => drop(kinds.insert(discriminant::<GgufError>(&error))),
    };
    let counts = sweep((suite.seed(), tries), &seeds(), (4, &[]), Default::default, count);
    let read: u64 = counts.iter().map(|(read, _)| read).sum();
    let kinds: HashSet<_> = counts.into_iter().flat_map(|(_, kinds)| kinds).collect();
    tell("gguf mutations", tries, start);
    if tries < READ {
        return;
    }
    let refused = tries - read;
    // A mutator that breaks nothing, or all at the same place, would try nothing.
    assert!(read > refused / 50 && refused > read / 2, "{read} were read, {refused} refused");
    assert!(kinds.len() >= 28, "only {} kinds of error came", kinds.len());
}

#[test]
fn models_with_a_few_changes_are_taken_or_refused() {
    let suite = Suite::from_env("gguf model mutations", COMMAND).unwrap();
    let (tries, start) = (suite.tries(LOADED, LOADED_IN_FULL), Instant::now());
    let checkpoint = Checkpoint::open("glm4");
    let config = Builder { tensors: Vec::new(), data: Vec::new(), ..checkpoint.file(0) };
    let config =
        config.u32("glm4.vocab_size", 256).text("tokenizer.chat_template", "{{ messages[0].content }}");
    let vocabulary = small("glm4", &[("ab", 1), ("<|user|>", 3)], &["a b"]);
    let vocabulary = vocabulary.u32("tokenizer.ggml.eos_token_id", 257);
    let seeds = [config.build(), vocabulary.build()];
    let count = |taken: &mut [u64; 4], file: &[u8]| {
        let Ok(gguf) = Gguf::read(file) else { return };
        let results = [
            GlmConfig::from_gguf(&gguf).is_ok(),
            Tokenizer::from_gguf(&gguf).is_ok_and(|tokenizer| tokenizer.encode("ab <|user|>").is_ok()),
            ChatTemplate::from_gguf(&gguf).is_ok(),
            GlmWeights::from_bytes(file.to_vec()).is_ok(),
        ];
        for (count, ok) in taken.iter_mut().zip(results) {
            *count += u64::from(ok);
        }
    };
    // Long files have more places that the reader refuses.
    let counts = sweep((suite.seed(), tries), &seeds, (1, &[]), Default::default, count);
    let taken = [0, 1, 2, 3].map(|of| counts.iter().map(|taken| taken[of]).sum::<u64>());
    tell("gguf model mutations", tries, start);
    assert!(tries < LOADED || taken.iter().all(|&count| count > 10), "{taken:?}");
}

fn tell(name: &str, tries: u64, start: Instant) {
    let rate = tries as f64 / start.elapsed().as_secs_f64();
    let _ = writeln!(std::io::stderr(), "{name}: {tries} executions, {rate:.0} a second");
}
