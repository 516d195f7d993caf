use std::path::PathBuf;
use std::time::Duration;

use attention::KvDType;
use clap::{Args, Parser, Subcommand};
use device_mem::DType;
use model_glm::gguf::FileType;

use crate::device::Asked;

/// Runs GLM language models on AMD GPUs, or on the CPU.
#[derive(Debug, Parser)]
#[command(name = "glm", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Say more on stderr: once for what is done, twice for details.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Write a trace of what a device is asked for, to be opened in Perfetto (ui.perfetto.dev) or chrome://tracing: launches
    /// with grid and arguments, copies and allocations with their bytes, waits. Times are the host's.
    #[arg(long, global = true, value_name = "FILE.json")]
    pub(crate) trace: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 the device asked for is not to be had, \
4 the model's files cannot be used.\n\nTry `glm demo` first: it needs no files.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Answer one prompt.
    Run(RunArgs),
    /// Talk with a model, turn by turn; without --model, with the embedded toy.
    Chat(ChatArgs),
    /// Ask the embedded toy model: a GLM-4 of 1.7 million parameters that knows some answers about Gyre.
    Demo(DemoArgs),
    /// Show a checkpoint: shapes, rotary layout, tensors, the memory it will take.
    Inspect(InspectArgs),
    /// Convert a checkpoint folder to a GGUF file for llama.cpp and its kin, quantised or not.
    Quantize(QuantizeArgs),
    /// Measure a model: load to first token, a prompt, tokens after contexts of some depths, peak memory.
    Bench(BenchArgs),
    /// Write logits and per-layer tensors as safetensors, to compare a port with transformers.
    Dump(DumpArgs),
    /// Examine this machine: HIP library, devices, permissions, kernel images; one line of advice for each gap.
    Doctor(DoctorArgs),
    /// Run each kernel on a device and compare it with the CPU, or with f64 to its bound. A card is checked so before it
    /// is first used.
    Selfcheck(SelfcheckArgs),
    /// Answer for another process of this program, which --supervise starts.
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// Where and in which types a model runs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DeviceArgs {
    /// auto: HIP if it can run the model, else the CPU, saying why. cpu: never loads HIP. hip, hip:N: that device,
    /// or an error. cuda, cuda:N: a card of NVIDIA's, or an error; needs a build with `--features cuda`. emu, emu:TARGET: an emulated card, gfx1100 if none is named, which runs the GPU's kernels on the CPU,
    /// slowly.
    #[arg(
        long,
        env = "GLM_DEVICE",
        default_value = "auto",
        value_name = "auto|cpu|hip[:N]|cuda[:N]|emu[:TARGET]"
    )]
    pub(crate) device: Asked,
    /// Type to hold weights in; as stored if not given.
    #[arg(long, env = "GLM_DTYPE", value_name = "f32|bf16|f16", value_parser = weight_dtype)]
    pub(crate) dtype: Option<DType>,
    /// Take weights that are NaN or infinite, which are refused with their tensor's name otherwise.
    #[arg(long, env = "GLM_ALLOW_NON_FINITE")]
    pub(crate) allow_non_finite: bool,
    /// The longest wait for a device. One that is not ready by then counts as lost: with --device auto the CPU goes on.
    #[arg(long, env = "GLM_DEVICE_TIMEOUT", default_value = "120", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) device_timeout: Duration,
}

/// How an answer is made.
#[derive(Args, Clone, Debug)]
pub(crate) struct AnswerArgs {
    /// Type to hold keys and values in.
    #[arg(long, env = "GLM_KV_DTYPE", default_value = "bf16", value_name = "bf16|f16|f32")]
    pub(crate) kv_dtype: KvDType,
    /// The most tokens of an answer.
    #[arg(long, env = "GLM_MAX_TOKENS", default_value_t = 512, value_name = "N")]
    pub(crate) max_tokens: usize,
    /// 0 takes the most likely token each time; the model's own default if not given.
    #[arg(long, env = "GLM_TEMPERATURE", value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Keep the fewest tokens whose probabilities reach this sum.
    #[arg(long, env = "GLM_TOP_P", value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// Keep this many of the most likely tokens; 0 keeps all.
    #[arg(long, env = "GLM_TOP_K", value_name = "K")]
    pub(crate) top_k: Option<u32>,
    /// The same seed gives the same answer.
    #[arg(long, env = "GLM_SEED", default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
    /// Tokens of context to prepare; at most what the model was trained for, 8192 if not given.
    #[arg(long, env = "GLM_CONTEXT", value_name = "N")]
    pub(crate) context: Option<u32>,
    /// Instruction before the conversation.
    #[arg(long, env = "GLM_SYSTEM", value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Hold the model in a process of its own. If the GPU's driver ends or blocks that, or the GPU fails, it is started again
    /// once, then on the CPU if --device is auto, and the answer goes on.
    #[arg(long)]
    pub(crate) supervise: bool,
}

