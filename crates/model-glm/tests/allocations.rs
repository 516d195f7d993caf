//! What a decoded token allocates on the CPU: nothing.
//!
//! Counted is every allocation of the process from the second token after a prompt on, by the calling thread and by those of the
//! pool alike. The answer is generated on a thread of the pool: from outside, rayon takes a block of memory for each 63 calls
//! that are handed to it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;

use attention::KvDType;
use device_mem::Device;
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::gguf::{ConvertOptions, FileType, convert};
use model_glm::{GenerateOptions, GlmConfig, GlmModel, GlmWeights, LoadOptions, Next, generate};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Longer than a span of keys, so that there are some to be merged.
const PROMPT: u32 = 600;
const STEPS: usize = 24;

/// Allocations of each step of an answer.
fn allocations(model: &GlmModel, sampler: SamplerConfig) -> Vec<usize> {
    let mut cache = model.new_cache(1024, KvDType::BF16).unwrap();
    let vocab = u32::try_from(model.config().vocab_size).unwrap();
    let prompt = Vec::from_iter((0..PROMPT).map(|at| at * 7 % vocab));
    let sampler = Sampler::new(sampler).unwrap();
    let options = GenerateOptions { max_tokens: STEPS + 1, sampler, stop_ids: &[] };
    let mut counts = Vec::with_capacity(STEPS + 1);
    let count = |_| {
        let stats = ALLOCATOR.stats();
        counts.push(stats.allocations + stats.reallocations);
        Ok(Next::Continue)
    };
    rayon::scope(|_| generate(model, &mut cache, &prompt, options, count)).unwrap();
    counts.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn further_tokens_allocate_nothing() {
    let greedy = SamplerConfig::default();
    let drawn = SamplerConfig { temperature: 1.0, top_k: 20, top_p: 0.9, seed: 1 };
    let folder = parity::golden_dir().join("glm4");
    for file_type in [FileType::BF16, FileType::Q8_0, FileType::Q4_0] {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("model.gguf");
        convert(&folder, &path, ConvertOptions { file_type, overwrite: false, progress: None }).unwrap();
        let (config, weights) = (GlmConfig::open(&path).unwrap(), GlmWeights::open(&path).unwrap());
        let options = LoadOptions { context: Some(1024), ..LoadOptions::default() };
        let model = GlmModel::load(config, &weights, &Device::Cpu, options).unwrap();
        for sampler in [greedy, drawn] {
            let [_, further @ ..] = &allocations(&model, sampler)[..] else { panic!("no step") };
            assert_eq!(further, [0; STEPS - 1], "{} {sampler:?}", file_type.name());
        }
    }
}
