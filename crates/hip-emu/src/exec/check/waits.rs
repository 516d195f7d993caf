//! What a wave has in flight: the counters that it waits on (LLVM's AMDGPU usage guide, "Memory Model gfx10-gfx11").

use std::collections::VecDeque;

use crate::Arch;
use crate::exec::check::{
    access::{Access, Kind, Space},
    facts::{Counts, Facts, Span},
};

/// The largest value of a counter: what is issued beyond it waits for the first one in flight.
const MOST: usize = 63;

/// Ways that results come back in the order of their issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Vector memory, by `vmcnt`.
    Vector,
    /// LDS, by `lgkmcnt`.
    Lds,
    /// Vector memory that goes to LDS, by `vmcnt`.
    IntoLds,
    /// Vector memory that may be LDS, by both.
    Flat,
    /// Scalar memory and messages, by `lgkmcnt`, in any order.
    Scalar,
}

/// One operation in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    lane: Lane,
    /// What it writes when it comes back.
    result: Option<Span>,
    numbers: Numbers,
    /// Word of the instruction.
    at: usize,
}

/// An access's place in the order of a wave's accesses of global memory, and of LDS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) global: u32,
    pub(super) lds: u32,
}

/// A register that is touched while a load into it is in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) vector: bool,
    pub(super) register: usize,
    pub(super) counter: &'static str,
    /// Word of the load.
    pub(super) at: usize,
}

/// Which operations have counters of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counters {
    /// Loads and stores are counted together, LDS and scalar memory too (gfx9).
    Two,
    /// Stores are counted apart (gfx10, gfx11).
    Three,
    /// Scalar memory is counted apart too (gfx12).
    Four,
}

/// A bit for each register of a file.
type Flags = [u64; 8];

/// The operations of one wave that are in flight. A flat operation is in two queues, and done when it is in none.
#[derive(Debug)]
pub(super) struct Waits {
    counters: Counters,
    loads: VecDeque<Flight>,
    stores: VecDeque<Flight>,
    others: VecDeque<Flight>,
    scalars: VecDeque<Flight>,
    /// Registers with a load in flight.
    vector: Flags,
    scalar: Flags,
    issued: Numbers,
}

impl Waits {
    pub(super) fn new(arch: Arch) -> Self {
        let counters = match arch {
            Arch::Gfx9 | Arch::Gfx90a | Arch::Gfx940 => Counters::Two,
            Arch::Gfx10 | Arch::Gfx11 => Counters::Three,
            Arch::Gfx12 => Counters::Four,
        };
        let queue = VecDeque::new;
        Self {
            counters,
            loads: queue(),
            stores: queue(),
            others: queue(),
            scalars: queue(),
            vector: Flags::default(),
            scalar: Flags::default(),
            issued: Numbers::default(),
        }
    }

    /// What may have a result on its way.
    fn returning(&self) -> impl Iterator<Item = &Flight> + Clone {
        self.loads.iter().chain(&self.others).chain(&self.scalars)
    }

    /// The first register of an instruction that a load in flight has still to write.
    pub(super) fn conflict<const L: usize>(&self, facts: &Facts<L>) -> Option<InFlight> {
        self.returning().next()?;
        let exchanges = facts.exchanges.then_some(Lane::Lds);
        let own = facts.access.map(|access| lane(&access)).or(exchanges);
        let reads = facts.reads.iter().find_map(|span| self.pending(span, None));
        reads.or_else(|| facts.writes.iter().find_map(|span| self.pending(span, own)))
    }

    /// A register of the span that is in flight otherwise than in the order of `own`.
    fn pending(&self, span: Span, own: Option<Lane>) -> Option<InFlight> {
        let flags = if span.vector { &self.vector } else { &self.scalar };
        let set =
            |register: &usize| flags.get(register / 64).is_some_and(|word| word >> (register % 64) & 1 != 0);
        let register = span.registers().find(set)?;
        let holds = |result: Span| {
            result.vector == span.vector
                && result.registers().any(|other| span.registers().any(|one| one == other))
        };
        let flight = self.returning().find(|flight| {
            flight.result.is_some_and(holds) && (own != Some(flight.lane) || flight.lane == Lane::Scalar)
        })?;
        let counter = match (flight.lane, self.counters) {
            (Lane::Vector | Lane::IntoLds, Counters::Four) => "loadcnt",
            (Lane::Vector | Lane::IntoLds, _) => "vmcnt",
            (Lane::Lds, Counters::Four) => "dscnt",
            (Lane::Scalar, Counters::Four) => "kmcnt",
            (Lane::Lds | Lane::Scalar, _) => "lgkmcnt",
            (Lane::Flat, Counters::Four) => "loadcnt and dscnt",
            (Lane::Flat, _) => "vmcnt and lgkmcnt",
        };
        Some(InFlight { vector: span.vector, register, counter, at: flight.at })
    }

