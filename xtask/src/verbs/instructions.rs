//! `cargo xtask instructions`: how many instructions the CPU's hot loops execute, counted by callgrind. Times depend on the
//! machine and on its neighbours; counts do not, so that a loop which is no longer made of vector instructions shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::{cargo, print, run, target_folder, workspace_root};

/// What another compiler may make of a loop.
const MOST_GROWTH: f64 = 1.15;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail where a loop executes over 1.15 of the instructions in the committed list
    #[arg(long)]
    check: bool,
}

/// `.planning/instructions.json`.
#[derive(Serialize, Deserialize)]
struct List {
    /// What the loops take under valgrind: AVX2 on every x86-64 machine that has it, as valgrind hides AVX-512.
    instruction_set: String,
    /// By loop.
    instructions: BTreeMap<String, u64>,
}

/// Counts, and writes `.planning/instructions.json` or compares with it.
///
/// # Errors
/// Without valgrind, and for `--check` where a loop got longer or the machine has other instructions.
pub(crate) fn execute(&Options { check }: &Options) -> Result<()> {
    if check { check_all() } else { write() }
}

fn path() -> PathBuf {
    workspace_root().join(".planning/instructions.json")
}

fn write() -> Result<()> {
    fs::write(path(), serde_json::to_string_pretty(&count()?)? + "\n")
        .context("writing .planning/instructions.json")
}

/// As `--check`.
///
/// # Errors
/// As [`execute`].
pub(crate) fn check_all() -> Result<()> {
    let text = fs::read_to_string(path()).context("reading .planning/instructions.json")?;
    let committed: List = serde_json::from_str(&text).context("in .planning/instructions.json")?;
    let found = count()?;
    if found.instruction_set != committed.instruction_set {
        bail!("counted for {}, and this machine has {}", committed.instruction_set, found.instruction_set);
    }
    if !found.instructions.keys().eq(committed.instructions.keys()) {
        bail!("other loops than in .planning/instructions.json: run `cargo xtask instructions`");
    }
    let mut longer = Vec::new();
    for (name, &before) in &committed.instructions {
        let now = found.instructions.get(name).copied().unwrap_or_default();
        let growth = now as f64 / before as f64;
        if growth > MOST_GROWTH {
            longer.push(format!("{name}: {before} -> {now}, {growth:.2} of it"));
        }
    }
    if longer.is_empty() {
        let count = found.instructions.len();
        return print(&format!(
            "{count} loops execute at most {MOST_GROWTH} of the committed instructions\n"
        ));
    }
    bail!(
        "loops execute more instructions. If that is right, run `cargo xtask instructions` and commit.\n  {}",
        longer.join("\n  ")
    )
}

fn count() -> Result<List> {
    run(&mut cargo(&["build", "--release", "--package", "hot-loops"]))?;
    let program = target_folder().join("release/hot-loops");
    let valgrind = which::which("valgrind").context("no valgrind. As root, run `cargo xtask setup`")?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("counts");
    // A profile for each call of the function that a loop runs in, numbered from 1 on.
    let output = Command::new(valgrind)
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .args(["--toggle-collect=*::counted", "--dump-after=*::counted"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .output()
        .context("starting valgrind")?;
    if !output.status.success() {
        bail!("under valgrind: {}", String::from_utf8_lossy(&output.stderr));
    }
    let told = String::from_utf8(output.stdout)?;
    let mut lines = told.lines();
    let instruction_set = lines.next().unwrap_or_default().to_owned();
    let mut instructions = BTreeMap::new();
    for (number, name) in (1..).zip(lines) {
        let profile = fs::read_to_string(out.with_extension(number.to_string()))
            .with_context(|| format!("callgrind counted nothing of `{name}`"))?;
        let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
        let total: u64 = total.context("callgrind gave no total")?.trim().parse()?;
        if total == 0 {
            bail!("callgrind counted nothing of `{name}`");
        }
        print(&format!("{total:>12}  {name}\n"))?;
        instructions.insert(name.to_owned(), total);
    }
    Ok(List { instruction_set, instructions })
}
