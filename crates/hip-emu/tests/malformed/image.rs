//! Images to be damaged, and what the card and HIP say to them.

use std::ptr;

use hip_emu::{LoadError, Machine, Options};
use hip_ffi::sys::{hipError_t, hipModule_t};
use object::elf::{self, ProgramType, SectionType};

pub(crate) const AXPY: &[u8] = include_bytes!("../data/axpy.gfx1100.hsaco");
/// It has two relocations: an address by its symbol, and one by its place.
pub(crate) const RELOCATED: &[u8] = include_bytes!("../data/relocated.gfx1100.hsaco");

/// Offsets of the ELF header's fields.
pub(crate) mod header {
    pub(crate) const CLASS: usize = 4;
    pub(crate) const ORDER: usize = 5;
    pub(crate) const MACHINE: usize = 18;
    pub(crate) const PROGRAMS_AT: usize = 32;
    pub(crate) const SECTIONS_AT: usize = 40;
    pub(crate) const FLAGS: usize = 48;
    pub(crate) const PROGRAM_SIZE: usize = 54;
    pub(crate) const PROGRAMS: usize = 56;
    pub(crate) const SECTION_SIZE: usize = 58;
    pub(crate) const SECTIONS: usize = 60;
}

/// Offsets of a program header's fields.
pub(crate) mod program {
    pub(crate) const KIND: usize = 0;
    pub(crate) const FLAGS: usize = 4;
    pub(crate) const OFFSET: usize = 8;
    pub(crate) const ADDRESS: usize = 16;
    pub(crate) const FILE_SIZE: usize = 32;
    pub(crate) const MEMORY_SIZE: usize = 40;
    pub(crate) const BYTES: usize = 56;
}

/// Offsets of a section header's fields.
pub(crate) mod section {
    pub(crate) const KIND: usize = 4;
    pub(crate) const OFFSET: usize = 24;
    pub(crate) const SIZE: usize = 32;
    pub(crate) const LINK: usize = 40;
    pub(crate) const INFO: usize = 44;
    pub(crate) const ENTRY_SIZE: usize = 56;
    pub(crate) const BYTES: usize = 64;
}

/// Offsets of a symbol's fields.
pub(crate) mod symbol {
    pub(crate) const SECTION: usize = 6;
    pub(crate) const ADDRESS: usize = 8;
    pub(crate) const SIZE: usize = 16;
}

/// Offsets of a relocation's fields.
pub(crate) mod relocation {
    pub(crate) const OFFSET: usize = 0;
    pub(crate) const KIND: usize = 8;
    pub(crate) const SYMBOL: usize = 12;
    pub(crate) const BYTES: usize = 24;
}

/// An image to be damaged.
#[derive(Clone)]
pub(crate) struct Image(pub(crate) Vec<u8>);

impl Image {
    pub(crate) fn number(&self, at: usize, bytes: usize) -> usize {
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&self.0[at..at + bytes]);
        usize::try_from(u64::from_le_bytes(word)).unwrap()
    }

    /// The same with other bytes at `at`.
    pub(crate) fn with(&self, at: usize, bytes: &[u8]) -> Self {
        let mut image = self.clone();
        image.0[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    pub(crate) fn with16(&self, at: usize, number: u16) -> Self {
        self.with(at, &number.to_le_bytes())
    }

    pub(crate) fn with32(&self, at: usize, number: u32) -> Self {
        self.with(at, &number.to_le_bytes())
    }

    pub(crate) fn with64(&self, at: usize, number: u64) -> Self {
        self.with(at, &number.to_le_bytes())
    }

    /// Where a text starts.
    pub(crate) fn find(&self, text: &[u8]) -> usize {
        self.0.windows(text.len()).position(|window| window == text).unwrap()
    }

    /// Where the program headers of a kind start.
    pub(crate) fn programs(&self, kind: ProgramType) -> Vec<usize> {
        let (start, count) = (self.number(header::PROGRAMS_AT, 8), self.number(header::PROGRAMS, 2));
        let all = (0..count).map(|index| start + index * program::BYTES);
        all.filter(|at| self.number(at + program::KIND, 4) == usize::try_from(kind.0).unwrap()).collect()
    }

    /// Where the first section header of a kind starts.
    pub(crate) fn section(&self, kind: SectionType) -> usize {
        let (start, count) = (self.number(header::SECTIONS_AT, 8), self.number(header::SECTIONS, 2));
        let mut all = (0..count).map(|index| start + index * section::BYTES);
        all.find(|at| self.number(at + section::KIND, 4) == usize::try_from(kind.0).unwrap()).unwrap()
    }

    /// Where the dynamic symbol of a name starts.
    pub(crate) fn symbol(&self, name: &str) -> usize {
        let names = self.number(self.section(elf::SHT_STRTAB) + section::OFFSET, 8);
        let name = self.find(format!("\0{name}\0").as_bytes()) + 1 - names;
        let table = self.section(elf::SHT_DYNSYM);
        let (start, bytes) = (self.number(table + section::OFFSET, 8), self.number(table + section::SIZE, 8));
        (start..start + bytes).step_by(24).find(|&at| self.number(at, 4) == name).unwrap()
    }

    /// Where the relocations start.
    pub(crate) fn relocations(&self) -> usize {
        self.number(self.section(elf::SHT_RELA) + section::OFFSET, 8)
    }
}

pub(crate) fn axpy() -> Image {
    Image(AXPY.to_vec())
}

pub(crate) fn relocated() -> Image {
    Image(RELOCATED.to_vec())
}

/// Why the card and HIP refuse an image.
pub(crate) fn refusal(image: &Image) -> LoadError {
    let machine = Machine::new(Options::default());
    let error = machine.load(&image.0).unwrap_err();
    assert_eq!(machine.memory().used(), 0, "a failed load leaves nothing: {error}");
    let expected = match error {
        LoadError::WrongTarget { .. } => hipError_t::hipErrorNoBinaryForGpu,
        _ => hipError_t::hipErrorInvalidImage,
    };
    if let Some(code) = hip(image) {
        assert_eq!(code, expected, "{error}");
    }
    error
}

/// What HIP says, which is given no length: `None` for headers that tell of bytes beyond the image, but not so many
/// that nobody has them.
pub(crate) fn hip(image: &Image) -> Option<hipError_t> {
    let table = image.number(header::SECTION_SIZE, 2) * image.number(header::SECTIONS, 2);
    let end = image.number(header::SECTIONS_AT, 8).saturating_add(table);
    if (image.0.len() + 1..=1 << 32).contains(&end) {
        return None;
    }
    let api = hip_emu::api();
    let mut module: hipModule_t = ptr::null_mut();
    // SAFETY: a place for the result, and an image that is as long as its headers say, or is refused for them.
    let code = unsafe { (api.hip_module_load_data)(&raw mut module, image.0.as_ptr().cast()) };
    if code == hipError_t::hipSuccess {
        // SAFETY: the module that was just loaded.
        assert_eq!(unsafe { (api.hip_module_unload)(module) }, hipError_t::hipSuccess);
    }
    Some(code)
}
