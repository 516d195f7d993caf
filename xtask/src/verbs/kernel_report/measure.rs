//! One launch on an emulated card that counts.

use anyhow::{Context, Result, bail, ensure};
use hip_emu::{Dispatch, KernelDescriptor, Machine, Occupancy, Options};
use hsaco::CodeObject;

use super::Row;
use super::cases::{Argument, Case, Content};

/// The card whose images are measured.
pub(super) const CARD: &str = "gfx1100";

/// Runs a case.
pub(super) fn measure(case: &Case) -> Result<Row> {
    let mut options = Options::default();
    CARD.clone_into(&mut options.target);
    options.counts = true;
    options.threads = 1;
    let machine = Machine::new(options);
    let selected = case.images.select(CARD)?;
    let program = machine.load(&selected.bytes)?;
    let arguments = pack(&machine, case)?;
    let dispatch = Dispatch { groups: case.blocks, block: [case.threads, 1, 1], dynamic_lds: 0 };
    let report = machine.launch(&program, case.symbol, &dispatch, &arguments)?;
    let counters = report.counters.context("the emulator did not count")?;

    let object = CodeObject::parse(&selected.bytes)?;
    let info = object.kernels().iter().find(|kernel| kernel.name == case.symbol);
    let info = info.with_context(|| format!("the image has no `{}`", case.symbol))?;
    let (_, descriptor) = KernelDescriptor::find(object.elf(), &info.descriptor)?;
    let waves = case.threads.div_ceil(info.wavefront_size);
    let occupancy = Occupancy::of_rdna3(&descriptor, CARD, waves, descriptor.group_segment_size);
    let traffic = [&counters.loads, &counters.stores, &counters.atomics, &counters.scalar_loads];
    let least = case.arguments.iter().map(|(_, argument)| argument.least_bytes()).sum();
    Ok(Row {
        name: case.name.clone(),
        symbol: case.symbol.to_owned(),
        least_bytes: least,
        moved_bytes: traffic.iter().map(|traffic| traffic.distinct_bytes).sum(),
        asked_bytes: traffic.iter().map(|traffic| traffic.bytes).sum(),
        accesses: traffic.iter().map(|traffic| traffic.instructions).sum(),
        transactions: traffic.iter().map(|traffic| traffic.segments[2]).sum(),
        instructions: counters.instructions(),
        elements: case.elements,
        lds_cycles: counters.lds.cycles,
        lds_conflict_cycles: counters.lds.conflict_cycles,
        vgprs: info.vgprs,
        spills: info.vgpr_spills + info.sgpr_spills,
        waves_per_simd: occupancy.waves,
        budget: case.budget,
    })
}

/// The arguments in memory, as the declaration lays them out. Those that the case does not name are zero.
fn pack(machine: &Machine, case: &Case) -> Result<Vec<u8>> {
    let decl = &case.images.decl;
    let size = decl.args.iter().map(|arg| arg.offset + arg.size).max().unwrap_or(0);
    let mut packed = vec![0; size as usize];
    for (name, argument) in &case.arguments {
        let Some(place) = decl.args.iter().find(|arg| arg.name == *name) else {
            bail!("`{}` has no argument `{name}`", decl.family);
        };
        let value = match argument {
            Argument::Buffer { bytes, content, .. } => {
                load(machine, *bytes, *content)?.to_le_bytes().to_vec()
            }
            Argument::Value(value) => value.clone(),
        };
        ensure!(value.len() == place.size as usize, "`{name}` of `{}` has {} bytes", decl.family, place.size);
        packed[place.offset as usize..][..value.len()].copy_from_slice(&value);
    }
    Ok(packed)
}

/// A buffer of the card.
fn load(machine: &Machine, bytes: usize, content: Content) -> Result<u64> {
    let memory = machine.memory();
    let address = memory.allocate(bytes)?;
    match content {
        Content::Zeros => memory.fill(address, 0, bytes)?,
        Content::Logits => {
            // Distinct values between -8 and 8, in no order: 40503 has no factor in common with 2^16.
            let logit = |index: usize| (index * 40_503 % 65_536) as f32 / 4096.0 - 8.0;
            let values: Vec<u8> = (0..bytes / 4).flat_map(|index| logit(index).to_le_bytes()).collect();
            memory.write(address, &values)?;
        }
    }
    Ok(address)
}
