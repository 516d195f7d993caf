//! Translated instructions: a function and its operands.

use crate::{
    Half, Instruction, Lanes, Register, Special, Value,
    descriptor::VectorRegisters,
    exec::{
        environment::Environment,
        wave::{DROPPED, EXEC, FLAT_SCRATCH, M0, NULL, TTMP, VCC, Wave, XNACK_MASK},
    },
    operand::{ElementType, Operand},
};

/// The body of an instruction.
///
/// # Safety
///
/// The CPU has the features that the function was compiled for.
pub(super) type Run<const L: usize> = unsafe fn(&mut Wave<L>, &Op<L>, &mut Environment<'_>);

/// Where a source is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Vector registers from here on.
    Vector(u16),
    /// Scalar registers from here on.
    Scalar(u8),
    /// The scalar condition code.
    Scc,
    /// Whether EXEC is zero.
    Execz,
    /// Whether VCC is zero.
    Vccz,
    /// A constant, in the operand's type.
    Constant(u64),
}

/// A source with its modifiers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) place: Place,
    pub(super) neg: bool,
    pub(super) abs: bool,
    /// The upper half of a register is read.
    pub(super) high: bool,
    /// Packed operands: what the upper half of the result reads (`op_sel_hi`) and its sign (`neg_hi`).
    pub(super) high_of_high: bool,
    pub(super) neg_high: bool,
    /// A part of a register is sign-extended.
    pub(super) sext: bool,
}

impl Source {
    pub(super) const ZERO: Self = Self::constant(0);

    pub(super) const fn constant(value: u64) -> Self {
        Self::plain(Place::Constant(value))
    }

    pub(super) const fn plain(place: Place) -> Self {
        Self { place, neg: false, abs: false, high: false, high_of_high: false, neg_high: false, sext: false }
    }

    /// The first vector register, if it is one.
    pub(super) const fn vector(&self) -> Option<usize> {
        match self.place {
            Place::Vector(first) => Some(first as usize),
            _ => None,
        }
    }
}

/// Where a result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    None,
    Vector { first: u16, half: Half },
    Scalar(u8),
}

/// One instruction, ready to run.
#[derive(Clone, Copy)]
pub(super) struct Op<const L: usize> {
    pub(super) run: Run<L>,
    /// The wrapped body of an instruction that permutes lanes first.
    pub(super) inner: Run<L>,
    /// The wrapped body of an operation whose low bits hardware does not specify, and its place among those.
    pub(super) plain: Run<L>,
    pub(super) approximate: u8,
    pub(super) target: Target,
    /// The second result: a lane mask.
    pub(super) second: Target,
    pub(super) sources: [Source; 4],
    pub(super) clamp: bool,
    pub(super) output: u8,
    pub(super) length: u8,
    /// Immediate: byte offset, branch distance, hardware register.
    pub(super) immediate: i32,
    /// Bytes that a buffer access moves.
    pub(super) bytes: u8,
    /// Format of a buffer's elements; 0 is the descriptor's. Of a conversion of bytes, which one.
    pub(super) format: u8,
    /// Bits of their own: what addresses a buffer (1 index, 2 offset), what a row permutation reads (1 inactive lanes,
    /// 2 zero from them).
    pub(super) flags: u8,
    /// Which lanes the first source is read from.
    pub(super) lanes: Lanes,
    /// The next word holds the second half of a pair.
    pub(super) pair: bool,
}

/// Turns operands into places, and keeps what does not fit.
pub(super) struct Operands<'a> {
    instruction: &'a Instruction,
    /// Vector registers that the kernel has.
    registers: VectorRegisters,
}

impl<'a> Operands<'a> {
    pub(super) const fn new(instruction: &'a Instruction, registers: VectorRegisters) -> Self {
        Self { instruction, registers }
    }

