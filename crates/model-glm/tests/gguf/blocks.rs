//! Models of quantised blocks: held as they are stored, or widened.

use std::num::NonZeroU32;

use attention::KvDType;
use device_mem::{DType, Device};
use kernels_nn::BlockType;
use model_glm::gguf::Gguf;
use model_glm::{GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions, MemoryBudget, Sequence};
use parity::{Tolerance, compare, uniform};

use crate::builder::Builder;
use crate::convert::{Checkpoint, F32};

/// ggml's numbers of the formats.
const NUMBERS: [(BlockType, u32); 7] = [
    (BlockType::Q4_0, 2),
    (BlockType::Q5_0, 6),
    (BlockType::Q5_1, 7),
    (BlockType::Q8_0, 8),
    (BlockType::Q4_K, 12),
    (BlockType::Q5_K, 13),
    (BlockType::Q6_K, 14),
];

/// A model of made-up weights whose rows are whole blocks of any format.
fn made_up() -> Checkpoint {
    let config = GlmConfig::from_json(
        r#"{"model_type": "glm", "hidden_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 256, "vocab_size": 64,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "partial_rotary_factor": 0.5,
            "rope_theta": 20000.0}"#,
    )
    .unwrap();
    let shapes: [(&str, &[usize]); 11] = [
        ("token_embd", &[64, 256]),
        ("blk.0.attn_norm", &[256]),
        ("blk.0.attn_q", &[256, 256]),
        ("blk.0.attn_k", &[128, 256]),
        ("blk.0.attn_v", &[128, 256]),
        ("blk.0.attn_output", &[256, 256]),
        ("blk.0.ffn_norm", &[256]),
        ("blk.0.ffn_up", &[512, 256]),
        ("blk.0.ffn_down", &[256, 256]),
        ("output_norm", &[256]),
        ("output", &[64, 256]),
    ];
    let tensors = shapes.iter().enumerate().map(|(seed, (name, shape))| {
        let values = uniform::<f32>(seed as u64, shape.iter().product());
        let scaled =
            values.iter().map(|value| if shape.len() == 1 { 1.0 + value / 4.0 } else { value / 8.0 });
        (format!("{name}.weight"), shape.to_vec(), scaled.collect())
    });
    Checkpoint { architecture: "chatglm", tensors: tensors.collect(), config }
}

/// The file with its matrices in blocks, and the checkpoint with what the blocks widen to.
fn quantised(block: BlockType, number: u32) -> (Builder, Checkpoint) {
    quantised_by(|_| (block, number))
}

/// The same with the format that `of` gives for a tensor's name, and ggml's number of it.
fn quantised_by(of: impl Fn(&str) -> (BlockType, u32)) -> (Builder, Checkpoint) {
    let mut checkpoint = made_up();
    let mut file = Builder { tensors: Vec::new(), data: Vec::new(), ..checkpoint.file(F32) };
    for (name, shape, values) in &mut checkpoint.tensors {
        let dims: Vec<u64> = shape.iter().rev().map(|&dim| dim as u64).collect();
        if shape.len() == 1 {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            file = file.tensor(name, &dims, F32, &bytes);
            continue;
        }
        let (block, number) = of(name);
        let mut blocks = vec![0; values.len() / block.block_len() * block.block_bytes()];
        block.quantize(values, &mut blocks).unwrap();
        block.dequantize(&blocks, values).unwrap();
        file = file.tensor(name, &dims, number, &blocks);
    }
    (file, checkpoint)
}

fn options(dtype: Option<DType>) -> LoadOptions<'static> {
    let chunk = NonZeroU32::new(64);
    LoadOptions { dtype, context: Some(64), chunk, ..LoadOptions::default() }
}

fn load(file: &Builder, weights: &GlmWeights, dtype: Option<DType>) -> GlmModel {
    load_on(&Device::Cpu, file, weights, dtype)
}

fn load_on(device: &Device, file: &Builder, weights: &GlmWeights, dtype: Option<DType>) -> GlmModel {
    let config = GlmConfig::from_gguf(&Gguf::read(&file.build()).unwrap()).unwrap();
    let budget = MemoryBudget::of(&config, weights, device, &options(dtype)).unwrap();
    if dtype.is_none() {
        assert_eq!(budget.weights, weights.bytes() as u64, "blocks are counted as they are stored");
    }
    GlmModel::load(config, weights, device, options(dtype)).unwrap()
}

fn logits(model: &GlmModel, tokens: &[u32]) -> Vec<f32> {
    let mut cache = model.new_cache(64, KvDType::F32).unwrap();
    let sequence = Sequence { tokens, cache: &mut cache, position_offset: 0 };
    model.forward_all(sequence, None).unwrap().to_host_vec().unwrap()
}

