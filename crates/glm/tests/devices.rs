//! Which device is taken, what is said about it, and what happens when it is not to be had.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::path::{Path, PathBuf};

use common::{HIP_FUNCTIONS, Outcome, copy_of, demo, edit, glm, hip_library, outcome, run};
use serde_json::Value;
use tempfile::TempDir;

const QUESTION: [&str; 2] = ["demo", "What is RoPE?"];
const ANSWER: &str = "RoPE is rotary position embedding";

fn on(device: &str, library: &Path, marker: &Path) -> Outcome {
    let mut command = glm();
    command.args(QUESTION).args(["--device", device]).env("HIP_FFI_LIB", library).env("MARKER", marker);
    outcome(command.output().unwrap())
}

/// The functions of HIP that the table holds; each returns 0 but hipGetDeviceCount, which returns `count_code` and, if that
/// is 0, counts `devices`.
fn fake_library(folder: &TempDir, count_code: u32, devices: u32, without: &str) -> PathBuf {
    let functions: String = HIP_FUNCTIONS
        .iter()
        .chain(&["hipGetDeviceProperties"])
        .filter(|name| **name != "hipGetDeviceCount" && **name != without)
        .map(|name| format!("int {name}(void) {{ return 0; }}\n"))
        .collect();
    let source = format!(
        "#include <stdio.h>\n#include <stdlib.h>\n\
         __attribute__((constructor)) static void loaded(void) {{\n\
         const char *path = getenv(\"MARKER\"); FILE *file = path ? fopen(path, \"w\") : 0; if (file) fclose(file); }}\n\
         const char *hipGetErrorName(int code) {{ return code == 100 ? \"hipErrorNoDevice\" : \"hipErrorOther\"; }}\n\
         const char *hipGetErrorString(int code) {{ return hipGetErrorName(code); }}\n\
         int hipGetDeviceCount(int *count) {{ *count = {devices}; return {count_code}; }}\n{functions}"
    );
    hip_library(folder, &source)
}

#[test]
fn without_a_library_auto_says_why_once_and_hip_fails() {
    let auto = run(&QUESTION).ok();
    assert!(auto.stdout.contains(ANSWER));
    assert_eq!(auto.stderr.matches("WARN").count(), 1, "{}", auto.stderr);
    let line = auto.stderr.lines().find(|line| line.starts_with("ran on cpu, not on a GPU: ")).unwrap();
    assert!(line.contains("no HIP library was found") && line.contains("HIP_FFI_LIB"), "{line}");

    let hip = run(&[QUESTION[0], QUESTION[1], "--device", "hip"]);
    hip.refused(
        3,
        &[
            "--device hip:0 is not to be had",
            "no HIP library was found",
            "/no/such/libamdhip64.so: no such file",
        ],
    );
    assert!(hip.stdout.is_empty());
}

#[test]
fn cuda_is_had_or_refused_by_name() {
    let mut command = glm();
    command.args(QUESTION).args(["--device", "cuda"]).env("HIP_FFI_CUDA_LIB", "/no/such/libcuda.so.1");
    let reason = match cfg!(feature = "cuda") {
        true => "no CUDA driver was found",
        false => "built without CUDA; build it with `--features cuda`",
    };
    let told = outcome(command.output().unwrap());
    told.refused(3, &["--device cuda:0 is not to be had", reason]);
    assert!(told.stdout.is_empty());
}

#[test]
fn a_library_without_a_device_is_another_reason() {
    let folder = tempfile::tempdir().unwrap();
    let library = fake_library(&folder, 100, 0, "");
    let marker = folder.path().join("loaded");
    let auto = on("auto", &library, &marker).ok();
    assert!(
        auto.stdout.contains(ANSWER) && auto.stderr.contains("ran on cpu, not on a GPU: "),
        "{}",
        auto.stderr
    );
    assert!(auto.stderr.contains("hipErrorNoDevice (100)"), "{}", auto.stderr);
    on("hip", &library, &marker)
        .refused(3, &["unavailable", "hipGetDeviceCount returned hipErrorNoDevice (100)"]);
    on("hip:2", &fake_library(&folder, 0, 0, ""), &marker)
        .refused(3, &["HIP device 2 was asked for, but 0 devices are visible"]);
}

#[test]
fn a_library_that_lacks_a_function_is_a_third() {
    let folder = tempfile::tempdir().unwrap();
    let library = fake_library(&folder, 0, 0, "hipModuleLaunchKernel");
    on("hip", &library, Path::new("")).refused(3, &["libamdhip64.so lacks hipModuleLaunchKernel"]);
}

