//! `cargo xtask ci`: exactly what CI runs.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::{Program, cargo, run, workspace_root};
use crate::verbs;

/// The example of every crate, which runs on a CPU, and its arguments.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("find_hip", &[]),
    ("inspect", &["crates/kernels-rope/hsaco/gfx1100/rope_kernel.hsaco"]),
    ("buffers", &[]),
    ("rotate", &[]),
    ("layer", &[]),
    ("attend", &[]),
    ("forward", &[]),
];

/// A name and what to run.
type Step = (&'static str, fn() -> Result<()>);

/// Runs every step in order and stops at the first that fails.
///
/// # Errors
/// The failing step's error, with its name.
pub(crate) fn execute() -> Result<()> {
    let steps: &[Step] = &[
        ("setup", || verbs::setup::execute()),
        ("lint", verbs::lint::execute),
        ("tidy", || verbs::tidy::execute(&workspace_root())),
        // Installs HIP's headers, which a test compiles a program against.
        ("bindgen --check", || run(&mut cargo(&["xtask", "bindgen", "--install", "--check"]))),
        ("test", verbs::test::default),
        ("test hip-ffi with cuda", cuda_without_a_card),
        ("faults --some", verbs::faults::check_some),
        ("build-kernels --check --some", verbs::build_kernels::check_some),
        ("kernel-report --check", verbs::kernel_report::check_some),
        ("instructions --check", verbs::instructions::check_all),
        ("a HIP library without a card", hip_library_without_a_card),
        ("docs", docs),
        ("examples", examples),
        ("demo", || run(Program::Bin("glm").command()?.arg("demo"))),
    ];
    let mut times = Vec::new();
    for (name, step) in steps {
        eprintln!("==> {name}");
        let start = Instant::now();
        step().with_context(|| format!("ci stopped at `{name}`"))?;
        times.push((name, start.elapsed()));
    }
    for (name, time) in times {
        eprintln!("{:>7.1} s  {name}", time.as_secs_f64());
    }
    Ok(())
}

/// The bindgen step installed Debian's HIP with its headers; no CI machine has a card.
fn hip_library_without_a_card() -> Result<()> {
    let test = ["test", "--workspace", "--features", "glm/debian-hip-test", "--test", "debian_hip"];
    run(&mut cargo(&test))
}

/// HIP's NVIDIA platform on a driver that the test makes; no CI machine has a card.
fn cuda_without_a_card() -> Result<()> {
    run(&mut cargo(&["test", "--package", "hip-ffi", "--features", "cuda"]))
}

fn docs() -> Result<()> {
    run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn examples() -> Result<()> {
    for (example, args) in EXAMPLES {
        run(Program::Example(example).command()?.args(*args))?;
    }
    Ok(())
}
