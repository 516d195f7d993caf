//! What goes to stderr beside the log: bars and lines.

use std::error::Error;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use device_mem::SharedMemory;
use indicatif::{ProgressBar, ProgressStyle};
use model_glm::MemoryBudget;

/// Bytes from which a model is large. Smaller ones load at once: there is nothing to tell.
const WORTH_TELLING: usize = 256 << 20;

/// How far loading, converting or measuring is: a bar on a terminal, lines elsewhere.
pub(crate) struct Loading {
    what: &'static str,
    unit: Unit,
    bar: Option<ProgressBar>,
    quarters: usize,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Of files; a line per quarter, where they are many.
    Bytes,
    /// A line for each.
    Passes,
}

impl Loading {
    /// `what` is done, in bytes: `loading`.
    pub(crate) fn new(what: &'static str) -> Loading {
        Loading::of(what, Unit::Bytes, "{bytes}/{total_bytes}")
    }

    /// `what` is done, in passes: `measuring`.
    pub(crate) fn passes(what: &'static str) -> Loading {
        Loading::of(what, Unit::Passes, "{pos}/{len}")
    }

    fn of(what: &'static str, unit: Unit, counts: &str) -> Loading {
        let template = format!("{what} {{bar:30}} {counts} {{wide_msg}}");
        let style = ProgressStyle::with_template(&template);
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            style.map(|style| bar.set_style(style)).unwrap_or_default();
            bar
        });
        Loading { what, unit, bar, quarters: 0 }
    }

    pub(crate) fn advance(&mut self, loaded: usize, total: usize, tensor: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total as u64);
                bar.set_position(loaded as u64);
                bar.set_message(tensor.to_owned());
            }
            None if self.unit == Unit::Passes => eprintln!("{}: {loaded} of {total}, {tensor}", self.what),
            None => {
                let quarters = loaded.saturating_mul(4).checked_div(total).unwrap_or(4);
                if quarters > self.quarters && total >= WORTH_TELLING {
                    eprintln!("{}: {} of {}", self.what, bytes(loaded), bytes(total));
                }
                self.quarters = quarters;
            }
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// An error and its causes on one line: the first line of each.
pub(crate) fn one_line(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |cause: &&(dyn Error + 'static)| (*cause).source());
    let lines = causes.map(|cause| cause.to_string().lines().next().unwrap_or_default().to_owned());
    lines.collect::<Vec<_>>().join(": ")
}

/// Bytes in the unit that reads best, to three digits.
pub(crate) fn bytes(count: usize) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let digits = if unit == "B" || value >= 100.0 { 0 } else { 1 };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Says what a model is going to take before it is loaded: unasked where that is much, else in the log.
pub(crate) fn tell_memory(budget: &MemoryBudget, free: Option<u64>, shared: Option<SharedMemory>) {
    let line = memory(budget, free, shared);
    if budget.total() >= WORTH_TELLING as u64 {
        eprintln!("{line}");
    } else {
        tracing::info!("{line}");
    }
}

/// What a model takes, and what its device has left where that is known.
fn memory(budget: &MemoryBudget, free: Option<u64>, shared: Option<SharedMemory>) -> String {
    let size = |count: u64| bytes(usize::try_from(count).unwrap_or(usize::MAX));
    let MemoryBudget { weights, rope_table, caches, activations, .. } = *budget;
    let [total, weights, rope_table, caches, activations] =
        [budget.total(), weights, rope_table, caches, activations].map(size);
    let shared = shared.map_or(String::new(), |shared| format!(" ({shared})"));
    let free = free.map_or(String::new(), |free| format!(" of {} free{shared}", size(free)));
    format!(
        "memory: {total}{free}: weights {weights}, keys and values {caches}, activations {activations}, rotary table {rope_table}"
    )
}

/// Things per second; 0 when no time was measured.
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_read_well() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3_353_728, "3.2 MiB"), (18 << 30, "18.0 GiB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }
}
