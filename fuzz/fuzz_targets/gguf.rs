//! GGUF files, and what a model takes from them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model_glm::gguf::Gguf;
use model_glm::{ChatTemplate, GlmConfig, GlmWeights, Tokenizer};

fuzz_target!(|file: &[u8]| {
    let Ok(gguf) = Gguf::read(file) else { return };
    assert!(gguf.tensors().iter().all(|tensor| tensor.bytes().end <= file.len()));
    let _ = GlmWeights::from_bytes(file.to_vec());
    let _ = GlmConfig::from_gguf(&gguf);
    let _ = ChatTemplate::from_gguf(&gguf);
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
        let _ = tokenizer.encode("ab <sop> \u{667a}");
    }
});
