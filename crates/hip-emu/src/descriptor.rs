//! The 64-byte kernel descriptor (LLVM's AMDGPU usage guide, "Kernel Descriptor").

use object::{Object, ObjectSection, ObjectSymbol};

use crate::{Arch, ObjectError};

/// Bytes of a descriptor.
pub(crate) const SIZE: usize = 64;

/// How many vector registers the waves of a kernel have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VectorRegisters {
    pub(crate) ordinary: usize,
    /// Accumulation registers, behind the ordinary ones.
    pub(crate) accumulation: usize,
}

impl VectorRegisters {
    /// Both together.
    pub(crate) const fn count(self) -> usize {
        self.ordinary + self.accumulation
    }
}

/// What the hardware is told when a kernel starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelDescriptor {
    /// Bytes of group memory (LDS) of a work-group, as far as it is fixed.
    pub group_segment_size: u32,
    /// Bytes of scratch of a work-item.
    pub private_segment_size: u32,
    /// Bytes of the argument block.
    pub kernarg_size: u32,
    /// From the descriptor to the first instruction, in bytes.
    pub entry_offset: i64,
    /// `COMPUTE_PGM_RSRC1`: registers, float modes.
    pub resource1: u32,
    /// `COMPUTE_PGM_RSRC2`: user registers, work-group ids, traps.
    pub resource2: u32,
    /// `COMPUTE_PGM_RSRC3`: accumulation registers, shared registers, by architecture.
    pub resource3: u32,
    /// Which values the user registers start with, and the size of a wave.
    pub properties: u16,
    /// Argument words that are loaded into registers: count, and offset from bit 7.
    pub kernarg_preload: u16,
}

impl KernelDescriptor {
    /// Reads a descriptor; `None` when there are fewer than 64 bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.first_chunk()?;
        let (half, word) = (
            |at| read::<2>(bytes, at).map(u16::from_le_bytes),
            |at| read::<4>(bytes, at).map(u32::from_le_bytes),
        );
        Some(Self {
            group_segment_size: word(0)?,
            private_segment_size: word(4)?,
            kernarg_size: word(8)?,
            entry_offset: i64::from_le_bytes(read(bytes, 16)?),
            resource3: word(44)?,
            resource1: word(48)?,
            resource2: word(52)?,
            properties: half(56)?,
            kernarg_preload: half(58)?,
        })
    }

    /// The descriptor of `symbol` in an ELF file, and its address.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Elf`] when the bytes are no ELF file, [`ObjectError::NoDescriptor`] when the symbol is missing or
    /// holds fewer than 64 bytes.
    pub fn find(elf: &[u8], symbol: &str) -> Result<(u64, Self), ObjectError> {
        let file = object::read::elf::ElfFile64::<object::Endianness>::parse(elf)?;
        let missing = || ObjectError::NoDescriptor { symbol: symbol.to_owned() };
        let found = file.dynamic_symbols().find(|entry| entry.name() == Ok(symbol)).ok_or_else(missing)?;
        let section = file.section_by_index(found.section_index().ok_or_else(missing)?)?;
        let offset =
            found.address().checked_sub(section.address()).and_then(|offset| usize::try_from(offset).ok());
        let bytes = offset.and_then(|offset| section.data().ok()?.get(offset..)).ok_or_else(missing)?;
        Ok((found.address(), Self::parse(bytes).ok_or_else(missing)?))
    }

    /// Lanes of a wave, where the architecture leaves a choice.
    #[must_use]
    pub const fn is_wave32(&self) -> bool {
        self.properties & (1 << 10) != 0
    }

    /// The vector registers that it asks for. gfx11 allocates more on cards with large register files.
    pub(crate) fn vector_registers(&self, arch: Arch) -> VectorRegisters {
        const MOST: usize = 256;
        let units = |word: u32| usize::try_from(word & 63).unwrap_or(0) + 1;
        let all = units(self.resource1) * arch.vector_granule();
        let ordinary = if arch.joins_accumulation() { 4 * units(self.resource3) } else { all };
        let ordinary = ordinary.min(all).min(MOST);
        // CDNA1 has as many of one kind as of the other.
        let accumulation = match arch {
            Arch::Gfx9 => ordinary,
            _ if arch.joins_accumulation() => (all - ordinary).min(MOST),
            _ => 0,
        };
        VectorRegisters { ordinary, accumulation }
    }

    /// Scalar registers that are filled before the work-group's ids.
    #[must_use]
    pub const fn user_registers(&self) -> u32 {
        (self.resource2 >> 1) & 31
    }

    /// Names of the values that the user registers start with, in their order.
    pub fn user_values(&self) -> impl Iterator<Item = &'static str> {
        const NAMES: [&str; 7] = [
            "private_segment_buffer",
            "dispatch_ptr",
            "queue_ptr",
            "kernarg_segment_ptr",
            "dispatch_id",
            "flat_scratch_init",
            "private_segment_size",
        ];
        let properties = self.properties;
        NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| properties & (1 << bit) != 0)
            .map(|(_, name)| name)
    }
}

fn read<const BYTES: usize>(bytes: &[u8; SIZE], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..)?.first_chunk().copied()
}