    /// The place of a source operand; `None` when it cannot be read.
    pub(super) fn source(&self, operand: &Operand) -> Option<Source> {
        let mut high = false;
        let place = match operand.value {
            Value::Register(Register::Vgpr { first, words, half }) => {
                high = half == Half::High;
                Place::Vector(self.vector(first, words)?)
            }
            Value::Register(Register::Agpr { first, words }) => {
                Place::Vector(self.accumulation(first, words)?)
            }
            Value::Register(register) => scalar_place(register)?,
            Value::Integer(value) => Place::Constant(i64::from(value).cast_unsigned()),
            Value::Float(value) => Place::Constant(match operand.element {
                ElementType::F16 | ElementType::V2F16 | ElementType::B16 | ElementType::V2B16 => {
                    u64::from(value.to_f16_bits())
                }
                ElementType::Bf16 | ElementType::V2Bf16 => u64::from(value.to_bf16_bits()),
                ElementType::F64 | ElementType::B64 => value.to_f64().to_bits(),
                _ => u64::from(value.to_f32().to_bits()),
            }),
            Value::Literal(bits) => Place::Constant(match operand.element {
                ElementType::F64 => u64::from(bits) << 32,
                _ => u64::from(bits),
            }),
            Value::Constant(bits) => Place::Constant(u64::from(bits)),
            Value::Number(bits) => Place::Constant(u64::from(bits)),
            Value::Immediate(bits) => Place::Constant(u64::from(bits)),
            Value::Off => Place::Constant(0),
            Value::ScalarOffset(offset) => Place::Constant(i64::from(offset).cast_unsigned()),
            _ => return None,
        };
        Some(Source { neg: operand.neg, abs: operand.abs, sext: operand.sext, high, ..Source::plain(place) })
    }

    /// The place of a result.
    pub(super) fn target(&self, operand: &Operand) -> Option<Target> {
        Some(match operand.value {
            Value::Register(Register::Vgpr { first, words, half }) => {
                Target::Vector { first: self.vector(first, words)?, half }
            }
            Value::Register(Register::Agpr { first, words }) => {
                Target::Vector { first: self.accumulation(first, words)?, half: Half::Whole }
            }
            Value::Register(register) => match scalar_index(register)? {
                NULL => Target::Scalar(u8::try_from(DROPPED).ok()?),
                index => Target::Scalar(u8::try_from(index).ok()?),
            },
            _ => return None,
        })
    }

    fn vector(&self, first: u8, words: u8) -> Option<u16> {
        (usize::from(first) + usize::from(words.max(1)) <= self.registers.ordinary)
            .then_some(u16::from(first))
    }

    /// The row of an accumulation register.
    fn accumulation(&self, first: u8, words: u8) -> Option<u16> {
        let VectorRegisters { ordinary, accumulation } = self.registers;
        let fits = usize::from(first) + usize::from(words.max(1)) <= accumulation;
        u16::try_from(ordinary + usize::from(first)).ok().filter(|_| fits)
    }

    /// Whether lanes are permuted before the operation.
    pub(super) const fn permutes(&self) -> bool {
        !matches!(self.instruction.modifiers.lanes, Lanes::Own)
    }
}

fn scalar_place(register: Register) -> Option<Place> {
    Some(match register {
        Register::Special { name, .. } => match name {
            Special::SharedBase | Special::SharedLimit | Special::PrivateBase | Special::PrivateLimit => {
                Place::Constant(aperture(name))
            }
            Special::Scc => Place::Scc,
            Special::Execz => Place::Execz,
            Special::Vccz => Place::Vccz,
            _ => Place::Scalar(u8::try_from(scalar_index(register)?).ok()?),
        },
        _ => Place::Scalar(u8::try_from(scalar_index(register)?).ok()?),
    })
}

/// High word of the addresses that mean LDS.
pub(crate) const SHARED_APERTURE: u32 = 0x0001_0000;
/// High word of the addresses that mean scratch.
pub(crate) const PRIVATE_APERTURE: u32 = 0x0002_0000;

fn aperture(name: Special) -> u64 {
    let (high, low) = match name {
        Special::SharedBase => (SHARED_APERTURE, 0),
        Special::SharedLimit => (SHARED_APERTURE, u32::MAX),
        Special::PrivateBase => (PRIVATE_APERTURE, 0),
        _ => (PRIVATE_APERTURE, u32::MAX),
    };
    u64::from(high) << 32 | u64::from(low)
}

fn scalar_index(register: Register) -> Option<usize> {
    Some(match register {
        Register::Sgpr { first, .. } => usize::from(first),
        Register::Ttmp { first, .. } => TTMP + usize::from(first),
        Register::Special { name, .. } => match name {
            Special::VccLo => VCC,
            Special::VccHi => VCC + 1,
            Special::ExecLo => EXEC,
            Special::ExecHi => EXEC + 1,
            Special::M0 => M0,
            Special::FlatScratchLo => FLAT_SCRATCH,
            Special::FlatScratchHi => FLAT_SCRATCH + 1,
            Special::XnackMaskLo => XNACK_MASK,
            Special::XnackMaskHi => XNACK_MASK + 1,
            Special::Null => NULL,
            _ => return None,
        },
        Register::Vgpr { .. } | Register::Agpr { .. } => return None,
    })
}
