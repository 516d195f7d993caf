//! The source line that an instruction was compiled from, out of an object's `.debug_line` (DWARF 2 to 5).

use std::fmt;

use gimli::{
    AttributeValue, DebugLine, DebugLineOffset, DebugLineStr, DebugStr, EndianSlice, IncompleteLineProgram,
    LineProgramHeader, LineRow, LineRows, LittleEndian, Reader, Section,
};
use object::{Endianness, Object, ObjectSection, read::elf::ElfFile64};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// Bytes of an address where the line table does not say, before DWARF 5.
const ADDRESS_SIZE: u8 = 8;
/// Most bytes of a unit's tables of folders and files. A table in memory is a hundred times as large.
const MOST_TABLE_BYTES: usize = 1 << 20;

/// A place in a source file. It prints as `file:line`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SourceLine {
    /// Path of the file, with the folder of the compilation where the object has it.
    pub file: String,
    /// Line, from 1 on.
    pub line: u32,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.file, self.line)
    }
}

/// The line tables of an object.
///
/// Nothing is read ahead: a look-up runs through the tables, in time linear in their bytes, whatever they hold.
#[derive(Clone)]
pub(crate) struct SourceLines {
    line: Vec<u8>,
    line_str: Vec<u8>,
    str: Vec<u8>,
}

impl SourceLines {
    /// `None` for what is no ELF file, has no line table, or has a compressed one.
    pub(crate) fn new(elf: &[u8]) -> Option<Self> {
        let file = ElfFile64::<Endianness>::parse(elf).ok()?;
        let section =
            |name| file.section_by_name(name)?.uncompressed_data().ok().map(|bytes| bytes.into_owned());
        let line = section(DebugLine::<Bytes<'_>>::section_name()).filter(|line| !line.is_empty())?;
        let line_str = section(DebugLineStr::<Bytes<'_>>::section_name()).unwrap_or_default();
        let str = section(DebugStr::<Bytes<'_>>::section_name()).unwrap_or_default();
        Some(Self { line, line_str, str })
    }

    /// The line of the instruction at an address in the object's own numbering; of inlined code, the line in the
    /// function that was inlined. `None` where the compiler names no line.
    pub(crate) fn find(&self, address: u64) -> Option<SourceLine> {
        let table = DebugLine::new(&self.line, LittleEndian);
        let mut rest = EndianSlice::new(&self.line, LittleEndian);
        loop {
            let offset = self.line.len() - rest.len();
            // A unit that cannot be read is passed over; without its length there is no next one.
            if take_unit(&mut rest)? > MOST_TABLE_BYTES {
                continue;
            }
            let Ok(program) = table.program(DebugLineOffset(offset), ADDRESS_SIZE, None, None) else {
                continue;
            };
            let mut rows = program.rows();
            if let Some(row) = row_of(&mut rows, address) {
                return self.place(rows.header(), &row);
            }
        }
    }

    fn place(&self, header: &LineProgramHeader<Bytes<'_>>, row: &LineRow) -> Option<SourceLine> {
        let line = u32::try_from(row.line()?.get()).ok()?;
        let file = row.file(header)?;
        let mut path = self.text(file.path_name())?;
        // The first folder is that of the compilation, and the others may lie in it.
        for folder in [file.directory(header), header.directory(0)] {
            if is_absolute(&path) {
                break;
            }
            let folder = folder.and_then(|folder| self.text(folder)).filter(|folder| !folder.is_empty());
            if let Some(folder) = folder
                && !path.starts_with(&format!("{folder}/"))
            {
                path = format!("{folder}/{path}");
            }
        }
        Some(SourceLine { file: path, line })
    }

    /// A string of the line table; what would move a terminal's cursor is replaced.
    fn text(&self, value: AttributeValue<Bytes<'_>>) -> Option<String> {
        let bytes = match value {
            AttributeValue::String(text) => text.slice(),
            AttributeValue::DebugLineStrRef(offset) => {
                DebugLineStr::from(EndianSlice::new(&self.line_str, LittleEndian))
                    .get_str(offset)
                    .ok()?
                    .slice()
            }
            AttributeValue::DebugStrRef(offset) => {
                DebugStr::new(&self.str, LittleEndian).get_str(offset).ok()?.slice()
            }
            _ => return None,
        };
        let text = String::from_utf8_lossy(bytes);
        Some(text.replace(char::is_control, "\u{fffd}"))
    }
}

/// Takes a unit's line table, and says how many bytes its tables of folders and files have.
fn take_unit(rest: &mut Bytes<'_>) -> Option<usize> {
    let (length, format) = rest.read_initial_length().ok()?;
    let mut unit = rest.split(length).ok()?;
    let table_bytes = |unit: &mut Bytes<'_>| {
        if unit.read_u16()? >= 5 {
            // Sizes of an address and of a segment selector.
            unit.skip(2)?;
        }
        unit.read_length(format)
    };
    Some(table_bytes(&mut unit).unwrap_or(0))
}

/// The row whose instructions, up to the next row, hold an address.
fn row_of<'a>(
    rows: &mut LineRows<Bytes<'a>, IncompleteLineProgram<Bytes<'a>>>,
    address: u64,
) -> Option<LineRow> {
    let mut last: Option<LineRow> = None;
    let mut removed = false;
    while let Ok(Some((_, row))) = rows.next_row() {
        // A linker puts the lines of code that it removed at 0, where the object has its header.
        removed = if last.is_none() { row.address() == 0 } else { removed };
        if let Some(last) = last.filter(|last| last.address() <= address && address < row.address())
            && !removed
        {
            return Some(last);
        }
        last = (!row.end_sequence()).then_some(*row);
    }
    None
}

/// Whether a path is absolute on any system: the compiler's may not be this one.
fn is_absolute(path: &str) -> bool {
    path.starts_with(['/', '\\']) || path.as_bytes().get(1) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arch, Listing};

