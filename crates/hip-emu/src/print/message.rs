//! Hardware registers and messages by name.

use std::fmt::{self, Write};

use crate::{Arch, Dialect};

/// A hardware register, or some of its bits.
pub(super) fn hardware_register(
    arch: Arch,
    bits: u16,
    dialect: Dialect,
    out: &mut impl Write,
) -> fmt::Result {
    let (number, first, size) = (bits & 63, (bits >> 6) & 31, (bits >> 11) + 1);
    out.write_str("hwreg(")?;
    match register_name(arch, number) {
        Some(name) if arch == Arch::Gfx12 && dialect == Dialect::Llvm19 => {
            write!(out, "HW_REG_{}", name.strip_prefix("WAVE_").unwrap_or(name))?;
        }
        Some(name) => write!(out, "HW_REG_{name}")?,
        None => write!(out, "{number}")?,
    }
    if first != 0 || size != 32 {
        write!(out, ", {first}, {size}")?;
    }
    out.write_str(")")
}

const fn register_name(arch: Arch, number: u16) -> Option<&'static str> {
    match arch {
        Arch::Gfx12 => gfx12_register(number),
        Arch::Gfx9 | Arch::Gfx10 | Arch::Gfx11 | Arch::Gfx90a | Arch::Gfx940 => older_register(arch, number),
    }
}

const fn older_register(arch: Arch, number: u16) -> Option<&'static str> {
    let gfx9 = arch.is_gfx9();
    let gfx10 = matches!(arch, Arch::Gfx10);
    let gfx11 = matches!(arch, Arch::Gfx11);
    let gfx940 = matches!(arch, Arch::Gfx940);
    Some(match number {
        1 => "MODE",
        2 => "STATUS",
        3 => "TRAPSTS",
        4 if gfx9 => "HW_ID",
        5 => "GPR_ALLOC",
        6 => "LDS_ALLOC",
        7 => "IB_STS",
        15 => "SH_MEM_BASES",
        16 if !gfx11 => "TBA_LO",
        17 if !gfx11 => "TBA_HI",
        18 if !gfx11 => "TMA_LO",
        19 if !gfx11 => "TMA_HI",
        18 => "PERF_SNAPSHOT_PC_LO",
        19 => "PERF_SNAPSHOT_PC_HI",
        20 if gfx940 => "XCC_ID",
        21 if gfx940 => "SQ_PERF_SNAPSHOT_DATA",
        22 if gfx940 => "SQ_PERF_SNAPSHOT_DATA1",
        23 if gfx940 => "SQ_PERF_SNAPSHOT_PC_LO",
        24 if gfx940 => "SQ_PERF_SNAPSHOT_PC_HI",
        _ if gfx9 => return None,
        20 => "FLAT_SCR_LO",
        21 => "FLAT_SCR_HI",
        23 => "HW_ID1",
        24 => "HW_ID2",
        25 if gfx10 => "POPS_PACKER",
        27 if gfx11 => "PERF_SNAPSHOT_DATA",
        29 => "SHADER_CYCLES",
        _ => return None,
    })
}

const fn gfx12_register(number: u16) -> Option<&'static str> {
    Some(match number {
        1 => "WAVE_MODE",
        2 => "WAVE_STATUS",
        4 => "WAVE_STATE_PRIV",
        5 => "WAVE_GPR_ALLOC",
        6 => "WAVE_LDS_ALLOC",
        7 => "IB_STS",
        10 => "PERF_SNAPSHOT_DATA",
        11 => "PERF_SNAPSHOT_PC_LO",
        12 => "PERF_SNAPSHOT_PC_HI",
        15 => "PERF_SNAPSHOT_DATA1",
        16 => "PERF_SNAPSHOT_DATA2",
        17 => "WAVE_EXCP_FLAG_PRIV",
        18 => "WAVE_EXCP_FLAG_USER",
        19 => "WAVE_TRAP_CTRL",
        20 => "WAVE_SCRATCH_BASE_LO",
        21 => "WAVE_SCRATCH_BASE_HI",
        23 => "WAVE_HW_ID1",
        24 => "WAVE_HW_ID2",
        26 => "WAVE_SCHED_MODE",
        29 => "SHADER_CYCLES_LO",
        30 => "SHADER_CYCLES_HI",
        31 => "WAVE_DVGPR_ALLOC_LO",
        32 => "WAVE_DVGPR_ALLOC_HI",
        _ => return None,
    })
}

