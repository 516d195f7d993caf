//! Text in LLVM's assembly syntax.

mod control;
mod lanes;
mod memory;
mod message;
mod value;

use std::fmt::{self, Write};

use crate::{Dialect, instruction::Instruction, operand::Operand};

/// Prints one instruction.
pub(crate) fn instruction(instruction: &Instruction, dialect: Dialect, out: &mut impl Write) -> fmt::Result {
    out.write_str(instruction.mnemonic())?;
    let printer = Printer { instruction, dialect };
    printer.operands(instruction.operands(), out)?;
    if let Some(second) = instruction.second_mnemonic() {
        write!(out, " :: {second}")?;
        printer.operands(instruction.second_operands(), out)?;
    }
    lanes::packed(instruction, out)?;
    lanes::output(instruction, out)?;
    memory::modifiers(instruction, dialect, out)?;
    lanes::lanes(instruction, out)?;
    lanes::matrix(instruction, out)
}

struct Printer<'a> {
    instruction: &'a Instruction,
    dialect: Dialect,
}

impl Printer<'_> {
    fn operands(&self, operands: &[Operand], out: &mut impl Write) -> fmt::Result {
        let mut separator = " ";
        for operand in operands {
            let mut text = String::new();
            value::operand(self.instruction, operand, self.dialect, &mut text)?;
            if !text.is_empty() {
                write!(out, "{separator}{text}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}
