//! The sweep of faults knows every call of HIP that the sources make.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

#[path = "../examples/faults/sites.rs"]
mod sites;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sites::{SITES, c_functions};

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

/// Crates that fill HIP's table rather than call it.
const FILL_THE_TABLE: [&str; 4] = ["hip-ffi", "hip-emu", "hip-emu-cdylib", "parity"];

/// Rust files under a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The lines of code of every crate that calls HIP, by file.
fn code() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(crates()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if !FILL_THE_TABLE.contains(&name.as_str()) {
            sources(&folder.join("src"), &mut files);
        }
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let name = path.strip_prefix(crates()).unwrap().to_str().unwrap().to_owned();
        (name, lines.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().map(read).collect()
}

/// The names that follow `before` in a text, with how often.
fn names_after(text: &str, before: &str) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for (_, rest) in text.match_indices(before).map(|(at, found)| (at, &text[at + found.len()..])) {
        let name: String =
            rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
        if name.starts_with(|letter: char| letter.is_ascii_lowercase()) {
            *names.entry(name).or_default() += 1;
        }
    }
    names
}

#[test]
fn every_call_in_the_sources_is_on_the_list() {
    let mut found = BTreeMap::new();
    for (file, text) in code() {
        let own = text.replace("std::result::", "").replace("core::result::", "");
        for (function, times) in names_after(&own, "result::") {
            found.insert((file.clone(), function), times);
        }
    }
    let listed: BTreeMap<_, _> =
        SITES.iter().map(|site| ((site.file.to_owned(), site.function.to_owned()), site.times)).collect();
    assert!(found.len() > 20, "{found:?}");
    assert_eq!(found, listed, "a call was added or removed: bring tests/examples/faults/sites.rs up to date");
}

#[test]
fn what_no_run_meets_says_why() {
    for site in SITES {
        assert!(site.met.is_ok() || site.met.is_err_and(|why| why.len() > 20), "{}", site.function);
    }
}

#[test]
fn nothing_calls_the_table_past_the_result_layer() {
    for (file, text) in code() {
        for call in ["(api.hip_", "(hip.hip_", ".api.hip_", "(graph.hip_"] {
            assert!(!text.contains(call), "{file} calls the table itself: {call}");
        }
    }
}

#[test]
fn the_lists_functions_of_c_are_those_of_the_result_layer() {
    let text = fs::read_to_string(crates().join("hip-ffi/src/result.rs")).unwrap();
    let mut called = BTreeMap::new();
    for item in text.split("\npub ").skip(1) {
        let Some((_, body)) = item.split_once("fn ") else { continue };
        let name: String = body.chars().take_while(|letter| *letter != '(').collect();
        let of_body: Vec<&str> = body
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|word| {
                word.starts_with("hip") && word.chars().all(|letter| letter.is_ascii_alphanumeric())
            })
            .map(|word| word.strip_suffix("R0600").unwrap_or(word))
            .collect();
        called.insert(name, of_body);
    }
    assert!(called.len() > 25, "{called:?}");
    for site in SITES {
        let mut expected = called.get(site.function).unwrap_or_else(|| panic!("{}", site.function)).clone();
        expected.dedup();
        assert_eq!(expected, c_functions(site.function), "{}", site.function);
    }
}
