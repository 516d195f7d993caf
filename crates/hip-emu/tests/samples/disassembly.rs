//! Each build of each sample, and each kernel that the workspace ships, lists as the compiler's own llvm-objdump does.

use std::fs;
use std::path::{Path, PathBuf};

use hip_emu::{Arch, Dialect};
use hsaco::CodeObject;

use crate::compile::{Dialect as Source, FIRST, builds};
use crate::objdump::compare;

/// The name of a compiler's llvm-objdump, and its spelling.
fn objdump_of(compiler: &str) -> (&'static str, Dialect) {
    match compiler {
        "clang++-22" => ("llvm-objdump-22", Dialect::Llvm22),
        "clang++-19" => ("llvm-objdump-19", Dialect::Llvm19),
        other => panic!("{other}: a compiler whose llvm-objdump is not known"),
    }
}

fn assert_lists_alike(label: &str, image: &[u8], (objdump, spelling): (&str, Dialect)) -> usize {
    let object = CodeObject::parse(image).unwrap();
    let arch = Arch::from_target(&object.target().processor).unwrap();
    let result = compare(object.elf(), arch, objdump, spelling).unwrap();
    assert_eq!(result.differing, 0, "{label}: {:#?}", result.kept);
    assert!(result.instructions > 0, "{label}: nothing was compared");
    result.instructions
}

/// Names of the `.hip` sources of a folder, without the ending.
fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let hip = paths.filter(|path| path.extension().is_some_and(|ending| ending == "hip"));
    let mut names: Vec<_> =
        hip.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The parts of a source that has nothing outside of them, those for gfx11.
fn parts(name: &str) -> &'static [&'static [&'static str]] {
    match name {
        "matrix_builtins" => &[&["-DT_WMMA11_BF16"], &["-DT_WMMA11_I8"], &["-DT_BF16_TYPE"], &["-DT_DYNLDS"]],
        _ => &[&[]],
    }
}

fn every_build_of(source: Source, names: &[String]) {
    let (mut objects, mut instructions) = (0, 0);
    for name in names {
        for build in parts(name).iter().flat_map(|defines| builds(source, name, FIRST, defines).to_vec()) {
            instructions += assert_lists_alike(&build.to_string(), &build.image, objdump_of(build.compiler));
            objects += 1;
        }
    }
    println!("{objects} objects with {instructions} instructions are alike");
    assert!(objects > 0);
}

#[test]
fn bare_samples() {
    every_build_of(Source::Bare, &sources(&Source::Bare.folder()));
}

#[test]
fn own_samples() {
    every_build_of(Source::Own, &["axpy", "forms", "lines"].map(str::to_owned));
}

#[test]
fn hip_samples() {
    every_build_of(Source::Hip, &sources(&Source::Hip.folder()));
}

/// Targets of shipped images that are no [`Arch`], or that spell a wait otherwise than the card whose table theirs is.
const NOT_DECODED: &[&str] = &["gfx9-generic", "gfx10-1-generic"];

fn images(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            images(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "hsaco") {
            found.push(path);
        }
    }
}

/// The images beside the crates that own them.
#[test]
fn shipped_kernels() {
    let mut paths = Vec::new();
    for owner in ["kernels-rope", "kernels-nn"] {
        images(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(owner).join("hsaco"), &mut paths);
    }
    paths.retain(|path| !NOT_DECODED.iter().any(|&target| path.iter().any(|part| part == target)));
    let mut instructions = 0;
    for path in &paths {
        let image = fs::read(path).unwrap();
        instructions += assert_lists_alike(&path.to_string_lossy(), &image, objdump_of("clang++-22"));
    }
    println!("{} objects with {instructions} instructions are alike", paths.len());
    assert!(!paths.is_empty());
}
