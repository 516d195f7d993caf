//! Files of safetensors: read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model_glm::GlmWeights;

fuzz_target!(|file: &[u8]| {
    if let Ok(weights) = GlmWeights::from_bytes(file.to_vec()) {
        assert!(weights.bytes() <= file.len());
    }
});
