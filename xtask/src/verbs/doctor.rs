//! `cargo xtask doctor`: what this machine has, and what to do about each gap.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use device_mem::doctor::{Check, DoctorEnv, Status, examine};
use hsaco::build::{Manifest, read_manifest, sha256_hex};
use serde::Serialize;

use crate::compiler::{self, INSTALL, Place};
use crate::kernels::{self, Kernels};
use crate::process::{print, workspace_root};

#[derive(Args)]
pub(crate) struct Options {
    /// Print one JSON list of findings instead of lines
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    state: State,
    /// What was found.
    what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    /// Not there, and not needed.
    Absent,
    /// Worth knowing; nothing is broken.
    Note,
    /// Something that building needs is broken.
    Bad,
}

/// Prints every finding.
///
/// # Errors
/// When something that building needs is broken.
pub(crate) fn execute(options: &Options) -> Result<()> {
    let root = workspace_root();
    let kernels = kernels::read(&root)?;
    let mut findings = compilers(&kernels);
    findings.extend(images(&root, &kernels));
    findings.extend(examine(&DoctorEnv::of_this_process()).into_iter().map(runtime));
    let text = if options.json {
        serde_json::to_string_pretty(&findings)? + "\n"
    } else {
        findings.iter().map(line).collect()
    };
    print(&text)?;
    let broken = findings.iter().filter(|finding| finding.state == State::Bad).count();
    if broken > 0 {
        bail!("building is broken: see the {broken} lines marked BAD");
    }
    Ok(())
}

fn line(finding: &Finding) -> String {
    let mark = match finding.state {
        State::Good => "ok  ",
        State::Absent => "-   ",
        State::Note => "note",
        State::Bad => "BAD ",
    };
    let advice = finding.advice.iter().map(|advice| format!("      -> {advice}\n"));
    format!("{mark}  {}\n{}", finding.what, advice.collect::<String>())
}

/// What the run time will meet; a machine without a card still builds everything.
fn runtime(check: Check) -> Finding {
    let state = match check.status {
        Status::Ok => State::Good,
        Status::Warn => State::Note,
        Status::Fail => State::Absent,
    };
    Finding {
        state,
        what: format!("{}: {}", check.name, check.found.replace('\n', "\n      ")),
        advice: check.advice,
    }
}

fn good(what: String) -> Finding {
    Finding { state: State::Good, what, advice: None }
}

fn absent(what: String) -> Finding {
    Finding { state: State::Absent, what, advice: None }
}

fn note(what: String, advice: String) -> Finding {
    Finding { state: State::Note, what, advice: Some(advice) }
}

fn bad(what: String, advice: String) -> Finding {
    Finding { state: State::Bad, what, advice: Some(advice) }
}

/// The compiler that a build would take, each place looked at, and the architectures that it builds. Images are
/// committed, so that only kernel developers miss a compiler.
fn compilers(kernels: &Kernels) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Place { name, found } in compiler::search() {
        match found {
            Ok(compiler) => {
                findings.push(good(format!("{name}: {} ({})", compiler.path.display(), compiler.version)))
            }
            Err(reason) => findings.push(absent(format!("{name}: {reason}"))),
        }
    }
    let compiler = match compiler::find() {
        Ok(compiler) => compiler,
        Err(_) => {
            let what = "no kernel compiler: the committed images are used as they are".to_owned();
            findings.push(note(what, format!("to change kernels: cargo xtask setup, or {INSTALL}")));
            return findings;
        }
    };
    let (mut builds, mut refuses) = (Vec::new(), Vec::new());
    for arch in &kernels.archs {
        let built = compiler::find_for(arch).map_err(|error| error.to_string());
        match built.and_then(|compiler| compiler.builds(arch, &kernels.flags)) {
            Ok(()) => builds.push(arch.as_str()),
            Err(reason) => refuses.push((arch.as_str(), reason)),
        }
    }
    findings.push(good(format!("{} builds {}", compiler.version, builds.join(" "))));
    if let Some((_, reason)) = refuses.first() {
        let archs: Vec<_> = refuses.iter().map(|(arch, _)| *arch).collect();
        let what = format!("{} refuses {}: {reason}", compiler.version, archs.join(" "));
        findings.push(note(what, format!("for all of them: {INSTALL}")));
    }
    findings
}

/// Committed images against their manifests and the sources.
fn images(root: &Path, kernels: &Kernels) -> Vec<Finding> {
    let rebuild = || "cargo xtask build-kernels".to_owned();
    let mut findings = Vec::new();
    for family in &kernels.families {
        let folder = family.images(root);
        let manifest = match read_manifest(&folder) {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(bad(error.to_string(), rebuild()));
                continue;
            }
        };
        let broken = broken_images(&folder, &manifest, family.decl.family);
        let rows: Vec<_> = manifest.images.iter().filter(|row| row.family == family.decl.family).collect();
        let missing: Vec<_> = kernels
            .archs
            .iter()
            .filter(|arch| rows.iter().all(|row| row.arch != **arch))
            .map(String::as_str)
            .collect();
        let stale = rows.iter().any(|row| row.source_sha256 != family.source_sha256);
        let name = family.decl.family;
        if !broken.is_empty() {
            findings
                .push(bad(format!("{name}: {}", broken.join(", ")), "restore the files with git".to_owned()));
        }
        if !missing.is_empty() {
            findings.push(note(format!("{name}: no image for {}", missing.join(" ")), rebuild()));
        }
        if stale {
            findings.push(note(format!("{name}: images are older than {}", family.source), rebuild()));
        }
        if broken.is_empty() && missing.is_empty() && !stale {
            findings.push(good(format!("{name}: {} images match their manifest and source", rows.len())));
        }
    }
    findings
}

fn broken_images(folder: &Path, manifest: &Manifest, family: &str) -> Vec<String> {
    let rows = manifest.images.iter().filter(|row| row.family == family);
    rows.filter_map(|row| {
        let path = folder.join(&row.arch).join(&row.image);
        match std::fs::read(&path) {
            Err(error) => Some(format!("{}: {error}", path.display())),
            Ok(bytes) if sha256_hex(&bytes) != row.sha256 => {
                Some(format!("{}: not the manifest's", path.display()))
            }
            Ok(_) => None,
        }
    })
    .collect()
}
