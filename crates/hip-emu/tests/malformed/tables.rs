//! Headers and tables: their places, sizes and counts.

use hip_emu::LoadError;
use hsaco::HsacoError;
use object::elf;

use crate::image::{axpy, header, program, relocated, section};

#[test]
fn tables_beyond_the_file_are_refused() {
    let image = axpy();
    for at in [1 << 20, 1 << 63, u64::MAX, u64::MAX - 63] {
        for table in [header::PROGRAMS_AT, header::SECTIONS_AT] {
            assert_refused!(image.with64(table, at), LoadError::Object(HsacoError::BadElf { .. }));
        }
    }
    for table in [header::PROGRAMS, header::SECTIONS] {
        assert_refused!(image.with16(table, 0xfff0), LoadError::Object(HsacoError::BadElf { .. }));
    }
    for table in [header::PROGRAM_SIZE, header::SECTION_SIZE] {
        for bytes in [0, 1, 0xffff] {
            assert_refused!(image.with16(table, bytes), LoadError::Object(HsacoError::BadElf { .. }));
        }
    }
}

#[test]
fn counts_that_overflow_are_refused() {
    let image = axpy();
    let first_section = image.number(header::SECTIONS_AT, 8);
    // Counts that do not fit the header stand in the first section: of sections in 64 bits, of segments in 32.
    for count in [1 << 63, u64::MAX, u64::MAX / 64 + 1, 1 << 58, 100] {
        let sections = image.with16(header::SECTIONS, 0).with64(first_section + section::SIZE, count);
        assert_refused!(sections, LoadError::Object(HsacoError::BadElf { .. }));
    }
    for count in [u32::MAX, 1 << 31, 1000] {
        let programs = image.with16(header::PROGRAMS, 0xffff).with32(first_section + section::INFO, count);
        assert_refused!(programs, LoadError::Object(HsacoError::BadElf { .. }));
    }
    // Of symbols and relocations it is the table's size.
    for size in [1 << 63, u64::MAX, u64::MAX / 24 * 24, 24 << 59, 1 << 20] {
        let symbols = image.with64(image.section(elf::SHT_DYNSYM) + section::SIZE, size);
        assert_refused!(symbols, LoadError::Object(HsacoError::BadElf { .. }));
        let names = image.with64(image.section(elf::SHT_STRTAB) + section::SIZE, size);
        assert_refused!(names, LoadError::Object(HsacoError::BadElf { .. }));
    }
    let image = relocated();
    for size in [u64::MAX / 24 * 24, 24 << 59, 24 << 20] {
        let relocations = image.with64(image.section(elf::SHT_RELA) + section::SIZE, size);
        assert_refused!(relocations, LoadError::Elf(_));
    }
}

#[test]
fn section_tables_that_contradict_each_other_are_refused() {
    let (image, relocated) = (axpy(), relocated());
    let symbols = image.section(elf::SHT_DYNSYM);
    for at in [1 << 20, 1 << 63, u64::MAX] {
        assert_refused!(
            image.with64(symbols + section::OFFSET, at),
            LoadError::Object(HsacoError::BadElf { .. })
        );
        let table = relocated.section(elf::SHT_RELA);
        assert_refused!(relocated.with64(table + section::OFFSET, at), LoadError::Elf(_));
    }
    for link in [u32::MAX, 1000] {
        assert_refused!(
            image.with32(symbols + section::LINK, link),
            LoadError::Object(HsacoError::BadElf { .. })
        );
    }
    // A table whose size is no multiple of its entries' would be read in part.
    let odd = relocated.section(elf::SHT_RELA) + section::SIZE;
    assert_refused!(relocated.with64(odd, 47), LoadError::BadRelocation { offset: 0x568, kind: 0 });
    let entries = relocated.section(elf::SHT_RELA) + section::ENTRY_SIZE;
    assert_refused!(relocated.with64(entries, 16), LoadError::BadRelocation { offset: 0x568, kind: 0 });
}

#[test]
fn segments_beyond_the_file_or_the_limit_are_refused() {
    let image = axpy();
    let code = image.programs(elf::PT_LOAD)[1];
    for at in [1 << 20, 1 << 63, u64::MAX] {
        assert_refused!(image.with64(code + program::OFFSET, at), LoadError::BadSegments { bytes: 0x380 });
    }
    for bytes in [0x381, 1 << 63, u64::MAX] {
        let larger = image.with64(code + program::FILE_SIZE, bytes);
        // More bytes in the file than in memory, whether the file has them or not.
        assert_refused!(larger, LoadError::BadSegments { .. });
    }
    for bytes in [1 << 28, 1 << 32, 1 << 63] {
        let larger = image.with64(code + program::MEMORY_SIZE, bytes);
        assert_refused!(larger, LoadError::BadSegments { bytes: found } if *found == 0x1900 + bytes);
        let farther = image.with64(code + program::ADDRESS, bytes);
        assert_refused!(farther, LoadError::BadSegments { bytes: found } if *found == 0x380 + bytes);
    }
    let wrapping = image.with64(code + program::ADDRESS, u64::MAX);
    assert_refused!(wrapping, LoadError::BadSegments { bytes: u64::MAX });
}

#[test]
fn segments_that_overlap_or_hold_no_code_are_refused() {
    let image = axpy();
    let loads = image.programs(elf::PT_LOAD);
    // The code over the end of the segment before it, and that one over the code.
    assert_refused!(
        image.with64(loads[1] + program::ADDRESS, 0x87f),
        LoadError::BadSegments { bytes: 0xbff }
    );
    assert_refused!(
        image.with64(loads[0] + program::MEMORY_SIZE, 0x1901),
        LoadError::BadSegments { bytes: 0x1c80 }
    );
    assert_refused!(image.with32(loads[1] + program::FLAGS, 4), LoadError::BadSegments { .. });
    let none = loads.iter().fold(image, |image, &at| image.with32(at + program::KIND, 0));
    assert_refused!(none, LoadError::BadSegments { bytes: 0 });
}
