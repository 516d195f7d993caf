//! An object's listing beside llvm-objdump's.

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use hip_emu::{Arch, Dialect, Listing};

/// Differences that are kept; the rest are counted.
pub(crate) const KEPT: usize = 20;

/// What a comparison found.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Lines with an instruction, or with data in its place, as llvm-objdump counts them.
    pub(crate) instructions: usize,
    /// Lines that differ.
    pub(crate) differing: usize,
    /// llvm-objdump's line and ours, for the first that differ.
    pub(crate) kept: Vec<[String; 2]>,
}

impl Comparison {
    fn line(&mut self, expected: Option<&str>, found: Option<&str>) {
        if expected.is_some_and(|line| line.contains("// ")) {
            self.instructions += 1;
        }
        if expected != found {
            self.differing += 1;
            if self.kept.len() < KEPT {
                self.kept.push([expected, found].map(|line| line.unwrap_or("no line").to_owned()));
            }
        }
    }
}

/// Compares every line of an ELF file's listing with what `objdump` (such as `llvm-objdump-22`) prints, which writes in
/// `dialect`.
///
/// # Errors
///
/// When the object cannot be listed, or llvm-objdump cannot be run or fails.
pub(crate) fn compare(
    elf: &[u8],
    arch: Arch,
    objdump: &str,
    dialect: Dialect,
) -> Result<Comparison, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("object");
    fs::write(&file, elf)?;
    let mut child = start(objdump, &file)?;
    let output = child.stdout.take().ok_or("llvm-objdump has no output")?;
    // Before the first section stands the file's name.
    let mut expected = BufReader::new(output)
        .lines()
        .skip_while(|line| line.as_ref().is_ok_and(|line| !line.starts_with("Disassembly")))
        .filter(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
    let mut comparison = Comparison::default();
    let mut text = String::new();
    for listing in Listing::of_elf(elf, arch)? {
        comparison.line(
            expected.next().transpose()?.as_deref(),
            Some(&format!("Disassembly of section {}:", listing.section)),
        );
        for function in &listing.functions {
            text.clear();
            listing.print(function, dialect, &mut text)?;
            for found in text.lines() {
                comparison.line(expected.next().transpose()?.as_deref(), Some(found));
            }
        }
    }
    for line in expected {
        comparison.line(Some(&line?), None);
    }
    let status = child.wait()?;
    if status.success() { Ok(comparison) } else { Err(format!("{objdump}: {status}").into()) }
}

fn start(objdump: &str, file: &Path) -> Result<std::process::Child, Box<dyn Error>> {
    let mut command = Command::new(objdump);
    let child = command.arg("-d").arg(file).stdout(Stdio::piped()).spawn();
    child.map_err(|error| format!("cannot run {objdump}: {error}; `cargo xtask setup` installs it").into())
}
