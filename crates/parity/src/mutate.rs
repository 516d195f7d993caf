//! Inputs that differ a little from right ones.

use crate::SplitMix64;

/// Numbers that counts, lengths, types and offsets go wrong with.
const NUMBERS: [u64; 16] =
    [0, 1, 2, 3, 9, 13, 31, 32, 33, 255, 1 << 16, 1 << 31, u32::MAX as u64, 1 << 32, 1 << 63, u64::MAX];
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

/// A number from 0 to `most`.
fn below(random: &mut SplitMix64, most: usize) -> usize {
    usize::try_from(random.next_u64() % (most as u64 + 1)).unwrap_or(most)
}
