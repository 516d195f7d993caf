//! Code objects in the card's memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use hsaco::{CodeObject, KernelInfo, TargetId};
use object::{
    Endianness, Object, ObjectSymbol,
    elf::{self, FileHeader64, Rela64},
    read::elf::{ElfFile64, FileHeader, ProgramHeader, Rela, SectionHeader, Sym, SymbolTable},
};

use crate::{
    Arch, KernelDescriptor, LoadError,
    arch::Lacks,
    descriptor::{self, VectorRegisters},
    exec::Code,
    memory::{Allocation, Memory},
    source_line::{SourceLine, SourceLines},
};

/// Largest image that is loaded, in bytes.
const MOST: u64 = 1 << 28;

/// A loaded code object: its segments in memory, its kernels and variables. Dropping it frees the memory.
pub struct Program {
    memory: Arc<Memory>,
    kernels: Vec<KernelInfo>,
    descriptors: HashMap<String, (u64, KernelDescriptor)>,
    symbols: HashMap<String, (u64, u64)>,
    pub(crate) arch: Arch,
    /// What the card lacks of it.
    lacks: Lacks,
    /// The executable segment's bytes.
    pub(crate) code: Vec<u8>,
    /// The executable segment in the object's own numbering.
    pub(crate) code_start: u64,
    image: Allocation,
    lines: Option<SourceLines>,
    /// Translations by number of vector registers.
    translated: Mutex<HashMap<VectorRegisters, Arc<Code>>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
        out.debug_struct("Program")
            .field("kernels", &names)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The image was allocated by `load` and is freed nowhere else, so it is there.
        let freed = self.memory.free(self.image.address);
        debug_assert!(freed.is_ok(), "the image is an allocation");
    }
}

impl Program {
    pub(crate) fn load(memory: &Arc<Memory>, image: &[u8], target: &TargetId) -> Result<Self, LoadError> {
        let object = CodeObject::parse_for(image, target)?;
        let wrong =
            || LoadError::WrongTarget { expected: target.to_string(), found: object.target().to_string() };
        // A bare object is read whatever it is for.
        if !object.target().runs_on(target) {
            return Err(wrong());
        }
        let arch = Arch::from_target(&object.target().processor).ok_or_else(wrong)?;
        let file = ElfFile64::<Endianness>::parse(object.elf())?;
        let segments = Segments::read(&file)?;
        let bytes =
            usize::try_from(segments.span).map_err(|_| LoadError::BadSegments { bytes: segments.span })?;
        let address = memory.allocate(bytes)?;
        let mut program = Self {
            memory: Arc::clone(memory),
            kernels: object.kernels().to_vec(),
            descriptors: HashMap::new(),
            symbols: HashMap::new(),
            arch,
            lacks: Lacks::of(&target.processor),
            code: Vec::new(),
            code_start: segments.code.0,
            image: Allocation { address, bytes },
            lines: SourceLines::new(object.elf()),
            translated: Mutex::default(),
        };
        memory.fill(address, 0, bytes)?;
        for &(start, contents) in &segments.loads {
            memory.write(address + start, contents)?;
        }
        program.relocate(&file, memory)?;
        let length = usize::try_from(segments.code.1).unwrap_or(0);
        program.code = vec![0; length];
        memory.read(address + segments.code.0, &mut program.code)?;
        program.find_symbols(&file)?;
        Ok(program)
    }

    /// Applies the relocations that a linked code object has.
    fn relocate(&self, file: &ElfFile64<'_, Endianness>, memory: &Memory) -> Result<(), LoadError> {
        const RELA: u64 = size_of::<Rela64<Endianness>>() as u64;
        let (endian, symbols) = (file.endian(), file.elf_dynamic_symbol_table());
        for section in file.elf_section_table().iter() {
            // Others relocate what is not loaded, such as debug information.
            if section.sh_flags(endian).0 & elf::SHF_ALLOC.0 == 0 && section.link(endian) != symbols.section()
            {
                continue;
            }
            // Tables of other forms, which linkers do not write for AMDGPU, and entries of other sizes would be passed
            // over in silence.
            let refused = match section.sh_type(endian) {
                elf::SHT_REL | elf::SHT_RELR | elf::SHT_CREL => true,
                elf::SHT_RELA => {
                    section.sh_entsize(endian) != RELA || !section.sh_size(endian).is_multiple_of(RELA)
                }
                _ => false,
            };
            if refused {
                return Err(LoadError::BadRelocation { offset: section.sh_addr(endian), kind: 0 });
            }
            let table = section.rela(endian, file.data())?;
            for relocation in table.map_or(&[][..], |(relocations, _)| relocations) {
                self.apply(relocation, endian, symbols, memory)?;
            }
        }
        Ok(())
    }

