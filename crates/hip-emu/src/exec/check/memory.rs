//! Memory accesses: alignment, what was never written, races, counts.

use crate::{
    FaultKind, LaunchFault,
    exec::{
        buffers::{is_outside, scratch_place},
        check::{
            Checker, WatchedGroup, WatchedWave,
            access::{Access, Kind, Space},
            decides,
            facts::Facts,
            races::{Conflict, Effect, Order, Touch},
            shadow::Shadow,
            undefined::{Decides, Undefined},
            waits::Numbers,
        },
        memory_ops::active as active_lanes,
        op::{Op, PRIVATE_APERTURE, SHARED_APERTURE},
        scalar_memory::scalar_address,
        space::{DATA, DATA2},
        wave::{Wave, low},
    },
    finding::{SharedSpace, Use, WaveId},
};

/// Bytes at the end of the address space that belong to nothing.
const LAST_PAGE: u64 = 1 << 16;

/// The memory that an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Global,
    Lds,
    Scratch,
}

/// One lane's part of an access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) lane: usize,
    pub(super) at: Where,
    pub(super) address: u64,
}

impl Part {
    fn new<const L: usize>(access: &Access<L>, lane: usize, address: u64) -> Option<Self> {
        if let (Space::Buffer, Some((owner, place))) = (access.space, scratch_place::<L>(address)) {
            return (owner == lane).then_some(Self { lane, at: Where::Scratch, address: place });
        }
        let at = match (access.space, low(address >> 32)) {
            (Space::Lds, _) | (Space::Flat, SHARED_APERTURE) => Where::Lds,
            (Space::Scratch, _) | (Space::Flat, PRIVATE_APERTURE) => Where::Scratch,
            (Space::Buffer, _) if is_outside(address) => return None,
            // Nothing is allocated there, as the operation itself will find; sums with such an address could overflow.
            _ if address > u64::MAX - LAST_PAGE => return None,
            _ => Where::Global,
        };
        let address = if at == Where::Global { address } else { u64::from(low(address)) };
        Some(Self { lane, at, address })
    }
}

/// Parts of consecutive lanes that touch one range: the same place, or places that follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) at: Where,
    pub(super) address: u64,
    pub(super) bytes: u64,
}

/// Joins parts of `bytes` bytes to runs. Scratch is each lane's own and makes none.
fn runs(parts: &[Part], bytes: u64, into: &mut Vec<Run>) {
    into.clear();
    for part in parts.iter().filter(|part| part.at != Where::Scratch) {
        match into.last_mut().filter(|run| run.at == part.at) {
            Some(run) if run.address + run.bytes == part.address => run.bytes += bytes,
            Some(run) if run.bytes == bytes && run.address == part.address => {}
            _ => into.push(Run { at: part.at, address: part.address, bytes }),
        }
    }
}

