//! The compiler of the kernels: where it is looked for, what it is, and how it is called.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::process::workspace_root;

/// Version of PTX that is written: that of CUDA 11.0, which every later driver reads.
const PTX_VERSION: &str = "ptx70";
/// PTX has no registers that an index could choose among, and a function that is called has its arguments in memory: calls are
/// inlined and loops unrolled as the AMD back end does unasked.
const PTX_ONLY: [&str; 4] = ["-mllvm", "-inline-threshold=1000000", "-mllvm", "-unroll-threshold=4000"];
/// Flags that mean nothing where PTX is written.
const HIP_ONLY: [&str; 1] = ["-fhip-kernel-arg-name"];

/// The line that installs a compiler on Debian 12.
pub(crate) const INSTALL: &str = "apt-get install -y --no-install-recommends clang-22 lld-22";

/// A compiler that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) path: PathBuf,
    /// The line that names its version, which objects carry too.
    pub(crate) version: String,
    driver: Driver,
}

/// Clang itself, or ROCm's hipcc in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Clang,
    Hipcc,
}

/// One place where a compiler was looked for.
#[derive(Debug)]
pub(crate) struct Place {
    /// `$HIPCC`, `clang++-22 on PATH`, ...
    pub(crate) name: String,
    /// The compiler there, or why there is none.
    pub(crate) found: Result<Compiler, String>,
}

/// Looks everywhere, in the order of preference.
pub(crate) fn search() -> Vec<Place> {
    let mut places = vec![
        place("$HIPCC", env::var_os("HIPCC").filter(|value| !value.is_empty())),
        place(
            "$ROCM_PATH/bin/hipcc",
            env::var_os("ROCM_PATH").map(|root| Path::new(&root).join("bin/hipcc").into()),
        ),
        place("/opt/rocm/bin/hipcc", Some("/opt/rocm/bin/hipcc".into())),
    ];
    places.extend(
        ["clang++-22", "clang++-19", "hipcc"]
            .map(|name| place(&format!("{name} on PATH"), Some(name.into()))),
    );
    places
}

/// The compiler to use: `$HIPCC` when set, else the first found.
///
/// # Errors
/// When `$HIPCC` names none, or none is found; says where it was looked for and how to get one.
pub(crate) fn find() -> Result<Compiler> {
    let places = search();
    if env::var_os("HIPCC").is_some_and(|value| !value.is_empty())
        && let Some(Place { found: Err(reason), .. }) = places.first()
    {
        bail!("$HIPCC is set, but there is no compiler: {reason}");
    }
    let looked: Vec<_> = places
        .iter()
        .filter_map(|place| Some(format!("  {}: {}", place.name, place.found.as_ref().err()?)))
        .collect();
    places.into_iter().find_map(|place| place.found.ok()).with_context(|| {
        format!(
            "no kernel compiler; run `cargo xtask setup` or\n  {INSTALL}\nLooked for:\n{}",
            looked.join("\n")
        )
    })
}

/// The compiler to use for `arch`: for PTX the first clang, since hipcc writes none.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_for(arch: &str) -> Result<Compiler> {
    if !is_ptx(arch) {
        return find();
    }
    let clang =
        search().into_iter().filter_map(|place| place.found.ok()).find(|found| found.driver == Driver::Clang);
    clang.with_context(|| {
        format!("no clang, which writes PTX for {arch}; run `cargo xtask setup` or\n  {INSTALL}")
    })
}

/// Whether images for `arch` are PTX.
pub(crate) fn is_ptx(arch: &str) -> bool {
    arch.starts_with("sm_")
}

fn place(name: &str, program: Option<OsString>) -> Place {
    let found = match program {
        None => Err("not set".to_owned()),
        Some(program) => which::which(&program).map_err(|error| error.to_string()).and_then(Compiler::at),
    };
    Place { name: name.to_owned(), found }
}

impl Compiler {
    fn at(path: PathBuf) -> Result<Compiler, String> {
        let output = Command::new(&path).arg("--version").output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().find(|line| line.contains("clang version"));
        let version = version.ok_or("`--version` does not say `clang version`")?.trim().to_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let driver = if name.contains("hipcc") { Driver::Hipcc } else { Driver::Clang };
        Ok(Compiler { path, version, driver })
    }

