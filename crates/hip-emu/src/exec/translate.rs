//! From decoded instructions to operations.

use crate::{
    Arch, Family, FaultKind, Instruction, Lanes, LaunchFault, Register, Value,
    arch::Lacks,
    decode,
    descriptor::VectorRegisters,
    exec::{
        bodies::{body, clamps},
        environment::Environment,
        fidelity,
        indexing::{self, Region},
        lacks::is_lacked,
        lanes,
        names::stem,
        one_lane,
        op::{Op, Operands, Run, Source, Target},
        placement::{access_bytes, memory, plain, scalar, vector},
        sub_dword,
        table::Cpu,
        wave::Wave,
    },
    operand::Operand,
};

/// Stops the wave: there is no such instruction, or it is not executed.
fn refuse<const L: usize>(wave: &mut Wave<L>, _op: &Op<L>, _environment: &mut Environment<'_>) {
    lanes::unsupported(wave);
}

/// Stops the wave within an instruction or outside the code.
fn outside<const L: usize>(wave: &mut Wave<L>, _op: &Op<L>, _environment: &mut Environment<'_>) {
    wave.fault(LaunchFault::new(FaultKind::LeftCode, None));
}

impl<const L: usize> Op<L> {
    fn new(run: Run<L>, length: usize) -> Self {
        Self {
            run,
            inner: run,
            plain: run,
            approximate: 0,
            target: Target::None,
            second: Target::None,
            sources: [Source::ZERO; 4],
            clamp: false,
            output: 0,
            length: u8::try_from(length / 4).unwrap_or(1),
            immediate: 0,
            bytes: 0,
            flags: 0,
            lanes: Lanes::Own,
            pair: false,
            format: 0,
        }
    }
}

/// One operation for each word of code, for a kernel with so many vector registers.
pub(super) fn translate<const L: usize>(
    arch: Arch,
    lacks: Lacks,
    code: &[u8],
    registers: VectorRegisters,
) -> Vec<Op<L>> {
    let cpu = Cpu::detect();
    let mut ops = vec![Op::new(outside::<L>, 4); code.len() / 4];
    let mut region = Region::default();
    let mut at = 0;
    while at < ops.len() {
        let rest = code.get(4 * at..).unwrap_or(&[]);
        let Ok(instruction) = decode(arch, rest) else {
            ops[at] = Op::new(refuse::<L>, 4);
            at += 1;
            continue;
        };
        let words = instruction.length() / 4;
        let refused = region.is_left_by(&instruction) || is_lacked(lacks, &instruction);
        let shifts = region.shifts(&instruction);
        let found =
            operations(&instruction, registers, cpu).filter(|_| !refused).and_then(|(first, second)| {
                let first = if shifts { indexing::shifted(first, &instruction)? } else { first };
                Some((first, second))
            });
        match found {
            Some((first, second)) => {
                ops[at] = first;
                if let (Some(second), Some(place)) = (second, ops.get_mut(at + 1)) {
                    *place = second;
                }
            }
            None => ops[at] = Op::new(refuse::<L>, instruction.length()),
        }
        at += words.max(1);
    }
    ops
}

/// An instruction's operation, and that of a pair's second half.
pub(super) fn operations<const L: usize>(
    instruction: &Instruction,
    registers: VectorRegisters,
    cpu: Cpu,
) -> Option<(Op<L>, Option<Op<L>>)> {
    let length = instruction.length();
    if instruction.family() != Family::Vopd {
        return operation(
            instruction,
            instruction.mnemonic(),
            instruction.operands(),
            registers,
            cpu,
            length,
        )
        .map(|op| (op, None));
    }
    let single = |mnemonic: &str| mnemonic.replacen("v_dual_", "v_", 1);
    let (first, second) = (single(instruction.mnemonic()), single(instruction.second_mnemonic()?));
    let mut first = operation(instruction, &first, instruction.operands(), registers, cpu, length)?;
    let second = operation(instruction, &second, instruction.second_operands(), registers, cpu, length)?;
    first.pair = true;
    Some((first, Some(second)))
}

fn operation<const L: usize>(
    instruction: &Instruction,
    mnemonic: &str,
    operands: &[Operand],
    registers: VectorRegisters,
    cpu: Cpu,
    length: usize,
) -> Option<Op<L>> {
    let stem = &*stem(instruction.arch(), mnemonic);
    let family = instruction.family();
    let of_one_lane = one_lane::vector_name(family, stem);
    let run = match &of_one_lane {
        Some(name) => body(Family::Vop3, name, cpu),
        None => body(family, stem, cpu),
    };
    let mut op = Op::new(run?, length);
    let places = Operands::new(instruction, registers);
    let modifiers = instruction.modifiers();
    let to_lds = modifiers.to_lds && !stem.starts_with("buffer_load_lds_");
    if modifiers.gds || to_lds || modifiers.texture_fail {
        return None;
    }
    op.clamp = modifiers.clamp;
    op.output = modifiers.output;
    op.format = modifiers.byte_select;
    let typed = stem.contains("_format_") && !matches!(instruction.arch(), Arch::Gfx11 | Arch::Gfx12);
    if typed {
        // Formats have other numbers.
        return None;
    }
    if op.clamp && !clamps(stem) {
        return None;
    }
    match family {
        Family::Ds
        | Family::LdsDirect
        | Family::Global
        | Family::Flat
        | Family::Scratch
        | Family::Mubuf
        | Family::Mtbuf => {
            memory(&mut op, instruction, stem, operands, &places)?;
        }
        Family::Smem => {
            plain(&mut op, stem, operands, &places)?;
            op.bytes = access_bytes(stem);
            if modifiers.offset_named {
                op.immediate = modifiers.offset;
            }
        }
        Family::Sopp | Family::Sopk | Family::Sop1 | Family::Sop2 | Family::Sopc => {
            scalar(&mut op, stem, operands, &places)?;
        }
        _ => vector(&mut op, instruction, mnemonic, operands, &places)?,
    }
    fidelity::watch(&mut op, of_one_lane.as_deref().unwrap_or(stem));
    if of_one_lane.is_some() {
        op.sources[0].high |= stem == "s_cvt_hi_f32_f16";
        op.inner = op.run;
        op.run = one_lane::once::<L>;
    }
    if places.permutes() {
        permute(&mut op, instruction, operands)?;
    }
    Some(op)
}

/// Lane permutation before the operation.
fn permute<const L: usize>(op: &mut Op<L>, instruction: &Instruction, operands: &[Operand]) -> Option<()> {
    let lanes = instruction.modifiers().lanes;
    if matches!(lanes, Lanes::SubDword { .. }) {
        (op.lanes, op.inner, op.run) = (lanes, op.run, sub_dword::parts::<L>);
        return Some(());
    }
    let known = match lanes {
        Lanes::Rows { control, .. } => lanes::known_control(instruction.arch(), control),
        Lanes::Eights { .. } => true,
        Lanes::Own | Lanes::SubDword { .. } => false,
    };
    if !known || op.sources[0].vector().is_none() || op.pair {
        return None;
    }
    op.lanes = lanes;
    let first = operands.iter().find(|operand| !operand.written)?;
    if let Value::Register(Register::Vgpr { words: 2, .. }) = first.value {
        op.flags |= lanes::WIDE;
    }
    op.inner = op.run;
    op.run = lanes::permuted::<L>;
    Some(())
}
