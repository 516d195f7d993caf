//! Real objects read as `llvm-readelf --notes` reads them, and damaged ones refused without a panic.

use hsaco::{ArgInfo, CodeObject, HsacoError, KernelInfo, TargetId, ValueKind};
use proptest::prelude::*;

const GFX1100: &[u8] = include_bytes!("images/scale.gfx1100.elf");
const GFX11_GENERIC: &[u8] = include_bytes!("images/scale.gfx11-generic.elf");
const GFX90A: &[u8] = include_bytes!("images/scale.gfx90a.elf");

fn arg(name: &str, offset: u32, size: u32, kind: ValueKind) -> ArgInfo {
    ArgInfo { name: Some(name.to_owned()), offset, size, kind }
}

/// What llvm-readelf 22 prints for `scale` and `reverse`, by registers and wave size of the target.
fn expected(sgprs: [u32; 2], wavefront_size: u32) -> [KernelInfo; 2] {
    let scale = KernelInfo {
        name: "scale".to_owned(),
        descriptor: "scale.kd".to_owned(),
        args: vec![
            arg("y", 0, 8, ValueKind::GlobalBuffer),
            arg("x", 8, 8, ValueKind::GlobalBuffer),
            arg("factor", 16, 4, ValueKind::ByValue),
            arg("length", 24, 8, ValueKind::ByValue),
        ],
        kernarg_size: 32,
        lds: 0,
        scratch: 0,
        sgpr_spills: 0,
        vgpr_spills: 0,
        sgprs: sgprs[0],
        vgprs: 4,
        agprs: 0,
        wavefront_size,
        max_block: 256,
    };
    let reverse = KernelInfo {
        name: "reverse".to_owned(),
        descriptor: "reverse.kd".to_owned(),
        args: vec![arg("x", 0, 8, ValueKind::GlobalBuffer)],
        kernarg_size: 8,
        lds: 256,
        sgprs: sgprs[1],
        vgprs: 3,
        max_block: 64,
        ..scale.clone()
    };
    [scale, reverse]
}

#[test]
fn objects_are_read_as_llvm_reads_them() {
    for (bytes, target, version, sgprs, wave) in [
        (GFX1100, "gfx1100", 5, [18, 2], 32),
        (GFX11_GENERIC, "gfx11-generic", 6, [18, 2], 32),
        (GFX90A, "gfx90a:xnack-", 5, [10, 6], 64),
    ] {
        let object = CodeObject::parse(bytes).unwrap();
        assert_eq!((object.target().to_string().as_str(), object.version()), (target, version));
        assert_eq!(object.kernels(), expected(sgprs, wave), "{target}");
        assert!(["scale", "scale.kd", "reverse", "reverse.kd"].iter().all(|symbol| object.defines(symbol)));
        assert!(!object.defines("row"));
        assert_eq!(object.elf(), bytes);
    }
}

