//! `cargo xtask advisories`: what is known to be wrong with the dependencies of the committed lock.

use anyhow::{Context, Result};

use crate::nightly::expect_subcommand;
use crate::process::{cargo, run};

/// Asks RustSec's database, which is fetched from `github.com/rustsec/advisory-db`, about every package of `Cargo.lock`.
///
/// # Errors
/// When there is an advisory, no cargo-deny, or no database.
pub(crate) fn execute() -> Result<()> {
    expect_subcommand("deny")?;
    run(&mut cargo(&["deny", "--locked", "--all-features", "check", "advisories"]))
        .context("an advisory, or no way to the database at github.com/rustsec/advisory-db")
}
