use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::time::Instant;

use crate::{Suite, sweep};

/// Inputs that a reader takes or refuses, never with a panic. `PARITY_FULL=1` tries `full` of them, `PARITY_TRIES=N` so many,
/// `PARITY_SEED=N` others. All cores take part.
pub struct Mutations<'a> {
    /// What they are, in what is told.
    pub name: &'static str,
    /// What runs them.
    pub command: &'static str,
    /// So many are tried,
    pub few: u64,
    /// and so many where all are asked for.
    pub full: u64,
    /// Right inputs, which take turns.
    pub seeds: &'a [Vec<u8>],
    /// What is written over parts of them; numbers, if there are none.
    pub words: &'a [&'a str],
    /// For so many reasons, at least, some are refused.
    pub reasons: usize,
}

impl Mutations<'_> {
    /// Tries them.
    ///
    /// # Panics
    /// Where `read` does, and unless both outcomes come, refusals for as many reasons as are asked for.
    pub fn try_all<E: Error + 'static>(&self, read: impl Fn(&[u8]) -> Result<(), E> + Sync) {
        let suite = Suite::from_env(self.name, self.command).unwrap_or_else(|error| panic!("{error}"));
        let (tries, start) = (suite.tries(self.few, self.full), Instant::now());
        let count = |(taken, refused): &mut (u64, BTreeSet<String>), input: &[u8]| match read(input) {
            Ok(()) => *taken += 1,
            Err(error) => drop(refused.insert(reason(&error))),
        };
        let counts = sweep((suite.seed(), tries), self.seeds, (4, self.words), Default::default, count);
        let taken: u64 = counts.iter().map(|(taken, _)| taken).sum();
        let refused: BTreeSet<String> = counts.into_iter().flat_map(|(_, refused)| refused).collect();
        let rate = tries as f64 / start.elapsed().as_secs_f64();
        let _ = writeln!(
            std::io::stderr(),
            "{}: seed {}: {tries} executions, {rate:.0} a second: {taken} taken, refused for {} reasons",
            self.name,
            suite.seed(),
            refused.len()
        );
        if tries < self.few {
            return;
        }
        // A mutator that breaks nothing, or everything at the same place, would try nothing.
        assert!(taken > tries / 200 && taken < tries - tries / 20, "{taken} of {tries} were taken");
        assert!(refused.len() >= self.reasons, "{}: only these reasons came: {refused:?}", self.name);
    }
}

/// What kind of error it is: the first words of the innermost one.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let words = text.split(|letter: char| !letter.is_ascii_alphabetic());
    words.filter(|word| word.len() > 3).take(3).collect::<Vec<_>>().join(" ")
}
