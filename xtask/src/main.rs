//! The workspace's own build system. `cargo xtask --help` lists the verbs.

mod checks;
mod compiler;
mod dependencies;
mod images;
mod kernels;
mod nightly;
mod process;
mod unsafe_count;
mod verbs;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::process::workspace_root;

/// Builds kernels, checks the house rules, runs what CI runs. Needs cargo alone; `setup` gets the kernel compiler.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install the kernel compiler (Debian's clang and lld) when root, else print the line that does
    Setup,
    /// Say what this machine has: kernel compiler, committed images, HIP, devices; one line of advice for each gap
    Doctor(verbs::doctor::Options),
    /// Compile kernels/*.hip for every architecture, check each object, write images and manifest
    BuildKernels(verbs::build_kernels::Options),
    /// Count what every kernel moves and executes at GLM-4-9B's shapes, on the emulated card, and write the report
    KernelReport(verbs::kernel_report::Options),
    /// Count the instructions of the CPU's hot loops with callgrind, and write the list
    Instructions(verbs::instructions::Options),
    /// Measure cases of the suites on the CPU, and write a table and a plot
    Bench(verbs::bench::Options),
    /// Regenerate hip-ffi's bindings from HIP's headers (needs libclang)
    #[command(disable_help_flag = true)]
    Bindgen {
        /// Passed on; see `cargo xtask bindgen --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every test: `cargo test --workspace`
    Test(verbs::test::Options),
    /// Put the faults of tests/seeded/ into a copy of the workspace, one at a time: the tests must notice each
    Seeded(verbs::seeded::Options),
    /// Let every HIP call of a model's life fail, in every way; the counts of what else goes wrong must be 0
    Faults(verbs::faults::Options),
    /// Check formatting and run clippy, warnings denied
    Lint,
    /// Check the house rules that no other tool checks
    Tidy,
    /// Run the tests of the pure parts under Miri (needs its component of the nightly toolchain)
    Miri,
    /// Run the tests of HIP's C interface under the address sanitizer (needs a nightly toolchain)
    Asan,
    /// Fuzz every reader of files, by coverage (needs a nightly toolchain and cargo-fuzz)
    Fuzz(verbs::fuzz::Options),
    /// Ask RustSec's database about the committed lock (needs cargo-deny and the network)
    Advisories,
    /// List what the command is made of, as CycloneDX
    Sbom(verbs::sbom::Options),
    /// Run everything that CI runs, in order, and stop at the first failure
    Ci,
}

fn main() -> ExitCode {
    match execute(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup => verbs::setup::execute(),
        Verb::Doctor(options) => verbs::doctor::execute(&options),
        Verb::BuildKernels(options) => verbs::build_kernels::execute(&options),
        Verb::KernelReport(options) => verbs::kernel_report::execute(&options),
        Verb::Instructions(options) => verbs::instructions::execute(&options),
        Verb::Bench(options) => verbs::bench::execute(&options),
        Verb::Bindgen { args } => bindgen(&args),
        Verb::Test(options) => verbs::test::execute(&options),
        Verb::Seeded(options) => verbs::seeded::execute(&options),
        Verb::Faults(options) => verbs::faults::execute(&options),
        Verb::Lint => verbs::lint::execute(),
        Verb::Tidy => verbs::tidy::execute(&workspace_root()),
        Verb::Miri => verbs::miri::execute(),
        Verb::Asan => verbs::asan::execute(),
        Verb::Fuzz(options) => verbs::fuzz::execute(&options),
        Verb::Advisories => verbs::advisories::execute(),
        Verb::Sbom(options) => verbs::sbom::execute(&options),
        Verb::Ci => verbs::ci::execute(),
    }
}

#[cfg(feature = "bindgen")]
fn bindgen(args: &[String]) -> Result<()> {
    verbs::bindgen::run(args)
}

/// Only the feature brings libclang's bindings in, so that every other verb builds without them.
#[cfg(not(feature = "bindgen"))]
fn bindgen(args: &[String]) -> Result<()> {
    let mut command =
        process::cargo(&["run", "--quiet", "--package", "xtask", "--features", "bindgen", "--", "bindgen"]);
    process::run(command.args(args))
}
