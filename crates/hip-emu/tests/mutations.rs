//! Damaged objects and instruction streams: an error or a result, never a panic, a hang or unbounded memory.
//! `HIP_EMU_MUTATIONS` says how many there are, `HIP_EMU_MUTATIONS_SEED` which.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{env, io};

use flate2::read::GzDecoder;
use hip_emu::{Checks, Dispatch, Machine, Options};

const AXPY: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");
/// The code's place in the file: `.text` of the object, both kernels.
const CODE: std::ops::Range<usize> = 0x900..0xc80;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or(0)
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: a number, not {text}")))
}

/// Instructions of every kind, as bytes.
fn instructions() -> Vec<Vec<u8>> {
    let packed = &include_bytes!("data/gfx11.tsv.gz")[..];
    let text = io::read_to_string(GzDecoder::new(packed)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let bytes = lines.map(|line| {
        let hex = line.split('\t').next().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    });
    bytes.collect()
}

/// Flips bits, replaces words and puts in instructions, anywhere or in the code alone; sometimes cuts the end off.
fn damage(random: &mut Random, instructions: &[Vec<u8>], image: &mut Vec<u8>) {
    let code = !random.next().is_multiple_of(4);
    let places = if code { CODE } else { 0..image.len() };
    for _ in 0..=random.below(4) {
        let at = places.start + random.below(places.len());
        let mut put = |bytes: &[u8]| {
            let at = at & !3;
            let end = (at + bytes.len()).min(image.len());
            image[at..end].copy_from_slice(&bytes[..end - at]);
        };
        match random.next() % 4 {
            0 => image[at] ^= 1 << random.below(8),
            1 => image[at] = random.next().to_le_bytes()[0],
            2 => put(&random.next().to_le_bytes()[..4]),
            _ => put(&instructions[random.below(instructions.len())]),
        }
    }
    if !code && random.next().is_multiple_of(8) {
        image.truncate(random.below(image.len()));
    }
}

#[test]
fn damaged_objects_give_an_error_or_a_result() {
    let (mut random, instructions) = (Random(number("HIP_EMU_MUTATIONS_SEED", 1)), instructions());
    let machines = [Checks::NONE, Checks { align: true, ..Checks::ALL }].map(|checks| {
        let mut options = Options::default();
        (options.threads, options.instruction_limit) = (1, 5_000);
        (options.checks, options.counts) = (checks, checks.init);
        Machine::new(options)
    });
    let (mut refused, mut stopped, mut ran) = (0, 0, 0);
    for index in 0..number("HIP_EMU_MUTATIONS", 20_000) {
        let machine = &machines[usize::from(index % 2 == 1)];
        let mut image = AXPY.to_vec();
        damage(&mut random, &instructions, &mut image);
        let Ok(program) = machine.load(&image) else {
            refused += 1;
            continue;
        };
        let data = machine.memory().allocate(1024).unwrap();
        machine.memory().fill(data, 0, 512).unwrap();
        let arguments =
            [&data.to_le_bytes()[..], &data.to_le_bytes(), &[0, 0, 128, 63], &[100, 0, 0, 0]].concat();
        let dispatch = Dispatch { groups: [2, 1, 1], block: [64, 1, 1], dynamic_lds: 0 };
        for kernel in program.kernels() {
            match machine.launch(&program, &kernel.name, &dispatch, &arguments) {
                Ok(_) => ran += 1,
                Err(_) => stopped += 1,
            }
        }
        drop(program);
        assert!(machine.memory().free(data).is_ok());
        assert_eq!(machine.memory().used(), 0, "a launch leaves nothing");
    }
    println!("{refused} objects refused, {stopped} launches stopped, {ran} ran");
    assert!(refused > 0 && stopped > 0 && ran > 0, "every way is taken");
}
