//! Which of all changes are tried: as many of each kernel, and within it as many of each kind as there are.

use parity::SplitMix64;

use crate::sites::{KINDS, Mutant};

/// `count` of the changes of a kernel, of each kind in turn, in an order that a seed gives. What depends on one kernel alone
/// stays as it is when another one is compiled anew.
pub(crate) fn choose(kernel: &str, mut all: Vec<Mutant>, seed: u64, count: usize) -> Vec<Mutant> {
    let name = kernel.bytes().fold(seed, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
    let mut random = SplitMix64::new(name);
    for last in (1..all.len()).rev() {
        let other = random.below(u32::try_from(last + 1).unwrap());
        all.swap(last, other as usize);
    }
    let mut by_kind = KINDS.map(|kind| {
        let (of_kind, rest): (Vec<_>, Vec<_>) = all.drain(..).partition(|mutant| mutant.kind == kind);
        all = rest;
        of_kind
    });
    // So that a few of each kernel are of all kinds.
    by_kind.rotate_left(random.below(5) as usize);
    let mut chosen = Vec::new();
    while chosen.len() < count && by_kind.iter().any(|of_kind| !of_kind.is_empty()) {
        for of_kind in &mut by_kind {
            chosen.extend(of_kind.pop());
        }
    }
    chosen.truncate(count);
    chosen
}
