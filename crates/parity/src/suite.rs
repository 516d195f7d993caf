//! Suites: lists of named cases of which any can be run alone, with one line that says what ran where.

use std::collections::BTreeSet;
use std::env;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use thiserror::Error;

use crate::SplitMix64;

/// Runs only the cases whose name contains this text, or the one case whose whole name it is.
pub const PARITY_CASE: &str = "PARITY_CASE";
/// Seeds the data of all cases.
pub const PARITY_SEED: &str = "PARITY_SEED";
/// `1` runs every case on every device, `0` what fits a test run.
pub const PARITY_FULL: &str = "PARITY_FULL";
/// So many inputs are drawn where a suite draws them, in the place of its own number.
pub const PARITY_TRIES: &str = "PARITY_TRIES";

/// Failures that are printed; further ones are counted.
const PRINTED_FAILURES: usize = 20;

/// Why a suite cannot run as it was asked to. A test fails on it: nothing is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// A variable has another value than it may have.
    #[error("{variable} must be {expected}, but is {found:?}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// No case has a name that contains the text.
    #[error("{suite}: no name of {listed} cases contains {PARITY_CASE}={text:?}")]
    NoCase {
        /// The suite.
        suite: &'static str,
        /// Cases in the list.
        listed: usize,
        /// The text.
        text: String,
    },
    /// Two cases have one name, so that it does not tell which is meant.
    #[error("{suite}: two cases are called {name:?}")]
    SameName {
        /// The suite.
        suite: &'static str,
        /// The name.
        name: String,
    },
}

/// How one suite is to be run, from the environment: which cases, with which data, and how much of them.
///
/// ```
/// use parity::{Suite, Tally, uniform};
///
/// let suite = Suite::from_env("sums", "cargo test -p sums --test suite")?;
/// let lengths = [1, 2, 1000];
/// let names = lengths.map(|length| format!("f32/{length}"));
/// let chosen = suite.select(&names)?;
/// let mut tally = Tally::new(["cpu".to_owned()]);
/// for &case in &chosen {
///     let values = uniform::<f32>(suite.case_seed(&names[case]), lengths[case]);
///     let (forwards, backwards) = (values.iter().sum::<f32>(), values.iter().rev().sum::<f32>());
///     if (forwards - backwards).abs() < 0.01 {
///         tally.passed(0);
///     } else {
///         tally.failed(suite.failure(&names[case], &format!("{forwards} is not {backwards}")));
///     }
/// }
/// suite.finish(names.len(), chosen.len(), &tally);
/// # Ok::<(), parity::SuiteError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    name: &'static str,
    /// What runs the suite from a shell.
    command: &'static str,
    case: Option<String>,
    seed: u64,
    full: bool,
    tries: Option<u64>,
}

impl Suite {
    /// A suite that `command` runs from a shell, with [`PARITY_CASE`], [`PARITY_SEED`] (0 where it is not set),
    /// [`PARITY_FULL`] and [`PARITY_TRIES`] of the environment.
    ///
    /// # Errors
    /// [`SuiteError::Variable`].
    pub fn from_env(name: &'static str, command: &'static str) -> Result<Suite, SuiteError> {
        Suite::new(name, command, |variable| env::var_os(variable).map(|value| value.display().to_string()))
    }

