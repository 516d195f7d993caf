//! Compressed bundles: clang's own, all header versions and methods, and headers that lie.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::error::Error as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use hsaco::{CodeObject, HsacoError, TargetId};
use proptest::prelude::*;

/// By clang-offload-bundler 22, of the same three entries.
const V2: &[u8] = include_bytes!("images/scale.v2.ccob");
const V3: &[u8] = include_bytes!("images/scale.v3.ccob");
const GFX1100: &[u8] = include_bytes!("images/scale.gfx1100.elf");
const GFX11_GENERIC: &[u8] = include_bytes!("images/scale.gfx11-generic.elf");

/// Bytes of the bundle in both, and the start of its MD5 (`md5sum` of the bundle that is not compressed).
const SIZE: u64 = 17_384;
const HASH: [u8; 8] = [0xc6, 0xf2, 0x6a, 0x0e, 0x2b, 0x86, 0xb0, 0x9f];
const ZLIB: u16 = 0;
const ZSTD: u16 = 1;

fn elf_for(bytes: &[u8], card: &str) -> Result<Vec<u8>, HsacoError> {
    let card: TargetId = card.parse()?;
    CodeObject::parse_for(bytes, &card).map(|object| object.elf().to_vec())
}

fn error(bytes: &[u8]) -> HsacoError {
    elf_for(bytes, "gfx1100").unwrap_err()
}

/// A header of `version` before `stream`, which tells the sizes and the hash given.
fn with_header(version: u16, method: u16, size: u64, hash: [u8; 8], stream: &[u8]) -> Vec<u8> {
    let mut bytes = b"CCOB".to_vec();
    bytes.extend([version.to_le_bytes(), method.to_le_bytes()].concat());
    match version {
        1 => bytes.extend(u32::try_from(size).unwrap().to_le_bytes()),
        2 => bytes.extend(
            [24 + u32::try_from(stream.len()).unwrap(), u32::try_from(size).unwrap()]
                .map(u32::to_le_bytes)
                .concat(),
        ),
        _ => bytes.extend([32 + stream.len() as u64, size].map(u64::to_le_bytes).concat()),
    }
    bytes.extend(hash);
    bytes.extend(stream);
    bytes
}

/// Clang's stream, which is zstd's.
fn zstd() -> &'static [u8] {
    &V2[24..]
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The bundle that clang compressed, as clang lays it out.
fn bundle() -> Vec<u8> {
    let mut bytes = b"__CLANG_OFFLOAD_BUNDLE__".to_vec();
    let entries: [(u64, &[u8], &str); 3] = [
        (0x1000, &[], "host-x86_64-unknown-linux-unknown-"),
        (0x1000, GFX1100, "hipv4-amdgcn-amd-amdhsa--gfx1100"),
        (0x3000, GFX11_GENERIC, "hipv4-amdgcn-amd-amdhsa--gfx11-generic"),
    ];
    bytes.extend((entries.len() as u64).to_le_bytes());
    for (offset, image, id) in entries {
        bytes.extend([offset, image.len() as u64, id.len() as u64].map(u64::to_le_bytes).concat());
        bytes.extend(id.as_bytes());
    }
    for (offset, image, _) in entries {
        bytes.resize(usize::try_from(offset).unwrap().max(bytes.len()), 0);
        bytes.extend(image);
    }
    bytes
}

#[test]
fn every_version_and_method_gives_the_cards_entry() {
    let zlib = zlib(&bundle());
    let mut all = vec![V2.to_vec(), V3.to_vec()];
    for version in 1..=3 {
        all.push(with_header(version, ZSTD, SIZE, HASH, zstd()));
        all.push(with_header(version, ZLIB, SIZE, HASH, &zlib));
    }
    for bytes in all {
        assert_eq!(elf_for(&bytes, "gfx1100").unwrap(), GFX1100);
        assert_eq!(elf_for(&bytes, "gfx1103").unwrap(), GFX11_GENERIC);
        let missing = elf_for(&bytes, "gfx942").unwrap_err();
        assert!(
            matches!(&missing, HsacoError::NoBundleEntry { found, .. } if *found == ["gfx1100", "gfx11-generic"]),
            "{missing}"
        );
        assert!(matches!(CodeObject::parse(&bytes), Err(HsacoError::NoBundleEntry { wanted: None, .. })));
    }
}

#[test]
fn what_follows_a_bundle_that_tells_its_end_is_passed_over() {
    for bytes in [V2, V3] {
        assert_eq!(elf_for(&[bytes, bytes].concat(), "gfx1100").unwrap(), GFX1100);
    }
}

#[test]
fn a_header_that_lies_about_sizes_or_hash_is_an_error() {
    let zlib = zlib(&bundle());
    for (method, stream) in [(ZSTD, zstd()), (ZLIB, &zlib)] {
        for version in 1..=3 {
            let lying = |size| error(&with_header(version, method, size, HASH, stream));
            for (size, most) in [(0, 1), (100, 101), (SIZE - 1, SIZE), (SIZE + 1, SIZE)] {
                let lied = lying(size);
                assert!(
                    matches!(lied, HsacoError::CompressedSize { expected, found } if expected == size && found as u64 == most),
                    "{lied}"
                );
            }
            // The limit itself is only a size that is not met.
            assert!(matches!(lying(1 << 30), HsacoError::CompressedSize { .. }));
            assert!(
                matches!(lying((1 << 30) + 1), HsacoError::CompressedTooLarge { size, limit } if size == limit + 1)
            );
            let hash = error(&with_header(version, method, SIZE, [0; 8], stream));
            assert!(
                matches!(hash, HsacoError::CompressedHash { expected: 0, found } if found == u64::from_le_bytes(HASH))
            );
        }
    }
    for size in [1 << 63, u64::MAX] {
        let lied = error(&with_header(3, ZSTD, size, HASH, zstd()));
        assert!(matches!(lied, HsacoError::CompressedTooLarge { size: found, .. } if found == size));
    }
}

