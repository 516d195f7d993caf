//! Modifiers of vector operations.

use std::fmt::{self, Write};

use crate::{
    Arch, Family,
    instruction::{Instruction, Lanes},
    operand::{Operand, Register, Value},
};

const OP_SEL: u8 = 1;
const OP_SEL_HI: u8 = 2;
const NEG_LO: u8 = 4;
const NEG_HI: u8 = 8;

/// `op_sel`, `op_sel_hi`, `neg_lo` and `neg_hi`: one bit for each source, left out where all are as usual.
pub(super) fn packed(of: &Instruction, out: &mut impl Write) -> fmt::Result {
    let flags = of.layout.flags;
    let sources = of.modifiers.sources;
    if of.mnemonic().starts_with("v_permlane") && flags & OP_SEL != 0 {
        let (fetch, bound) = ((sources[0] >> 2) & 1, (sources[1] >> 2) & 1);
        return if fetch | bound != 0 { write!(out, " op_sel:[{fetch},{bound}]") } else { Ok(()) };
    }
    let matrix = of.mnemonic().starts_with("v_wmma") || of.mnemonic().starts_with("v_swmmac");
    let count = if matrix { 3 } else { of.layout.sources() };
    let is_packed = of.family() == Family::Vop3p && !of.mnemonic().contains("_mix");
    for (flag, name, bit, usual) in [
        (OP_SEL, "op_sel", 4, 0),
        (OP_SEL_HI, "op_sel_hi", 8, u8::from(is_packed)),
        (NEG_LO, "neg_lo", 1, 0),
        (NEG_HI, "neg_hi", 2, 0),
    ] {
        if flags & flag == 0 {
            continue;
        }
        // A comparison that writes no mask, or that reads across lanes, prints no bit for its result.
        let compare = of.mnemonic().starts_with("v_cmp");
        let maskless = compare && (of.mnemonic().starts_with("v_cmpx") || of.modifiers.lanes != Lanes::Own);
        let result = flag == OP_SEL && of.family() == Family::Vop3 && !maskless;
        let mut bits: Vec<u8> =
            sources.iter().take(count).map(|source| u8::from(source & bit != 0)).collect();
        if result {
            bits.push(u8::from(sources[0] & 8 != 0));
        }
        let unusual =
            bits.iter().enumerate().any(|(place, &set)| set != if place < count { usual } else { 0 });
        if unusual {
            let list: Vec<&str> = bits.iter().map(|&set| if set != 0 { "1" } else { "0" }).collect();
            write!(out, " {name}:[{}]", list.join(","))?;
        }
    }
    Ok(())
}

/// What happens to the result.
pub(super) fn output(of: &Instruction, out: &mut impl Write) -> fmt::Result {
    if of.modifiers.clamp {
        out.write_str(" clamp")?;
    }
    out.write_str(match of.modifiers.output {
        1 => " mul:2",
        2 => " mul:4",
        3 => " div:2",
        _ => "",
    })?;
    if of.modifiers.byte_select != 0 {
        write!(out, " byte_sel:{}", of.modifiers.byte_select)?;
    }
    if of.modifiers.index_key != 0 {
        write!(out, " index_key:{}", of.modifiers.index_key)?;
    }
    Ok(())
}

