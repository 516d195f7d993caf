//! What a launch is watched for: waits, values that were never written, races; and counts.

mod access;
mod counters;
mod facts;
mod memory;
mod races;
mod sample;
mod shadow;
mod undefined;
mod waits;

use std::collections::HashMap;

use crate::{
    Arch, Checks, Counters, FaultKind, LaunchFault,
    exec::{
        check::{
            counters::{Class, Counting},
            facts::{Counts, Facts, Flow, Span},
            memory::{Part, Run},
            races::{Clock, Touch, Words},
            undefined::{Decides, Undefined},
            waits::{Numbers, Waits},
        },
        environment::Environment,
        op::Op,
        watch::{Given, GroupId, Watch},
        wave::{M0, Wave},
    },
    finding::{Use, WaveId},
    memory::{Allocation, Table},
    written::Written,
};

pub(super) use facts::{Facts as InstructionFacts, facts_of};

/// The launch that is watched.
#[derive(Clone, Copy)]
pub(super) struct Watched<'a, const L: usize> {
    pub(super) arch: Arch,
    pub(super) checks: Checks,
    pub(super) counts: bool,
    pub(super) facts: &'a [Option<Facts<L>>],
    pub(super) table: &'a Table<'a>,
    pub(super) groups: [u32; 3],
    pub(super) waves_per_group: u32,
    /// Vector registers of a wave.
    pub(super) rows: usize,
}

/// Watches one launch.
pub(super) struct Checker<'a, const L: usize> {
    launch: Watched<'a, L>,
    counting: Option<Counting>,
    /// A wave to run operations on whose operands are not defined.
    spare: Wave<L>,
    /// Accesses of global memory.
    words: Words,
    /// What lies before an atomic operation on an address.
    published: HashMap<u64, Clock>,
    /// Writes that a load has observed.
    seen: Vec<Touch>,
    /// The allocation of the last access, and what of it is written.
    written: Option<(Allocation, &'a Written)>,
    /// Room for the parts of an access.
    parts: Vec<Part>,
    runs: Vec<Run>,
}

/// What is kept for a wave.
pub(super) struct WatchedWave<const L: usize> {
    undefined: Option<Undefined<L>>,
    waits: Waits,
    clock: Clock,
    /// What was done and known when the wave said that it has come to a barrier.
    signalled: Option<(Numbers, Clock)>,
    /// Among all waves of the launch.
    number: u32,
}

/// What is kept for a group.
pub(super) struct WatchedGroup {
    id: [u32; 3],
    /// Undefined bits of LDS.
    lds_undefined: Vec<u8>,
    lds_words: Words,
    lds_clock: Clock,
    clock: Clock,
}

impl<'a, const L: usize> Checker<'a, L> {
    pub(super) fn new(launch: Watched<'a, L>) -> Self {
        Self {
            launch,
            counting: launch.counts.then(Counting::default),
            spare: Wave::new(launch.rows, 0),
            words: Words::default(),
            published: HashMap::new(),
            seen: Vec::new(),
            written: None,
            parts: Vec::with_capacity(L),
            runs: Vec::with_capacity(L),
        }
    }

    /// The counts, where they were asked for.
    pub(super) fn finish(self) -> Option<Counters> {
        self.counting.map(Counting::finish)
    }

    /// Whether it matters what is in flight.
    const fn follows_waits(&self) -> bool {
        self.launch.checks.race || self.launch.checks.sync
    }

    /// The wave of a number among all waves.
    fn wave_id(&self, number: u32) -> WaveId {
        let waves = self.launch.waves_per_group.max(1);
        let (index, wave) = (number / waves, number % waves);
        let [x, y, _] = self.launch.groups.map(|count| count.max(1));
        WaveId { group: [index % x, index / x % y, index / x / y], wave }
    }

    fn count(&mut self, facts: &Facts<L>) {
        if let Some(counting) = &mut self.counting {
            counting.instruction(facts.class);
            if facts.class == Class::Memory && facts.access.is_none() {
                counting.unfollowed();
            }
        }
    }

    fn waits(&mut self, waits: &mut Waits, facts: &Facts<L>, at: usize) -> Result<(), Box<LaunchFault>> {
        if self.launch.checks.sync
            && let Some(found) = waits.conflict(facts)
        {
            let (vector, index, counter) = (found.vector, found.register, found.counter);
            let kind = FaultKind::MissingWait { vector, index, counter };
            return Err(Box::new(LaunchFault::new(kind, None).after(found.at)));
        }
        if let Flow::Wait(counts) = facts.flow
            && !waits.wait(counts)
            && counts != Counts::ANY
            && let Some(counting) = &mut self.counting
        {
            counting.idle_wait();
        }
        if facts.exchanges || (facts.class == Class::Wait && facts.writes.iter().next().is_some()) {
            waits.issue_answer(facts, at);
        }
        Ok(())
    }

