//! Work-groups: their waves in turn, several groups at a time, over the cores.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use rayon::prelude::*;

use crate::{
    Arch, Checks, Counters, DecodeError, FaultKind, KernelDescriptor, LaunchFault,
    arch::Lacks,
    decode,
    descriptor::VectorRegisters,
    exec::{
        check::{Checker, InstructionFacts, Watched, facts_of},
        environment::Environment,
        fidelity::Executed,
        op::{Op, Target},
        translate::translate,
        watch::{GroupId, Unwatched, Watch},
        wave::{SPARE_ROWS, Stop, Wave, low},
    },
    memory::{Allocation, Table},
};

/// Groups that one thread runs in turn, so that a lock's owner gets to run.
const RESIDENT: usize = 8;
/// Instructions that a wave runs before the next one's turn.
const SLICE: u64 = 4096;

/// A kernel's code, translated for waves of its architecture.
pub(crate) enum Code {
    Wave32(Translated<32>),
    Wave64(Translated<64>),
}

/// Code for waves of `L` lanes.
pub(crate) struct Translated<const L: usize> {
    ops: Vec<Op<L>>,
    registers: VectorRegisters,
    /// What checks know of each instruction, once one asks.
    facts: OnceLock<Vec<Option<InstructionFacts<L>>>>,
}

impl Code {
    pub(crate) fn new(arch: Arch, lacks: Lacks, code: &[u8], registers: VectorRegisters) -> Self {
        match arch.lanes() {
            64 => Self::Wave64(Translated::new(arch, lacks, code, registers)),
            _ => Self::Wave32(Translated::new(arch, lacks, code, registers)),
        }
    }
}

impl<const L: usize> Translated<L> {
    fn new(arch: Arch, lacks: Lacks, code: &[u8], registers: VectorRegisters) -> Self {
        Self { ops: translate(arch, lacks, code, registers), registers, facts: OnceLock::new() }
    }
}

/// One launch.
pub(crate) struct Dispatched<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) arch: Arch,
    pub(crate) code: &'a Code,
    /// The code's bytes, for messages.
    pub(crate) bytes: &'a [u8],
    /// Where the code lies in memory.
    pub(crate) code_at: Allocation,
    /// The code's address in the object's own numbering.
    pub(crate) code_start: u64,
    /// Word of the first instruction.
    pub(crate) entry: usize,
    pub(crate) descriptor: &'a KernelDescriptor,
    pub(crate) groups: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) lds: usize,
    pub(crate) scratch: usize,
    pub(crate) arguments: u64,
    pub(crate) packet: u64,
    /// Memory of the dispatch itself.
    pub(crate) own: &'a [Allocation],
    pub(crate) limit: u64,
    pub(crate) order_seed: u64,
    pub(crate) checks: Checks,
    /// Whether instructions and their traffic are counted.
    pub(crate) counts: bool,
    /// Seed of what results are moved by whose low bits hardware does not specify; 0 is not at all.
    pub(crate) perturb: u64,
}

impl Dispatched<'_> {
    fn group_count(&self) -> u64 {
        self.groups.iter().map(|&count| u64::from(count)).product()
    }

    /// Groups that one thread runs in turn.
    fn batch(&self, number: u64) -> std::ops::Range<u64> {
        let first = number * RESIDENT as u64;
        first..self.group_count().min(first + RESIDENT as u64)
    }

    fn batches(&self) -> u64 {
        self.group_count().div_ceil(RESIDENT as u64)
    }
}

