//! Work-groups: their waves in turn, several groups at a time, over the cores.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use rayon::prelude::*;

use crate::{
    Arch, FaultKind, KernelDescriptor, LaunchFault, decode,
    exec::{
        environment::Environment,
        op::{Op, Target},
        translate::translate,
        wave::{EXEC, Mode, SCALARS, SPARE_ROWS, Stop, TTMP, Wave, low},
    },
    memory::{Allocation, Table},
};

/// Groups that one thread runs in turn, so that a lock's owner gets to run.
const RESIDENT: usize = 8;
/// Instructions that a wave runs before the next one's turn.
const SLICE: u64 = 4096;

/// A kernel's code, translated.
pub(crate) struct Code {
    ops: Vec<Op<32>>,
    /// Vector registers of a wave.
    rows: usize,
}

impl Code {
    pub(crate) fn new(arch: Arch, code: &[u8], descriptor: &KernelDescriptor) -> Self {
        // Granules of 8 registers in wave32; gfx11 has 24 on cards with large register files, which is no less.
        let rows = (usize::try_from(descriptor.resource1 & 63).unwrap_or(0) + 1) * 8;
        let rows = rows.min(256);
        Self { ops: translate(arch, code, rows), rows }
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
    /// Whether waves that end before a barrier are a fault.
    pub(crate) check_sync: bool,
}

/// Runs every group. Gives the instructions that were executed.
pub(crate) fn run(
    dispatched: &Dispatched<'_>,
    table: &Table<'_>,
    pool: Option<&rayon::ThreadPool>,
) -> Result<u64, Box<LaunchFault>> {
    let groups: u64 = dispatched.groups.iter().map(|&count| u64::from(count)).product();
    let batches = groups.div_ceil(RESIDENT as u64);
    let (executed, failed) = (AtomicU64::new(0), AtomicUsize::new(0));
    let fault = Mutex::new(None);
    let work = |batch: u64| {
        if failed.load(Ordering::Relaxed) != 0 {
            return;
        }
        let first = batch * RESIDENT as u64;
        let last = groups.min(first + RESIDENT as u64);
        match Batch::new(dispatched, table).run(first..last) {
            Ok(count) => {
                executed.fetch_add(count, Ordering::Relaxed);
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
        None => Ok(executed.into_inner()),
    }
}

/// A group that runs.
struct Group {
    id: [u32; 3],
    waves: Vec<Wave<32>>,
    lds: Vec<u8>,
}

/// Some groups, run in turn by one thread.
struct Batch<'a> {
    dispatched: &'a Dispatched<'a>,
    environment: Environment<'a>,
}

impl<'a> Batch<'a> {
    fn new(dispatched: &'a Dispatched<'a>, table: &'a Table<'a>) -> Self {
        let mut environment = Environment::new(table, dispatched.own, dispatched.code_at);
        environment.scratch_per_lane = dispatched.scratch;
        Self { dispatched, environment }
    }

    fn run(&mut self, range: std::ops::Range<u64>) -> Result<u64, Box<LaunchFault>> {
        let mut groups: Vec<Group> = range.map(|index| self.group(index)).collect();
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
        Ok(executed)
    }

    /// Gives each wave of a group a slice. True when all have ended.
    fn turn(
        &mut self,
        group: &mut Group,
        shift: usize,
        executed: &mut u64,
    ) -> Result<bool, Box<LaunchFault>> {
        let count = group.waves.len();
        for index in 0..count {
            let wave = &mut group.waves[(index + shift) % count];
            if matches!(wave.stop, None | Some(Stop::Yield)) {
                wave.stop = None;
                let before = wave.executed;
                self.slice(wave);
                *executed += wave.executed - before;
            }
            if let Some(Stop::Fault(fault)) = &mut wave.stop {
                let mut fault =
                    std::mem::replace(fault.as_mut(), LaunchFault::new(FaultKind::Unsupported, None));
                fault.group = group.id;
                return Err(self.placed(fault, wave));
            }
        }
        let waiting = group.waves.iter().filter(|wave| matches!(wave.stop, Some(Stop::Barrier))).count();
        let ended = group.waves.iter().filter(|wave| matches!(wave.stop, Some(Stop::End))).count();
        if waiting > 0 && waiting + ended == count {
            if ended > 0 && self.dispatched.check_sync {
                let mut fault = LaunchFault::new(FaultKind::DivergentBarrier { waiting, ended }, None);
                fault.group = group.id;
                let wave = group.waves.iter().find(|wave| matches!(wave.stop, Some(Stop::Barrier)));
                return Err(wave.map_or_else(
                    || Box::new(LaunchFault::new(FaultKind::LeftCode, None)),
                    |wave| self.placed(fault, wave),
                ));
            }
            let waiting = |wave: &&mut Wave<32>| matches!(wave.stop, Some(Stop::Barrier));
            group.waves.iter_mut().filter(waiting).for_each(|wave| wave.stop = None);
        }
        Ok(ended == count)
    }

    /// Runs a wave until it stops or its slice ends.
    #[inline(never)]
    fn slice(&mut self, wave: &mut Wave<32>) {
        let ops = self.dispatched.code.ops.as_slice();
        let end = wave.executed + SLICE;
        while wave.executed < end {
            let Some(op) = ops.get(wave.pc) else {
                wave.fault(LaunchFault::new(FaultKind::LeftCode, None));
                break;
            };
            wave.executed += 1;
            wave.pc += usize::from(op.length);
            if op.pair {
                self.pair(wave, op, ops);
            } else {
                // SAFETY: `translate` chose bodies for the features that it detected on this CPU.
                unsafe { (op.run)(wave, op, &mut self.environment) };
            }
            if wave.stop.is_some() {
                if matches!(wave.stop, Some(Stop::Fault(_))) {
                    wave.pc -= usize::from(op.length).min(wave.pc);
                }
                return;
            }
        }
        if wave.executed >= self.dispatched.limit {
            wave.fault(LaunchFault::new(FaultKind::TooLong(self.dispatched.limit), None));
        }
    }

    /// Both halves of a pair read before either writes: the first writes a spare row.
    fn pair(&mut self, wave: &mut Wave<32>, op: &Op<32>, ops: &[Op<32>]) {
        let place = wave.pc + 1 - usize::from(op.length);
        let (Some(second), Target::Vector { first, half }) = (ops.get(place), op.target) else { return };
        let spare = wave.vgprs.len() - SPARE_ROWS;
        let mut redirected = *op;
        redirected.target = Target::Vector { first: u16::try_from(spare).unwrap_or(0), half };
        // SAFETY: `translate` chose bodies for the features that it detected on this CPU.
        unsafe { (op.run)(wave, &redirected, &mut self.environment) };
        // SAFETY: as above.
        unsafe { (second.run)(wave, second, &mut self.environment) };
        let (row, mask) = (*wave.row(spare), wave.exec());
        wave.write_row(usize::from(first), &row, mask);
    }

    /// Fills in where a fault happened.
    fn placed(&self, mut fault: LaunchFault, wave: &Wave<32>) -> Box<LaunchFault> {
        fault.kernel = self.dispatched.kernel.to_owned();
        fault.wave = wave.number;
        fault.pc = self.dispatched.code_start.wrapping_add((wave.pc as u64).wrapping_mul(4));
        let rest = self.dispatched.bytes.get(wave.pc.saturating_mul(4)..).unwrap_or(&[]);
        match decode(self.dispatched.arch, rest) {
            Ok(instruction) => fault.text = instruction.to_string(),
            Err(error) => {
                fault.text = format!("{:02x?}", rest.get(..8.min(rest.len())).unwrap_or(&[]));
                if fault.kind == FaultKind::Unsupported {
                    fault.kind = FaultKind::Decode(error);
                }
            }
        }
        Box::new(fault)
    }

    fn group(&self, index: u64) -> Group {
        let [x, y, _] = self.dispatched.groups.map(u64::from);
        let id = [low(index % x), low(index / x % y), low(index / (x * y))];
        let items: u32 = self.dispatched.block.iter().product();
        let waves = (0..items.div_ceil(32)).map(|number| self.wave(id, number, items)).collect();
        // LDS is never cleared by hardware: a NaN pattern shows who relies on it.
        Group { id, waves, lds: vec![0xff; self.dispatched.lds] }
    }

    /// A wave as it starts.
    fn wave(&self, group: [u32; 3], number: u32, items: u32) -> Wave<32> {
        let dispatched = self.dispatched;
        let mut wave = Wave::<32>::new(dispatched.code.rows, dispatched.scratch * 32);
        wave.number = number;
        wave.pc = dispatched.entry;
        let resource1 = dispatched.descriptor.resource1;
        wave.mode = Mode((resource1 >> 12 & 0xff) | (resource1 >> 21 & 1) << 8 | (resource1 >> 23 & 1) << 9);
        if !wave.mode.rounds_to_nearest() {
            wave.fault(LaunchFault::new(FaultKind::Rounding(wave.mode.0), None));
        }
        self.initial_scalars(&mut wave.sgprs, group);
        let [width, height, _] = dispatched.block;
        let first = number * 32;
        let (mut x, mut y, mut z) = (first % width, first / width % height, first / width / height);
        let mut ids = [0; 32];
        for id in &mut ids {
            *id = x | y << 10 | z << 20;
            x += 1;
            if x == width {
                (x, y) = (0, y + 1);
            }
            if y == height {
                (y, z) = (0, z + 1);
            }
        }
        let exec = u64::MAX >> (64 - u64::from(items - first).min(32));
        wave.write_row(0, &ids, u64::from(u32::MAX));
        wave.set_mask(EXEC, exec);
        wave
    }

    /// User registers, then the ids of the group.
    fn initial_scalars(&self, scalars: &mut [u32; SCALARS], group: [u32; 3]) {
        let dispatched = self.dispatched;
        let mut next = 0;
        for value in dispatched.descriptor.user_values() {
            let (bits, words) = match value {
                "dispatch_ptr" => (dispatched.packet, 2),
                "kernarg_segment_ptr" => (dispatched.arguments, 2),
                "dispatch_id" | "queue_ptr" | "flat_scratch_init" => (0, 2),
                "private_segment_size" => (dispatched.scratch as u64, 1),
                _ => (0, 4),
            };
            for word in 0..words {
                scalars[next] = if word < 2 { low(bits >> (32 * word)) } else { 0 };
                next += 1;
            }
        }
        // Values that this list does not know would lie here.
        next = usize::try_from(dispatched.descriptor.user_registers()).unwrap_or(next);
        let resource2 = dispatched.descriptor.resource2;
        for (axis, &id) in group.iter().enumerate() {
            if resource2 >> (7 + axis) & 1 != 0 {
                scalars[next] = id;
                next += 1;
            }
        }
        scalars[TTMP + 9] = group[0];
        scalars[TTMP + 7] = group[1] | group[2] << 16;
    }
}
