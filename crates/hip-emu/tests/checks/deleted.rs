//! Instructions that are taken out of right kernels, or changed: each is noticed.

use std::ops::Range;

use hip_emu::{Arch, Checks, FaultKind, LaunchError, Listing, MemoryError};

use crate::card::{Argument, Card, ITEMS, PLANTED, only};

/// The instructions of a kernel: where they lie in the image, and their text.
fn instructions(image: &[u8], kernel: &str) -> Vec<(Range<usize>, String)> {
    let listings = Listing::of_elf(image, Arch::Gfx11).unwrap();
    let mut functions = listings.iter().flat_map(|listing| &listing.functions);
    let function = functions.find(|function| function.name == kernel).unwrap();
    let lines = function.lines(Arch::Gfx11).map(|line| {
        let start = line.code.as_ptr().addr() - image.as_ptr().addr();
        (start..start + line.code.len(), line.instruction.unwrap().to_string())
    });
    lines.collect()
}

/// The instructions of a kernel that begin with `text`.
fn places(kernel: &str, text: &str) -> Vec<Range<usize>> {
    let places = instructions(PLANTED, kernel).into_iter().filter(|(_, found)| found.starts_with(text));
    places.map(|(place, _)| place).collect()
}

/// The image with `s_nop 0` in a place.
fn without(place: Range<usize>) -> Vec<u8> {
    let mut image = PLANTED.to_vec();
    for word in image[place].chunks_exact_mut(4) {
        word.copy_from_slice(&0xbf80_0000_u32.to_le_bytes());
    }
    image
}

/// The planted kernels without the first of a kernel's instructions that begins with `text`.
pub(crate) fn without_first(kernel: &str, text: &str) -> Vec<u8> {
    without(places(kernel, text)[0].clone())
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
    let mut deleted = 0;
    for (kernel, groups) in RIGHT {
        run(PLANTED, Checks::ALL, kernel, groups).unwrap();
        for place in places(kernel, "s_barrier") {
            let image = without(place.clone());
            let result = run(&image, only(|checks| checks.race = true), kernel, groups);
            let Err(LaunchError::Fault(fault)) = result else { panic!("{kernel} {place:x?}: {result:?}") };
            assert!(matches!(fault.kind, FaultKind::Race { .. }), "{kernel} {place:x?}: {fault}");
            assert!(run(&image, Checks::ALL, kernel, groups).is_err(), "{kernel} {place:x?}");
            deleted += 1;
        }
    }
    assert!(deleted >= 5, "{deleted}");
}

#[test]
fn a_deleted_wait_is_reported() {
    let (mut deleted, mut missed) = (0, Vec::new());
    for (kernel, groups) in RIGHT {
        for place in places(kernel, "s_waitcnt") {
            match run(&without(place.clone()), Checks::ALL, kernel, groups) {
                Err(LaunchError::Fault(fault)) => assert!(
                    matches!(fault.kind, FaultKind::MissingWait { .. } | FaultKind::Race { .. }),
                    "{kernel} {place:x?}: {fault}"
                ),
                Ok(()) => missed.push((kernel, place)),
                Err(error) => panic!("{kernel} {place:x?}: {error}"),
            }
            deleted += 1;
        }
    }
    assert!(deleted >= 30, "{deleted}");
    // The barrier after a row also waits for its result, which no other wave reads.
    assert_eq!(missed, [("row_sums", places("row_sums", "s_waitcnt_vscnt")[0].clone())], "{deleted} deleted");
}

/// Each store, moved by an element, writes beyond the end of its buffer, or what another item writes.
#[test]
fn a_shifted_store_is_reported() {
    for kernel in ["twice", "reverse_in_lds", "gather"] {
        let place = places(kernel, "global_store_b32")[0].clone();
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
