//! Models from GGUF files: the golden logits, the traps of llama.cpp's converters, and files that no model can be made of.

use std::path::Path;

use attention::KvDType;
use device_mem::{DType, Device};
use kernels_rope::{Pairing, Scaling};
use model_glm::gguf::{Gguf, GgufError};
use model_glm::{Architecture, GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions, Sequence};
use parity::{Golden, Tolerance, compare, golden_dir};

use crate::builder::*;
use crate::convert::{BF16, Checkpoint, F16, F32 as TENSOR_F32};

/// Checkpoint, and the one whose outputs it must give.
const CHECKPOINTS: [(&str, &str); 3] = [("glm4", "glm4"), ("glm", "glm"), ("chatglm_orig", "glm")];

fn config_of(file: &Builder) -> Result<GlmConfig, GlmError> {
    GlmConfig::from_gguf(&Gguf::read(&file.build())?)
}

fn load(config: GlmConfig, weights: &GlmWeights, dtype: Option<DType>) -> Result<GlmModel, GlmError> {
    let options = LoadOptions { dtype, context: Some(64), ..LoadOptions::default() };
    GlmModel::load(config, weights, &Device::Cpu, options)
}

fn model_of(file: &Builder) -> Result<GlmModel, GlmError> {
    load(config_of(file)?, &GlmWeights::from_bytes(file.build())?, None)
}

fn folder_model(checkpoint: &str, dtype: Option<DType>) -> GlmModel {
    let folder = golden_dir().join(checkpoint);
    load(GlmConfig::open(&folder).unwrap(), &GlmWeights::open(&folder).unwrap(), dtype).unwrap()
}

fn prompt(golden: &Golden, prompt: &str) -> Vec<u32> {
    let ids = golden.i64(&format!("{prompt}.input_ids")).unwrap();
    ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect()
}

fn logits(model: &GlmModel, tokens: &[u32]) -> Vec<f32> {
    let mut cache = model.new_cache(64, KvDType::F32).unwrap();
    let sequence = Sequence { tokens, cache: &mut cache, position_offset: 0 };
    model.forward_all(sequence, None).unwrap().to_host_vec().unwrap()
}

/// Logits of one prompt, to compare files with each other.
fn some_logits(model: &GlmModel) -> Vec<f32> {
    logits(model, &[3, 1, 4, 1, 5, 9, 2, 6])
}

fn write(folder: &Path, file: &Builder) -> std::path::PathBuf {
    let path = folder.join("model.gguf");
    std::fs::write(&path, file.build()).unwrap();
    path
}

#[test]
fn golden_logits_come_from_a_file_as_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for (name, outputs) in CHECKPOINTS {
        let checkpoint = Checkpoint::open(name);
        let path = write(folder.path(), &checkpoint.file(TENSOR_F32));
        let config = GlmConfig::open(&path).unwrap();
        assert_eq!(config.warnings, [""; 0], "{name}");
        let model = load(config, &GlmWeights::open(&path).unwrap(), None).unwrap();
        let (golden, safetensors) =
            (Golden::open(&format!("{outputs}/golden.safetensors")).unwrap(), folder_model(name, None));
        for which in ["p0", "p1", "p2"] {
            let tokens = prompt(&golden, which);
            let found = logits(&model, &tokens);
            let expected = golden.f64(&format!("{which}.logits_f64")).unwrap();
            compare(&expected, &found, Tolerance::Absolute(1e-4))
                .unwrap_or_else(|far| panic!("{name}: {far}"));
            assert_eq!(found, logits(&safetensors, &tokens), "{name} {which}: bit for bit");
        }
    }
}