    const DWARF5: &[u8] = include_bytes!("../tests/data/lines.gfx1100.hsaco");
    const DWARF4: &[u8] = include_bytes!("../tests/data/lines.dwarf4.gfx1100.hsaco");

    /// Mnemonic, and line as printed, of each instruction of the kernel.
    fn lines_of(elf: &[u8]) -> Vec<(&'static str, Option<String>)> {
        let lines = SourceLines::new(elf).unwrap();
        let listings = Listing::of_elf(elf, Arch::Gfx11).unwrap();
        let instructions = listings[0].functions[0].lines(Arch::Gfx11);
        instructions
            .map(|line| {
                (line.instruction.unwrap().mnemonic(), lines.find(line.address).map(|at| at.to_string()))
            })
            .collect()
    }

    fn expected(file: &str) -> Vec<(&'static str, Option<String>)> {
        let at = |line: u32| Some(format!("{file}:{line}"));
        vec![
            ("s_load_b128", at(14)),
            // The constant of an addition: the compiler names no line.
            ("v_mov_b32_e32", None),
            ("v_lshlrev_b32_e32", at(15)),
            ("s_waitcnt", at(15)),
            ("global_load_b32", at(15)),
            ("s_waitcnt", at(9)),
            ("v_fmamk_f32", at(9)),
            ("global_store_b32", at(9)),
            ("s_endpgm", at(17)),
        ]
    }

    #[test]
    fn each_instruction_has_the_line_that_it_was_compiled_from() {
        for (elf, file) in [(DWARF5, "/source/lines.hip"), (DWARF4, "lines.hip")] {
            let (found, expected) = (lines_of(elf), expected(file));
            assert_eq!(found[..expected.len()], expected, "{file}");
            assert!(found[expected.len()..].iter().all(|line| *line == ("s_code_end", None)), "{file}");
        }
    }

    #[test]
    fn addresses_outside_the_code_have_no_line() {
        let lines = SourceLines::new(DWARF5).unwrap();
        for address in [0, 0x15ff, 0x1634, 1 << 40, u64::MAX] {
            assert_eq!(lines.find(address), None, "{address:#x}");
        }
        assert_eq!(lines.find(0x1633).map(|at| at.line), Some(17));
    }