    /// Every flag but input and output, to compile for `arch` with the `common` flags.
    pub(crate) fn flags(&self, arch: &str, common: &[String]) -> Vec<String> {
        if is_ptx(arch) {
            let mut flags = ["-x", "cuda", "--cuda-device-only", "-S"].map(str::to_owned).to_vec();
            flags.push(format!("--cuda-gpu-arch={arch}"));
            flags.push(format!("--cuda-feature=+{PTX_VERSION}"));
            flags.extend(common.iter().filter(|flag| !HIP_ONLY.contains(&flag.as_str())).cloned());
            flags.extend(PTX_ONLY.map(str::to_owned));
            return flags;
        }
        let mode: &[&str] = match self.driver {
            Driver::Clang => &["-x", "hip", "--offload-device-only"],
            Driver::Hipcc => &["--genco"],
        };
        // Generic targets exist from version 6 on; version 5 is what ROCm 6 and 7 both load.
        let version = if arch.ends_with("-generic") { 6 } else { 5 };
        let mut flags: Vec<String> = mode.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--offload-arch={arch}"));
        flags.push("--no-gpu-bundle-output".to_owned());
        flags.push(format!("-mcode-object-version={version}"));
        flags.extend(common.iter().cloned());
        flags
    }

    /// Compiles `source`, a path relative to the workspace's root, to an image in `out`.
    ///
    /// # Errors
    /// With the compiler's own words when it fails.
    pub(crate) fn compile(&self, flags: &[String], source: &str, out: &Path) -> Result<()> {
        self.call(flags, &[OsString::from("-o"), out.into(), source.into()]).map(|_| ())
    }

    /// The assembly of `source` for the same flags.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub(crate) fn assembly(&self, flags: &[String], source: &str) -> Result<String> {
        let output = self.call(flags, &["-S", "-o", "-", source].map(OsString::from))?;
        String::from_utf8(output.stdout).context("the assembly is not UTF-8")
    }

    /// Whether an empty file compiles and links for `arch` with the `common` flags; else the reason. A warning of the
    /// compiler that the target is unfinished is a refusal too, where `common` has -Werror.
    pub(crate) fn builds(&self, arch: &str, common: &[String]) -> Result<(), String> {
        let flags = self.flags(arch, common);
        let language = if is_ptx(arch) { "cuda" } else { "hip" };
        let mut command = Command::new(&self.path);
        command.args(&flags).args(["-o", "/dev/null", "-x", language, "/dev/null"]);
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let reason = words.lines().find(|line| line.contains("error")).or(words.lines().next());
        Err(reason.unwrap_or("no reason given").to_owned())
    }

    fn call(&self, flags: &[String], rest: &[OsString]) -> Result<Output> {
        // Relative paths from the root keep the folder of a checkout out of objects and messages.
        let mut command = Command::new(&self.path);
        command.args(flags).args(rest).current_dir(workspace_root());
        let output = command.output().with_context(|| format!("could not start {}", self.path.display()))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("{} failed ({}):\n{words}", self.path.display(), output.status);
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(driver: Driver) -> Compiler {
        Compiler { path: "x".into(), version: "clang version 1".into(), driver }
    }

    #[test]
    fn flags_name_the_target_and_the_version() {
        let flags = compiler(Driver::Clang).flags("gfx1100", &["-O3".to_owned()]);
        assert_eq!(flags[..3], ["-x", "hip", "--offload-device-only"]);
        assert!(flags.contains(&"--offload-arch=gfx1100".to_owned()));
        assert!(flags.contains(&"-mcode-object-version=5".to_owned()));
        assert_eq!(flags.last().unwrap(), "-O3");
        let generic = compiler(Driver::Hipcc).flags("gfx11-generic", &[]);
        assert_eq!(generic[0], "--genco");
        assert!(generic.contains(&"-mcode-object-version=6".to_owned()));
    }

    #[test]
    fn ptx_is_written_by_clang_without_flags_of_hips() {
        let common = ["-fhip-kernel-arg-name", "-ffp-contract=off"].map(str::to_owned);
        let flags = compiler(Driver::Clang).flags("sm_80", &common);
        let first = [
            "-x",
            "cuda",
            "--cuda-device-only",
            "-S",
            "--cuda-gpu-arch=sm_80",
            "--cuda-feature=+ptx70",
            "-ffp-contract=off",
        ];
        assert_eq!(
            (&flags[..7], &flags[7..]),
            (&first.map(str::to_owned)[..], &PTX_ONLY.map(str::to_owned)[..])
        );
        assert!(find_for("sm_80").is_ok_and(|found| found.driver == Driver::Clang), "{INSTALL}");
    }

    #[test]
    fn places_are_looked_at_in_order() {
        let names: Vec<_> = search().into_iter().map(|place| place.name).collect();
        let order = [
            "$HIPCC",
            "$ROCM_PATH/bin/hipcc",
            "/opt/rocm/bin/hipcc",
            "clang++-22 on PATH",
            "clang++-19 on PATH",
        ];
        assert_eq!(names[..5], order);
    }

    #[test]
    fn a_program_that_is_no_compiler_is_refused() {
        assert!(Compiler::at("/bin/true".into()).unwrap_err().contains("clang version"));
        let missing = place("$HIPCC", Some("/nowhere/hipcc".into()));
        assert!(missing.found.is_err());
    }
}
