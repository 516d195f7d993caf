//! `glm selfcheck`, and the check of a card before it is first used. The card is the emulated one, also as the HIP library
//! of a machine: then it is a card like any other to the command.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Outcome, emulated_library, glm, outcome, run};
use hip_emu_cdylib::hip_emu::{Arch, Listing};
use serde_json::Value;
use tempfile::TempDir;

const ADD_IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels-nn/hsaco/gfx1100/add_kernel.hsaco");

/// The image of `add`, subtracting.
fn subtracting_image(folder: &TempDir) -> PathBuf {
    let mut image = fs::read(ADD_IMAGE).unwrap();
    let (alone, in_pairs) = additions(&image);
    assert_eq!((alone.len(), in_pairs.len()), (1, 2), "the kernel adds an element, or four in two pairs");
    for at in alone {
        // The opcode's bits of v_add_f32 and v_sub_f32 in the last byte of the word (VOP2).
        let opcode = &mut image[at + 3];
        assert_eq!(*opcode, 3 << 1);
        *opcode = 4 << 1;
    }
    for at in in_pairs {
        // The lowest bits of both opcodes, which are 4 and become 5, in the third byte (VOPD).
        let opcodes = &mut image[at + 2];
        assert_eq!(*opcodes & !1, 4 << 1);
        *opcodes |= (1 << 6) | (1 << 1);
    }
    let path = folder.path().join("subtracts.hsaco");
    fs::write(&path, image).unwrap();
    path
}

/// Where the additions of f32 stand in a file: those alone, and two that are issued as one.
fn additions(image: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let listings = Listing::of_elf(image, Arch::Gfx11).unwrap();
    let functions = listings.iter().flat_map(|listing| &listing.functions);
    let (mut alone, mut in_pairs) = (Vec::new(), Vec::new());
    for line in functions.flat_map(|function| function.lines(Arch::Gfx11)) {
        let Ok(sum) = &line.instruction else { continue };
        let at = line.code.as_ptr().addr() - image.as_ptr().addr();
        if sum.mnemonic().starts_with("v_add_f32") {
            alone.push(at);
        } else if sum.mnemonic() == "v_dual_add_f32" && sum.second_mnemonic() == Some("v_dual_add_f32") {
            in_pairs.push(at);
        }
    }
    (alone, in_pairs)
}

/// The emulated card as a library that HIP programs load.
fn library(folder: &TempDir) -> PathBuf {
    let library = folder.path().join("libamdhip64.so");
    fs::copy(emulated_library(), &library).unwrap();
    library
}

fn selfcheck(arguments: &[&str]) -> Command {
    let mut command = glm();
    command.arg("selfcheck").args(arguments);
    command
}

#[test]
fn every_kernel_passes_on_the_emulated_card() {
    let table = run(&["selfcheck", "--device", "emu"]).ok().stdout;
    let lines: Vec<&str> = table.lines().collect();
    let (total, checks) = lines.split_last().unwrap();
    assert!(checks.len() >= 30 && checks.iter().all(|line| line.starts_with("ok ")), "{table}");
    let (passed, place) = (format!("{0} of {0} checks passed", checks.len()), "an emulated gfx1100");
    assert_eq!(*total, format!("{passed} on {place}"));

    let json: Value =
        serde_json::from_str(&run(&["selfcheck", "--device", "emu", "--json"]).ok().stdout).unwrap();
    let outcomes = json.as_array().unwrap();
    assert_eq!(outcomes.len(), checks.len());
    let worst = outcomes.iter().filter_map(|outcome| outcome["worst_of_bound"].as_f64());
    // A bound that nothing comes near would hide errors, one that is met exactly would be luck.
    assert!(worst.clone().count() >= 12 && worst.clone().all(|share| share > 1e-4 && share < 0.5), "{json}");
    assert!(outcomes.iter().all(|outcome| outcome["passed"] == true && outcome["values"].as_u64() > Some(2)));
}

#[test]
fn a_kernel_that_computes_something_else_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let image = subtracting_image(&folder);
    let failed = outcome(selfcheck(&["--device", "emu"]).env("ADD_HSACO", image).output().unwrap());
    failed.refused(3, &["error: 1 of ", "checks of the device's kernels failed (add: 900 not the CPU's)"]);
    let wrong: Vec<&str> = failed.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(wrong.len() == 1 && wrong[0].contains(" add "), "{}", failed.stdout);
}

#[test]
fn there_must_be_a_device_to_check() {
    run(&["selfcheck", "--device", "hip"]).refused(3, &["--device hip:0 is not to be had"]);
    run(&["selfcheck"]).refused(3, &["there is no card to check; --device emu checks"]);
    run(&["selfcheck", "--device", "cpu"]).refused(1, &["the CPU is what devices are checked against"]);
}

#[test]
fn a_card_is_checked_once_before_it_is_first_used() {
    let folder = tempfile::tempdir().unwrap();
    let library = library(&folder);
    let ask = |device: &str, add: Option<&Path>| -> Outcome {
        let mut command = glm();
        command.args(["-v", "demo", "What is RoPE?", "--device", device]);
        command.env("HIP_FFI_LIB", &library).env("XDG_CACHE_HOME", folder.path().join("cache"));
        add.map(|add| command.env("ADD_HSACO", add));
        outcome(command.output().unwrap())
    };
    let checking = "checking its kernels before they are first used";
    let wrong = subtracting_image(&folder);

    let refused = ask("hip", Some(&wrong));
    refused.refused(3, &["--device hip:0 cannot run this model", "(add: 900 not the CPU's)"]);
    let fallen_back = ask("auto", Some(&wrong)).ok();
    assert!(fallen_back.stderr.contains("ran on cpu, not on a GPU: hip:0 "), "{}", fallen_back.stderr);

    let first = ask("hip", None).ok();
    assert!(first.stderr.contains(checking) && first.stderr.contains("ran on hip:0"), "{}", first.stderr);
    let second = ask("auto", None).ok();
    assert!(!second.stderr.contains(checking) && second.stderr.contains("ran on hip:0"), "{}", second.stderr);
    assert_eq!(first.stdout, second.stdout);
}
