//! What there is to compile: `kernels/kernels.toml`, the sources beside it, and the declarations of the owners.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use attention::kernels::{ATTENTION, ATTENTION_TILED, DECODE_ATTENTION};
use hsaco::KernelDecl;
use hsaco::build::source_digest;
use kernels_nn::kernels::{
    ADD, ADD_RMS_NORM, ARGMAX, EMBEDDING, LINEAR, LINEAR_BLOCKS, LINEAR_TILED, NORM_LINEAR, RMS_NORM, SAMPLE,
    SWIGLU,
};
use kernels_rope::kernels::{APPEND_KV, POSITION_EMBEDDINGS, ROPE};
use serde::Deserialize;

/// Every declaration, with the crate that owns it.
const DECLARED: &[(&str, KernelDecl)] = &[
    ("kernels-rope", ROPE.decl),
    ("kernels-rope", POSITION_EMBEDDINGS.decl),
    ("kernels-rope", APPEND_KV.decl),
    ("kernels-nn", EMBEDDING.decl),
    ("kernels-nn", RMS_NORM.decl),
    ("kernels-nn", ADD_RMS_NORM.decl),
    ("kernels-nn", SWIGLU.decl),
    ("kernels-nn", ADD.decl),
    ("kernels-nn", LINEAR.decl),
    ("kernels-nn", LINEAR_BLOCKS.decl),
    ("kernels-nn", LINEAR_TILED.decl),
    ("kernels-nn", NORM_LINEAR.decl),
    ("kernels-nn", ARGMAX.decl),
    ("kernels-nn", SAMPLE.decl),
    ("attention", ATTENTION.decl),
    ("attention", ATTENTION_TILED.decl),
    ("attention", DECODE_ATTENTION.decl),
];

/// `kernels/kernels.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    archs: Vec<String>,
    ptx: Vec<String>,
    flags: Vec<String>,
    /// Cards by architecture; `tidy` and the tests of `glm` read them.
    #[serde(default, rename = "executed")]
    _executed: BTreeMap<String, Vec<String>>,
    families: BTreeMap<String, FamilyConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyConfig {
    #[serde(rename = "crate")]
    owner: String,
    #[serde(default)]
    separate_rounding: bool,
}

/// Everything to compile.
#[derive(Debug)]
pub(crate) struct Kernels {
    pub(crate) archs: Vec<String>,
    pub(crate) flags: Vec<String>,
    pub(crate) families: Vec<Family>,
}

/// One source with its owner and declaration.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) decl: KernelDecl,
    /// The crate that ships the images.
    pub(crate) owner: String,
    /// Whether fused multiply-adds are refused, because results are promised bit for bit.
    pub(crate) separate_rounding: bool,
    /// `kernels/rope.hip`.
    pub(crate) source: String,
    /// Of the source and every header.
    pub(crate) source_sha256: String,
}

impl Family {
    /// The owner's folder of images.
    pub(crate) fn images(&self, root: &Path) -> PathBuf {
        root.join("crates").join(&self.owner).join("hsaco")
    }
}

/// Reads `kernels/` and compares it with what the crates declare.
///
/// # Errors
/// When a source, a declaration or a row of `kernels.toml` lacks its counterparts, or two families share a name.
pub(crate) fn read(root: &Path) -> Result<Kernels> {
    read_declared(&root.join("kernels"), DECLARED)
}

