//! `cargo xtask seeded`: puts the faults of `tests/seeded/` into a copy of the workspace, one at a time, and requires that
//! the tests notice each. The user's tree is never edited.

mod list;
mod suite;
mod tree;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;

use self::list::Fault;
use self::suite::{Suite, Verdict};
use self::tree::Tree;
use crate::process::{print, workspace_root};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Lists of tests/seeded/ to take, such as `rope`; all if none is named
    areas: Vec<String>,
    /// Take this fault alone; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Take every Nth fault from the Kth on, so that N runs share the list
    #[arg(long, value_name = "K/N")]
    part: Option<Part>,
    /// Check the list and print it; put no fault in
    #[arg(long)]
    list: bool,
    /// Print an object of JSON for each fault, one a line
    #[arg(long)]
    json: bool,
}

/// One of several equal shares of the list.
#[derive(Clone, Copy)]
struct Part {
    index: usize,
    of: usize,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let parts =
            text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Part { index, of }),
            _ => Err(format!("K/N with 1 <= K <= N is expected, such as 1/8, and not {text}")),
        }
    }
}

/// What came of one fault.
struct Finding<'a> {
    fault: &'a Fault,
    outcome: Outcome,
    seconds: f64,
}

enum Outcome {
    /// By a suite, and its tests that failed or how it ended.
    Noticed {
        suite: String,
        by: Vec<String>,
    },
    Missed,
    Hung {
        suite: String,
    },
    DoesNotCompile {
        message: String,
    },
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Outcome::Noticed { .. } => "noticed",
            Outcome::Missed => "MISSED",
            Outcome::Hung { .. } => "HUNG",
            Outcome::DoesNotCompile { .. } => "DOES NOT COMPILE",
        }
    }
}

/// Runs the suites of the chosen faults on the unchanged copy, then once for each fault.
///
/// # Errors
/// When the list does not fit the sources, the unchanged code fails, or a fault is not noticed.
pub(crate) fn execute(options: &Options) -> Result<()> {
    let root = workspace_root();
    let faults = chosen(list::read(&root, &options.areas)?, options)?;
    if options.list {
        return print_list(&faults);
    }
    let (faults, not_run): (Vec<Fault>, Vec<Fault>) = faults.into_iter().partition(|fault| fault.is_run_here);
    let tree = Tree::copy_of(&root)?;
    let start = Instant::now();
    pass_unchanged(&tree, &faults)?;
    eprintln!(
        "the unchanged code passes ({:.1} s); {} faults follow",
        start.elapsed().as_secs_f64(),
        faults.len()
    );
    let mut missed = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        let finding = seed(&tree, fault)?;
        report(&finding, index + 1, faults.len(), options.json)?;
        if !matches!(finding.outcome, Outcome::Noticed { .. }) {
            missed.push(fault.name.as_str());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (noticed, all) = (faults.len() - missed.len(), faults.len());
    eprintln!("seeded: {noticed} of {all} faults noticed in {seconds:.0} s");
    if !not_run.is_empty() {
        let names = Vec::from_iter(not_run.iter().map(|fault| fault.name.as_str()));
        eprintln!(
            "seeded: {} not run, as this CPU does not run their code: {}",
            names.len(),
            names.join(", ")
        );
    }
    if !missed.is_empty() {
        bail!("not noticed by a failing test: {}", missed.join(", "));
    }
    Ok(())
}

fn chosen(mut faults: Vec<Fault>, options: &Options) -> Result<Vec<Fault>> {
    for name in &options.only {
        if !faults.iter().any(|fault| fault.name == *name) {
            bail!("no fault is named `{name}`; `cargo xtask seeded --list` names them");
        }
    }
    if !options.only.is_empty() {
        faults.retain(|fault| options.only.contains(&fault.name));
    }
    if let Some(Part { index, of }) = options.part {
        faults = faults.into_iter().skip(index - 1).step_by(of).collect();
    }
    Ok(faults)
}

fn print_list(faults: &[Fault]) -> Result<()> {
    for fault in faults {
        print(&format!("{:<9} {:<46} {}\n", fault.area, fault.name, fault.file))?;
    }
    print(&format!("{} faults\n", faults.len()))
}

/// Fails unless every suite that a fault names passes without it.
fn pass_unchanged(tree: &Tree, faults: &[Fault]) -> Result<()> {
    let suites: BTreeSet<&Suite> = faults.iter().flat_map(|fault| &fault.suites).collect();
    // A whole target says what each part of it would.
    for suite in suites.iter().filter(|suite| !suites.iter().any(|other| suite.is_part_of(other))) {
        eprintln!("unchanged: {suite}");
        match suite.run(tree)? {
            Verdict::Passed => {}
            Verdict::Failed(by) => bail!("{suite} fails without a fault: {}", by.join(", ")),
            Verdict::Hung => bail!("{suite} does not end without a fault"),
            Verdict::DoesNotCompile(message) => bail!("{suite} does not compile without a fault\n{message}"),
        }
    }
    Ok(())
}

/// Puts a fault in, asks its suites in order until one notices it, and takes it out again.
fn seed<'a>(tree: &Tree, fault: &'a Fault) -> Result<Finding<'a>> {
    let start = Instant::now();
    tree.write(&fault.file, &fault.changed)?;
    let asked = ask(tree, fault).with_context(|| format!("fault {}", fault.name));
    tree.write(&fault.file, &fault.original)?;
    Ok(Finding { fault, outcome: asked?, seconds: start.elapsed().as_secs_f64() })
}