    fn new(
        name: &'static str,
        command: &'static str,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Suite, SuiteError> {
        let refused = |variable, expected, found| SuiteError::Variable { variable, expected, found };
        let number = |name| match variable(name) {
            None => Ok(None),
            Some(text) => {
                text.parse().map(Some).map_err(|_| refused(name, "a whole number below 2^64", text))
            }
        };
        let full = match variable(PARITY_FULL).as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(refused(PARITY_FULL, "0 or 1", other.to_owned())),
        };
        let (seed, tries) = (number(PARITY_SEED)?.unwrap_or(0), number(PARITY_TRIES)?);
        Ok(Suite { name, command, case: variable(PARITY_CASE), seed, full, tries })
    }

    /// Whether every case is to run on every device.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// How many inputs to draw: [`PARITY_TRIES`], else `full` where every case is to run, else `few`.
    pub fn tries(&self, few: u64, full: u64) -> u64 {
        self.tries.unwrap_or(if self.full { full } else { few })
    }

    /// What the data of all cases are seeded with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The seed of one case's data: of the name and the suite's seed alone, so that a case that is run alone has the data
    /// that it has among others.
    pub fn case_seed(&self, name: &str) -> u64 {
        // FNV-1a, then mixed with the seed.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        SplitMix64::new(hash ^ SplitMix64::new(self.seed).next_u64()).next_u64()
    }

    /// The indices of the cases that are to run, in order.
    ///
    /// # Errors
    /// [`SuiteError::NoCase`], [`SuiteError::SameName`].
    pub fn select(&self, names: &[String]) -> Result<Vec<usize>, SuiteError> {
        let mut seen = BTreeSet::new();
        if let Some(name) = names.iter().find(|&name| !seen.insert(name)) {
            return Err(SuiteError::SameName { suite: self.name, name: name.clone() });
        }
        let Some(text) = &self.case else { return Ok((0..names.len()).collect()) };
        let chosen = match names.iter().position(|name| name == text) {
            Some(whole) => vec![whole],
            None => (0..names.len()).filter(|&case| names[case].contains(text)).collect(),
        };
        if chosen.is_empty() {
            return Err(SuiteError::NoCase { suite: self.name, listed: names.len(), text: text.clone() });
        }
        Ok(chosen)
    }

    /// Which of `cases` cases run on a device that has no time for all: at most `limit`, one drawn by the seed from each of
    /// `limit` equal stretches of the list, so that no period of the list is favoured. All of them where [`PARITY_FULL`] is
    /// set or the limit is not reached.
    pub fn part(&self, cases: usize, limit: usize) -> Vec<bool> {
        if self.full || cases <= limit {
            return vec![true; cases];
        }
        let mut random = SplitMix64::new(self.seed);
        let mut part = vec![false; cases];
        for stretch in 0..limit {
            let (start, end) = (stretch * cases / limit, (stretch + 1) * cases / limit);
            let drawn = random.below(u32::try_from(end - start).unwrap_or(u32::MAX));
            part[start + drawn as usize] = true;
        }
        part
    }

    /// One line about a case that failed: its name, the seed, what is wrong, and what runs it alone.
    pub fn failure(&self, name: &str, what: &dyn fmt::Display) -> String {
        let Suite { name: suite, command, seed, .. } = self;
        format!(
            "{suite}: {name} (seed {seed}): {what}; alone: {PARITY_CASE}='{name}' {PARITY_SEED}={seed} {command}"
        )
    }

    /// What ran where, in one line. What did not run stands apart from what passed.
    pub fn summary(&self, listed: usize, chosen: usize, tally: &Tally) -> String {
        let mut line = format!("{}: seed {}: ", self.name, self.seed);
        if chosen == listed {
            let _ = write!(line, "{} cases: ", grouped(listed));
        } else {
            let _ = write!(line, "{} of {} cases: ", grouped(chosen), grouped(listed));
        }
        let ran = tally.passed.iter().map(|(device, passed)| format!("{device} {}", grouped(*passed)));
        line += &ran.collect::<Vec<_>>().join(", ");
        if !tally.failures.is_empty() {
            let _ = write!(line, "; failed: {}", grouped(tally.failures.len()));
        }
        let missing = tally.not_run.iter().filter(|(_, cases)| *cases > 0);
        let missing = missing.map(|(device, cases)| format!("{} on {device}", grouped(*cases)));
        let missing = missing.collect::<Vec<_>>().join(", ");
        line = line + "; not run: " + if missing.is_empty() { "none" } else { &missing };
        if let Some(share) = tally.worst_share {
            let _ = write!(line, "; worst error {share:.3} of its bound");
        }
        line
    }

    /// Writes the summary to stderr, where it is seen even if the test passes.
    ///
    /// # Panics
    /// Where a case failed, with the first failures, or none ran, as an assertion of the calling test.
    pub fn finish(&self, listed: usize, chosen: usize, tally: &Tally) {
        let summary = self.summary(listed, chosen, tally);
        // Not by a macro: those are captured where a test passes. Without a stderr there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{summary}");
        let failures = &tally.failures;
        let printed = failures.iter().take(PRINTED_FAILURES).map(String::as_str).collect::<Vec<_>>();
        let more = match failures.len().saturating_sub(PRINTED_FAILURES) {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        assert!(failures.is_empty(), "{summary}\n{}{more}", printed.join("\n"));
        assert!(tally.passed.iter().any(|(_, passed)| *passed > 0), "{summary}: nothing ran");
    }
}

