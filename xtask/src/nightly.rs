//! The nightly toolchain, which Miri, sanitizers and fuzzing need and nothing else may.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::workspace_root;

/// Cargo of the nightly toolchain, in the workspace's root. Its builds are of another kind, and so have a folder of their own.
///
/// # Errors
/// When the toolchain or one of the components, or a program that cargo would run, is missing; says what installs it.
pub(crate) fn cargo(folder: &str, components: &[&str]) -> Result<Command> {
    let install = components.iter().map(|component| format!(" --component {component}")).collect::<String>();
    let install = format!("install it: `rustup toolchain install nightly --profile minimal{install}`");
    let list =
        Command::new("rustup").args(["component", "list", "--installed", "--toolchain", "nightly"]).output();
    let list = list.context("there is no rustup, which gets a nightly toolchain: https://rustup.rs")?;
    if !list.status.success() {
        bail!("there is no nightly toolchain; {install}");
    }
    let listed = String::from_utf8_lossy(&list.stdout);
    let is_there = |component: &&&str| listed.lines().any(|line| line.starts_with(**component));
    if let Some(missing) = components.iter().find(|component| !is_there(component)) {
        bail!("the nightly toolchain has no {missing}; {install}");
    }
    let mut command = Command::new("rustup");
    command.current_dir(workspace_root()).args(["run", "nightly", "cargo"]);
    command.env("CARGO_TARGET_DIR", workspace_root().join("target").join(folder));
    Ok(command)
}

/// Fails unless cargo has this program; says what installs it.
///
/// # Errors
/// When it is missing.
pub(crate) fn expect_subcommand(name: &str) -> Result<()> {
    match which::which(format!("cargo-{name}")) {
        Ok(_) => Ok(()),
        Err(_) => bail!("there is no cargo-{name}; install it: `cargo install cargo-{name} --locked`"),
    }
}