fn read_declared(folder: &Path, declared: &[(&str, KernelDecl)]) -> Result<Kernels> {
    let path = folder.join("kernels.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let config: Config = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    check_counterparts(folder, &config, declared)?;
    let headers = files_with(&folder.join("include"), ".h")?;
    let mut families = Vec::new();
    for (owner, decl) in declared {
        let separate_rounding =
            config.families.get(decl.family).is_some_and(|family| family.separate_rounding);
        let mut sources = BTreeMap::new();
        for path in headers.iter().chain([&folder.join(decl.source)]) {
            let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
            sources.insert(name, fs::read(path).with_context(|| format!("reading {}", path.display()))?);
        }
        families.push(Family {
            decl: *decl,
            owner: (*owner).to_owned(),
            separate_rounding,
            source: format!("kernels/{}", decl.source),
            source_sha256: source_digest(&sources),
        });
    }
    let archs = config.archs.into_iter().chain(config.ptx).collect();
    Ok(Kernels { archs, flags: config.flags, families })
}

fn check_counterparts(folder: &Path, config: &Config, declared: &[(&str, KernelDecl)]) -> Result<()> {
    for (at, (owner, decl)) in declared.iter().enumerate() {
        let family = decl.family;
        let Some(row) = config.families.get(family) else {
            bail!("`{family}` is declared by {owner} but is not in kernels.toml");
        };
        ensure!(
            row.owner == *owner,
            "kernels.toml gives `{family}` to {}, but {owner} declares it",
            row.owner
        );
        ensure!(
            folder.join(decl.source).is_file(),
            "kernels/{} is declared by {owner} but is not there",
            decl.source
        );
        for (_, other) in &declared[..at] {
            let shared_symbol = decl.symbols.iter().find(|symbol| other.symbols.contains(symbol));
            if let Some(symbol) = shared_symbol {
                bail!("`{family}` and `{}` both declare the symbol `{symbol}`", other.family);
            }
            ensure!(
                decl.variable != other.variable,
                "`{family}` and `{}` share {}",
                other.family,
                decl.variable
            );
        }
    }
    for family in config.families.keys() {
        ensure!(
            declared.iter().any(|(_, decl)| decl.family == family),
            "kernels.toml lists `{family}`, but xtask/src/kernels.rs knows no declaration of it"
        );
    }
    for source in files_with(folder, ".hip")? {
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        ensure!(config.families.contains_key(name.as_ref()), "{} is not in kernels.toml", source.display());
    }
    Ok(())
}

/// Files of a folder whose names end in `end`, sorted.
fn files_with(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(end) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The architectures to build for, and a warning when the variables disagree: `flag`, else the first of the variables
/// that is set, else `default`.
pub(crate) fn choose_archs(
    flag: &[String],
    variables: &[(&str, Option<String>)],
    default: &[String],
) -> (Vec<String>, Option<String>) {
    if !flag.is_empty() {
        return (flag.to_vec(), None);
    }
    let set: Vec<_> = variables
        .iter()
        .filter_map(|(name, value)| Some((*name, split_archs(value.as_deref()?))))
        .filter(|(_, archs)| !archs.is_empty())
        .collect();
    let Some((name, archs)) = set.first() else { return (default.to_vec(), None) };
    let different = set.iter().find(|(_, other)| other != archs);
    let warning = different.map(|(other, theirs)| {
        format!("{name} is {}, {other} is {}: taking {name}", archs.join(","), theirs.join(","))
    });
    (archs.clone(), warning)
}

fn split_archs(text: &str) -> Vec<String> {
    text.split([',', ';', ' ']).filter(|arch| !arch.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::workspace_root;

    const CONFIG: &str = "archs = []\nptx = []\nflags = []\n[families.rope]\ncrate = \"kernels-rope\"\n";

    /// The error of a `kernels/` folder that holds `config` and `sources`.
    fn error(config: &str, sources: &[&str], declared: &[(&str, KernelDecl)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("include")).unwrap();
        fs::write(folder.path().join("kernels.toml"), config).unwrap();
        for source in sources {
            fs::write(folder.path().join(source), "").unwrap();
        }
        format!("{:#}", read_declared(folder.path(), declared).unwrap_err())
    }

    #[test]
    fn the_workspace_agrees_with_its_declarations() {
        let kernels = read(&workspace_root()).unwrap();
        assert_eq!(kernels.families.len(), DECLARED.len());
        assert!(["gfx1100", "sm_80"].iter().all(|arch| kernels.archs.iter().any(|known| known == arch)));
    }

    #[test]
    fn a_missing_counterpart_is_named() {
        let rope = ("kernels-rope", ROPE.decl);
        assert!(error(CONFIG, &["rope.hip"], &[]).contains("no declaration"));
        assert!(error(CONFIG, &[], &[rope]).contains("kernels/rope.hip"));
        assert!(error(CONFIG, &["rope.hip", "norm.hip"], &[rope]).contains("norm.hip"));
        assert!(error(CONFIG, &["rope.hip"], &[("attention", ROPE.decl)]).contains("attention"));
        assert!(
            error("archs = []\nptx = []\nflags = []\n[families]\n", &["rope.hip"], &[rope])
                .contains("not in kernels.toml")
        );
        assert!(error(CONFIG, &["rope.hip"], &[rope, rope]).contains("rope_f32"));
    }

    #[test]
    fn architectures_come_from_the_flag_then_the_variables_then_the_file() {
        let list = |text: &str| split_archs(text);
        let variables = |gpu: Option<&str>, rocm: Option<&str>| {
            [("GPU_TARGETS", gpu.map(str::to_owned)), ("ROCM_ARCH", rocm.map(str::to_owned))]
        };
        let default = list("gfx90a,gfx942");
        assert_eq!(
            choose_archs(&list("gfx1100"), &variables(Some("gfx906"), None), &default),
            (list("gfx1100"), None)
        );
        assert_eq!(choose_archs(&[], &variables(None, Some("")), &default), (default.clone(), None));
        let semicolons = variables(Some("gfx1100;gfx1101"), Some("gfx1100 gfx1101"));
        assert_eq!(choose_archs(&[], &semicolons, &default), (list("gfx1100,gfx1101"), None));
        let (archs, warning) = choose_archs(&[], &variables(Some("gfx1100"), Some("gfx1030")), &default);
        assert_eq!(archs, list("gfx1100"));
        assert!(warning.unwrap().contains("gfx1030"));
    }
}