#[test]
fn the_config_of_a_file_is_that_of_the_folder() {
    for (name, _) in CHECKPOINTS {
        let checkpoint = Checkpoint::open(name);
        let mut expected = checkpoint.config.clone();
        // GGUF has one architecture for both layouts, and its stop ids with a vocabulary that golden checkpoints lack.
        if expected.architecture == Architecture::Glm {
            expected.architecture = Architecture::ChatGlm;
        }
        expected.stop_ids.clear();
        assert_eq!(config_of(&checkpoint.file(TENSOR_F32)).unwrap(), expected, "{name}");
    }
}

#[test]
fn sixteen_bit_files_are_held_as_they_are() {
    for (number, dtype) in [(F16, DType::F16), (BF16, DType::BF16)] {
        let model = model_of(&Checkpoint::open("glm4").file(number)).unwrap();
        assert_eq!(some_logits(&model), some_logits(&folder_model("glm4", Some(dtype))), "{dtype}");
    }
}

/// A file of the checkpoint with a changed one, and the model of the unchanged one.
fn glm4() -> (Checkpoint, Builder, Vec<f32>) {
    let checkpoint = Checkpoint::open("glm4");
    let file = checkpoint.file(TENSOR_F32);
    let expected = some_logits(&model_of(&file).unwrap());
    (checkpoint, file, expected)
}

fn warned(file: &Builder, of: &[&str]) {
    let warnings = config_of(file).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for of in of {
        assert!(warnings[0].contains(of), "{of:?} is not in {warnings:?}");
    }
}

#[test]
fn a_missing_rotary_width_is_half_the_head_and_told() {
    let (_, file, expected) = glm4();
    let file = file.without("glm4.rope.dimension_count");
    warned(&file, &["rope.dimension_count is missing", "16 of the 32"]);
    assert_eq!(some_logits(&model_of(&file).unwrap()), expected);
}

#[test]
fn a_rotary_width_of_the_whole_head_is_believed_and_told() {
    let (_, file, expected) = glm4();
    let file = file.u32("glm4.rope.dimension_count", 32);
    warned(&file, &["rope.dimension_count is the whole head", "rotates half"]);
    assert_ne!(some_logits(&model_of(&file).unwrap()), expected);
    // GLM-Edge is of this architecture and rotates all.
    let edge = Checkpoint::open("glm").file(TENSOR_F32).u32("chatglm.rope.dimension_count", 16);
    assert_eq!(config_of(&edge).unwrap().warnings, [""; 0]);
}

#[test]
fn a_base_that_a_converter_lost_is_told() {
    let file = Checkpoint::open("glm").file(TENSOR_F32);
    let lost = file.clone().without("chatglm.rope.freq_base");
    assert_eq!(config_of(&lost).unwrap().rope.theta(), 10_000.0);
    warned(&lost, &["10000", "131072", "5000000"]);
    let converted = file.f32("chatglm.rope.freq_base", 10_000.0).u32("chatglm.context_length", 64);
    warned(&converted, &["the context is the hidden size", "5000000", "1.5625e-7"]);
    let short = converted.u32("chatglm.context_length", 8192);
    assert_eq!(config_of(&short).unwrap().warnings, [""; 0], "glm-4-9b means it");
    // 0414 models mean 10000, whatever the context.
    let (_, file, _) = glm4();
    assert_eq!(config_of(&file.u32("glm4.context_length", 131_072)).unwrap().warnings, [""; 0]);
}

