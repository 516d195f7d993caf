//! `cargo xtask faults`: every HIP call of a model's life fails, in every way, and nothing else may go wrong.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::process::{Program, cargo, print, workspace_root};

/// The fewest points of a whole sweep.
const LEAST: u64 = 20_000;
/// One in so many of the points is tried in CI.
const SOME: usize = 199;
/// Processes of a whole sweep.
const SLICES: usize = 32;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Try one in 199 of the points in this process's reach alone, as CI does beside the tests
    #[arg(long)]
    some: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Counts of one phase and mode, by name.
type Counts = BTreeMap<String, u64>;
type Table = BTreeMap<(String, String), Counts>;

/// Sweeps, prints a table, and fails unless all that should be 0 is.
///
/// # Errors
/// When something is not 0, a part cannot run, or the whole sweep has too few points.
pub(crate) fn execute(&Options { some, json }: &Options) -> Result<()> {
    let start = Instant::now();
    let (mut table, calls) = if some { sweep(SOME, 2) } else { sweep(1, SLICES) }?;
    if !some {
        for suite in [["--bin", "glm", "selfcheck::wrong"], ["--test", "supervise", "any_call_may"]] {
            add_suite(&mut table, &suite)?;
        }
    }
    let points = sum(&table, "points");
    let wrong = table
        .values()
        .flatten()
        .filter(|(name, _)| should_be_zero(name))
        .map(|(_, count)| count)
        .sum::<u64>();
    let seconds = start.elapsed().as_secs_f64();
    match json {
        true => print(&format!("{}\n", as_json(&table, calls, seconds)))?,
        false => print(&as_text(&table, calls, seconds))?,
    }
    ensure!(some || points >= LEAST, "{points} points are fewer than {LEAST}");
    if wrong > 0 { bail!("faults: {wrong} of what should be 0; the points are named above") } else { Ok(()) }
}

/// As `--some`.
///
/// # Errors
/// As [`execute`].
pub(crate) fn check_some() -> Result<()> {
    execute(&Options { some: true, json: false })
}

/// Names of counts that are no fault.
fn should_be_zero(name: &str) -> bool {
    !matches!(name, "points" | "stayed" | "ended_on_cpu")
}

fn sum(table: &Table, name: &str) -> u64 {
    table.values().filter_map(|counts| counts.get(name)).sum()
}

/// One in `share` of the points, in processes side by side, each of which ends before what its lost devices held is too much;
/// also how many calls a run makes.
fn sweep(share: usize, slices: usize) -> Result<(Table, u64)> {
    let program = Program::Example("faults").command()?;
    let (every, folder) = (share * slices, workspace_root());
    let slice = |slice: usize| -> Result<Value> {
        let mut command = Command::new(program.get_program());
        command.args(["--every", &every.to_string(), "--from", &(slice * share).to_string()]);
        let output = command.current_dir(&folder).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "a part of the sweep failed ({})", output.status);
        serde_json::from_slice(&output.stdout).context("what the sweep says")
    };
    let found = (0..slices).into_par_iter().map(slice).collect::<Result<Vec<_>>>()?;
    let (mut table, mut calls) = (Table::new(), 0);
    for part in found {
        calls = part.get("calls").and_then(Value::as_u64).unwrap_or(0);
        for row in part.get("rows").and_then(Value::as_array).into_iter().flatten() {
            let tally = row.get("tally").and_then(Value::as_object).context("a row has no tally")?;
            let counts = tally.iter().filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
            add(&mut table, row, counts)?;
        }
    }
    Ok((table, calls))
}

/// Adds counts to the row of the phase and mode that `of` names.
fn add(table: &mut Table, of: &Value, counts: impl Iterator<Item = (String, u64)>) -> Result<()> {
    let text = |key| of.get(key).and_then(Value::as_str).map(str::to_owned);
    let key = text("phase").zip(text("mode")).context("a row has no phase or mode")?;
    let row = table.entry(key).or_default();
    counts.for_each(|(name, count)| *row.entry(name).or_default() += count);
    Ok(())
}

