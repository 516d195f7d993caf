//! What a decode step's attention moves, counted by the emulator at the shape of GLM-4-9B, against the least possible; and what
//! one launch saves against its parts. `cargo test -p workspace-tests --test attention_traffic -- --nocapture` prints the table.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]
#![expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
#![expect(clippy::cast_possible_truncation, reason = "the scale is f32 and sizes are small")]

use attention::kernels::{ATTENTION, DECODE_ATTENTION};
use hip_emu::{Checks, Counters, Dispatch, Machine, Options, Program};
use hsaco::ImageSet;
use kernels_rope::kernels::POSITION_EMBEDDINGS;

const Q_HEADS: u32 = 32;
const KV_HEADS: u32 = 2;
const HEAD_DIM: u32 = 128;
const ROTARY_DIM: u32 = 64;
/// Bytes of bf16.
const CACHED: u32 = 2;
/// Positions of the rotation's table.
const POSITIONS: u32 = 4096;
/// Bytes moved against the least possible.
const BUDGET: f64 = 1.05;

struct Card {
    machine: Machine,
    programs: Vec<Program>,
}

impl Card {
    fn new(sets: &[&ImageSet]) -> Card {
        let mut options = Options::default();
        (options.threads, options.checks, options.counts) = (1, Checks::NONE, true);
        let machine = Machine::new(options);
        let programs = sets.iter().map(|set| {
            let image = set.images.iter().find(|image| image.arch == "gfx1100").unwrap();
            machine.load(image.bytes).unwrap()
        });
        let programs = programs.collect();
        Card { machine, programs }
    }

    /// Memory of zeros.
    fn zeros(&self, elements: u32, size: u32) -> u64 {
        let bytes = (elements * size) as usize;
        let address = self.machine.memory().allocate(bytes).unwrap();
        self.machine.memory().fill(address, 0, bytes).unwrap();
        address
    }

    fn words(&self, words: &[u32]) -> u64 {
        let address = self.machine.memory().allocate(words.len() * 4).unwrap();
        let bytes = Vec::from_iter(words.iter().flat_map(|word| word.to_le_bytes()));
        self.machine.memory().write(address, &bytes).unwrap();
        address
    }

    fn run(&self, kernel: &str, blocks: u32, wide: &[u64], narrow: &[u32]) -> Counters {
        let program = self.programs.iter().find(|program| program.kernel(kernel).is_some()).unwrap();
        let dispatch = Dispatch { groups: [blocks, 1, 1], block: [256, 1, 1], dynamic_lds: 0 };
        let mut arguments = Vec::from_iter(wide.iter().flat_map(|value| value.to_le_bytes()));
        arguments.extend(narrow.iter().flat_map(|value| value.to_le_bytes()));
        *self.machine.launch(program, kernel, &dispatch, &arguments).unwrap().counters.unwrap()
    }
}

/// A step after `len` tokens: the rotation that appends, the attention, and both in one.
struct Step {
    append: Counters,
    attend: Counters,
    fused: Counters,
}

