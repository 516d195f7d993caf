//! The golden checkpoints: transformers' outputs and an independent f64 reference, on the CPU and on every device that
//! `PARITY_DEVICES` lists: by default the kernels' sources compiled for the host, and the images executed by the emulator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use attention::KvDType;
use device_mem::{DType, Device, DeviceBuffer, RanOn};
use kernels_nn::{Sampler, SamplerConfig};
use kernels_rope::{HeadsMut, Layout, Positions, RopeTable, apply_rope};
use model_glm::{
    GenerateOptions, GlmConfig, GlmModel, GlmWeights, LoadOptions, Next, Observer, Sequence, StopReason,
    generate,
};
use parity::{Golden, Tolerance, compare, golden_dir};

/// Checkpoint, and the one whose outputs it must give.
const CHECKPOINTS: [(&str, &str); 3] = [("glm4", "glm4"), ("glm", "glm"), ("chatglm_orig", "glm")];

/// Of f32 arithmetic against the f64 logits, which lie within 11; the notes of the golden data derive it.
const LOGITS: f64 = 1e-4;

/// The CPU, and the devices under test.
fn devices() -> Vec<Device> {
    parity::cpu_and_devices().unwrap()
}

/// Each checkpoint, with the one whose outputs it must give, on each device.
fn cases() -> Vec<(Device, &'static str, &'static str)> {
    let on_each =
        |device: Device| CHECKPOINTS.map(|(checkpoint, outputs)| (device.clone(), checkpoint, outputs));
    devices().into_iter().flat_map(on_each).collect()
}

fn ran_on(device: &Device) -> RanOn {
    match device {
        Device::Cpu => RanOn::Cpu,
        Device::Hip(_) => RanOn::Hip,
    }
}

fn folder(checkpoint: &str) -> PathBuf {
    golden_dir().join(checkpoint)
}

fn golden(outputs: &str) -> Golden {
    Golden::open(&format!("{outputs}/golden.safetensors")).unwrap()
}

fn model(device: &Device, checkpoint: &str, config: &str, dtype: Option<DType>) -> GlmModel {
    let text = std::fs::read_to_string(folder(checkpoint).join(config)).unwrap();
    model_of(device, checkpoint, &text, dtype)
}

fn model_of(device: &Device, checkpoint: &str, config: &str, dtype: Option<DType>) -> GlmModel {
    let config = GlmConfig::from_json(config).unwrap();
    let weights = GlmWeights::open(&folder(checkpoint)).unwrap();
    let options = LoadOptions { dtype, context: Some(131_200), ..LoadOptions::default() };
    let model = GlmModel::load(config, &weights, device, options).unwrap();
    assert_eq!(model.ran_on(), ran_on(device));
    model
}

fn ids(golden: &Golden, name: &str) -> Vec<u32> {
    golden.i64(name).unwrap().iter().map(|&id| u32::try_from(id).unwrap()).collect()
}

fn all_logits(model: &GlmModel, tokens: &[u32], position_offset: u32) -> Vec<f32> {
    let mut cache = model.new_cache(64, KvDType::F32).unwrap();
    let sequence = Sequence { tokens, cache: &mut cache, position_offset };
    model.forward_all(sequence, None).unwrap().to_host_vec().unwrap()
}

/// Within a bound, also where two passes of one model are compared: `linear` adds few tokens in one order and many in another
/// one, and the numbers of tokens differ.
fn near<E: parity::Number>(what: &str, expected: &[E], found: &[f32], bound: f64) {
    if let Err(mismatch) = compare(expected, found, Tolerance::Absolute(bound)) {
        panic!("{what}: {mismatch}");
    }
}

#[test]
fn logits_of_every_prompt_match_f64_for_both_config_styles() {
    for (device, checkpoint, outputs) in cases() {
        let golden = golden(outputs);
        let configs: &[&str] =
            if checkpoint == outputs { &["config.json", "config.legacy.json"] } else { &["config.json"] };
        for config in configs {
            let model = model(&device, checkpoint, config, None);
            for prompt in ["p0", "p1", "p2"] {
                let found = all_logits(&model, &ids(&golden, &format!("{prompt}.input_ids")), 0);
                let expected = golden.f64(&format!("{prompt}.logits_f64")).unwrap();
                near(&format!("{checkpoint} {config} {prompt} on {device}"), &expected, &found, LOGITS);
            }
        }
    }
}

