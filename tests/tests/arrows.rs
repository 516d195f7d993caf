//! The layering of ARCHITECTURE.md, compared with what cargo says.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Left may depend on right, and on whatever right reaches.
const ARROWS: &[(&str, &[&str])] = &[
    ("hip-ffi", &[]),
    ("hsaco", &[]),
    ("device-mem", &["hip-ffi", "hsaco"]),
    ("kernels-rope", &["device-mem", "hsaco"]),
    ("kernels-nn", &["device-mem", "hsaco"]),
    ("attention", &["kernels-rope", "device-mem", "hsaco"]),
    ("model-glm", &["attention", "kernels-rope", "kernels-nn", "device-mem"]),
    ("hip-emu", &["hip-ffi", "hsaco"]),
    ("hip-emu-cdylib", &["hip-emu"]),
    ("glm", &["model-glm", "hip-emu"]),
    ("parity", &["device-mem", "hip-emu"]),
    ("workspace-tests", &["model-glm", "parity"]),
    ("device-bench", &["model-glm", "attention", "kernels-rope", "kernels-nn", "device-mem", "hip-ffi"]),
    ("hot-loops", &["attention", "kernels-rope", "kernels-nn", "device-mem"]),
    ("xtask", &["hsaco", "device-mem", "kernels-rope", "kernels-nn", "attention"]),
];

/// Crates that only tests may use.
const TEST_ONLY: &[&str] = &["parity", "workspace-tests", "device-bench", "hot-loops", "xtask"];

/// Crates that the tests of any crate may use.
const TESTS_MAY_USE: &[&str] = &["parity", "hip-emu-cdylib"];

#[test]
fn dependencies_follow_the_arrows() {
    let packages = workspace_packages();
    let named: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    assert_eq!(found, named, "a crate was added or removed: change the arrows, ARCHITECTURE.md and an ADR");

    for (name, dependencies) in &packages {
        let allowed = reachable(name);
        for dependency in dependencies {
            let of_ours = found.contains(dependency.name.as_str());
            if !of_ours {
                continue;
            }
            if dependency.dev {
                assert!(
                    allowed.contains(dependency.name.as_str())
                        || TESTS_MAY_USE.contains(&dependency.name.as_str()),
                    "{name} may not use {} in its tests",
                    dependency.name
                );
            } else {
                assert!(allowed.contains(dependency.name.as_str()), "no arrow {name} -> {}", dependency.name);
                let tests_only = TEST_ONLY.contains(&dependency.name.as_str());
                assert!(
                    !tests_only || TEST_ONLY.contains(&name.as_str()),
                    "{name} ships {}",
                    dependency.name
                );
            }
        }
    }
}

#[test]
fn architecture_draws_every_arrow() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).unwrap();
    for (name, targets) in ARROWS {
        let line = text
            .lines()
            .find(|line| line.split("->").next().is_some_and(|left| left.trim() == *name))
            .unwrap_or_else(|| panic!("ARCHITECTURE.md has no line `{name} -> ...`"));
        let right = line.split("->").nth(1).unwrap_or_default();
        let drawn: BTreeSet<&str> = right
            .split("  ")
            .find(|part| !part.trim().is_empty())
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|target| !target.is_empty() && *target != "-")
            .collect();
        assert_eq!(drawn, targets.iter().copied().collect(), "ARCHITECTURE.md: {line}");
    }
}

struct Dependency {
    name: String,
    dev: bool,
}

fn workspace_packages() -> BTreeMap<String, Vec<Dependency>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (text(&package["name"]), dependencies(package))).collect()
}

fn dependencies(package: &Value) -> Vec<Dependency> {
    let all = package["dependencies"].as_array().unwrap();
    all.iter().map(|one| Dependency { name: text(&one["name"]), dev: one["kind"] == "dev" }).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn reachable(name: &str) -> BTreeSet<&'static str> {
    let direct = ARROWS.iter().find(|(from, _)| *from == name).map_or(&[][..], |(_, to)| to);
    let mut reached: BTreeSet<&'static str> = direct.iter().copied().collect();
    for next in direct {
        reached.extend(reachable(next));
    }
    reached
}