impl Step {
    fn count(len: u32) -> Step {
        let card = Card::new(&[&ATTENTION, &DECODE_ATTENTION, &POSITION_EMBEDDINGS]);
        let capacity = (len + 1).next_multiple_of(1024);
        let (q_row, kv_row) = (Q_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        let [q, out] = [(); 2].map(|()| card.zeros(q_row, 4));
        let [k, v] = [(); 2].map(|()| card.zeros(kv_row, 4));
        let [keys, values] = [(); 2].map(|()| card.zeros(capacity * kv_row, CACHED));
        let [cos, sin] = [(); 2].map(|()| card.zeros(POSITIONS * ROTARY_DIM / 2, 4));
        let pair_axis = card.zeros(ROTARY_DIM / 2, 4);
        let at = card.words(&[len]);
        let spans = capacity / 1024;
        let partials = card.zeros(KV_HEADS * spans * 16 * (2 + HEAD_DIM), 4);
        let counters = card.zeros(KV_HEADS, 4);
        let scale = (1.0 / f64::from(HEAD_DIM).sqrt()) as f32;
        let head_stride = u64::from(capacity * HEAD_DIM);
        let block_stride = head_stride * u64::from(KV_HEADS);
        let group = Q_HEADS / KV_HEADS;

        let row = [u64::from(q_row), HEAD_DIM.into(), kv_row.into(), HEAD_DIM.into()];
        let append = card.run(
            "position_embeddings_f32_bf16",
            1,
            &[
                [q, k, v, keys, values, 0, at, cos, sin, at, pair_axis].as_slice(),
                &row,
                &[block_stride, head_stride],
            ]
            .concat(),
            &[HEAD_DIM, 0, 0, capacity, 0, 0, 1, Q_HEADS, KV_HEADS, HEAD_DIM, ROTARY_DIM, 1],
        );
        let attend = card.run(
            "attend_split_bf16",
            KV_HEADS * spans,
            &[q, keys, values, out, partials, counters, 0, at, block_stride, head_stride],
            &[HEAD_DIM, 0, 0, capacity, scale.to_bits(), 0, 1, KV_HEADS, group, HEAD_DIM, 0, 0, spans],
        );
        let fused = card.run(
            "decode_attention_bf16",
            KV_HEADS * spans,
            &[q, k, v, keys, values, out, partials, counters, 0, at, at, cos, sin, pair_axis, 0, 0],
            &[
                0,
                capacity,
                0,
                scale.to_bits(),
                0,
                1,
                KV_HEADS,
                group,
                HEAD_DIM,
                ROTARY_DIM,
                1,
                1,
                POSITIONS,
                spans,
            ],
        );
        Step { append, attend, fused }
    }
}

/// Bytes that loads, stores and atomics move to and from an endless cache.
fn moved(counters: &Counters) -> u64 {
    [&counters.loads, &counters.stores, &counters.atomics, &counters.scalar_loads]
        .map(|traffic| traffic.distinct_bytes)
        .iter()
        .sum()
}

/// Bytes that any kernel moves for the parts: rotated elements in and out and the values in, the new rows of the cache; keys and
/// values, queries in, results out.
fn least(len: u32) -> [u64; 3] {
    let (q_row, kv_row) = (Q_HEADS * HEAD_DIM * 4, KV_HEADS * HEAD_DIM * 4);
    let angles = ROTARY_DIM * 4;
    let new_rows = 2 * KV_HEADS * HEAD_DIM * CACHED;
    let rotated = 2 * (Q_HEADS + KV_HEADS) * ROTARY_DIM * 4 + KV_HEADS * (HEAD_DIM - ROTARY_DIM) * 4;
    let append = rotated + kv_row + angles + new_rows;
    let cached = |tokens: u32| tokens * new_rows;
    let attend = 2 * q_row + cached(len + 1);
    let fused = 2 * q_row + 2 * kv_row + angles + cached(len) + new_rows;
    [append, attend, fused].map(u64::from)
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is what the figures are read from")]
fn a_decode_step_moves_hardly_more_than_it_must() {
    println!("context  launch    moved    least  ratio  instructions  LDS cycles  of conflicts");
    for context in [512, 2048] {
        let len = context - 1;
        let Step { append, attend, fused } = Step::count(len);
        for ((name, counters), least) in
            [("append", &append), ("attend", &attend), ("fused", &fused)].into_iter().zip(least(len))
        {
            let ratio = moved(counters) as f64 / least as f64;
            println!(
                "{context:7}  {name}  {:8} {least:8}  {ratio:.3}  {:12}  {:10}  {:12}",
                moved(counters),
                counters.instructions(),
                counters.lds.cycles,
                counters.lds.conflict_cycles
            );
            assert!(ratio <= BUDGET, "{name} at {context}: {ratio}");
            assert_eq!(counters.scratch, 0);
        }
        assert!(moved(&fused) < moved(&append) + moved(&attend));
        // The blocks of each span rotate the queries again.
        let parts = append.instructions() + attend.instructions();
        assert!(fused.instructions() * 100 <= parts * 101, "{} of {parts}", fused.instructions());
    }
}
