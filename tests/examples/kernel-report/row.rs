//! What one launch cost.

use anyhow::{Context, Result, bail};
use device_mem::Device;
use hip_emu::{KernelDescriptor, Occupancy};
use hsaco::{CodeObject, ImageSet, KernelInfo};
use serde::{Deserialize, Serialize};

use crate::cases::Case;
use crate::told;

/// The card that is emulated.
pub(crate) const ARCH: &str = "gfx1100";

/// The images of every kernel.
pub(crate) fn images() -> impl Iterator<Item = &'static ImageSet> {
    [&kernels_rope::kernels::ALL[..], &kernels_nn::kernels::ALL, &attention::kernels::ALL]
        .concat()
        .into_iter()
}

/// One launch. The counts are exact and the same every time; greater is worse but for `occupancy`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
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
    /// Waves of a SIMD, of 16.
    pub(crate) occupancy: u32,
}

impl Row {
    /// Runs a case on the emulated card, whose options ask for counts.
    pub(crate) fn of(case: Case, device: &Device) -> Result<Row> {
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
        let (info, occupancy) = compiled(&launch.kernel, block)?;
        let kinds = [&counters.loads, &counters.stores, &counters.atomics];
        let sum = |of: fn(&hip_emu::Traffic) -> u64| kinds.iter().map(|traffic| of(traffic)).sum::<u64>();
        Ok(Row {
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
            "{}: moves {:.3} of the least bytes; at most {budget} are allowed",
            self.shape,
            self.moved()
        ))
    }

    /// Moved bytes as a share of the least.
    pub(crate) fn moved(&self) -> f64 {
        self.moved_bytes as f64 / self.least_bytes as f64
    }

    /// What is worse than in `before`, by name.
    pub(crate) fn worse_than(&self, before: &Row) -> Vec<String> {
        let counts = [
            ("moved_bytes", self.moved_bytes, before.moved_bytes),
            ("asked_bytes", self.asked_bytes, before.asked_bytes),
            ("instructions", self.instructions, before.instructions),
            ("transactions", self.transactions, before.transactions),
            ("lds_cycles", self.lds_cycles, before.lds_cycles),
            ("lds_conflict_cycles", self.lds_conflict_cycles, before.lds_conflict_cycles),
            ("spills", u64::from(self.spills), u64::from(before.spills)),
            // Fewer waves are worse.
            ("waves missing", u64::from(16 - self.occupancy), u64::from(16 - before.occupancy)),
        ];
        let worse = counts.into_iter().filter(|(_, now, then)| now > then);
        worse.map(|(name, now, then)| format!("{}: {name} {then} -> {now}", self.shape)).collect()
    }
}

/// The kernel as it is compiled for the emulated card, and the waves that a SIMD holds of it.
fn compiled(symbol: &str, block: u32) -> Result<(KernelInfo, u32)> {
    let set = images().find(|set| set.decl.symbols.contains(&symbol));
    let image = set.context("a kernel that no crate declares")?.select(ARCH)?;
    let object = CodeObject::parse(&image.bytes)?;
    let info =
        object.kernels().iter().find(|kernel| kernel.name == symbol).context("no such kernel")?.clone();
    let (_, descriptor) = KernelDescriptor::find(&image.bytes, &info.descriptor)?;
    let occupancy = Occupancy::of_rdna3(&descriptor, ARCH, block.div_ceil(32), info.lds);
    Ok((info, occupancy.waves.min(16)))
}