#[test]
fn pairs_are_neighbours_except_in_files_that_permute_them() {
    let (mut checkpoint, file, expected) = glm4();
    assert_eq!(config_of(&file).unwrap().rope.pairing(), Pairing::Interleaved);
    // The converter of GLM-4V puts the rows of even elements of a head before those of odd ones.
    let (hidden, head_dim, rotary_dim) = (64, 32, 16);
    for (layer, projection) in [(0, "q"), (0, "k"), (1, "q"), (1, "k")] {
        let weight = checkpoint.tensor_mut(&format!("blk.{layer}.attn_{projection}.weight"));
        for head in weight.chunks_exact_mut(head_dim * hidden) {
            let rows = head.to_vec();
            let rows: Vec<&[f32]> = rows.chunks_exact(hidden).collect();
            let order = (0..rotary_dim).step_by(2).chain((1..rotary_dim).step_by(2));
            for (to, from) in head.chunks_exact_mut(hidden).zip(order) {
                to.copy_from_slice(rows[from]);
            }
        }
    }
    let file = checkpoint.file(TENSOR_F32).i32s("glm4.rope.dimension_sections", &[2, 3, 3, 0]);
    let found = some_logits(&model_of(&file).unwrap());
    compare(&expected, &found, Tolerance::Absolute(1e-5)).unwrap();
    assert_ne!(some_logits(&model_of(&file.without("glm4.rope.dimension_sections")).unwrap()), found);
}

