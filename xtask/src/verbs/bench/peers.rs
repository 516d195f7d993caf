//! `cargo xtask bench --peers`: whole programs on the same work, side by side.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::str::FromStr;
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A program to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Whose program it is; `gyre` is ours.
    engine: String,
    /// What the weights are held in. Programs of the same are compared.
    weights: String,
    /// What a shell runs.
    command: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let expected = || format!("expected `ENGINE WEIGHTS=COMMAND`, found {text:?}");
        let (name, command) = text.split_once('=').ok_or_else(expected)?;
        let (engine, weights) = name.rsplit_once(' ').ok_or_else(expected)?;
        let [engine, weights, command] = [engine, weights, command].map(|part| part.trim().to_owned());
        if engine.is_empty() || weights.is_empty() || command.is_empty() {
            return Err(expected());
        }
        Ok(Peer { engine, weights, command })
    }
}

/// A line that a program prints: the figures of a model, which stand in its last object, or one operation.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Model {
        prefill_tps: f64,
        decode_tps: BTreeMap<String, Rate>,
        load_to_first_token_s: f64,
        peak_rss_kib: f64,
    },
    /// `case` is the engine's name, that of the operation, and the number of threads.
    Operation { case: String, median_us: f64 },
    /// What could not be measured, say.
    Other {},
}

#[derive(Deserialize)]
struct Rate {
    median: Option<f64>,
    mean: f64,
}

/// Figures by name, as they are shown.
type Figures = Vec<(String, f64)>;

impl Line {
    fn figures(self) -> Figures {
        match self {
            Line::Model { prefill_tps, decode_tps, load_to_first_token_s, peak_rss_kib } => {
                let mut figures = vec![(String::from("prompt, tokens/s"), prefill_tps)];
                for (depth, rate) in decode_tps {
                    let name = format!("after {}, tokens/s", depth.trim_start_matches('d'));
                    figures.push((name, rate.median.unwrap_or(rate.mean)));
                }
                figures.sort_by_key(|(name, _)| (!name.starts_with("prompt"), name.len(), name.clone()));
                figures.push((String::from("load, s"), load_to_first_token_s));
                figures.push((String::from("peak, MiB"), peak_rss_kib / 1024.0));
                figures
            }
            Line::Operation { case, median_us } => {
                let words = Vec::from_iter(case.split_whitespace());
                let name = words.get(1..words.len().saturating_sub(1)).unwrap_or_default().join(" ");
                vec![(format!("{name}, us"), median_us)]
            }
            Line::Other {} => Figures::new(),
        }
    }
}

/// One run of a program.
#[derive(Clone, Debug)]
struct Run {
    figures: Figures,
    /// What other processes used of the machine meanwhile.
    others: f64,
}

/// The medians of a program's calm runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compared {
    pub(crate) engine: String,
    pub(crate) weights: String,
    /// Tokens a second come first.
    pub(crate) figures: Figures,
    /// The most that others used in a run that counts, and how many count.
    pub(crate) others: f64,
    pub(crate) runs: usize,
}

/// The share of the machine below which a run counts as calm.
const CALM: f64 = 0.10;
/// Runs begin when others used less than this for three seconds, or after so many.
const QUIET: f64 = 0.15;
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs each program once a round, in an order that the round turns, and tells `so_far` what is known after each run.
///
/// # Errors
/// When a program fails, or does not print what it should.
pub(crate) fn measure(
    peers: &[Peer],
    rounds: usize,
    mut so_far: impl FnMut(&[Compared]) -> Result<()>,
) -> Result<()> {
    let mut runs = vec![Vec::new(); peers.len()];
    for round in 0..rounds {
        for place in 0..peers.len() {
            let index = (place + round) % peers.len();
            let peer = &peers[index];
            wait_until_quiet()?;
            let run = run(peer).with_context(|| format!("running `{}`", peer.command))?;
            eprintln!(
                "round {round}: {} {}: others used {:.0} %",
                peer.engine,
                peer.weights,
                100.0 * run.others
            );
            runs[index].push(run);
            let known = peers.iter().zip(&runs).filter(|(_, runs)| !runs.is_empty());
            so_far(&known.map(|(peer, runs)| compared(peer, runs)).collect::<Result<Vec<_>>>()?)?;
        }
    }
    Ok(())
}

fn run(peer: &Peer) -> Result<Run> {
    let (before, start) = (Ticks::now()?, Instant::now());
    let output = Command::new("sh").args(["-c", &peer.command]).output()?;
    let elapsed = start.elapsed();
    let others = Ticks::now()?.others_since(&before, elapsed);
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it failed ({}): {}", output.status, told.trim());
    let stdout = String::from_utf8_lossy(&output.stdout);
    let objects = stdout.lines().filter(|line| line.starts_with('{'));
    let lines = objects.map(|line| serde_json::from_str(line).with_context(|| format!("reading {line}")));
    let figures = Vec::from_iter(lines.collect::<Result<Vec<Line>>>()?.into_iter().flat_map(Line::figures));
    ensure!(!figures.is_empty(), "it printed no JSON object with a figure");
    Ok(Run { figures, others })
}