#[test]
fn layers_match_and_rotated_heads_match_closely() {
    for (device, checkpoint, outputs) in cases() {
        let (golden, model) = (golden(outputs), model(&device, checkpoint, "config.json", None));
        let mut shown = Shown::default();
        let tokens = ids(&golden, "p1.input_ids");
        let mut cache = model.new_cache(64, KvDType::F32).unwrap();
        let sequence = Sequence { tokens: &tokens, cache: &mut cache, position_offset: 0 };
        model.forward_all(sequence, Some(&mut shown)).unwrap();
        assert_eq!(shown.0.len(), 4 + 7 * model.config().layers, "every tensor is shown once");
        for (name, (shape, found)) in &shown.0 {
            let name = format!("p1.{name}");
            let expected = golden.f32(&name).unwrap();
            assert_eq!(&golden.shape(&name).unwrap(), shape, "{name}");
            // The expected values are transformers' f32, which itself lies up to 1.1e-6 of a tensor's largest element
            // from f64 in q_post and k_post, and 2e-6 in the outputs of layers.
            let rotated = name.ends_with("_post") || name.ends_with(".cos") || name.ends_with(".sin");
            let share = if rotated { 2e-6 } else { 4e-6 };
            let largest =
                expected.iter().fold(1.0, |largest: f64, &value| largest.max(f64::from(value.abs())));
            let bound = share * largest;
            near(&format!("{checkpoint} {name} on {device}"), &expected, found, bound);
        }
    }
}

#[test]
fn rotating_the_golden_heads_gives_the_golden_rotation() {
    for outputs in ["glm4", "glm"] {
        let golden = golden(outputs);
        let config = GlmConfig::open(&folder(outputs)).unwrap();
        let heads = || (0..config.layers).flat_map(|layer| [(layer, "q"), (layer, "k")]);
        for (device, (layer, side)) in
            devices().into_iter().flat_map(|device| heads().map(move |head| (device.clone(), head)))
        {
            let table = RopeTable::new(&config.rope, 16, &device).unwrap();
            let name = format!("p1.layer{layer}.{side}");
            let shape = golden.shape(&format!("{name}_pre")).unwrap();
            let [heads, tokens, head_dim] = [0, 1, 2].map(|axis| u32::try_from(shape[axis]).unwrap());
            let before = golden.f32(&format!("{name}_pre")).unwrap();
            let mut x = DeviceBuffer::from_host_vec(&device, before).unwrap();
            // [heads, tokens, head_dim] is a strided view of tokens and heads.
            let (token_stride, head_stride) = (u64::from(head_dim), u64::from(tokens * head_dim));
            let layout = Layout { tokens, heads, head_dim, token_stride, head_stride };
            let at = Positions::span(&table, 0, tokens).unwrap();
            apply_rope(&table, HeadsMut::strided(x.as_view_mut().unwrap(), layout).unwrap(), &at).unwrap();
            near(&name, &golden.f32(&format!("{name}_post")).unwrap(), &x.to_host_vec().unwrap(), 2e-6);
        }
    }
}

#[test]
fn greedy_continuations_through_the_cache_are_equal() {
    for (device, checkpoint, outputs) in cases() {
        let (golden, model) = (golden(outputs), model(&device, checkpoint, "config.json", None));
        for prompt in ["p0", "p1", "p2"] {
            let tokens = ids(&golden, &format!("{prompt}.input_ids"));
            let mut cache = model.new_cache(64, KvDType::F32).unwrap();
            let sampler = Sampler::new(SamplerConfig::default()).unwrap();
            let options = GenerateOptions { max_tokens: 16, sampler, stop_ids: &[] };
            let mut seen = Vec::new();
            let answer = generate(&model, &mut cache, &tokens, options, |token| {
                seen.push(token);
                Ok(Next::Continue)
            })
            .unwrap();
            assert_eq!(answer.tokens, ids(&golden, &format!("{prompt}.greedy")), "{checkpoint} {prompt}");
            assert_eq!((answer.ran_on, answer.stop_reason), (ran_on(&device), StopReason::MaxTokens));
            assert_eq!(seen, answer.tokens);
        }
    }
}

