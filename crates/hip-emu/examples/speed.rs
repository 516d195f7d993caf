//! Times one kernel, `rope_tab_f32_neox(x, cos_sin, positions, heads, dim, rotary_dim, stride)` on f32
//! `[64 tokens, 32 heads, 128]`, by target, by number of threads and by checks, for each code object that holds it:
//! `cargo run --release -p hip-emu --example speed -- rope.gfx1100.hsaco rope.gfx942.hsaco`.

use std::{env, error::Error, fs, time::Instant};

use hip_emu::{Checks, Dispatch, Machine, Options};
use hsaco::CodeObject;

const TOKENS: u32 = 64;
const HEADS: u32 = 32;
const HEAD_DIM: u32 = 128;
const POSITIONS: usize = 4096;
const RUNS: usize = 50;

#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let images: Vec<Vec<u8>> = env::args().skip(1).map(fs::read).collect::<Result<_, _>>()?;
    if images.is_empty() {
        return Err("give code objects of the kernel".into());
    }
    for (threads, checks) in [(1, ""), (2, ""), (1, "init"), (1, "race"), (1, "sync"), (1, "all")] {
        for image in &images {
            let mut options = Options::default();
            options.target.clone_from(&CodeObject::parse(image)?.target().processor);
            (options.threads, options.checks) = (threads, checks.parse::<Checks>()?);
            let (instructions, least, median) = time(&options, image)?;
            #[expect(clippy::cast_precision_loss, reason = "a launch has fewer instructions")]
            let each = least * 1e9 / instructions as f64;
            println!(
                "{}, {threads} threads, checks: {checks:4} {instructions} wave instructions, least {:.2} ms, median {:.2} ms, \
                 least {each:.1} ns each",
                options.target,
                least * 1e3,
                median * 1e3,
            );
        }
    }
    Ok(())
}

/// Wave instructions of a launch, and the least and the median of its seconds.
fn time(options: &Options, image: &[u8]) -> Result<(u64, f64, f64), Box<dyn Error>> {
    let machine = Machine::new(options.clone());
    let program = machine.load(image)?;
    let memory = machine.memory();
    let x = memory.allocate((TOKENS * HEADS * HEAD_DIM * 4) as usize)?;
    let table = memory.allocate(POSITIONS * HEAD_DIM as usize * 4)?;
    let positions = memory.allocate(TOKENS as usize * 4)?;
    memory.fill(x, 0x3f, (TOKENS * HEADS * HEAD_DIM * 4) as usize)?;
    memory.fill(table, 0x3e, POSITIONS * HEAD_DIM as usize * 4)?;
    memory.fill(positions, 0, TOKENS as usize * 4)?;
    let mut arguments: Vec<u8> = [x, table, positions].into_iter().flat_map(u64::to_le_bytes).collect();
    arguments.extend([HEADS, HEAD_DIM, HEAD_DIM, HEADS * HEAD_DIM].into_iter().flat_map(u32::to_le_bytes));
    let dispatch = Dispatch { groups: [1, HEADS, TOKENS], block: [64, 1, 1], dynamic_lds: 0 };
    let mut seconds: Vec<f64> = Vec::with_capacity(RUNS);
    let mut instructions = 0;
    for _ in 0..RUNS {
        let start = Instant::now();
        instructions = machine.launch(&program, "rope_tab_f32_neox", &dispatch, &arguments)?.instructions;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok((instructions, seconds[0], seconds[RUNS / 2]))
}
