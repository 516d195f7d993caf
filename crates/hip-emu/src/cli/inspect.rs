//! What a code object holds: `hip-emu disasm`, `hip-emu info`.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, bail};
use hip_emu::{Arch, Dialect, KernelDescriptor, Listing};
use hsaco::CodeObject;

use crate::cli::read;

fn arch_of(target: &str) -> Result<Arch> {
    Arch::from_target(target).with_context(|| format!("target {target} is not decoded"))
}

pub(super) fn disasm(file: &Path, kernel: Option<&str>, target: Option<&str>) -> Result<String> {
    let bytes = read(file)?;
    let object;
    let (elf, arch) = match target {
        Some(target) => (bytes.as_slice(), arch_of(target)?),
        None => {
            object = CodeObject::parse(&bytes).with_context(|| format!("cannot use {}", file.display()))?;
            (object.elf(), arch_of(&object.target().processor)?)
        }
    };
    let listings = Listing::of_elf(elf, arch)?;
    let names =
        || listings.iter().flat_map(|listing| &listing.functions).map(|function| function.name.as_str());
    if let Some(kernel) = kernel.filter(|&kernel| !names().any(|name| name == kernel)) {
        bail!("no function {kernel}; there are {}", names().collect::<Vec<_>>().join(", "));
    }
    let mut text = String::new();
    for listing in &listings {
        let wanted = |name: &str| kernel.is_none_or(|kernel| kernel == name);
        if !listing.functions.iter().any(|function| wanted(&function.name)) {
            continue;
        }
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}Disassembly of section {}:\n", listing.section));
        for function in listing.functions.iter().filter(|function| wanted(&function.name)) {
            text.push('\n');
            listing.print(function, Dialect::default(), &mut text)?;
        }
    }
    Ok(text)
}

pub(super) fn info(file: &Path) -> Result<String> {
    let bytes = read(file)?;
    let object = CodeObject::parse(&bytes).with_context(|| format!("cannot use {}", file.display()))?;
    let mut text = String::new();
    writeln!(text, "target {}, code object version {}", object.target(), object.version())?;
    for kernel in object.kernels() {
        let (address, descriptor) = KernelDescriptor::find(object.elf(), &kernel.descriptor)?;
        writeln!(text, "\n{}", kernel.name)?;
        writeln!(text, "  entry {:#x}", address.wrapping_add_signed(descriptor.entry_offset))?;
        writeln!(
            text,
            "  registers {} vector, {} accumulation, {} scalar",
            kernel.vgprs, kernel.agprs, kernel.sgprs
        )?;
        writeln!(text, "  spilled {} vector, {} scalar", kernel.vgpr_spills, kernel.sgpr_spills)?;
        let (lds, scratch) = (descriptor.group_segment_size, descriptor.private_segment_size);
        writeln!(text, "  LDS {lds} bytes, scratch {scratch} bytes a work-item")?;
        writeln!(
            text,
            "  wave of {} lanes, at most {} work-items a group",
            kernel.wavefront_size, kernel.max_block
        )?;
        let values: Vec<&str> = descriptor.user_values().collect();
        writeln!(text, "  user registers {}: {}", descriptor.user_registers(), values.join(", "))?;
        let (resource1, resource2) = (descriptor.resource1, descriptor.resource2);
        writeln!(
            text,
            "  rsrc1 {resource1:#010x}, rsrc2 {resource2:#010x}, rsrc3 {:#010x}",
            descriptor.resource3
        )?;
        writeln!(text, "  arguments {} bytes", descriptor.kernarg_size)?;
        for argument in &kernel.args {
            writeln!(text, "    {argument}")?;
        }
    }
    Ok(text)
}
