//! How far `Q8_0` files are from `F32` files of the same checkpoint: the divergence of Kullback and Leibler, as llama.cpp's
//! `llama-perplexity --kl-divergence` counts it, of the next token's probabilities.

use std::fs;
use std::path::Path;

use attention::KvDType;
use device_mem::Device;
use model_glm::gguf::FileType;
use model_glm::{GlmConfig, GlmModel, GlmWeights, LoadOptions, Sequence, Tokenizer};
use parity::{SplitMix64, golden_dir};

use crate::written::written;

/// Nats that a token's probabilities may be off on average, where a checkpoint's weights are random; the toy is trained.
const MOST_OF_RANDOM: f64 = 2e-2;
const MOST_OF_TOY: f64 = 1.5e-3;
const TOKENS: usize = 96;

fn load(path: &Path) -> GlmModel {
    let (config, weights) = (GlmConfig::open(path).unwrap(), GlmWeights::open(path).unwrap());
    let options = LoadOptions { context: Some(128), ..LoadOptions::default() };
    GlmModel::load(config, &weights, &Device::Cpu, options).unwrap()
}

/// Logits behind each token, in pieces of so many tokens.
fn logits(model: &GlmModel, tokens: &[u32], piece: usize) -> Vec<f32> {
    let mut cache = model.new_cache(128, KvDType::F32).unwrap();
    let pieces = tokens.chunks(piece).map(|tokens| {
        let sequence = Sequence { tokens, cache: &mut cache, position_offset: 0 };
        model.forward_all(sequence, None).unwrap().to_host_vec().unwrap()
    });
    pieces.collect::<Vec<_>>().concat()
}

/// Logarithms of the probabilities that logits stand for.
fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |largest, &logit| largest.max(f64::from(logit)));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit) - largest - sum.ln()).collect()
}

/// `sum p (ln p - ln q)`, on average over rows of `vocab`.
fn divergence(truth: &[f32], found: &[f32], vocab: usize) -> f64 {
    assert_eq!(truth.len(), found.len());
    let rows = truth.chunks_exact(vocab).zip(found.chunks_exact(vocab));
    let of_rows = rows.map(|(truth, found)| {
        let (truth, found) = (log_probabilities(truth), log_probabilities(found));
        truth.iter().zip(found).map(|(&p, q)| p.exp() * (p - q)).sum::<f64>()
    });
    of_rows.sum::<f64>() / (truth.len() / vocab) as f64
}

/// Of a `Q8_0` file, which rounds tokens to 8 bits as well, where they come one by one, and all at once.
fn expect_near(folder: &Path, tokens: &[u32], most: f64) {
    let out = tempfile::tempdir().unwrap();
    let [exact, rounded] =
        [FileType::F32, FileType::Q8_0].map(|kind| load(&written(folder, kind, out.path())));
    let vocab = GlmConfig::open(folder).unwrap().vocab_size;
    for piece in [1, TOKENS] {
        let found = divergence(&logits(&exact, tokens, piece), &logits(&rounded, tokens, piece), vocab);
        println!("{}: {found:.2e} nats in pieces of {piece}", folder.display());
        assert!(found > 0.0 && found <= most, "{} in pieces of {piece}: {found:.2e}", folder.display());
    }
}

#[test]
fn q8_0_stays_near_f32() {
    for checkpoint in ["glm4", "glm", "chatglm_orig"] {
        let folder = golden_dir().join(checkpoint);
        let vocab = u32::try_from(GlmConfig::open(&folder).unwrap().vocab_size).unwrap();
        let mut random = SplitMix64::new(7);
        let tokens: Vec<u32> = (0..TOKENS).map(|_| random.below(vocab)).collect();
        expect_near(&folder, &tokens, MOST_OF_RANDOM);
    }
}

#[test]
fn the_toys_q8_0_stays_near_f32_on_what_it_knows() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../glm/demo");
    let text = fs::read_to_string(demo.join("qa.json")).unwrap();
    let mut tokens = Tokenizer::open(&demo).unwrap().encode(&text).unwrap();
    tokens.truncate(TOKENS);
    assert_eq!(tokens.len(), TOKENS);
    expect_near(&demo, &tokens, MOST_OF_TOY);
}
