//! Errors of memory, loading and execution.

use crate::{
    DecodeError, Origin, Place, SharedSpace, SourceLine, Use, WaveId, finding::register_text,
    memory::Allocation,
};

/// Why memory could not be had or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The host has no such block.
    #[error("{bytes} bytes of emulated device memory cannot be had: free buffers or ask for less")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// Nothing is allocated at the address.
    #[error("no allocation starts at {address:#x}: give an address that was allocated and not freed")]
    NotAnAllocation {
        /// The address.
        address: u64,
    },
    /// The range does not lie within one allocation.
    #[error("{bytes} bytes at {address:#x} lie in no allocation{}", near(*nearest, *address))]
    OutOfBounds {
        /// First address.
        address: u64,
        /// Bytes of the range.
        bytes: usize,
        /// The nearest allocation.
        nearest: Option<Allocation>,
    },
    /// Bytes that the host reads were never written.
    #[error("the byte at {address:#x}, {} bytes into {allocation}, was never written: no copy, fill or kernel did",
        allocation.offset(*address))]
    Unwritten {
        /// The first such byte.
        address: u64,
        /// The allocation that it lies in.
        allocation: Allocation,
    },
}

/// ", in the allocation ...", or nothing.
fn allocation_text(allocation: Option<Allocation>) -> String {
    allocation.map_or_else(String::new, |allocation| format!(", in {allocation}"))
}

/// " (nearest: ...)", or nothing.
fn near(nearest: Option<Allocation>, address: u64) -> String {
    let Some(nearest) = nearest else { return String::new() };
    let (start, end) = (nearest.address, nearest.address + nearest.bytes as u64);
    let place = if address < start {
        format!("{} bytes before", start - address)
    } else if address >= end {
        format!("{} bytes after the end of", address - end)
    } else {
        "across the end of".to_owned()
    };
    format!(": {place} {nearest}")
}

/// Why a code object cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are no code object, or hold none for the card.
    #[error("the code object cannot be read")]
    Object(#[from] hsaco::HsacoError),
    /// The ELF file's tables contradict each other.
    #[error("the code object's ELF tables cannot be read")]
    Elf(#[from] object::read::Error),
    /// The object is for another card.
    #[error("the code object is for {found}, the emulated card is {expected}: build it for {expected}")]
    WrongTarget {
        /// The card.
        expected: String,
        /// The object's target.
        found: String,
    },
    /// The card cannot be emulated.
    #[error("{target} is not executed: emulate gfx1100, or another target of gfx9 to gfx12")]
    UnsupportedTarget {
        /// The card.
        target: String,
    },
    /// The segments are empty, overlap the end of the file, or ask for too much memory.
    #[error("the code object's segments span {bytes:#x} bytes or lie outside the file: it is damaged")]
    BadSegments {
        /// Bytes that the segments span.
        bytes: u64,
    },
    /// A relocation points outside the image or is of an unknown kind.
    #[error(
        "relocation at {offset:#x} of kind {kind} cannot be applied: the code object is damaged or not linked"
    )]
    BadRelocation {
        /// Where.
        offset: u64,
        /// The ELF relocation type.
        kind: u32,
    },
    /// A kernel's descriptor is missing or points outside the code.
    #[error("kernel `{kernel}` has no usable descriptor: the code object is damaged")]
    BadDescriptor {
        /// The kernel.
        kernel: String,
    },
    /// The image does not fit into memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Why a launch failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// No such kernel.
    #[error("the code object has no kernel `{kernel}`; it has {}", available.join(", "))]
    NoKernel {
        /// Asked for.
        kernel: String,
        /// What there is.
        available: Vec<String>,
    },
    /// A kernel of 64-lane waves for a card whose usual waves have 32.
    #[error(
        "kernel `{kernel}` has waves of 64 lanes, which are not emulated for this card: compile it with -mwavefrontsize32"
    )]
    WideWaves {
        /// The kernel.
        kernel: String,
    },
    /// A dimension is zero, or the block is too large.
    #[error(
        "grid {groups:?} of blocks {block:?} cannot be launched: dimensions start at 1, a block has at most {most}"
    )]
    BadDispatch {
        /// Work-groups in x, y, z.
        groups: [u32; 3],
        /// Work-items of a group in x, y, z.
        block: [u32; 3],
        /// Most work-items of a block.
        most: u32,
    },
    /// More LDS than a group can have.
    #[error("a group needs {bytes} bytes of LDS, it can have {most}")]
    TooMuchLds {
        /// Static and dynamic bytes.
        bytes: u64,
        /// The card's limit.
        most: u32,
    },
    /// More scratch than a lane can have.
    #[error("a lane needs {bytes} bytes of scratch, it can have {most}: the code object is damaged")]
    TooMuchScratch {
        /// What the kernel's descriptor asks for.
        bytes: u32,
        /// The card's limit.
        most: u32,
    },
    /// Too few argument bytes.
    #[error("the kernel takes {expected} bytes of arguments, {found} were given")]
    BadArguments {
        /// The kernel's explicit arguments.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// Memory for the dispatch cannot be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A wave could not go on.
    #[error(transparent)]
    Fault(Box<LaunchFault>),
}