/// A message: by name, by its three numbers, or as one number where a bit is set that none of them has.
pub(super) fn message(arch: Arch, bits: u16, out: &mut impl Write) -> fmt::Result {
    if !matches!(arch, Arch::Gfx11 | Arch::Gfx12) {
        return old_message(arch, bits, out);
    }
    match new_message(arch, bits & 0xff) {
        Some(name) => write!(out, "sendmsg(MSG_{name})"),
        None if bits < 256 => write!(out, "sendmsg({bits}, 0, 0)"),
        None => write!(out, "{bits}"),
    }
}

const fn new_message(arch: Arch, bits: u16) -> Option<&'static str> {
    Some(match bits {
        1 => "INTERRUPT",
        2 => "HS_TESSFACTOR",
        3 => "DEALLOC_VGPRS",
        5 if matches!(arch, Arch::Gfx11) => "STALL_WAVE_GEN",
        6 if matches!(arch, Arch::Gfx11) => "HALT_WAVES",
        9 => "GS_ALLOC_REQ",
        0x80 => "RTN_GET_DOORBELL",
        0x81 => "RTN_GET_DDID",
        0x82 => "RTN_GET_TMA",
        0x83 => "RTN_GET_REALTIME",
        0x84 => "RTN_SAVE_WAVE",
        0x85 => "RTN_GET_TBA",
        0x86 => "RTN_GET_TBA_TO_PC",
        0x87 if matches!(arch, Arch::Gfx12) => "RTN_GET_SE_AID_ID",
        _ => return None,
    })
}

/// Messages before gfx11: identifier, operation and stream.
fn old_message(arch: Arch, bits: u16, out: &mut impl Write) -> fmt::Result {
    let (identifier, operation, stream) = (bits & 15, (bits >> 4) & 7, (bits >> 8) & 3);
    let plain = match identifier {
        1 => "INTERRUPT",
        4 => "SAVEWAVE",
        5 => "STALL_WAVE_GEN",
        6 => "HALT_WAVES",
        7 => "ORDERED_PS_DONE",
        8 => "EARLY_PRIM_DEALLOC",
        9 => "GS_ALLOC_REQ",
        10 => "GET_DOORBELL",
        11 if arch == Arch::Gfx10 => "GET_DDID",
        _ => "",
    };
    let stage = |operation: u16| {
        ["GS_OP_NOP", "GS_OP_CUT", "GS_OP_EMIT", "GS_OP_EMIT_CUT"].get(usize::from(operation))
    };
    let system = [
        "",
        "SYSMSG_OP_ECC_ERR_INTERRUPT",
        "SYSMSG_OP_REG_RD",
        "SYSMSG_OP_HOST_TRAP_ACK",
        "SYSMSG_OP_TTRACE_PC",
    ];
    match (identifier, stage(operation), system.get(usize::from(operation))) {
        (2 | 3, Some(name), _) if operation != 0 => {
            let done = if identifier == 3 { "_DONE" } else { "" };
            write!(out, "sendmsg(MSG_GS{done}, {name}, {stream})")
        }
        (3, Some(name), _) if stream == 0 => write!(out, "sendmsg(MSG_GS_DONE, {name})"),
        (15, _, Some(name)) if operation != 0 && operation != 3 && stream == 0 => {
            write!(out, "sendmsg(MSG_SYSMSG, {name})")
        }
        _ if operation == 0 && stream == 0 && !plain.is_empty() => write!(out, "sendmsg(MSG_{plain})"),
        _ if bits & !0x37f != 0 => write!(out, "{bits}"),
        _ => write!(out, "sendmsg({identifier}, {operation}, {stream})"),
    }
}
