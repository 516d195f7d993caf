//! `tokenizer.json`, and a text for what is taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model_glm::Tokenizer;

fuzz_target!(|text: &str| {
    let Ok(tokenizer) = Tokenizer::from_json(text) else { return };
    let Ok(ids) = tokenizer.encode("ab <sop> \u{667a}\0") else { return };
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    let _ = tokenizer.decode(&ids);
});
