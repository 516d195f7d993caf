//! What the tests of the command share.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod failing_library;

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The functions of HIP that a library must have, but for the properties of a device and the words of an error.
pub(crate) const HIP_FUNCTIONS: [&str; 20] = [
    "hipInit",
    "hipRuntimeGetVersion",
    "hipDriverGetVersion",
    "hipGetLastError",
    "hipGetDeviceCount",
    "hipSetDevice",
    "hipDeviceGetAttribute",
    "hipMemGetInfo",
    "hipMalloc",
    "hipFree",
    "hipMemcpyAsync",
    "hipMemsetAsync",
    "hipStreamCreateWithFlags",
    "hipStreamDestroy",
    "hipStreamSynchronize",
    "hipStreamQuery",
    "hipModuleLoadData",
    "hipModuleUnload",
    "hipModuleGetFunction",
    "hipModuleLaunchKernel",
];

/// A library of this C source, under the name of HIP's.
pub(crate) fn hip_library(folder: &TempDir, source: &str) -> PathBuf {
    let (file, library) = (folder.path().join("hip.c"), folder.path().join("libamdhip64.so"));
    fs::write(&file, source).unwrap();
    let status =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &file]).arg("-ldl").status();
    let status = status.unwrap_or_else(|error| panic!("this test needs a C compiler called cc: {error}"));
    assert!(status.success());
    library
}

/// The emulated card as a library. Cargo builds it beside the tests of the crates that depend on it.
pub(crate) fn emulated_library() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(format!("{DLL_PREFIX}hip_emu_cdylib{DLL_SUFFIX}"))
}

/// The command, with a HIP library that is not there, so that a test means the same on every machine.
pub(crate) fn glm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glm"));
    command.env("HIP_FFI_LIB", "/no/such/libamdhip64.so");
    command
}

pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run<A: AsRef<OsStr>>(args: &[A]) -> Outcome {
    outcome(glm().args(args).output().unwrap())
}

pub(crate) fn run_with_input<A: AsRef<OsStr>>(args: &[A], input: &str) -> Outcome {
    let mut command = glm();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    outcome(child.wait_with_output().unwrap())
}

pub(crate) fn outcome(output: Output) -> Outcome {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let outcome =
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    outcome
}

impl Outcome {
    /// Fails unless the command did.
    pub(crate) fn ok(self) -> Outcome {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Fails unless the command failed with this code and named all of this.
    pub(crate) fn refused(&self, code: i32, named: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for name in named {
            assert!(self.stderr.contains(name), "{name:?} is not in: {}", self.stderr);
        }
    }
}

pub(crate) fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

pub(crate) fn golden(checkpoint: &str) -> PathBuf {
    parity::golden_dir().join(checkpoint)
}

/// A copy of a checkpoint folder to change.
pub(crate) fn copy_of(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}

/// Changes a JSON file in place.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
