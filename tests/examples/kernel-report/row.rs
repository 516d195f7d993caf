//! What one launch cost.

use anyhow::{Context, Result, bail};
use device_mem::Device;
use hip_emu::{KernelDescriptor, Occupancy};
use hsaco::{CodeObject, ImageSet, KernelInfo};
use serde::{Deserialize, Serialize};

use crate::cases::Case;
use crate::told;

/// The emulated cards, each of which has images of its own. The first one's counts are told at length.
pub(crate) const ARCHS: [&str; 8] =
    ["gfx1100", "gfx1101", "gfx1151", "gfx1200", "gfx1201", "gfx1030", "gfx90a", "gfx942"];

/// The images of every kernel.
pub(crate) fn images() -> impl Iterator<Item = &'static ImageSet> {
    [&kernels_rope::kernels::ALL[..], &kernels_nn::kernels::ALL, &attention::kernels::ALL]
        .concat()
        .into_iter()
}

/// One launch. The counts are exact and the same every time; greater is worse but for `occupancy`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) arch: String,
    pub(crate) shape: String,
    pub(crate) kernel: String,
    pub(crate) groups: [u32; 3],
    pub(crate) block: u32,
    /// Bytes that have to be moved.
    pub(crate) least_bytes: u64,
    /// The share of them that may be moved.
    pub(crate) budget: Option<f64>,
    /// Bytes that an endless cache would move, in segments of 32.
    pub(crate) moved_bytes: u64,
    /// Bytes that lanes asked for.
    pub(crate) asked_bytes: u64,
    /// Instructions of waves.
    pub(crate) instructions: u64,
    pub(crate) element: String,
    pub(crate) elements: u64,
    /// Vector accesses of global memory, and the segments of 128 bytes that they touched, each by itself.
    pub(crate) accesses: u64,
    pub(crate) transactions: u64,
    pub(crate) lds_cycles: u64,
    pub(crate) lds_conflict_cycles: u64,
    pub(crate) vgprs: u32,
    pub(crate) sgprs: u32,
    pub(crate) lds: u32,
    pub(crate) spills: u32,
    /// Waves that a SIMD holds, of as many as it can.
    pub(crate) occupancy: u32,
}

impl Row {
    /// Runs a case on the emulated card of `arch`, whose options ask for counts.
    pub(crate) fn of(case: Case, device: &Device, arch: &str) -> Result<Row> {
        let Case { shape, least_bytes, elements: (element, elements), budget, prepare } = case;
        let operation = prepare(device).with_context(|| shape.clone())?;
        drop((hip_emu::take_launches(), told::take()));
        operation().with_context(|| shape.clone())?;
        let launches = hip_emu::take_launches();
        let [launch] = launches.as_slice() else {
            bail!("{shape} is {} launches; expected one", launches.len());
        };
        let told = told::take();
        if told != least_bytes as u64 {
            bail!("{shape} tells of {told} bytes in traces; {least_bytes} have to be moved");
        }
        let counters = launch.report.counters.as_deref().context("the emulator counts nothing")?;
        let block: u32 = launch.dispatch.block.iter().product();
        let (info, occupancy) = compiled(&launch.kernel, arch, block)?;
        let kinds = [&counters.loads, &counters.stores, &counters.atomics];
        let sum = |of: fn(&hip_emu::Traffic) -> u64| kinds.iter().map(|traffic| of(traffic)).sum::<u64>();
        Ok(Row {
            arch: arch.to_owned(),
            shape,
            kernel: launch.kernel.clone(),
            groups: launch.dispatch.groups,
            block,
            least_bytes: least_bytes as u64,
            budget,
            moved_bytes: sum(|traffic| traffic.distinct_bytes),
            asked_bytes: sum(|traffic| traffic.bytes),
            instructions: counters.instructions(),
            element: element.to_owned(),
            elements: elements as u64,
            accesses: sum(|traffic| traffic.instructions),
            transactions: sum(|traffic| traffic.segments[2]),
            lds_cycles: counters.lds.cycles,
            lds_conflict_cycles: counters.lds.conflict_cycles,
            vgprs: info.vgprs,
            sgprs: info.sgprs,
            lds: info.lds,
            spills: info.vgpr_spills + info.sgpr_spills,
            occupancy,
        })
    }

    /// That more is moved than may be.
    pub(crate) fn over_budget(&self) -> Option<String> {
        let budget = self.budget.filter(|&budget| self.moved() > budget)?;
        Some(format!(
            "{} on {}: moves {:.3} of the least bytes; at most {budget} are allowed",
            self.shape,
            self.arch,
            self.moved()
        ))
    }

    /// Blocks of the launch.
    pub(crate) fn blocks(&self) -> u64 {
        self.groups.iter().map(|&count| u64::from(count)).product()
    }

    /// Instructions of lanes per element.
    pub(crate) fn lane_instructions(&self) -> f64 {
        let lanes = if self.arch.starts_with("gfx9") { 64.0 } else { 32.0 };
        self.instructions as f64 * lanes / self.elements as f64
    }

    /// Moved bytes as a share of the least.
    pub(crate) fn moved(&self) -> f64 {
        self.moved_bytes as f64 / self.least_bytes as f64
    }

    /// What is worse than in `before`, by name.
    pub(crate) fn worse_than(&self, before: &Row) -> Vec<String> {
        let missing = |row: &Row| u64::from(before.occupancy.max(self.occupancy) - row.occupancy);
        let counts = [
            ("moved_bytes", self.moved_bytes, before.moved_bytes),
            ("asked_bytes", self.asked_bytes, before.asked_bytes),
            ("instructions", self.instructions, before.instructions),
            ("transactions", self.transactions, before.transactions),
            ("lds_cycles", self.lds_cycles, before.lds_cycles),
            ("lds_conflict_cycles", self.lds_conflict_cycles, before.lds_conflict_cycles),
            ("spills", u64::from(self.spills), u64::from(before.spills)),
            // Fewer waves are worse.
            ("waves missing", missing(self), missing(before)),
        ];
        let worse = counts.into_iter().filter(|(_, now, then)| now > then);
        worse
            .map(|(name, now, then)| format!("{} on {}: {name} {then} -> {now}", self.shape, self.arch))
            .collect()
    }
}

/// The kernel as it is compiled for a card, and the waves that a SIMD holds of it.
fn compiled(symbol: &str, arch: &str, block: u32) -> Result<(KernelInfo, u32)> {
    let set = images().find(|set| set.decl.symbols.contains(&symbol));
    let image = set.context("a kernel that no crate declares")?.select(arch)?;
    let object = CodeObject::parse(&image.bytes)?;
    let info =
        object.kernels().iter().find(|kernel| kernel.name == symbol).context("no such kernel")?.clone();
    let (_, descriptor) = KernelDescriptor::find(&image.bytes, &info.descriptor)?;
    let waves = block.div_ceil(info.wavefront_size);
    let occupancy = Occupancy::of(&descriptor, arch, waves, info.lds).context("a card that is not known")?;
    Ok((info, occupancy.waves))
}
