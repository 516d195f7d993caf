//! `cargo xtask kernel-report`: what the kernels cost at the shapes of GLM-4-9B, counted by the emulator.
//!
//! Nothing here is a time: counts come from the gfx1100 images as `hip-emu` executes them, registers and LDS from the images
//! themselves. What is predicted from them for cards is named so.

mod cases;
mod compare;
mod measure;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::kernels;
use crate::process::{print, workspace_root};

/// The committed report, beside the sources that it tells of.
const JSON: &str = "kernels/report.json";
const MARKDOWN: &str = "kernels/REPORT.md";

#[derive(Args)]
pub(crate) struct Options {
    /// Compare with the committed report, and fail where a count is worse, instead of writing it
    #[arg(long)]
    check: bool,
    /// Only the cases whose name contains this, printed and not written
    #[arg(long, conflicts_with = "check")]
    only: Option<String>,
}

/// What one launch costs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Row {
    /// What the launch does, and on which shape.
    pub(crate) name: String,
    pub(crate) symbol: String,
    /// Bytes that must be read and written once.
    pub(crate) least_bytes: u64,
    /// Bytes of the segments of 32 bytes that were touched: what an endless cache would move.
    pub(crate) moved_bytes: u64,
    /// Bytes that lanes asked global memory for.
    pub(crate) asked_bytes: u64,
    /// Accesses of global memory by a wave, and the lines of 128 bytes that they touched.
    pub(crate) accesses: u64,
    pub(crate) transactions: u64,
    /// Instructions, one for all lanes of a wave.
    pub(crate) instructions: u64,
    /// What instructions are counted by: products for matrices, elements of the output for the rest.
    pub(crate) elements: u64,
    pub(crate) lds_cycles: u64,
    pub(crate) lds_conflict_cycles: u64,
    pub(crate) vgprs: u32,
    pub(crate) spills: u32,
    /// Waves that a SIMD of gfx1100 can hold.
    pub(crate) waves_per_simd: u32,
    /// Whether `moved_bytes` may be 1.05 of the least at most.
    pub(crate) budget: bool,
}

/// Measures, then writes the report or compares with it.
///
/// # Errors
/// When a family of kernels has no case, a launch fails, a kernel spills, a fused kernel costs more than its parts, or, with
/// `--check`, a count is worse than the committed one or exceeds a budget that it kept.
pub(crate) fn execute(options: &Options) -> Result<()> {
    let root = workspace_root();
    let cases = cases::all();
    for family in &kernels::read(&root)?.families {
        let name = family.decl.family;
        ensure!(
            cases.iter().any(|case| case.images.decl.family == name),
            "kernel family `{name}` has no case in the report; add one to xtask/src/verbs/kernel_report/cases.rs"
        );
    }
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut rows = Vec::new();
    for case in cases.iter().filter(|case| wanted(&case.name)) {
        let row = measure::measure(case).with_context(|| format!("measuring {}", case.name))?;
        eprintln!("{:44} {:>11} instructions {:>10} bytes", row.name, row.instructions, row.moved_bytes);
        rows.push(row);
    }
    if options.only.is_some() {
        return print(&table::markdown(&rows));
    }
    let mut findings = compare::spills(&rows);
    findings.extend(compare::fused(&rows)?);
    if options.check {
        findings.extend(compare::with_committed(&committed(&root)?, &rows));
    }
    if !findings.is_empty() {
        bail!("the kernels cost more than they may:\n  {}", findings.join("\n  "));
    }
    if options.check {
        return print(&format!("kernel-report: {} launches, none worse than {JSON}\n", rows.len()));
    }
    write(&root.join(JSON), &(serde_json::to_string_pretty(&rows)? + "\n"))?;
    write(&root.join(MARKDOWN), &table::markdown(&rows))?;
    print(&format!("wrote {JSON} and {MARKDOWN}: {} launches\n", rows.len()))
}

/// What CI runs: `cargo xtask kernel-report --check`.
///
/// # Errors
/// As [`execute`].
pub(crate) fn check() -> Result<()> {
    execute(&Options { check: true, only: None })
}

fn committed(root: &Path) -> Result<Vec<Row>> {
    let path = root.join(JSON);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("reading {}; `cargo xtask kernel-report` writes it", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
