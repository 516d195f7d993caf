//! What a launch did, counted.

use crate::{Arch, KernelDescriptor};

/// Instructions of a launch by kind, one for all lanes of a wave, and what they moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Waves that ran.
    pub waves: u64,
    /// Vector arithmetic. A pair counts once.
    pub vector: u64,
    /// Matrix operations.
    pub matrix: u64,
    /// Scalar arithmetic.
    pub scalar: u64,
    /// Branches, taken or not.
    pub branches: u64,
    /// Barriers.
    pub barriers: u64,
    /// Waits, delays and hints.
    pub waits: u64,
    /// Those of them that are for memory and found nothing in flight to wait for. Known only where
    /// [`Checks::sync`](crate::Checks::sync) or [`Checks::race`](crate::Checks::race) follows what is.
    pub idle_waits: u64,
    /// Scratch accesses: spills and arrays that did not fit into registers.
    pub scratch: u64,
    /// Loads of lanes from global memory.
    pub loads: Traffic,
    /// Stores of lanes to global memory.
    pub stores: Traffic,
    /// Atomic operations of lanes on global memory.
    pub atomics: Traffic,
    /// Scalar loads: one address for a wave.
    pub scalar_loads: Traffic,
    /// LDS. Loads from buffers to LDS count here alone.
    pub lds: LdsTraffic,
}

impl Counters {
    /// All instructions.
    #[must_use]
    pub const fn instructions(&self) -> u64 {
        let moved = self.loads.instructions + self.stores.instructions + self.atomics.instructions;
        let arithmetic = self.vector + self.matrix + self.scalar + self.branches + self.barriers + self.waits;
        arithmetic + moved + self.scalar_loads.instructions + self.scratch + self.lds.instructions
    }

    /// Counts with their names, in a fixed order.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let mut named = vec![
            ("waves", self.waves),
            ("vector", self.vector),
            ("matrix", self.matrix),
            ("scalar", self.scalar),
            ("branches", self.branches),
            ("barriers", self.barriers),
            ("waits", self.waits),
            ("idle_waits", self.idle_waits),
            ("scratch", self.scratch),
        ];
        let names = [
            [
                "loads",
                "loads.bytes",
                "loads.segments32",
                "loads.segments64",
                "loads.segments128",
                "loads.distinct",
            ],
            [
                "stores",
                "stores.bytes",
                "stores.segments32",
                "stores.segments64",
                "stores.segments128",
                "stores.distinct",
            ],
            [
                "atomics",
                "atomics.bytes",
                "atomics.segments32",
                "atomics.segments64",
                "atomics.segments128",
                "atomics.distinct",
            ],
            [
                "scalar_loads",
                "scalar_loads.bytes",
                "scalar_loads.segments32",
                "scalar_loads.segments64",
                "scalar_loads.segments128",
                "scalar_loads.distinct",
            ],
        ];
        for (names, traffic) in
            names.into_iter().zip([&self.loads, &self.stores, &self.atomics, &self.scalar_loads])
        {
            named.extend(names.into_iter().zip(traffic.values()));
        }
        let LdsTraffic { instructions, bytes, cycles, conflict_cycles } = self.lds;
        named.extend([
            ("lds", instructions),
            ("lds.bytes", bytes),
            ("lds.cycles", cycles),
            ("lds.conflict_cycles", conflict_cycles),
        ]);
        named
    }
}

/// Accesses of global memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Instructions.
    pub instructions: u64,
    /// Bytes that lanes asked for.
    pub bytes: u64,
    /// Aligned segments of 32, 64 and 128 bytes that the instructions touched, each instruction by itself.
    pub segments: [u64; 3],
    /// Bytes in the segments of 32 bytes that the whole launch touched: what an endless cache would move.
    pub distinct_bytes: u64,
}

impl Traffic {
    fn values(&self) -> [u64; 6] {
        let [small, middle, large] = self.segments;
        [self.instructions, self.bytes, small, middle, large, self.distinct_bytes]
    }
}

/// Accesses of LDS, which has 32 banks of 4 bytes. An access of 4 bytes a lane takes one cycle, one of 8 bytes two for the
/// halves of a wave, one of 16 bytes four for its quarters; another cycle for each further word of the same bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LdsTraffic {
    /// Instructions.
    pub instructions: u64,
    /// Bytes that lanes asked for.
    pub bytes: u64,
    /// Cycles by this model.
    pub cycles: u64,
    /// Those of them that conflicts of banks cost.
    pub conflict_cycles: u64,
}

/// How many waves a SIMD can hold at the same time, and what sets the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Waves of a SIMD.
    pub waves: u32,
    /// What more of them would need.
    pub limit: OccupancyLimit,
}

/// What limits the waves of a SIMD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OccupancyLimit {
    /// As many as the hardware can hold.
    Hardware,
    /// Vector registers.
    VectorRegisters,
    /// LDS.
    Lds,
}

/// What the SIMDs that share one LDS, four of them, have (LLVM's `AMDGPUBaseInfo`).
struct Simd {
    /// Vector registers of a lane.
    registers: u32,
    /// They are allocated in multiples of this.
    granule: u32,
    /// Waves at most.
    waves: u32,
    /// LDS of all four, in bytes.
    lds: u32,
}

impl Simd {
    const fn new(registers: u32, granule: u32, waves: u32, lds: u32) -> Self {
        Self { registers, granule, waves, lds }
    }

    fn of(arch: Arch, processor: &str) -> Self {
        const CU: u32 = 64 << 10;
        const WGP: u32 = 128 << 10;
        match (arch, processor) {
            (Arch::Gfx9, _) => Self::new(256, 4, 10, CU),
            (Arch::Gfx90a | Arch::Gfx940, _) => Self::new(512, 8, 8, CU),
            (Arch::Gfx10, rdna1) if rdna1.starts_with("gfx101") => Self::new(1024, 8, 20, WGP),
            (Arch::Gfx11, "gfx1100" | "gfx1101" | "gfx1151") | (Arch::Gfx12, _) => {
                Self::new(1536, 24, 16, WGP)
            }
            (Arch::Gfx10 | Arch::Gfx11, _) => Self::new(1024, 16, 16, WGP),
        }
    }
}

impl Occupancy {
    /// Occupancy of a processor, `gfx1100`, by a kernel in groups of `waves` waves that have `lds` bytes of LDS each; `None` for
    /// a processor that is not known.
    #[must_use]
    pub fn of(descriptor: &KernelDescriptor, processor: &str, waves: u32, lds: u32) -> Option<Self> {
        const SIMDS: u32 = 4;
        let arch = Arch::from_target(processor)?;
        let simd = Simd::of(arch, processor);
        let granule = u32::try_from(arch.vector_granule()).unwrap_or(8);
        let used = ((descriptor.resource1 & 63) + 1) * granule;
        let by_registers = simd.registers / used.next_multiple_of(simd.granule);
        let groups = simd.lds.checked_div(lds.next_multiple_of(1024)).unwrap_or(u32::MAX);
        let by_lds = groups.saturating_mul(waves.max(1)) / SIMDS;
        let limits = [(by_registers, OccupancyLimit::VectorRegisters), (by_lds.max(1), OccupancyLimit::Lds)];
        let tightest = limits.into_iter().min_by_key(|(waves, _)| *waves);
        let (waves, limit) = tightest
            .filter(|(waves, _)| *waves < simd.waves)
            .unwrap_or((simd.waves, OccupancyLimit::Hardware));
        Some(Self { waves, limit })
    }
}
