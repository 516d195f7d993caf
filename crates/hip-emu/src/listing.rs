//! The code of an object as text, in the form of `llvm-objdump -d`.

use std::fmt::{self, Write};

use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind,
    read::elf::{ElfFile64, ElfSection64},
};

use crate::{Arch, DecodeError, Dialect, Instruction, ObjectError, Value, decode};

type Elf<'a> = ElfFile64<'a, Endianness>;

/// One executable section of an object, cut at its symbols.
#[derive(Clone, Debug)]
pub struct Listing<'a> {
    /// Architecture of the code.
    pub arch: Arch,
    /// Name of the section.
    pub section: String,
    /// Functions by rising address. Padding after a function belongs to it; code before the first has the section's
    /// name.
    pub functions: Vec<Function<'a>>,
}

/// A symbol's code, up to the next symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Name as in the symbol table.
    pub name: String,
    /// Address of the first byte.
    pub address: u64,
    /// The bytes.
    pub code: &'a [u8],
}

impl<'a> Listing<'a> {
    /// Reads the executable sections of an ELF file that hold anything.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Elf`] when the bytes are no ELF file, [`ObjectError::NoCode`] when nothing in it is executable.
    pub fn of_elf(elf: &'a [u8], arch: Arch) -> Result<Vec<Self>, ObjectError> {
        let file = ElfFile64::<Endianness>::parse(elf)?;
        let texts =
            file.sections().filter(|section| section.kind() == SectionKind::Text && section.size() > 0);
        let listings =
            texts.map(|text| Self::of_section(&file, &text, arch)).collect::<Result<Vec<_>, _>>()?;
        if listings.is_empty() { Err(ObjectError::NoCode) } else { Ok(listings) }
    }

    fn of_section(
        file: &Elf<'a>,
        text: &ElfSection64<'a, '_, Endianness>,
        arch: Arch,
    ) -> Result<Self, ObjectError> {
        let (code, start) = (text.data()?, text.address());
        let mut places: Vec<(u64, String)> = file
            .symbols()
            .filter(|symbol| {
                symbol.section_index() == Some(text.index()) && symbol.kind() != SymbolKind::Section
            })
            .filter(|symbol| symbol.kind() == SymbolKind::Text || symbol.kind() == SymbolKind::Label)
            .map(|symbol| Ok((symbol.address(), symbol.name()?.to_owned())))
            .collect::<Result<_, object::read::Error>>()?;
        places.sort();
        if places.first().is_none_or(|(address, _)| *address > start) {
            places.insert(0, (start, text.name()?.to_owned()));
        }
        places.dedup_by_key(|(address, _)| *address);
        let ends: Vec<u64> = places.iter().skip(1).map(|(address, _)| *address).chain([u64::MAX]).collect();
        let functions = places
            .into_iter()
            .zip(ends)
            .filter_map(|((address, name), end)| {
                let offset = |address: u64| usize::try_from(address.checked_sub(start)?).ok();
                let (from, to) = (offset(address)?, offset(end).unwrap_or(code.len()).min(code.len()));
                Some(Function { name, address, code: code.get(from..to)? })
            })
            .collect();
        Ok(Self { arch, section: text.name()?.to_owned(), functions })
    }

    /// Prints one function: its label, then one instruction a line. Eight zero bytes and more are one line, `...`.
    ///
    /// # Errors
    ///
    /// Those of `out`. What cannot be decoded is printed as `.long`.
    pub fn print(&self, function: &Function<'_>, dialect: Dialect, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "{:016x} <{}>:", function.address, function.name)?;
        let (mut address, mut rest) = (function.address, function.code);
        while !rest.is_empty() {
            let mut length = zeros(rest);
            if length > 0 {
                writeln!(out, "\t\t...")?;
            } else {
                let line = Line::first(self.arch, address, rest);
                self.print_line(&line, dialect, out)?;
                length = line.code.len();
            }
            rest = &rest[length..];
            address = address.wrapping_add(length as u64);
        }
        Ok(())
    }

    fn print_line(&self, line: &Line<'_>, dialect: Dialect, out: &mut impl Write) -> fmt::Result {
        let text = match &line.instruction {
            Ok(instruction) => instruction.display(dialect).to_string(),
            Err(_) => long(line.code),
        };
        write!(out, "\t{text:<59}// {:012X}:", line.address)?;
        for word in line.code.chunks(4) {
            out.write_str(" ")?;
            for byte in word.iter().rev() {
                write!(out, "{byte:02X}")?;
            }
        }
        if let Some((name, offset)) = line.target().and_then(|target| self.place(target)) {
            match offset {
                0 => write!(out, " <{name}>")?,
                _ => write!(out, " <{name}+{offset:#x}>")?,
            }
        }
        writeln!(out)
    }

    /// The function that holds an address, and how far in.
    fn place(&self, address: u64) -> Option<(&str, u64)> {
        let function = self.functions.iter().rfind(|function| function.address <= address)?;
        Some((function.name.as_str(), address - function.address))
    }
}

/// Bytes of the zero words at the start of code that are not worth a line each.
fn zeros(code: &[u8]) -> usize {
    let zeros = code.iter().take_while(|byte| **byte == 0).count();
    if zeros < 8 { 0 } else { zeros & !3 }
}

/// Bytes that are no instruction.
fn long(code: &[u8]) -> String {
    let word = code.iter().rev().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
    format!(".long {word:#010x}")
}

impl<'a> Function<'a> {
    /// The instructions in turn. After bytes that are none, decoding goes on with the next word.
    pub fn lines(&self, arch: Arch) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let (mut rest, mut address) = (self.code, self.address);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let line = Line::first(arch, address, rest);
            rest = &rest[line.code.len()..];
            address = address.wrapping_add(line.code.len() as u64);
            Some(line)
        })
    }
}

/// One instruction in its place.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// The bytes.
    pub code: &'a [u8],
    /// What they are.
    pub instruction: Result<Instruction, DecodeError>,
}

impl<'a> Line<'a> {
    /// The instruction at the start of code.
    fn first(arch: Arch, address: u64, code: &'a [u8]) -> Self {
        let instruction = decode(arch, code);
        let length = match &instruction {
            Ok(instruction) => instruction.length(),
            Err(DecodeError::Refused { length, .. }) => *length,
            Err(_) => 4,
        };
        Self { address, code: &code[..length.min(code.len())], instruction }
    }

    /// Where a branch goes.
    #[must_use]
    pub fn target(&self) -> Option<u64> {
        let instruction = self.instruction.as_ref().ok()?;
        let next = self.address.wrapping_add(self.code.len() as u64);
        instruction.operands().iter().find_map(|operand| match operand.value {
            Value::Branch(words) => Some(next.wrapping_add_signed(i64::from(words) * 4)),
            _ => None,
        })
    }
}
