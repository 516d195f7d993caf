//! From decoded instructions to operations.

use crate::{
    Arch, Family, FaultKind, Half, Instruction, Lanes, LaunchFault, Register, Value,
    arch::Lacks,
    decode,
    descriptor::VectorRegisters,
    exec::{
        atomic_ops,
        buffers::ONE_SWIZZLE,
        cdna, control, division,
        environment::Environment,
        fidelity, float8,
        indexing::{self, Region},
        lanes, matrix, memory_ops, mfma,
        names::{accumulates, clears_other_half, stem},
        one_lane,
        op::{Op, Operands, Place, Run, Source, Target},
        packed, scalar_ops,
        space::{ADDRESS, ALIGNED, BASE, DATA, DATA2},
        split_matrix, sub_dword,
        table::Cpu,
        typed_buffers, vector_float, vector_int, vector_rare,
        wave::{EXEC, VCC, Wave},
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

/// Whether a card has no such operation, though its architecture's table does.
pub(super) fn is_lacked(lacks: Lacks, instruction: &Instruction) -> bool {
    let stem = &*stem(instruction.arch(), instruction.mnemonic());
    // RDNA1 has unfused operations of the same encoding as those named after a legacy.
    let later = || {
        stem.contains("_atomic_csub_")
            || [
                "v_fma_dx9_zero_f32",
                "v_fmac_dx9_zero_f32",
                "global_load_addtid_b32",
                "global_store_addtid_b32",
            ]
            .contains(&stem)
    };
    match lacks {
        Lacks::Nothing => false,
        Lacks::Rdna2 => later(),
        Lacks::Rdna2AndProducts => later() || stem.starts_with("v_dot"),
        Lacks::ScalarFloats => one_lane::vector_name(instruction.family(), stem).is_some(),
        Lacks::Cdna2 => of_cdna2(stem),
        Lacks::Matrices => of_cdna2(stem) || is_of_matrices(stem),
        Lacks::Products => of_cdna2(stem) || is_of_matrices(stem) || is_of_vega20(stem),
        Lacks::MixedFloats => {
            of_cdna2(stem) || is_of_matrices(stem) || is_of_vega20(stem) || stem.starts_with("v_fma_mix")
        }
    }
}

/// Whether CDNA2 added an operation to CDNA1.
fn of_cdna2(stem: &str) -> bool {
    let packed =
        ["v_pk_fma_f32", "v_pk_mul_f32", "v_pk_add_f32", "v_pk_mov_b32", "v_fmac_f64"].contains(&stem);
    let double = stem.ends_with("_f64") && (stem.contains("_atomic_") || stem.starts_with("ds_add"));
    packed || double || (stem.starts_with("v_mfma") && (stem.ends_with("_1k") || stem.contains("f64")))
}

fn is_of_matrices(stem: &str) -> bool {
    stem.starts_with("v_mfma") || stem.starts_with("v_accvgpr")
}

fn is_of_vega20(stem: &str) -> bool {
    stem.starts_with("v_dot") || ["v_fmac_f32", "v_xnor_b32"].contains(&stem)
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

/// Where the function of a mnemonic is.
fn body<const L: usize>(family: Family, stem: &str, cpu: Cpu) -> Option<Run<L>> {
    match family {
        Family::Sop1 | Family::Sop2 | Family::Sopc | Family::Sopk | Family::Sopp => scalar_ops::one(stem)
            .or_else(|| scalar_ops::two(stem))
            .or_else(|| scalar_ops::comparison(stem))
            .or_else(|| control::flow(stem)),
        Family::Smem => memory_ops::scalar(stem, cpu).or_else(|| control::flow(stem)),
        Family::Vopc => comparison(stem, cpu),
        Family::Vop1 | Family::Vop2 | Family::Vop3 | Family::Vopd => vector_float::arithmetic(stem, cpu)
            .or_else(|| vector_int::arithmetic(stem, cpu))
            .or_else(|| vector_int::bits(stem, cpu))
            .or_else(|| vector_float::unary(stem, cpu))
            .or_else(|| vector_float::conversion(stem, cpu))
            .or_else(|| lanes::masks(stem, cpu))
            .or_else(|| division::steps(stem, cpu))
            .or_else(|| vector_rare::rare(stem, cpu))
            .or_else(|| float8::operations(stem, cpu))
            .or_else(|| lanes::crossing(stem, cpu))
            .or_else(|| packed::products(stem, cpu))
            .or_else(|| packed::halves_at_once(stem, cpu))
            .or_else(|| cdna::only(stem, cpu))
            .or_else(|| control::flow(stem))
            .or_else(|| comparison(stem, cpu)),
        Family::Vop3p => packed::halves_at_once(stem, cpu)
            .or_else(|| packed::products(stem, cpu))
            .or_else(|| matrix::multiply(stem, cpu))
            .or_else(|| split_matrix::multiply(stem, cpu))
            .or_else(|| float8::operations(stem, cpu))
            .or_else(|| cdna::only(stem, cpu))
            .or_else(|| mfma::blocks(stem, cpu)),
        Family::Ds => memory_ops::lds(stem, cpu)
            .or_else(|| memory_ops::lds_pairs(stem, cpu))
            .or_else(|| atomic_ops::lds_atomics(stem, cpu))
            .or_else(|| memory_ops::implied(stem, cpu))
            .or_else(|| lanes::crossing(stem, cpu))
            .or_else(|| control::flow(stem)),
        Family::LdsDirect => memory_ops::implied(stem, cpu),
        Family::Global => memory_ops::global(stem, cpu)
            .or_else(|| atomic_ops::global_atomics(stem, cpu))
            .or_else(|| memory_ops::implied(stem, cpu))
            .or_else(|| control::flow(stem)),
        Family::Flat => memory_ops::flat(stem, cpu).or_else(|| atomic_ops::flat_atomics(stem, cpu)),
        Family::Scratch => memory_ops::scratch(stem, cpu),
        Family::Mubuf => memory_ops::buffer(stem, cpu)
            .or_else(|| atomic_ops::buffer_atomics(stem, cpu))
            .or_else(|| typed_buffers::elements(stem, cpu))
            .or_else(|| control::flow(stem)),
        Family::Mtbuf => typed_buffers::elements(stem, cpu),
        _ => None,
    }
}

fn comparison<const L: usize>(stem: &str, cpu: Cpu) -> Option<Run<L>> {
    vector_float::compare32(stem, cpu)
        .or_else(|| vector_float::compare16(stem, cpu))
        .or_else(|| vector_float::compare64(stem, cpu))
        .or_else(|| vector_float::classes(stem, cpu))
        .or_else(|| vector_int::compare_i32(stem, cpu))
        .or_else(|| vector_int::compare_u32(stem, cpu))
        .or_else(|| vector_int::compare_i64(stem, cpu))
        .or_else(|| vector_int::compare_u64(stem, cpu))
        .or_else(|| vector_int::compare_i16(stem, cpu))
        .or_else(|| vector_int::compare_u16(stem, cpu))
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

/// Whether the body of an operation honours the clamp bit.
fn clamps(stem: &str) -> bool {
    if stem == "v_dot2_f16_f16" {
        return false;
    }
    const ENDS: [&str; 11] = [
        "_f16", "_f32", "_f64", "_iu8", "_iu4", "_u32_u8", "_u32_u4", "_i32_i8", "_i32_i4", "_i32_i16",
        "_u32_u16",
    ];
    const STARTS: [&str; 10] = [
        "v_add_nc_",
        "v_sub_nc_",
        "v_subrev_nc_",
        "v_pk_add_",
        "v_pk_sub_",
        "v_cvt_f16_",
        "v_cvt_f32_",
        "v_cvt_f64_",
        "v_cvt_off_f32_",
        "v_dot2_f32_",
    ];
    ENDS.iter().any(|end| stem.ends_with(end)) || STARTS.iter().any(|start| stem.starts_with(start))
}

/// Bytes that a buffer access moves.
fn access_bytes(stem: &str) -> u8 {
    match stem.rsplit('_').next() {
        Some("b128") => 16,
        Some("b96") => 12,
        Some("b64" | "u64" | "i64") => 8,
        Some("u16" | "i16" | "b16") => 2,
        Some("u8" | "i8" | "b8") => 1,
        _ => 4,
    }
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

/// Results and sources in printed order. Relative moves list their result among what they read.
fn plain<const L: usize>(
    op: &mut Op<L>,
    stem: &str,
    operands: &[Operand],
    places: &Operands<'_>,
) -> Option<usize> {
    let mut sources = 0;
    for (index, operand) in operands.iter().enumerate() {
        if operand.written || (index == 0 && stem.contains("_movrel")) {
            let target = places.target(operand)?;
            if op.target == Target::None { op.target = target } else { op.second = target }
        } else {
            *op.sources.get_mut(sources)? = places.source(operand)?;
            sources += 1;
        }
    }
    Some(sources)
}

fn vector<const L: usize>(
    op: &mut Op<L>,
    instruction: &Instruction,
    mnemonic: &str,
    operands: &[Operand],
    places: &Operands<'_>,
) -> Option<()> {
    let stem = &*stem(instruction.arch(), mnemonic);
    let sources = plain(op, stem, operands, places)?;
    if op.target == Target::None {
        match stem {
            "v_nop" | "v_pipeflush" | "v_clrexcp" => {}
            _ if stem.starts_with("v_cmpx_") => {}
            _ if stem.starts_with("v_cmp_") => op.target = Target::Scalar(u8::try_from(VCC).ok()?),
            _ => return None,
        }
    }
    // gfx9 writes the mask into a register as well.
    if stem.starts_with("v_cmpx_") && op.target != Target::None {
        op.second = Target::Scalar(u8::try_from(EXEC).ok()?);
    }
    if stem.starts_with("v_mfma_") {
        matrix_controls(op, instruction, stem)?;
    }
    if instruction.arch() == Arch::Gfx90a && ["v_dot2_f32_f16", "v_dot2acc_f32_f16"].contains(&stem) {
        op.flags |= mfma::FLUSHES;
    }
    // The result is also the addend.
    if accumulates(stem)
        && let Target::Vector { first, half } = op.target
    {
        *op.sources.get_mut(sources)? =
            Source { high: half == Half::High, ..Source::plain(Place::Vector(first)) };
    }
    if stem == "v_cndmask_b32" && sources == 2 {
        op.sources[2] = Source::plain(Place::Scalar(u8::try_from(VCC).ok()?));
    }
    halves(op, instruction, stem);
    if instruction.arch() == Arch::Gfx940 && stem.starts_with("v_mfma_f64_") {
        let signs = instruction.modifiers().lane_group;
        (0..).zip(&mut op.sources[..3]).for_each(|(bit, source)| source.neg = signs >> bit & 1 != 0);
    }
    if let Target::Vector { half: half @ Half::Whole, .. } = &mut op.target
        && !clears_other_half(instruction.arch(), mnemonic)
    {
        *half = Half::Low;
    }
    // Products of 16-bit integers are of the halves at the same place.
    let crossed = |source: &Source| source.high || !source.high_of_high;
    let dot = stem.starts_with("v_dot2_") && stem.ends_with("16") && !stem.ends_with("f16");
    if dot && instruction.family() == Family::Vop3p && op.sources[..2].iter().any(crossed) {
        return None;
    }
    Some(())
}

/// Which blocks and lanes a matrix operation of CDNA reads. CDNA2 takes denormals for zeros in products of 16-bit floats; CDNA3
/// has signs of binary64 where others have a pattern of lanes.
fn matrix_controls<const L: usize>(op: &mut Op<L>, instruction: &Instruction, stem: &str) -> Option<()> {
    let modifiers = instruction.modifiers();
    let signed = instruction.arch() == Arch::Gfx940 && stem.ends_with("f64");
    let pattern = if signed { 0 } else { modifiers.lane_group };
    op.immediate = mfma::controls(stem, modifiers.broadcast_size, modifiers.broadcast_block, pattern)?;
    if instruction.arch() == Arch::Gfx90a {
        op.flags |= mfma::FLUSHES;
    }
    Some(())
}

/// Which halves of their registers a 16-bit operation reads and writes.
fn halves<const L: usize>(op: &mut Op<L>, instruction: &Instruction, stem: &str) {
    let bits = instruction.modifiers().sources;
    match instruction.family() {
        Family::Vop3p => {
            let mix = stem.starts_with("v_fma_mix");
            for (source, bits) in op.sources.iter_mut().zip(bits) {
                // Packed: 1 negates what the low result reads, 2 what the high result reads. Mixed: sign, magnitude.
                (source.neg, source.neg_high) = (bits & 1 != 0, bits & 2 != 0);
                (source.abs, source.high, source.high_of_high) = (false, bits & 4 != 0, bits & 8 != 0);
            }
            if let (true, Target::Vector { first, .. }) = (mix && stem.ends_with("f16"), op.target) {
                let half = if stem == "v_fma_mixhi_f16" { Half::High } else { Half::Low };
                op.target = Target::Vector { first, half };
            }
        }
        Family::Vop2 if stem == "v_pk_fmac_f16" => {
            for source in &mut op.sources {
                source.high_of_high = true;
            }
        }
        Family::Vop3 => {
            for (source, bits) in op.sources.iter_mut().zip(bits) {
                source.high |= bits & 4 != 0;
            }
            if let (true, Target::Vector { first, half: Half::Whole }) = (bits[0] & 8 != 0, op.target) {
                op.target = Target::Vector { first, half: Half::High };
            }
            if stem.starts_with("v_permlane") {
                op.flags = (bits[0] >> 2 & 1) | (bits[1] >> 2 & 1) << 1;
                op.sources.iter_mut().for_each(|source| source.high = false);
            }
        }
        _ => {}
    }
}

fn scalar<const L: usize>(
    op: &mut Op<L>,
    stem: &str,
    operands: &[Operand],
    places: &Operands<'_>,
) -> Option<()> {
    let constant = stem.starts_with("s_cmpk") || stem.ends_with("k_i32") || stem == "s_setreg_imm32_b32";
    let mut registers = Vec::with_capacity(4);
    for operand in operands {
        match operand.value {
            Value::Branch(words) => op.immediate = i32::from(words),
            Value::HardwareRegister(code) => op.immediate = i32::from(code),
            Value::Message(code) => op.immediate = i32::from(code),
            Value::Immediate(bits) if !constant => op.immediate = i32::from(bits),
            Value::IndexMode(bits) => op.immediate = i32::from(bits),
            Value::Number(bits) if !constant => op.immediate = bits.cast_signed(),
            Value::WaitCounters(_)
            | Value::DelayAlu(_)
            | Value::DependencyCounters(_)
            | Value::EndCode(_)
            | Value::Version(_) => {}
            _ => registers.push(*operand),
        }
    }
    let sources = plain(op, stem, &registers, places)?;
    if let (true, Target::Scalar(index)) = (accumulates(stem), op.target) {
        *op.sources.get_mut(sources)? = Source::plain(Place::Scalar(index));
    }
    if stem.starts_with("s_barrier_") && !is_group_barrier(operands) {
        return None;
    }
    if constant && stem.ends_with("_i32") {
        // The 16-bit constant is the last source.
        let last = op.sources.get_mut(sources.checked_sub(1)?)?;
        let Place::Constant(bits) = last.place else { return None };
        let signed = u16::try_from(bits & 0xffff).ok()?.cast_signed();
        last.place = Place::Constant(i64::from(signed).cast_unsigned());
    }
    Some(())
}

/// Whether an operation is on the barrier of all waves of a group, the only one that programs for compute have by default.
fn is_group_barrier(operands: &[Operand]) -> bool {
    matches!(operands, [Operand { value: Value::Integer(-1) | Value::Number(0xffff), .. }])
}

/// Parts of the names of accesses without an address operand.
const IMPLIED: [&str; 4] = ["addtid", "append", "consume", "direct"];

fn memory<const L: usize>(
    op: &mut Op<L>,
    instruction: &Instruction,
    stem: &str,
    operands: &[Operand],
    places: &Operands<'_>,
) -> Option<()> {
    let modifiers = instruction.modifiers();
    let mut unwritten = Vec::with_capacity(4);
    for operand in operands {
        if operand.written {
            op.target = places.target(operand)?
        } else {
            unwritten.push(places.source(operand)?)
        }
    }
    op.immediate = modifiers.offset;
    // Invalidations of caches have no operands.
    if operands.is_empty() {
        return Some(());
    }
    let mut rest = unwritten.into_iter();
    let lds = instruction.family() == Family::Ds;
    let stores = !stem.contains("_load_");
    if matches!(instruction.family(), Family::Mubuf | Family::Mtbuf) {
        // Printed: data, address, descriptor, offset. What is read into or swapped is the result; LDS is not printed.
        op.sources[DATA] = match op.target {
            Target::Vector { first, .. } => Source::plain(Place::Vector(first)),
            _ if stem.starts_with("buffer_load_lds_") => Source::ZERO,
            _ => rest.next()?,
        };
        op.format = modifiers.format;
        op.sources[ADDRESS] = rest.next()?;
        op.sources[BASE] = rest.next()?;
        op.sources[DATA2] = rest.next()?;
        op.flags = u8::from(modifiers.index_enable) | u8::from(modifiers.offset_enable) << 1;
        op.bytes = access_bytes(stem);
        if !matches!(instruction.arch(), Arch::Gfx11 | Arch::Gfx12) {
            op.flags |= ONE_SWIZZLE;
        }
        return Some(());
    }
    if !IMPLIED.iter().any(|part| stem.contains(part)) {
        op.sources[ADDRESS] = rest.next().unwrap_or(Source::ZERO);
    }
    if stores || lds {
        op.sources[DATA] = rest.next().unwrap_or(Source::ZERO);
    }
    if lds {
        op.sources[DATA2] = rest.next().unwrap_or(Source::ZERO);
        // Before gfx11 the comparand comes first.
        if instruction.mnemonic().starts_with("ds_cmpst_") {
            op.sources.swap(DATA, DATA2);
        }
        op.flags = if stem.starts_with("ds_condxchg") { ALIGNED } else { 0 };
        if stem.contains("2addr") {
            op.immediate = i32::from(modifiers.pair_offsets[0]) | i32::from(modifiers.pair_offsets[1]) << 8;
        }
    } else {
        op.sources[BASE] = rest.next().unwrap_or(Source::ZERO);
        // The null register stands for no base.
        if op.sources[BASE].place == Place::Scalar(124) {
            op.sources[BASE] = Source::ZERO;
        }
    }
    Some(())
}
