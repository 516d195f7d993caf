//! One kernel family compiled for one architecture, checked, and written with its manifest row.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use hsaco::build::{ImageRow, KernelRow, MANIFEST, Manifest, read_manifest, sha256_hex};
use hsaco::{CodeObject, KernelInfo, Ptx};

use crate::compiler::{Compiler, is_ptx};
use crate::kernels::{Family, Kernels};

/// An object that was compiled and checked.
pub(crate) struct Built {
    pub(crate) bytes: Vec<u8>,
    pub(crate) row: ImageRow,
}

/// Compiles one family for one architecture and checks the object.
///
/// # Errors
/// When it does not compile, or is not what its declaration says.
pub(crate) fn compile(compiler: &Compiler, kernels: &Kernels, family: &Family, arch: &str) -> Result<Built> {
    let flags = compiler.flags(arch, &kernels.flags);
    let what = || format!("{} for {arch}", family.source);
    let folder = tempfile::tempdir()?;
    let image = family.decl.image_for(arch);
    let out = folder.path().join(&image);
    compiler.compile(&flags, &family.source, &out).with_context(what)?;
    let bytes = fs::read(&out).with_context(|| format!("reading {}", out.display()))?;
    let kernels = if is_ptx(arch) {
        checked_ptx(&bytes, family, arch)
    } else {
        checked_object(&bytes, compiler, &flags, family, arch)
    };
    let kernels = kernels.with_context(what)?;
    eprintln!("{arch:16} {:24} {:6} bytes", family.decl.family, bytes.len());
    let row = ImageRow {
        family: family.decl.family.to_owned(),
        arch: arch.to_owned(),
        image,
        sha256: sha256_hex(&bytes),
        source_sha256: family.source_sha256.clone(),
        compiler: compiler.version.clone(),
        flags,
        kernels: KernelRow::of(&kernels),
    };
    Ok(Built { bytes, row })
}

/// The kernels of a code object that is what its declaration says.
fn checked_object(
    bytes: &[u8],
    compiler: &Compiler,
    flags: &[String],
    family: &Family,
    arch: &str,
) -> Result<Vec<KernelInfo>> {
    let object = CodeObject::parse(bytes)?;
    object.check(&family.decl, arch)?;
    if family.separate_rounding {
        expect_separate(fused_operation(&compiler.assembly(flags, &family.source)?))?;
    }
    Ok(object.kernels().to_vec())
}

/// The kernels of a text that is what its declaration says, and leaves no rounding to the driver's compiler.
fn checked_ptx(bytes: &[u8], family: &Family, arch: &str) -> Result<Vec<KernelInfo>> {
    let ptx = Ptx::parse(bytes)?;
    ptx.check(&family.decl, arch)?;
    if let Some(operation) = ptx.loose_operation() {
        bail!("the driver's compiler may round {operation} otherwise; is -ffp-contract=off missing?");
    }
    if family.separate_rounding {
        expect_separate(ptx.fused_operation())?;
    }
    Ok(ptx.kernels().to_vec())
}

fn expect_separate(fused: Option<&str>) -> Result<()> {
    match fused {
        Some(operation) => {
            bail!("rounds once for two operations: {operation}; is -ffp-contract=off missing?")
        }
        None => Ok(()),
    }
}

/// The first instruction that multiplies and adds floats with one rounding.
fn fused_operation(assembly: &str) -> Option<&str> {
    let fused = |word: &str| {
        let instruction = word.starts_with("v_") || word.starts_with("s_");
        let multiply_add = ["fma", "_mad_", "_mac_"].iter().any(|part| word.contains(part));
        instruction && multiply_add && ["_f16", "_f32", "_f64"].iter().any(|kind| word.contains(kind))
    };
    // A word, not a line: two operations of gfx11 can share a line.
    assembly.split_whitespace().find(|word| fused(word))
}

/// Puts the rows of new objects in place of old ones. With `prune`, all other rows go, and their images with them.
///
/// # Errors
/// When a file cannot be read, written or removed.
pub(crate) fn write_manifest(folder: &Path, objects: Vec<Built>, prune: bool) -> Result<()> {
    let path = folder.join(MANIFEST);
    let old = if path.exists() { read_manifest(folder)? } else { Manifest::default() };
    let key = |row: &ImageRow| (row.family.clone(), row.arch.clone());
    let mut rows: BTreeMap<_, _> = objects.into_iter().map(|built| (key(&built.row), built.row)).collect();
    for row in old.images {
        if prune && !rows.contains_key(&key(&row)) {
            let image = folder.join(&row.arch).join(&row.image);
            fs::remove_file(&image).with_context(|| format!("removing {}", image.display()))?;
            eprintln!("removed {}", image.display());
        } else {
            rows.entry(key(&row)).or_insert(row);
        }
    }
    let manifest = Manifest { images: rows.into_values().collect() };
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fused_operations_are_found() {
        for line in ["v_fmac_f32_e32 v1, v2, v3", "v_pk_fma_f16 v0, v1, v2", "v_mad_f32 v0, v1, v2, v3"] {
            assert_eq!(
                fused_operation(&format!("\tv_mul_f32 v0, v1\n\t{line}")),
                line.split_whitespace().next()
            );
        }
        let dual = "\tv_dual_mul_f32 v0, v1, v2 :: v_dual_fmac_f32 v3, v4, v5";
        assert_eq!(fused_operation(dual), Some("v_dual_fmac_f32"));
        assert_eq!(
            fused_operation("\tv_mad_u64_u32 v[0:1], v2, v3, v[4:5]\n\tv_mul_f32 v0, v1\n.Lfma_f32:"),
            None
        );
    }

    fn built(arch: &str) -> Built {
        let row = ImageRow {
            family: "rope".to_owned(),
            arch: arch.to_owned(),
            image: "rope_kernel.hsaco".to_owned(),
            sha256: String::new(),
            source_sha256: String::new(),
            compiler: String::new(),
            flags: Vec::new(),
            kernels: Vec::new(),
        };
        Built { bytes: Vec::new(), row }
    }

    #[test]
    fn a_partial_build_keeps_other_rows_and_a_whole_one_drops_them() {
        let folder = tempfile::tempdir().unwrap();
        let archs = || -> Vec<_> {
            read_manifest(folder.path()).unwrap().images.into_iter().map(|row| row.arch).collect()
        };
        for arch in ["gfx1100", "gfx942"] {
            fs::create_dir(folder.path().join(arch)).unwrap();
            fs::write(folder.path().join(arch).join("rope_kernel.hsaco"), "").unwrap();
            write_manifest(folder.path(), vec![built(arch)], false).unwrap();
        }
        assert_eq!(archs(), ["gfx1100", "gfx942"]);
        write_manifest(folder.path(), vec![built("gfx1100")], true).unwrap();
        assert_eq!(archs(), ["gfx1100"]);
        assert!(!folder.path().join("gfx942/rope_kernel.hsaco").exists());
    }
}
