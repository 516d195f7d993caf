//! With Debian's HIP library installed and no card: the library loads, and the lack of a device is what is told. Needs
//! libamdhip64-5, so it is built with the feature `debian-hip-test` only; without the library it fails.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::process::{Command, Output};

use hip_ffi::{HipApi, Search, result};

fn glm(device: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glm"));
    command.args(["demo", "What is RoPE?", "--device", device]).env_remove("HIP_FFI_LIB");
    command.output().unwrap()
}

#[test]
fn the_library_is_there_and_sees_no_device() {
    let (api, found) = HipApi::load(&Search::from_env())
        .unwrap_or_else(|error| panic!("this test needs Debian's libamdhip64-5: {error}"));
    assert!(found.library.to_string_lossy().contains("libamdhip64"), "{found:?}");
    assert!(result::runtime_version(&api).unwrap() > 0);
    let error = result::device_count(&api).unwrap_err();
    assert_eq!(error.class(), hip_ffi::ErrorClass::Unavailable, "{error}");
}

#[test]
fn auto_runs_on_the_cpu_and_says_that_there_is_no_device() {
    let output = glm("auto");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("RoPE is rotary position embedding"));
    let line = stderr.lines().find(|line| line.starts_with("ran on cpu, not on a GPU: ")).unwrap();
    assert!(line.contains("unavailable") && line.contains("hipInit"), "{line}");
}

#[test]
fn hip_fails_with_the_class_and_the_code() {
    let output = glm("hip");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("unavailable") && stderr.contains("hipErrorInvalidDevice (101)"), "{stderr}");
}
