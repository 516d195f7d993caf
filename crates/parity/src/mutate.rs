//! Inputs that differ a little from right ones.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Builder};

use crate::SplitMix64;

/// Inputs that are drawn from one state of the generator.
const RUN: u64 = 256;

/// Numbers that counts, lengths, types and offsets go wrong with.
const NUMBERS: [u64; 16] =
    [0, 1, 2, 3, 9, 13, 31, 32, 33, 255, 1 << 16, 1 << 31, u32::MAX as u64, 1 << 32, 1 << 63, u64::MAX];
/// Bytes of stack of a thread that reads: as much as any reader asks for.
const STACK: usize = 64 << 20;
/// Bytes that are moved, doubled or left out at once.
const MOVED: usize = 40;

/// Changes one to `most` places of a file: flips a bit, writes a number of 4 or 8 bytes or one of `words`, cuts the end off,
/// doubles a part, or leaves one out.
pub fn mutate(file: &mut Vec<u8>, most: u64, words: &[&str], random: &mut SplitMix64) {
    for _ in 0..=random.next_u64() % most {
        let at = below(random, file.len());
        match random.next_u64() % 8 {
            0 | 1 => {
                let bit = random.next_u64() % 8;
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            2..=4 if words.is_empty() => {
                let number = NUMBERS[below(random, NUMBERS.len() - 1)].to_le_bytes();
                // Most fields lie at no multiple of their size.
                let width = if random.next_u64().is_multiple_of(2) { 4 } else { 8 };
                if let Some(place) = file.get_mut(at..at + width) {
                    place.copy_from_slice(&number[..width]);
                }
            }
            2..=4 => {
                let word = words[below(random, words.len() - 1)];
                let over = below(random, word.len()).min(file.len() - at);
                file.splice(at..at + over, word.bytes());
            }
            5 => file.truncate(at),
            6 => {
                let end = at + below(random, MOVED).min(file.len() - at);
                let copy = file[at..end].to_vec();
                let to = below(random, file.len());
                file.splice(to..to, copy);
            }
            _ => {
                let end = at + below(random, MOVED).min(file.len() - at);
                file.drain(at..end);
            }
        }
    }
}

/// Mutates `seeds` in turn, `tries` times, at one to `most` places each, on all cores. Each thread has a worker
/// of its own, and all of these are returned. Which inputs there are depends on `seed` alone.
///
/// # Panics
/// Where `read` does, after the number of the input was told; when the system has no thread.
pub fn sweep<W: Send>(
    (seed, tries): (u64, u64),
    seeds: &[Vec<u8>],
    (most, words): (u64, &[&str]),
    new: impl Fn() -> W + Sync,
    read: impl Fn(&mut W, &[u8]) + Sync,
) -> Vec<W> {
    let next = AtomicU64::new(0);
    let work = || {
        let (mut worker, mut file) = (new(), Vec::new());
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= tries.div_ceil(RUN) {
                return worker;
            }
            let mut random = SplitMix64::new(SplitMix64::new(seed).next_u64() ^ run);
            let numbers = run * RUN..tries.min((run + 1) * RUN);
            for (at, seed) in numbers.zip(seeds.iter().cycle()) {
                file.clone_from(seed);
                mutate(&mut file, most, words, &mut random);
                let told = Told { at, file: &file };
                read(&mut worker, &file);
                std::mem::forget(told);
            }
        }
    };
    // What is read may wait for a thread of its own.
    let threads = 2 * thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let spawn = || Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let workers = (0..threads).map(|_| spawn()).collect::<Result<Vec<_>, _>>();
        let workers = workers.unwrap_or_else(|error| panic!("a thread could not be started: {error}"));
        let ended = workers.into_iter().map(|worker| worker.join());
        ended.map(|worker| worker.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Tells an input when it is dropped, which only a panic does.
struct Told<'a> {
    at: u64,
    file: &'a [u8],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let _ = writeln!(std::io::stderr(), "input {}: b\"{}\"", self.at, self.file.escape_ascii());
    }
}

/// A number from 0 to `most`.
fn below(random: &mut SplitMix64, most: usize) -> usize {
    usize::try_from(random.next_u64() % (most as u64 + 1)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_depend_on_the_seed_alone() {
        let files = [vec![1; 32], vec![2; 32], vec![3; 32]];
        let drawn = |seed| {
            let keep = |drawn: &mut Vec<Vec<u8>>, file: &[u8]| drawn.push(file.to_vec());
            let mut drawn = sweep((seed, 1000), &files, (4, &[]), Vec::new, keep).concat();
            drawn.sort();
            drawn
        };
        assert_eq!(drawn(7).len(), 1000);
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }
}
