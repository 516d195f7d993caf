//! What the tables lead to: relocations, descriptors, metadata.

use hip_emu::{LoadError, Machine, Options};
use hsaco::HsacoError;
use object::elf;

use crate::image::{axpy, program, relocated, relocation, section, symbol};

#[test]
fn relocations_that_cannot_be_applied_are_refused() {
    let image = relocated();
    let first = image.relocations();
    let by_symbol = first + relocation::BYTES;
    let place = image.number(by_symbol, 8) as u64;
    for offset in [1 << 20, 1 << 63, u64::MAX, u64::MAX - 7, 0x395a] {
        let outside = image.with64(first + relocation::OFFSET, offset);
        assert_refused!(outside, LoadError::BadRelocation { offset: found, kind: 13 } if *found == offset);
    }
    for kind in [0, 1, 2, 4, 5, 6, 7, 12, 14, u32::MAX] {
        let unknown = image.with32(by_symbol + relocation::KIND, kind);
        assert_refused!(
            unknown,
            LoadError::BadRelocation { offset, kind: found } if *offset == place && *found == kind
        );
    }
    for index in [0, 6, 1000, u32::MAX] {
        let nowhere = image.with32(by_symbol + relocation::SYMBOL, index);
        assert_refused!(nowhere, LoadError::BadRelocation { offset, kind: 3 } if *offset == place);
    }
    // Undefined, and an absolute number.
    for section in [0, 0xfff1] {
        let undefined = image.with16(image.symbol("numbers") + symbol::SECTION, section);
        assert_refused!(undefined, LoadError::BadRelocation { offset, kind: 3 } if *offset == place);
    }
    for kind in [elf::SHT_REL, elf::SHT_RELR, elf::SHT_CREL] {
        let table = image.section(elf::SHT_RELA);
        let other = image.with32(table + section::KIND, kind.0);
        assert_refused!(other, LoadError::BadRelocation { offset: 0x568, kind: 0 });
    }
}

#[test]
fn kernels_without_descriptor_or_code_are_refused() {
    let image = axpy();
    let (kernel, descriptor) = (image.symbol("axpy_f16"), image.symbol("axpy_f16.kd"));
    let undefined = image.with16(descriptor + symbol::SECTION, 0);
    assert_refused!(undefined, LoadError::BadDescriptor { kernel } if kernel == "axpy_f16");
    // The dynamic symbol has another name than the metadata says.
    let name = image.find(b"\0axpy_f16.kd\0") + 1;
    let renamed = image.with(name, b"axpy_f64.kd");
    assert_refused!(renamed, LoadError::BadDescriptor { kernel } if kernel == "axpy_f16");
    let end = 0x3cf1;
    for address in [end, end - 63, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 63] {
        let outside = image.with64(descriptor + symbol::ADDRESS, address);
        assert_refused!(outside, LoadError::BadDescriptor { kernel } if kernel == "axpy_f16");
    }
    let large = image.with64(descriptor + symbol::SIZE, u64::MAX);
    assert_refused!(large, LoadError::BadDescriptor { kernel } if kernel == "axpy_f16");
    // The entry is told by the descriptor, at 16, and not by the kernel's symbol.
    assert!(Machine::new(Options::default()).load(&image.with64(kernel + symbol::ADDRESS, 0).0).is_ok());
    let entry = image.number(descriptor + symbol::ADDRESS, 8) + 16;
    let right = image.number(entry, 8) as u64;
    for wrong in [0, right + 1, right + 0x280, 1 << 63, u64::MAX] {
        let elsewhere = image.with64(entry, wrong);
        assert_refused!(elsewhere, LoadError::BadDescriptor { kernel } if kernel == "axpy_f16");
    }
}

#[test]
fn metadata_that_lies_is_refused() {
    let image = axpy();
    let note = image.find(b"AMDGPU\0") + 8;
    // Arrays, maps, texts, bytes and extensions of 2^32 - 1 entries, whole or as the list of kernels.
    let kernels = image.find(b"amdhsa.kernels") + 14;
    for at in [note, kernels] {
        for kind in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
            let endless = image.with(at, &[kind, 0xff, 0xff, 0xff, 0xff]);
            assert_refused!(endless, LoadError::Object(HsacoError::BadMetadata { .. }));
        }
    }
    // An array in an array in an array, deeper than any metadata.
    let deep = image.with(note, &[0x91; 200]);
    assert_refused!(deep, LoadError::Object(HsacoError::BadMetadata { .. }));
    let other = image.with(note - 8, b"NOBODY");
    assert_refused!(other, LoadError::Object(HsacoError::NoMetadata));
    let missing = image.with(image.find(b".vgpr_count"), b".xgpr_count");
    assert_refused!(missing, LoadError::Object(HsacoError::MetadataField { field: ".vgpr_count", .. }));
    let notes = image.programs(elf::PT_NOTE)[0];
    for bytes in [1 << 20, 1 << 63, u64::MAX] {
        let outside = image.with64(notes + program::FILE_SIZE, bytes);
        assert_refused!(outside, LoadError::Object(HsacoError::BadElf { .. }));
    }
    assert_refused!(image.with64(notes + program::FILE_SIZE, 0), LoadError::Object(HsacoError::NoMetadata));
}
