//! What the checks find: places, waves, and values that were never written.

use std::fmt;

use crate::{SourceLine, fault::line_text, memory::Allocation};

/// An instruction of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset in the object's address space.
    pub pc: u64,
    /// The instruction, or its bytes.
    pub text: String,
    /// The source line that it comes from, where the object has line tables.
    pub line: Option<SourceLine>,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "pc {:#x} ({}){}", self.pc, self.text, line_text(self.line.as_ref()))
    }
}

/// An address space that waves share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharedSpace {
    /// Allocations.
    Global,
    /// The memory of a work-group.
    Lds,
}

impl fmt::Display for SharedSpace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Global => "memory",
            Self::Lds => "LDS",
        })
    }
}

/// A wave of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaveId {
    /// Its work-group in x, y, z.
    pub group: [u32; 3],
    /// Its number in the work-group.
    pub wave: u32,
}

impl fmt::Display for WaveId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "wave {} of work-group {:?}", self.wave, self.group)
    }
}

/// Where a value comes from that was never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A register that the kernel never wrote.
    Register {
        /// A vector register, or else a scalar one.
        vector: bool,
        /// Its number.
        index: usize,
    },
    /// The scalar condition code.
    Scc,
    /// A byte of global memory.
    Global {
        /// Its address.
        address: u64,
        /// The allocation that it lies in.
        allocation: Allocation,
    },
    /// A byte of LDS.
    Lds {
        /// Its address.
        address: u32,
    },
    /// A byte of a lane's scratch.
    Scratch {
        /// Its address.
        address: u32,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Register { vector, index } => write!(out, "{}", register_text(vector, index)),
            Self::Scc => out.write_str("scc"),
            Self::Global { address, allocation } => {
                write!(
                    out,
                    "the byte at {address:#x}, {} bytes into {allocation}",
                    allocation.offset(address)
                )
            }
            Self::Lds { address } => write!(out, "LDS at {address:#x}"),
            Self::Scratch { address } => write!(out, "scratch at {address:#x}"),
        }
    }
}

/// A register as it is written in assembly.
pub(crate) fn register_text(vector: bool, index: usize) -> String {
    format!("{}{index}", if vector { "v" } else { "s" })
}

/// What a value decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// Where memory is accessed.
    Address,
    /// Whether a branch is taken, or where to.
    Branch,
    /// Which lanes are active.
    ActiveLanes,
    /// Which register is accessed.
    Index,
    /// What is stored to global memory.
    Stored,
}

impl fmt::Display for Use {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Address => "an address",
            Self::Branch => "a branch",
            Self::ActiveLanes => "the set of active lanes",
            Self::Index => "the choice of a register",
            Self::Stored => "a value stored to memory",
        })
    }
}
