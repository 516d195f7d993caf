//! `cargo xtask setup`: a compiler for the kernels, the disassemblers that tests compare with, and what counts instructions.

use anyhow::{Result, bail};

use crate::compiler::{self, INSTALL};
use crate::kernels::{self, Kernels};
use crate::process::{apt_get, is_root, workspace_root};

/// Package pairs to try, the preferred first.
const PACKAGES: &[[&str; 2]] = &[["clang-22", "lld-22"], ["clang-19", "lld-19"]];

/// Any architecture that every supported compiler builds.
const PROBE: &str = "gfx1100";

/// Versions of LLVM whose listings are compared where their compiler is installed.
const LISTED: [u32; 2] = [22, 19];

/// Installs a compiler unless one works already, and the llvm-objdump of each that is there.
///
/// # Errors
/// When one is missing and cannot be installed; says what to run.
pub(crate) fn execute() -> Result<()> {
    compiler()?;
    disassemblers()?;
    package_of("valgrind", "valgrind")
}

/// Installs a compiler unless one works already.
///
/// # Errors
/// When there is none and it cannot be installed; says what to run.
pub(crate) fn compiler() -> Result<()> {
    let kernels = kernels::read(&workspace_root())?;
    if let Some(compiler) = working_compiler(&kernels) {
        println!("{} ({}) compiles kernels; nothing to install", compiler.path.display(), compiler.version);
        return Ok(());
    }
    if !is_root() {
        bail!("no kernel compiler. As root, run\n  {INSTALL}");
    }
    apt_get(&["update"])?;
    for packages in PACKAGES {
        let mut install = vec!["install", "-y", "--no-install-recommends"];
        install.extend(packages);
        let Err(error) = apt_get(&install) else { break };
        eprintln!("warning: {error:#}");
    }
    match working_compiler(&kernels) {
        Some(compiler) => {
            println!("installed {} ({})", compiler.path.display(), compiler.version);
            Ok(())
        }
        None => bail!("no kernel compiler could be installed; run\n  {INSTALL}"),
    }
}

fn disassemblers() -> Result<()> {
    let installed = LISTED.iter().filter(|version| which::which(format!("clang++-{version}")).is_ok());
    installed
        .into_iter()
        .try_for_each(|version| package_of(&format!("llvm-objdump-{version}"), &format!("llvm-{version}")))
}

/// Installs the package of a program unless it is there.
fn package_of(program: &str, package: &str) -> Result<()> {
    if which::which(program).is_ok() {
        return Ok(());
    }
    if !is_root() {
        bail!("no {program}. As root, run\n  apt-get install {package}");
    }
    apt_get(&["update"])?;
    apt_get(&["install", "-y", "--no-install-recommends", package])
}

fn working_compiler(kernels: &Kernels) -> Option<compiler::Compiler> {
    let mut found = compiler::search().into_iter().filter_map(|place| place.found.ok());
    found.find(|compiler| compiler.builds(PROBE, &kernels.flags).is_ok())
}
