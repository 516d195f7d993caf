//! Single instructions against independent statements of what they do.

#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of tests are small, or their low bits are meant"
)]

mod cdna;
mod dots;
mod elements;
mod gfx10;
mod gfx12;
mod lds;
mod matrices;
mod mfma;
mod modes;
mod rare;
mod refusals;
mod refusals_gfx9;

use std::{collections::HashMap, sync::OnceLock};

use crate::{
    Allocation, Arch, FaultKind,
    arch::Lacks,
    descriptor::VectorRegisters,
    exec::{
        environment::Environment,
        group::run_one,
        mode::Mode,
        translate::translate,
        wave::{EXEC, Stop, Wave},
    },
    memory::Memory,
};

/// What the assembler takes, and what it makes of it, in hexadecimal.
fn encodings(arch: Arch) -> &'static HashMap<&'static str, &'static str> {
    static ENCODINGS: [OnceLock<HashMap<&str, &str>>; 5] = [const { OnceLock::new() }; 5];
    let (at, lines) = match arch {
        Arch::Gfx10 => (0, include_str!("../../../tests/data/instructions.gfx10.tsv")),
        Arch::Gfx11 => (1, include_str!("../../../tests/data/instructions.gfx11.tsv")),
        Arch::Gfx12 => (2, include_str!("../../../tests/data/instructions.gfx12.tsv")),
        Arch::Gfx940 => (3, include_str!("../../../tests/data/instructions.gfx940.tsv")),
        Arch::Gfx9 | Arch::Gfx90a => (4, include_str!("../../../tests/data/instructions.gfx90a.tsv")),
    };
    let by_text = || lines.lines().map(|line| line.split_once('\t').unwrap()).map(|(hex, text)| (text, hex));
    ENCODINGS[at].get_or_init(|| by_text().collect())
}

fn encoding(arch: Arch, text: &str) -> Vec<u8> {
    let found = encodings(arch).get(text);
    let hex = found.unwrap_or_else(|| panic!("{text} is not among the encodings of {arch:?}"));
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The mode of a kernel that a compiler made: nearest even, denormals, clamped NaNs, IEEE.
const USUAL: Mode = Mode(0x3f0);

/// A wave with all lanes active and 32 vector registers, in the usual mode.
fn wave() -> Wave<32> {
    let mut wave = Wave::new(32, 0);
    wave.set_mask(EXEC, u64::from(u32::MAX));
    wave.mode = USUAL;
    wave
}

/// Runs an instruction with `lds` as the group's memory; gives it back.
fn run_with(text: &str, wave: &mut Wave<32>, memory: &Memory, lds: Vec<u8>) -> Vec<u8> {
    let code = encoding(Arch::Gfx11, text);
    let ops = translate::<32>(
        Arch::Gfx11,
        Lacks::Nothing,
        &code,
        VectorRegisters { ordinary: 32, accumulation: 0 },
    );
    let table = memory.lock();
    let mut environment = Environment::new(&table, &[], Allocation { address: 0, bytes: 0 });
    environment.lds = lds;
    wave.pc = 0;
    run_one(wave, &ops, &mut environment);
    std::mem::take(&mut environment.lds)
}

/// Runs an instruction of an architecture on a wave with so many bytes of scratch a lane.
fn run_on_with(arch: Arch, text: &str, wave: &mut Wave<32>, scratch_per_lane: usize) {
    run_in(arch, text, wave, scratch_per_lane, &Memory::new(false, false));
}

/// The same, with allocations to load from.
fn run_in(arch: Arch, text: &str, wave: &mut Wave<32>, scratch_per_lane: usize, memory: &Memory) {
    let registers = VectorRegisters { ordinary: 32, accumulation: 0 };
    let ops = translate::<32>(arch, Lacks::Nothing, &encoding(arch, text), registers);
    let table = memory.lock();
    let mut environment = Environment::new(&table, &[], Allocation { address: 0, bytes: 0 });
    (environment.arch, environment.scratch_per_lane) = (arch, scratch_per_lane);
    wave.pc = 0;
    run_one(wave, &ops, &mut environment);
}

/// Runs an instruction of an architecture, which must go well.
fn run_on(arch: Arch, text: &str, wave: &mut Wave<32>) {
    run_on_with(arch, text, wave, 0);
    assert!(wave.stop.is_none(), "{text}: {:?}", wave.stop);
}

/// Runs an instruction that must go well.
fn run(text: &str, wave: &mut Wave<32>) {
    run_with(text, wave, &Memory::new(false, false), Vec::new());
    assert!(wave.stop.is_none(), "{text}: {:?}", wave.stop);
}

/// Runs an instruction that must fail; gives why it did.
fn run_fault(text: &str, wave: &mut Wave<32>) -> FaultKind {
    run_fault_with(text, wave, &Memory::new(false, false))
}

fn run_fault_with(text: &str, wave: &mut Wave<32>, memory: &Memory) -> FaultKind {
    run_with(text, wave, memory, Vec::new());
    match wave.stop.take() {
        Some(Stop::Fault(fault)) => fault.kind,
        other => panic!("{text}: {other:?}"),
    }
}

/// Puts the same 32-bit value into all lanes of registers.
fn fill(wave: &mut Wave<32>, values: &[(usize, u32)]) {
    for &(register, value) in values {
        wave.write_row(register, &[value; 32], u64::from(u32::MAX));
    }
}

/// Puts the same 64-bit value into all lanes of register pairs.
fn fill64(wave: &mut Wave<32>, values: &[(usize, u64)]) {
    for &(register, value) in values {
        fill(wave, &[(register, value as u32), (register + 1, (value >> 32) as u32)]);
    }
}

fn pair(wave: &Wave<32>, register: usize, lane: usize) -> u64 {
    u64::from(wave.row(register)[lane]) | u64::from(wave.row(register + 1)[lane]) << 32
}

/// Numbers that look random, and repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 31
    }
}
