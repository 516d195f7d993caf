//! Where an operation's operands and modifiers go.

use crate::{
    Arch, Family, Half, Instruction, Value,
    exec::{
        buffers::ONE_SWIZZLE,
        mfma,
        names::{accumulates, clears_other_half, stem},
        op::{Op, Operands, Place, Source, Target},
        space::{ADDRESS, ALIGNED, BASE, DATA, DATA2},
        wave::{EXEC, VCC},
    },
    operand::Operand,
};

/// Bytes that a buffer access moves.
pub(super) fn access_bytes(stem: &str) -> u8 {
    match stem.rsplit('_').next() {
        Some("b128") => 16,
        Some("b96") => 12,
        Some("b64" | "u64" | "i64") => 8,
        Some("u16" | "i16" | "b16") => 2,
        Some("u8" | "i8" | "b8") => 1,
        _ => 4,
    }
}

/// Results and sources in printed order. Relative moves list their result among what they read.
pub(super) fn plain<const L: usize>(
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

pub(super) fn vector<const L: usize>(
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

pub(super) fn scalar<const L: usize>(
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

pub(super) fn memory<const L: usize>(
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