fn compared(peer: &Peer, runs: &[Run]) -> Result<Compared> {
    let mut runs = runs.to_vec();
    runs.sort_by(|one, other| one.others.total_cmp(&other.others));
    let calm = runs.iter().take_while(|run| run.others <= CALM).count().max(1);
    runs.truncate(calm);
    let last = runs.last().context("no round was run")?;
    let median = |name: &str| {
        let same = runs.iter().flat_map(|run| &run.figures).filter(|figure| figure.0 == name);
        let mut values = Vec::from_iter(same.map(|figure| figure.1));
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let figures = last.figures.iter().map(|(name, _)| (name.clone(), median(name))).collect();
    let Peer { engine, weights, .. } = peer.clone();
    Ok(Compared { engine, weights, figures, others: last.others, runs: calm })
}

/// Clock ticks of the machine and of the children that this process has waited for.
struct Ticks {
    busy: f64,
    ours: f64,
}

/// Linux counts a hundred in a second.
const TICKS: f64 = 100.0;

impl Ticks {
    fn now() -> Result<Ticks> {
        let (machine, own) = (fs::read_to_string("/proc/stat")?, fs::read_to_string("/proc/self/stat")?);
        let cpu = machine.lines().next().unwrap_or_default();
        let cpu =
            Vec::from_iter(cpu.split_whitespace().skip(1).filter_map(|field| field.parse::<f64>().ok()));
        let idle: f64 = cpu.iter().skip(3).take(2).sum();
        // Behind the name, which may hold spaces, the 14th and 15th fields are those of children.
        let fields = own.rsplit(')').next().unwrap_or_default();
        let children = fields.split_whitespace().skip(13).take(2);
        let ours = children.filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(Ticks { busy: cpu.iter().take(8).sum::<f64>() - idle, ours })
    }

    fn others_since(&self, before: &Ticks, elapsed: Duration) -> f64 {
        let cores = available_parallelism().map_or(1, usize::from) as f64;
        let others = (self.busy - before.busy) - (self.ours - before.ours);
        (others / TICKS / elapsed.as_secs_f64() / cores).max(0.0)
    }
}

fn wait_until_quiet() -> Result<()> {
    const SECOND: Duration = Duration::from_secs(1);
    let (start, mut quiet) = (Instant::now(), 0);
    while quiet < 3 && start.elapsed() < PATIENCE {
        let before = Ticks::now()?;
        sleep(SECOND);
        quiet = if Ticks::now()?.others_since(&before, SECOND) < QUIET { quiet + 1 } else { 0 };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_its_engine_and_its_weights() {
        let peer: Peer = "llama.cpp q8_0=python peer.py bench a=b.gguf".parse().unwrap();
        assert_eq!((peer.engine.as_str(), peer.weights.as_str()), ("llama.cpp", "q8_0"));
        assert_eq!(peer.command, "python peer.py bench a=b.gguf");
        for wrong in ["gyre", "gyre=x", "gyre q8_0=", " q8_0=x"] {
            assert!(wrong.parse::<Peer>().unwrap_err().contains("ENGINE WEIGHTS=COMMAND"), "{wrong}");
        }
    }

    #[test]
    fn medians_are_of_calm_runs() {
        let line = |rate: f64| {
            format!(
                r#"{{"prefill_tps": {rate}, "decode_tps": {{"d4096": {{"mean": 1, "median": {rate}}}, "d512": {{"mean": 7, "median": null}}}},
                "load_to_first_token_s": 0.5, "peak_rss_kib": 2048}}"#
            )
        };
        let figures = |rate| serde_json::from_str::<Line>(&line(rate)).unwrap().figures();
        let run = |(rate, others): (f64, f64)| Run { figures: figures(rate), others };
        let runs = Vec::from_iter([(10.0, 0.02), (900.0, 0.5), (12.0, 0.0), (11.0, 0.1)].map(run));
        let peer = "gyre f32=glm".parse().unwrap();
        let Compared { figures, others, runs, .. } = compared(&peer, &runs).unwrap();
        let names = Vec::from_iter(figures.iter().map(|(name, _)| name.as_str()));
        assert_eq!(
            names,
            ["prompt, tokens/s", "after 512, tokens/s", "after 4096, tokens/s", "load, s", "peak, MiB"]
        );
        assert_eq!(Vec::from_iter(figures.iter().map(|figure| figure.1)), [11.0, 7.0, 11.0, 0.5, 2.0]);
        assert_eq!((runs, others), (3, 0.1));
    }

    #[test]
    fn a_program_is_run_and_its_last_object_read() {
        let object = r#"{"prefill_tps":2,"decode_tps":{},"load_to_first_token_s":1,"peak_rss_kib":3}"#;
        let peer: Peer = format!("gyre f32=echo '{{}}'; echo '{object}'; echo done").parse().unwrap();
        assert_eq!(run(&peer).unwrap().figures[0], (String::from("prompt, tokens/s"), 2.0));
        let lines = r#"{"case":"ggml gemv 2x3 f32 2t","bytes":1,"median_us":7}"#;
        let peer: Peer = format!("ggml operations=echo '{lines}'; echo '{{\"error\":1}}'").parse().unwrap();
        assert_eq!(run(&peer).unwrap().figures, [(String::from("gemv 2x3 f32, us"), 7.0)]);
        let fails: Peer = "gyre f32=echo because >&2; exit 3".parse().unwrap();
        assert!(run(&fails).unwrap_err().to_string().contains("because"));
        let silent: Peer = "gyre f32=true".parse().unwrap();
        assert!(run(&silent).unwrap_err().to_string().contains("no JSON object"));
    }
}