/// What ran on each device of a suite, what did not, and what failed. Workers keep one each and [`add`](Tally::add) them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// Cases that passed on each device.
    passed: Vec<(String, usize)>,
    not_run: Vec<(String, usize)>,
    failures: Vec<String>,
    /// The largest error as a share of its bound.
    worst_share: Option<f64>,
}

impl Tally {
    /// Nothing yet, on these devices. They are counted from 0 below.
    pub fn new(devices: impl IntoIterator<Item = String>) -> Tally {
        let passed = devices.into_iter().map(|device| (device, 0)).collect::<Vec<_>>();
        Tally { not_run: passed.clone(), passed, failures: Vec::new(), worst_share: None }
    }

    /// A case ran on a device and passed there.
    ///
    /// # Panics
    /// Where there is no such device.
    pub fn passed(&mut self, device: usize) {
        self.passed[device].1 += 1;
    }

    /// A case was left out on a device.
    ///
    /// # Panics
    /// Where there is no such device.
    pub fn not_run(&mut self, device: usize) {
        self.not_run[device].1 += 1;
    }

    /// A case failed, as [`Suite::failure`] says.
    pub fn failed(&mut self, line: String) {
        self.failures.push(line);
    }

    /// A case came this near to its bound: [`Report::worst_share`](crate::Report::worst_share). The summary tells the largest.
    pub fn share(&mut self, share: f64) {
        self.worst_share = Some(self.worst_share.map_or(share, |worst| worst.max(share)));
    }

