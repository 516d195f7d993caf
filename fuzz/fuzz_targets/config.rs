//! `config.json` and `generation_config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model_glm::GlmConfig;

fuzz_target!(|text: &str| {
    if let Ok(mut config) = GlmConfig::from_json(text) {
        let _ = config.add_stop_ids(text);
        assert!(config.stop_ids.iter().all(|&id| (id as usize) < config.vocab_size));
    }
});