/// What was done.
pub(crate) struct Done {
    pub(crate) instructions: u64,
    pub(crate) counters: Option<Counters>,
    /// Operations whose low bits hardware does not specify, by name, and how often each ran.
    pub(crate) approximate: Vec<(&'static str, u64)>,
}

/// Runs every group.
pub(crate) fn run(
    dispatched: &Dispatched<'_>,
    table: &Table<'_>,
    pool: Option<&rayon::ThreadPool>,
) -> Result<Done, Box<LaunchFault>> {
    match dispatched.code {
        Code::Wave32(code) => run_lanes(dispatched, code, table, pool),
        Code::Wave64(code) => run_lanes(dispatched, code, table, pool),
    }
}

fn run_lanes<const L: usize>(
    dispatched: &Dispatched<'_>,
    code: &Translated<L>,
    table: &Table<'_>,
    pool: Option<&rayon::ThreadPool>,
) -> Result<Done, Box<LaunchFault>> {
    if dispatched.checks == Checks::NONE && !dispatched.counts {
        return run_unwatched(dispatched, code, table, pool);
    }
    let items: u32 = dispatched.block.iter().product();
    let mut checker = Checker::new(Watched {
        arch: dispatched.arch,
        checks: dispatched.checks,
        counts: dispatched.counts,
        facts: code.facts.get_or_init(|| facts_of(dispatched.arch, dispatched.bytes, code.registers)),
        table,
        groups: dispatched.groups,
        waves_per_group: items.div_ceil(lane_count::<L>()),
        rows: code.registers.count(),
    });
    let (mut instructions, mut ran) = (0, Executed::default());
    for number in 0..dispatched.batches() {
        let (count, approximate) =
            Batch::new(dispatched, code, table, &mut checker).run(dispatched.batch(number))?;
        instructions += count;
        ran.add(&approximate);
    }
    Ok(Done { instructions, counters: checker.finish(), approximate: ran.named() })
}

/// Lanes of a wave, among numbers of work-items.
fn lane_count<const L: usize>() -> u32 {
    u32::try_from(L).unwrap_or(u32::MAX)
}

fn run_unwatched<const L: usize>(
    dispatched: &Dispatched<'_>,
    code: &Translated<L>,
    table: &Table<'_>,
    pool: Option<&rayon::ThreadPool>,
) -> Result<Done, Box<LaunchFault>> {
    let batches = dispatched.batches();
    let (executed, failed) = (AtomicU64::new(0), AtomicUsize::new(0));
    let (fault, ran) = (Mutex::new(None), Mutex::new(Executed::default()));
    let work = |batch: u64| {
        if failed.load(Ordering::Relaxed) != 0 {
            return;
        }
        match Batch::new(dispatched, code, table, Unwatched).run(dispatched.batch(batch)) {
            Ok((count, approximate)) => {
                executed.fetch_add(count, Ordering::Relaxed);
                ran.lock().unwrap_or_else(PoisonError::into_inner).add(&approximate);
            }
            Err(found) => {
                failed.store(1, Ordering::Relaxed);
                fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
            }
        }
    };
    match pool {
        Some(pool) if batches > 1 => pool.install(|| (0..batches).into_par_iter().for_each(work)),
        _ => (0..batches).for_each(work),
    }
    match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(found) => Err(found),
        None => Ok(Done {
            instructions: executed.into_inner(),
            counters: None,
            approximate: ran.into_inner().unwrap_or_else(PoisonError::into_inner).named(),
        }),
    }
}

/// A wave that runs, and what is kept for whoever watches it.
struct Running<const L: usize, W: Watch<L>> {
    wave: Wave<L>,
    watched: W::Wave,
}

/// A group that runs.
struct Group<const L: usize, W: Watch<L>> {
    id: [u32; 3],
    waves: Vec<Running<L, W>>,
    lds: Vec<u8>,
    watched: W::Group,
}

/// Some groups, run in turn by one thread.
struct Batch<'a, const L: usize, W> {
    dispatched: &'a Dispatched<'a>,
    code: &'a Translated<L>,
    environment: Environment<'a>,
    watch: W,
}

impl<'a, const L: usize, W: Watch<L>> Batch<'a, L, W> {
    fn new(dispatched: &'a Dispatched<'a>, code: &'a Translated<L>, table: &'a Table<'a>, watch: W) -> Self {
        let mut environment = Environment::new(table, dispatched.own, dispatched.code_at);
        (environment.scratch_per_lane, environment.perturb) = (dispatched.scratch, dispatched.perturb);
        environment.arch = dispatched.arch;
        Self { dispatched, code, environment, watch }
    }

