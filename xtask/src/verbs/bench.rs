//! `cargo xtask bench`: the benches' cases, whole programs side by side, or the kernels on a device, as a table and a plot.

mod bars;
mod device;
mod device_page;
mod page;
mod peers;
mod peers_page;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use walkdir::WalkDir;

use self::peers::Peer;
use crate::process::{cargo, run, workspace_root};

/// The crates that have benches.
const CRATES: [&str; 3] = ["kernels-rope", "kernels-nn", "attention"];

#[derive(clap::Args)]
#[command(after_help = "\
Each bench measures cases of its crate's correctness suite, by their names there, on the CPU.

Examples:
  cargo xtask bench                 all of them, 3 minutes and a release build
  cargo xtask bench linear          the cases whose name contains `linear`
  cargo xtask bench --out /tmp      bench.md and bench.svg there, not in .planning/
  cargo xtask bench --peers 'gyre q8_0=glm bench --json --device cpu --model m.gguf' 'llama.cpp q8_0=python peer.py m.gguf'
                                    peers.md and peers.svg: programs that print a JSON object with the keys of `glm bench`
  cargo xtask bench --peers 'gyre operations=target/release/operations' 'ggml operations=python micro_ggml.py'
                                    the same of programs that print a JSON object for each operation, with `case` and `median_us`;
                                    ours is made by `cargo build --release -p hot-loops`
  cargo xtask bench --device cuda --checkpoint /tmp/random
                                    bench-cuda.md, .svg and .json: every kernel on a card, and a model's tokens, beside
                                    PyTorch, cuBLAS and Triton (python3 with them is needed). The checkpoint is that of
                                    `python3 tests/peers/random_checkpoint.py /tmp/random`
  cargo xtask bench --device cuda --results bench.json
                                    the same pages of what was measured elsewhere")]
pub(crate) struct Options {
    /// Measure the cases whose name contains this
    filter: Option<String>,
    /// Run these programs in rounds instead, and compare those of the same weights; `gyre` is ours
    #[arg(long, value_name = "ENGINE WEIGHTS=COMMAND", num_args = 1.., conflicts_with = "filter")]
    peers: Vec<Peer>,
    /// Time every kernel on this device: cuda, cuda:N, hip or hip:N
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["filter", "peers"])]
    device: Option<String>,
    /// With --device: also time the tokens of this checkpoint
    #[arg(long, value_name = "FOLDER", requires = "device")]
    checkpoint: Option<PathBuf>,
    /// With --device: measure nothing, take what was measured from this file
    #[arg(long, value_name = "FILE.json", requires = "device", conflicts_with = "checkpoint")]
    results: Option<PathBuf>,
    /// How often each program runs
    #[arg(long, value_name = "N", default_value_t = 3, requires = "peers", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The folder for the pages
    #[arg(long, value_name = "FOLDER", default_value = ".planning")]
    out: PathBuf,
}

/// What criterion found of one case.
#[derive(Debug, PartialEq)]
pub(crate) struct Measured {
    /// The group of the bench, and the case's name in its suite.
    name: String,
    /// Seconds of a run: the middle of all samples, and the interval in which it lies with a confidence of 95 %.
    seconds: f64,
    interval: [f64; 2],
    /// Elements of a run.
    elements: f64,
}

/// Runs the benches, and writes what they found.
///
/// # Errors
/// When a bench fails, or nothing was measured.
pub(crate) fn execute(options: &Options) -> Result<()> {
    let Options { filter, peers, device, checkpoint, results, rounds, out } = options;
    let out = &workspace_root().join(out);
    if let Some(device) = device {
        let text = match results {
            Some(file) => fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
            None => device::measure(device, checkpoint.as_deref())?,
        };
        let measured = device::Measured::from_json(&text)?;
        let platform = device.split(':').next().unwrap_or_default();
        let pages = [
            ("md", device_page::table(&measured, &text)),
            ("svg", device_page::plot(&measured)),
            ("json", text),
        ];
        return pages
            .into_iter()
            .try_for_each(|(end, text)| write(out, [(format!("bench-{platform}.{end}").as_str(), text)]));
    }
    if !peers.is_empty() {
        return peers::measure(peers, *rounds as usize, |compared| {
            write(out, [("peers.md", peers_page::table(compared)), ("peers.svg", peers_page::plot(compared))])
        });
    }
    let found = tempfile::tempdir()?;
    for name in CRATES {
        let mut command = cargo(&["bench", "--package", name, "--benches", "--"]);
        run(command.args(filter).env("CRITERION_HOME", found.path()))?;
    }
    let measured = read(found.path())?;
    ensure!(!measured.is_empty(), "no case was measured: no name of one contains {filter:?}");
    write(out, [("bench.md", page::table(&measured)), ("bench.svg", page::plot(&measured))])
}

fn write<const PAGES: usize>(folder: &Path, pages: [(&str, String); PAGES]) -> Result<()> {
    for (name, text) in pages {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Throughput,
}

#[derive(Deserialize)]
struct Throughput {
    #[serde(rename = "Elements")]
    elements: f64,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

/// In nanoseconds.
#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// What criterion left of each case in a folder, by name.
fn read(folder: &Path) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for entry in WalkDir::new(folder) {
        let path = entry?.into_path();
        if path.ends_with("new/benchmark.json") {
            measured.push(read_one(&path)?);
        }
    }
    measured.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(measured)
}

fn read_one(benchmark: &Path) -> Result<Measured> {
    let Benchmark { full_id, throughput } = from_json(benchmark)?;
    let Estimates { median } = from_json(&benchmark.with_file_name("estimates.json"))?;
    let Interval { lower_bound, upper_bound } = median.confidence_interval;
    let [seconds, lower, upper] = [median.point_estimate, lower_bound, upper_bound].map(|nanos| nanos * 1e-9);
    Ok(Measured { name: full_id, seconds, interval: [lower, upper], elements: throughput.elements })
}

fn from_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let told = || format!("reading {}", path.display());
    serde_json::from_slice(&fs::read(path).with_context(told)?).with_context(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criterion_leaves_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let case = folder.path().join("rope/a_b/new");
        fs::create_dir_all(&case).unwrap();
        let benchmark = r#"{"group_id":"rope","full_id":"rope/a/b","throughput":{"Elements":2000}}"#;
        fs::write(case.join("benchmark.json"), benchmark).unwrap();
        let interval = r#"{"confidence_level":0.95,"lower_bound":900.0,"upper_bound":1200.0}"#;
        let estimate =
            format!(r#"{{"median":{{"confidence_interval":{interval},"point_estimate":1000.0}}}}"#);
        fs::write(case.join("estimates.json"), estimate).unwrap();
        let measured = read(folder.path()).unwrap();
        assert_eq!(measured.len(), 1);
        let Measured { name, seconds, elements, .. } = &measured[0];
        assert_eq!((name.as_str(), *elements), ("rope/a/b", 2000.0));
        assert!((seconds - 1e-6).abs() < 1e-12, "{seconds}");
    }
}
