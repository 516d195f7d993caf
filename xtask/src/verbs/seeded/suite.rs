//! Test targets: how a list names one, and what it says of the code in a tree.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::tree::Tree;

/// A suite is killed after this time.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at a running suite.
const PAUSE: Duration = Duration::from_millis(20);
/// The unit tests of a package's library.
const LIB: &str = "lib";

/// A test target of a package, `package/target`, or the tests of it whose names contain one of some words,
/// `package/target word word`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub(crate) struct Suite {
    package: String,
    /// The name of a target of integration tests, or `lib`.
    target: String,
    words: Vec<String>,
}

/// What a suite says.
pub(crate) enum Verdict {
    Passed,
    /// The tests that failed, or how the process ended.
    Failed(Vec<String>),
    Hung,
    /// What the compiler says first.
    DoesNotCompile(String),
}

impl TryFrom<String> for Suite {
    type Error = String;

    fn try_from(text: String) -> Result<Suite, String> {
        let mut words = text.split(' ').map(str::to_owned);
        let place = words.next().unwrap_or_default();
        let words = Vec::from_iter(words);
        match place.split_once('/') {
            Some((package, target))
                if ![package, target].contains(&"") && !words.contains(&String::new()) =>
            {
                Ok(Suite { package: package.to_owned(), target: target.to_owned(), words })
            }
            _ => Err(format!("`package/target` or `package/target word` is expected, and not `{text}`")),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.package, self.target)?;
        self.words.iter().try_for_each(|word| write!(formatter, " {word}"))
    }
}

impl Suite {
    /// Whether `whole` is all of the target that this is a part of.
    pub(crate) fn is_part_of(&self, whole: &Suite) -> bool {
        !self.words.is_empty() && *whole == Suite { words: Vec::new(), ..self.clone() }
    }

    /// Builds the suite from the tree and runs it.
    pub(crate) fn run(&self, tree: &Tree) -> Result<Verdict> {
        let program = match self.build(tree)? {
            Ok(program) => program,
            Err(message) => return Ok(Verdict::DoesNotCompile(message)),
        };
        let log = tree.log();
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(&program);
        command.args(&self.words).current_dir(tree.path().join("crates").join(&self.package));
        // Sources change, images do not: the emulated card, which executes images, sees nothing of a fault. Generated cases
        // are those of one seed, and a failing one is failing enough as it is.
        command
            .env("PARITY_DEVICES", "host")
            .env("PROPTEST_RNG_SEED", "1")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0");
        command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("could not start {}", program.display()))?;
        let Some(status) = wait(child)? else { return Ok(Verdict::Hung) };
        self.verdict(status, &String::from_utf8_lossy(&fs::read(&log)?))
    }

    /// The program, or what the compiler says.
    fn build(&self, tree: &Tree) -> Result<Result<PathBuf, String>> {
        let mut command = tree.cargo();
        command.args(["test", "--no-run", "--quiet", "--message-format=json", "--package", &self.package]);
        match self.target.as_str() {
            LIB => command.arg("--lib"),
            target => command.args(["--test", target]),
        };
        let output = command.output().context("could not start cargo")?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let said = stdout_errors(&output.stdout);
            ensure!(
                !said.is_empty() || stderr.contains("could not compile") || stderr.contains("build command"),
                "{stderr}"
            );
            return Ok(Err(if said.is_empty() { stderr.into_owned() } else { said }));
        }
        let lines = output.stdout.split(|byte| *byte == b'\n');
        let mut programs =
            lines.filter_map(|line| executable(&serde_json::from_slice(line).ok()?, &self.target));
        match programs.next() {
            Some(program) => Ok(Ok(program)),
            None => bail!("cargo builds no program for {self}"),
        }
    }

    fn verdict(&self, status: ExitStatus, log: &str) -> Result<Verdict> {
        if status.success() {
            ensure!(!log.contains("running 0 tests"), "{self} has no test");
            return Ok(Verdict::Passed);
        }
        let mut failed = failed_tests(log);
        if failed.is_empty() {
            // A crash takes the whole process with it.
            failed.push(format!("the tests end with {status}"));
        }
        Ok(Verdict::Failed(failed))
    }
}

/// Waits for a process, and kills it at the time limit.
fn wait(mut child: Child) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < TIME_LIMIT {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(PAUSE);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// The program of a message of cargo, if it is that of the target.
fn executable(message: &Value, target: &str) -> Option<PathBuf> {
    let built = &message["target"];
    let is_target = if target == LIB { built["kind"][0] == "lib" } else { built["name"] == target };
    let program =
        message["executable"].as_str().filter(|_| is_target && message["profile"]["test"] == true)?;
    Some(Path::new(program).to_owned())
}

/// The first error that rustc reports.
fn stdout_errors(stdout: &[u8]) -> String {
    let messages =
        stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let mut errors = messages.filter(|message| message["message"]["level"] == "error");
    errors.find_map(|error| Some(error["message"]["rendered"].as_str()?.to_owned())).unwrap_or_default()
}

fn failed_tests(log: &str) -> Vec<String> {
    let results = log.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    results.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_named_by_package_target_and_words() {
        let suite = |text: &str| Suite::try_from(text.to_owned());
        for text in ["kernels-rope/golden", "kernels-rope/lib scaling::", "attention/suite bounds decode::"] {
            assert_eq!(suite(text).unwrap().to_string(), text);
        }
        assert!(["", "a", "a/", "/b", "a/b ", "a/b c  d"].iter().all(|text| suite(text).is_err()));
    }

    #[test]
    fn failed_tests_are_read_from_the_output() {
        let log = "running 3 tests\ntest a ... ok\ntest b::c ... FAILED\ntest d - should panic ... ok\n";
        assert_eq!(failed_tests(log), ["b::c"]);
    }

    #[test]
    fn the_program_is_that_of_the_target() {
        let message = |name: &str, kind: &str| serde_json::json!({"target": {"name": name, "kind": [kind]}, "profile": {"test": true}, "executable": "/x"});
        assert!(executable(&message("golden", "test"), "golden").is_some());
        assert!(executable(&message("errors", "test"), "golden").is_none());
        assert!(executable(&message("kernels_rope", "lib"), LIB).is_some());
    }
}
