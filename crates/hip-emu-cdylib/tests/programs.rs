//! The shared library as C programs and Python use it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::{
    env::{
        self,
        consts::{DLL_PREFIX, DLL_SUFFIX},
    },
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
const AXPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hip-emu/tests/data/axpy.gfx1100.hsaco");
/// Compilers that can build HIP programs, the newest first.
const COMPILERS: [&str; 3] = ["clang++-22", "clang++-19", "clang++"];

/// Runs a command to its good end and gives what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{printed}{complaints}", output.status);
    printed
}

/// A folder with the library under the name that programs are linked against.
fn library() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // Cargo builds it beside the tests of its crate.
        let built =
            env::current_exe().unwrap().with_file_name(format!("{DLL_PREFIX}hip_emu_cdylib{DLL_SUFFIX}"));
        let folder = tempfile::tempdir().unwrap();
        fs::copy(built, folder.path().join("libamdhip64.so.5")).unwrap();
        folder
    });
    folder.path()
}

fn compiler() -> PathBuf {
    let found = COMPILERS.iter().find_map(|name| which::which(name).ok());
    found.expect("no clang++ was found: install clang 19 or later with lld")
}

fn script() -> Command {
    let python = which::which("python3").expect("python3 was not found: install Python 3");
    let mut script = Command::new(python);
    script.arg(format!("{DATA}/launch.py")).arg(library().join("libamdhip64.so.5"));
    script.arg(AXPY);
    script
}

#[test]
fn python_loads_a_code_object_and_launches_it() {
    for checks in ["", "all"] {
        assert_eq!(run(script().env("HIP_EMU_CHECK", checks)), "as computed here\n");
    }
}

#[test]
fn a_card_that_is_set_up_wrongly_runs_nothing() {
    for (variable, value) in [("HIP_EMU_CHECK", "memory,speed"), ("HIP_EMU_SEED", "one")] {
        let output = script().env(variable, value).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{complaint}");
        assert!(complaint.contains(&format!("hip-emu: {variable} is \"{value}\"")), "{complaint}");
    }
}

/// One half of a HIP program's compilation, without the device libraries: the program needs none of them.
fn compile(half: &str) -> Command {
    let mut command = Command::new(compiler());
    command.args([
        "-x",
        "hip",
        "--offload-arch=gfx1100",
        "-nogpulib",
        "-nogpuinc",
        "-D__HIP_PLATFORM_AMD__",
        "-O2",
    ]);
    // HIP's headers: Debian's package libamdhip64-dev, or ROCm's under HIP_PATH.
    if let Some(path) = env::var_os("HIP_PATH") {
        command.arg("-I").arg(Path::new(&path).join("include"));
    }
    command.arg(half).arg(format!("{DATA}/saxpy.hip"));
    command
}

/// The object in a bundle as clang's driver makes it; its tool for that is not everywhere where clang is.
fn bundle(object: &[u8]) -> Vec<u8> {
    let start: usize = 4096;
    let entries = [("host-x86_64-unknown-linux-gnu", 0), ("hipv4-amdgcn-amd-amdhsa--gfx1100", object.len())];
    let mut bundle = b"__CLANG_OFFLOAD_BUNDLE__".to_vec();
    bundle.extend((entries.len() as u64).to_le_bytes());
    for (name, size) in entries {
        bundle.extend([start, size, name.len()].map(|number| (number as u64).to_le_bytes()).concat());
        bundle.extend(name.as_bytes());
    }
    bundle.resize(start, 0);
    bundle.extend(object);
    bundle
}

#[test]
fn a_program_with_launch_syntax_runs_on_the_emulated_card() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    run(compile("--offload-device-only").arg("--no-gpu-bundle-output").arg("-o").arg(file("saxpy.hsaco")));
    fs::write(file("saxpy.hipfb"), bundle(&fs::read(file("saxpy.hsaco")).unwrap())).unwrap();
    let mut host = compile("--offload-host-only");
    host.args(["-Xclang", "-fcuda-include-gpubinary", "-Xclang"]).arg(file("saxpy.hipfb"));
    run(host.arg("-c").arg("-o").arg(file("saxpy.o")));
    let mut link = Command::new(compiler());
    link.arg(file("saxpy.o")).arg("-L").arg(library()).args(["-l:libamdhip64.so.5", "-o"]).arg(file("saxpy"));
    run(&mut link);
    assert_eq!(run(Command::new(file("saxpy")).env("LD_LIBRARY_PATH", library())), "as on the host\n");
}
