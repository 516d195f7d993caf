//! Counts what every kernel does at the shapes of GLM-4-9B, on the emulated card; `cargo xtask kernel-report` runs it.

mod card;
mod cases;
mod page;
mod products;
mod row;
mod told;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use device_mem::Device;
use hip_emu::Options;
use tracing_subscriber::prelude::*;

use crate::row::{ARCHS, Row};

/// An operation of more instructions of gfx1100 is counted on it alone, unless all are asked for.
const LIGHT: u64 = 3_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (check, full) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (false, true),
        ["--check"] => (true, false),
        ["--check", "--full"] => (true, true),
        _ => bail!("expected nothing or --check [--full], found {arguments:?}"),
    };
    let mut options = Options::default();
    options.target = ARCHS[0].to_owned();
    options.counts = true;
    hip_emu::configure(options)?;
    tracing_subscriber::registry().with(told::LaunchBytes).init();
    let rows = count(full)?;
    if check {
        compare(&rows)?
    } else {
        write(&rows)?
    }
    let slower = ARCHS.iter().flat_map(|arch| slower(&rows, arch));
    let over: Vec<String> = rows.iter().filter_map(Row::over_budget).chain(slower).collect();
    if over.is_empty() { Ok(()) } else { bail!("over budget:\n  {}", over.join("\n  ")) }
}

/// Counts every operation on the first card, and on the others those that are light or all.
fn count(full: bool) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for arch in ARCHS {
        let device = Device::from_api(hip_emu::api(), hip_emu::card(arch))?;
        for (index, case) in cases::cases().into_iter().enumerate() {
            let is_light = rows.get(index).is_none_or(|first| first.instructions < LIGHT);
            if full || is_light {
                eprintln!("{arch}: {}", case.shape);
                rows.push(Row::of(case, &device, arch)?);
            }
        }
    }
    Ok(rows)
}

/// Fused launches that execute more than their parts, where all were counted.
fn slower(rows: &[Row], arch: &str) -> Vec<String> {
    let rows = Vec::from_iter(rows.iter().filter(|row| row.arch == arch));
    page::fused(&rows).into_iter().filter_map(|fused| fused.slower()).collect()
}

/// The report's file in the workspace.
fn file(extension: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.planning/kernel-report").with_extension(extension)
}

fn write(rows: &[Row]) -> Result<()> {
    let json = serde_json::to_string_pretty(rows)? + "\n";
    for (extension, text) in [("json", json), ("md", page::page(rows))] {
        let path = file(extension);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    println!("{} launches counted: .planning/kernel-report.md and .json", rows.len());
    Ok(())
}

/// Fails where a count is worse than the committed one, or the page is not that of the committed counts.
fn compare(rows: &[Row]) -> Result<()> {
    let path = file("json");
    let text = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let committed: Vec<Row> = serde_json::from_slice(&text)?;
    if fs::read_to_string(file("md"))? != page::page(&committed) {
        bail!(
            "kernel-report.md is not the page of kernel-report.json; run cargo xtask kernel-report and commit it"
        );
    }
    let mut worse = Vec::new();
    let mut differ = 0;
    for row in rows {
        let same = |other: &&Row| (&other.arch, &other.shape) == (&row.arch, &row.shape);
        let before = committed.iter().find(same).with_context(|| {
            format!(
                "the report lacks {} on {}; run cargo xtask kernel-report and commit it",
                row.shape, row.arch
            )
        })?;
        worse.extend(row.worse_than(before));
        differ += usize::from(row != before);
    }
    if !worse.is_empty() {
        bail!("worse than the committed report:\n  {}", worse.join("\n  "));
    }
    let operations = cases::cases().len();
    if differ > 0 || committed.len() != operations * ARCHS.len() {
        bail!("no count is worse, but the report differs; run cargo xtask kernel-report and commit it");
    }
    println!("{} launches counted, none worse than in .planning/kernel-report.md", rows.len());
    Ok(())
}
