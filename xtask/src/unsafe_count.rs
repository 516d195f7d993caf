//! How many `unsafe` blocks there are, by crate: at most as many as `.planning/unsafe.toml` says, and that number only falls.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::checks::Finding;

const LIST: &str = ".planning/unsafe.toml";
/// Hold samples of what they refuse.
const SAMPLES: [&str; 2] = ["xtask/src/checks.rs", "xtask/src/unsafe_count.rs"];

/// Blocks of each crate's sources and of its tests, where there are any.
pub(crate) type Counts = BTreeMap<String, usize>;

/// Counts the blocks of the tracked Rust files, and finds where the list says another number.
///
/// # Errors
/// When the list cannot be read.
pub(crate) fn check(root: &Path, files: &[String]) -> Result<(Counts, Vec<Finding>)> {
    let mut counts = Counts::new();
    let is_counted = |path: &&String| path.ends_with(".rs") && !SAMPLES.contains(&path.as_str());
    for path in files.iter().filter(is_counted) {
        let Ok(text) = fs::read_to_string(root.join(path)) else { continue };
        let blocks = text.lines().map(blocks).sum::<usize>();
        if blocks > 0 {
            *counts.entry(place(path)).or_default() += blocks;
        }
    }
    let list = fs::read_to_string(root.join(LIST)).with_context(|| format!("reading {LIST}"))?;
    let listed: Counts = toml::from_str(&list).with_context(|| format!("{LIST} holds numbers by folder"))?;
    let findings = compare(&counts, &listed);
    Ok((counts, findings))
}

fn compare(counts: &Counts, listed: &Counts) -> Vec<Finding> {
    let places = counts.keys().chain(listed.keys().filter(|place| !counts.contains_key(*place)));
    let finding = |place: &String| {
        let [found, allowed] = [counts, listed].map(|counts| counts.get(place).copied().unwrap_or(0));
        let what = match found.cmp(&allowed) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Less => format!("has {found} unsafe blocks now: lower its {allowed}"),
            std::cmp::Ordering::Greater => {
                format!(
                    "has {found} unsafe blocks where {allowed} are allowed: do it without, or have the number raised in review"
                )
            }
        };
        Some(Finding { path: LIST.to_owned(), line: 0, what: format!("{place} {what}") })
    };
    places.filter_map(finding).collect()
}

/// `crates/NAME/src`, or `crates/NAME/tests` for all that is not shipped.
fn place(path: &str) -> String {
    let depth = if path.starts_with("crates/") { 2 } else { 1 };
    let folder: Vec<&str> = path.split('/').take(depth).collect();
    let part = if path.contains("/src/") { "src" } else { "tests" };
    format!("{}/{part}", folder.join("/"))
}

/// `unsafe {` and `unsafe impl` in a line, its comment left out.
fn blocks(line: &str) -> usize {
    let code = line.split("//").next().unwrap_or_default();
    let opens = |rest: &str| {
        let rest = rest.trim_start();
        rest.starts_with('{') || rest.starts_with("impl ") || rest.starts_with("impl<")
    };
    code.match_indices("unsafe").filter(|(at, word)| opens(&code[at + word.len()..])).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_implementations_are_counted_and_functions_are_not() {
        let lines = [
            ("let x = unsafe { f() };", 1),
            ("unsafe impl Send for X {}", 1),
            ("unsafe impl<T> Send for X<T> {}", 1),
            ("pub unsafe fn f() {}", 0),
            ("unsafe extern \"C\" fn f() {}", 0),
            ("// unsafe { f() }", 0),
            ("(unsafe { f() }, unsafe{g()})", 2),
            ("#![deny(unsafe_code)]", 0),
        ];
        for (line, expected) in lines {
            assert_eq!(blocks(line), expected, "{line}");
        }
        assert_eq!(place("crates/a/src/b/c.rs"), "crates/a/src");
        assert_eq!(place("crates/a/benches/c.rs"), "crates/a/tests");
        assert_eq!(place("tests/tests/c.rs"), "tests/tests");
    }

    #[test]
    fn another_number_than_the_lists_is_found_either_way() {
        let counts =
            |of: &[(&str, usize)]| of.iter().map(|(place, count)| ((*place).to_owned(), *count)).collect();
        let listed: Counts = counts(&[("a/src", 2), ("b/src", 1)]);
        assert_eq!(compare(&listed, &listed), []);
        for (found, words) in [
            (counts(&[("a/src", 3), ("b/src", 1)]), "a/src has 3 unsafe blocks where 2 are allowed"),
            (counts(&[("a/src", 1), ("b/src", 1)]), "a/src has 1 unsafe blocks now: lower its 2"),
            (counts(&[("a/src", 2)]), "b/src has 0 unsafe blocks now"),
            (counts(&[("a/src", 2), ("b/src", 1), ("c/src", 1)]), "c/src has 1 unsafe blocks where 0"),
        ] {
            let findings: Vec<Finding> = compare(&found, &listed);
            assert!(findings.len() == 1 && findings[0].what.starts_with(words), "{findings:?}");
        }
    }
}
