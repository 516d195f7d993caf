//! Immediates of program control: counters, delays, index modes.

use std::fmt::{self, Write};

use crate::Arch;

/// Counters to wait for; those at their greatest value wait for nothing and are left out.
pub(super) fn wait_counters(arch: Arch, bits: u16, out: &mut impl Write) -> fmt::Result {
    let field = |low: u16, width: u16| (bits >> low) & ((1 << width) - 1);
    let (vector, export, lds) = match arch {
        Arch::Gfx11 | Arch::Gfx12 => ((field(10, 6), 63), field(0, 3), (field(4, 6), 63)),
        Arch::Gfx10 => ((field(0, 4) | field(14, 2) << 4, 63), field(4, 3), (field(8, 6), 63)),
        Arch::Gfx9 | Arch::Gfx90a | Arch::Gfx940 => {
            ((field(0, 4) | field(14, 2) << 4, 63), field(4, 3), (field(8, 4), 15))
        }
    };
    let counters = [("vmcnt", vector.0, vector.1), ("expcnt", export, 7), ("lgkmcnt", lds.0, lds.1)];
    let all = counters.iter().all(|(_, value, greatest)| value == greatest);
    let mut separator = "";
    for (name, value, greatest) in counters {
        if all || value != greatest {
            write!(out, "{separator}{name}({value})")?;
            separator = " ";
        }
    }
    Ok(())
}

/// Hints on how long results take.
pub(super) fn delay_alu(bits: u16, out: &mut impl Write) -> fmt::Result {
    const INSTRUCTIONS: [&str; 12] = [
        "NO_DEP",
        "VALU_DEP_1",
        "VALU_DEP_2",
        "VALU_DEP_3",
        "VALU_DEP_4",
        "TRANS32_DEP_1",
        "TRANS32_DEP_2",
        "TRANS32_DEP_3",
        "FMA_ACCUM_CYCLE_1",
        "SALU_CYCLE_1",
        "SALU_CYCLE_2",
        "SALU_CYCLE_3",
    ];
    const SKIPS: [&str; 6] = ["SAME", "NEXT", "SKIP_1", "SKIP_2", "SKIP_3", "SKIP_4"];
    let instruction =
        |index: u16| INSTRUCTIONS.get(usize::from(index)).copied().unwrap_or("/* invalid instid value */");
    let (first, skip, second) = (bits & 15, (bits >> 4) & 7, (bits >> 7) & 15);
    let mut separator = "";
    if first != 0 {
        write!(out, "instid0({})", instruction(first))?;
        separator = " | ";
    }
    if skip != 0 {
        let name = SKIPS.get(usize::from(skip)).copied().unwrap_or("/* invalid instskip value */");
        write!(out, "{separator}instskip({name})")?;
        separator = " | ";
    }
    if second != 0 {
        write!(out, "{separator}instid1({})", instruction(second))?;
        separator = " | ";
    }
    if separator.is_empty() { out.write_str("0") } else { Ok(()) }
}

/// Internal counters; a field at its greatest value waits for nothing.
pub(super) fn dependency_counters(bits: u16, out: &mut impl Write) -> fmt::Result {
    /// Name, lowest bit, width.
    const FIELDS: [(&str, u16, u16); 7] = [
        ("hold_cnt", 7, 1),
        ("sa_sdst", 0, 1),
        ("va_vdst", 12, 4),
        ("va_sdst", 9, 3),
        ("va_ssrc", 8, 1),
        ("va_vcc", 1, 1),
        ("vm_vsrc", 2, 3),
    ];
    let mask = |low: u16, width: u16| ((1 << width) - 1) << low;
    let used = FIELDS.iter().fold(0, |used, (_, low, width)| used | mask(*low, *width));
    if bits & !used != 0 {
        return write!(out, "{bits:#x}");
    }
    let mut separator = "";
    for (name, low, width) in FIELDS {
        if bits == used || bits & mask(low, width) != mask(low, width) {
            write!(out, "{separator}depctr_{name}({})", (bits & mask(low, width)) >> low)?;
            separator = " ";
        }
    }
    Ok(())
}

/// Operands that M0 indexes.
pub(super) fn index_mode(bits: u8, out: &mut impl Write) -> fmt::Result {
    if bits > 15 {
        return write!(out, "{bits:#x}");
    }
    out.write_str("gpr_idx(")?;
    let mut separator = "";
    for (index, name) in ["SRC0", "SRC1", "SRC2", "DST"].iter().enumerate() {
        if bits & (1 << index) != 0 {
            write!(out, "{separator}{name}")?;
            separator = ",";
        }
    }
    out.write_str(")")
}

/// The version of the instruction set: a code and three bits.
pub(super) fn version(bits: u16, out: &mut impl Write) -> fmt::Result {
    let name = match bits & 0xff {
        0 => Some("UC_VERSION_GFX7"),
        4 => Some("UC_VERSION_GFX10"),
        6 => Some("UC_VERSION_GFX11"),
        9 => Some("UC_VERSION_GFX12"),
        _ => None,
    };
    let flags: Vec<&str> =
        [(0x2000, "UC_VERSION_W64_BIT"), (0x4000, "UC_VERSION_W32_BIT"), (0x8000, "UC_VERSION_MDP_BIT")]
            .iter()
            .filter(|(bit, _)| bits & bit != 0)
            .map(|(_, name)| *name)
            .collect();
    if bits & 0x1f00 != 0 || (name.is_none() && flags.is_empty()) {
        return write!(out, "{bits:#x}");
    }
    // All but the last flag close a parenthesis.
    out.write_str(&"(".repeat(flags.len().saturating_sub(1)))?;
    match name {
        Some(name) => out.write_str(name)?,
        None => write!(out, "{}", bits & 0xff)?,
    }
    for (index, flag) in flags.iter().enumerate() {
        write!(out, "|{flag}{}", if index + 1 < flags.len() { ")" } else { "" })?;
    }
    Ok(())
}