fn ask(tree: &Tree, fault: &Fault) -> Result<Outcome> {
    for suite in &fault.suites {
        let name = suite.to_string();
        match suite.run(tree)? {
            Verdict::Passed => {}
            Verdict::Failed(by) => return Ok(Outcome::Noticed { suite: name, by }),
            Verdict::Hung if fault.hangs => {
                return Ok(Outcome::Noticed { suite: name, by: vec!["it does not end".to_owned()] });
            }
            Verdict::Hung => return Ok(Outcome::Hung { suite: name }),
            Verdict::DoesNotCompile(message) => return Ok(Outcome::DoesNotCompile { message }),
        }
    }
    Ok(Outcome::Missed)
}

fn report(finding: &Finding<'_>, number: usize, of: usize, as_json: bool) -> Result<()> {
    let Finding { fault, outcome, seconds } = finding;
    let by = match outcome {
        Outcome::Noticed { suite, by } => {
            let rest = by.len().saturating_sub(1);
            let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
            format!("{suite}: {}{more}", by.first().map_or("", String::as_str))
        }
        Outcome::Missed => fault.suites.iter().map(Suite::to_string).collect::<Vec<_>>().join(", "),
        Outcome::Hung { suite } => suite.clone(),
        Outcome::DoesNotCompile { message } => message.clone(),
    };
    eprintln!("[{number}/{of}] {} {} ({seconds:.1} s) {by}", outcome.name(), fault.name);
    if !as_json {
        return Ok(());
    }
    let (suite, tests) = match outcome {
        Outcome::Noticed { suite, by } => (Some(suite), by.as_slice()),
        _ => (None, [].as_slice()),
    };
    let line = json!({
        "name": fault.name, "area": fault.area, "file": fault.file, "outcome": outcome.name(),
        "suite": suite, "tests": tests, "seconds": seconds,
    });
    print(&format!("{line}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_make_up_the_whole() {
        assert!(
            ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3"].iter().all(|text| text.parse::<Part>().is_err())
        );
        let Part { index, of } = "2/7".parse().unwrap();
        assert_eq!((index, of), (2, 7));
        let names = || list::read(&workspace_root(), &[]).unwrap();
        let part = |index| Options {
            areas: Vec::new(),
            only: Vec::new(),
            part: Some(Part { index, of: 7 }),
            list: true,
            json: false,
        };
        let mut taken: Vec<String> = (1..=7)
            .flat_map(|index| chosen(names(), &part(index)).unwrap())
            .map(|fault| fault.name)
            .collect();
        let mut all: Vec<String> = names().into_iter().map(|fault| fault.name).collect();
        taken.sort();
        all.sort();
        assert_eq!(taken, all);
    }
}