    /// Applies one relocation (LLVM's AMDGPU usage guide, "Relocation Records").
    fn apply(
        &self,
        relocation: &Rela64<Endianness>,
        endian: Endianness,
        symbols: &SymbolTable<'_, FileHeader64<Endianness>>,
        memory: &Memory,
    ) -> Result<(), LoadError> {
        const ABS64: u32 = 3;
        const RELATIVE64: u32 = 13;
        let offset = relocation.r_offset(endian);
        let kind = relocation.r_type(endian, false).0;
        let bad = || LoadError::BadRelocation { offset, kind };
        let value = match kind {
            RELATIVE64 => 0,
            ABS64 => {
                let index = relocation.symbol(endian, false).ok_or_else(bad)?;
                let symbol = symbols.symbol(index).map_err(|_| bad())?;
                if symbol.is_undefined(endian) || symbol.is_absolute(endian) {
                    return Err(bad());
                }
                symbol.st_value(endian)
            }
            _ => return Err(bad()),
        };
        let value = self.image.address.wrapping_add(value).wrapping_add_signed(relocation.r_addend(endian));
        let place = self.image.address.checked_add(offset).filter(|&place| self.image.holds(place, 8));
        Ok(memory.write(place.ok_or_else(bad)?, &value.to_le_bytes())?)
    }

    fn find_symbols(&mut self, file: &ElfFile64<'_, Endianness>) -> Result<(), LoadError> {
        for symbol in file.dynamic_symbols().filter(|symbol| symbol.is_definition()) {
            let inside =
                symbol.address().checked_add(symbol.size()).is_some_and(|end| end <= self.image.bytes as u64);
            if let (Ok(name), true) = (symbol.name(), inside) {
                self.symbols.insert(name.to_owned(), (self.image.address + symbol.address(), symbol.size()));
            }
        }
        for kernel in &self.kernels {
            let bad = || LoadError::BadDescriptor { kernel: kernel.name.clone() };
            let (address, _) = self.symbol(&kernel.descriptor).ok_or_else(bad)?;
            let mut bytes = [0; descriptor::SIZE];
            self.memory.read(address, &mut bytes).map_err(|_| bad())?;
            let descriptor = KernelDescriptor::parse(&bytes).ok_or_else(bad)?;
            let entry = (address - self.image.address)
                .wrapping_add_signed(descriptor.entry_offset)
                .wrapping_sub(self.code_start);
            if entry >= self.code.len() as u64 || entry % 4 != 0 {
                return Err(bad());
            }
            self.descriptors.insert(kernel.name.clone(), (entry / 4, descriptor));
        }
        Ok(())
    }

    /// The kernels that it defines.
    #[must_use]
    pub fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    /// The kernel of a name.
    #[must_use]
    pub fn kernel(&self, name: &str) -> Option<&KernelInfo> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// Address and size of a symbol, such as a `__device__` variable.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<(u64, u64)> {
        self.symbols.get(name).copied()
    }

    /// Word of a kernel's first instruction, and its descriptor.
    pub(crate) fn descriptor(&self, kernel: &str) -> Option<(u64, &KernelDescriptor)> {
        self.descriptors.get(kernel).map(|(entry, descriptor)| (*entry, descriptor))
    }

    /// Where the code lies in memory.
    pub(crate) fn code_at(&self) -> Allocation {
        Allocation { address: self.image.address + self.code_start, bytes: self.code.len() }
    }

    /// The source line of the instruction at an address in the object's own numbering.
    pub(crate) fn line(&self, address: u64) -> Option<SourceLine> {
        self.lines.as_ref()?.find(address)
    }

    /// The code, translated for a kernel's registers.
    pub(crate) fn translated(&self, descriptor: &KernelDescriptor) -> Arc<Code> {
        let mut translated = self.translated.lock().unwrap_or_else(PoisonError::into_inner);
        let registers = descriptor.vector_registers(self.arch);
        let code = translated
            .entry(registers)
            .or_insert_with(|| Arc::new(Code::new(self.arch, self.lacks, &self.code, registers)));
        Arc::clone(code)
    }
}

/// What is loaded, by address in the object's own numbering.
struct Segments<'a> {
    loads: Vec<(u64, &'a [u8])>,
    /// Start and length of the executable segment.
    code: (u64, u64),
    span: u64,
}

impl<'a> Segments<'a> {
    fn read(file: &ElfFile64<'a, Endianness>) -> Result<Self, LoadError> {
        let endian = file.endian();
        let headers = file.elf_header().program_headers(endian, file.data())?;
        let mut segments = Self { loads: Vec::new(), code: (0, 0), span: 0 };
        for header in headers.iter().filter(|header| header.p_type(endian) == elf::PT_LOAD) {
            let (start, size) = (header.p_vaddr(endian), header.p_memsz(endian));
            let end = start.checked_add(size).filter(|&end| end <= MOST);
            let end = end.ok_or(LoadError::BadSegments { bytes: start.saturating_add(size) })?;
            let contents =
                header.data(endian, file.data()).map_err(|()| LoadError::BadSegments { bytes: size })?;
            // Segments come in the order of their addresses, by ELF's rules; these would overlap.
            if contents.len() as u64 > size || start < segments.span {
                return Err(LoadError::BadSegments { bytes: end });
            }
            if header.p_flags(endian).0 & elf::PF_X.0 != 0 {
                segments.code = (start, contents.len() as u64);
            }
            segments.loads.push((start, contents));
            segments.span = segments.span.max(end);
        }
        if segments.code.1 == 0 {
            return Err(LoadError::BadSegments { bytes: segments.span });
        }
        Ok(segments)
    }
}
