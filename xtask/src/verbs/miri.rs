//! `cargo xtask miri`: tests of the pure parts under Miri, which finds undefined behaviour.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{run, workspace_root};

/// What Miri runs: arguments of `cargo test`, and the tests that are left out with the reason.
struct Run {
    args: &'static [&'static str],
    without: &'static [(&'static str, &'static str)],
}

const RUNS: &[Run] = &[
    Run { args: &["-p", "hsaco", "--lib"], without: &[] },
    Run {
        args: &["-p", "device-mem", "--lib"],
        without: &[
            ("mapped", "files are mapped by calls that Miri does not have"),
            ("isa", "asks for vector instructions that Miri does not have"),
            ("element::", "goes through all numbers of a type"),
            ("every_cpu", "runs vector instructions of every kind of CPU"),
            ("exp::", "goes through millions of numbers"),
            ("impossible_length", "asks for more memory than Miri lets a program ask for"),
        ],
    },
];

/// Runs all of them with the nightly toolchain.
///
/// # Errors
/// When a test fails, Miri finds something, or there is no Miri.
pub(crate) fn execute() -> Result<()> {
    for Run { args, without } in RUNS {
        let mut command = Command::new("rustup");
        command.current_dir(workspace_root()).args(["run", "nightly", "cargo", "miri", "test"]);
        command.args(*args).arg("--").args(without.iter().flat_map(|(test, _)| ["--skip", *test]));
        // Tests write temporary files, and some leak what must live as long as a static.
        command.env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-ignore-leaks");
        // Its builds are of another kind.
        command.env("CARGO_TARGET_DIR", workspace_root().join("target/miri"));
        let advice =
            "is there a Miri? `rustup toolchain install nightly --component miri --component rust-src`";
        run(&mut command).context(advice)?;
        for (test, reason) in *without {
            eprintln!("not run under Miri: {test}: {reason}");
        }
    }
    Ok(())
}
