//! The rules of `tidy`, each a function from text to findings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use hsaco::build::read_manifest;

use crate::compiler::is_ptx;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// Counted from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    pub(crate) what: String,
}

const MAX_FILE_LINES: usize = 500;
const MAX_ARCHITECTURE_LINES: usize = 200;

/// Crates whose code may print to stdout: programs, not libraries.
const PROGRAMS: &[&str] = &["crates/glm/", "tests/device-bench/", "xtask/"];

/// Where `unsafe` may stand.
const UNSAFE_CRATES: &[&str] = &["crates/hip-ffi/", "crates/device-mem/", "crates/hip-emu/"];
const UNSAFE_FILES: &[&str] = &["hip.rs", "host_hip.rs", "simd.rs"];
const UNSAFE_FOLDERS: &[&str] = &["/simd/", "/host_hip/"];

/// Everything that one text file can break.
pub(crate) fn text_file(path: &str, text: &str) -> Vec<Finding> {
    // This file holds a sample of everything that it refuses.
    if path == "xtask/src/checks.rs" {
        return longer_than(path, text, MAX_FILE_LINES).collect();
    }
    let mut findings = machine_paths(path, text);
    if path == "ARCHITECTURE.md" {
        findings.extend(longer_than(path, text, MAX_ARCHITECTURE_LINES));
    }
    let source = [".rs", ".hip", ".h", ".cpp"].iter().any(|end| path.ends_with(end));
    if source {
        findings.extend(longer_than(path, text, MAX_FILE_LINES).filter(|_| !generated(text)));
        findings.extend(unfinished(path, text));
        findings.extend(dated_comments(path, text));
    }
    if path.ends_with(".rs") {
        findings.extend(misplaced_unsafe(path, text));
        findings.extend(prints(path, text));
        findings.extend(front_page(path, text));
    }
    findings
}

/// Decision records are numbered once each.
pub(crate) fn adr_numbers(files: &[String]) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let records = files.iter().filter_map(|path| Some((path, path.strip_prefix(".planning/adr/")?)));
    records
        .filter(|(_, name)| {
            let number = name.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            number.is_none_or(|number| !seen.insert(number.to_owned()))
        })
        .map(|(path, _)| finding(path, 0, "a decision record needs four digits of its own"))
        .collect()
}

/// The architectures that `kernels.toml` names a card for. `crates/glm/tests/images.rs` executes all that it names.
fn executed(config: &str) -> Result<BTreeSet<String>> {
    let config: toml::Table = config.parse().context("kernels/kernels.toml")?;
    let cards = config.get("executed").and_then(toml::Value::as_table);
    let named = |cards: &toml::Value| cards.as_array().is_some_and(|cards| !cards.is_empty());
    Ok(cards.into_iter().flatten().filter(|(_, cards)| named(cards)).map(|(arch, _)| arch.clone()).collect())
}

/// Every committed image stands in its crate's manifest, every manifest row has its image, and `kernels.toml` knows
/// its family and the emulated cards that execute it.
pub(crate) fn images(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let config =
        fs::read_to_string(root.join("kernels/kernels.toml")).context("reading kernels/kernels.toml")?;
    let executed = executed(&config)?;
    let mut listed = BTreeSet::new();
    let mut findings = Vec::new();
    for manifest in files.iter().filter(|path| path.ends_with("/hsaco/manifest.json")) {
        let folder = manifest.trim_end_matches("/manifest.json");
        for row in read_manifest(&root.join(folder))?.images {
            if !config.contains(&format!("[families.{}]", row.family)) {
                let what =
                    format!("`{}` is not in kernels.toml; run `cargo xtask build-kernels`", row.family);
                findings.push(finding(manifest, 0, &what));
            }
            if !executed.contains(&row.arch) && !is_ptx(&row.arch) {
                let what = format!(
                    "no test executes {}/{}: name a card for {} under [executed] in kernels.toml",
                    row.arch, row.image, row.arch
                );
                findings.push(finding(manifest, 0, &what));
            }
            listed.insert(format!("{folder}/{}/{}", row.arch, row.image));
        }
    }
    let images: BTreeSet<_> = files.iter().filter(|path| is_embedded(path)).cloned().collect();
    let stray = images.difference(&listed);
    findings.extend(stray.map(|image| finding(image, 0, "no manifest row; run `cargo xtask build-kernels`")));
    let lost = listed.difference(&images);
    findings.extend(lost.map(|image| finding(image, 0, "the manifest names it, but it is not there")));
    Ok(findings)
}

fn longer_than(path: &str, text: &str, limit: usize) -> impl Iterator<Item = Finding> {
    let lines = text.lines().count();
    let what = format!("{lines} lines where {limit} are the limit; split it by duty");
    (lines > limit).then(|| finding(path, 0, &what)).into_iter()
}