#[test]
fn a_packed_batch_equals_a_padded_one() {
    for (device, checkpoint, outputs) in cases() {
        let (golden, model) = (golden(outputs), model(&device, checkpoint, "config.json", None));
        let (first, second) = (ids(&golden, "p0.input_ids"), ids(&golden, "p1.input_ids"));
        let mut caches =
            [model.new_cache(64, KvDType::F32).unwrap(), model.new_cache(64, KvDType::F32).unwrap()];
        let [first_cache, second_cache] = &mut caches;
        let mut batch = [
            Sequence { tokens: &first, cache: first_cache, position_offset: 0 },
            Sequence { tokens: &second, cache: second_cache, position_offset: 0 },
        ];
        let found = model.forward_batch(&mut batch).unwrap();
        assert_eq!((found.rows(), found.vocab()), (2, 256));
        let found = found.to_host_vec().unwrap();
        near(checkpoint, &golden.f32("batch.last_logits").unwrap(), &found, LOGITS);
        assert_eq!(caches.map(|cache| cache.len() as usize), [first.len(), second.len()]);

        let mut alone = model.new_cache(64, KvDType::F32).unwrap();
        let alone = model.forward(&second, &mut alone).unwrap().to_host_vec().unwrap();
        near(
            &format!("{} on {device}", "a sequence does not depend on its neighbours"),
            &alone,
            &found[256..],
            LOGITS,
        );
    }
}

#[test]
fn shifted_positions_match() {
    for (device, checkpoint, outputs) in cases() {
        let (golden, model) = (golden(outputs), model(&device, checkpoint, "config.json", None));
        let tokens = ids(&golden, "p1.input_ids");
        // Far out the reference's own f32 angles are the larger error, so f64 is the truth there as well.
        for (offset, bound) in [(4096, LOGITS), (131_072, 2e-2)] {
            let found = all_logits(&model, &tokens, offset);
            let last = &found[found.len() - 256..];
            let expected = golden.f64(&format!("offset{offset}.last_logits_f64")).unwrap();
            near(&format!("{checkpoint} offset {offset}"), &expected, last, bound);
        }
    }
}

#[test]
fn yarn_matches() {
    let text = std::fs::read_to_string(folder("glm4").join("config.json")).unwrap();
    let yarn = std::fs::read_to_string(folder("glm4").join("yarn.rope_parameters.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["rope_parameters"] = serde_json::from_str(&yarn).unwrap();
    let golden = golden("glm4");
    for device in devices() {
        let model = model_of(&device, "glm4", &config.to_string(), None);
        let found = all_logits(&model, &ids(&golden, "p1.input_ids"), 0);
        near(&format!("yarn on {device}"), &golden.f64("yarn.logits_f64").unwrap(), &found, LOGITS);
    }
}

#[test]
fn sixteen_bit_weights_and_caches_come_near() {
    for (device, checkpoint, outputs) in cases() {
        let golden = golden(outputs);
        let tokens = ids(&golden, "p1.input_ids");
        let exact = golden.f64("p1.logits_f64").unwrap();
        // The weights are exact in bf16, so only the narrow cache rounds.
        let model = model(&device, checkpoint, "config.json", Some(DType::BF16));
        near(checkpoint, &exact, &all_logits(&model, &tokens, 0), LOGITS);
        let mut cache = model.new_cache(64, KvDType::BF16).unwrap();
        let sequence = Sequence { tokens: &tokens, cache: &mut cache, position_offset: 0 };
        let found = model.forward_all(sequence, None).unwrap().to_host_vec().unwrap();
        near(checkpoint, &exact, &found, 0.4);
        assert!(
            compare(&exact, &found, Tolerance::Absolute(LOGITS)).is_err(),
            "{checkpoint}: the cache did not round"
        );
    }
}

#[test]
fn a_prefill_in_pieces_is_one_prefill() {
    let golden = golden("glm4");
    let tokens = ids(&golden, "p2.input_ids");
    for device in devices() {
        let model = model(&device, "glm4", "config.json", None);
        let in_pieces = |len: usize| {
            let mut cache = model.new_cache(64, KvDType::F32).unwrap();
            let mut last = Vec::new();
            for piece in tokens.chunks(len) {
                last = model.forward(piece, &mut cache).unwrap().to_host_vec().unwrap();
            }
            last
        };
        let whole = all_logits(&model, &tokens, 0);
        near(
            &format!("{} on {device}", "a prefill in pieces"),
            &whole[whole.len() - 256..],
            &in_pieces(7),
            LOGITS,
        );
        assert_eq!(in_pieces(7), in_pieces(5), "pieces of few tokens, to the bit, on {device}");
    }
}

#[derive(Default)]
struct Shown(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Observer for Shown {
    fn tensor(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.0.insert(name.to_owned(), (shape.to_vec(), values));
    }
}
