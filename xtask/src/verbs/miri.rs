//! `cargo xtask miri`: tests of the pure parts under Miri, which finds undefined behaviour.

use std::process::Output;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;

use crate::nightly;

/// What must run at least: tests, and cases of property tests.
const LEAST: (u32, u32) = (200, 2_000);

/// What Miri runs: arguments of `cargo test`, the tests that are left out with the reason, and the tests that draw cases, of
/// which each draws so many.
struct Run {
    args: &'static [&'static str],
    /// Rules of borrowing beside the usual ones.
    rules: &'static str,
    without: &'static [(&'static str, &'static str)],
    properties: &'static [&'static str],
    cases: u32,
}

/// Tests write temporary files, and some leak what must live as long as a static. Device addresses are numbers. Miri would draw the
/// last bits of powers.
const FLAGS: &str = "-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-permissive-provenance \
                     -Zmiri-deterministic-floats";

/// What rayon's queue is written for.
const TREE_BORROWS: &str = "-Zmiri-tree-borrows";

const MAPPED: &str = "files are mapped by calls that Miri does not have";
const LONG: &str = "goes through all numbers of a type";
const MANY: &str = "reads thousands of objects, or long ones";
const MINUTES: &str = "takes minutes";
const PATTERNS: &str = "compiles the patterns of tokenizers, which takes minutes";
const OF_ITS_OWN: &str = "in a run of its own, of fewer cases";

const RUNS: &[Run] = &[
    Run {
        args: &["-p", "model-glm", "--test", "gguf"],
        rules: "",
        without: &[
            ("blocks::", MAPPED),
            ("convert::", MAPPED),
            ("divergence::", MAPPED),
            ("model::", MAPPED),
            ("written::", MAPPED),
            ("text::", PATTERNS),
            ("many_keys", MANY),
            ("models_with_a_few_changes", PATTERNS),
        ],
        properties: &["files_with_a_few_changes"],
        cases: 1100,
    },
    Run {
        args: &["-p", "model-glm", "--test", "hostile"],
        rules: "",
        without: &[
            ("open::", MAPPED),
            ("tokenizer::", PATTERNS),
            ("every_hostile_file", MANY),
            ("the_peak_of_memory", "measures this process"),
            ("mutated_tokenizers", PATTERNS),
        ],
        properties: &["mutated_safetensors", "mutated_configs"],
        cases: 300,
    },
    Run {
        args: &["-p", "model-glm", "--lib"],
        rules: TREE_BORROWS,
        without: &[
            ("finite::", MANY),
            ("gguf::convert", "searches the scales of many blocks"),
            ("step::", MAPPED),
            ("published_patterns", PATTERNS),
            ("mutated_templates", OF_ITS_OWN),
        ],
        properties: &["every_token_is_run_once"],
        cases: 64,
    },
    Run {
        args: &["-p", "model-glm", "--lib", "mutated_templates"],
        rules: "",
        without: &[],
        properties: &["mutated_templates"],
        cases: 8,
    },
    Run {
        args: &["-p", "model-glm", "--test", "config"],
        rules: "",
        without: &[],
        properties: &[],
        cases: 0,
    },
    Run {
        args: &["-p", "hip-emu", "--lib"],
        rules: "",
        without: &[
            ("exec::float", LONG),
            ("exec::tests::refusals", MANY),
            ("exec::tests::cdna", MINUTES),
            ("exec::tests::mfma", MINUTES),
            ("exec::tests::dots", MINUTES),
            ("dot_products", MINUTES),
            ("round_in_four_directions", MINUTES),
            ("damaged_tables", MANY),
        ],
        properties: &["memory_is_as_vectors_are"],
        cases: 64,
    },
    Run {
        args: &["-p", "hsaco", "--lib", "--test", "parse"],
        rules: "",
        without: &[("any_byte_may_be_wrong", MANY), ("every_truncation", MANY)],
        properties: &["scattered_damage_does_not_panic", "noise_is_refused"],
        cases: 8,
    },
    Run {
        args: &["-p", "hsaco", "--features", "build", "--test", "hostile"],
        rules: "",
        without: &[],
        properties: &["mutated_objects"],
        cases: 100,
    },
    Run {
        args: &["-p", "device-mem", "--lib"],
        rules: "",
        without: &[
            ("mapped", MAPPED),
            ("isa", "asks for vector instructions that Miri does not have"),
            ("element::", LONG),
            ("every_cpu", "runs vector instructions of every kind of CPU"),
            ("exp::", LONG),
            ("impossible_length", "asks for more memory than Miri lets a program ask for"),
        ],
        properties: &["views_are_what_slices_are"],
        cases: 64,
    },
    Run {
        args: &["-p", "device-mem", "--test", "hip"],
        rules: "",
        without: &[("each_call_may_fail", "lets every call fail with every code")],
        properties: &[],
        cases: 0,
    },
    Run {
        args: &["-p", "hip-ffi", "--lib"],
        rules: "",
        without: &[("no_library_names", "asks the system's loader for a library")],
        properties: &[],
        cases: 0,
    },
    Run {
        args: &["-p", "parity", "--lib"],
        rules: "",
        without: &[("devices::", "loads images of kernels")],
        properties: &[],
        cases: 0,
    },
    Run {
        args: &["-p", "kernels-nn", "--test", "blocks"],
        rules: "",
        without: &[],
        properties: &[],
        cases: 0,
    },
];

