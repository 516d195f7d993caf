use std::path::PathBuf;

use attention::AttentionError;
use device_mem::{DType, MemError, SharedMemory};
use kernels_nn::NnError;
use kernels_rope::RopeError;
use thiserror::Error;

use crate::gguf::GgufError;
use crate::memory::MemoryBudget;
use crate::safetensors_header::SafetensorsError;
use crate::tokenizer::TokenizerError;

/// What can go wrong with a model: its files, its prompt, or a step of the forward pass.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GlmError {
    /// A file of the checkpoint cannot be read.
    #[error("{} cannot be read; a checkpoint is a GGUF file, or a folder of config.json, safetensors and tokenizer.json", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A text file is longer than such a file can be.
    #[error("{} has {bytes} bytes, more than the {most} that are read of such a file; is it the checkpoint's own?", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The most that is read.
        most: u64,
    },
    /// A file is no JSON, or repeats a key.
    #[error("{file} is not valid JSON; download it again")]
    Json {
        /// The file's name.
        file: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A GGUF file is damaged, or holds something that is not read.
    #[error("the GGUF file is refused")]
    Gguf(#[from] GgufError),
    /// A key of `config.json` or of a GGUF file's metadata is missing.
    #[error("{file} lacks {key}; expected {expected}")]
    MissingKey {
        /// Where it is missing.
        file: &'static str,
        /// The key, or the keys that could stand for it.
        key: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A key of a JSON file or of a GGUF file's metadata holds something else than it should.
    #[error("{file}: {key} must be {expected}, found {found}")]
    BadKey {
        /// Where it stands.
        file: &'static str,
        /// The key.
        key: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// The architecture is not one that runs.
    #[error("architecture {found:?} is not supported; supported are glm4, glm and chatglm (ChatGLM2, ChatGLM3, glm-4-9b){}", hint.map(|hint| format!(". {hint}")).unwrap_or_default())]
    Unsupported {
        /// `model_type` as found.
        found: String,
        /// What is special about it.
        hint: Option<&'static str>,
    },
    /// The rotary embedding that the config describes is impossible.
    #[error("the rotary embedding of the model is refused")]
    Rope(#[from] RopeError),
    /// A safetensors header is damaged.
    #[error("{file}: the safetensors header is damaged; download the file again")]
    Safetensors {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        #[source]
        source: SafetensorsError,
    },
    /// The shard index names a file that is not there.
    #[error("shard {shard:?} is named by model.safetensors.index.json but is not in the folder; download it")]
    MissingShard {
        /// The shard's file name.
        shard: String,
    },
    /// The shard index names something else than a file in its folder.
    #[error(
        "model.safetensors.index.json names {shard:?}, which is not a plain file name; the index is not trusted"
    )]
    ShardEscapes {
        /// The name.
        shard: String,
    },
    /// One tensor is in two shards.
    #[error("tensor {tensor} is in {first} and in {second}; remove one of the files")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// A file that holds it.
        first: String,
        /// Another file that holds it.
        second: String,
    },
    /// The checkpoint lacks a tensor.
    #[error("tensor {tensor} is missing{}; is the checkpoint complete and of the architecture that its config names?", if alike.is_empty() { String::new() } else { format!(" (there is {})", alike.join(", ")) })]
    MissingTensor {
        /// The tensor's name.
        tensor: String,
        /// Names that end alike.
        alike: Vec<String>,
    },
    /// A tensor has another shape than the config asks for.
    #[error("tensor {tensor} has shape {found:?}, but the config asks for {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The shape that the config asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a type that is not read.
    #[error(
        "tensor {tensor} is stored as {found}; F32, F16, BF16, Q8_0, Q4_0, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K can be read"
    )]
    TensorDType {
        /// The tensor.
        tensor: String,
        /// Its type in the file.
        found: String,
    },
    /// Weights cannot be held in the type asked for.
    #[error("weights cannot be held as {found}; choose f32, f16 or bf16")]
    WeightDType {
        /// The type asked for.
        found: DType,
    },
    /// A weight is NaN or infinite.
    #[error(
        "tensor {tensor} holds {value} at element {index}; the checkpoint is damaged, or such weights must be allowed (--allow-non-finite)"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Index of the first such element.
        index: usize,
        /// The element.
        value: f32,
    },
    /// A weight is beyond what a type can hold.
    #[error("tensor {tensor} holds {value}, which {stored} cannot; choose f32 or bf16")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its largest element.
        value: f32,
        /// The type.
        stored: &'static str,
    },
    /// The model is more than a GGUF file can say to llama.cpp.
    #[error("a GGUF file cannot hold {what}: llama.cpp computes no such model of this architecture")]
    NotInGguf {
        /// What is special about it.
        what: String,
    },
    /// A file that would be written is there.
    #[error("{} is there already; remove it, choose another name, or ask for it to be replaced", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The tokenizer cannot be read or does not take the text.
    #[error("the tokenizer failed; tokenizer.json must be of the model's own release")]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be rendered.
    #[error("the chat template failed")]
    Template {
        /// Where and why.
        #[source]
        source: minijinja::Error,
    },
    /// The chat template is longer than any that is written by a person.
    #[error(
        "the chat template has {bytes} bytes, more than the {most} that are read; is it the checkpoint's own?"
    )]
    TemplateTooLong {
        /// Its length.
        bytes: usize,
        /// The most that is read.
        most: usize,
    },
    /// There is no thread to render the chat template on.
    #[error("no thread for the chat template can be started")]
    TemplateStack {
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The chat template writes more than it may.
    #[error("the chat template wrote more than {limit} bytes; shorten the messages")]
    TemplateOutput {
        /// The most bytes that it may write.
        limit: usize,
    },
    /// The device has too little memory left.
    #[error(
        "{device} has {free} bytes free{}, and the model takes {needed}; choose a shorter context, a smaller type for keys and values or for weights, or close what else uses the device{}",
        told_apart(shared.as_ref()),
        shared.as_ref().map_or(String::new(), |shared| format!("; {}", shared.advice()))
    )]
    DeviceMemory {
        /// The device.
        device: String,
        /// What the model takes, part by part.
        needed: MemoryBudget,
        /// Bytes that the device has left.
        free: u64,
        /// Where they come from, when the device shares the CPU's memory.
        shared: Option<SharedMemory>,
    },
    /// There is nothing to compute.
    #[error("a forward pass needs at least one token in each sequence")]
    NoTokens,
    /// The prompt does not fit.
    #[error(
        "{tokens} tokens after {used} do not fit a context of {capacity}; shorten the prompt or open a longer context"
    )]
    ContextFull {
        /// Tokens that were to be added.
        tokens: usize,
        /// Tokens in the cache.
        used: u32,
        /// Tokens that the cache holds at most.
        capacity: u32,
    },
    /// A position cannot be counted.
    #[error(
        "an offset of {offset} after {used} tokens is beyond what a position can count; use a smaller offset"
    )]
    PositionOverflow {
        /// The offset of the sequence.
        offset: u32,
        /// Tokens before.
        used: u32,
    },
    /// A layer operation failed.
    #[error("a layer operation failed")]
    Nn(#[from] NnError),
    /// Attention failed.
    #[error("attention failed")]
    Attention(#[from] AttentionError),
    /// Memory or a device failed.
    #[error("memory or the device failed")]
    Mem(#[from] MemError),
}

/// Where a device's free memory comes from, in brackets.
fn told_apart(shared: Option<&SharedMemory>) -> String {
    shared.map_or(String::new(), |shared| format!(" ({shared})"))
}

impl GlmError {
    /// Whether a device is to blame, rather than a file, an argument or host memory.
    pub fn is_of_device(&self) -> bool {
        let of_memory = |error: &MemError| error.class().is_some();
        let of_rope = |error: &RopeError| matches!(error, RopeError::Mem(error) if of_memory(error));
        match self {
            GlmError::Mem(error)
            | GlmError::Nn(NnError::Mem(error))
            | GlmError::Attention(AttentionError::Mem(error)) => of_memory(error),
            GlmError::Rope(error) | GlmError::Attention(AttentionError::Rope(error)) => of_rope(error),
            _ => false,
        }
    }
}
