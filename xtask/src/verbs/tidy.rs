//! `cargo xtask tidy`: the house rules that no other tool checks.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::checks::{self, Finding};
use crate::{dependencies, unsafe_count};

/// Runs every check over the tracked files and prints what breaks a rule.
///
/// # Errors
/// When a rule is broken, or git cannot list the files.
pub(crate) fn execute(root: &Path) -> Result<()> {
    let files = tracked_files(root)?;
    let mut findings = checks::adr_numbers(&files);
    findings.extend(checks::images(root, &files)?);
    let (unsafe_blocks, changed) = unsafe_count::check(root, &files)?;
    findings.extend(changed);
    findings.extend(dependencies::check(root)?);
    for path in &files {
        // A file that git tracks but that is gone from the work tree has nothing to say.
        let Ok(bytes) = fs::read(root.join(path)) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            findings.extend(checks::text_file(path, &text));
        }
    }
    for Finding { path, line, what } in &findings {
        eprintln!("{path}:{line}: {what}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), files.len());
    }
    let counts: Vec<String> = unsafe_blocks.iter().map(|(place, count)| format!("{place} {count}")).collect();
    println!("unsafe blocks: {}: {}", unsafe_blocks.values().sum::<usize>(), counts.join(", "));
    println!("tidy: {} files, no findings", files.len());
    Ok(())
}

/// The files that git tracks, or would track, from the root on.
pub(crate) fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("tidy lists the files with git; is it installed?")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let listing = String::from_utf8(output.stdout).context("a tracked path is not UTF-8")?;
    Ok(listing.lines().map(str::to_owned).collect())
}