#[test]
fn a_device_that_cannot_run_the_model_is_a_fourth() {
    // It opens, but there are no kernels for a card without a name.
    let folder = tempfile::tempdir().unwrap();
    let library = fake_library(&folder, 0, 1, "");
    let auto = on("auto", &library, Path::new("")).ok();
    assert!(auto.stdout.contains(ANSWER), "{}", auto.stdout);
    assert_eq!(auto.stderr.matches("WARN").count(), 1, "{}", auto.stderr);
    let line = auto.stderr.lines().find(|line| line.starts_with("ran on cpu, not on a GPU: ")).unwrap();
    assert!(line.contains("hip:0") && line.contains("the kernel cannot be loaded"), "{line}");
    on("hip", &library, Path::new("")).refused(3, &["--device hip:0 cannot run this model"]);
}

#[test]
fn cpu_never_loads_hip() {
    let folder = tempfile::tempdir().unwrap();
    let (library, marker) = (fake_library(&folder, 100, 0, ""), folder.path().join("loaded"));
    let cpu = on("cpu", &library, &marker).ok();
    assert!(cpu.stderr.contains("ran on cpu\n") && !cpu.stderr.contains("WARN"), "{}", cpu.stderr);
    assert!(!marker.exists(), "--device cpu loaded the library");
    on("auto", &library, &marker).ok();
    assert!(marker.exists(), "the library tells when it is loaded");
}

#[test]
fn a_device_that_does_not_exist_is_wrong_usage() {
    run(&[QUESTION[0], QUESTION[1], "--device", "gpu"])
        .refused(2, &["expected auto, cpu, emu, emu:TARGET, hip, hip:N, cuda or cuda:N"]);
}

#[test]
fn the_emulator_needs_no_library_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (library, marker) = (fake_library(&folder, 100, 0, ""), folder.path().join("loaded"));
    let emu = on("emu", &library, &marker).ok();
    assert!(emu.stdout.contains(ANSWER), "{}", emu.stdout);
    let lines: Vec<&str> = emu.stderr.lines().filter(|line| line.starts_with("ran on ")).collect();
    assert_eq!(lines, ["ran on emu: the kernels of gfx1100, emulated on the CPU"]);
    assert!(!marker.exists(), "--device emu loaded the library");

    let help = run(&["demo", "--help"]).ok().stdout;
    assert!(help.contains("emu:TARGET: an emulated card"), "{help}");
}

#[test]
fn memory_is_counted_before_loading_and_what_does_not_fit_is_refused_with_the_numbers() {
    let folder = copy_of(&demo());
    let longest = 1 << 24;
    edit(&folder.path().join("config.json"), |config| config["max_position_embeddings"] = longest.into());
    let model = ["run", "--model", folder.path().to_str().unwrap()];
    let run_with = |args: &[&str]| run(&[&model, args, &["What is RoPE?"]].concat());
    let longest = ["--context", &longest.to_string(), "--kv-dtype", "f32"];
    // K and V of 3 layers, 2 heads each, 32 wide, in f32: 24 GiB of a card of 16.
    let refused = run_with(&[&longest[..], &["--device", "emu"]].concat());
    refused.refused(
        3,
        &[
            "--device emu cannot run this model",
            "hip:0 (hip-emu gfx1100, gfx1100) has 17179",
            "keys and values 25",
        ],
    );

    let shown = run_with(&["--device", "cpu", "--max-tokens", "1", "--context", "256", "--json", "-v"]).ok();
    let line = shown.stderr.lines().find(|line| line.contains("memory: ")).unwrap();
    assert!(line.contains("keys and values 192 KiB"), "{line}");
    let json: Value = serde_json::from_str(&shown.stdout).unwrap();
    let bytes = |part: &str| json["memory_bytes"][part].as_u64().unwrap();
    assert_eq!(bytes("keys_and_values"), 256 * 3 * 2 * 2 * 32 * 2);
    let parts = ["weights", "keys_and_values", "activations", "rotary_table"].map(bytes);
    assert_eq!(bytes("total"), parts.iter().sum::<u64>());
}

#[test]
fn an_emulated_card_is_named_by_flag_or_environment() {
    let mut by_environment = glm();
    by_environment.args(QUESTION).args(["--device", "emu"]).env("HIP_EMU_ARCH", "gfx1030");
    let by_flag = run(&[&QUESTION[..], &["--device", "emu:gfx1201"]].concat()).ok();
    for (told, target) in [(outcome(by_environment.output().unwrap()).ok(), "gfx1030"), (by_flag, "gfx1201")]
    {
        assert!(told.stdout.contains(ANSWER));
        assert!(
            told.stderr.contains(&format!("ran on emu: the kernels of {target}, emulated")),
            "{}",
            told.stderr
        );
    }
}

#[test]
fn a_card_that_is_not_emulated_is_refused() {
    let mut command = glm();
    command.args(QUESTION).args(["--device", "emu"]).env("HIP_EMU_ARCH", "gfx803");
    outcome(command.output().unwrap()).refused(3, &["--device emu cannot run this model"]);
    run(&[&QUESTION[..], &["--device", "emu:gfx803"]].concat())
        .refused(2, &["expected emu:TARGET with one of gfx900", "found \"gfx803\""]);
}
