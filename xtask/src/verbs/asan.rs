//! `cargo xtask asan`: what crosses HIP's C interface under the address sanitizer.

use anyhow::{Context, Result};

use crate::nightly;
use crate::process::run;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const OPTIONS: &str =
    "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1:strict_init_order=1";

/// Runs the tests of `hip-ffi` and `device-mem`, with the libraries that they build in the place of HIP's and CUDA's. Those are
/// not instrumented, but what they allocate, free and copy is watched.
///
/// # Errors
/// When a test fails, or the sanitizer finds something.
pub(crate) fn execute() -> Result<()> {
    let mut command = nightly::cargo("asan", &["rust-std"])?;
    command.args(["test", "--target", TARGET, "--package", "hip-ffi", "--package", "device-mem"]);
    command.args(["--features", "hip-ffi/cuda", "--lib", "--tests"]);
    command.env("RUSTFLAGS", "-Zsanitizer=address");
    // Some tests leak what must live as long as a static, and one asks for more memory than there is.
    command.env("ASAN_OPTIONS", OPTIONS);
    run(&mut command).context("the address sanitizer, or a test under it")
}
