//! Errors.

use crate::{Arch, Family};

/// Why bytes are not an instruction that this crate decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end within an instruction.
    #[error("an instruction needs {needed} bytes, {available} are left: the code is cut off")]
    Truncated {
        /// Bytes that the instruction has, as far as it could be read.
        needed: usize,
        /// Bytes that were given.
        available: usize,
    },
    /// No encoding of the architecture matches.
    #[error("no {arch:?} instruction starts with {first:#010x} {second:#010x}: wrong architecture, or data")]
    Unknown {
        /// Architecture.
        arch: Arch,
        /// First word.
        first: u32,
        /// Second word, or 0.
        second: u32,
    },
    /// An encoding matches, but an operand has no meaning.
    #[error("{mnemonic} ({first:#010x} {second:#010x}) has operand code {code:#x}, which names nothing")]
    BadOperand {
        /// Mnemonic of the encoding.
        mnemonic: &'static str,
        /// The operand's code.
        code: u32,
        /// First word.
        first: u32,
        /// Second word, or 0.
        second: u32,
    },
    /// The instruction is of a family that this crate refuses.
    #[error("{mnemonic} is of family {family:?}, which is for graphics and not decoded")]
    Refused {
        /// Mnemonic.
        mnemonic: &'static str,
        /// Family.
        family: Family,
        /// Bytes of the instruction.
        length: usize,
    },
}

/// Why a file's code cannot be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The bytes are not an ELF file, or its tables contradict each other.
    #[error("the file cannot be read as a 64-bit ELF object")]
    Elf(#[from] object::read::Error),
    /// No section holds instructions.
    #[error("the object has no executable section: give a code object that a compiler linked")]
    NoCode,
    /// A kernel's descriptor is missing or short.
    #[error("the object has no descriptor `{symbol}` of 64 bytes: the file is damaged")]
    NoDescriptor {
        /// Symbol of the descriptor.
        symbol: String,
    },
}
