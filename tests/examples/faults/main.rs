//! Lets every HIP call of a model's life fail, in every way, and counts what goes wrong; `cargo xtask faults` runs it.

mod points;
mod sites;
mod subject;
mod verdict;

use std::io::Write;
use std::panic;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::points::{Point, points};
use crate::sites::{Phase, SITES, c_functions};
use crate::subject::{Answer, Subject};
use crate::verdict::{Rows, Tally};

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// `--every N` takes each N-th point, `--from K` beginning with the K-th.
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (every, from) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (1, 0),
        ["--every", every] => (every.parse().context("--every")?, 0),
        ["--every", every, "--from", from] => {
            (every.parse().context("--every")?, from.parse().context("--from")?)
        }
        _ => bail!("expected nothing or --every N [--from K], found {arguments:?}"),
    };
    ensure!(every > 0, "--every needs a number from 1 on");
    let subject = Subject::new()?;
    let (looked, answer) = without_a_fault(&subject)?;
    let all = points(&looked, &answer)?;
    let chosen = Vec::from_iter(all.iter().skip(from).step_by(every));
    // A panic is counted, and told in a line.
    panic::set_hook(Box::new(|panic| eprintln!("faults: {panic}")));
    let rows = sweep(&subject, &chosen, &answer)?;
    let _ = panic::take_hook();
    writeln!(std::io::stdout(), "{}", as_json(&rows, answer.met.calls.len(), all.len()))?;
    Ok(())
}

/// What runs without a fault call, each of which every site of the sources is held to.
fn without_a_fault(subject: &Subject) -> Result<(Vec<&'static str>, Answer)> {
    let looked = subject.examine(None)?;
    let answer = subject.answer(None, Duration::from_secs(60))?;
    ensure!(
        answer.failed_after.is_none() && answer.told == answer.tokens,
        "the answer without a fault is wrong"
    );
    ensure!(answer.tokens == subject.without_graphs()?, "graphs change the answer");
    let (held, strange, blocked) = (&answer.met.held, &answer.met.strange, &answer.met.blocked);
    ensure!(held.is_empty() && strange.is_empty() && blocked.is_empty(), "{held:?} {strange:?} {blocked:?}");
    for site in SITES {
        let Ok(phase) = site.met else { continue };
        for call in c_functions(site.function) {
            let is_met = match phase {
                Phase::Doctor => looked.calls.contains(call),
                phase => {
                    let calls = answer.met.calls.iter().enumerate();
                    let of_phase =
                        calls.filter(|(index, _)| answer.phase_of(index + 1).is_ok_and(|of| of == phase));
                    of_phase.into_iter().any(|(_, made)| made == call)
                }
            };
            let (file, times) = (site.file, site.times);
            ensure!(is_met, "{file} calls {call} in {times} places, but no run does in {phase:?}");
        }
    }
    Ok((looked.calls, answer))
}

fn sweep(subject: &Subject, chosen: &[&Point], answer: &Answer) -> Result<Rows> {
    let (start, mut told) = (Instant::now(), Instant::now());
    let (mut rows, mut shown) = (Rows::new(), 0);
    for (index, point) in chosen.iter().enumerate() {
        let tally = verdict::judge(subject, point, &answer.tokens).with_context(|| format!("{point:?}"))?;
        if tally.faults().iter().any(|(_, count)| *count > 0) && shown < 20 {
            shown += 1;
            eprintln!("faults: {point:?}: {tally:?}");
        }
        rows.entry((point.phase, verdict::name(point.fault.mode))).or_default().add(tally);
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            eprintln!(
                "faults: {} of {} points in {:.0} s",
                index + 1,
                chosen.len(),
                start.elapsed().as_secs_f64()
            );
        }
    }
    Ok(rows)
}

fn as_json(rows: &Rows, calls: usize, points: usize) -> Value {
    let row = |(&(phase, mode), tally): (&(Phase, &str), &Tally)| json!({ "phase": format!("{phase:?}").to_lowercase(), "mode": mode, "tally": tally });
    json!({ "calls": calls, "points_in_all": points, "rows": rows.iter().map(row).collect::<Vec<_>>() })
}
