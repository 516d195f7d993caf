//! Conversion to GGUF: what the file holds is what the checkpoint holds, and no failure leaves a file behind.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kernels_nn::BlockType;
use model_glm::GlmError;
use model_glm::gguf::{ConvertOptions, Converted, FileType, convert};
use parity::golden_dir;
use safetensors::SafeTensors;
use tempfile::TempDir;

/// A written file, taken apart without the help of the code that wrote it.
struct Parsed {
    /// Each value's type and bytes, without those of the type.
    keys: BTreeMap<String, (u32, Vec<u8>)>,
    tensors: BTreeMap<String, ParsedTensor>,
    file: Vec<u8>,
}

struct ParsedTensor {
    dims: Vec<u64>,
    number: u32,
    /// From the start of the file.
    start: usize,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        self.at += count;
        &self.bytes[self.at - count..self.at]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let length = usize::try_from(self.u64()).unwrap();
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }

    fn skip(&mut self, kind: u32) {
        match kind {
            4..=6 => drop(self.take(4)),
            7 => drop(self.take(1)),
            8 => drop(self.text()),
            9 => {
                let element = self.u32();
                (0..self.u64()).for_each(|_| self.skip(element));
            }
            other => panic!("value type {other} is never written"),
        }
    }
}

impl Parsed {
    fn open(path: &Path) -> Parsed {
        let file = fs::read(path).unwrap();
        let mut cursor = Cursor { bytes: &file, at: 0 };
        assert_eq!(cursor.take(4), b"GGUF");
        assert_eq!(cursor.u32(), 3);
        let (tensor_count, key_count) = (cursor.u64(), cursor.u64());
        let mut keys = BTreeMap::new();
        for _ in 0..key_count {
            let (key, kind) = (cursor.text(), cursor.u32());
            let start = cursor.at;
            cursor.skip(kind);
            assert!(keys.insert(key, (kind, file[start..cursor.at].to_vec())).is_none());
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = cursor.text();
            let dims = (0..cursor.u32()).map(|_| cursor.u64()).collect();
            let number = cursor.u32();
            let start = usize::try_from(cursor.u64()).unwrap();
            assert!(tensors.insert(name, ParsedTensor { dims, number, start }).is_none());
        }
        let data = cursor.at.next_multiple_of(32);
        tensors.values_mut().for_each(|tensor| tensor.start += data);
        Parsed { keys, tensors, file }
    }

    fn bytes(&self, name: &str, len: usize) -> &[u8] {
        let start = self.tensors[name].start;
        assert!(start.is_multiple_of(32));
        &self.file[start..start + len]
    }

    fn text(&self, key: &str) -> String {
        let (kind, bytes) = &self.keys[key];
        assert_eq!(*kind, 8, "{key}");
        String::from_utf8(bytes[8..].to_vec()).unwrap()
    }

    fn u32(&self, key: &str) -> u32 {
        let (kind, bytes) = &self.keys[key];
        assert_eq!(*kind, 4, "{key}");
        u32::from_le_bytes(bytes.as_slice().try_into().unwrap())
    }

    fn f32(&self, key: &str) -> f32 {
        let (kind, bytes) = &self.keys[key];
        assert_eq!(*kind, 6, "{key}");
        f32::from_le_bytes(bytes.as_slice().try_into().unwrap())
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let (kind, bytes) = &self.keys[key];
        let mut cursor = Cursor { bytes, at: 0 };
        assert_eq!((*kind, cursor.u32()), (9, 8), "{key}");
        (0..cursor.u64()).map(|_| cursor.text()).collect()
    }

    fn i32s(&self, key: &str) -> Vec<i32> {
        let (kind, bytes) = &self.keys[key];
        assert_eq!((*kind, &bytes[..4]), (9, &5_u32.to_le_bytes()[..]), "{key}");
        bytes[12..].as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()
    }
}

fn options(file_type: FileType) -> ConvertOptions<'static> {
    ConvertOptions { file_type, overwrite: false, progress: None }
}

fn converted(folder: &Path, file_type: FileType) -> (Converted, Parsed) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("model.gguf");
    let converted = convert(folder, &path, options(file_type)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), converted.bytes);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "nothing lies beside the file");
    (converted, Parsed::open(&path))
}

