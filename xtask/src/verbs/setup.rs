//! `cargo xtask setup`: a compiler for the kernels.

use anyhow::{Result, bail};

use crate::compiler::{self, INSTALL};
use crate::kernels::{self, Kernels};
use crate::process::{apt_get, is_root, workspace_root};

/// Package pairs to try, the preferred first.
const PACKAGES: &[[&str; 2]] = &[["clang-22", "lld-22"], ["clang-19", "lld-19"]];

/// Any architecture that every supported compiler builds.
const PROBE: &str = "gfx1100";

/// Installs a compiler unless one works already.
///
/// # Errors
/// When there is none and it cannot be installed; says what to run.
pub(crate) fn execute() -> Result<()> {
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

fn working_compiler(kernels: &Kernels) -> Option<compiler::Compiler> {
    let mut found = compiler::search().into_iter().filter_map(|place| place.found.ok());
    found.find(|compiler| compiler.builds(PROBE, &kernels.flags).is_ok())
}
