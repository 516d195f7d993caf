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
/// The set that valgrind has on every x86-64 machine with AVX2; it hides AVX-512.
const LEVEL: &str = "Avx2";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail where a loop executes over 1.15 of the instructions in the committed list
    #[arg(long)]
    check: bool,
}

/// `.planning/instructions.json`.
#[derive(Serialize, Deserialize)]
struct List {
    instruction_set: String,
    /// By loop.
    instructions: BTreeMap<String, u64>,
}

/// Counts, and writes `.planning/instructions.json` or compares with it.
///
/// # Errors
/// Without valgrind or AVX2, and for `--check` where a loop got longer.
pub(crate) fn execute(&Options { check }: &Options) -> Result<()> {
    if check { check_all() } else { write() }
}

fn path() -> PathBuf {
    workspace_root().join(".planning/instructions.json")
}

fn write() -> Result<()> {
    let list = List { instruction_set: LEVEL.to_owned(), instructions: count()? };
    fs::write(path(), serde_json::to_string_pretty(&list)? + "\n")
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
    if !found.keys().eq(committed.instructions.keys()) {
        bail!("other loops than in .planning/instructions.json: run `cargo xtask instructions`");
    }
    let mut longer = Vec::new();
    for (name, &before) in &committed.instructions {
        let now = found.get(name).copied().unwrap_or_default();
        let growth = now as f64 / before as f64;
        if growth > MOST_GROWTH {
            longer.push(format!("{name}: {before} -> {now}, {growth:.2} of it"));
        }
    }
    if longer.is_empty() {
        return print(&format!("{} loops execute no more instructions than committed\n", found.len()));
    }
    bail!(
        "loops execute more instructions. If that is right, run `cargo xtask instructions` and commit.\n  {}",
        longer.join("\n  ")
    )
}

/// Instructions of each loop.
fn count() -> Result<BTreeMap<String, u64>> {
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
    let level = lines.next().unwrap_or_default();
    if level != LEVEL {
        bail!("the list is for {LEVEL}, and this machine has {level} under valgrind");
    }
    let mut counts = BTreeMap::new();
    for (number, name) in (1..).zip(lines) {
        let profile = fs::read_to_string(out.with_extension(number.to_string()))
            .with_context(|| format!("callgrind counted nothing of `{name}`"))?;
        let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
        let total: u64 = total.context("callgrind gave no total")?.trim().parse()?;
        if total == 0 {
            bail!("callgrind counted nothing of `{name}`");
        }
        print(&format!("{total:>12}  {name}\n"))?;
        counts.insert(name.to_owned(), total);
    }
    Ok(counts)
}