    /// Follows what an instruction that touches no memory does with undefined bits.
    fn undefined(
        &mut self,
        undefined: &mut Undefined<L>,
        facts: &Facts<L>,
        wave: &Wave<L>,
        ops: &[Op<L>],
        environment: &mut Environment<'_>,
    ) -> Result<(), Decides> {
        match facts.flow {
            Flow::Scc => undefined.expect_scc()?,
            Flow::Vcc => undefined.expect_vccz(wave)?,
            Flow::Jump => facts.reads.iter().try_for_each(|span| undefined.expect(span, 0, Use::Branch))?,
            Flow::Next | Flow::Wait(_) | Flow::Signal => {}
        }
        if facts.relative {
            undefined.expect(Span::scalar(M0), 0, Use::Index)?;
        }
        if facts.access.is_some() {
            return Ok(());
        }
        if facts.class == Class::Memory && !facts.crosses_lanes {
            // Memory operations that are not followed must not be run twice.
            facts.writes.iter().for_each(|span| undefined.define(span, wave.exec()));
            return Ok(());
        }
        undefined.follow(&mut self.spare, facts, wave, ops, environment)
    }
}

/// A fault from a use of undefined bits.
fn decides(found: Decides) -> Box<LaunchFault> {
    let kind = FaultKind::Unwritten { used: found.used, origin: found.root.origin };
    let lane = found.lane.and_then(|lane| u32::try_from(lane).ok());
    let fault = LaunchFault::new(kind, lane);
    Box::new(match found.root.at {
        Some(at) => fault.after(at),
        None => fault,
    })
}

impl<const L: usize> Watch<L> for &mut Checker<'_, L> {
    type Wave = WatchedWave<L>;
    type Group = WatchedGroup;

    fn group(&mut self, group: GroupId, lds: usize) -> WatchedGroup {
        WatchedGroup {
            id: group.id,
            lds_undefined: vec![0xff; if self.launch.checks.init { lds } else { 0 }],
            lds_words: Words::default(),
            lds_clock: Clock::default(),
            clock: Clock::default(),
        }
    }

    fn wave(&mut self, wave: &Wave<L>, group: GroupId, given: Given) -> WatchedWave<L> {
        if let Some(counting) = &mut self.counting {
            counting.wave();
        }
        let number = group.number.saturating_mul(u64::from(self.launch.waves_per_group));
        WatchedWave {
            undefined: self.launch.checks.init.then(|| Undefined::new(wave, given)),
            waits: Waits::new(self.launch.arch),
            signalled: None,
            clock: Clock::default(),
            number: u32::try_from(number).unwrap_or(u32::MAX - 1024).saturating_add(wave.number),
        }
    }

    fn before(
        &mut self,
        on: &mut WatchedWave<L>,
        group: &mut WatchedGroup,
        wave: &Wave<L>,
        ops: &[Op<L>],
        environment: &mut Environment<'_>,
    ) -> Result<(), Box<LaunchFault>> {
        let Some(Some(facts)) = self.launch.facts.get(wave.pc) else { return Ok(()) };
        self.count(facts);
        if self.follows_waits() {
            self.waits(&mut on.waits, facts, wave.pc)?;
        }
        if facts.flow == Flow::Signal {
            on.signalled = Some((on.waits.met(), on.clock.clone()));
        }
        if let Some(undefined) = &mut on.undefined {
            self.undefined(undefined, facts, wave, ops, environment).map_err(decides)?;
        }
        match (&facts.access, ops.get(wave.pc)) {
            (Some(access), Some(op)) => self.access(on, group, wave, facts, access, op),
            _ => Ok(()),
        }
    }

    fn barrier<'w>(&mut self, group: &mut WatchedGroup, waves: impl Iterator<Item = &'w mut WatchedWave<L>>)
    where
        WatchedWave<L>: 'w,
    {
        for (local, wave) in (0..).zip(waves) {
            let (done, known) = match wave.signalled.take() {
                Some(signalled) => signalled,
                None => (wave.waits.met(), std::mem::take(&mut wave.clock)),
            };
            group.lds_clock.see(local, done.lds);
            group.clock.see(wave.number, done.global);
            group.clock.join(&known);
        }
    }
}
