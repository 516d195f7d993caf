//! What a forward pass moves and launches on a device, what it refuses there, and that all devices agree to the bit.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroU32;

use attention::{AttentionError, KvDType};
use device_mem::{DType, Device, Graph, MemError};
use kernels_nn::{NnError, Sampler, SamplerConfig};
use model_glm::{GenerateOptions, GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions, Next, generate};
use parity::{Gpu, golden_dir};
use safetensors::SafeTensors;

const PROMPT: [u32; 5] = [11, 250, 7, 7, 96];

fn config(checkpoint: &str) -> String {
    std::fs::read_to_string(golden_dir().join(checkpoint).join("config.json")).unwrap()
}

/// With room for `chunk` tokens at once; 0 takes what is taken unasked.
fn load(device: &Device, checkpoint: &str, config: &str, chunk: u32) -> Result<GlmModel, GlmError> {
    let weights = GlmWeights::open(&golden_dir().join(checkpoint)).unwrap();
    let options = LoadOptions {
        dtype: Some(DType::BF16),
        context: Some(512),
        chunk: NonZeroU32::new(chunk),
        ..LoadOptions::default()
    };
    GlmModel::load(GlmConfig::from_json(config).unwrap(), &weights, device, options)
}

fn model(device: &Device, checkpoint: &str) -> GlmModel {
    load_in_pieces(device, checkpoint, 0)
}

fn load_in_pieces(device: &Device, checkpoint: &str, chunk: u32) -> GlmModel {
    load(device, checkpoint, &config(checkpoint), chunk).unwrap()
}

