//! Operand codes below 256: scalar registers, named registers and inline constants.

use crate::{
    Arch,
    operand::{InlineFloat, Register, Special, Value},
};

/// Code of VCC's low word.
pub(crate) const VCC: u32 = 106;
/// Code that says that a literal follows.
pub(crate) const LITERAL: u32 = 255;

/// First code that is not an ordinary scalar register.
const fn ordinary_end(arch: Arch) -> u32 {
    if arch.is_gfx9() { 102 } else { 106 }
}

/// The scalar register of `code` (below 128), `words` long.
pub(crate) fn register(arch: Arch, code: u32, words: u8) -> Option<Register> {
    let first = u8::try_from(code).ok()?;
    let aligned = first & !(alignment(words) - 1);
    let end = |first: u8| u32::from(first) + u32::from(words);
    match code {
        _ if code < ordinary_end(arch) => {
            (end(aligned) <= ordinary_end(arch)).then_some(Register::Sgpr { first: aligned, words })
        }
        108..124 => {
            (end(aligned) <= 124).then_some(Register::Ttmp { first: aligned.checked_sub(108)?, words })
        }
        _ => special(arch, code, words),
    }
}

/// Registers of a group start at a multiple of 2 or 4.
const fn alignment(words: u8) -> u8 {
    match words {
        0 | 1 => 1,
        2 => 2,
        _ => 4,
    }
}

fn special(arch: Arch, code: u32, words: u8) -> Option<Register> {
    let (m0, null) = match arch {
        Arch::Gfx11 | Arch::Gfx12 => (125, 124),
        Arch::Gfx10 => (124, 125),
        Arch::Gfx9 | Arch::Gfx90a | Arch::Gfx940 => (124, 256),
    };
    let name = match code {
        102 if arch.is_gfx9() => Special::FlatScratchLo,
        103 if arch.is_gfx9() => Special::FlatScratchHi,
        104 if arch.is_gfx9() => Special::XnackMaskLo,
        105 if arch.is_gfx9() => Special::XnackMaskHi,
        106 => Special::VccLo,
        107 => Special::VccHi,
        126 => Special::ExecLo,
        127 => Special::ExecHi,
        _ if code == m0 => Special::M0,
        _ if code == null => Special::Null,
        _ => return None,
    };
    let high =
        matches!(name, Special::FlatScratchHi | Special::XnackMaskHi | Special::VccHi | Special::ExecHi);
    let fits = words <= 1 || name == Special::Null || (words == 2 && !high);
    fits.then_some(Register::Special { name, words })
}

/// What a code below 255 stands for as a source of `words` words.
pub(crate) fn operand(arch: Arch, code: u32, words: u8) -> Option<Value> {
    let name = match code {
        0..128 => return register(arch, code, words).map(Value::Register),
        128..=192 => return i8::try_from(code - 128).ok().map(Value::Integer),
        193..=208 => return i8::try_from(i64::from(192_u32) - i64::from(code)).ok().map(Value::Integer),
        240..=248 => return InlineFloat::from_index(code - 240).map(Value::Float),
        235 => Special::SharedBase,
        236 => Special::SharedLimit,
        237 => Special::PrivateBase,
        238 => Special::PrivateLimit,
        239 => Special::PopsExitingWaveId,
        251 => Special::Vccz,
        252 => Special::Execz,
        253 => Special::Scc,
        254 => Special::LdsDirect,
        _ => return None,
    };
    (words <= 2).then_some(Value::Register(Register::Special { name, words }))
}