/// Names in the file and in the checkpoint of a few tensors of each layout.
const NAMES: [(&str, &[(&str, &str)]); 3] = [
    (
        "glm4",
        &[
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"),
            ("blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight"),
            ("blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight"),
            ("blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight"),
            ("blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj.weight"),
            ("blk.0.post_attention_norm.weight", "model.layers.0.post_self_attn_layernorm.weight"),
            ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
            ("blk.0.ffn_up.weight", "model.layers.0.mlp.gate_up_proj.weight"),
            ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
            ("blk.0.post_ffw_norm.weight", "model.layers.0.post_mlp_layernorm.weight"),
            ("output_norm.weight", "model.norm.weight"),
            ("output.weight", "lm_head.weight"),
        ],
    ),
    (
        "glm",
        &[
            ("blk.2.attn_q.bias", "model.layers.2.self_attn.q_proj.bias"),
            ("blk.2.ffn_norm.weight", "model.layers.2.post_attention_layernorm.weight"),
            ("blk.2.ffn_up.weight", "model.layers.2.mlp.gate_up_proj.weight"),
        ],
    ),
    (
        "chatglm_orig",
        &[
            ("token_embd.weight", "transformer.embedding.word_embeddings.weight"),
            ("blk.2.attn_qkv.weight", "transformer.encoder.layers.2.self_attention.query_key_value.weight"),
            ("blk.2.attn_qkv.bias", "transformer.encoder.layers.2.self_attention.query_key_value.bias"),
            ("blk.0.attn_output.weight", "transformer.encoder.layers.0.self_attention.dense.weight"),
            ("blk.0.ffn_up.weight", "transformer.encoder.layers.0.mlp.dense_h_to_4h.weight"),
            ("output_norm.weight", "transformer.encoder.final_layernorm.weight"),
            ("output.weight", "transformer.output_layer.weight"),
        ],
    ),
];

#[test]
fn f32_files_hold_the_checkpoint_byte_for_byte() {
    for (checkpoint, names) in NAMES {
        let folder = golden_dir().join(checkpoint);
        let stored = fs::read(folder.join("model.safetensors")).unwrap();
        let stored = SafeTensors::deserialize(&stored).unwrap();
        let (converted, parsed) = converted(&folder, FileType::F32);
        let left_out = stored.names().iter().filter(|name| name.ends_with("inv_freq")).count();
        assert_eq!(parsed.tensors.len(), stored.len() - left_out, "{checkpoint}: every tensor has its place");
        assert_eq!(converted.tensors.len(), parsed.tensors.len());
        for (name, source) in names {
            let source = stored.tensor(source).unwrap();
            let dims: Vec<u64> = source.shape().iter().rev().map(|&dim| dim as u64).collect();
            assert_eq!((&parsed.tensors[*name].dims, parsed.tensors[*name].number), (&dims, 0), "{name}");
            assert_eq!(parsed.bytes(name, source.data().len()), source.data(), "{name}");
        }
    }
}

#[test]
fn matrices_are_rounded_and_vectors_are_not() {
    let folder = golden_dir().join("glm");
    let stored = fs::read(folder.join("model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&stored).unwrap();
    let down = stored.tensor("model.layers.1.mlp.down_proj.weight").unwrap();
    let values: Vec<f32> =
        down.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    // Rows of 96 elements are no blocks of 256: each type of those has one of 32 for them.
    for (file_type, block, number) in [
        (FileType::Q8_0, BlockType::Q8_0, 8),
        (FileType::Q4_0, BlockType::Q4_0, 2),
        (FileType::Q4_K, BlockType::Q5_0, 6),
        (FileType::Q5_K, BlockType::Q5_1, 7),
        (FileType::Q6_K, BlockType::Q8_0, 8),
    ] {
        let (_, parsed) = converted(&folder, file_type);
        let mut expected = vec![0; values.len() / block.block_len() * block.block_bytes()];
        block.quantize(&values, &mut expected).unwrap();
        assert_eq!(parsed.tensors["blk.1.ffn_down.weight"].number, number, "{file_type}");
        assert_eq!(parsed.bytes("blk.1.ffn_down.weight", expected.len()), expected, "{file_type}");
        for vector in ["blk.1.attn_norm.weight", "blk.1.attn_k.bias", "output_norm.weight"] {
            assert_eq!(parsed.tensors[vector].number, 0, "{file_type}: {vector}");
        }
    }
}

#[test]
fn the_model_is_described_in_llama_cpp_keys() {
    let (converted, parsed) = converted(&golden_dir().join("glm"), FileType::Q8_0);
    assert_eq!(parsed.text("general.architecture"), "chatglm");
    assert_eq!(parsed.u32("general.file_type"), 7);
    for (key, value) in [
        ("block_count", 3),
        ("context_length", 131_072),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("vocab_size", 256),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 16),
        ("attention.value_length", 16),
        ("rope.dimension_count", 8),
    ] {
        assert_eq!(parsed.u32(&format!("chatglm.{key}")), value, "{key}");
    }
    assert_eq!(parsed.f32("chatglm.attention.layer_norm_rms_epsilon"), 1.5625e-7);
    assert_eq!(parsed.f32("chatglm.rope.freq_base"), 5e6);
    assert_eq!(parsed.text("tokenizer.ggml.model"), "no_vocab");
    assert!(converted.warnings.iter().any(|warning| warning.contains("no tokenizer.json")));
}

#[test]
fn the_tokenizer_is_described_in_llama_cpp_keys() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../glm/demo");
    let (converted, parsed) = converted(&demo, FileType::BF16);
    assert_eq!(converted.warnings, [""; 0]);
    assert_eq!(parsed.text("general.architecture"), "glm4");
    assert_eq!(parsed.text("tokenizer.ggml.model"), "gpt2");
    assert_eq!(parsed.text("tokenizer.ggml.pre"), "chatglm-bpe");
    let (tokens, kinds) = (parsed.texts("tokenizer.ggml.tokens"), parsed.i32s("tokenizer.ggml.token_type"));
    assert_eq!((tokens.len(), kinds.len()), (1280, 1280));
    assert_eq!((tokens[1272].as_str(), kinds[1272]), ("[gMASK]", 3));
    assert_eq!((kinds[0], kinds[1269]), (1, 1));
    assert_eq!(parsed.texts("tokenizer.ggml.merges")[..2], ["Ġ t", "h e"]);
    for (key, id) in [("bos", 1270), ("eos", 1270), ("eot", 1277), ("eom", 1279), ("padding", 1270)] {
        assert_eq!(parsed.u32(&format!("tokenizer.ggml.{key}_token_id")), id, "{key}");
    }
    let template = fs::read_to_string(demo.join("chat_template.jinja")).unwrap();
    assert_eq!(parsed.text("tokenizer.chat_template"), template);
}