#[test]
fn scaling_is_read() {
    let (_, file, _) = glm4();
    let scaled = file.text("glm4.rope.scaling.type", "yarn").f32("glm4.rope.scaling.factor", 4.0);
    let trained = |file: &Builder| match *config_of(file).unwrap().rope.scaling() {
        Scaling::Yarn { factor: 4.0, trained_positions, .. } => trained_positions,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(trained(&scaled), 32_768);
    assert_eq!(trained(&scaled.clone().u32("glm4.rope.scaling.original_context_length", 4096)), 4096);
    let linear = scaled.clone().text("glm4.rope.scaling.type", "linear");
    assert_eq!(config_of(&linear).unwrap().rope.scaling(), &Scaling::Linear { factor: 4.0 });
    let none = scaled.text("glm4.rope.scaling.type", "none");
    assert_eq!(config_of(&none).unwrap().rope.scaling(), &Scaling::None);
}

#[test]
fn a_missing_output_layer_is_the_embedding() {
    let (mut checkpoint, ..) = glm4();
    checkpoint.tensors.retain(|(name, ..)| name != "output.weight");
    let tied = model_of(&checkpoint.file(TENSOR_F32)).unwrap();
    assert!(tied.config().tied_embeddings);
    let folder = golden_dir().join("glm4");
    let mut config = GlmConfig::open(&folder).unwrap();
    config.tied_embeddings = true;
    let expected = load(config, &GlmWeights::open(&folder).unwrap(), None).unwrap();
    assert_eq!(some_logits(&tied), some_logits(&expected));
}

#[test]
fn norms_of_what_a_branch_gives_are_not_those_before_the_mlp() {
    let (mut checkpoint, _, expected) = glm4();
    for (name, ..) in &mut checkpoint.tensors {
        *name = match name.as_str() {
            "blk.0.post_attention_norm.weight" => String::from("blk.0.ffn_norm.weight"),
            "blk.0.ffn_norm.weight" => String::from("blk.0.post_attention_norm.weight"),
            other => other.to_owned(),
        };
    }
    assert_ne!(some_logits(&model_of(&checkpoint.file(TENSOR_F32)).unwrap()), expected);
    checkpoint.tensors.retain(|(name, ..)| !name.contains("post_ffw_norm"));
    let error = model_of(&checkpoint.file(TENSOR_F32)).unwrap_err();
    let GlmError::MissingTensor { tensor, .. } = &error else { panic!("{error}") };
    assert_eq!(tensor, "blk.0.post_ffw_norm.weight");
}

#[test]
fn the_gate_comes_before_what_it_gates() {
    let (mut checkpoint, _, expected) = glm4();
    let gate_up = checkpoint.tensor_mut("blk.0.ffn_up.weight");
    let half = gate_up.len() / 2;
    gate_up.rotate_left(half);
    assert_ne!(some_logits(&model_of(&checkpoint.file(TENSOR_F32)).unwrap()), expected);
}

#[test]
fn blocks_that_predict_further_tokens_are_left_out() {
    let (_, file, expected) = glm4();
    let file = file.u32("glm4.block_count", 3).u32("glm4.nextn_predict_layers", 1);
    assert_eq!(config_of(&file).unwrap().layers, 2);
    assert_eq!(some_logits(&model_of(&file).unwrap()), expected);
}

#[test]
fn an_answer_ends_at_each_of_the_three_tokens() {
    let (_, file, _) = glm4();
    let mut tokens: Vec<String> = (0..256).map(|id| format!("t{id}")).collect();
    let mut types = vec![1; 256];
    for (id, text) in [(250, "<|endoftext|>"), (252, "<|user|>"), (254, "<|observation|>"), (255, "<|else|>")]
    {
        tokens[id] = text.to_owned();
        types[id] = 3;
    }
    let file = file.texts("tokenizer.ggml.tokens", &tokens).i32s("tokenizer.ggml.token_type", &types);
    let stops = |file: &Builder| config_of(file).unwrap().stop_ids;
    assert_eq!(stops(&file), [250, 252, 254]);
    let named = file.u32("tokenizer.ggml.eos_token_id", 250).u32("tokenizer.ggml.eot_token_id", 255);
    assert_eq!(stops(&named), [250, 252, 254, 255]);
    // A token that only looks so is text.
    types[254] = 1;
    assert_eq!(stops(&named.i32s("tokenizer.ggml.token_type", &types)), [250, 252, 255]);
}

#[test]
fn architectures_that_do_not_run_are_named() {
    for (architecture, hint) in [
        ("glm4moe", "mixtures of experts"),
        ("deepseek2", "latent"),
        ("glm-dsa", "latent"),
        ("llama", "glm4"),
    ] {
        let error = config_of(&Builder::new().text("general.architecture", architecture)).unwrap_err();
        assert!(matches!(&error, GlmError::Unsupported { found, .. } if found == architecture), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
}

/// An edit of a good file, and the key or tensor that is refused for it.
type Case = (&'static str, fn(Builder) -> Builder, fn(&GlmError) -> bool);

/// The metadata and tensors that a good file of the reader can lack or have wrongly.
const WRONG: [Case; 16] = [
    (
        "missing architecture",
        |file| file.without("general.architecture"),
        |error| matches!(error, GlmError::MissingKey { key, .. } if key == "general.architecture"),
    ),
    ("block_count 0", |file| file.u32("glm4.block_count", 0), |error| bad(error, "glm4.block_count", "0")),
    (
        "block_count 2^32",
        |file| file.key("glm4.block_count", U64, (1_u64 << 32).to_le_bytes()),
        |error| bad(error, "glm4.block_count", "4294967296"),
    ),
    (
        "block_count as text",
        |file| file.text("glm4.block_count", "2"),
        |error| bad(error, "glm4.block_count", "\"2\""),
    ),
    (
        "block_count missing",
        |file| file.without("glm4.block_count"),
        |error| matches!(error, GlmError::MissingKey { key, .. } if key == "glm4.block_count"),
    ),
    (
        "all blocks predict",
        |file| file.u32("glm4.nextn_predict_layers", 2),
        |error| bad(error, "glm4.nextn_predict_layers", "2"),
    ),
    (
        "head_count 0",
        |file| file.u32("glm4.attention.head_count", 0),
        |error| bad(error, "glm4.attention.head_count", "0"),
    ),
    (
        "heads of each layer",
        |file| file.i32s("glm4.attention.head_count_kv", &[2, 2]),
        |error| bad(error, "glm4.attention.head_count_kv", "\"2 values of type i32\""),
    ),
    (
        "head_count_kv no divisor",
        |file| file.u32("glm4.attention.head_count_kv", 3),
        |error| bad(error, "glm4.attention.head_count", "4, with attention.head_count_kv 3"),
    ),
    // GLM-4.5 has heads that are wider than the embedding together, so that only the tensors can tell.
    (
        "key_length x heads is not what q has",
        |file| with_head_dim(file, 16),
        |error| {
            matches!(error, GlmError::Shape { tensor, expected, found }
            if tensor == "blk.0.attn_q.weight" && expected == &[64, 64] && found == &[128, 64])
        },
    ),
    (
        "embedding_length no multiple of heads",
        |file| file.without("glm4.attention.key_length").u32("glm4.embedding_length", 66),
        |error| bad(error, "glm4.embedding_length", "66, with attention.head_count 4"),
    ),
    (
        "value_length of its own",
        |file| file.u32("glm4.attention.value_length", 16),
        |error| bad(error, "glm4.attention.value_length", "16"),
    ),
    (
        "wrong shape of a named tensor",
        |file| file.u32("glm4.feed_forward_length", 95),
        |error| {
            matches!(error, GlmError::Shape { tensor, expected, .. }
            if tensor == "blk.0.ffn_up.weight" && expected == &[190, 64])
        },
    ),
    (
        "eps that is no number",
        |file| file.f32("glm4.attention.layer_norm_rms_epsilon", f32::NAN),
        |error| bad(error, "glm4.attention.layer_norm_rms_epsilon", "\"NaN\""),
    ),
    (
        "scaling of another kind",
        |file| file.text("glm4.rope.scaling.type", "longrope"),
        |error| bad(error, "glm4.rope.scaling.type", "\"longrope\""),
    ),
    (
        "a vocabulary that the embedding lacks",
        |file| file.texts("tokenizer.ggml.tokens", &["a", "b"]),
        |error| {
            matches!(error, GlmError::Shape { tensor, expected, found }
            if tensor == "token_embd.weight" && expected == &[2, 64] && found == &[256, 64])
        },
    ),
];

fn with_head_dim(file: Builder, head_dim: u32) -> Builder {
    file.u32("glm4.attention.key_length", head_dim).u32("glm4.attention.value_length", head_dim)
}

fn bad(error: &GlmError, name: &str, value: &str) -> bool {
    matches!(error, GlmError::BadKey { file, key, found, .. }
        if *file == "the GGUF metadata" && key == name && found == value)
}

#[test]
fn every_file_that_no_model_can_be_made_of_has_its_error() {
    let (_, file, _) = glm4();
    for (name, edit, expected) in WRONG {
        match model_of(&edit(file.clone())) {
            Ok(_) => panic!("{name}: it was loaded"),
            Err(error) => assert!(expected(&error), "{name}: {error:?}"),
        }
    }
}

#[test]
fn types_that_are_not_read_are_named_when_they_are_used() {
    let (checkpoint, file, expected) = glm4();
    // Beside the model's own tensors any type may stand.
    let beside = file.clone().tensor("mm.vision", &[256], 10, &[0; 84]);
    assert_eq!(some_logits(&model_of(&beside).unwrap()), expected);
    let mut without = Builder { tensors: Vec::new(), data: Vec::new(), ..file };
    for (name, shape, _) in &checkpoint.tensors {
        let dims: Vec<u64> = shape.iter().rev().map(|&dim| dim as u64).collect();
        let (number, bytes) = if name == "token_embd.weight" {
            (3, 64 * 256 / 32 * 20)
        } else {
            (0, 4 * shape.iter().product::<usize>())
        };
        without = without.tensor(name, &dims, number, &vec![0; bytes]);
    }
    let error = model_of(&without).unwrap_err();
    let GlmError::TensorDType { tensor, found } = &error else { panic!("{error}") };
    assert_eq!((tensor.as_str(), found.as_str()), ("token_embd.weight", "Q4_1"));
}

#[test]
fn files_that_are_no_gguf_are_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for open in
        [|path: &Path| GlmConfig::open(path).map(drop), |path: &Path| GlmWeights::open(path).map(drop)]
    {
        std::fs::write(&path, b"not a model").unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, GlmError::Gguf(GgufError::Magic { .. })), "{error:?}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(&path).unwrap_err(), GlmError::Mem(_)), "absent");
    }
}
