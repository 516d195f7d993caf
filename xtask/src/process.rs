//! Running other programs: say what runs, fail when it fails.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The workspace's root folder.
pub(crate) fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The cargo that runs xtask, in the workspace's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace_root());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace_root().join(target)
}

/// A program of the workspace, built.
#[derive(Clone, Copy)]
pub(crate) enum Program<'a> {
    Bin(&'a str),
    Example(&'a str),
}

impl Program<'_> {
    /// The command that runs it, once it is built. It is built with the features that the tests of the whole workspace have,
    /// so that the crates below it are not compiled a second time for others.
    ///
    /// # Errors
    /// When it does not build.
    pub(crate) fn command(self) -> Result<Command> {
        run(&mut cargo(&["build", "--workspace", "--bins", "--examples"]))?;
        let debug = target_folder().join("debug");
        let mut command = Command::new(match self {
            Program::Bin(name) => debug.join(name),
            Program::Example(name) => debug.join("examples").join(name),
        });
        command.current_dir(workspace_root());
        Ok(command)
    }
}

/// Runs a program to its end, its output passed through.
///
/// # Errors
/// When it cannot be started or does not end well.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Prints to stdout; a reader that went away is an error, not a panic.
///
/// # Errors
/// When stdout takes no more.
pub(crate) fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("writing to stdout")
}

fn shown(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}

/// Whether packages may be installed.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Runs apt-get, waiting for others that hold its lock, and once more when it fails: two at once can lose archives.
pub(crate) fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command).or_else(|_| run(&mut command))
}