    /// Runs `items` items on as many threads as there are cores, each of which takes the next one with a worker of its own, and
    /// adds what the workers counted.
    ///
    /// # Panics
    /// Where a worker did, as it did.
    pub fn share_out<W>(
        &mut self,
        items: usize,
        new: impl Fn() -> W + Sync,
        run: impl Fn(&mut W, usize) + Sync,
        counted: impl Fn(W) -> Tally + Sync,
    ) {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut worker = new();
            loop {
                let item = next.fetch_add(1, Ordering::Relaxed);
                if item >= items {
                    return counted(worker);
                }
                run(&mut worker, item);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let workers = Vec::from_iter((0..threads).map(|_| scope.spawn(work)));
            for worker in workers {
                match worker.join() {
                    Ok(tally) => self.add(tally),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }

    /// Adds what another worker counted on the same devices.
    pub fn add(&mut self, other: Tally) {
        if let Some(share) = other.worst_share {
            self.share(share);
        }
        let counts = self.passed.iter_mut().chain(&mut self.not_run);
        for ((_, count), (_, more)) in counts.zip(other.passed.iter().chain(&other.not_run)) {
            *count += more;
        }
        self.failures.extend(other.failures);
    }
}

/// A count with its thousands apart: `33,120`.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(variables: &[(&str, &str)]) -> Result<Suite, SuiteError> {
        let find = |name| variables.iter().find(|(variable, _)| *variable == name);
        Suite::new("sums", "cargo test -p sums", |name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_text_chooses_the_names_that_contain_it_and_a_whole_name_itself() {
        let listed = names(&["a/f32", "a/f32/far", "b/f16"]);
        assert_eq!(suite(&[]).unwrap().select(&listed).unwrap(), [0, 1, 2]);
        let select = |text| suite(&[(PARITY_CASE, text)]).unwrap().select(&listed);
        assert_eq!(select("f32/"), Ok(vec![1]));
        assert_eq!(select("f"), Ok(vec![0, 1, 2]));
        assert_eq!(select("a/f32"), Ok(vec![0]));
        let none = SuiteError::NoCase { suite: "sums", listed: 3, text: "bf16".to_owned() };
        assert_eq!(select("bf16"), Err(none));
        let twice = suite(&[]).unwrap().select(&names(&["a", "b", "a"]));
        assert_eq!(twice, Err(SuiteError::SameName { suite: "sums", name: "a".to_owned() }));
    }

    #[test]
    fn variables_with_other_values_are_refused() {
        let wrong = [(PARITY_SEED, "x"), (PARITY_SEED, "-1"), (PARITY_FULL, "yes"), (PARITY_TRIES, "many")];
        for (variable, value) in wrong {
            let refused = suite(&[(variable, value)]).unwrap_err();
            assert!(matches!(refused, SuiteError::Variable { .. }), "{refused}");
            assert!(refused.to_string().contains(variable) && refused.to_string().contains(value));
        }
        let set = suite(&[(PARITY_SEED, "7"), (PARITY_FULL, "1")]).unwrap();
        assert_eq!((set.seed(), set.is_full()), (7, true));
        assert_eq!(set.tries(5, 50), 50);
        assert_eq!(suite(&[(PARITY_TRIES, "9"), (PARITY_FULL, "1")]).unwrap().tries(5, 50), 9);
        let unset = suite(&[]).unwrap();
        assert_eq!((unset.seed(), unset.is_full(), unset.tries(5, 50)), (0, false, 5));
    }

    #[test]
    fn data_depend_on_name_and_seed_alone() {
        let [first, second] = ["1", "2"].map(|seed| suite(&[(PARITY_SEED, seed)]).unwrap());
        let alone = suite(&[(PARITY_SEED, "1"), (PARITY_CASE, "a")]).unwrap();
        assert_eq!(first.case_seed("a"), alone.case_seed("a"));
        let seeds =
            [first.case_seed("a"), first.case_seed("b"), second.case_seed("a"), second.case_seed("b")];
        assert_eq!(seeds.iter().collect::<BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn a_part_takes_one_of_each_stretch() {
        let [first, second] = ["1", "2"].map(|seed| suite(&[(PARITY_SEED, seed)]).unwrap());
        for (cases, limit) in [(1000, 10), (1003, 17), (5, 4), (100, 99)] {
            let part = first.part(cases, limit);
            assert_eq!(part.len(), cases);
            for stretch in 0..limit {
                let range = stretch * cases / limit..(stretch + 1) * cases / limit;
                assert_eq!(part[range].iter().filter(|&&runs| runs).count(), 1, "{cases} {limit}");
            }
        }
        assert_ne!(first.part(1000, 10), second.part(1000, 10));
        assert_eq!(first.part(10, 10), [true; 10]);
        assert_eq!(suite(&[(PARITY_FULL, "1")]).unwrap().part(1000, 10), [true; 1000]);
    }

    #[test]
    fn the_summary_keeps_what_did_not_run_apart() {
        let suite = suite(&[(PARITY_SEED, "5")]).unwrap();
        let mut tally = Tally::new(names(&["cpu", "emu gfx1100"]));
        let mut worker = tally.clone();
        (0..2000).for_each(|_| tally.passed(0));
        (0..1000).for_each(|_| worker.passed(0));
        worker.passed(1);
        (0..2999).for_each(|_| worker.not_run(1));
        tally.share(0.5);
        worker.share(0.8754);
        tally.add(worker);
        assert_eq!(
            suite.summary(3000, 3000, &tally),
            "sums: seed 5: 3,000 cases: cpu 3,000, emu gfx1100 1; not run: 2,999 on emu gfx1100; \
             worst error 0.875 of its bound"
        );
        let none = Tally::new(names(&["cpu"]));
        assert_eq!(suite.summary(3000, 1, &none), "sums: seed 5: 1 of 3,000 cases: cpu 0; not run: none");
        assert_eq!([0, 999, 1_234_567].map(grouped), ["0", "999", "1,234,567"]);
    }

    #[test]
    fn every_item_is_shared_out_once() {
        let mut tally = Tally::new(names(&["cpu", "host"]));
        let new = || Tally::new(names(&["cpu", "host"]));
        tally.share_out(1000, new, |worker, item| worker.passed(item % 2), |worker| worker);
        assert_eq!(tally.passed, [("cpu".to_owned(), 500), ("host".to_owned(), 500)]);
    }

    #[test]
    #[should_panic(expected = "item 3")]
    fn a_worker_that_panics_fails_the_suite() {
        let new = || Tally::new(names(&["cpu"]));
        new().share_out(9, new, |_, item| assert_ne!(item, 3, "item {item}"), |worker| worker);
    }

    #[test]
    #[should_panic(expected = "alone: PARITY_CASE='a/b' PARITY_SEED=0 cargo test -p sums")]
    fn a_failure_says_how_to_run_it_alone() {
        let suite = suite(&[]).unwrap();
        let mut tally = Tally::new(names(&["cpu"]));
        tally.failed(suite.failure("a/b", &"element 3 is off"));
        suite.finish(1, 1, &tally);
    }

    #[test]
    #[should_panic(expected = "nothing ran")]
    fn a_suite_of_which_nothing_ran_fails() {
        suite(&[]).unwrap().finish(1, 1, &Tally::new(names(&["cpu"])));
    }
}
