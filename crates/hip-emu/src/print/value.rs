//! Operands: registers, constants and immediates.

use std::fmt::{self, Write};

use super::{control, message};
use crate::{
    Arch, Dialect, Family,
    instruction::Instruction,
    operand::{ElementType, Half, InlineFloat, Operand, Register, Special, Value},
};

/// Prints one operand with its sign modifiers.
pub(super) fn operand(
    of: &Instruction,
    operand: &Operand,
    dialect: Dialect,
    out: &mut impl Write,
) -> fmt::Result {
    let constant = !matches!(operand.value, Value::Register(_));
    let (open, close) = match (operand.neg, operand.abs) {
        (true, false) if constant => ("neg(", ")"),
        (true, true) => ("-|", "|"),
        (true, false) => ("-", ""),
        (false, true) => ("|", "|"),
        (false, false) if operand.sext => ("sext(", ")"),
        (false, false) => ("", ""),
    };
    out.write_str(open)?;
    value(of, operand, dialect, out)?;
    out.write_str(close)
}

fn value(of: &Instruction, operand: &Operand, dialect: Dialect, out: &mut impl Write) -> fmt::Result {
    match operand.value {
        Value::Register(register) => self::register(of, register, dialect, out),
        Value::Integer(integer) => write!(out, "{integer}"),
        Value::Float(float) => inline_float(float, operand.element, out),
        Value::Literal(bits) => literal(bits, of, operand.element, dialect, out),
        Value::Constant(bits) => write!(out, "{bits:#x}"),
        Value::Off => out.write_str("off"),
        Value::Immediate(bits) => write!(out, "{bits:#x}"),
        Value::Number(bits) => number(bits, out),
        Value::Branch(words) => write!(out, "{}", words.cast_unsigned()),
        Value::WaitCounters(bits) => control::wait_counters(of.arch(), bits, out),
        Value::DelayAlu(bits) => control::delay_alu(bits, out),
        Value::DependencyCounters(bits) => control::dependency_counters(bits, out),
        Value::HardwareRegister(bits) => message::hardware_register(of.arch(), bits, dialect, out),
        Value::Version(bits) => control::version(bits, out),
        Value::Message(bits) => message::message(of.arch(), bits, out),
        Value::EndCode(0) => Ok(()),
        Value::EndCode(code) => write!(out, "{code}"),
        Value::IndexMode(bits) => control::index_mode(bits, out),
        Value::ScalarOffset(offset) if offset < 0 => write!(out, "-{:#x}", offset.unsigned_abs()),
        Value::ScalarOffset(offset) => write!(out, "{offset:#x}"),
        Value::Attribute { number, channel } => {
            let letter = ['x', 'y', 'z', 'w'].get(usize::from(channel)).copied().unwrap_or('?');
            write!(out, "attr{number}.{letter}")
        }
    }
}

/// A number that is printed in decimal where an inline constant would hold it.
fn number(bits: u32, out: &mut impl Write) -> fmt::Result {
    match bits.cast_signed() {
        value @ -16..=64 => write!(out, "{value}"),
        _ => write!(out, "{bits:#x}"),
    }
}

fn register(of: &Instruction, register: Register, dialect: Dialect, out: &mut impl Write) -> fmt::Result {
    match register {
        Register::Vgpr { first, words, half: Half::Whole } => range("v", first, words, out),
        Register::Vgpr { first, half, .. } => match dialect {
            Dialect::Llvm22 if of.arch() == Arch::Gfx11 => {
                write!(out, "v{first}.{}", if half == Half::High { 'h' } else { 'l' })
            }
            _ if half == Half::High && matches!(of.family(), Family::Vop1 | Family::Vop2 | Family::Vopc) => {
                let number = u16::from(first) + 128;
                write!(out, "v{number}/*Invalid register, operand has 'VS_32_Lo128' register class*/")
            }
            _ => write!(out, "v{first}"),
        },
        Register::Agpr { first, words } => range("a", first, words, out),
        Register::Sgpr { first, words } => range("s", first, words, out),
        Register::Ttmp { first, words } => range("ttmp", first, words, out),
        Register::Special { name, words } => out.write_str(special(name, words)),
    }
}

fn range(file: &str, first: u8, words: u8, out: &mut impl Write) -> fmt::Result {
    match words {
        0 | 1 => write!(out, "{file}{first}"),
        _ => write!(out, "{file}[{first}:{}]", u16::from(first) + u16::from(words) - 1),
    }
}

