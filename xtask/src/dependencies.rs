//! What the workspace depends on, as `cargo metadata` tells it from the committed lock.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::checks::Finding;
use crate::process::cargo;

/// One package of the lock.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Where it is from; nothing for a crate of the workspace.
    pub(crate) source: Option<String>,
}

/// The packages that one needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) dependencies: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) resolve: Graph,
}

#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licenses,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// Asks Cargo for packages and graph of the lock as it is committed.
///
/// # Errors
/// When Cargo fails: the lock may not fit the manifests.
pub(crate) fn metadata() -> Result<Metadata> {
    let output =
        cargo(&["metadata", "--locked", "--format-version", "1"]).output().context("running cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata gives another JSON than is known")
}

/// Finds packages whose licence or source `deny.toml` does not allow.
///
/// # Errors
/// When the lock or `deny.toml` cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let policy = std::fs::read_to_string(root.join("deny.toml")).context("reading deny.toml")?;
    let policy: Policy = toml::from_str(&policy).context("deny.toml")?;
    let findings = metadata()?.packages.iter().filter_map(|package| refusal(package, &policy)).collect();
    Ok(findings)
}

fn refusal(package: &Package, policy: &Policy) -> Option<Finding> {
    // The workspace's own crates say their licence in the manifest that they share.
    let source = package.source.as_deref()?;
    let Package { name, version, license, .. } = package;
    let from = source.strip_prefix("registry+");
    let what = if !from.is_some_and(|from| policy.sources.allow_registry.iter().any(|known| known == from)) {
        format!("{name} {version} is from {source}")
    } else if !license.as_deref().is_some_and(|license| is_allowed(license, &policy.licenses.allow)) {
        format!("{name} {version} has the licence {}", license.as_deref().unwrap_or("(none)"))
    } else {
        return None;
    };
    let what = format!("{what}, which deny.toml does not allow");
    Some(Finding { path: "Cargo.lock".to_owned(), line: 0, what })
}

/// Whether an SPDX expression can be met by allowed licences: AND binds closer than OR, and a slash is an OR.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = all_of(rest, allowed);
    while let ["OR", behind @ ..] = rest {
        *rest = behind;
        met |= all_of(rest, allowed);
    }
    met
}

fn all_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = one(rest, allowed);
    while let ["AND", behind @ ..] = rest {
        *rest = behind;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &[String]) -> bool {
    match *rest {
        ["(", behind @ ..] => {
            *rest = behind;
            let met = any_of(rest, allowed);
            match *rest {
                [")", behind @ ..] => *rest = behind,
                _ => return false,
            }
            met
        }
        // An exception is a licence of its own.
        [name, "WITH", exception, behind @ ..] => {
            *rest = behind;
            allowed.contains(&format!("{name} WITH {exception}"))
        }
        [name, behind @ ..] => {
            *rest = behind;
            allowed.iter().any(|known| known == name)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::workspace_root;

    #[test]
    fn expressions_are_met_by_what_is_allowed() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        for expression in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(is_allowed(expression, &allowed), "{expression}");
        }
        for expression in
            ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 OR", "(MIT", "MIT)", "Apache-2.0 WITH LLVM-exception"]
        {
            assert!(!is_allowed(expression, &allowed), "{expression}");
        }
    }

    #[test]
    fn licence_and_source_are_both_looked_at() {
        let policy: Policy = toml::from_str(
            "[licenses]\nallow = ['MIT']\n[sources]\nallow-registry = ['https://example.org/index']",
        )
        .unwrap();
        let package = |source: Option<&str>, license: Option<&str>| Package {
            id: String::new(),
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
        };
        let index = Some("registry+https://example.org/index");
        assert!(refusal(&package(index, Some("MIT")), &policy).is_none());
        assert!(refusal(&package(None, None), &policy).is_none(), "a crate of the workspace");
        for (source, license) in
            [(index, Some("GPL-3.0")), (index, None), (Some("git+https://example.org/a"), Some("MIT"))]
        {
            assert!(refusal(&package(source, license), &policy).is_some(), "{source:?} {license:?}");
        }
    }

    #[test]
    fn the_committed_lock_is_allowed() {
        assert_eq!(check(&workspace_root()).unwrap(), []);
    }
}
