//! One case: what is read, what must come of it, and what that may take.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model_glm::GlmError;
use tempfile::TempDir;

/// Bytes that any case may take, and as many times its header on top.
const MEMORY: usize = 64 << 20;
const MEMORY_A_BYTE: usize = 4;
/// Seconds of processor time, unoptimised; what is not linear takes minutes.
const TIME: f64 = 10.0;

/// What is read.
pub(crate) enum Input {
    Bytes(Vec<u8>),
    Text(String),
    Folder(TempDir),
}

pub(crate) type Outcome = Result<(), GlmError>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    make: Box<dyn Fn() -> Input>,
    load: fn(&Input) -> Outcome,
    is_expected: fn(&Outcome) -> bool,
}

impl Case {
    pub(crate) fn new(
        name: &'static str,
        make: impl Fn() -> Input + 'static,
        load: fn(&Input) -> Outcome,
        is_expected: fn(&Outcome) -> bool,
    ) -> Case {
        Case { name, make: Box::new(make), load, is_expected }
    }

    /// Fails with what is not as it should be.
    pub(crate) fn run(&self) -> Result<(), String> {
        let input = (self.make)();
        let (outcome, memory, took) = match cfg!(miri) {
            // What Miri takes says nothing.
            true => ((self.load)(&input), 0, 0.0),
            false => measured(|| (self.load)(&input)),
        };
        if !(self.is_expected)(&outcome) {
            return Err(match outcome {
                Ok(()) => String::from("it was taken"),
                Err(error) => format!("{error:?}"),
            });
        }
        if let Err(error) = &outcome
            && error.to_string().is_empty()
        {
            return Err(String::from("its error says nothing"));
        }
        let most = MEMORY + MEMORY_A_BYTE * input.header();
        if memory > most {
            return Err(format!("it took {memory} bytes, more than {most}"));
        }
        match took > TIME {
            true => Err(format!("it took {took} s")),
            false => Ok(()),
        }
    }
}

/// An outcome, with the bytes and seconds that it took.
fn measured(load: impl FnOnce() -> Outcome) -> (Outcome, usize, f64) {
    let (before, start) = (Memory::reset(), processor_time());
    let outcome = load();
    let took = processor_time() - start;
    (outcome, Memory::now().peak.saturating_sub(before.resident), took)
}

/// Whether Miri can run a case, by its name: it maps no files and starts no programs, and for long inputs, or templates that run
/// until they are stopped, it takes hours.
pub(crate) fn is_for_miri(name: &str) -> bool {
    const FILES: &[&str] =
        &["shard", "while it is open", " as file", "index", "weight", "not the embedding's", "1 GB"];
    const LONG: &[&str] = &["00,000", "10^7", "megabyte", "1000"];
    !name.contains("template") && ![FILES, LONG].concat().iter().any(|part| name.contains(part))
}

impl Input {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Input::Bytes(bytes) => bytes,
            _ => panic!("the case has no bytes"),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Input::Text(text) => text,
            _ => panic!("the case has no text"),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        match self {
            Input::Folder(folder) => folder.path(),
            _ => panic!("the case has no folder"),
        }
    }

    /// Bytes that count as its header. A folder's files may be longer than what is read of them.
    fn header(&self) -> usize {
        match self {
            Input::Bytes(bytes) => bytes.len(),
            Input::Text(text) => text.len(),
            Input::Folder(_) => 0,
        }
    }
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Input {
        Input::Bytes(bytes)
    }
}

impl From<String> for Input {
    fn from(text: String) -> Input {
        Input::Text(text)
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Input {
        Input::Text(text.to_owned())
    }
}

impl From<TempDir> for Input {
    fn from(folder: TempDir) -> Input {
        Input::Folder(folder)
    }
}

/// An error and its causes, the innermost last.
pub(crate) fn causes(error: &GlmError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let error: &(dyn Error + 'static) = error;
    std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source())
}

/// Whether an error or one of its causes says this.
pub(crate) fn says(error: &GlmError, words: &str) -> bool {
    causes(error).any(|error| error.to_string().contains(words))
}

/// Lets a test run alone in this process, whose memory and time are measured.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds that the threads of this process have run, those that ended included.
fn processor_time() -> f64 {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The fields behind the program's name, which may hold blanks: the 14th and 15th of all.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / TICKS
}

/// What this process has in memory, in bytes.
struct Memory {
    resident: usize,
    peak: usize,
}

impl Memory {
    /// Forgets the peak so far.
    fn reset() -> Memory {
        fs::write("/proc/self/clear_refs", "5").unwrap();
        Memory::now()
    }

    fn now() -> Memory {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let of = |key: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
        };
        Memory { resident: of("VmRSS:"), peak: of("VmHWM:") }
    }
}

#[test]
fn the_peak_of_memory_and_the_time_are_seen() {
    let _alone = alone();
    let start = processor_time();
    let mut sum = 0_u64;
    while processor_time() < start + 0.05 {
        sum = std::hint::black_box(sum + 1);
    }
    let before = Memory::reset();
    let taken = std::hint::black_box(vec![1_u8; 96 << 20]);
    drop(taken);
    assert!(Memory::now().peak >= before.resident + (90 << 20));
    assert!(Memory::reset().peak < before.resident + (48 << 20));
}
