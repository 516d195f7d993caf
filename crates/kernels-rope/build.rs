//! Embeds the committed kernel images. No compiler runs.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=hsaco");
    let crate_dir = std::env::var("CARGO_MANIFEST_DIR")?;
    let out_dir = std::env::var("OUT_DIR")?;
    hsaco::build::embed(&Path::new(&crate_dir).join("hsaco"), Path::new(&out_dir))?;
    Ok(())
}
