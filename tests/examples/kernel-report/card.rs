//! What is known of real cards, for predictions.

/// A card of an architecture: AMD's published figures.
pub(crate) struct Card {
    pub(crate) name: &'static str,
    pub(crate) arch: &'static str,
    /// Bytes of memory per second.
    pub(crate) rate: f64,
    /// Compute units.
    units: f64,
    /// Boost clock.
    hertz: f64,
    /// SIMDs of a unit, and cycles that each takes for an instruction of a wave.
    simds: f64,
    cycles: f64,
}

impl Card {
    const fn cdna(name: &'static str, arch: &'static str, rate: f64, units: f64, hertz: f64) -> Card {
        Card { name, arch, rate, units, hertz, simds: 4.0, cycles: 4.0 }
    }

    const fn rdna(name: &'static str, arch: &'static str, rate: f64, units: f64, hertz: f64) -> Card {
        Card { name, arch, rate, units, hertz, simds: 2.0, cycles: 1.0 }
    }

    /// Seconds that `blocks` blocks, each on a unit of its own as far as there are any, take for instructions.
    pub(crate) fn seconds(&self, instructions: f64, blocks: u64) -> f64 {
        let busy = self.units.min(blocks as f64) * self.simds;
        instructions * self.cycles / (busy * self.hertz)
    }
}

/// One of each architecture.
pub(crate) const CARDS: [Card; 8] = [
    Card::rdna("RX 7900 XTX", "gfx1100", 0.96e12, 96.0, 2.5e9),
    Card::rdna("RX 7800 XT", "gfx1101", 0.624e12, 60.0, 2.43e9),
    Card::rdna("Strix Halo", "gfx1151", 0.256e12, 40.0, 2.9e9),
    Card::rdna("RX 9060 XT", "gfx1200", 0.32e12, 32.0, 3.13e9),
    Card::rdna("RX 9070 XT", "gfx1201", 0.64e12, 64.0, 2.97e9),
    Card::rdna("RX 6900 XT", "gfx1030", 0.512e12, 80.0, 2.25e9),
    // One die of two.
    Card::cdna("MI250", "gfx90a", 1.6e12, 104.0, 1.7e9),
    Card::cdna("MI300X", "gfx942", 5.3e12, 304.0, 2.1e9),
];