    /// Runs some groups; gives how many instructions ran, and which of those are approximate.
    fn run(&mut self, range: std::ops::Range<u64>) -> Result<(u64, Executed), Box<LaunchFault>> {
        let mut groups: Vec<Group<L, W>> = range.map(|index| self.group(index)).collect();
        let mut executed = 0;
        let mut turn = self.dispatched.order_seed;
        while !groups.is_empty() {
            let mut place = 0;
            while place < groups.len() {
                // Another order of the waves for each seed.
                turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let shift = if self.dispatched.order_seed == 0 {
                    0
                } else {
                    usize::try_from(turn >> 33).unwrap_or(0)
                };
                let group = &mut groups[place];
                std::mem::swap(&mut self.environment.lds, &mut group.lds);
                let ended = self.turn(group, shift, &mut executed);
                std::mem::swap(&mut self.environment.lds, &mut group.lds);
                if ended? {
                    groups.remove(place);
                } else {
                    place += 1;
                }
            }
        }
        Ok((executed, self.environment.executed))
    }

    /// Gives each wave of a group a slice. True when all have ended.
    fn turn(
        &mut self,
        group: &mut Group<L, W>,
        shift: usize,
        executed: &mut u64,
    ) -> Result<bool, Box<LaunchFault>> {
        let count = group.waves.len();
        for index in 0..count {
            let running = &mut group.waves[(index + shift) % count];
            if matches!(running.wave.stop, None | Some(Stop::Yield)) {
                running.wave.stop = None;
                let before = running.wave.executed;
                self.slice(running, &mut group.watched);
                *executed += running.wave.executed - before;
            }
            if let Some(Stop::Fault(fault)) = &mut running.wave.stop {
                let mut fault =
                    std::mem::replace(fault.as_mut(), LaunchFault::new(FaultKind::Unsupported, None));
                fault.group = group.id;
                return Err(self.placed(fault, &running.wave));
            }
        }
        let waits = |running: &Running<L, W>| matches!(running.wave.stop, Some(Stop::Barrier));
        let waiting = group.waves.iter().filter(|running| waits(running)).count();
        let ended = group.waves.iter().filter(|running| matches!(running.wave.stop, Some(Stop::End))).count();
        if waiting > 0 && waiting + ended == count {
            // A wave may end after it has said that it came to a barrier.
            let left = |running: &&Running<L, W>| {
                matches!(running.wave.stop, Some(Stop::End)) && !running.wave.signalled
            };
            if group.waves.iter().any(|running| left(&running)) && self.dispatched.checks.sync {
                let mut fault = LaunchFault::new(FaultKind::DivergentBarrier { waiting, ended }, None);
                fault.group = group.id;
                let Some(at_barrier) = group.waves.iter_mut().find(|running| waits(running)) else {
                    return Err(Box::new(fault));
                };
                // It stands behind the barrier, which is one word long.
                at_barrier.wave.pc -= 1;
                return Err(self.placed(fault, &at_barrier.wave));
            }
            self.watch
                .barrier(&mut group.watched, group.waves.iter_mut().map(|running| &mut running.watched));
            for running in &mut group.waves {
                running.wave.signalled = false;
                if waits(running) {
                    running.wave.stop = None;
                }
            }
        }
        Ok(ended == count)
    }

    /// Runs a wave until it stops or its slice ends.
    #[inline(never)]
    fn slice(&mut self, running: &mut Running<L, W>, group: &mut W::Group) {
        let Running { wave, watched } = running;
        // Here, as a wave that sleeps or comes to a barrier ends each of its slices before its time.
        if wave.executed >= self.dispatched.limit {
            return wave.fault(LaunchFault::new(FaultKind::TooLong(self.dispatched.limit), None));
        }
        let ops = self.code.ops.as_slice();
        let end = wave.executed + SLICE;
        while wave.executed < end {
            if let Err(fault) = self.watch.before(watched, group, wave, ops, &mut self.environment) {
                wave.stop = Some(Stop::Fault(fault));
                return;
            }
            let Some(op) = ops.get(wave.pc) else {
                wave.fault(LaunchFault::new(FaultKind::LeftCode, None));
                break;
            };
            step(wave, op, ops, &mut self.environment);
            if wave.stop.is_some() {
                if matches!(wave.stop, Some(Stop::Fault(_))) {
                    wave.pc -= usize::from(op.length).min(wave.pc);
                }
                return;
            }
        }
    }