/// Whether the path is that of an image in a crate's `hsaco` folder; others are data of tests.
fn is_embedded(path: &str) -> bool {
    let mut parts = path.split('/');
    let place = (parts.next(), parts.next().is_some(), parts.next());
    [".hsaco", ".ptx"].iter().any(|end| path.ends_with(end)) && place == (Some("crates"), true, Some("hsaco"))
}

fn generated(text: &str) -> bool {
    text.lines().take(3).any(|line| line.to_lowercase().contains("generated"))
}

fn unfinished(path: &str, text: &str) -> Vec<Finding> {
    let words = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "TODO", "FIXME"];
    let what = "unfinished work does not land";
    lines_with(path, text, &words, what)
}

fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    lines_with(path, text, &["/work/", "/root/", "/home/"], "a path of one machine")
}

/// Comments say why, not when: no dates, phases, issues or line numbers.
fn dated_comments(path: &str, text: &str) -> Vec<Finding> {
    let comments = text.lines().enumerate().filter_map(|(at, line)| Some((at, line.split_once("//")?.1)));
    comments
        .filter(|(_, comment)| {
            let lower = comment.to_lowercase();
            ["phase ", "issue #", "issue ", "line "].iter().any(|word| number_after(&lower, word))
                || has_date(comment)
        })
        .map(|(at, _)| finding(path, at + 1, "a comment with a date, phase, issue or line number will rot"))
        .collect()
}

fn number_after(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let starts_a_word = text[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric());
        starts_a_word && text[at + word.len()..].starts_with(|next: char| next.is_ascii_digit())
    })
}

fn has_date(text: &str) -> bool {
    let shape = |window: &[u8]| {
        window.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        }) && window.starts_with(b"20")
    };
    text.as_bytes().windows(10).any(shape)
}

fn misplaced_unsafe(path: &str, text: &str) -> Vec<Finding> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let allowed = UNSAFE_CRATES.iter().any(|folder| path.starts_with(folder))
        || UNSAFE_FILES.contains(&name)
        || UNSAFE_FOLDERS.iter().any(|folder| path.contains(folder));
    // hsaco's macro writes the one `unsafe impl` that its own offsets prove.
    let declaration = path == "crates/hsaco/src/decl.rs";
    let samples = path == "xtask/src/unsafe_count.rs";
    if allowed || declaration || samples {
        return Vec::new();
    }
    let code = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    lines_with(
        path,
        text,
        &code,
        "unsafe stands only in hip-ffi, device-mem, hip-emu, hip.rs and SIMD bodies",
    )
}

fn prints(path: &str, text: &str) -> Vec<Finding> {
    // The body of build scripts, which talk to Cargo by printing.
    let script = path == "crates/hsaco/src/build.rs";
    let library =
        path.contains("/src/") && !script && !PROGRAMS.iter().any(|folder| path.starts_with(folder));
    if !library {
        return Vec::new();
    }
    let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.filter(|(_, line)| line.contains("println!(") || line.contains("eprint!("))
        .map(|(at, _)| finding(path, at + 1, "a library does not print; return data or use tracing"))
        .collect()
}

/// A crate's front page says what it does, what it does not, and shows an example.
fn front_page(path: &str, text: &str) -> Vec<Finding> {
    let published = path.starts_with("crates/") && path.ends_with("/src/lib.rs");
    if !published {
        return Vec::new();
    }
    let page: String = text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
    let lower = page.to_lowercase();
    let mut missing = Vec::new();
    if !(lower.contains("does not") || lower.contains("not do")) {
        missing.push(finding(path, 1, "the front page does not say what the crate does not do"));
    }
    let test_only = path.starts_with("crates/parity/");
    if !page.contains("//! ```") && !test_only {
        missing.push(finding(path, 1, "the front page shows no example"));
    }
    missing
}

fn lines_with(path: &str, text: &str, words: &[&str], what: &str) -> Vec<Finding> {
    let hit = |line: &str| words.iter().any(|word| line.contains(word));
    text.lines()
        .enumerate()
        .filter(|(_, line)| hit(line))
        .map(|(at, _)| finding(path, at + 1, what))
        .collect()
}

