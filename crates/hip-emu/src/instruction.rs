//! One decoded instruction.

use std::fmt;

use crate::{
    Arch, Dialect, Family,
    isa::{Entry, Layout},
    operand::{Operand, Value},
    print,
};

/// Most operands of one instruction.
const OPERANDS: usize = 12;

/// One decoded instruction. It is plain data: no allocation, cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    pub(crate) arch: Arch,
    pub(crate) entry: &'static Entry,
    pub(crate) layout: &'static Layout,
    pub(crate) length: u8,
    pub(crate) operands: [Operand; OPERANDS],
    pub(crate) count: u8,
    /// Operands of the first half of a dual-issue pair.
    pub(crate) first: u8,
    pub(crate) modifiers: Modifiers,
}

impl Instruction {
    pub(crate) const fn new(arch: Arch, entry: &'static Entry, layout: &'static Layout) -> Self {
        Self {
            arch,
            entry,
            layout,
            length: entry.bytes,
            operands: [Operand::new(Value::Off); OPERANDS],
            count: 0,
            first: 0,
            modifiers: Modifiers::NONE,
        }
    }

    /// Appends an operand; false when there is no room.
    pub(crate) fn push(&mut self, operand: Operand) -> bool {
        let Some(place) = self.operands.get_mut(usize::from(self.count)) else { return false };
        *place = operand;
        self.count += 1;
        true
    }

    /// The architecture it was decoded for.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// The encoding's family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.layout.family
    }

    /// Bytes in the instruction stream: 4, 8, 12 or 16.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length as usize
    }

    /// The mnemonic with its encoding's suffix; of a dual-issue pair, the first one.
    #[must_use]
    pub fn mnemonic(&self) -> &'static str {
        self.entry.mnemonic.split_once(' ').map_or(self.entry.mnemonic, |(first, _)| first)
    }

    /// The second mnemonic of a dual-issue pair.
    #[must_use]
    pub fn second_mnemonic(&self) -> Option<&'static str> {
        self.entry.mnemonic.split_once(' ').map(|(_, second)| second)
    }

    /// Operands in printed order: results, then sources. Of a dual-issue pair, the first half's.
    #[must_use]
    pub fn operands(&self) -> &[Operand] {
        let count = if self.first > 0 { self.first } else { self.count };
        self.operands.get(..usize::from(count)).unwrap_or(&[])
    }

    /// Operands of the second half of a dual-issue pair.
    #[must_use]
    pub fn second_operands(&self) -> &[Operand] {
        match self.first {
            0 => &[],
            first => self.operands.get(usize::from(first)..usize::from(self.count)).unwrap_or(&[]),
        }
    }

    /// Everything that is not an operand.
    #[must_use]
    pub const fn modifiers(&self) -> &Modifiers {
        &self.modifiers
    }

    /// The text in the spelling of one assembler.
    #[must_use]
    pub const fn display(&self, dialect: Dialect) -> Text<'_> {
        Text { instruction: self, dialect }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::instruction(self, Dialect::default(), out)
    }
}

/// An instruction to be printed in one spelling; see [`Instruction::display`].
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    instruction: &'a Instruction,
    dialect: Dialect,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::instruction(self.instruction, self.dialect, out)
    }
}

/// What an instruction says beside its operands. A field that its encoding lacks is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modifiers {
    /// Bits of each source as encoded: 1 negate (packed: the low half), 2 absolute value (packed: negate the high
    /// half), 4 `op_sel`, 8 `op_sel_hi` (not packed, first source: `op_sel` of the result).
    pub sources: [u8; 3],
    /// The result is clamped.
    pub clamp: bool,
    /// Output multiplier: 1 is times two, 2 times four, 3 divided by two.
    pub output: u8,
    /// How lanes are chosen or selected in part.
    pub lanes: Lanes,
    /// Byte offset of a memory access, or an LDS pattern.
    pub offset: i32,
    /// A scalar memory access adds a register and an immediate offset.
    pub offset_named: bool,
    /// Offsets of the two accesses of an LDS `2addr` operation, in elements.
    pub pair_offsets: [u8; 2],
    /// Cache policy, as encoded.
    pub cache: u8,
    /// Global data share instead of LDS.
    pub gds: bool,
    /// Buffer address has an index register.
    pub index_enable: bool,
    /// Buffer address has an offset register.
    pub offset_enable: bool,
    /// Texture-fail word is written after the data.
    pub texture_fail: bool,
    /// A buffer load goes to LDS.
    pub to_lds: bool,
    /// Buffer data format.
    pub format: u8,
    /// Matrix operation: block broadcast size.
    pub broadcast_size: u8,
    /// Matrix operation: the block that is broadcast.
    pub broadcast_block: u8,
    /// Matrix operation: lane group pattern, or negations.
    pub lane_group: u8,
    /// Byte of a source or of the result.
    pub byte_select: u8,
    /// Sparse matrix operation: which index set.
    pub index_key: u8,
    /// LDS parameter loads: outstanding vector operations to wait for.
    pub wait_vdst: u8,
    /// LDS parameter loads: whether to wait for source reads.
    pub wait_vsrc: u8,
}

impl Modifiers {
    pub(crate) const NONE: Self = Self {
        sources: [0; 3],
        clamp: false,
        output: 0,
        lanes: Lanes::Own,
        offset: 0,
        offset_named: false,
        pair_offsets: [0; 2],
        cache: 0,
        gds: false,
        index_enable: false,
        offset_enable: false,
        texture_fail: false,
        to_lds: false,
        format: 0,
        broadcast_size: 0,
        broadcast_block: 0,
        lane_group: 0,
        byte_select: 0,
        index_key: 0,
        wait_vdst: 0,
        wait_vsrc: 0,
    };
}

/// Which lanes' registers sources are read from, and which part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// Each lane reads its own registers whole.
    Own,
    /// Data-parallel primitives within rows of 16 lanes.
    Rows {
        /// The permutation, as encoded in 9 bits.
        control: u16,
        /// Rows that are written.
        row_mask: u8,
        /// Banks of four lanes that are written.
        bank_mask: u8,
        /// Reads from outside give zero instead of keeping the old result.
        bound_control: bool,
        /// Inactive lanes can be read.
        fetch_inactive: bool,
    },
    /// Data-parallel primitives within groups of 8 lanes.
    Eights {
        /// The lane of the group that each lane reads.
        selectors: [u8; 8],
        /// Inactive lanes can be read.
        fetch_inactive: bool,
    },
    /// Sub-dword addressing. A part that the encoding does not choose is `None`: all 32 bits.
    SubDword {
        /// Part of the result: 0..4 bytes, 4 and 5 words, 6 all.
        destination: Option<u8>,
        /// What happens to the rest: 0 zero, 1 sign, 2 kept.
        unused: u8,
        /// Part of the first source.
        source0: Option<u8>,
        /// Part of the second source.
        source1: Option<u8>,
    },
}
