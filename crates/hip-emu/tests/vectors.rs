//! Every encoding with llvm-mc's text (`data/README.md`) decodes, takes up its bytes and prints equal. Families that are
//! refused are counted by name.

use std::{collections::BTreeMap, error::Error, io, num::ParseIntError};

use flate2::read::GzDecoder;
use hip_emu::{Arch, DecodeError, Dialect, decode};

/// What came of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    equal: usize,
    /// By family.
    refused: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

fn check(arch: Arch, packed: &[u8]) -> Result<Outcome, Box<dyn Error>> {
    let text = io::read_to_string(GzDecoder::new(packed))?;
    let mut outcome = Outcome::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (hex, expected) = line.split_once('\t').ok_or("bytes, tab, text")?;
        let bytes = from_hex(hex)?;
        match decode(arch, &bytes) {
            Ok(instruction) => {
                let printed = instruction.display(Dialect::Llvm19).to_string();
                if (printed.as_str(), instruction.length()) == (expected, bytes.len()) {
                    outcome.equal += 1;
                } else {
                    outcome.wrong.push(format!("{hex}: expected `{expected}`, printed `{printed}`"));
                }
            }
            Err(DecodeError::Refused { family, mnemonic, .. }) => {
                assert!(expected.starts_with(mnemonic), "{hex}: expected `{expected}`, refused {mnemonic}");
                *outcome.refused.entry(format!("{family:?}")).or_default() += 1;
            }
            Err(error) => outcome.wrong.push(format!("{hex}: expected `{expected}`, {error}")),
        }
    }
    println!(
        "{arch:?}: {} equal, refused {:?}, {} wrong",
        outcome.equal,
        outcome.refused,
        outcome.wrong.len()
    );
    Ok(outcome)
}

fn from_hex(hex: &str) -> Result<Vec<u8>, ParseIntError> {
    (0..hex.len()).step_by(2).map(|place| u8::from_str_radix(&hex[place..place + 2], 16)).collect()
}

fn holds(arch: Arch, packed: &[u8], equal: usize, refused: &[(&str, usize)]) -> Result<(), Box<dyn Error>> {
    let outcome = check(arch, packed)?;
    assert!(outcome.wrong.is_empty(), "{}", outcome.wrong[..outcome.wrong.len().min(20)].join("\n"));
    let refused: BTreeMap<String, usize> =
        refused.iter().map(|(family, count)| ((*family).to_owned(), *count)).collect();
    assert_eq!((outcome.equal, outcome.refused), (equal, refused), "{arch:?}");
    Ok(())
}

#[test]
fn gfx10_prints_as_llvm_does() -> Result<(), Box<dyn Error>> {
    holds(
        Arch::Gfx10,
        include_bytes!("data/gfx10.tsv.gz"),
        30876,
        &[("Export", 15), ("Image", 368), ("Interpolation", 67)],
    )
}

#[test]
fn gfx11_prints_as_llvm_does() -> Result<(), Box<dyn Error>> {
    holds(Arch::Gfx11, include_bytes!("data/gfx11.tsv.gz"), 35246, &[("Export", 4), ("Image", 1983)])
}

#[test]
fn gfx12_prints_as_llvm_does() -> Result<(), Box<dyn Error>> {
    holds(Arch::Gfx12, include_bytes!("data/gfx12.tsv.gz"), 34499, &[("Export", 24), ("Image", 759)])
}

#[test]
fn gfx90a_prints_as_llvm_does() -> Result<(), Box<dyn Error>> {
    holds(Arch::Gfx90a, include_bytes!("data/gfx90a.tsv.gz"), 40717, &[("Image", 464)])
}

#[test]
fn gfx940_prints_as_llvm_does() -> Result<(), Box<dyn Error>> {
    holds(Arch::Gfx940, include_bytes!("data/gfx940.tsv.gz"), 38107, &[])
}
