//! The lists of faults: `tests/seeded/AREA.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use device_mem::{Isa, Level};
use serde::Deserialize;

use super::suite::Suite;

/// Where the lists are.
const FOLDER: &str = "tests/seeded";

/// One fault, and the text of its file without and with it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) area: String,
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) original: String,
    pub(crate) changed: String,
    /// Asked in this order, until one notices.
    pub(crate) suites: Vec<Suite>,
    /// Whether a suite that does not end has noticed it.
    pub(crate) hangs: bool,
    /// Whether this CPU runs what the fault is in.
    pub(crate) is_run_here: bool,
}

/// Instructions that only some CPUs have.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Cpu {
    Avx512,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    file: Vec<FileFaults>,
}

/// The faults of one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFaults {
    path: String,
    /// Suites of the faults that name none.
    suites: Vec<Suite>,
    /// What a CPU must have to run the file's code.
    cpu: Option<Cpu>,
    fault: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// Stands in the file exactly once.
    replace: String,
    with: String,
    suites: Option<Vec<Suite>>,
    #[serde(default)]
    hangs: bool,
}

/// The faults of some areas, or of all where none is named, by area and file.
///
/// # Errors
/// When a list cannot be read, two faults share a name, or a text is not in its file exactly once.
pub(crate) fn read(root: &Path, areas: &[String]) -> Result<Vec<Fault>> {
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(root.join(FOLDER)).with_context(|| format!("reading {FOLDER}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            known.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    if let Some(unknown) = areas.iter().find(|area| !known.contains(*area)) {
        bail!("{FOLDER} has no list `{unknown}`, but {}", Vec::from_iter(known).join(", "));
    }
    let (mut faults, mut names) = (Vec::new(), BTreeSet::new());
    for area in known.iter().filter(|area| areas.is_empty() || areas.contains(area)) {
        let path = format!("{FOLDER}/{area}.toml");
        let text = fs::read_to_string(root.join(&path)).with_context(|| format!("reading {path}"))?;
        let list: List = toml::from_str(&text).with_context(|| path.clone())?;
        for file in list.file {
            faults.extend(of_file(root, area, file).with_context(|| path.clone())?);
        }
    }
    for fault in &faults {
        ensure!(names.insert(&fault.name), "two faults are named `{}`", fault.name);
    }
    Ok(faults)
}

fn of_file(root: &Path, area: &str, file: FileFaults) -> Result<Vec<Fault>> {
    let FileFaults { path, suites, cpu, fault } = file;
    let is_run_here = match cpu {
        Some(Cpu::Avx512) => Isa::best().level() >= Level::Avx512,
        None => true,
    };
    let text = fs::read_to_string(root.join(&path)).with_context(|| format!("reading {path}"))?;
    let faults = fault.into_iter().map(|entry| {
        Ok(Fault {
            area: area.to_owned(),
            changed: changed(&text, &entry).with_context(|| format!("fault `{}` in {path}", entry.name))?,
            original: text.clone(),
            file: path.clone(),
            suites: entry.suites.unwrap_or_else(|| suites.clone()),
            name: entry.name,
            hangs: entry.hangs,
            is_run_here,
        })
    });
    faults.collect()
}

/// The text with the fault in it.
fn changed(text: &str, Entry { replace, with, .. }: &Entry) -> Result<String> {
    ensure!(replace != with, "it changes nothing");
    let found = text.matches(replace.as_str()).count();
    ensure!(
        found == 1,
        "its text stands {found} times where once is expected; bring the list up to date:\n{replace}"
    );
    Ok(text.replacen(replace, with, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::workspace_root;

    fn entry(replace: &str, with: &str) -> Entry {
        Entry {
            name: String::new(),
            replace: replace.to_owned(),
            with: with.to_owned(),
            suites: None,
            hangs: false,
        }
    }

    #[test]
    fn a_text_is_replaced_where_it_stands_exactly_once() {
        assert_eq!(changed("a b c", &entry("b", "d")).unwrap(), "a d c");
        assert!(changed("a b b", &entry("b", "d")).is_err());
        assert!(changed("a c", &entry("b", "d")).is_err());
        assert!(changed("a b", &entry("b", "b")).is_err());
    }

    #[test]
    fn the_committed_list_fits_the_sources_and_does_not_shrink() {
        let faults = read(&workspace_root(), &[]).unwrap();
        let count = |wanted: &dyn Fn(&Fault) -> bool| faults.iter().filter(|fault| wanted(fault)).count();
        let (rope, others) = (count(&|fault| fault.area == "rope"), count(&|fault| fault.area != "rope"));
        assert!(rope >= 120 && others >= 80, "{rope} of rotary embedding, {others} of the rest");
        // Every kind of source has some: reference bodies, kernels, launches.
        for place in ["src/cpu", "kernels/", "hip.rs"] {
            let found = count(&|fault| fault.file.contains(place));
            assert!(found >= 8, "{found} faults in {place}");
        }
        assert!(faults.iter().all(|fault| !fault.suites.is_empty()));
    }

    #[test]
    fn the_page_tells_the_lists_counts() {
        let faults = read(&workspace_root(), &[]).unwrap();
        let page = fs::read_to_string(workspace_root().join("docs/correctness.md")).unwrap();
        for (area, title) in [
            ("rope", "rotary embedding"),
            ("attention", "attention, and the tiles that it multiplies in"),
            ("layers", "norms, products, gates, blocks"),
        ] {
            let mut counts = [0; 3];
            for fault in faults.iter().filter(|fault| fault.area == area) {
                let is_kernel = fault.file.starts_with("kernels/");
                counts[if fault.file.ends_with("hip.rs") { 2 } else { usize::from(is_kernel) }] += 1;
            }
            let [bodies, kernels, launches] = counts;
            let row = format!("| {title} | {bodies} | {kernels} | {launches} |");
            assert!(page.contains(&row), "docs/correctness.md lacks {row}");
        }
    }

    #[test]
    fn areas_that_are_not_there_are_refused() {
        let error = read(&workspace_root(), &["norms".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("norms"), "{error}");
    }
}
