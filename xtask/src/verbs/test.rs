//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::process::{cargo, run};

/// Runs `cargo test --workspace`, with `extra` arguments passed through.
///
/// # Errors
/// When a test fails.
pub(crate) fn execute(extra: &[String]) -> Result<()> {
    let mut command = cargo(&["test", "--workspace"]);
    run(command.args(extra))
}