impl AnswerArgs {
    /// Greedy and short, as the embedded toy was trained to answer.
    pub(crate) fn of_the_toy() -> AnswerArgs {
        AnswerArgs {
            kv_dtype: KvDType::BF16,
            max_tokens: 128,
            temperature: None,
            top_p: None,
            top_k: None,
            seed: 0,
            context: None,
            system: None,
            supervise: false,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// A GGUF file, or the folder of a checkpoint: config.json, safetensors, tokenizer.json.
    #[arg(long, env = "GLM_MODEL", value_name = "DIR|FILE.gguf")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
    /// Print one JSON object at the end instead of streaming.
    #[arg(long)]
    pub(crate) json: bool,
    /// The prompt; `-` reads it from stdin.
    pub(crate) prompt: String,
}

#[derive(Args, Debug)]
pub(crate) struct ChatArgs {
    /// A GGUF file, or the folder of a checkpoint; the embedded toy if not given.
    #[arg(long, env = "GLM_MODEL", value_name = "DIR|FILE.gguf")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// As for `glm run`.
    #[arg(long)]
    pub(crate) supervise: bool,
    /// Print the questions that the toy knows.
    #[arg(long, conflicts_with = "question")]
    pub(crate) list: bool,
    /// A question; three of those it knows if not given.
    pub(crate) question: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// A GGUF file, or the folder of a checkpoint.
    #[arg(value_name = "DIR|FILE.gguf")]
    pub(crate) model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    pub(crate) tensors: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = QUANTIZE_TYPES)]
pub(crate) struct QuantizeArgs {
    /// Folder of the checkpoint: config.json, safetensors, tokenizer.json.
    #[arg(value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// File to write. It is complete when it has this name: while it is written it has .part behind.
    #[arg(value_name = "FILE.gguf")]
    pub(crate) out: PathBuf,
    /// What to hold matrices in.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) file_type: FileType,
    /// Replace the file if it is there.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

const QUANTIZE_TYPES: &str = "\
Types, with bits an element and the error that noise gets, in percent of its root mean square:
  f32     32     0     as computed with; twice the size of most checkpoints
  bf16    16     0     lossless for checkpoints in bf16, as GLM's are
  f16     16     0.02  numbers above 65504 are refused
  q8_0     8.5   0.5   blocks of 32
  q6_k     6.56  1.7   blocks of 256
  q5_k     5.5   3.5   blocks of 256
  q4_k     4.5   6.9   blocks of 256
  q4_0     4.5   8.2   blocks of 32
  q4_k_m   4.85        q4_k, and q6_k where it pays most: the output layer, and the values and ffn_down of half of the
                       layers, as llama.cpp's Q4_K_M
Without q4_k_m every matrix has the one type, as with llama-quantize --pure. Where rows are no multiple of 256 (ffn_down
of GLM-4-9B: 13696), q4_k becomes q5_0, q5_k q5_1, and q6_k q8_0; where they are no multiple of 32, f16. Vectors and
norms stay f32. There is no importance matrix.

Examples:
  glm quantize GLM-4-9B-0414 glm-4-9b-q4_k_m.gguf --type q4_k_m
  glm quantize GLM-4-9B-0414 glm-4-9b-bf16.gguf --type bf16      then quantise further with llama.cpp's own tools

The bytes of all tensors are those that llama.cpp's quantizer makes on x86-64. Where it is built to fuse products and
sums, as on aarch64, some of its last bits are others.";

#[derive(Args, Debug)]
#[command(after_help = BENCH_NOTES)]
pub(crate) struct BenchArgs {
    /// A GGUF file, or the folder of a checkpoint. No tokenizer is needed.
    #[arg(long, env = "GLM_MODEL", value_name = "DIR|FILE.gguf")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Type to hold keys and values in.
    #[arg(long, env = "GLM_KV_DTYPE", default_value = "bf16", value_name = "bf16|f16|f32")]
    pub(crate) kv_dtype: KvDType,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) prompt: u32,
    /// Tokens that follow each context, one by one.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) decode: u32,
    /// Tokens of context that they follow.
    #[arg(long, default_value = "512,4096", value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub(crate) depths: Vec<u32>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// Print one JSON object in one line.
    #[arg(long)]
    pub(crate) json: bool,
}

const BENCH_NOTES: &str = "\
Ids are made up, and logits come back to the host after each pass. RAYON_NUM_THREADS sets the threads on the CPU.

Examples:
  glm bench --model glm-4-9b-q4_k_m.gguf
  glm bench --model GLM-4-9B-0414 --device cpu --depths 4096 --decode 32 --json";

#[derive(Args, Debug)]
#[command(after_help = DUMP_NAMES)]
pub(crate) struct DumpArgs {
    /// A GGUF file, or the folder of a checkpoint.
    #[arg(long, env = "GLM_MODEL", value_name = "DIR|FILE.gguf")]
    pub(crate) model: PathBuf,
    /// Token ids of a sequence; given again, further sequences of one batch.
    #[arg(long, required = true, value_name = "1,2,3", value_parser = ids)]
    pub(crate) ids: Vec<Ids>,
    /// File to write.
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Type to hold keys and values in; f32 compares best.
    #[arg(long, default_value = "f32", value_name = "bf16|f16|f32")]
    pub(crate) kv_dtype: KvDType,
    /// Position of each sequence's first token.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) first_position: u32,
    /// Also continue each sequence by this many most likely tokens, stop tokens ignored.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) greedy: usize,
    /// Also write the tensors of every layer; one sequence only.
    #[arg(long)]
    pub(crate) layers: bool,
}

const DUMP_NAMES: &str = "\
Tensors of one sequence, F32 unless said; T tokens, V vocabulary, H hidden, R rotary width:
  logits [T, V]                                  of every token
  greedy [N] (I64), greedy_logits [N, V]         with --greedy N
  embed [T, H], cos, sin [T, R/2], final_norm [T, H]                      with --layers, and for each layer i
  layer{i}.q_pre, k_pre, q_post, k_post [heads, T, head_dim]              before and after the rotation
  layer{i}.attn_out, mlp_out, out [T, H]
With several --ids the names begin with s0., s1., ... and logits [1, V] are those of each last token, from one batch
packed without padding.";

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SelfcheckArgs {
    /// The card to check; emu and emu:TARGET are emulated ones.
    #[arg(
        long,
        env = "GLM_DEVICE",
        default_value = "auto",
        value_name = "auto|hip[:N]|cuda[:N]|emu[:TARGET]"
    )]
    pub(crate) device: Asked,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a worker holds. Nothing comes from the environment: its supervisor has read that.
#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    /// As for `glm run`; the embedded toy if not given.
    #[arg(long, value_name = "DIR|FILE.gguf")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Type to hold keys and values in.
    #[arg(long, value_name = "bf16|f16|f32")]
    pub(crate) kv_dtype: KvDType,
    /// Tokens of context to prepare.
    #[arg(long, value_name = "N")]
    pub(crate) context: u32,
}

/// Token ids of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

fn ids(text: &str) -> Result<Ids, String> {
    let id = |part: &str| {
        part.trim().parse().map_err(|_| format!("expected token ids like 1,2,3, found {part:?}"))
    };
    text.split(',').map(id).collect::<Result<_, _>>().map(Ids)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| String::from("expected seconds, more than 0"))
}

fn weight_dtype(text: &str) -> Result<DType, String> {
    match text.parse()? {
        dtype @ (DType::F32 | DType::F16 | DType::BF16) => Ok(dtype),
        _ => Err(String::from("expected f32, f16 or bf16")),
    }
}
