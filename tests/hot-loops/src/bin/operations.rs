//! Times operations of GLM-4-9B's shapes on the CPU, by turns, and prints a JSON object for each: `cargo xtask bench --peers` sets
//! them beside those of other libraries. RAYON_NUM_THREADS sets the threads, ROUNDS how often each is timed three times.

use std::env;
use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use attention::KvDType;
use device_mem::RanOn;
use half::{bf16, f16};
use hot_loops::{Loop, attention, bf16_weight, blocks, f32_weight, product, rotation};
use kernels_nn::BlockType;
use serde_json::json;

/// A name, and what makes the loop.
type Named = (&'static str, fn() -> Result<Loop>);

/// The names are those that the drivers of other libraries print.
const OPERATIONS: [Named; 10] = [
    ("rope f32 in place", || rotation::<f32>(TOKENS, PROMPTS)),
    ("rope f16 in place", || rotation::<f16>(TOKENS, PROMPTS)),
    ("rope bf16 in place", || rotation::<bf16>(TOKENS, PROMPTS)),
    ("decode attention 4096 f16", || attention(1, CONTEXT - 1, KvDType::F16, CACHES)),
    ("decode attention 4096 bf16", || attention(1, CONTEXT - 1, KvDType::BF16, CACHES)),
    ("gemv 4096x13696 f32", || product(1, FEATURES, f32_weight)),
    ("gemv 4096x13696 bf16", || product(1, FEATURES, bf16_weight)),
    ("gemv 4096x13696 q8_0", || product(1, FEATURES, |values| blocks(BlockType::Q8_0, values))),
    ("gemv 4096x13696 q4_0", || product(1, FEATURES, |values| blocks(BlockType::Q4_0, values))),
    ("gemv 4096x13696 q4_k", || product(1, FEATURES, |values| blocks(BlockType::Q4_K, values))),
];
/// Of a prompt that is rotated, and prompts that are in turn: more than stays in the CPU's caches, as of the keys below.
const TOKENS: u32 = 512;
const PROMPTS: usize = 4;
/// Keys that a token attends to, and caches of them that are read in turn.
const CONTEXT: u32 = 4096;
const CACHES: usize = 20;
/// Of a weight: GLM-4-9B's `[gate; up]` by half.
const FEATURES: [usize; 2] = [13696, 4096];
/// Runs of an operation behind each other.
const RUNS: usize = 3;

fn main() -> Result<()> {
    let rounds = env::var("ROUNDS").map_or(Ok(15), |rounds| rounds.parse::<usize>()).context("ROUNDS")?;
    ensure!(rounds > 0, "ROUNDS is 0, and nothing is timed: expected 1 or more");
    let mut timed = Vec::new();
    for (name, make) in OPERATIONS {
        timed.push((name, make()?, Vec::new()));
    }
    // The first round is to get warm.
    for round in 0..=rounds {
        for (name, operation, times) in &mut timed {
            for _ in 0..RUNS {
                let start = Instant::now();
                let ran_on = operation()?;
                let seconds = start.elapsed().as_secs_f64();
                ensure!(ran_on == RanOn::Cpu, "{name} ran on {ran_on:?}");
                if round > 0 {
                    times.push(seconds);
                }
            }
        }
    }
    let mut out = io::stdout();
    for (name, _, mut times) in timed {
        times.sort_by(f64::total_cmp);
        let [least, median] = [0, times.len() / 2].map(|place| times[place] * 1e6);
        let case = format!("gyre {name} {}t", rayon::current_num_threads());
        writeln!(out, "{}", json!({ "case": case, "min_us": least, "median_us": median }))?;
    }
    Ok(())
}