/// A bundle as clang writes it, with the host's empty entry first.
fn bundle(images: &[(&str, &[u8])]) -> Vec<u8> {
    let ids: Vec<_> = [("host-x86_64-unknown-linux--".to_owned(), &[][..])]
        .into_iter()
        .chain(images.iter().map(|(arch, bytes)| (format!("hipv4-amdgcn-amd-amdhsa--{arch}"), *bytes)))
        .collect();
    let mut bytes = b"__CLANG_OFFLOAD_BUNDLE__".to_vec();
    bytes.extend((ids.len() as u64).to_le_bytes());
    let mut offset = 4096_u64;
    for (id, image) in &ids {
        for number in [offset, image.len() as u64, id.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(id.as_bytes());
        offset += image.len() as u64;
    }
    bytes.resize(4096, 0);
    ids.iter().for_each(|(_, image)| bytes.extend(*image));
    bytes
}

#[test]
fn the_entry_of_a_bundle_is_chosen_by_card() {
    let bytes = bundle(&[("gfx11-generic", GFX11_GENERIC), ("gfx1100", GFX1100), ("gfx90a:xnack-", GFX90A)]);
    let target = |card: &str| {
        let card: TargetId = card.parse().unwrap();
        CodeObject::parse_for(&bytes, &card).map(|object| object.target().to_string())
    };
    assert_eq!(target("gfx1100").unwrap(), "gfx1100");
    assert_eq!(target("gfx1103").unwrap(), "gfx11-generic");
    assert_eq!(target("gfx90a:sramecc+:xnack-").unwrap(), "gfx90a:xnack-");
    assert!(matches!(target("gfx90a:sramecc+:xnack+"), Err(HsacoError::NoBundleEntry { .. })));
    assert!(matches!(CodeObject::parse(&bytes), Err(HsacoError::NoBundleEntry { wanted: None, .. })));
    let one = bundle(&[("gfx1100", GFX1100)]);
    assert_eq!(CodeObject::parse(&one).unwrap().elf(), GFX1100);
}

#[test]
fn a_compressed_bundle_is_read_by_its_feature_only() {
    let bytes = include_bytes!("images/scale.v3.ccob");
    let card: TargetId = "gfx1100".parse().unwrap();
    match CodeObject::parse_for(bytes, &card) {
        Ok(object) => assert!(cfg!(feature = "compressed") && object.elf() == GFX1100),
        Err(error) => {
            assert!(
                !cfg!(feature = "compressed") && matches!(error, HsacoError::CompressedBundle),
                "{error}"
            );
        }
    }
}

/// The sample with `bytes` written at `at`.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = GFX1100.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

#[test]
fn each_damage_has_its_error() {
    let position = |needle: &[u8]| GFX1100.windows(needle.len()).position(|window| window == needle).unwrap();
    // e_machine is at 18 and e_flags at 48 of an ELF64 header.
    let x86 = patched(18, &62_u16.to_le_bytes());
    assert!(matches!(CodeObject::parse(&x86), Err(HsacoError::WrongMachine { found: 62 })));
    for (at, byte, found) in [(4, 1, (1, 1)), (5, 2, (2, 2))] {
        let other = patched(at, &[byte]);
        assert!(
            matches!(CodeObject::parse(&other), Err(HsacoError::WrongLayout { class, order }) if (class, order) == found)
        );
    }
    let no_elf = bundle(&[("gfx1100", b"text")]);
    assert!(
        matches!(CodeObject::parse(&no_elf), Err(HsacoError::NotACodeObject { found }) if found == b"text")
    );
    let gfx1101 = patched(48, &[0x46]);
    assert!(
        matches!(CodeObject::parse(&gfx1101), Err(HsacoError::TargetDisagrees { header, .. }) if header == "gfx1101")
    );
    let unknown = patched(48, &[0xff]);
    assert!(matches!(CodeObject::parse(&unknown), Err(HsacoError::UnknownProcessor { mach: 0xff })));
    let note = patched(position(b"AMDGPU\0"), b"NOBODY");
    assert!(matches!(CodeObject::parse(&note), Err(HsacoError::NoMetadata)));
    let key = patched(position(b".vgpr_count"), b".xgpr_count");
    assert!(matches!(CodeObject::parse(&key), Err(HsacoError::MetadataField { field: ".vgpr_count", .. })));
    // A map of 65535 entries, where the note's text starts after its padded name.
    let map = patched(position(b"AMDGPU\0") + 8, &[0xde, 0xff, 0xff]);
    assert!(matches!(CodeObject::parse(&map), Err(HsacoError::BadMetadata { .. })));
    let text = CodeObject::parse(b"#!/bin/sh\n").unwrap_err().to_string();
    assert!(text.contains("AMDGPU ELF"), "{text}");
}

#[test]
fn every_truncation_is_an_error() {
    let bundled = bundle(&[("gfx1100", GFX1100)]);
    for image in [GFX1100, GFX90A, &bundled] {
        for length in 0..image.len() {
            assert!(CodeObject::parse(&image[..length]).is_err(), "{length} bytes of {}", image.len());
        }
    }
}

#[test]
fn any_byte_may_be_wrong_and_any_offset_unaligned() {
    let mut image = GFX1100.to_vec();
    for at in 0..image.len() {
        let byte = image[at];
        for wrong in [0, 0xff, byte ^ 0x80] {
            image[at] = wrong;
            // Some changes are harmless, so only a panic fails.
            let _ = CodeObject::parse(&image);
        }
        image[at] = byte;
    }
    image.insert(0, 0);
    assert_eq!(CodeObject::parse(&image[1..]).unwrap().kernels().len(), 2);
}

/// As many cases as said, under Miri as `PROPTEST_CASES` says.
fn cases(cases: u32) -> ProptestConfig {
    if cfg!(miri) { ProptestConfig::default() } else { ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..cases(512) })]

    #[test]
    fn scattered_damage_does_not_panic(changes in prop::collection::vec((0..GFX1100.len(), any::<u8>()), 1..16)) {
        let mut image = GFX1100.to_vec();
        for (at, byte) in changes {
            image[at] = byte;
        }
        let _ = CodeObject::parse(&image);
        let _ = CodeObject::parse(&bundle(&[("gfx1100", &image)]));
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..256), magic in 0..3) {
        let magic: &[u8] = [&b"\x7fELF\x02\x01\x01\x40"[..], b"__CLANG_OFFLOAD_BUNDLE__", b""][magic as usize];
        prop_assert!(CodeObject::parse(&[magic, &noise].concat()).is_err());
    }
}