    /// Fills in where a fault happened.
    fn placed(&self, mut fault: LaunchFault, wave: &Wave<L>) -> Box<LaunchFault> {
        fault.kernel = self.dispatched.kernel.to_owned();
        fault.wave = wave.number;
        let (pc, text) = self.text(wave.pc);
        fault.pc = pc;
        match text {
            Ok(text) => fault.text = text,
            Err((text, error)) => {
                fault.text = text;
                if fault.kind == FaultKind::Unsupported {
                    fault.kind = FaultKind::Decode(error);
                }
            }
        }
        if let Some(earlier) = &mut fault.earlier {
            let (pc, text) = self.text(usize::try_from(earlier.pc).unwrap_or(usize::MAX));
            (earlier.pc, earlier.text) = (pc, text.unwrap_or_else(|(text, _)| text));
        }
        Box::new(fault)
    }

    /// Address and text of the instruction at a word of the code; its bytes where it is none.
    fn text(&self, word: usize) -> (u64, Result<String, (String, DecodeError)>) {
        let pc = self.dispatched.code_start.wrapping_add((word as u64).wrapping_mul(4));
        let rest = self.dispatched.bytes.get(word.saturating_mul(4)..).unwrap_or(&[]);
        let bytes = || format!("{:02x?}", rest.get(..8.min(rest.len())).unwrap_or(&[]));
        let text = decode(self.dispatched.arch, rest);
        (pc, text.map(|instruction| instruction.to_string()).map_err(|error| (bytes(), error)))
    }

    fn group(&mut self, number: u64) -> Group<L, W> {
        let [x, y, _] = self.dispatched.groups.map(u64::from);
        let id = [low(number % x), low(number / x % y), low(number / (x * y))];
        let items: u32 = self.dispatched.block.iter().product();
        let group = GroupId { id, number };
        let waves = (0..items.div_ceil(lane_count::<L>())).map(|index| {
            let (wave, given) = self.dispatched.wave(self.code.registers.count(), id, index);
            let watched = self.watch.wave(&wave, group, given);
            Running { wave, watched }
        });
        let waves = waves.collect();
        // LDS is never cleared by hardware: a NaN pattern shows who relies on it.
        let lds = vec![0xff; self.dispatched.lds];
        Group { id, waves, lds, watched: self.watch.group(group, self.dispatched.lds) }
    }
}

/// Runs one instruction, or both halves of a pair.
#[inline(always)]
fn step<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, ops: &[Op<L>], environment: &mut Environment<'_>) {
    wave.executed += 1;
    wave.pc += usize::from(op.length);
    if op.pair {
        pair(wave, op, ops, environment);
    } else {
        // SAFETY: `translate` chose bodies for the features that it detected on this CPU.
        unsafe { (op.run)(wave, op, environment) };
    }
}

/// Runs the instruction at the wave's program counter.
pub(super) fn run_one<const L: usize>(wave: &mut Wave<L>, ops: &[Op<L>], environment: &mut Environment<'_>) {
    if let Some(op) = ops.get(wave.pc) {
        step(wave, op, ops, environment);
    }
}

/// Both halves of a pair read before either writes: the first writes a spare row.
fn pair<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, ops: &[Op<L>], environment: &mut Environment<'_>) {
    let place = wave.pc + 1 - usize::from(op.length);
    let (Some(second), Target::Vector { first, half }) = (ops.get(place), op.target) else { return };
    let spare = wave.vgprs.len() - SPARE_ROWS;
    let mut redirected = *op;
    redirected.target = Target::Vector { first: u16::try_from(spare).unwrap_or(0), half };
    // SAFETY: `translate` chose bodies for the features that it detected on this CPU.
    unsafe { (op.run)(wave, &redirected, environment) };
    // SAFETY: as above.
    unsafe { (second.run)(wave, second, environment) };
    let (row, mask) = (*wave.row(spare), wave.exec());
    wave.write_row(usize::from(first), &row, mask);
}