/// Runs all of them with the nightly toolchain, two at a time, and counts.
///
/// # Errors
/// When a test fails, Miri finds something, or there is no Miri; when less ran than should.
pub(crate) fn execute() -> Result<()> {
    nightly::cargo("miri", &["miri", "rust-src"])?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    let counts = threads.install(|| RUNS.par_iter().map(Run::execute).collect::<Result<Vec<_>>>())?;
    let without =
        RUNS.iter().flat_map(|run| run.without.iter().map(move |(test, why)| (run.args, test, why)));
    for (args, test, reason) in without {
        eprintln!("not run under Miri: {}: {test}: {reason}", args.join(" "));
    }
    let (tests, cases) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    eprintln!("miri: {tests} tests passed, in them {cases} property cases");
    ensure!(tests >= LEAST.0 && cases >= LEAST.1, "{} tests and {} cases are expected", LEAST.0, LEAST.1);
    Ok(())
}

impl Run {
    /// Tests that passed, and cases of property tests in them.
    fn execute(&self) -> Result<(u32, u32)> {
        let Run { args, rules, without, properties, cases } = self;
        let (what, start) = (args.join(" "), Instant::now());
        let mut command = nightly::cargo("miri", &[])?;
        command.args(["miri", "test"]).args(*args).arg("--");
        command.args(without.iter().flat_map(|(test, _)| ["--skip", *test]));
        command.env("MIRIFLAGS", format!("{FLAGS} {rules}"));
        command.env("PARITY_DEVICES", "cpu");
        command.env("PROPTEST_CASES", cases.to_string()).env("PARITY_TRIES", cases.to_string());
        let Output { status, stdout, stderr } = command.output().context("could not start rustup")?;
        let stdout = String::from_utf8_lossy(&stdout);
        if !status.success() {
            bail!("miri test {what} failed ({status})\n{stdout}\n{}", String::from_utf8_lossy(&stderr));
        }
        let passed = |line: &&str| line.starts_with("test ") && line.ends_with(" ... ok");
        let passed: Vec<&str> = stdout.lines().filter(passed).collect();
        if let Some(absent) = properties.iter().find(|test| !passed.iter().any(|line| line.contains(*test))) {
            bail!("miri test {what} ran no test {absent}");
        }
        let seconds = start.elapsed().as_secs();
        let (tests, cases) = (u32::try_from(passed.len())?, u32::try_from(properties.len())? * cases);
        eprintln!("{seconds:>5} s  {tests:>3} tests, {cases:>4} property cases  {what}");
        Ok((tests, cases))
    }
}
