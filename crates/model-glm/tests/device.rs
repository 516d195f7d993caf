//! What a forward pass moves and launches on a device, what it refuses there, and that all devices agree to the bit.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use attention::{AttentionError, KvDType};
use device_mem::{DType, Device};
use kernels_nn::NnError;
use model_glm::{GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions};
use parity::golden_dir;

const PROMPT: [u32; 5] = [11, 250, 7, 7, 96];

fn config(checkpoint: &str) -> String {
    std::fs::read_to_string(golden_dir().join(checkpoint).join("config.json")).unwrap()
}

fn load(device: &Device, checkpoint: &str, config: &str) -> Result<GlmModel, GlmError> {
    let weights = GlmWeights::open(&golden_dir().join(checkpoint)).unwrap();
    let options = LoadOptions { dtype: Some(DType::BF16), context: Some(512), ..LoadOptions::default() };
    GlmModel::load(GlmConfig::from_json(config).unwrap(), &weights, device, options)
}

fn model(device: &Device, checkpoint: &str) -> GlmModel {
    load(device, checkpoint, &config(checkpoint)).unwrap()
}

#[test]
fn a_forward_pass_uploads_ids_and_positions_and_downloads_logits() {
    for (device, checkpoint) in
        parity::devices().unwrap().into_iter().flat_map(|device| [(device.clone(), "glm4"), (device, "glm")])
    {
        let model = model(&device, checkpoint);
        let mut cache = model.new_cache(300, KvDType::BF16).unwrap();
        for tokens in [&PROMPT[..], &PROMPT[..1]] {
            let before = device.transfers();
            let logits = model.forward(tokens, &mut cache).unwrap();
            let mut expected = before;
            expected.uploads += 2;
            expected.uploaded_bytes += 2 * 4 * tokens.len() as u64;
            expected.synchronisations += 2;
            // Embedding, first norm and output; per layer 11, whatever the number of tokens.
            expected.launches += 3 + 11 * model.config().layers as u64;
            // Ids, positions, hidden state, 8 scratch buffers and logits; none per layer.
            expected.allocations += 12;
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
fn all_devices_give_the_same_bits() {
    // Beyond a chunk of keys, single tokens are shared out among blocks.
    for (checkpoint, prompt) in [("glm4", 255), ("glm", 20), ("chatglm_orig", 20)] {
        let run = |device: &Device| {
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
    for device in [vec![Device::Cpu], parity::devices().unwrap()].concat() {
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
        let error = load(&device, "glm4", &wide).unwrap_err();
        let expected = AttentionError::HeadDim { found: 320, most: 256 };
        assert!(
            matches!(&error, GlmError::Attention(found) if found.to_string() == expected.to_string()),
            "{error}"
        );
        assert_eq!(device.transfers(), before);
    }
}