/// A copy of a golden checkpoint, to be damaged.
fn copy_of(checkpoint: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden_dir().join(checkpoint).join(file), copy.path().join(file)).unwrap();
    }
    copy
}

/// Writes `value` over the first element of a tensor of F32.
fn damage(folder: &Path, tensor: &str, value: f32) {
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let at = {
        let stored = SafeTensors::deserialize(&bytes).unwrap();
        stored.tensor(tensor).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn failures_name_the_tensor_and_leave_no_file() {
    let last = "model.layers.2.mlp.down_proj.weight";
    for (value, file_type) in [(f32::NAN, FileType::F32), (1e9, FileType::Q8_0), (1e9, FileType::F16)] {
        let copy = copy_of("glm");
        damage(copy.path(), last, value);
        let out = tempfile::tempdir().unwrap();
        let failed = convert(copy.path(), &out.path().join("model.gguf"), options(file_type));
        match failed {
            Err(GlmError::NotFinite { tensor, index: 0, .. }) if value.is_nan() => assert_eq!(tensor, last),
            Err(GlmError::TooLarge { tensor, value: 1e9, .. }) => assert_eq!(tensor, last),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "the unfinished file is removed");
    }
}

#[test]
fn a_file_that_is_there_stays_unless_it_may_go() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("model.gguf");
    fs::write(&path, "precious").unwrap();
    let folder = golden_dir().join("glm4");
    let refused = convert(&folder, &path, options(FileType::F32));
    assert!(matches!(refused, Err(GlmError::Exists { .. })), "{refused:?}");
    let damaged = copy_of("glm4");
    damage(damaged.path(), "lm_head.weight", f32::INFINITY);
    let overwrite = |file_type| ConvertOptions { overwrite: true, ..options(file_type) };
    convert(damaged.path(), &path, overwrite(FileType::F32)).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"precious", "a failure does not cost the old file");
    convert(&folder, &path, overwrite(FileType::F32)).unwrap();
    assert!(fs::read(&path).unwrap().starts_with(b"GGUF"));
}

#[test]
fn models_that_llama_cpp_would_compute_otherwise_are_refused() {
    let edits: [(&str, &str, &str); 3] = [
        ("chatglm_orig", "\"original_rope\": true", "\"original_rope\": false"),
        ("glm", "\"rope_type\": \"default\"", "\"rope_type\": \"dynamic\", \"factor\": 2.0"),
        (
            "glm4",
            "\"rope_type\": \"default\"",
            "\"rope_type\": \"yarn\", \"factor\": 4.0, \"attention_factor\": 1.5",
        ),
    ];
    for (checkpoint, from, to) in edits {
        let copy = copy_of(checkpoint);
        let config = copy.path().join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.contains(from));
        fs::write(&config, text.replace(from, to)).unwrap();
        let out = copy.path().join("model.gguf");
        let refused = convert(copy.path(), &out, options(FileType::F32));
        assert!(matches!(refused, Err(GlmError::NotInGguf { .. })), "{checkpoint}: {refused:?}");
        assert!(!out.exists());
    }
}

#[test]
fn progress_ends_with_all_bytes() {
    let out = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let mut progress = |done: usize, total: usize, tensor: &str| told.push((done, total, tensor.to_owned()));
    let options =
        ConvertOptions { file_type: FileType::Q8_0, overwrite: false, progress: Some(&mut progress) };
    let converted = convert(&golden_dir().join("glm4"), &out.path().join("a"), options).unwrap();
    assert_eq!(told.len(), converted.tensors.len(), "tensors of one piece each");
    assert!(told.is_sorted_by(|left, right| left.0 < right.0));
    let (done, total, last) = told.last().unwrap();
    assert_eq!((done, last.as_str()), (total, "output.weight"));
}