    /// Notes an access; gives its place.
    pub(super) fn issue<const L: usize>(
        &mut self,
        access: &Access<L>,
        facts: &Facts<L>,
        at: usize,
    ) -> Numbers {
        let lane = lane(access);
        let Numbers { global, lds } = &mut self.issued;
        *global = global.saturating_add(u32::from(lane != Lane::Lds));
        *lds = lds.saturating_add(u32::from(matches!(lane, Lane::Lds | Lane::IntoLds | Lane::Flat)));
        let returns = lane == Lane::IntoLds
            || !matches!(access.kind, Kind::Store | Kind::Update { returns: false, .. });
        let result = facts.writes.iter().next().filter(|_| returns);
        let flight = Flight { lane, result, numbers: self.issued, at };
        if matches!(lane, Lane::Vector | Lane::IntoLds | Lane::Flat) {
            let together = returns || self.counters == Counters::Two;
            push(if together { &mut self.loads } else { &mut self.stores }, flight);
        }
        if !matches!(lane, Lane::Vector | Lane::IntoLds) {
            push(self.queue_of(lane), flight);
        }
        if let Some(span) = result {
            flag(if span.vector { &mut self.vector } else { &mut self.scalar }, span);
        }
        self.issued
    }

    /// Notes what comes back and accesses no memory: an exchange between lanes comes as an LDS load does, the answer to a
    /// message as a scalar load does.
    pub(super) fn issue_answer<const L: usize>(&mut self, facts: &Facts<L>, at: usize) {
        let result = facts.writes.iter().next();
        let numbers = Numbers { global: u32::MAX, lds: u32::MAX };
        let lane = if facts.exchanges { Lane::Lds } else { Lane::Scalar };
        push(self.queue_of(lane), Flight { lane, result, numbers, at });
        if let Some(span) = result {
            flag(if span.vector { &mut self.vector } else { &mut self.scalar }, span);
        }
    }

    /// Where what comes back otherwise than from vector memory is counted.
    fn queue_of(&mut self, lane: Lane) -> &mut VecDeque<Flight> {
        if lane == Lane::Scalar && self.counters == Counters::Four {
            &mut self.scalars
        } else {
            &mut self.others
        }
    }

    /// Waits until no more than so many are in flight; tells whether there was anything to wait for.
    pub(super) fn wait(&mut self, counts: Counts) -> bool {
        let before = self.in_flight();
        self.loads.drain(..self.loads.len().saturating_sub(counts.loads));
        self.stores.drain(..self.stores.len().saturating_sub(counts.stores));
        // Scalar loads come back in any order: where there is one, a count above zero says nothing.
        if counts.others == 0 || self.others.iter().all(|flight| flight.lane != Lane::Scalar) {
            self.others.drain(..self.others.len().saturating_sub(counts.others));
        }
        if counts.scalars == 0 {
            self.scalars.clear();
        }
        let (mut vector, mut scalar) = (Flags::default(), Flags::default());
        for span in self.returning().filter_map(|flight| flight.result) {
            flag(if span.vector { &mut vector } else { &mut scalar }, span);
        }
        (self.vector, self.scalar) = (vector, scalar);
        self.in_flight() < before
    }

    /// Operations in flight.
    fn in_flight(&self) -> usize {
        self.loads.len() + self.stores.len() + self.others.len() + self.scalars.len()
    }

    /// The accesses of which all earlier ones, and they themselves, are done. What a flat operation does to LDS is done by
    /// `lgkmcnt`, what it does to other memory by the counters of vector memory, whichever it turns out to be.
    pub(super) fn done(&self) -> Numbers {
        let by_vector = self.loads.iter().chain(&self.stores);
        let of_global = by_vector
            .clone()
            .chain(self.others.iter().chain(&self.scalars).filter(|other| other.lane == Lane::Scalar));
        let into_lds = by_vector.filter(|flight| flight.lane == Lane::IntoLds);
        let of_lds = into_lds.chain(self.others.iter().filter(|other| other.lane != Lane::Scalar));
        Numbers {
            global: before(of_global.map(|flight| flight.numbers.global).min(), self.issued.global),
            lds: before(of_lds.map(|flight| flight.numbers.lds).min(), self.issued.lds),
        }
    }

    /// The accesses that are before those of the group's other waves after a barrier. On gfx9 a group's vector accesses go
    /// through one cache in the order of their issue (LLVM's AMDGPU usage guide, "Memory Model gfx90a").
    pub(super) fn met(&self) -> Numbers {
        let done = self.done();
        if self.counters != Counters::Two {
            return done;
        }
        let scalar = self.others.iter().filter(|other| other.lane == Lane::Scalar);
        let first = scalar.map(|flight| flight.numbers.global).min();
        Numbers { global: before(first, self.issued.global), ..done }
    }
}

/// The last number before the first one in flight.
fn before(first: Option<u32>, issued: u32) -> u32 {
    first.map_or(issued, |first| issued.min(first - 1))
}

fn push(queue: &mut VecDeque<Flight>, flight: Flight) {
    queue.drain(..(queue.len() + 1).saturating_sub(MOST));
    queue.push_back(flight);
}

/// Sets the bits of a span's registers.
fn flag(flags: &mut Flags, span: Span) {
    for register in span.registers() {
        if let Some(word) = flags.get_mut(register / 64) {
            *word |= 1 << (register % 64);
        }
    }
}

/// How an access comes back.
fn lane<const L: usize>(access: &Access<L>) -> Lane {
    match access.space {
        Space::Lds if access.from_buffer => Lane::IntoLds,
        Space::Global | Space::Buffer | Space::Scratch => Lane::Vector,
        Space::Flat => Lane::Flat,
        Space::Lds => Lane::Lds,
        Space::Scalar | Space::ScalarBuffer => Lane::Scalar,
    }
}
