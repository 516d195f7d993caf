//! Counts of what a launch does.

use std::collections::HashMap;

use crate::{
    Counters, Family, LdsTraffic, Traffic,
    exec::check::access::{Kind, Space},
};

/// Kinds of instructions, but for memory accesses that are counted by where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Vector,
    Matrix,
    Scalar,
    Branch,
    Barrier,
    Wait,
    Memory,
}

impl Class {
    pub(super) fn of(family: Family, name: &str) -> Self {
        const WAITS: [&str; 9] = [
            "s_wait",
            "s_delay",
            "s_nop",
            "s_clause",
            "s_sleep",
            "s_setprio",
            "s_sendmsg",
            "s_set_inst",
            "s_barrier_signal",
        ];
        match family {
            Family::Sop1 | Family::Sop2 | Family::Sopc | Family::Sopk | Family::Sopp => match name {
                "s_barrier" | "s_barrier_wait" => Self::Barrier,
                "s_branch" | "s_call_b64" | "s_setpc_b64" | "s_swappc_b64" | "s_endpgm" => Self::Branch,
                _ if name.starts_with("s_cbranch") => Self::Branch,
                _ if WAITS.iter().any(|wait| name.starts_with(wait)) => Self::Wait,
                _ => Self::Scalar,
            },
            Family::Vop3p if name.contains("wmma") || name.contains("mfma") => Self::Matrix,
            Family::Vop1 | Family::Vop2 | Family::Vop3 | Family::Vop3p | Family::Vopc | Family::Vopd => {
                Self::Vector
            }
            Family::Smem if name.starts_with("s_mem") || name.starts_with("s_prefetch") => Self::Wait,
            _ if name.contains("inv") || name.contains("wb") => Self::Wait,
            _ => Self::Memory,
        }
    }
}

/// Banks of LDS, each four bytes wide.
const BANKS: usize = 32;
/// Lanes of the widest waves.
const MOST_LANES: usize = 64;

/// Segments of 32 bytes that were touched: a bit each, by block of 2048 bytes.
#[derive(Debug, Default)]
struct Segments(HashMap<u64, u64>);

impl Segments {
    fn touch(&mut self, address: u64, bytes: u64) {
        for segment in address / 32..=(address + bytes.max(1) - 1) / 32 {
            *self.0.entry(segment / 64).or_default() |= 1 << (segment % 64);
        }
    }

    fn bytes(&self) -> u64 {
        self.0.values().map(|bits| 32 * u64::from(bits.count_ones())).sum()
    }
}

/// Counts as a launch goes on.
#[derive(Debug, Default)]
pub(super) struct Counting {
    counters: Counters,
    /// Touched by loads, stores, atomics, scalar loads.
    segments: [Segments; 4],
}

impl Counting {
    pub(super) fn wave(&mut self) {
        self.counters.waves += 1;
    }

    pub(super) fn instruction(&mut self, class: Class) {
        let counters = &mut self.counters;
        match class {
            Class::Vector => counters.vector += 1,
            Class::Matrix => counters.matrix += 1,
            Class::Scalar => counters.scalar += 1,
            Class::Branch => counters.branches += 1,
            Class::Barrier => counters.barriers += 1,
            Class::Wait => counters.waits += 1,
            Class::Memory => {}
        }
    }

    /// A wait that found nothing to wait for.
    pub(super) fn idle_wait(&mut self) {
        self.counters.idle_waits += 1;
    }

    /// A memory instruction that is not followed: LDS operations that only move data between lanes count as LDS.
    pub(super) fn unfollowed(&mut self) {
        self.counters.lds.instructions += 1;
    }

    /// An access of a memory that all waves share, by the lanes that are active.
    pub(super) fn global(
        &mut self,
        space: Space,
        kind: Kind,
        addresses: impl Iterator<Item = u64> + Clone,
        bytes: u64,
    ) {
        let (traffic, touched) = match (space, kind) {
            (Space::Scalar | Space::ScalarBuffer, _) => (&mut self.counters.scalar_loads, 3),
            (_, Kind::Load) => (&mut self.counters.loads, 0),
            (_, Kind::Store) => (&mut self.counters.stores, 1),
            (_, Kind::Update { .. }) => (&mut self.counters.atomics, 2),
        };
        count(traffic, addresses.clone(), bytes);
        addresses.for_each(|address| self.segments[touched].touch(address, bytes));
    }

    /// An access of scratch.
    pub(super) fn scratch(&mut self) {
        self.counters.scratch += 1;
    }

    /// An access of LDS at one place of each active lane.
    pub(super) fn lds(
        &mut self,
        addresses: impl Iterator<Item = (usize, u64)>,
        bytes: u64,
        first_place: bool,
    ) {
        let LdsTraffic { instructions, bytes: moved, cycles, conflict_cycles, .. } = &mut self.counters.lds;
        *instructions += u64::from(first_place);
        let lanes: Vec<(usize, u64)> = addresses.collect();
        *moved += bytes * lanes.len() as u64;
        // 32 lanes at once, of wide accesses halves and quarters of them.
        let passes = usize::try_from(bytes.div_ceil(4).next_power_of_two()).unwrap_or(1);
        let width = BANKS / passes;
        for pass in 0..MOST_LANES / width {
            let mut banks: [Vec<u64>; BANKS] = std::array::from_fn(|_| Vec::new());
            for &(_, address) in lanes.iter().filter(|(lane, _)| lane / width == pass) {
                for word in address / 4..(address + bytes).div_ceil(4) {
                    let bank = &mut banks[usize::try_from(word).unwrap_or(0) % BANKS];
                    if !bank.contains(&word) {
                        bank.push(word);
                    }
                }
            }
            let worst = banks.iter().map(Vec::len).max().unwrap_or(0) as u64;
            *cycles += worst;
            *conflict_cycles += worst.saturating_sub(1);
        }
    }

    pub(super) fn finish(mut self) -> Counters {
        let Counters { loads, stores, atomics, scalar_loads, .. } = &mut self.counters;
        for (traffic, touched) in [loads, stores, atomics, scalar_loads].into_iter().zip(&self.segments) {
            traffic.distinct_bytes = touched.bytes();
        }
        self.counters
    }
}

fn count(traffic: &mut Traffic, addresses: impl Iterator<Item = u64> + Clone, bytes: u64) {
    traffic.instructions += 1;
    traffic.bytes += bytes * addresses.clone().count() as u64;
    for (count, size) in traffic.segments.iter_mut().zip([32, 64, 128]) {
        let mut touched: Vec<u64> =
            addresses.clone().flat_map(|address| address / size..=(address + bytes - 1) / size).collect();
        touched.sort_unstable();
        touched.dedup();
        *count += touched.len() as u64;
    }
}
