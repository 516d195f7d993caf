//! Code objects in the card's memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use hsaco::{CodeObject, KernelInfo, TargetId};
use object::{
    Endianness, Object, ObjectSymbol,
    read::elf::{ElfFile64, FileHeader, ProgramHeader},
};

use crate::{
    Arch, KernelDescriptor, LoadError,
    exec::Code,
    memory::{Allocation, Memory},
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
    /// The executable segment's bytes.
    pub(crate) code: Vec<u8>,
    /// The executable segment in the object's own numbering.
    pub(crate) code_start: u64,
    image: Allocation,
    /// Translations by number of vector registers.
    translated: Mutex<HashMap<u32, Arc<Code>>>,
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
        let processor = &object.target().processor;
        let (Some(arch), wanted) = (Arch::from_target(processor), Arch::from_target(&target.processor))
        else {
            return Err(LoadError::WrongTarget {
                expected: target.to_string(),
                found: object.target().to_string(),
            });
        };
        if wanted != Some(arch) {
            return Err(LoadError::WrongTarget {
                expected: target.to_string(),
                found: object.target().to_string(),
            });
        }
        let elf = object.elf();
        let file = ElfFile64::<Endianness>::parse(elf)?;
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
            code: Vec::new(),
            code_start: segments.code.0,
            image: Allocation { address, bytes },
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
        program.find_symbols(&file, elf)?;
        Ok(program)
    }

    /// Applies the relocations that a linked code object has.
    fn relocate(&self, file: &ElfFile64<'_, Endianness>, memory: &Memory) -> Result<(), LoadError> {
        const ABS64: u32 = 3;
        const RELATIVE64: u32 = 13;
        let Some(relocations) = file.dynamic_relocations() else { return Ok(()) };
        for (offset, relocation) in relocations {
            let object::RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
            let kind = r_type.0;
            let bad = || LoadError::BadRelocation { offset, kind };
            let symbol = match relocation.target() {
                object::RelocationTarget::Symbol(index) => {
                    let table = file.dynamic_symbol_table().ok_or_else(bad)?;
                    object::ObjectSymbolTable::symbol_by_index(&table, index).map_err(|_| bad())?.address()
                }
                _ => 0,
            };
            let value = match kind {
                RELATIVE64 => 0,
                ABS64 => symbol,
                _ => return Err(bad()),
            };
            let value = self.image.address.wrapping_add(value).wrapping_add_signed(relocation.addend());
            let place = self.image.address.checked_add(offset).filter(|&place| self.image.holds(place, 8));
            memory.write(place.ok_or_else(bad)?, &value.to_le_bytes())?;
        }
        Ok(())
    }

    fn find_symbols(&mut self, file: &ElfFile64<'_, Endianness>, elf: &[u8]) -> Result<(), LoadError> {
        for symbol in file.dynamic_symbols().filter(|symbol| symbol.is_definition()) {
            let inside =
                symbol.address().checked_add(symbol.size()).is_some_and(|end| end <= self.image.bytes as u64);
            if let (Ok(name), true) = (symbol.name(), inside) {
                self.symbols.insert(name.to_owned(), (self.image.address + symbol.address(), symbol.size()));
            }
        }
        for kernel in &self.kernels {
            let bad = || LoadError::BadDescriptor { kernel: kernel.name.clone() };
            let (at, descriptor) = KernelDescriptor::find(elf, &kernel.descriptor).map_err(|_| bad())?;
            let entry = at.wrapping_add_signed(descriptor.entry_offset).wrapping_sub(self.code_start);
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

    /// The code, translated for a kernel's registers.
    pub(crate) fn translated(&self, descriptor: &KernelDescriptor) -> Arc<Code> {
        let mut translated = self.translated.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = descriptor.resource1 & 63;
        let code =
            translated.entry(rows).or_insert_with(|| Arc::new(Code::new(self.arch, &self.code, descriptor)));
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
        for header in headers.iter().filter(|header| header.p_type(endian) == object::elf::PT_LOAD) {
            let (start, size) = (header.p_vaddr(endian), header.p_memsz(endian));
            let end = start.checked_add(size).filter(|&end| end <= MOST);
            let end = end.ok_or(LoadError::BadSegments { bytes: start.saturating_add(size) })?;
            let contents =
                header.data(endian, file.data()).map_err(|()| LoadError::BadSegments { bytes: size })?;
            if contents.len() as u64 > size {
                return Err(LoadError::BadSegments { bytes: contents.len() as u64 });
            }
            if header.p_flags(endian).0 & object::elf::PF_X.0 != 0 {
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