#[test]
fn every_format_is_held_as_stored_or_widened() {
    assert_eq!(NUMBERS.len(), BlockType::ALL.len());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let (few, many): (Vec<u32>, Vec<u32>) = ((0..4).collect(), (0..48).collect());
    for (block, number) in NUMBERS {
        let (file, widened) = quantised(block, number);
        let bytes = file.build();
        std::fs::write(&path, &bytes).unwrap();
        let (memory, mapped) = (GlmWeights::from_bytes(bytes).unwrap(), GlmWeights::open(&path).unwrap());
        let stored = &memory.tensors()["blk.0.ffn_up.weight"];
        assert_eq!(
            (stored.dtype.as_str(), stored.bytes()),
            (block.name(), 512 * 256 / block.block_len() * block.block_bytes())
        );

        let wide_file = widened.file(F32);
        let wide_weights = GlmWeights::from_bytes(wide_file.build()).unwrap();
        let expected = load(&wide_file, &wide_weights, None);
        for weights in [&memory, &mapped] {
            let wide = load(&file, weights, Some(DType::F32));
            assert_eq!(logits(&wide, &few), logits(&expected, &few), "{block} widened to f32");
            let bf16 = load(&file, weights, Some(DType::BF16));
            let rounded = load(&wide_file, &wide_weights, Some(DType::BF16));
            assert_eq!(logits(&bf16, &few), logits(&rounded, &few), "{block} rounded to bf16");

            let held = load(&file, weights, None);
            // Tokens are rounded to 8 bits, few of them and many.
            for tokens in [&few, &many] {
                let (found, exact) = (logits(&held, tokens), logits(&expected, tokens));
                assert_ne!(found, exact, "{block}: tokens are rounded");
                let largest = exact.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
                compare(&exact, &found, Tolerance::Absolute(0.05 * f64::from(largest)))
                    .unwrap_or_else(|far| panic!("{block}: {far}"));
            }
        }
    }
}

#[test]
fn a_scale_that_is_not_finite_is_told() {
    let (file, _) = quantised(BlockType::Q8_0, 8);
    let mut bytes = file.build();
    let place = Gguf::read(&bytes).unwrap().tensor("blk.0.attn_k.weight").unwrap().bytes();
    // The scale of the third block.
    bytes[place.start + 68..][..2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
    let config = GlmConfig::from_gguf(&Gguf::read(&bytes).unwrap()).unwrap();
    let weights = GlmWeights::from_bytes(bytes).unwrap();
    let error = GlmModel::load(config, &weights, &Device::Cpu, options(None)).unwrap_err();
    let GlmError::NotFinite { tensor, index, .. } = &error else { panic!("{error}") };
    assert_eq!((tensor.as_str(), index / 32), ("blk.0.attn_k.weight", 2));
}

/// The formats of a `Q4_K_M` file.
fn medium(name: &str) -> (BlockType, u32) {
    let has_more_bits = ["attn_v", "ffn_down", "output.weight"].iter().any(|part| name.contains(part));
    if has_more_bits { (BlockType::Q6_K, 14) } else { (BlockType::Q4_K, 12) }
}

/// A device rounds tokens to 8 bits as the CPU does, which changes a logit by less than 5 % of the largest. Of both the levels are the
/// same, but where an activation that sums in another order lies at the edge between two: that changes one element of 256 by a
/// level, which is within 1 % of the largest logit; with none it is far within 1e-4.
#[test]
fn a_device_multiplies_blocks_as_the_cpu_does() {
    for (file, widened) in [quantised(BlockType::Q8_0, 8), quantised_by(medium)] {
        let weights = GlmWeights::from_bytes(file.build()).unwrap();
        let wide_file = widened.file(F32);
        let wide_weights = GlmWeights::from_bytes(wide_file.build()).unwrap();
        let on_cpu = load(&file, &weights, None);
        for device in parity::devices().unwrap() {
            let held = load_on(&device, &file, &weights, None);
            let wide = load_on(&device, &wide_file, &wide_weights, None);
            for tokens in [vec![5, 3, 60], Vec::from_iter(0..16)] {
                let (expected, found) = (logits(&wide, &tokens), logits(&held, &tokens));
                let largest = f64::from(expected.iter().fold(0.0_f32, |largest, y| largest.max(y.abs())));
                compare(&expected, &found, Tolerance::Absolute(0.05 * largest))
                    .unwrap_or_else(|far| panic!("{device}: {far}"));
                compare(&logits(&on_cpu, &tokens), &found, Tolerance::Absolute(0.01 * largest))
                    .unwrap_or_else(|far| panic!("{device} and the CPU: {far}"));
            }
        }
    }
}
