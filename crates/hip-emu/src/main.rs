//! Looks into AMDGPU code objects: `hip-emu disasm`, `hip-emu info`.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use hip_emu::{Arch, Dialect, KernelDescriptor, Listing};
use hsaco::CodeObject;

/// Looks into AMDGPU code objects.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Prints the instructions as llvm-objdump -d does.
    Disasm {
        /// A linked code object, bare or in a bundle; with --target, any ELF object.
        file: PathBuf,
        /// Only this function.
        #[arg(long)]
        kernel: Option<String>,
        /// The target of the code, such as gfx1100, instead of the one in the file.
        #[arg(long)]
        target: Option<String>,
    },
    /// Prints the target, and each kernel's metadata and descriptor.
    Info {
        /// A linked code object, bare or in a bundle.
        file: PathBuf,
    },
}

fn main() -> Result<()> {
    let text = match Arguments::parse().verb {
        Verb::Disasm { file, kernel, target } => disasm(&file, kernel.as_deref(), target.as_deref())?,
        Verb::Info { file } => info(&file)?,
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output"),
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn arch_of(target: &str) -> Result<Arch> {
    Arch::from_target(target).with_context(|| format!("target {target} is not decoded"))
}

fn disasm(file: &Path, kernel: Option<&str>, target: Option<&str>) -> Result<String> {
    let bytes = read(file)?;
    let (elf, arch) = match target {
        Some(target) => (bytes.as_slice(), arch_of(target)?),
        None => {
            let object =
                CodeObject::parse(&bytes).with_context(|| format!("cannot use {}", file.display()))?;
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

fn info(file: &Path) -> Result<String> {
    use std::fmt::Write as _;
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