/// What a wave ran into, and where.
#[derive(Debug, thiserror::Error)]
#[error(
    "kernel `{kernel}`{}, work-group {group:?}, wave {wave}{}, pc {pc:#x} ({text}): {kind}{}",
    line_text(line.as_ref()), lane_text(*lane), earlier_text(earlier.as_ref())
)]
pub struct LaunchFault {
    /// The kernel.
    pub kernel: String,
    /// Work-group in x, y, z.
    pub group: [u32; 3],
    /// Wave of the group.
    pub wave: u32,
    /// Lane, where one is at fault.
    pub lane: Option<u32>,
    /// Offset of the instruction in the object's address space.
    pub pc: u64,
    /// The instruction, or its bytes.
    pub text: String,
    /// The source line that the instruction comes from, where the object has line tables.
    pub line: Option<SourceLine>,
    /// What happened.
    #[source]
    pub kind: FaultKind,
    /// Where it began: the other access of a race, the load that was not waited for or that read what was never written.
    pub earlier: Option<Place>,
}

fn earlier_text(earlier: Option<&Place>) -> String {
    earlier.map_or_else(String::new, |place| format!("; see {place}"))
}

fn lane_text(lane: Option<u32>) -> String {
    lane.map_or_else(String::new, |lane| format!(", lane {lane}"))
}

pub(crate) fn line_text(line: Option<&SourceLine>) -> String {
    line.map_or_else(String::new, |line| format!(" at {line}"))
}

impl LaunchFault {
    /// A fault whose place is filled in by whoever knows it.
    pub(crate) fn new(kind: FaultKind, lane: Option<u32>) -> Self {
        Self {
            kernel: String::new(),
            group: [0; 3],
            wave: 0,
            lane,
            pc: 0,
            text: String::new(),
            line: None,
            kind,
            earlier: None,
        }
    }

    /// The same, begun by the instruction at a word of the code.
    pub(crate) fn after(mut self, word: usize) -> Self {
        self.earlier = Some(Place { pc: word as u64, text: String::new(), line: None });
        self
    }
}

/// What went wrong in a wave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// The bytes are no instruction.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The instruction, or this form of it, is not executed.
    #[error("this instruction, or this form of it, is not executed by the emulator")]
    Unsupported,
    /// A global access outside every allocation.
    #[error("access of {bytes} bytes at {address:#x}, in no allocation{}", near(*nearest, *address))]
    OutOfBounds {
        /// First address.
        address: u64,
        /// Bytes.
        bytes: usize,
        /// The nearest allocation.
        nearest: Option<Allocation>,
    },
    /// An LDS access outside the group's memory.
    #[error("LDS access of {bytes} bytes at {address:#x}: the group has {size} bytes")]
    LdsOutOfBounds {
        /// First address.
        address: u32,
        /// Bytes.
        bytes: usize,
        /// Bytes that the group has.
        size: usize,
    },
    /// A scratch access outside the lane's memory.
    #[error("scratch access of {bytes} bytes at {address:#x}: a lane has {size} bytes")]
    ScratchOutOfBounds {
        /// First address.
        address: u32,
        /// Bytes.
        bytes: usize,
        /// Bytes that a lane has.
        size: usize,
    },
    /// An access of an allocation that was freed.
    #[error("access of {bytes} bytes at {address:#x}, {} bytes into {freed}, which was freed", freed.offset(*address))]
    UseAfterFree {
        /// First address.
        address: u64,
        /// Bytes.
        bytes: usize,
        /// The allocation.
        freed: Allocation,
    },
    /// Something depends on a value that was never written.
    #[error("{used} depends on {origin}, which was never written")]
    Unwritten {
        /// What depends on it.
        used: Use,
        /// Where it comes from.
        origin: Origin,
    },
    /// Two waves access the same place, one of them writes, and nothing orders them.
    #[error(
        "{} {address:#x} of {space}, which {other} {}: no barrier or atomic operation orders the two{}",
        if *writes { "this writes" } else { "this reads" }, if *other_writes { "writes" } else { "reads" },
        allocation_text(*allocation)
    )]
    Race {
        /// Which memory.
        space: SharedSpace,
        /// The word that both access.
        address: u64,
        /// Its allocation, in global memory.
        allocation: Option<Allocation>,
        /// Whether this access writes.
        writes: bool,
        /// The wave of the other access.
        other: WaveId,
        /// Whether the other access writes.
        other_writes: bool,
    },
    /// A register is touched while a load into it is in flight.
    #[error("{} is used while a load into it is in flight: no wait for {counter} lies between", register_text(*vector, *index))]
    MissingWait {
        /// A vector register, or else a scalar one.
        vector: bool,
        /// Its number.
        index: usize,
        /// The counter to wait for.
        counter: &'static str,
    },
    /// An access at an address that is no multiple of its element's size, or of four bytes.
    #[error("access of {bytes} bytes at {address:#x}, which is not aligned")]
    Misaligned {
        /// Address.
        address: u64,
        /// Bytes.
        bytes: usize,
    },
    /// The program counter left the code.
    #[error("the program counter left the code")]
    LeftCode,
    /// The kernel trapped: `__builtin_trap`, a failed assertion.
    #[error("the kernel trapped (s_trap {0})")]
    Trap(u16),
    /// Some waves of the group wait at a barrier that others have passed by.
    #[error("{waiting} waves wait at a barrier, {ended} ended without it: the barrier is not uniform")]
    DivergentBarrier {
        /// Waves at the barrier.
        waiting: usize,
        /// Waves that ended.
        ended: usize,
    },
    /// More instructions than allowed.
    #[error(
        "the wave executed {0} instructions, the limit that was set: it does not end, or the limit is too low"
    )]
    TooLong(u64),
    /// The float mode asks for traps on exceptions, or for binary16 results that saturate.
    #[error(
        "MODE {0:#x} asks for traps on float exceptions (bits 12 to 20) or for saturating binary16 results (bit 23), which are not executed"
    )]
    Mode(u32),
}
