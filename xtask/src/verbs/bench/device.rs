//! `cargo xtask bench --device`: every kernel on a device, and what else runs there at the same shapes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::process::{cargo, run, workspace_root};

/// What `device-bench` and its peers found.
#[derive(Debug, Deserialize)]
pub(crate) struct Measured {
    pub(crate) device: String,
    pub(crate) arch: String,
    /// Version of the interface that the driver has: 13000.
    pub(crate) driver: i64,
    /// Versions of the peers and of the driver itself.
    #[serde(default)]
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) copy_bytes_per_second: Option<f64>,
    pub(crate) product_operations_per_second: Option<f64>,
    pub(crate) rows: Vec<Row>,
    pub(crate) tokens: Vec<Token>,
}

/// One operation at one shape.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) op: String,
    pub(crate) model: String,
    pub(crate) tokens: u64,
    pub(crate) shape: BTreeMap<String, Value>,
    pub(crate) bytes: f64,
    pub(crate) operations: f64,
    pub(crate) seconds: f64,
    pub(crate) range: [f64; 2],
    /// Seconds of each peer; none of one that failed.
    #[serde(default)]
    pub(crate) peers: BTreeMap<String, Option<f64>>,
}

/// A token of a whole model.
#[derive(Debug, Deserialize)]
pub(crate) struct Token {
    pub(crate) way: String,
    pub(crate) model: String,
    pub(crate) context: u64,
    pub(crate) seconds: f64,
    pub(crate) range: [f64; 2],
    pub(crate) launches: f64,
    pub(crate) graphs: f64,
    pub(crate) bytes: f64,
}

impl Measured {
    pub(crate) fn from_json(text: &str) -> Result<Measured> {
        serde_json::from_str(text).context("the file is none that device-bench wrote")
    }
}

/// Runs `device-bench`, and its peers where the device is NVIDIA's; gives what they wrote.
///
/// # Errors
/// When one of them fails, or python3 has no PyTorch or Triton.
pub(crate) fn measure(device: &str, checkpoint: Option<&Path>) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bench.json");
    let is_cuda = device.starts_with("cuda");
    let mut bench = cargo(&["run", "--release", "--package", "device-bench"]);
    if is_cuda {
        bench.args(["--features", "cuda"]);
    }
    run(bench.args(["--", device]).arg(&file).args(checkpoint))?;
    if is_cuda {
        let script = workspace_root().join("tests/peers/device_peers.py");
        run(Command::new("python3").arg(script).arg(&file))
            .context("measuring PyTorch, cuBLAS and Triton")?;
    }
    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}
