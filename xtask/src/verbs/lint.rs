//! `cargo xtask lint`: formatting and clippy, warnings denied.

use anyhow::Result;

use crate::process::{cargo, run};

/// Runs `cargo fmt --check` and clippy over every target.
///
/// # Errors
/// When either finds something.
pub(crate) fn execute() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // What only the feature `cuda` compiles.
    let cuda = [
        "--package",
        "hip-ffi",
        "--package",
        "device-mem",
        "--all-targets",
        "--features",
        "hip-ffi/cuda,device-mem/cuda",
    ];
    run(cargo(&["clippy"]).args(cuda).args(["--", "-D", "warnings"]))
}
