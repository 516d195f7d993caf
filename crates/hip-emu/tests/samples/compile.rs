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
    "--offload-arch=gfx1100",
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

/// One compiled source.
#[derive(Clone)]
pub(crate) struct Build {
    label: String,
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
static COMPILED: LazyLock<Mutex<HashMap<(PathBuf, String), Cell>>> = LazyLock::new(Mutex::default);

/// `source` (a file name without `.hip`) by each compiler at each optimisation; `defines` are further flags. Each is
/// compiled once for all tests.
pub(crate) fn builds(dialect: Dialect, source: &str, defines: &[&str]) -> Arc<[Build]> {
    let key = (dialect.folder().join(source), defines.join(" "));
    let cell = Cell::clone(COMPILED.lock().unwrap().entry(key).or_default());
    Arc::clone(cell.get_or_init(|| compile(dialect, source, defines).into()))
}

fn compile(dialect: Dialect, source: &str, defines: &[&str]) -> Vec<Build> {
    let path = dialect.folder().join(format!("{source}.hip"));
    assert!(
        path.is_file(),
        "{} is missing: this test needs the folder `shared` beside the project",
        path.display()
    );
    let folder = tempfile::tempdir().unwrap();
    let mut builds = Vec::new();
    for compiler in COMPILERS.iter() {
        for optimisation in ["-O0", "-O3"] {
            let label = [&[source, compiler, optimisation], defines].concat().join(" ");
            let output = folder.path().join("image");
            let mut command = Command::new(compiler);
            command.args(FLAGS).args(dialect.flags()).args(defines).arg(optimisation);
            let run = command.arg("-o").arg(&output).arg(&path).output().unwrap();
            assert!(run.status.success(), "{label}: {}", String::from_utf8_lossy(&run.stderr));
            builds.push(Build { label, compiler, image: fs::read(&output).unwrap() });
        }
    }
    println!("{source}: compiled by {}", COMPILERS.join(" and "));
    builds
}

/// The compilers of this machine: the kernels' own, and an older one where it is installed.
static COMPILERS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    assert!(which::which("clang++-22").is_ok(), "clang++-22 is not on PATH: `cargo xtask setup` installs it");
    ["clang++-22", "clang++-19"].into_iter().filter(|name| which::which(name).is_ok()).collect()
});
