//! The golden logits notice mistakes: each is made in the config, the weights or the call of a checkpoint, as the code could make
//! it, and moves the logits further than the bound that the unchanged checkpoint keeps.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod checkpoint;
mod list;

use attention::KvDType;
use device_mem::{Device, RanOn};
use model_glm::{GlmConfig, GlmModel, GlmWeights, LoadOptions, Sequence};
use parity::{Golden, Tolerance, compare};

use crate::checkpoint::Checkpoint;
use crate::list::{Family, Mistake, mistakes};

/// Of f32 arithmetic against the f64 logits, as in the golden tests.
const LOGITS: f64 = 1e-4;

/// Logits of the checkpoint for a prompt in one pass, or with the tokens from a place on further along by an offset.
fn logits(checkpoint: &Checkpoint, tokens: &[u32], offset: Option<(usize, u32)>) -> Vec<f32> {
    let config = GlmConfig::from_json(&checkpoint.config.to_string()).unwrap();
    let weights = GlmWeights::from_bytes(checkpoint.bytes()).unwrap();
    let model = GlmModel::load(config, &weights, &Device::Cpu, LoadOptions::default()).unwrap();
    assert_eq!(model.ran_on(), RanOn::Cpu);
    let mut cache = model.new_cache(64, KvDType::F32).unwrap();
    let (split, offset) = offset.unwrap_or((tokens.len(), 0));
    let mut found = Vec::new();
    for (part, position_offset) in [(&tokens[..split], 0), (&tokens[split..], offset)] {
        if !part.is_empty() {
            let sequence = Sequence { tokens: part, cache: &mut cache, position_offset };
            found.extend(model.forward_all(sequence, None).unwrap().to_host_vec().unwrap());
        }
    }
    found
}

struct Expected {
    tokens: Vec<u32>,
    logits: Vec<f64>,
}

fn expected(family: Family) -> Expected {
    let golden = Golden::open(&format!("{}/golden.safetensors", family.outputs())).unwrap();
    let ids = golden.i64("p1.input_ids").unwrap();
    let tokens = ids.iter().map(|&id| u32::try_from(id).unwrap()).collect();
    Expected { tokens, logits: golden.f64("p1.logits_f64").unwrap() }
}

#[test]
fn unchanged_checkpoints_keep_the_bound() {
    for family in Family::ALL {
        let Expected { tokens, logits: expected } = expected(family);
        let checkpoint = Checkpoint::open(family.folder());
        for offset in [None, Some((2, 0))] {
            let found = logits(&checkpoint, &tokens, offset);
            compare(&expected, &found, Tolerance::Absolute(LOGITS)).unwrap();
        }
    }
}

#[test]
fn every_mistake_is_noticed() {
    let mut missed = Vec::new();
    for family in Family::ALL {
        let Expected { tokens, logits: expected } = expected(family);
        for Mistake { name, make, offset } in mistakes(family) {
            let mut checkpoint = Checkpoint::open(family.folder());
            make(&mut checkpoint);
            let found = logits(&checkpoint, &tokens, offset);
            if compare(&expected, &found, Tolerance::Absolute(LOGITS)).is_ok() {
                missed.push(format!("{}: {name}", family.folder()));
            }
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:#?}");
}

#[test]
fn every_family_has_each_mistake_that_it_can_have() {
    for family in Family::ALL {
        let names = Vec::from_iter(mistakes(family).into_iter().map(|mistake| mistake.name));
        for part in
            ["pairing", "width", "theta", "sign", "offset", "qkv", "gate", "norm", "eps", "head", "scale"]
        {
            assert!(names.iter().any(|name| name.contains(part)), "{}: no {part}", family.folder());
        }
        let biased = family != Family::Glm4;
        assert_eq!(names.iter().any(|name| name.contains("bias")), biased, "{}", family.folder());
        assert!(names.len() >= 20, "{}: {}", family.folder(), names.len());
    }
}