fn devices_and(checkpoints: [&'static str; 2]) -> impl Iterator<Item = (Gpu, &'static str)> {
    let devices = parity::devices().unwrap();
    devices.into_iter().flat_map(move |device| checkpoints.map(|checkpoint| (device.clone(), checkpoint)))
}

/// Launches of a pass, whatever the number of tokens: embedding, first norm, output, and 11 per layer.
fn launches(model: &GlmModel) -> u64 {
    3 + 11 * model.config().layers as u64
}

/// Launches of a decoded token: embedding, output, choice and length, and per layer norms and q, k, v; attention; its output;
/// norms, gate, up and SwiGLU; down.
fn step_launches(model: &GlmModel) -> u64 {
    4 + 5 * model.config().layers as u64
}

/// Whether steps are replayed as graphs there.
fn has_graphs(device: &Device) -> bool {
    let Device::Hip(hip) = device else { return false };
    match Graph::record(hip, || Ok::<(), MemError>(())) {
        Ok(_) => true,
        Err(MemError::NoGraphs { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_forward_pass_uploads_ids_and_allocates_and_downloads_logits() {
    for (device, checkpoint) in devices_and(["glm4", "glm"]) {
        let model = model(&device, checkpoint);
        let mut cache = model.new_cache(300, KvDType::BF16).unwrap();
        for tokens in [&PROMPT[..], &PROMPT[..1]] {
            let before = device.transfers();
            let logits = model.forward(tokens, &mut cache).unwrap();
            let mut expected = before;
            expected.uploads += 1;
            expected.uploaded_bytes += 4 * tokens.len() as u64;
            expected.synchronisations += 1;
            expected.launches += launches(&model);
            expected.allocations += 1;
            assert_eq!(device.transfers(), expected, "{checkpoint} on {device}");

            logits.to_host_vec().unwrap();
            expected.downloads += 1;
            expected.downloaded_bytes += 4 * model.config().vocab_size as u64;
            expected.synchronisations += 1;
            assert_eq!(device.transfers(), expected, "{checkpoint} on {device}");
        }
    }
}

#[test]
fn a_decoded_token_is_one_download_of_four_bytes_and_nothing_else() {
    for (device, checkpoint) in devices_and(["glm4", "glm"]) {
        let model = model(&device, checkpoint);
        // Attention takes keys in chunks of 256.
        let mut cache = model.new_cache(300, KvDType::BF16).unwrap();
        model.forward(&Vec::from_iter((0..254).map(|token| token * 37 % 256)), &mut cache).unwrap();
        for config in SAMPLERS {
            cache.truncate(254).unwrap();
            let sampler = Sampler::new(config).unwrap();
            let options = GenerateOptions { max_tokens: 4, sampler, stop_ids: &[] };
            let mut seen = Vec::new();
            generate(&model, &mut cache, &PROMPT[..1], options, |_| {
                seen.push(device.transfers());
                Ok(Next::Continue)
            })
            .unwrap();
            assert_eq!((seen.len(), cache.len()), (4, 254 + 4));
            for (step, pair) in seen.windows(2).enumerate() {
                let mut expected = pair[0];
                expected.launches += step_launches(&model);
                // The first step loads kernels.
                expected.graph_launches += u64::from(step > 0 && has_graphs(&device));
                expected.downloads += 1;
                expected.downloaded_bytes += 4;
                expected.synchronisations += 1;
                assert_eq!(pair[1], expected, "{checkpoint} on {device}");
            }
        }
    }
}

const SAMPLERS: [SamplerConfig; 2] = [
    SamplerConfig { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
    SamplerConfig { temperature: 1.3, top_k: 40, top_p: 0.95, seed: 7 },
];

#[test]
fn tokens_drawn_on_a_device_are_those_that_the_sampler_draws_from_its_logits() {
    for device in parity::cpu_and_devices().unwrap() {
        let model = model(&device, "glm4");
        for seed in [1, u64::MAX] {
            let config = SamplerConfig { temperature: 1.3, top_k: 0, top_p: 0.9, seed };
            let sampler = Sampler::new(config).unwrap().at_step(3);
            let mut cache = model.new_cache(32, KvDType::BF16).unwrap();
            let options = GenerateOptions { max_tokens: 4, sampler: sampler.clone(), stop_ids: &[] };
            let drawn = generate(&model, &mut cache, &PROMPT, options, |_| Ok(Next::Continue)).unwrap();

            let (mut sampler, mut cache) = (sampler, model.new_cache(32, KvDType::BF16).unwrap());
            let (mut expected, mut tokens) = (Vec::<u32>::new(), PROMPT.to_vec());
            while expected.len() < 4 {
                let logits = model.forward(&tokens, &mut cache).unwrap().to_host_vec().unwrap();
                tokens = vec![sampler.sample(&logits).unwrap()];
                expected.extend(&tokens);
            }
            assert_eq!(drawn.tokens, expected, "seed {seed} on {device}");
        }
    }
}

#[test]
fn a_prompt_in_pieces_gives_the_bits_of_one_at_once() {
    for device in parity::cpu_and_devices().unwrap() {
        let prompt = Vec::from_iter((0..100).map(|token| token * 37 % 256));
        let logits = |chunk| {
            let model = load_in_pieces(&device, "glm4", chunk);
            let mut cache = model.new_cache(100, KvDType::BF16).unwrap();
            let before = device.transfers();
            let logits = model.forward(&prompt, &mut cache).unwrap();
            let passes = 100_u64.div_ceil(chunk.into());
            let after = device.transfers();
            if matches!(device, Device::Hip(_)) {
                let launched = passes * (launches(&model) - 1) + 1;
                assert_eq!(after.launches - before.launches, launched, "{device}");
                assert_eq!(after.uploads - before.uploads, passes, "{device}");
                assert_eq!(after.uploaded_bytes - before.uploaded_bytes, 4 * 100, "{device}");
            }
            assert_eq!(cache.len(), 100);
            logits.to_host_vec().unwrap()
        };
        let [whole, pieces] = [512, 32].map(logits);
        assert!(whole.iter().zip(&pieces).all(|(a, b)| a.to_bits() == b.to_bits()), "{device}");
    }
}

#[test]
fn a_prompt_that_fails_after_some_pieces_leaves_the_cache_as_it_was() {
    // The output layer's first row is NaN, so that no token can be drawn after the last piece.
    let mut file = std::fs::read(golden_dir().join("glm4/model.safetensors")).unwrap();
    let row = {
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let output = tensors.tensor("lm_head.weight").unwrap();
        let start = output.data().as_ptr().addr() - file.as_ptr().addr();
        start..start + output.data().len() / output.shape()[0]
    };
    file[row].fill(0xff);
    let weights = GlmWeights::from_bytes(file).unwrap();
    for device in parity::cpu_and_devices().unwrap() {
        let config = GlmConfig::from_json(&config("glm4")).unwrap();
        let chunk = NonZeroU32::new(2);
        let options =
            LoadOptions { context: Some(512), chunk, allow_non_finite: true, ..LoadOptions::default() };
        let model = GlmModel::load(config, &weights, &device, options).unwrap();
        let mut cache = model.new_cache(32, KvDType::BF16).unwrap();
        model.forward(&PROMPT[..1], &mut cache).unwrap();
        for config in SAMPLERS {
            let options =
                GenerateOptions { max_tokens: 5, sampler: Sampler::new(config).unwrap(), stop_ids: &[] };
            let error = generate(&model, &mut cache, &PROMPT, options, |_| Ok(Next::Continue)).unwrap_err();
            let refused = matches!(error, GlmError::Nn(NnError::Logit { id: 0, found }) if found.is_nan());
            assert!(refused, "{error:?} on {device}");
            assert_eq!(cache.len(), 1, "{device}");
        }
        model.forward(&PROMPT, &mut cache).unwrap();
        assert_eq!(cache.len(), 6, "{device}");
    }
}

#[test]
fn all_devices_give_the_same_bits() {
    // Beyond a chunk of keys, single tokens are shared out among blocks.
    for (checkpoint, prompt) in [("glm4", 255), ("glm", 20), ("chatglm_orig", 20)] {
        let run = |device: &Gpu| {
            let model = model(device, checkpoint);
            let mut cache = model.new_cache(300, KvDType::BF16).unwrap();
            let prompt = Vec::from_iter((0..prompt).map(|token| token * 37 % 256));
            model.forward(&prompt, &mut cache).unwrap();
            let logits =
                PROMPT.map(|token| model.forward(&[token], &mut cache).unwrap().to_host_vec().unwrap());
            assert_eq!(cache.len() as usize, prompt.len() + PROMPT.len());
            logits.concat().iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
        };
        let results: Vec<_> = parity::devices().unwrap().iter().map(run).collect();
        assert!(results.iter().all(|result| *result == results[0]), "{checkpoint}");
    }
}

#[test]
fn a_token_outside_the_vocabulary_is_refused_before_anything_runs() {
    for device in parity::cpu_and_devices().unwrap() {
        let model = model(&device, "glm4");
        let mut cache = model.new_cache(8, KvDType::BF16).unwrap();
        let before = device.transfers().launches;
        let error = model.forward(&[3, 256, 1], &mut cache).unwrap_err();
        assert!(matches!(error, GlmError::Nn(NnError::TokenId { id: 256, index: 1, vocab: 256 })), "{error}");
        assert_eq!((device.transfers().launches, cache.len()), (before, 0));
        model.forward(&[3, 255, 1], &mut cache).unwrap();
        assert_eq!(cache.len(), 3);
    }
}

#[test]
fn heads_too_wide_for_a_device_are_refused_before_weights_are_moved() {
    let wide = config("glm4").replace("\"head_dim\": 32", "\"head_dim\": 320");
    for device in parity::devices().unwrap() {
        let before = device.transfers();
        let error = load(&device, "glm4", &wide, 0).unwrap_err();
        let expected = AttentionError::HeadDim { found: 320, most: 256 };
        assert!(
            matches!(&error, GlmError::Attention(found) if found.to_string() == expected.to_string()),
            "{error}"
        );
        assert_eq!(device.transfers(), before);
    }
}
