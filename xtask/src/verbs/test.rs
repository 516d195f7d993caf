//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::process::{cargo, run};

/// What `--full` runs parity tests on: the kernels compiled for the host, and an emulated card of each kind.
const ALL_DEVICES: &str =
    "host,emu:gfx1100,emu:gfx1151,emu:gfx1201,emu:gfx1030,emu:gfx90a,emu:gfx942,emu:gfx906,emu:gfx1010";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run every parity test on an emulated card of each kind; takes several times as long
    #[arg(long)]
    full: bool,
    /// Passed on to `cargo test`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs `cargo test --workspace`, with the arguments passed through.
///
/// # Errors
/// When a test fails.
pub(crate) fn execute(Options { full, args }: &Options) -> Result<()> {
    let mut command = cargo(&["test", "--workspace"]);
    if *full {
        command.env("PARITY_DEVICES", ALL_DEVICES).env("PARITY_FULL", "1");
    }
    run(command.args(args))
}

/// Runs every test on the default devices.
///
/// # Errors
/// When a test fails.
pub(crate) fn default() -> Result<()> {
    run(&mut cargo(&["test", "--workspace"]))
}
