//! `cargo xtask sbom`: what the command `glm` is made of, as a CycloneDX document.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::dependencies::{Metadata, Package, metadata};
use crate::process::workspace_root;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The crate whose parts are listed
    #[arg(long, default_value = "glm", value_name = "CRATE")]
    package: String,
    /// The file to write
    #[arg(long, default_value = "target/glm.cdx.json", value_name = "FILE.cdx.json")]
    out: PathBuf,
}

/// Writes every package that the crate is built from or with, and which needs which, as the committed lock has them.
///
/// # Errors
/// When there is no such crate, or the file cannot be written.
pub(crate) fn execute(options: &Options) -> Result<()> {
    let lock = fs::read_to_string(workspace_root().join("Cargo.lock")).context("reading Cargo.lock")?;
    let document = document(&metadata()?, &checksums(&lock)?, &options.package)?;
    let out = workspace_root().join(&options.out);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = format!("{}\n", serde_json::to_string_pretty(&document)?);
    fs::write(&out, text).with_context(|| format!("writing {}", out.display()))?;
    let count = document["components"].as_array().map_or(0, Vec::len);
    println!("{count} packages -> {}", options.out.display());
    Ok(())
}

/// SHA-256 of each package from a registry, by name and version.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let text = |package: &toml::Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let entry = |package: &toml::Value| {
        Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?))
    };
    Ok(packages.into_iter().flatten().filter_map(entry).collect())
}

fn document(
    metadata: &Metadata,
    checksums: &BTreeMap<(String, String), String>,
    package: &str,
) -> Result<Value> {
    let by_id: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let of_workspace = |candidate: &&Package| candidate.name == package && candidate.source.is_none();
    let root = metadata.packages.iter().find(of_workspace);
    let root = root.with_context(|| format!("the workspace has no crate {package}"))?;
    let needs: BTreeMap<&str, &[String]> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node.dependencies.as_slice())).collect();
    let (mut reached, mut open) = (BTreeSet::new(), vec![root.id.as_str()]);
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(needs.get(id).into_iter().copied().flatten().map(String::as_str));
        }
    }
    let reached: Vec<&Package> = reached.iter().filter_map(|id| by_id.get(id).copied()).collect();
    let component = |package: &Package, kind: &str| {
        let Package { name, version, license, .. } = package;
        let mut component = json!({
            "type": kind, "bom-ref": url(package), "name": name, "version": version, "purl": url(package),
        });
        if let Some(license) = license {
            // SPDX writes OR where older manifests have a slash.
            component["licenses"] =
                json!([{"expression": license.replace(" / ", " OR ").replace('/', " OR ")}]);
        }
        if let Some(checksum) = checksums.get(&(name.clone(), version.clone())) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        component
    };
    let components = reached.iter().filter(|package| package.id != root.id);
    let edges = reached.iter().map(|package| {
        let ids = needs.get(package.id.as_str()).into_iter().copied().flatten();
        let on: Vec<String> =
            ids.filter_map(|id| by_id.get(id.as_str())).map(|package| url(package)).collect();
        json!({"ref": url(package), "dependsOn": on})
    });
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root, "application")},
        "components": components.map(|package| component(package, "library")).collect::<Vec<_>>(),
        "dependencies": edges.collect::<Vec<_>>(),
    }))
}

fn url(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_and_all_it_needs_are_listed_once() {
        let lock = fs::read_to_string(workspace_root().join("Cargo.lock")).unwrap();
        let document = document(&metadata().unwrap(), &checksums(&lock).unwrap(), "glm").unwrap();
        assert_eq!(document["metadata"]["component"]["name"], "glm");
        let components = document["components"].as_array().unwrap();
        let refs: BTreeSet<&str> = components.iter().map(|one| one["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(refs.len(), components.len());
        let named = |name: &str| components.iter().find(|one| one["name"] == name);
        assert!(named("xtask").is_none(), "what only builds the workspace is no part of the command");
        let part = named("safetensors").unwrap();
        assert_eq!(part["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert!(part["licenses"][0]["expression"].as_str().unwrap().contains("Apache-2.0"));
        for edge in document["dependencies"].as_array().unwrap() {
            for on in edge["dependsOn"].as_array().unwrap() {
                assert!(refs.contains(on.as_str().unwrap()), "{on} is needed and not listed");
            }
        }
    }

    #[test]
    fn a_crate_that_is_not_there_is_told() {
        let metadata = metadata().unwrap();
        assert!(document(&metadata, &BTreeMap::new(), "nonsense").is_err());
    }
}
