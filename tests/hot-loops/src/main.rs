//! Runs the hot loops one after another, for a program that counts instructions: `cargo xtask instructions` runs it. It prints the
//! instruction set that they take, and their names.

use std::io::{self, Write};

use anyhow::{Result, bail};
use attention::KvDType;
use device_mem::{Isa, RanOn};
use half::bf16;
use hot_loops::{Loop, attention, bf16_weight, blocks, f16_weight, f32_weight, norm, product, rotation};
use kernels_nn::BlockType;

/// A name, and what makes the loop.
type Named = (&'static str, fn() -> Result<Loop>);

const LOOPS: [Named; 16] = [
    ("token by f32", || product(1, FEATURES, f32_weight)),
    ("token by f16", || product(1, FEATURES, f16_weight)),
    ("token by bf16", || product(1, FEATURES, bf16_weight)),
    ("token by Q8_0", || product(1, FEATURES, |values| blocks(BlockType::Q8_0, values))),
    ("token by Q4_0", || product(1, FEATURES, |values| blocks(BlockType::Q4_0, values))),
    ("token by Q4_K", || product(1, FEATURES, |values| blocks(BlockType::Q4_K, values))),
    ("token by Q5_K", || product(1, FEATURES, |values| blocks(BlockType::Q5_K, values))),
    ("token by Q6_K", || product(1, FEATURES, |values| blocks(BlockType::Q6_K, values))),
    ("64 tokens by f32", || product(64, FEATURES, f32_weight)),
    ("64 tokens by bf16", || product(64, FEATURES, bf16_weight)),
    ("64 tokens by Q8_0", || product(64, FEATURES, |values| blocks(BlockType::Q8_0, values))),
    ("attention of a token to 1024 of bf16", || attention(1, 1023, KvDType::BF16, 1)),
    ("attention of 64 tokens of bf16", || attention(64, 0, KvDType::BF16, 1)),
    ("rotation of f32", || rotation::<f32>(16, 1)),
    ("rotation of bf16", || rotation::<bf16>(16, 1)),
    ("residual and norm", norm),
];

/// Of the weights, `[out_features, in_features]`.
const FEATURES: [usize; 2] = [256, 1024];

fn main() -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{:?}", Isa::best().level())?;
    // No other thread, which would count how long it looks for work.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    for (name, make) in LOOPS {
        writeln!(out, "{name}")?;
        let mut hot_loop = make()?;
        // Once before, so that what is made once does not count.
        hot_loop()?;
        match counted(&mut hot_loop)? {
            RanOn::Cpu => {}
            ran_on => bail!("{name} ran on {ran_on:?}"),
        }
    }
    Ok(())
}

/// What is counted, by its name.
#[inline(never)]
fn counted(hot_loop: &mut Loop) -> Result<RanOn> {
    hot_loop()
}