/// Which lanes and which parts of registers are read.
pub(super) fn lanes(of: &Instruction, out: &mut impl Write) -> fmt::Result {
    match of.modifiers.lanes {
        Lanes::Own => Ok(()),
        Lanes::Rows { control, row_mask, bank_mask, bound_control, fetch_inactive } => {
            if of.operands().iter().any(is_pair) && !(0x150..=0x15f).contains(&control) {
                out.write_str(" /* DP ALU dpp only supports row_newbcast */")?;
            } else {
                permutation(of.arch(), control, out)?;
            }
            write!(out, " row_mask:{row_mask:#x} bank_mask:{bank_mask:#x}")?;
            out.write_str(if bound_control { " bound_ctrl:1" } else { "" })?;
            out.write_str(if fetch_inactive { " fi:1" } else { "" })
        }
        Lanes::Eights { selectors: [a, b, c, d, e, f, g, h], fetch_inactive } => {
            write!(out, " dpp8:[{a},{b},{c},{d},{e},{f},{g},{h}]")?;
            out.write_str(if fetch_inactive { " fi:1" } else { "" })
        }
        Lanes::SubDword { destination, unused, source0, source1 } => {
            if let Some(destination) = destination {
                let kept =
                    ["UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE"].get(usize::from(unused)).unwrap_or(&"?");
                write!(out, " dst_sel:{} dst_unused:{kept}", part(destination))?;
            }
            for (name, source) in [("src0_sel", source0), ("src1_sel", source1)] {
                if let Some(source) = source {
                    write!(out, " {name}:{}", part(source))?;
                }
            }
            Ok(())
        }
    }
}

/// Whether an operand is 64 bits in vector registers.
const fn is_pair(operand: &Operand) -> bool {
    matches!(operand.value, Value::Register(Register::Vgpr { words: 2, .. }))
}

const fn part(selector: u8) -> &'static str {
    match selector {
        0 => "BYTE_0",
        1 => "BYTE_1",
        2 => "BYTE_2",
        3 => "BYTE_3",
        4 => "WORD_0",
        5 => "WORD_1",
        6 => "DWORD",
        _ => "/* Invalid sel */",
    }
}

fn permutation(arch: Arch, control: u16, out: &mut impl Write) -> fmt::Result {
    let low = control & 15;
    match control {
        0..=0xff => {
            let lane = |place: u16| (control >> (2 * place)) & 3;
            write!(out, " quad_perm:[{},{},{},{}]", lane(0), lane(1), lane(2), lane(3))
        }
        0x101..=0x10f => write!(out, " row_shl:{low}"),
        0x111..=0x11f => write!(out, " row_shr:{low}"),
        0x121..=0x12f => write!(out, " row_ror:{low}"),
        0x130 if arch.is_gfx9() => out.write_str(" wave_shl:1"),
        0x134 if arch.is_gfx9() => out.write_str(" wave_rol:1"),
        0x138 if arch.is_gfx9() => out.write_str(" wave_shr:1"),
        0x13c if arch.is_gfx9() => out.write_str(" wave_ror:1"),
        0x140 => out.write_str(" row_mirror"),
        0x141 => out.write_str(" row_half_mirror"),
        0x142 if arch.is_gfx9() => out.write_str(" row_bcast:15"),
        0x143 if arch.is_gfx9() => out.write_str(" row_bcast:31"),
        0x150..=0x15f if arch.is_gfx9() => write!(out, " row_newbcast:{low}"),
        0x150..=0x15f => write!(out, " row_share:{low}"),
        0x160..=0x16f if !arch.is_gfx9() => write!(out, " row_xmask:{low}"),
        _ => out.write_str(" /* Invalid dpp_ctrl value */"),
    }
}

/// Controls of matrix operations.
pub(super) fn matrix(of: &Instruction, out: &mut impl Write) -> fmt::Result {
    let modifiers = &of.modifiers;
    if modifiers.broadcast_size != 0 {
        write!(out, " cbsz:{}", modifiers.broadcast_size)?;
    }
    if modifiers.broadcast_block != 0 {
        write!(out, " abid:{}", modifiers.broadcast_block)?;
    }
    if modifiers.lane_group != 0 {
        if of.arch() == Arch::Gfx940 && of.mnemonic().contains("f64") {
            let group = modifiers.lane_group;
            return write!(out, " neg:[{},{},{}]", group & 1, (group >> 1) & 1, (group >> 2) & 1);
        }
        write!(out, " blgp:{}", modifiers.lane_group)?;
    }
    Ok(())
}