#[test]
fn a_file_size_beyond_the_file_or_within_the_header_is_an_error() {
    for wrong in [0, 23, u32::try_from(V2.len()).unwrap() + 1, u32::MAX] {
        let mut bytes = V2.to_vec();
        bytes[8..12].copy_from_slice(&wrong.to_le_bytes());
        let lied = error(&bytes);
        assert!(
            matches!(lied, HsacoError::CompressedTruncated { expected, found } if expected == u64::from(wrong) && found == V2.len()),
            "{lied}"
        );
    }
    for wrong in [31, V3.len() as u64 + 1, 1 << 63, u64::MAX] {
        let mut bytes = V3.to_vec();
        bytes[8..16].copy_from_slice(&wrong.to_le_bytes());
        assert!(
            matches!(error(&bytes), HsacoError::CompressedTruncated { expected, .. } if expected == wrong)
        );
    }
}

#[test]
fn unknown_versions_and_methods_are_named() {
    for wrong in [0_u16, 4, u16::MAX] {
        let mut bytes = V3.to_vec();
        bytes[4..6].copy_from_slice(&wrong.to_le_bytes());
        assert!(matches!(error(&bytes), HsacoError::CompressedVersion { found } if found == wrong));
    }
    for wrong in [2_u16, u16::MAX] {
        let mut bytes = V3.to_vec();
        bytes[6..8].copy_from_slice(&wrong.to_le_bytes());
        assert!(matches!(error(&bytes), HsacoError::CompressionMethod { found } if found == wrong));
    }
}

#[test]
fn a_damaged_stream_is_an_error_with_its_cause() {
    let whole = zlib(&bundle());
    for (method, stream) in [(ZSTD, zstd()), (ZLIB, &whole)] {
        for wrong in [&b""[..], b"neither zlib nor zstd", &stream[..stream.len() / 2]] {
            let damaged = error(&with_header(3, method, SIZE, HASH, wrong));
            // A stream may also just end, which shows in its size.
            let named = match &damaged {
                HsacoError::CompressedDamaged { source } => !source.to_string().is_empty(),
                HsacoError::CompressedSize { found, .. } => wrong.len() > 100 && *found < 17_384,
                _ => false,
            };
            assert!(named, "{damaged}: {:?}", damaged.source());
        }
    }
    // The method of the other.
    assert!(matches!(error(&with_header(3, ZLIB, SIZE, HASH, zstd())), HsacoError::CompressedDamaged { .. }));
    assert!(matches!(error(&with_header(3, ZSTD, SIZE, HASH, &whole)), HsacoError::CompressedDamaged { .. }));
}

#[test]
fn a_compressed_bundle_in_another_is_no_code_object() {
    let twice = zlib(V3);
    let bytes = with_header(1, ZLIB, V3.len() as u64, md5_start(V3), &twice);
    assert!(matches!(error(&bytes), HsacoError::NotACodeObject { found } if found.starts_with(b"CCOB")));
}

/// What a header must say of `bytes`: read from the error about a header that says something else.
fn md5_start(bytes: &[u8]) -> [u8; 8] {
    match error(&with_header(1, ZLIB, bytes.len() as u64, [0; 8], &zlib(bytes))) {
        HsacoError::CompressedHash { found, .. } => found.to_le_bytes(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_truncation_is_an_error() {
    for bytes in [V2, V3] {
        for length in 4..bytes.len() {
            let cut = error(&bytes[..length]);
            assert!(
                matches!(cut, HsacoError::CompressedTruncated { found, .. } if found == length),
                "{length}: {cut}"
            );
        }
    }
    let v1 = with_header(1, ZLIB, SIZE, HASH, &zlib(&bundle()));
    for length in 4..v1.len() {
        let cut = error(&v1[..length]);
        let named = match cut {
            HsacoError::CompressedTruncated { expected, .. } => expected == if length < 6 { 8 } else { 20 },
            HsacoError::CompressedDamaged { .. } | HsacoError::CompressedSize { .. } => length >= 20,
            _ => false,
        };
        assert!(named, "{length}");
    }
}

/// A small stream that would be very large is stopped at its header's size.
#[test]
fn a_bomb_is_stopped_at_the_size_that_its_header_tells() {
    let zeros = zlib(&vec![0; 64 << 20]);
    assert!(zeros.len() < 1 << 17);
    let stopped = error(&with_header(3, ZLIB, 1000, HASH, &zeros));
    assert!(matches!(stopped, HsacoError::CompressedSize { expected: 1000, found: 1001 }), "{stopped}");
}

/// As many cases as said, under Miri as `PROPTEST_CASES` says.
fn cases(cases: u32) -> ProptestConfig {
    if cfg!(miri) { ProptestConfig::default() } else { ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..cases(4096) })]

    #[test]
    fn scattered_damage_is_an_error(changes in prop::collection::vec((4..V3.len(), any::<u8>()), 1..8)) {
        let mut bytes = V3.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        // The hash covers the content, so damage is seen; some bits of a stream mean nothing.
        if let Ok(elf) = elf_for(&bytes, "gfx1100") {
            prop_assert!(elf == GFX1100);
        }
    }
}
