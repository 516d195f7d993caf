//! `cargo xtask fuzz`: coverage-guided fuzzing of every reader of files.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::nightly::{self, expect_subcommand};
use crate::process::{run, workspace_root};

/// MiB that a process may take, seconds that one input may, bytes that one may have.
const MEMORY: u32 = 512;
const TIME: u32 = 5;
const LENGTH: u32 = 16_384;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Targets of fuzz/fuzz_targets, such as `gguf`; all if none is named
    targets: Vec<String>,
    /// Seconds for each target; 0 runs the committed corpus alone
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Keep what reaches further in the committed corpus, as few and short inputs as do
    #[arg(long)]
    keep: bool,
}

/// Builds the targets with the address sanitizer and runs each on the committed corpus and on what it makes of it.
///
/// # Errors
/// When a tool is missing, or an input ends a reader in a panic, takes too long or too much; it lies in `fuzz/artifacts`.
pub(crate) fn execute(options: &Options) -> Result<()> {
    expect_subcommand("fuzz")?;
    nightly::cargo("fuzz", &["rust-std"])?;
    let targets = targets(&options.targets)?;
    for target in &targets {
        run(&mut cargo_fuzz("build", target)?)?;
    }
    let found = workspace_root().join("target/fuzz/corpus");
    for target in &targets {
        let (found, committed) = (found.join(target), workspace_root().join("fuzz/corpus").join(target));
        fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
        fuzz(target, options.seconds, &found, &committed)?;
        if options.keep {
            keep(target, &found, &committed)?;
        }
    }
    Ok(())
}

/// Those that are named, or all.
fn targets(named: &[String]) -> Result<Vec<String>> {
    let folder = workspace_root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned));
    let mut all: Vec<String> = names.collect();
    all.sort();
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        bail!("no target is named {unknown}; there are {}", all.join(", "));
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

fn cargo_fuzz(verb: &str, target: &str) -> Result<Command> {
    let mut command = nightly::cargo("fuzz", &[])?;
    command.args(["fuzz", verb, "--release", "--debug-assertions", target]);
    Ok(command)
}

fn fuzz(target: &str, seconds: u32, found: &Path, committed: &Path) -> Result<()> {
    let mut command = cargo_fuzz("run", target)?;
    command.args([found, committed]).arg("--");
    if seconds == 0 {
        command.arg("-runs=0");
    } else {
        command.arg(format!("-max_total_time={seconds}"));
    }
    command.arg(format!("-rss_limit_mb={MEMORY}")).arg(format!("-timeout={TIME}"));
    command.arg(format!("-max_len={LENGTH}")).args(["-print_final_stats=1", "-verbosity=0"]);
    run(&mut command).with_context(|| format!("fuzzing {target}; see fuzz/artifacts/{target}"))
}

/// Puts in the committed corpus what together reaches all that both reach.
fn keep(target: &str, found: &Path, committed: &Path) -> Result<()> {
    let mut command = cargo_fuzz("run", target)?;
    command.args([committed, found]).args(["--", "-set_cover_merge=1"]);
    run(command.arg(format!("-rss_limit_mb={MEMORY}")))
}
