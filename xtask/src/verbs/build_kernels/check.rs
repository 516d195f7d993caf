//! `--check`: the committed images are what the sources give.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hsaco::build::{ImageRow, MANIFEST, Manifest, read_manifest, sha256_hex};
use rayon::prelude::*;

use crate::compiler::{self, Compiler};
use crate::images::compile;
use crate::kernels::{self, Family, Kernels};
use crate::process::workspace_root;

/// What is rebuilt where not everything is: an architecture of each kind of code.
const SOME: [&str; 5] = ["gfx1030", "gfx1100", "gfx12-generic", "gfx942", "sm_80"];

/// Rebuilds every image that `kernels.toml` lists and compares bytes and manifests with the committed ones.
///
/// # Errors
/// Names each difference, extra and missing file, and the remedy.
pub(crate) fn check_all() -> Result<()> {
    check(|_| true)
}

/// The same, but of most architectures only that images are those of the manifest, and the manifest's sources those that are here.
///
/// # Errors
/// As [`check_all`].
pub(crate) fn check_some() -> Result<()> {
    check(|arch| SOME.contains(&arch))
}

fn check(is_rebuilt: impl Fn(&str) -> bool + Sync) -> Result<()> {
    let root = workspace_root();
    let kernels = kernels::read(&root)?;
    let folders: BTreeSet<_> = kernels.families.iter().map(|family| family.images(&root)).collect();
    let mut differences = Vec::new();
    let (mut count, mut rebuilt) = (0, 0);
    for folder in folders {
        let manifest = read_manifest(&folder)?;
        differences.extend(strays(&folder, &manifest)?);
        let mut listed = Vec::new();
        let mut rows: BTreeMap<_, _> =
            manifest.images.iter().map(|row| ((row.family.as_str(), row.arch.as_str()), row)).collect();
        for family in kernels.families.iter().filter(|family| family.images(&root) == folder) {
            for arch in &kernels.archs {
                count += 1;
                match rows.remove(&(family.decl.family, arch.as_str())) {
                    Some(row) => listed.push((family, row)),
                    None => differences.push(format!("{} for {arch}: no row in the manifest", family.source)),
                }
            }
        }
        rebuilt += listed.iter().filter(|(_, row)| is_rebuilt(&row.arch)).count();
        let found = listed.par_iter().map(|(family, row)| match is_rebuilt(&row.arch) {
            true => difference(&kernels, family, &folder, row),
            false => stale(family, &folder, row),
        });
        differences.extend(found.collect::<Result<Vec<_>>>()?.into_iter().flatten());
        let unlisted = rows.keys().map(|(family, arch)| format!("{family} for {arch}: not in kernels.toml"));
        differences.extend(unlisted);
    }
    if !differences.is_empty() {
        bail!(
            "{} differences:\n  {}\nRun `cargo xtask build-kernels` and commit the images with their sources",
            differences.len(),
            differences.join("\n  ")
        );
    }
    println!(
        "{rebuilt} images are what their sources give, byte for byte; {} are of these sources",
        count - rebuilt
    );
    Ok(())
}

/// How a committed image is not that of its row, or its row of other sources, if so.
fn stale(family: &Family, folder: &Path, row: &ImageRow) -> Result<Option<String>> {
    let path = folder.join(&row.arch).join(&row.image);
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let what = match () {
        () if sha256_hex(&bytes) != row.sha256 => "is not that of the manifest",
        () if row.source_sha256 != family.source_sha256 => "is of other sources",
        () => return Ok(None),
    };
    Ok(Some(format!("{}: {what}", path.display())))
}

/// How the committed image of `row` differs from a new one, if it does.
fn difference(kernels: &Kernels, family: &Family, folder: &Path, row: &ImageRow) -> Result<Option<String>> {
    let compiler = compiler_of(row)?;
    let new = compile(&compiler, kernels, family, &row.arch)?;
    let path = folder.join(&row.arch).join(&row.image);
    let what = match fs::read(&path) {
        Err(error) => format!("cannot be read: {error}"),
        Ok(bytes) if bytes != new.bytes => "differs from what its source gives".to_owned(),
        Ok(_) if *row != new.row => "its manifest row is not what the build writes".to_owned(),
        Ok(_) => return Ok(None),
    };
    Ok(Some(format!("{}: {what}", path.display())))
}

/// The installed compiler of the version that made `row`.
fn compiler_of(row: &ImageRow) -> Result<Compiler> {
    let places = compiler::search();
    let found: Vec<_> = places.iter().filter_map(|place| place.found.as_ref().ok()).collect();
    let exact = found.iter().find(|compiler| compiler.version == row.compiler);
    exact.map(|compiler| (*compiler).clone()).with_context(|| {
        let installed: Vec<_> = found.iter().map(|compiler| compiler.version.as_str()).collect();
        format!(
            "the manifest names `{}`, and installed is [{}]. Run `cargo xtask setup`; if Debian has moved on, rebuild \
             every image with `cargo xtask build-kernels`",
            row.compiler,
            installed.join(", ")
        )
    })
}

/// Files under `folder` that no row of the manifest names.
fn strays(folder: &Path, manifest: &Manifest) -> Result<Vec<String>> {
    let named: BTreeSet<_> = manifest
        .images
        .iter()
        .map(|row| folder.join(&row.arch).join(&row.image))
        .chain([folder.join(MANIFEST)])
        .collect();
    let mut strays = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !named.contains(&path) {
                strays.push(format!("{}: not in the manifest", path.display()));
            }
        }
    }
    strays.sort();
    Ok(strays)
}