const fn special(name: Special, words: u8) -> &'static str {
    match (name, words) {
        (Special::VccLo, 2) => "vcc",
        (Special::ExecLo, 2) => "exec",
        (Special::FlatScratchLo, 2) => "flat_scratch",
        (Special::XnackMaskLo, 2) => "xnack_mask",
        (Special::VccLo, _) => "vcc_lo",
        (Special::VccHi, _) => "vcc_hi",
        (Special::ExecLo, _) => "exec_lo",
        (Special::ExecHi, _) => "exec_hi",
        (Special::FlatScratchLo, _) => "flat_scratch_lo",
        (Special::FlatScratchHi, _) => "flat_scratch_hi",
        (Special::XnackMaskLo, _) => "xnack_mask_lo",
        (Special::XnackMaskHi, _) => "xnack_mask_hi",
        (Special::M0, _) => "m0",
        (Special::Null, _) => "null",
        (Special::SharedBase, _) => "src_shared_base",
        (Special::SharedLimit, _) => "src_shared_limit",
        (Special::PrivateBase, _) => "src_private_base",
        (Special::PrivateLimit, _) => "src_private_limit",
        (Special::PopsExitingWaveId, _) => "src_pops_exiting_wave_id",
        (Special::Vccz, _) => "src_vccz",
        (Special::Execz, _) => "src_execz",
        (Special::Scc, _) => "src_scc",
        (Special::LdsDirect, _) => "src_lds_direct",
    }
}

fn inline_float(float: InlineFloat, element: ElementType, out: &mut impl Write) -> fmt::Result {
    if element == ElementType::B16 {
        return write!(out, "{:#x}", float.to_f16_bits());
    }
    out.write_str(match (float, element) {
        (InlineFloat::Half, _) => "0.5",
        (InlineFloat::MinusHalf, _) => "-0.5",
        (InlineFloat::One, _) => "1.0",
        (InlineFloat::MinusOne, _) => "-1.0",
        (InlineFloat::Two, _) => "2.0",
        (InlineFloat::MinusTwo, _) => "-2.0",
        (InlineFloat::Four, _) => "4.0",
        (InlineFloat::MinusFour, _) => "-4.0",
        (InlineFloat::InverseTwoPi, ElementType::F64 | ElementType::B64) => "0.15915494309189532",
        (InlineFloat::InverseTwoPi, _) => "0.15915494",
    })
}

/// A literal whose bits an inline constant has too is printed as that constant by LLVM 19, and marked by LLVM 22.
fn literal(
    bits: u32,
    of: &Instruction,
    element: ElementType,
    dialect: Dialect,
    out: &mut impl Write,
) -> fmt::Result {
    let scalar = matches!(of.family(), Family::Sop1 | Family::Sop2 | Family::Sopc);
    let element = if scalar && element == ElementType::F16 { ElementType::B16 } else { element };
    let inline = equal_constant(bits, element);
    match (inline, dialect) {
        (Some(_), Dialect::Llvm22) => write!(out, "lit({bits:#x})"),
        (Some(Value::Integer(integer)), _) => write!(out, "{integer}"),
        (Some(Value::Float(float)), _) => inline_float(float, element, out),
        _ if matches!(element, ElementType::B16 | ElementType::F16 | ElementType::Bf16) => {
            write!(out, "{:#x}", bits & 0xffff)
        }
        _ => write!(out, "{bits:#x}"),
    }
}

/// The inline constant of the same bits as a literal of type `element`.
fn equal_constant(bits: u32, element: ElementType) -> Option<Value> {
    let low = bits & 0xffff;
    let integer = match element {
        ElementType::F64 => return None,
        ElementType::F16 | ElementType::Bf16 => i32::from(u16::try_from(low).unwrap_or(0).cast_signed()),
        ElementType::B64 if bits > 64 => return None,
        _ => bits.cast_signed(),
    };
    if let Some(integer) = i8::try_from(integer).ok().filter(|integer| (-16..=64).contains(integer)) {
        return Some(Value::Integer(integer));
    }
    (0..=8)
        .filter_map(InlineFloat::from_index)
        .find(|float| match element {
            ElementType::F16 => u32::from(float.to_f16_bits()) == low,
            ElementType::V2F16 => u32::from(float.to_f16_bits()) == bits,
            ElementType::Bf16 => u32::from(float.to_bf16_bits()) == low,
            ElementType::V2Bf16 => u32::from(float.to_bf16_bits()) == bits,
            ElementType::B64 | ElementType::V2B32 | ElementType::V2F32 => false,
            _ => float.to_f32().to_bits() == bits,
        })
        .map(Value::Float)
}
