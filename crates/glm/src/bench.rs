use std::fmt::Write;
use std::time::Instant;

use anyhow::Result;
use attention::KvCache;
use model_glm::{CacheSize, GlmConfig, GlmModel, GlmWeights};
use serde_json::{Map, Value, json};

use crate::args::BenchArgs;
use crate::place::Loaded;
use crate::{place, run, ui};

/// Tokens of a piece of a prompt.
const PIECE: u32 = 512;

pub(crate) fn execute(args: &BenchArgs) -> Result<()> {
    let start = Instant::now();
    let config = GlmConfig::open(&args.model)?;
    let weights = GlmWeights::open(&args.model)?;
    let deepest = args.depths.iter().copied().max().unwrap_or(0).saturating_add(args.decode);
    let context = deepest.max(args.prompt);
    let caches = [CacheSize { capacity: context, dtype: args.kv_dtype }];
    let cache = |model: &GlmModel| model.new_cache(context, args.kv_dtype);
    let (loaded, cache) = place::load(config, &weights, args.device, context, &caches, cache)?;
    let mut bench = Bench { model: &loaded.model, cache };
    bench.feed(1)?;
    let mut figures = Figures { first_token: start.elapsed().as_secs_f64(), ..Figures::default() };
    let passes = args.runs as usize * (1 + args.depths.len());
    let mut measuring = ui::Loading::passes("measuring");
    let mut done = 0;
    for _ in 0..args.runs {
        bench.clear()?;
        figures.prefill.push(f64::from(args.prompt) / bench.feed(args.prompt)?);
        done += 1;
        measuring.advance(done, passes, "prompt");
    }
    for &depth in &args.depths {
        let mut tokens = Vec::new();
        for _ in 0..args.runs {
            bench.clear()?;
            bench.feed(depth)?;
            for _ in 0..args.decode {
                tokens.push(bench.feed(1)?);
            }
            done += 1;
            measuring.advance(done, passes, "tokens");
        }
        figures.decode.push((depth, tokens));
    }
    measuring.finish();
    run::say(&if args.json {
        format!("{}\n", figures.as_json(args, &loaded))
    } else {
        figures.as_text(args, &loaded)?
    })
}

/// A model and the cache that the next tokens go to.
struct Bench<'a> {
    model: &'a GlmModel,
    cache: KvCache,
}

impl Bench<'_> {
    fn clear(&mut self) -> Result<()> {
        self.cache.truncate(0).map_err(model_glm::GlmError::from)?;
        Ok(())
    }

    /// Runs so many further tokens, pieces of a prompt after another, and gives the seconds until the last logits are here.
    fn feed(&mut self, tokens: u32) -> Result<f64> {
        let start = Instant::now();
        let end = self.cache.len() + tokens;
        while self.cache.len() < end {
            let ids = Vec::from_iter((self.cache.len()..end).take(PIECE as usize).map(|at| self.id(at)));
            self.model.forward(&ids, &mut self.cache)?.to_host_vec()?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Ids that repeat late.
    fn id(&self, at: u32) -> u32 {
        let vocab = self.model.config().vocab_size as u64;
        u32::try_from((u64::from(at) * 7919 + 13) % vocab.saturating_sub(1).max(1)).unwrap_or(0)
    }
}

/// Everything in seconds, or in tokens a second.
#[derive(Default)]
struct Figures {
    first_token: f64,
    prefill: Vec<f64>,
    /// For each depth the seconds of each token.
    decode: Vec<(u32, Vec<f64>)>,
}

impl Figures {
    fn as_json(&self, args: &BenchArgs, loaded: &Loaded) -> Value {
        let decode = self.decode.iter().map(|(depth, tokens)| {
            let figures = json!({ "mean": mean(tokens), "median": median(tokens).map(f64::recip) });
            (format!("d{depth}"), figures)
        });
        json!({
            "model": args.model,
            "ran_on": loaded.ran_on(),
            "threads": threads(),
            "prompt": args.prompt,
            "decode": args.decode,
            "prefill_tps": median(&self.prefill),
            "decode_tps": Map::from_iter(decode),
            "load_to_first_token_s": self.first_token,
            "peak_rss_kib": peak_kib(),
        })
    }

    fn as_text(&self, args: &BenchArgs, loaded: &Loaded) -> Result<String> {
        let mut text = String::new();
        let rate = |rate: Option<f64>| rate.map_or(String::from("-"), |rate| format!("{rate:.1} tokens/s"));
        writeln!(text, "load to first token  {:.3} s", self.first_token)?;
        writeln!(text, "prompt of {:<10} {}", args.prompt, rate(median(&self.prefill)))?;
        for (depth, tokens) in &self.decode {
            writeln!(text, "tokens after {depth:<7} {}", rate(median(tokens).map(f64::recip)))?;
        }
        if let Some(kib) = peak_kib() {
            writeln!(text, "peak memory          {}", ui::bytes(kib * 1024))?;
        }
        writeln!(text, "{}, {} threads; medians", loaded.where_it_ran(), threads())?;
        Ok(text)
    }
}

/// Threads of the CPU bodies.
fn threads() -> usize {
    rayon::current_num_threads()
}

fn mean(seconds: &[f64]) -> Option<f64> {
    let sum: f64 = seconds.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a number of tokens")]
    (sum > 0.0).then(|| seconds.len() as f64 / sum)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// The most memory that was resident, as Linux counts it.
fn peak_kib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