/// Runs a test that counts points of its own, and says them in a line. One that fails is told with the others' figures.
fn add_suite(table: &mut Table, suite: &[&str; 3]) -> Result<()> {
    let &[kind, target, filter] = suite;
    let mut command = cargo(&["test", "--workspace", kind, target, filter, "--", "--nocapture"]);
    command.env("FAULTS_FULL", "1").stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("running {target}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        eprintln!("{said}\n{target} {filter} failed ({})", output.status);
    }
    let row = suite_row(filter, &said, output.status.success())?;
    let count = |name: &str| Some((name.to_owned(), row.get(name)?.as_u64()?));
    add(table, &row, ["points", "missed", "panics"].into_iter().filter_map(count))
}

/// What a suite counts in what it said. One that counts nothing, or fails although it missed nothing, has panicked.
fn suite_row(filter: &str, said: &str, passed: bool) -> Result<Value> {
    let counts = said.lines().find_map(|line| line.split_once("faults: ").map(|(_, counts)| counts));
    let Some(counts) = counts else {
        return Ok(json!({ "phase": filter, "mode": "", "panics": 1 }));
    };
    let mut row: Value = serde_json::from_str(counts).context("what a suite counts")?;
    let missed = row.get("missed").and_then(Value::as_u64).unwrap_or(0);
    row["panics"] = json!(u64::from(!passed && missed == 0));
    Ok(row)
}

fn as_json(table: &Table, calls: u64, seconds: f64) -> Value {
    let row = |((phase, mode), counts): (&(String, String), &Counts)| json!({ "phase": phase, "mode": mode, "counts": counts });
    json!({
        "calls_of_a_run": calls,
        "points": sum(table, "points"),
        "seconds": seconds,
        "rows": table.iter().map(row).collect::<Vec<_>>(),
    })
}

/// Columns of the table, of which the last sums up what should be 0.
const COLUMNS: [&str; 9] =
    ["points", "wrong", "tokens", "leaks", "panics", "waits", "after loss", "late writes", "missed"];

fn cells(counts: &Counts) -> [u64; 9] {
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    [
        count("points"),
        count("wrong_answers"),
        count("tokens_lost_or_doubled"),
        count("leaks"),
        count("panics"),
        count("waits_past_deadline"),
        count("calls_after_loss"),
        count("late_writes"),
        count("missed") + count("not_met"),
    ]
}

fn as_text(table: &Table, calls: u64, seconds: f64) -> String {
    let line = |phase: &str, mode: &str, cells: [String; 9]| {
        let cells: String = cells
            .iter()
            .zip(COLUMNS)
            .map(|(cell, name)| format!(" {cell:>width$}", width = name.len().max(6)))
            .collect();
        format!("{phase:9} {mode:8}{cells}\n")
    };
    let mut text = line("phase", "mode", COLUMNS.map(str::to_owned));
    let mut all = [0; 9];
    for ((phase, mode), counts) in table {
        let row = cells(counts);
        all.iter_mut().zip(row).for_each(|(sum, cell)| *sum += cell);
        text += &line(phase, mode, row.map(|cell| cell.to_string()));
    }
    text += &line("all", "", all.map(|cell| cell.to_string()));
    text + &format!("{calls} calls of a run; {seconds:.0} s\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_fails_is_never_a_row_of_zeros() {
        let wrong = |said: &str, passed: bool| {
            let row = suite_row("any_call", said, passed).unwrap();
            ["missed", "panics"].map(|name| row.get(name).and_then(Value::as_u64).unwrap_or(0))
        };
        let counts =
            |missed: u64| format!("running 1 test\nfaults: {{\"points\": 9, \"missed\": {missed}}}\nok");
        assert_eq!(wrong(&counts(0), true), [0, 0]);
        assert_eq!(wrong(&counts(7), false), [7, 0]);
        assert_eq!(wrong(&counts(0), false), [0, 1]);
        assert_eq!(wrong("running 0 tests", true), [0, 1]);
        assert!(suite_row("any_call", "faults: 9 points", true).is_err());
    }
}
