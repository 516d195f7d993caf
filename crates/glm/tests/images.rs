//! Every committed image is executed: `glm selfcheck` on an emulated card for each target that `kernels/kernels.toml` names,
//! and on every member of a generic family.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use common::{glm, outcome};
use hsaco::ImageSet;
use serde_json::Value;

/// The crates with images, and what each declares.
const OWNERS: [(&str, &[&ImageSet]); 3] = [
    ("kernels-rope", &kernels_rope::kernels::ALL),
    ("kernels-nn", &kernels_nn::kernels::ALL),
    ("attention", &attention::kernels::ALL),
];

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The cards that execute the images of each architecture.
fn executed() -> BTreeMap<String, Vec<String>> {
    let config: toml::Table = fs::read_to_string(workspace("kernels/kernels.toml")).unwrap().parse().unwrap();
    config["executed"].clone().try_into().unwrap()
}

/// `glm selfcheck` on a card.
fn selfcheck(card: &str) -> Command {
    let mut command = glm();
    command.args(["selfcheck", "--json", "--device", &format!("emu:{card}")]);
    command
}

/// Each image of `arch`, with the variable that puts it in place of the one that would be chosen.
fn images(arch: &str) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let folder = |owner: &str| workspace(&format!("crates/{owner}/hsaco/{arch}"));
    let owned = OWNERS.map(|(owner, sets)| (folder(owner), sets));
    owned.into_iter().flat_map(|(folder, sets)| {
        sets.iter().map(move |set| (set.decl.variable, folder.join(set.decl.image)))
    })
}

/// Checks all images of `arch` on a card.
fn check(arch: &str, card: &str, checked: bool) {
    let mut command = selfcheck(card);
    command.envs(images(arch));
    if checked {
        command.env("HIP_EMU_CHECK", "memory,init,race,sync,align");
    }
    let told = outcome(command.output().unwrap());
    assert_eq!(told.code, Some(0), "{arch} on {card}: {}{}", told.stdout, told.stderr);
    assert!(!told.stderr.contains("hip-emu:"), "{arch} on {card}: {}", told.stderr);
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    let kernels: BTreeSet<&str> = report
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["kernel"].as_str().unwrap().split([' ', ',']).next().unwrap())
        .collect();
    let families: BTreeSet<&str> =
        OWNERS.iter().flat_map(|(_, sets)| *sets).map(|set| set.decl.family).collect();
    assert_eq!(kernels, families, "{arch} on {card}");
}

#[test]
fn every_image_computes_what_the_cpu_does_on_every_card_that_it_is_for() {
    let mut runs = Vec::new();
    for (arch, cards) in executed() {
        for (index, card) in cards.into_iter().enumerate() {
            // The checks find what is in the image, whichever member of its family executes it.
            runs.push((arch.clone(), card, index == 0));
        }
    }
    let queue = Mutex::new(runs);
    let next = || queue.lock().unwrap().pop();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((arch, card, checked)) = next() {
                    check(&arch, &card, checked);
                }
            });
        }
    });
}

#[test]
fn the_images_that_are_named_are_those_that_run() {
    for (variable, image) in images("gfx1100") {
        let told = outcome(selfcheck("gfx1201").env(variable, &image).output().unwrap());
        assert_ne!(told.code, Some(0), "{variable} was passed over: {}", told.stdout);
        assert!(told.stderr.contains(variable), "{variable}: {}", told.stderr);
    }
}

#[test]
fn every_folder_of_images_has_a_card() {
    let config: toml::Table = fs::read_to_string(workspace("kernels/kernels.toml")).unwrap().parse().unwrap();
    // No emulated card runs PTX.
    let ptx: Vec<String> = config["ptx"].clone().try_into().unwrap();
    let named: BTreeSet<String> = executed().into_keys().chain(ptx).collect();
    for (owner, _) in OWNERS {
        let folder = fs::read_dir(workspace(&format!("crates/{owner}/hsaco"))).unwrap();
        let found: BTreeSet<String> = folder
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        assert_eq!(found, named, "{owner}");
    }
}
