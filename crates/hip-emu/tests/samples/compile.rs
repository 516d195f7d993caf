//! Compiles a sample with each compiler at each optimisation.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/samples");
const PRELUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/prelude");
const FLAGS: &[&str] = &[
    "-x",
    "hip",
    "--offload-device-only",
    "--no-gpu-bundle-output",
    "-nogpuinc",
    "-nogpulib",
    "-std=c++17",
    "-mcode-object-version=5",
    "-fuse-cuid=none",
];

/// What the sources of a folder need besides [`FLAGS`].
#[derive(Clone, Copy)]
pub(crate) enum Dialect {
    /// Self-contained sources; floating-point atomics are loops of compare and swap.
    Bare,
    /// Sources that include HIP's headers; floating-point atomics are instructions.
    Hip,
    /// Self-contained sources of this crate.
    Own,
}

impl Dialect {
    pub(crate) fn folder(self) -> PathBuf {
        match self {
            Dialect::Bare => Path::new(SHARED).join("kernels"),
            Dialect::Hip => Path::new(SHARED).join("emu/kernels"),
            Dialect::Own => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"),
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Dialect::Bare => &["-DGPU_BARE"],
            Dialect::Own => &[],
            Dialect::Hip => &["-munsafe-fp-atomics", "-I", PRELUDE],
        }
    }
}

/// The targets that samples are executed on: one of each generation.
pub(crate) const TARGETS: &[&str] =
    &["gfx1100", "gfx1030", "gfx1151", "gfx1201", "gfx942", "gfx90a", "gfx906"];
/// The target that every compiler builds for at every optimisation; for each other one, each does at one of them, unless
/// `HIP_EMU_EVERY_BUILD` is set.
pub(crate) const FIRST: &str = "gfx1100";

/// One compiled source.
#[derive(Clone)]
pub(crate) struct Build {
    label: String,
    pub(crate) target: &'static str,
    pub(crate) compiler: &'static str,
    pub(crate) image: Vec<u8>,
}

/// The source, the compiler and the optimisation, for failures to name.
impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

type Cell = Arc<OnceLock<Arc<[Build]>>>;
type Key = (PathBuf, &'static str, String);
static COMPILED: LazyLock<Mutex<HashMap<Key, Cell>>> = LazyLock::new(Mutex::default);

/// `source` (a file name without `.hip`) for `target`, by each compiler; `defines` are further flags. Each is compiled once for
/// all tests.
pub(crate) fn builds(dialect: Dialect, source: &str, target: &'static str, defines: &[&str]) -> Arc<[Build]> {
    let key = (dialect.folder().join(source), target, defines.join(" "));
    let cell = Cell::clone(COMPILED.lock().unwrap().entry(key).or_default());
    Arc::clone(cell.get_or_init(|| compile(dialect, source, target, defines).into()))
}

/// The optimisations that a compiler, of a number, builds with for a target.
fn optimisations(target: &str, compiler: usize) -> &'static [&'static str] {
    let every = target == FIRST || std::env::var_os("HIP_EMU_EVERY_BUILD").is_some() || COMPILERS.len() == 1;
    match compiler {
        _ if every => &["-O0", "-O3"],
        0 => &["-O3"],
        _ => &["-O0"],
    }
}

/// The samples know of two targets with waves of 64 lanes only.
fn wave_flags(target: &str) -> &'static [&'static str] {
    if target == "gfx906" { &["-DWAVE=64"] } else { &[] }
}

fn compile(dialect: Dialect, source: &str, target: &'static str, defines: &[&str]) -> Vec<Build> {
    let path = dialect.folder().join(format!("{source}.hip"));
    assert!(
        path.is_file(),
        "{} is missing: this test needs the folder `shared` beside the project",
        path.display()
    );
    let folder = tempfile::tempdir().unwrap();
    let mut builds = Vec::new();
    for (number, compiler) in COMPILERS.iter().enumerate() {
        for &optimisation in optimisations(target, number) {
            let label = [&[source, target, compiler, optimisation], defines].concat().join(" ");
            let output = folder.path().join("image");
            let mut command = Command::new(compiler);
            command
                .args(FLAGS)
                .arg(format!("--offload-arch={target}"))
                .args(dialect.flags())
                .args(wave_flags(target))
                .args(defines)
                .arg(optimisation);
            let run = command.arg("-o").arg(&output).arg(&path).output().unwrap();
            assert!(run.status.success(), "{label}: {}", String::from_utf8_lossy(&run.stderr));
            builds.push(Build { label, target, compiler, image: fs::read(&output).unwrap() });
        }
    }
    println!("{source}: compiled for {target} by {}", COMPILERS.join(" and "));
    builds
}

/// The compilers of this machine: the kernels' own, and an older one where it is installed.
static COMPILERS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    assert!(which::which("clang++-22").is_ok(), "clang++-22 is not on PATH: `cargo xtask setup` installs it");
    ["clang++-22", "clang++-19"].into_iter().filter(|name| which::which(name).is_ok()).collect()
});
