//! `cargo xtask kernel-report`: what every kernel moves and executes, counted by the emulator.

use anyhow::Result;

use crate::process::{Program, run};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail where a count is worse than in the committed report
    #[arg(long)]
    check: bool,
    /// With --check: count large operations on every architecture too, not on gfx1100 alone
    #[arg(long, requires = "check")]
    full: bool,
}

/// Writes `.planning/kernel-report.md` and `.json`, or compares with them.
///
/// # Errors
/// When a kernel is over its budget, or for `--check` worse than in the committed report.
pub(crate) fn execute(&Options { check, full }: &Options) -> Result<()> {
    match (check, full) {
        (false, _) => report(&[]),
        (true, false) => check_some(),
        (true, true) => report(&["--check", "--full"]),
    }
}

/// As `--check`.
///
/// # Errors
/// As [`execute`].
pub(crate) fn check_some() -> Result<()> {
    report(&["--check"])
}

fn report(arguments: &[&str]) -> Result<()> {
    run(Program::Example("kernel-report").command()?.args(arguments))
}
