//! Embeds the committed kernel images. No compiler runs.

use std::error::Error;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=hsaco");
    if let Err(error) = embed() {
        println!("cargo::error={error}");
    }
}

fn embed() -> Result<(), Box<dyn Error>> {
    let crate_dir = std::env::var("CARGO_MANIFEST_DIR")?;
    let out_dir = std::env::var("OUT_DIR")?;
    hsaco::build::embed(&Path::new(&crate_dir).join("hsaco"), Path::new(&out_dir))?;
    Ok(())
}
