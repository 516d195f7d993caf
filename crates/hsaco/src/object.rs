use std::borrow::Cow;
use std::collections::BTreeSet;

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader, Sym};

use crate::bundle;
use crate::metadata::{self, KernelInfo};
use crate::target::processor_of_mach;
use crate::{HsacoError, TargetId};

/// A code object, read: what it is for and which kernels it holds.
#[derive(Clone, Debug)]
pub struct CodeObject<'a> {
    elf: Cow<'a, [u8]>,
    target: TargetId,
    version: u32,
    pub(crate) kernels: Vec<KernelInfo>,
    pub(crate) symbols: BTreeSet<String>,
}

/// `NT_AMDGPU_METADATA`, of the owner `AMDGPU`.
const NT_AMDGPU_METADATA: u32 = 32;
/// `ELFABIVERSION_AMDGPU_HSA_V4` is 2.
const ABI_VERSION_TO_CODE_OBJECT_VERSION: u32 = 2;
const EF_AMDGPU_MACH: u32 = 0xff;

impl<'a> CodeObject<'a> {
    /// Reads a bare ELF, or a bundle with one device entry.
    ///
    /// # Errors
    /// Every way in which bytes can fail to be a code object has a variant of [`HsacoError`]; none panics.
    pub fn parse(bytes: &'a [u8]) -> Result<CodeObject<'a>, HsacoError> {
        CodeObject::from_elf(bundle::unwrap(bytes, None)?)
    }

    /// Reads a bare ELF, or the entry of a bundle that suits `card` best: its own processor before its family.
    ///
    /// # Errors
    /// As [`CodeObject::parse`]. A bare ELF is taken whatever it is for; see [`TargetId::runs_on`].
    pub fn parse_for(bytes: &'a [u8], card: &TargetId) -> Result<CodeObject<'a>, HsacoError> {
        CodeObject::from_elf(bundle::unwrap(bytes, Some(card))?)
    }

    fn from_elf(elf: Cow<'a, [u8]>) -> Result<CodeObject<'a>, HsacoError> {
        // An entry of a bundle may be anything.
        if !elf.starts_with(&elf::ELFMAG) {
            return Err(HsacoError::NotACodeObject { found: elf.iter().copied().take(8).collect() });
        }
        if let &[_, _, _, _, class, order, ..] = &*elf
            && (class, order) != (elf::ELFCLASS64.0, elf::ELFDATA2LSB.0)
        {
            return Err(HsacoError::WrongLayout { class, order });
        }
        let file = ElfFile64::<Endianness>::parse(&*elf)?;
        let (header, endian) = (file.elf_header(), file.endian());
        let machine = header.e_machine(endian);
        if machine != elf::EM_AMDGPU {
            return Err(HsacoError::WrongMachine { found: machine.0 });
        }
        let (target, kernels) = metadata::parse(metadata_note(header, endian, &elf)?)?;
        let target = target_of(header.e_flags(endian).0, &target)?;
        let table = file.elf_dynamic_symbol_table();
        let mut symbols = BTreeSet::new();
        for symbol in table.iter().filter(|symbol| !symbol.is_undefined(endian)) {
            symbols.insert(String::from_utf8_lossy(table.symbol_name(endian, symbol)?).into_owned());
        }
        let version = u32::from(header.e_ident().abi_version) + ABI_VERSION_TO_CODE_OBJECT_VERSION;
        Ok(CodeObject { elf, target, version, kernels, symbols })
    }

    /// The ELF itself, unwrapped from its bundle.
    pub fn elf(&self) -> &[u8] {
        &self.elf
    }

    /// What it runs on.
    pub fn target(&self) -> &TargetId {
        &self.target
    }

    /// Version of the code object format: 4, 5 or 6.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its kernels, in the order of the metadata.
    pub fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    /// Whether the dynamic symbol table defines `name`.
    pub fn defines(&self, name: &str) -> bool {
        self.symbols.contains(name)
    }
}

fn metadata_note<'a>(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    elf: &'a [u8],
) -> Result<&'a [u8], HsacoError> {
    for segment in header.program_headers(endian, elf)? {
        let Some(mut notes) = segment.notes(endian, elf)? else { continue };
        while let Some(note) = notes.next()? {
            if note.n_type(endian).0 == NT_AMDGPU_METADATA && note.name() == b"AMDGPU" {
                return Ok(note.desc());
            }
        }
    }
    Err(HsacoError::NoMetadata)
}

/// The target, which header and metadata must name alike.
fn target_of(flags: u32, metadata: &str) -> Result<TargetId, HsacoError> {
    let mach = flags & EF_AMDGPU_MACH;
    let processor = processor_of_mach(mach).ok_or(HsacoError::UnknownProcessor { mach })?;
    let header = TargetId {
        processor: processor.to_owned(),
        sramecc: setting(flags >> 10),
        xnack: setting(flags >> 8),
    };
    let named = metadata.strip_prefix("amdgcn-amd-amdhsa--").unwrap_or(metadata);
    if named.parse::<TargetId>()? != header {
        let (header, metadata) = (header.to_string(), metadata.to_owned());
        return Err(HsacoError::TargetDisagrees { header, metadata });
    }
    Ok(header)
}

/// Two bits of a feature since code object V4: 0 is not supported, 1 is any, 2 is off, 3 is on.
fn setting(bits: u32) -> Option<bool> {
    match bits & 3 {
        2 => Some(false),
        3 => Some(true),
        _ => None,
    }
}
