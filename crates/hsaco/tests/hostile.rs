//! Hostile code objects: each named case has its named result. `PARITY_CASE=TEXT` runs the cases whose name contains TEXT.
//! And mutated ones: `PARITY_FULL=1` tries 40 million, `PARITY_TRIES=N` so many, `PARITY_SEED=N` others.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::mem::{Discriminant, discriminant};
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use hsaco::build::{self, BuildError};
use hsaco::{ArgDecl, ArgKind, CodeObject, HsacoError, KernelDecl, Selected, TargetId, image_from_file};
use tempfile::TempDir;

const GFX1100: &[u8] = include_bytes!("images/scale.gfx1100.elf");
const GFX90A: &[u8] = include_bytes!("images/scale.gfx90a.elf");

const DECL: KernelDecl = KernelDecl {
    family: "scale",
    source: "scale.hip",
    image: "scale_kernel.hsaco",
    variable: "SCALE_HSACO",
    symbols: &["scale"],
    args: &[
        ArgDecl { name: "y", offset: 0, size: 8, kind: ArgKind::Pointer },
        ArgDecl { name: "x", offset: 8, size: 8, kind: ArgKind::Pointer },
        ArgDecl { name: "factor", offset: 16, size: 4, kind: ArgKind::Value },
        ArgDecl { name: "length", offset: 24, size: 8, kind: ArgKind::Value },
    ],
    max_block: 256,
};

/// What is loaded on a card: a file in a folder of its own.
fn load(bytes: &[u8], card: &str) -> Result<Selected, HsacoError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scale.hsaco");
    fs::write(&path, bytes).unwrap();
    image_from_file(&DECL, &path, card)
}

/// The innermost error.
fn cause(error: HsacoError) -> HsacoError {
    match error {
        HsacoError::OverrideRefused { source, .. } => *source,
        other => other,
    }
}

/// The sample with bytes in the place of the same number of others.
fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = GFX1100.windows(from.len()).position(|window| window == from).unwrap();
    let mut image = GFX1100.to_vec();
    image[at..at + to.len()].copy_from_slice(to);
    image
}

/// The sample with another number, in MessagePack, in the place of one of a byte behind a key of its first kernel. The name of a
/// key that nothing reads is shorter by as much.
fn with_number(key: &str, number: &[u8]) -> Vec<u8> {
    const UNREAD: &str = ".uses_dynamic_stack";
    let (mut image, more) = (GFX1100.to_vec(), number.len() - 1);
    let find = |image: &[u8], key: &str| {
        image.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len()
    };
    let at = find(&image, key);
    image.splice(at..at + 1, number.iter().copied());
    let end = find(&image, UNREAD);
    image[end - UNREAD.len() - 1] -= u8::try_from(more).unwrap();
    image.drain(end - more..end);
    image
}

/// The sample with a map of 65,535 entries at the start of its metadata.
fn with_a_map_that_ends_early() -> Vec<u8> {
    let at = GFX1100.windows(7).position(|window| window == b"AMDGPU\0").unwrap() + 8;
    let mut image = GFX1100.to_vec();
    image[at..at + 3].copy_from_slice(&[0xde, 0xff, 0xff]);
    image
}

/// A bundle of `(id, offset, size)` that claims this many entries.
fn bundle(entries: u64, table: &[(&str, u64, u64)]) -> Vec<u8> {
    let mut bytes = b"__CLANG_OFFLOAD_BUNDLE__".to_vec();
    bytes.extend(entries.to_le_bytes());
    for (id, offset, size) in table {
        for number in [*offset, *size, id.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(id.as_bytes());
    }
    bytes
}

const ENTRY: &str = "hipv4-amdgcn-amd-amdhsa--gfx1100";

/// Loads the sample from a folder that others may write to in some way.
fn exposed(expose: impl Fn(&TempDir) -> std::path::PathBuf) -> Result<(), HsacoError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("scale.hsaco"), GFX1100).unwrap();
    image_from_file(&DECL, &expose(&folder), "gfx1100").map(drop)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Embeds the sample by a manifest that has another digest of it.
fn embedded_with_another_digest() -> Result<(), BuildError> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("gfx1100")).unwrap();
    fs::write(folder.path().join("gfx1100/scale_kernel.hsaco"), GFX1100).unwrap();
    let manifest = format!(
        r#"{{"images": [{{"family": "scale", "arch": "gfx1100", "image": "scale_kernel.hsaco", "sha256": "{}",
            "source_sha256": "", "compiler": "", "flags": [], "kernels": []}}]}}"#,
        build::sha256_hex(GFX90A)
    );
    fs::write(folder.path().join(build::MANIFEST), manifest).unwrap();
    build::embed(folder.path(), folder.path(), false)
}

