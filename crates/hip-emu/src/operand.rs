//! What an instruction reads and writes: registers, constants, immediates.

/// Type in which an operation reads a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// No constant can stand here.
    None,
    /// 16-bit integer.
    B16,
    /// 32-bit integer.
    B32,
    /// 64-bit integer.
    B64,
    /// binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// binary32.
    F32,
    /// binary64.
    F64,
    /// Two 16-bit integers in a word.
    V2B16,
    /// Two binary16 in a word.
    V2F16,
    /// Two bfloat16 in a word.
    V2Bf16,
    /// Two 32-bit integers in two words.
    V2B32,
    /// Two binary32 in two words.
    V2F32,
}

/// The part of a 32-bit register that an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// All 32 bits.
    Whole,
    /// Bits 0 to 15.
    Low,
    /// Bits 16 to 31.
    High,
}

/// One register or several in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Register {
    /// Vector registers `first..first + words`, or one half of one.
    Vgpr {
        /// First register.
        first: u8,
        /// How many, each 32 bits a lane.
        words: u8,
        /// The part that is used.
        half: Half,
    },
    /// Accumulation registers `first..first + words`.
    Agpr {
        /// First register.
        first: u8,
        /// How many, each 32 bits a lane.
        words: u8,
    },
    /// Scalar registers `first..first + words`.
    Sgpr {
        /// First register.
        first: u8,
        /// How many, each 32 bits.
        words: u8,
    },
    /// Registers of the trap handler, `first..first + words`.
    Ttmp {
        /// First register.
        first: u8,
        /// How many, each 32 bits.
        words: u8,
    },
    /// A register with a name; with two words, a pair that starts there.
    Special {
        /// Which one.
        name: Special,
        /// How many, each 32 bits.
        words: u8,
    },
}

/// Registers with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// Scratch base, low word.
    FlatScratchLo,
    /// Scratch base, high word.
    FlatScratchHi,
    /// Replay mask, low word.
    XnackMaskLo,
    /// Replay mask, high word.
    XnackMaskHi,
    /// Vector condition code, low word.
    VccLo,
    /// Vector condition code, high word.
    VccHi,
    /// Execution mask, low word.
    ExecLo,
    /// Execution mask, high word.
    ExecHi,
    /// Memory descriptor register.
    M0,
    /// Reads zero, drops writes.
    Null,
    /// Base of the LDS aperture.
    SharedBase,
    /// Last address of the LDS aperture.
    SharedLimit,
    /// Base of the scratch aperture.
    PrivateBase,
    /// Last address of the scratch aperture.
    PrivateLimit,
    /// Primitive-ordered pixel shading: wave number.
    PopsExitingWaveId,
    /// Whether VCC is zero.
    Vccz,
    /// Whether EXEC is zero.
    Execz,
    /// Scalar condition code.
    Scc,
    /// A word of LDS at the address in M0.
    LdsDirect,
}

/// Floating-point constants that need no literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InlineFloat {
    /// 0.5
    Half,
    /// -0.5
    MinusHalf,
    /// 1.0
    One,
    /// -1.0
    MinusOne,
    /// 2.0
    Two,
    /// -2.0
    MinusTwo,
    /// 4.0
    Four,
    /// -4.0
    MinusFour,
    /// 1 / (2 pi)
    InverseTwoPi,
}

impl InlineFloat {
    /// The constant of operand code `240 + index`.
    pub(crate) const fn from_index(index: u32) -> Option<Self> {
        Some(match index {
            0 => Self::Half,
            1 => Self::MinusHalf,
            2 => Self::One,
            3 => Self::MinusOne,
            4 => Self::Two,
            5 => Self::MinusTwo,
            6 => Self::Four,
            7 => Self::MinusFour,
            8 => Self::InverseTwoPi,
            _ => return None,
        })
    }

    /// As binary16 bits.
    #[must_use]
    pub const fn to_f16_bits(self) -> u16 {
        match self {
            Self::Half => 0x3800,
            Self::MinusHalf => 0xb800,
            Self::One => 0x3c00,
            Self::MinusOne => 0xbc00,
            Self::Two => 0x4000,
            Self::MinusTwo => 0xc000,
            Self::Four => 0x4400,
            Self::MinusFour => 0xc400,
            Self::InverseTwoPi => 0x3118,
        }
    }

    /// As bfloat16 bits.
    #[must_use]
    pub const fn to_bf16_bits(self) -> u16 {
        match self {
            Self::Half => 0x3f00,
            Self::MinusHalf => 0xbf00,
            Self::One => 0x3f80,
            Self::MinusOne => 0xbf80,
            Self::Two => 0x4000,
            Self::MinusTwo => 0xc000,
            Self::Four => 0x4080,
            Self::MinusFour => 0xc080,
            Self::InverseTwoPi => 0x3e22,
        }
    }

    /// As binary32.
    #[must_use]
    pub const fn to_f32(self) -> f32 {
        match self {
            Self::Half => 0.5,
            Self::MinusHalf => -0.5,
            Self::One => 1.0,
            Self::MinusOne => -1.0,
            Self::Two => 2.0,
            Self::MinusTwo => -2.0,
            Self::Four => 4.0,
            Self::MinusFour => -4.0,
            Self::InverseTwoPi => f32::from_bits(0x3e22_f983),
        }
    }

    /// As binary64.
    #[must_use]
    pub const fn to_f64(self) -> f64 {
        match self {
            Self::InverseTwoPi => f64::from_bits(0x3fc4_5f30_6dc9_c882),
            _ => self.to_f32() as f64,
        }
    }
}

/// What an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Value {
    /// Registers.
    Register(Register),
    /// An integer constant from -16 to 64.
    Integer(i8),
    /// A floating-point constant.
    Float(InlineFloat),
    /// 32 bits after the instruction.
    Literal(u32),
    /// The constant of `fmamk`, `fmaak` and their like, in the operation's type.
    Constant(u32),
    /// A part of an address that is absent.
    Off,
    /// A 16-bit immediate.
    Immediate(u16),
    /// A 16-bit immediate of an operation that takes a small number.
    Number(u32),
    /// Where to jump, in words from the next instruction.
    Branch(i16),
    /// Counters to wait for.
    WaitCounters(u16),
    /// Hints on delays; without effect on results.
    DelayAlu(u16),
    /// Internal counters to wait for.
    DependencyCounters(u16),
    /// Bits of a hardware register: number 0..6, first bit 6..11, bits less one 11..16.
    HardwareRegister(u16),
    /// Version of the instruction set that a program was written for.
    Version(u16),
    /// A message.
    Message(u16),
    /// Code of the end of a program.
    EndCode(u16),
    /// Which operands are indexed by M0.
    IndexMode(u8),
    /// Byte offset of a scalar memory access.
    ScalarOffset(i32),
    /// Attribute number and channel of a parameter load.
    Attribute {
        /// Attribute.
        number: u8,
        /// 0 x, 1 y, 2 z, 3 w.
        channel: u8,
    },
}

/// One operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// What it is.
    pub value: Value,
    /// The type in which the operation reads constants here.
    pub element: ElementType,
    /// Absolute value, before negation.
    pub abs: bool,
    /// Negated.
    pub neg: bool,
    /// Sign-extended from the selected part.
    pub sext: bool,
    /// Whether the operation writes it.
    pub written: bool,
}

impl Operand {
    pub(crate) const fn new(value: Value) -> Self {
        Self { value, element: ElementType::None, abs: false, neg: false, sext: false, written: false }
    }
}