    #[test]
    fn an_object_without_a_readable_table_has_no_lines() {
        assert!(SourceLines::new(include_bytes!("../tests/data/axpy.gfx1100.hsaco")).is_none());
        assert!(SourceLines::new(b"").is_none());
        let compressed = with_flag_of_line_table(u8::try_from(object::elf::SHF_COMPRESSED.0 >> 8).unwrap());
        assert!(SourceLines::new(&compressed).is_none());
        assert!(SourceLines::new(&with_flag_of_line_table(0)).is_some());
    }

    /// The object with the second byte of `.debug_line`'s flags replaced.
    fn with_flag_of_line_table(byte: u8) -> Vec<u8> {
        let file = ElfFile64::<Endianness>::parse(DWARF5).unwrap();
        let section = file.section_by_name(".debug_line").unwrap();
        let headers = file.elf_header().e_shoff.get(Endianness::Little);
        let at = usize::try_from(headers).unwrap() + section.index().0 * 64 + 8;
        let mut damaged = DWARF5.to_vec();
        damaged[at + 1] = byte;
        damaged
    }

    #[test]
    fn units_that_cannot_be_read_are_passed_over() {
        let lines = SourceLines::new(DWARF5).unwrap();
        let unit = |version: u16, header_bytes: u32, padding: usize| {
            let mut unit = [&version.to_le_bytes()[..], &[8, 0], &header_bytes.to_le_bytes()].concat();
            unit.resize(unit.len() + padding, 0);
            [&u32::try_from(unit.len()).unwrap().to_le_bytes()[..], &unit].concat()
        };
        let large = MOST_TABLE_BYTES + 1;
        for other in [unit(9, 4, 4), unit(5, 9, 4), unit(5, u32::try_from(large).unwrap(), large)] {
            let mut both = lines.clone();
            both.line.splice(..0, other);
            assert_eq!(both.find(0x1614), lines.find(0x1614));
        }
        let mut cut = lines.clone();
        cut.line.splice(..0, u32::MAX.to_le_bytes());
        assert_eq!(cut.find(0x1614), None);
    }

    #[test]
    fn names_are_joined_and_cannot_move_a_cursor() {
        let mut object = DWARF5.to_vec();
        let folder = b"/source\0";
        for at in 0..object.len() - folder.len() {
            if object[at..].starts_with(folder) {
                object[at..at + folder.len()].copy_from_slice(b"\x1b[2J...\0");
            }
        }
        let found = SourceLines::new(&object).unwrap().find(0x1614).unwrap().to_string();
        assert_eq!(found, "\u{fffd}[2J.../lines.hip:15");
        assert!(is_absolute("C:\\lines.hip") && is_absolute("/lines.hip") && !is_absolute("lines.hip"));
    }

    #[test]
    fn damaged_tables_give_a_line_or_none() {
        let file = ElfFile64::<Endianness>::parse(DWARF5).unwrap();
        let range = |name| file.section_by_name(name).unwrap().file_range().unwrap();
        let mut places: Vec<usize> = (0..DWARF5.len()).collect();
        for (start, length) in [range(".debug_line"), range(".debug_line_str")] {
            let (start, length) = (usize::try_from(start).unwrap(), usize::try_from(length).unwrap());
            // The tables more often than the rest.
            places.extend((start..start + length).cycle().take(DWARF5.len()));
        }
        let (mut found, mut lost) = (0, 0);
        for (step, &place) in places.iter().enumerate() {
            let mut damaged = DWARF5.to_vec();
            // All 256 values come up, and in the tables in different places.
            damaged[place] ^= u8::try_from(step * 97 % 255 + 1).unwrap();
            let lines = SourceLines::new(&damaged);
            match lines.and_then(|lines| lines.find(0x1628)) {
                Some(_) => found += 1,
                None => lost += 1,
            }
        }
        assert!(found > 0 && lost > 0, "{found} {lost}");
        for length in 0..DWARF5.len() {
            let _ = SourceLines::new(&DWARF5[..length]).and_then(|lines| lines.find(0x1628));
        }
    }
}
