//! `cargo xtask build-kernels`: sources to checked images and their manifests.

mod check;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rayon::prelude::*;
use serde_json::json;

use crate::compiler::{self, Compiler};
use crate::images::{Built, compile, write_manifest};
use crate::kernels::{self, Kernels};
use crate::process::{print, workspace_root};
use crate::verbs::setup;

pub(crate) use check::{check_all, check_some};

/// Variables that name architectures, in the order that they are honoured.
const ARCH_VARIABLES: [&str; 3] = ["GPU_TARGETS", "AMDGPU_TARGETS", "ROCM_ARCH"];

#[derive(Args)]
#[command(after_help = "\
Architectures: --arch, else $GPU_TARGETS, $AMDGPU_TARGETS, $ROCM_ARCH, else kernels/kernels.toml.
Compiler: $HIPCC, $ROCM_PATH/bin/hipcc, /opt/rocm/bin/hipcc, clang++-22, clang++-19, hipcc; the first there.
For each object two lines say where it is and which variable makes a program use it:
  Compiled kernels/rope.hip -> crates/kernels-rope/hsaco/gfx1100/rope_kernel.hsaco
  ROPE_HSACO=/path/to/crates/kernels-rope/hsaco/gfx1100/rope_kernel.hsaco

Examples:
  cargo xtask build-kernels --arch gfx1100,gfx11-generic
  cargo xtask build-kernels rope
  cargo xtask build-kernels --check")]
pub(crate) struct Options {
    /// Families to build (rope, ...); all when none is named
    families: Vec<String>,
    /// Architectures to build for
    #[arg(long, value_delimiter = ',', value_name = "ARCH,...")]
    arch: Vec<String>,
    /// Rebuild every committed image elsewhere and compare bytes and manifest; change nothing
    #[arg(long, conflicts_with_all = ["arch", "families", "json"])]
    check: bool,
    /// With --check: rebuild an architecture of each kind; of the others compare digests alone
    #[arg(long, requires = "check")]
    some: bool,
    /// Install the compiler first, as `cargo xtask setup` does
    #[arg(long)]
    install: bool,
    /// Print one JSON list of the objects instead of lines
    #[arg(long)]
    json: bool,
}

/// Builds or checks, as the options say.
///
/// # Errors
/// When a compile fails, an object is not what its declaration says, or `--check` finds a difference.
pub(crate) fn execute(options: &Options) -> Result<()> {
    if options.install {
        setup::compiler()?;
    }
    match (options.check, options.some) {
        (true, true) => return check_some(),
        (true, false) => return check_all(),
        _ => {}
    }
    let root = workspace_root();
    let mut kernels = kernels::read(&root)?;
    let whole = options.families.is_empty() && options.arch.is_empty();
    for name in &options.families {
        let known = kernels.families.iter().any(|family| family.decl.family == name);
        ensure!(known, "no kernel family `{name}` in kernels/kernels.toml");
    }
    if !options.families.is_empty() {
        kernels.families.retain(|family| options.families.iter().any(|name| name == family.decl.family));
    }
    let listed = kernels.archs.clone();
    let variables = ARCH_VARIABLES.map(|name| (name, env::var(name).ok()));
    let (archs, warning) = kernels::choose_archs(&options.arch, &variables, &listed);
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
    // Only a build of everything may drop what is no longer listed.
    let prune = whole && archs == listed;
    build(&root, &kernels, &archs, prune, options.json)
}

fn build(root: &Path, kernels: &Kernels, archs: &[String], prune: bool, json: bool) -> Result<()> {
    let mut compilers: BTreeMap<&str, Compiler> = BTreeMap::new();
    for arch in archs {
        compilers.insert(arch, compiler::find_for(arch)?);
    }
    let used: BTreeMap<_, _> =
        compilers.values().map(|compiler| (&compiler.path, &compiler.version)).collect();
    for (path, version) in used {
        eprintln!("compiler: {} ({version})", path.display());
    }
    expect_archs(&compilers, kernels, archs)?;
    // Nothing is written before everything compiled: an image without its manifest row would stop every build.
    let wanted = Vec::from_iter(
        kernels.families.iter().flat_map(|family| archs.iter().map(move |arch| (family, arch))),
    );
    let compiled = wanted
        .par_iter()
        .map(|&(family, arch)| Ok((family, compile(&compilers[arch.as_str()], kernels, family, arch)?)));
    let built = compiled.collect::<Result<Vec<_>>>()?;
    let mut report = Vec::new();
    let mut folders: BTreeMap<PathBuf, Vec<Built>> = BTreeMap::new();
    for (family, object) in built {
        let path = family.images(root).join(&object.row.arch).join(&object.row.image);
        write_image(&path, &object.bytes)?;
        let variable = family.decl.variable;
        if !json {
            let shown = path.strip_prefix(root).unwrap_or(&path).display();
            print(&format!("Compiled {} -> {shown}\n{variable}={}\n", family.source, path.display()))?;
        }
        report
            .push(json!({"source": family.source, "path": path, "variable": variable, "image": object.row}));
        folders.entry(family.images(root)).or_default().push(object);
    }
    for (folder, objects) in folders {
        write_manifest(&folder, objects, prune)?;
    }
    if json {
        print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    Ok(())
}

fn write_image(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("writing {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(what)?;
    }
    fs::write(path, bytes).with_context(what)
}

/// Fails before anything is written when the compiler is too old for an architecture.
fn expect_archs(compilers: &BTreeMap<&str, Compiler>, kernels: &Kernels, archs: &[String]) -> Result<()> {
    let builds = |arch: &str| compilers[arch].builds(arch, &kernels.flags);
    let refused: Vec<_> = archs.iter().filter_map(|arch| Some((arch, builds(arch).err()?))).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let builds: Vec<_> = archs
        .iter()
        .filter(|arch| refused.iter().all(|(other, _)| other != arch))
        .map(String::as_str)
        .collect();
    let reasons: Vec<_> = refused.iter().map(|(arch, reason)| format!("  {arch}: {reason}")).collect();
    bail!(
        "there is no compiler for:\n{}\nInstall clang-22 and lld-22, or build the rest: --arch {}",
        reasons.join("\n"),
        builds.join(",")
    )
}