impl<const L: usize> Checker<'_, L> {
    /// Checks and notes an access before it happens.
    pub(super) fn access(
        &mut self,
        on: &mut WatchedWave<L>,
        group: &mut WatchedGroup,
        wave: &Wave<L>,
        facts: &Facts<L>,
        access: &Access<L>,
        op: &Op<L>,
    ) -> Result<(), Box<LaunchFault>> {
        let checks = self.launch.checks;
        // The wave itself will meet a descriptor without a format.
        let Some(access) = &access.resolved(wave, op) else { return Ok(()) };
        if let Some(undefined) = &on.undefined {
            expect_addresses(undefined, wave, facts, access, op).map_err(decides)?;
        }
        let atomic = matches!(access.kind, Kind::Update { .. });
        let done = if checks.race && atomic { on.waits.done() } else { Numbers::default() };
        let numbers =
            if self.follows_waits() { on.waits.issue(access, facts, wave.pc) } else { Numbers::default() };
        if let (Some(undefined), Kind::Load) = (&mut on.undefined, access.kind) {
            undefined.define_loaded(facts, access, wave.exec());
        }
        // Where the words of scalar loads through descriptors lie is not followed.
        if access.space == Space::ScalarBuffer
            || !(checks.race || checks.init || checks.align || self.launch.counts)
        {
            return Ok(());
        }
        let (places, addresses, active) = if access.space == Space::Scalar {
            (1, [[scalar_address(wave, op); L]; 2], 1)
        } else {
            let (places, addresses) = access.places(wave, op);
            (places, addresses, access.lanes(wave.exec()))
        };
        let (mut parts, mut ranges) = (std::mem::take(&mut self.parts), std::mem::take(&mut self.runs));
        let mut result = Ok(());
        for (place, addresses) in addresses.iter().enumerate().take(places) {
            parts.clear();
            parts.extend(
                active_lanes::<L>(active).filter_map(|lane| Part::new(access, lane, addresses[lane])),
            );
            runs(&parts, access.bytes.into(), &mut ranges);
            self.count_access(access, &parts, place);
            result = self
                .expect_aligned(access, &parts)
                .and_then(|()| self.races(on, group, wave, access, (&parts, &ranges), (done, numbers)));
            if let (Ok(()), Some(undefined)) = (&result, &mut on.undefined) {
                let mut shadow = Shadow::new(self.launch.table, &mut self.written, group, undefined, wave.pc);
                let data =
                    [DATA, DATA2].map(|source| op.sources[source].vector().unwrap_or(usize::MAX))[place];
                let moved = shadow.follow(facts, access, (&parts, &ranges), (data, place), wave.exec());
                result = moved.map_err(decides);
            }
            if result.is_err() {
                break;
            }
        }
        (self.parts, self.runs) = (parts, ranges);
        result
    }

    fn count_access(&mut self, access: &Access<L>, parts: &[Part], place: usize) {
        let Some(counting) = &mut self.counting else { return };
        let bytes = u64::from(access.bytes);
        let at = |place| move |part: &&Part| part.at == place;
        if parts.iter().any(|part| part.at == Where::Global) {
            let addresses = parts.iter().filter(at(Where::Global)).map(|part| part.address);
            counting.global(access.space, access.kind, addresses, bytes);
        }
        if parts.iter().any(|part| part.at == Where::Lds) {
            let lanes = parts.iter().filter(at(Where::Lds)).map(|part| (part.lane, part.address));
            counting.lds(lanes, bytes, place == 0);
        }
        if parts.iter().any(|part| part.at == Where::Scratch) {
            counting.scratch();
        }
    }

    fn expect_aligned(&self, access: &Access<L>, parts: &[Part]) -> Result<(), Box<LaunchFault>> {
        let unit = u64::from(access.bytes.min(4));
        let misaligned = parts.iter().find(|part| self.launch.checks.align && part.address % unit != 0);
        let Some(&Part { lane, address, .. }) = misaligned else { return Ok(()) };
        let kind = FaultKind::Misaligned { address, bytes: usize::from(access.bytes) };
        Err(Box::new(LaunchFault::new(kind, u32::try_from(lane).ok())))
    }

    fn races(
        &mut self,
        on: &mut WatchedWave<L>,
        group: &mut WatchedGroup,
        wave: &Wave<L>,
        access: &Access<L>,
        (parts, runs): (&[Part], &[Run]),
        (done, numbers): (Numbers, Numbers),
    ) -> Result<(), Box<LaunchFault>> {
        if !self.launch.checks.race {
            return Ok(());
        }
        let atomic = matches!(access.kind, Kind::Update { .. });
        let effect = match access.kind {
            Kind::Load if access.coherent => Effect::Observe,
            Kind::Load => Effect::Read,
            Kind::Store | Kind::Update { .. } => Effect::Write,
        };
        for part in parts.iter().filter(|part| atomic && part.at == Where::Global) {
            // What the wave has done is before the operation, and what others had done before theirs is before it.
            let published = self.published.entry(part.address & !3).or_default();
            published.see(on.number, done.global);
            published.join(&group.clock);
            published.join(&on.clock);
            on.clock.join(published);
        }
        for run in runs {
            let (address, bytes, seen) = (run.address, run.bytes, &mut self.seen);
            let result = if run.at == Where::Lds {
                let touch = Touch::new(wave.number, numbers.lds, wave.pc, atomic);
                let order = Order { own: &group.lds_clock, group: &group.lds_clock };
                group.lds_words.touch(address, bytes, effect, touch, order, seen)
            } else {
                let touch = Touch::new(on.number, numbers.global, wave.pc, atomic);
                let order = Order { own: &on.clock, group: &group.clock };
                self.words.touch(address, bytes, effect, touch, order, seen)
            };
            if run.at == Where::Lds {
                self.seen.clear();
            }
            self.seen.drain(..).for_each(|write| on.clock.see(write.wave(), write.number()));
            result.map_err(|conflict| self.race(&conflict, run.at, group, effect, (parts, access)))?;
        }
        Ok(())
    }

    /// The fault of a conflict.
    fn race(
        &self,
        &Conflict { other, other_writes, address }: &Conflict,
        at: Where,
        group: &WatchedGroup,
        effect: Effect,
        (parts, access): (&[Part], &Access<L>),
    ) -> Box<LaunchFault> {
        let (space, id, allocation) = if at == Where::Lds {
            (SharedSpace::Lds, WaveId { group: group.id, wave: other.wave() }, None)
        } else {
            (SharedSpace::Global, self.wave_id(other.wave()), self.launch.table.find(address, 1))
        };
        let writes = effect == Effect::Write;
        let kind = FaultKind::Race { space, address, allocation, writes, other: id, other_writes };
        let touches = |part: &&Part| {
            part.at == at && part.address < address + 4 && part.address + u64::from(access.bytes) > address
        };
        let lane = parts.iter().find(touches).and_then(|part| u32::try_from(part.lane).ok());
        let fault = LaunchFault::new(kind, lane);
        Box::new(match other.at() {
            Some(at) => fault.after(at),
            None => fault,
        })
    }
}

/// Fails when an address is not defined. The registers that hold data are no part of it.
fn expect_addresses<const L: usize>(
    undefined: &Undefined<L>,
    wave: &Wave<L>,
    facts: &Facts<L>,
    access: &Access<L>,
    op: &Op<L>,
) -> Result<(), Decides> {
    let data = [DATA, DATA2].map(|source| match access.kind {
        Kind::Load => usize::MAX,
        Kind::Store | Kind::Update { .. } => op.sources[source].vector().unwrap_or(usize::MAX),
    });
    facts
        .reads
        .iter()
        .filter(|span| !(span.vector && data.contains(&usize::from(span.first))))
        .try_for_each(|span| undefined.expect(span, wave.exec(), Use::Address))
}
