//! Instructions that are taken out of right kernels, or changed: each is noticed.

use std::ops::Range;

use hip_emu::{Arch, Checks, FaultKind, LaunchError, Listing, MemoryError};

use crate::card::{Argument, Card, EVERY, ITEMS, PLANTED, only, processor};

/// The instructions of a kernel: where they lie in the image, and their text.
fn instructions(image: &[u8], kernel: &str) -> Vec<(Range<usize>, String)> {
    let arch = Arch::from_target(&processor(image)).unwrap();
    let listings = Listing::of_elf(image, arch).unwrap();
    let mut functions = listings.iter().flat_map(|listing| &listing.functions);
    let function = functions.find(|function| function.name == kernel).unwrap();
    let lines = function.lines(arch).map(|line| {
        let start = line.code.as_ptr().addr() - image.as_ptr().addr();
        (start..start + line.code.len(), line.instruction.unwrap().to_string())
    });
    lines.collect()
}

/// The instructions of a kernel that begin with `text`.
pub(crate) fn places(image: &[u8], kernel: &str, text: &str) -> Vec<Range<usize>> {
    let places = instructions(image, kernel).into_iter().filter(|(_, found)| found.starts_with(text));
    places.map(|(place, _)| place).collect()
}

/// The image with `s_nop 0` in a place.
fn without(image: &[u8], place: Range<usize>) -> Vec<u8> {
    let mut image = image.to_vec();
    for word in image[place].chunks_exact_mut(4) {
        word.copy_from_slice(&0xbf80_0000_u32.to_le_bytes());
    }
    image
}

/// The planted kernels without the first of a kernel's instructions that begins with `text`.
pub(crate) fn without_first(kernel: &str, text: &str) -> Vec<u8> {
    without(PLANTED, places(PLANTED, kernel, text)[0].clone())
}

/// Right kernels with their arguments and numbers of groups.
const RIGHT: [(&str, u32); 6] = [
    ("reverse_in_lds", 1),
    ("reverse_in_memory", 1),
    ("sum_of_groups", 20),
    ("row_sums", 1),
    ("half_of_lds", 1),
    ("twice", 1),
];

fn arguments(card: &Card, kernel: &str) -> Vec<Argument> {
    let (y, x) = (card.empty(3 * ITEMS), card.floats(3 * ITEMS));
    match kernel {
        "reverse_in_memory" => vec![y.into(), x.into(), card.empty(ITEMS).into()],
        "sum_of_groups" => vec![y.into(), card.empty(20).into(), card.words(&[0]).into(), 20_u32.into()],
        "row_sums" => vec![y.into(), x.into(), 3_u32.into()],
        _ => vec![y.into(), x.into()],
    }
}

fn run(image: &[u8], checks: Checks, kernel: &str, groups: u32) -> Result<(), LaunchError> {
    let card = Card::with(image, checks, false);
    let arguments = arguments(&card, kernel);
    card.run(kernel, groups, arguments).map(drop)
}

#[test]
fn a_deleted_barrier_is_reported() {
    for image in EVERY {
        let (mut deleted, mut unneeded) = (0, 0);
        for (kernel, groups) in RIGHT {
            run(image, Checks::ALL, kernel, groups).unwrap();
            // Of a barrier in two halves, either half and both.
            let halves = places(image, kernel, "s_barrier_signal");
            let ends = places(image, kernel, if halves.is_empty() { "s_barrier" } else { "s_barrier_wait" });
            for (index, end) in ends.iter().enumerate() {
                let target = processor(image);
                let mut changed = without(image, end.clone());
                if let Some(half) = halves.get(index) {
                    // To wait for what was not said stops a wave; not to wait is a race.
                    for (place, checks) in [(half, Checks::NONE), (end, Checks::ALL)] {
                        let result = run(&without(image, place.clone()), checks, kernel, groups);
                        assert!(result.is_err(), "{target} {kernel} {place:x?}");
                    }
                    changed = without(&changed, half.clone());
                }
                let result = run(&changed, only(|checks| checks.race = true), kernel, groups);
                // A step of the sum stays within the first wave of 64 lanes.
                if target == "gfx942" && kernel == "row_sums" && result.is_ok() {
                    unneeded += 1;
                    continue;
                }
                let Err(LaunchError::Fault(fault)) = result else {
                    panic!("{target} {kernel} {end:x?}: {result:?}")
                };
                assert!(matches!(fault.kind, FaultKind::Race { .. }), "{target} {kernel} {end:x?}: {fault}");
                assert!(run(&changed, Checks::ALL, kernel, groups).is_err(), "{target} {kernel} {end:x?}");
                deleted += 1;
            }
        }
        assert!(deleted >= 5, "{deleted}");
        assert_eq!(unneeded, usize::from(processor(image) == "gfx942"));
    }
}

