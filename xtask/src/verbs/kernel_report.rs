//! `cargo xtask kernel-report`: what every kernel moves and executes, counted by the emulator.

use anyhow::Result;

use crate::process::{cargo, run};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail where a count is worse than in the committed report
    #[arg(long)]
    check: bool,
}

/// Writes `.planning/kernel-report.md` and `.json`, or compares with them.
///
/// # Errors
/// When a kernel is over its budget, or for `--check` worse than in the committed report.
pub(crate) fn execute(&Options { check }: &Options) -> Result<()> {
    report(if check { &["--check"] } else { &[] })
}

/// As `--check`.
///
/// # Errors
/// As [`execute`].
pub(crate) fn check() -> Result<()> {
    report(&["--check"])
}

fn report(arguments: &[&str]) -> Result<()> {
    let report = ["run", "--package", "workspace-tests", "--example", "kernel-report", "--"];
    run(cargo(&report).args(arguments))
}
