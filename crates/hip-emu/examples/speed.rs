//! Times one kernel, `rope_tab_f32_neox(x, cos_sin, positions, heads, dim, rotary_dim, stride)` on f32
//! `[64 tokens, 32 heads, 128]`, by number of threads and by checks:
//! `cargo run --release -p hip-emu --example speed -- rope.hsaco`.

use std::{env, error::Error, fs, time::Instant};

use hip_emu::{Checks, Dispatch, Machine, Options};

const TOKENS: u32 = 64;
const HEADS: u32 = 32;
const HEAD_DIM: u32 = 128;
const POSITIONS: usize = 4096;
const RUNS: usize = 50;

#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let image = fs::read(env::args().nth(1).ok_or("give the code object of the kernel")?)?;
    let runs = [(1, ""), (2, ""), (1, "init"), (1, "race"), (1, "sync"), (1, "all")];
    for (threads, checks) in runs {
        let mut options = Options::default();
        (options.threads, options.checks) = (threads, checks.parse::<Checks>()?);
        let machine = Machine::new(options);
        let program = machine.load(&image)?;
        let memory = machine.memory();
        let x = memory.allocate((TOKENS * HEADS * HEAD_DIM * 4) as usize)?;
        let table = memory.allocate(POSITIONS * HEAD_DIM as usize * 4)?;
        let positions = memory.allocate(TOKENS as usize * 4)?;
        memory.fill(x, 0x3f, (TOKENS * HEADS * HEAD_DIM * 4) as usize)?;
        memory.fill(table, 0x3e, POSITIONS * HEAD_DIM as usize * 4)?;
        memory.fill(positions, 0, TOKENS as usize * 4)?;
        let mut arguments: Vec<u8> = [x, table, positions].into_iter().flat_map(u64::to_le_bytes).collect();
        arguments
            .extend([HEADS, HEAD_DIM, HEAD_DIM, HEADS * HEAD_DIM].into_iter().flat_map(u32::to_le_bytes));
        let dispatch = Dispatch { groups: [1, HEADS, TOKENS], block: [64, 1, 1], dynamic_lds: 0 };
        let mut seconds: Vec<f64> = Vec::with_capacity(RUNS);
        let mut instructions = 0;
        for _ in 0..RUNS {
            let start = Instant::now();
            instructions = machine.launch(&program, "rope_tab_f32_neox", &dispatch, &arguments)?.instructions;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let (least, median) = (seconds[0] * 1e3, seconds[RUNS / 2] * 1e3);
        println!(
            "{threads} threads, checks: {checks:4} {instructions} wave instructions, least {least:.2} ms, median {median:.2} ms"
        );
    }
    Ok(())
}