fn finding(path: &str, line: usize, what: &str) -> Finding {
    Finding { path: path.to_owned(), line, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];
    const PAGE: &str = "//! Adds. It does not subtract.\n//! ```\n//! ```\n";

    fn lines(path: &str, text: &str) -> Vec<usize> {
        text_file(path, text).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn clean_text_has_no_findings() {
        assert_eq!(text_file("crates/a/src/lib.rs", PAGE), []);
        assert_eq!(text_file("README.md", "# Title\n"), []);
    }

    #[test]
    fn unsafe_is_found_outside_its_places() {
        let code = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(lines("crates/model-glm/src/a.rs", code), [2]);
        assert_eq!(lines("crates/kernels-rope/src/hip.rs", code), NONE);
        assert_eq!(lines("crates/kernels-nn/src/cpu/simd/avx2.rs", code), NONE);
        assert_eq!(lines("crates/device-mem/src/buffer.rs", code), NONE);
    }

    #[test]
    fn unfinished_work_is_found() {
        for line in ["todo!()", "unimplemented!()", "dbg!(1)", "#[ignore]", "// TODO later"] {
            assert_eq!(lines("tests/tests/a.rs", &format!("\n{line}\n")), [2], "{line}");
        }
    }

    #[test]
    fn libraries_do_not_print_but_programs_do() {
        let code = "fn f() { println!(\"x\") }\n";
        assert_eq!(lines("crates/attention/src/cpu.rs", code), [1]);
        assert_eq!(lines("crates/glm/src/run.rs", code), NONE);
        assert_eq!(lines("crates/attention/examples/attend.rs", code), NONE);
    }

    #[test]
    fn comments_that_rot_are_found() {
        for comment in ["// since 2026-01-02", "// phase 3", "// see issue #12", "// line 40 of rope.rs"] {
            assert_eq!(lines("crates/a/src/b.rs", comment), [1], "{comment}");
        }
        assert_eq!(lines("crates/a/src/b.rs", "// online 4 bits, 32-bit lanes, inline 3"), NONE);
    }

    #[test]
    fn long_files_and_machine_paths_are_found() {
        assert_eq!(lines("crates/a/src/b.rs", &"\n".repeat(501)), [0]);
        assert_eq!(
            lines("crates/a/src/b.rs", &format!("// generated by bindgen\n{}", "\n".repeat(501))),
            NONE
        );
        assert_eq!(lines("ARCHITECTURE.md", &"\n".repeat(201)), [0]);
        assert_eq!(lines("README.md", "see /home/me/x"), [1]);
    }

    #[test]
    fn front_pages_are_required() {
        assert_eq!(lines("crates/a/src/lib.rs", "//! Adds.\n"), [1, 1]);
        assert_eq!(lines("crates/a/src/other.rs", ""), NONE);
    }

    #[test]
    fn decision_records_need_numbers_of_their_own() {
        let files =
            |names: &[&str]| names.iter().map(|name| format!(".planning/adr/{name}")).collect::<Vec<_>>();
        assert_eq!(adr_numbers(&files(&["0001-a.md", "0002-b.md"])), []);
        assert_eq!(adr_numbers(&files(&["0001-a.md", "0001-b.md"])).len(), 1);
        assert_eq!(adr_numbers(&files(&["a.md"])).len(), 1);
    }

    #[test]
    fn images_and_manifest_rows_without_their_counterparts_are_found() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("crates/a/hsaco");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir(root.path().join("kernels")).unwrap();
        let config = |executed: &str| {
            let text = format!("[executed]\n{executed}\n[families.rope]\n");
            fs::write(root.path().join("kernels/kernels.toml"), text).unwrap();
        };
        config("gfx1100 = ['gfx1100']");
        fs::write(folder.join("manifest.json"), manifest("rope")).unwrap();

        let listed =
            ["crates/a/hsaco/manifest.json", "crates/a/hsaco/gfx1100/rope_kernel.hsaco"].map(str::to_owned);
        let findings = |files: &[String]| images(root.path(), files).unwrap();
        assert_eq!(findings(&listed), []);
        assert_eq!(findings(&listed[..1]).len(), 1, "an image is lost");
        let stray = "crates/a/hsaco/gfx942/rope_kernel.hsaco".to_owned();
        assert_eq!(findings(&[listed.as_slice(), &[stray]].concat()).len(), 1);
        fs::write(folder.join("manifest.json"), manifest("norm")).unwrap();
        assert_eq!(findings(&listed).len(), 1, "kernels.toml does not know the family");
        fs::write(folder.join("manifest.json"), manifest("rope")).unwrap();
        for executed in ["gfx942 = ['gfx942']", "gfx1100 = []"] {
            config(executed);
            let found = findings(&listed);
            assert!(found.len() == 1 && found[0].what.contains("no test executes gfx1100/"), "{found:?}");
        }
    }

    fn manifest(family: &str) -> String {
        format!(
            r#"{{"images": [{{"family": "{family}", "arch": "gfx1100", "image": "rope_kernel.hsaco", "sha256": "",
                "source_sha256": "", "compiler": "", "flags": [], "kernels": []}}]}}"#
        )
    }
}
