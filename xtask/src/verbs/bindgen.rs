//! `cargo xtask bindgen`: hip-ffi's bindings, from HIP's header.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::process::{apt_get, is_root, workspace_root};

/// Regenerates crates/hip-ffi/src/sys/bindings.rs from HIP's header, or compares with it.
///
/// The committed bindings are of HIP 5.2 (Debian's libamdhip64-dev); functions, enumerations and values are the same in
/// HIP 6 and 7, whose hipDeviceProp_t is another. Needs libclang, which comes with the kernel compiler.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bindgen")]
struct Options {
    /// Compare with the committed file instead of writing it; any difference is an error
    #[arg(long)]
    check: bool,
    /// Install HIP's headers (Debian's libamdhip64-dev) first; needs root
    #[arg(long)]
    install: bool,
}

const PACKAGE: &str = "libamdhip64-dev";
const HEADER: &str = "hip/hip_runtime_api.h";
const COMMITTED: &str = "crates/hip-ffi/src/sys/bindings.rs";

/// The functions that the table holds.
const FUNCTIONS: &[&str] = &[
    "hipInit",
    "hipGetDeviceCount",
    "hipSetDevice",
    "hipGetDeviceProperties",
    "hipDeviceGetAttribute",
    "hipRuntimeGetVersion",
    "hipDriverGetVersion",
    "hipGetErrorName",
    "hipGetErrorString",
    "hipMalloc",
    "hipFree",
    "hipMemGetInfo",
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
    "hipGetLastError",
    "hipStreamBeginCapture",
    "hipStreamEndCapture",
    "hipGraphInstantiate",
    "hipGraphLaunch",
    "hipGraphExecDestroy",
    "hipGraphDestroy",
];

/// # Errors
/// When the header or libclang is missing, or, with `--check`, when the committed file differs.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let name = [String::from("bindgen")];
    let options = Options::parse_from(name.iter().chain(args));
    if options.install {
        install()?;
    }
    let include = include_folder()?;
    let generated = generate(&include)?;
    let path = workspace_root().join(COMMITTED);
    if !options.check {
        fs::write(&path, generated).with_context(|| format!("writing {COMMITTED}"))?;
        println!("{COMMITTED} written from {}", include.display());
        return Ok(());
    }
    let committed = fs::read_to_string(&path).with_context(|| format!("reading {COMMITTED}"))?;
    compare(&committed, &generated)?;
    println!("{COMMITTED} is what {}/{HEADER} gives", include.display());
    Ok(())
}

fn install() -> Result<()> {
    if !is_root() {
        bail!("--install needs root; run\n  apt-get install -y --no-install-recommends {PACKAGE}");
    }
    apt_get(&["install", "-y", "--no-install-recommends", PACKAGE])
}

fn include_folder() -> Result<PathBuf> {
    let variables = ["ROCM_PATH", "HIP_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let roots = variables.chain(["/usr", "/opt/rocm"].map(PathBuf::from));
    let mut folders = roots.map(|root| root.join("include"));
    let found = folders.find(|folder| folder.join(HEADER).is_file());
    found.with_context(|| {
        format!("{HEADER} was not found below ROCM_PATH, HIP_PATH, /usr or /opt/rocm; as root, run\n  apt-get install -y --no-install-recommends {PACKAGE}")
    })
}

fn generate(include: &Path) -> Result<String> {
    let mut builder = bindgen::Builder::default()
        .header_contents("hip.h", "#include <hip/hip_runtime_api.h>\n")
        .clang_arg("-D__HIP_PLATFORM_AMD__")
        .clang_arg(format!("-I{}", include.display()))
        .newtype_enum("hipError_t|hipMemcpyKind|hipDeviceAttribute_t|hipStreamCaptureMode")
        .prepend_enum_name(false)
        .allowlist_type("hipDeviceProp_t")
        .blocklist_type("hipDeviceArch_t")
        .raw_line("// A bit field of capabilities, which nobody here reads.")
        .raw_line("pub type hipDeviceArch_t = core::ffi::c_uint;")
        .ctypes_prefix("core::ffi")
        .use_core()
        .generate_comments(false)
        .merge_extern_blocks(true)
        .sort_semantically(true)
        .rustfmt_configuration_file(Some(workspace_root().join("rustfmt.toml")));
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    Ok(builder.generate().context("bindgen could not read HIP's header")?.to_string())
}

/// Fails with the first lines that differ.
fn compare(committed: &str, generated: &str) -> Result<()> {
    const SHOWN: usize = 5;
    if committed == generated {
        return Ok(());
    }
    let pairs =
        committed.lines().zip(generated.lines()).enumerate().filter(|(_, (left, right))| left != right);
    let shown =
        pairs.take(SHOWN).map(|(at, (left, right))| format!("line {}:\n  - {left}\n  + {right}", at + 1));
    let lengths = format!(
        "{} lines are committed, {} are generated",
        committed.lines().count(),
        generated.lines().count()
    );
    bail!(
        "{COMMITTED} differs from HIP's header ({lengths}); run `cargo xtask bindgen`\n{}",
        shown.collect::<Vec<_>>().join("\n")
    )
}
