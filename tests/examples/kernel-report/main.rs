//! Counts what every kernel does at the shapes of GLM-4-9B, on the emulated card; `cargo xtask kernel-report` runs it.

mod cases;
mod page;
mod row;
mod told;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use device_mem::Device;
use hip_emu::Options;
use tracing_subscriber::prelude::*;

use crate::row::{ARCH, Row};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--check"] => true,
        _ => bail!("expected nothing or --check, found {arguments:?}"),
    };
    let mut options = Options::default();
    options.target = ARCH.to_owned();
    options.counts = true;
    hip_emu::configure(options)?;
    tracing_subscriber::registry().with(told::LaunchBytes).init();
    let device = Device::from_api(hip_emu::api(), 0)?;
    let count = |case: cases::Case| {
        eprintln!("{}", case.shape);
        Row::of(case, &device)
    };
    let rows = cases::cases().into_iter().map(count).collect::<Result<Vec<_>>>()?;
    if check {
        compare(&rows)?
    } else {
        write(&rows)?
    }
    let slower = page::fused(&rows).into_iter().filter_map(|fused| fused.slower());
    let over: Vec<String> = rows.iter().filter_map(Row::over_budget).chain(slower).collect();
    if over.is_empty() { Ok(()) } else { bail!("over budget:\n  {}", over.join("\n  ")) }
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

fn compare(rows: &[Row]) -> Result<()> {
    let path = file("json");
    let text = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let committed: Vec<Row> = serde_json::from_slice(&text)?;
    let shapes = |rows: &[Row]| rows.iter().map(|row| row.shape.clone()).collect::<Vec<_>>();
    if shapes(rows) != shapes(&committed) {
        bail!(
            "the report lists other operations than are counted; run cargo xtask kernel-report and commit it"
        );
    }
    let worse: Vec<String> =
        rows.iter().zip(&committed).flat_map(|(now, then)| now.worse_than(then)).collect();
    if !worse.is_empty() {
        bail!("worse than the committed report:\n  {}", worse.join("\n  "));
    }
    if fs::read_to_string(file("md"))? != page::page(rows) {
        bail!("no count is worse, but the report differs; run cargo xtask kernel-report and commit it");
    }
    println!("{} launches counted, none worse than in .planning/kernel-report.md", rows.len());
    Ok(())
}
