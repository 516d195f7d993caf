//! The program's command line.

mod argument;
mod element;
mod inspect;
mod run;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Looks into AMDGPU code objects, and runs their kernels on the CPU.
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
    /// Runs a kernel on the emulated card, and prints its output buffers.
    Run(run::Launch),
}

/// Does what the command line says, and prints the result.
pub(crate) fn main() -> Result<()> {
    let text = match Arguments::parse().verb {
        Verb::Disasm { file, kernel, target } => {
            inspect::disasm(&file, kernel.as_deref(), target.as_deref())?
        }
        Verb::Info { file } => inspect::info(&file)?,
        Verb::Run(launch) => launch.run()?,
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output"),
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