#[test]
fn a_deleted_wait_is_reported() {
    for image in EVERY {
        let (mut deleted, mut missed, target) = (0, Vec::new(), processor(image));
        for (kernel, groups) in RIGHT {
            // These wait for no memory.
            let others = ["s_wait_alu", "s_waitcnt_depctr"];
            let waits = instructions(image, kernel).into_iter().filter(|(_, text)| {
                text.starts_with("s_wait") && !others.iter().any(|other| text.starts_with(other))
            });
            for (place, text) in waits {
                match run(&without(image, place.clone()), Checks::ALL, kernel, groups) {
                    Err(LaunchError::Fault(fault)) => assert!(
                        matches!(fault.kind, FaultKind::MissingWait { .. } | FaultKind::Race { .. }),
                        "{target} {kernel} {place:x?}: {fault}"
                    ),
                    Ok(()) => missed.push((kernel, text)),
                    Err(error) => panic!("{target} {kernel} {place:x?}: {error}"),
                }
                deleted += 1;
            }
        }
        println!("{target}: {deleted} deleted, {missed:?} missed");
        assert!(deleted >= 30, "{target}: {deleted}");
        // The barrier after a row also waits for its result, which no other wave reads, and on gfx12 for the next row.
        let expected: &[(&str, &str)] = match target.as_str() {
            "gfx1201" => &[("row_sums", "s_wait_loadcnt 0x0"), ("row_sums", "s_wait_storecnt 0x0")],
            // A step of the sum stays within the first wave of 64 lanes.
            "gfx942" => &[("row_sums", "s_waitcnt lgkmcnt(0)")],
            _ => &[("row_sums", "s_waitcnt_vscnt null, 0x0")],
        };
        let missed: Vec<(&str, &str)> =
            missed.iter().map(|(kernel, text)| (*kernel, text.as_str())).collect();
        assert_eq!(missed, expected, "{target}: {deleted} deleted");
    }
}

/// Each store, moved by an element, writes beyond the end of its buffer, or what another item writes.
#[test]
fn a_shifted_store_is_reported() {
    for kernel in ["twice", "reverse_in_lds", "gather"] {
        let place = places(PLANTED, kernel, "global_store_b32")[0].clone();
        let mut image = PLANTED.to_vec();
        // The offset is the low 13 bits.
        assert_eq!(image[place.start] & 0x1f, 0);
        image[place.start] |= 4;
        let card = Card::with(&image, Checks::ALL, false);
        let (y, x, index) = (card.empty(ITEMS), card.floats(ITEMS), card.words(&[3; ITEMS]));
        let count = if kernel == "gather" { 3 } else { 2 };
        let fault = card.fault(kernel, 1, [y, x, index].into_iter().take(count).map(Argument::from));
        let FaultKind::OutOfBounds { address, bytes: 4, nearest: Some(nearest) } = fault.kind else {
            panic!("{kernel}: {fault}")
        };
        assert_eq!((address, nearest.address), (y.0 + 4 * ITEMS as u64, y.0), "{kernel}: {fault}");
    }
}

#[test]
fn an_output_that_is_not_written_is_reported() {
    for kernel in ["twice", "reverse_in_lds", "fill_parts"] {
        let image = without_first(kernel, "global_store_b32");
        let card = Card::with(&image, Checks::ALL, false);
        let (y, x) = (card.empty(ITEMS), card.floats(ITEMS));
        let count = if kernel == "fill_parts" { 1 } else { 2 };
        card.run(kernel, 1, [y, x].into_iter().take(count).map(Argument::from)).unwrap();
        let error = card.read(y, ITEMS).unwrap_err();
        assert!(matches!(error, MemoryError::Unwritten { address, .. } if address == y.0), "{error}");
    }
}

/// Waves that end their slices early, at a barrier or asleep, must come to the limit all the same.
#[test]
fn a_loop_of_barriers_or_sleep_ends_at_the_limit() {
    /// `s_branch -2`: to the word before it.
    const BACK: u32 = 0xbfa0_fffe;
    const SLEEP: u32 = 0xbf83_0001;
    let barrier = places(PLANTED, "reverse_in_lds", "s_barrier")[0].clone();
    for first in [None, Some(SLEEP)] {
        let mut image = PLANTED.to_vec();
        image[barrier.end..barrier.end + 4].copy_from_slice(&BACK.to_le_bytes());
        if let Some(first) = first {
            image[barrier.clone()].copy_from_slice(&first.to_le_bytes());
        }
        for checks in [Checks::NONE, Checks::ALL] {
            let result = run(&image, checks, "reverse_in_lds", 1);
            let Err(LaunchError::Fault(fault)) = result else { panic!("{result:?}") };
            assert!(matches!(fault.kind, FaultKind::TooLong(limit) if limit == 1 << 20), "{fault}");
        }
    }
}
