//! A crate outside the workspace depends on `kernels-rope` by path, builds without network and rotates a tensor.

#![expect(clippy::cast_possible_truncation, reason = "the reference is rounded once")]

use std::path::Path;
use std::process::Command;

const MAIN: &str = r#"
use device_mem::{Device, DeviceBuffer};
use kernels_rope::{Axes, HeadsMut, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling, apply_rope};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spec = RopeSpec::new(RopeConfig {
        head_dim: 4,
        rotary_dim: 2,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    let table = RopeTable::new(&spec, 8, &Device::Cpu)?;
    let mut x = DeviceBuffer::from_host_vec(&Device::Cpu, vec![1.0_f32, 0.0, 3.0, 4.0])?;
    let at = Positions::new(&table, &[2])?;
    let ran_on = apply_rope(&table, HeadsMut::new(x.as_view_mut()?, 1, 1, 4)?, &at)?;
    println!("{ran_on} {:?}", x.to_host_vec()?);
    println!("{} images", kernels_rope::kernels::ROPE.images.len());
    Ok(())
}
"#;

#[test]
fn a_crate_outside_builds_offline_and_rotates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let crates = root.join("crates");
    let manifest = format!(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         device-mem = {{ path = {:?} }}\nkernels-rope = {{ path = {:?} }}\n\n[workspace]\n",
        crates.join("device-mem"),
        crates.join("kernels-rope"),
    );
    std::fs::write(outside.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::create_dir(outside.path().join("src")).unwrap();
    std::fs::write(outside.path().join("src/main.rs"), MAIN).unwrap();
    // The same versions as the workspace, which are at hand without a network.
    std::fs::copy(root.join("Cargo.lock"), outside.path().join("Cargo.lock")).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline"])
        .current_dir(outside.path())
        .env("CARGO_TARGET_DIR", outside.path().join("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let (sin, cos) = 2.0_f64.sin_cos();
    assert_eq!(stdout, format!("cpu {:?}\n14 images\n", [cos as f32, sin as f32, 3.0, 4.0]));
}