/// Loads an image and puts another file in its place.
fn swapped() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scale.hsaco");
    fs::write(&path, GFX1100).unwrap();
    let selected = image_from_file(&DECL, &path, "gfx1100").unwrap();
    fs::write(&path, b"another file").unwrap();
    *selected.bytes == *GFX1100
}

/// A name, and whether it has its result.
type Case = (&'static str, fn() -> bool);

macro_rules! refused {
    ($name:literal, $image:expr, $card:literal, $pattern:pat $(if $guard:expr)?) => {
        ($name, || match load(&$image, $card).map_err(cause) {
            Err($pattern) $(if $guard)? => true,
            other => {
                eprintln!("{}: {other:?}", $name);
                false
            }
        })
    };
}

/// In the order of the list that they are taken from.
const CASES: [Case; 17] = [
    refused!("no ELF", *b"#!/bin/sh\n", "gfx1100", HsacoError::NotACodeObject { .. }),
    refused!("cut off", GFX1100[..4000], "gfx1100", HsacoError::BadElf { .. }),
    refused!(
        "another machine",
        replaced(&GFX1100[..20], &[&GFX1100[..18], &[62, 0]].concat()),
        "gfx1100",
        HsacoError::WrongMachine { found: 62 }
    ),
    refused!("another processor", *GFX1100, "gfx1201", HsacoError::WrongTarget { .. }),
    refused!("another setting of xnack", *GFX90A, "gfx90a:sramecc+:xnack+", HsacoError::WrongTarget { found, .. } if found == "gfx90a:xnack-"),
    refused!("a bundle of no entries", bundle(0, &[]), "gfx1100", HsacoError::NoBundleEntry { .. }),
    refused!(
        "a bundle of 2^63 entries",
        bundle(1 << 63, &[(ENTRY, 0, 1)]),
        "gfx1100",
        HsacoError::TruncatedBundle { entry: 1, .. }
    ),
    refused!(
        "an entry past the end",
        bundle(1, &[(ENTRY, 1 << 20, 8)]),
        "gfx1100",
        HsacoError::BundleEntryOutside { .. }
    ),
    refused!(
        "no such kernel",
        replaced(b"\xa5scale", b"\xa5shift"),
        "gfx1100",
        HsacoError::MissingKernel { symbol: "scale", .. } | HsacoError::MissingSymbol { .. }
    ),
    refused!(
        "an argument block of another length",
        with_number(".kernarg_segment_size", &[96]),
        "gfx1100",
        HsacoError::KernargSize { expected: 32, found: 96, .. }
    ),
    refused!(
        "more group memory than there is",
        with_number(".group_segment_fixed_size", &[0xce, 0, 1, 0, 1]),
        "gfx1100",
        HsacoError::Lds { found: 65_537, .. }
    ),
    refused!(
        "more registers than there are",
        with_number(".vgpr_count", &[0xcd, 1, 44]),
        "gfx1100",
        HsacoError::Registers { kind: "vector", found: 300, limit: 256, .. }
    ),
    refused!(
        "metadata that are no MessagePack",
        with_a_map_that_ends_early(),
        "gfx1100",
        HsacoError::BadMetadata { .. }
    ),
    ("a digest that is not the manifest's", || {
        matches!(embedded_with_another_digest(), Err(BuildError::Digest { .. }))
    }),
    ("a folder that others may write to", || {
        let result = exposed(|folder| {
            mode(folder.path(), 0o777);
            folder.path().join("scale.hsaco")
        });
        matches!(result, Err(HsacoError::OverrideExposed { .. }))
    }),
    ("a link in a folder that others may write to", || {
        let result = exposed(|folder| {
            let open = folder.path().join("open");
            fs::create_dir(&open).unwrap();
            symlink(folder.path().join("scale.hsaco"), open.join("link.hsaco")).unwrap();
            mode(&open, 0o777);
            open.join("link.hsaco")
        });
        matches!(result, Err(HsacoError::OverrideExposed { exposed, .. }) if exposed.ends_with("open"))
    }),
    ("swapped between check and load", swapped),
];

#[test]
fn every_hostile_object_has_its_result() {
    let chosen = std::env::var("PARITY_CASE").unwrap_or_default();
    let cases: Vec<&Case> = CASES.iter().filter(|(name, _)| name.contains(&chosen)).collect();
    assert!(!cases.is_empty(), "no name of {} cases contains PARITY_CASE={chosen:?}", CASES.len());
    let failed: Vec<&str> = cases.iter().filter(|(_, holds)| !holds()).map(|(name, _)| *name).collect();
    let _ = writeln!(std::io::stderr(), "hostile code objects: {} of {} cases", cases.len(), CASES.len());
    assert!(
        failed.is_empty(),
        "{failed:?}; alone: PARITY_CASE=NAME cargo test -p hsaco --features build --test hostile"
    );
}

#[test]
fn a_file_that_only_its_user_can_replace_is_taken() {
    exposed(|folder| folder.path().join("scale.hsaco")).unwrap();
    exposed(|folder| {
        symlink(folder.path().join("scale.hsaco"), folder.path().join("link.hsaco")).unwrap();
        folder.path().join("link.hsaco")
    })
    .unwrap();
    let written_by_all = exposed(|folder| {
        mode(&folder.path().join("scale.hsaco"), 0o666);
        folder.path().join("scale.hsaco")
    });
    assert!(matches!(written_by_all, Err(HsacoError::OverrideExposed { .. })), "{written_by_all:?}");
    // As the folder for temporary files of all users is.
    exposed(|folder| {
        mode(folder.path(), 0o1777);
        folder.path().join("scale.hsaco")
    })
    .unwrap();
    let endless = exposed(|folder| {
        symlink(folder.path().join("link"), folder.path().join("link")).unwrap();
        folder.path().join("link")
    });
    assert!(matches!(endless, Err(HsacoError::OverrideUnreadable { .. })), "{endless:?}");
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

/// Changes one to four places: in the headers as often as elsewhere.
fn mutate(image: &mut Vec<u8>, random: &mut Random) {
    const NUMBERS: [u64; 8] = [0, 1, 0xff, 0xffff, 1 << 31, u32::MAX as u64, 1 << 63, u64::MAX];
    for _ in 0..=random.below(4) {
        let limit = if random.below(2) == 0 { 640 } else { image.len() };
        let at = random.below(limit.min(image.len()).max(1));
        match random.below(8) {
            0..3 => {
                let bit = random.below(8);
                if let Some(byte) = image.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            3..6 => {
                let (number, width) = (NUMBERS[random.below(8)].to_le_bytes(), 1 << random.below(4));
                if let Some(place) = image.get_mut(at..at + width) {
                    place.copy_from_slice(&number[..width]);
                }
            }
            6 => image.truncate(at),
            _ => {
                let end = (at + random.below(40)).min(image.len());
                image.drain(at..end);
            }
        }
    }
}

/// What came of some mutated objects.
#[derive(Default)]
struct Outcomes {
    read: usize,
    refused: usize,
    kinds: HashSet<Discriminant<HsacoError>>,
}

/// Reads the objects with these numbers.
fn read_mutated(
    seeds: &[Vec<u8>],
    seed: u64,
    range: Range<usize>,
    image: &mut Vec<u8>,
    outcomes: &mut Outcomes,
) {
    let card: TargetId = "gfx1100".parse().unwrap();
    let mut random = Random(Random(seed).next() ^ range.start as u64);
    for at in range {
        image.clone_from(&seeds[at % seeds.len()]);
        mutate(image, &mut random);
        match CodeObject::parse_for(image, &card).and_then(|object| object.check(&DECL, "gfx1100")) {
            Ok(()) => outcomes.read += 1,
            Err(error) => {
                outcomes.refused += 1;
                outcomes.kinds.insert(discriminant(&error));
            }
        }
    }
}

#[test]
fn mutated_objects_are_read_or_refused() {
    const FEW: usize = 60_000;
    const RUN: usize = 256;
    let variable = |name: &str| std::env::var(name).ok();
    let full = if variable("PARITY_FULL").as_deref() == Some("1") { 40_000_000 } else { FEW };
    let tries = variable("PARITY_TRIES").map_or(full, |tries| tries.parse().unwrap());
    let seed = variable("PARITY_SEED").map_or(0, |seed| seed.parse().unwrap());
    let at = (24 + 8 + 24 + ENTRY.len()) as u64;
    let bundled = [bundle(1, &[(ENTRY, at, GFX1100.len() as u64)]), GFX1100.to_vec()].concat();
    let seeds = [GFX1100.to_vec(), GFX90A.to_vec(), bundled];
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let work = || {
        let (mut outcomes, mut image) = (Outcomes::default(), Vec::new());
        loop {
            let at = next.fetch_add(RUN, Ordering::Relaxed);
            if at >= tries {
                return outcomes;
            }
            read_mutated(&seeds, seed, at..tries.min(at + RUN), &mut image, &mut outcomes);
        }
    };
    let mut all = Outcomes::default();
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = Vec::from_iter((0..cores).map(|_| scope.spawn(work)));
        for worker in workers {
            let Outcomes { read, refused, kinds } = worker.join().unwrap();
            all.read += read;
            all.refused += refused;
            all.kinds.extend(kinds);
        }
    });
    let Outcomes { read, refused, kinds } = all;
    let rate = tries as f64 / start.elapsed().as_secs_f64();
    let _ = writeln!(
        std::io::stderr(),
        "code object mutations: seed {seed}: {tries} executions, {rate:.0} a second: {read} taken, refused for {} reasons",
        kinds.len()
    );
    if tries < FEW {
        return;
    }
    assert!(read > refused / 50 && refused > read / 2, "{read} were read, {refused} refused");
    assert!(kinds.len() >= 10, "only {} kinds of error came", kinds.len());
}
