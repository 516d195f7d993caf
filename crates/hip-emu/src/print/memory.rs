//! Modifiers of memory operations.

use std::fmt::{self, Write};

use crate::{Arch, Dialect, Family, instruction::Instruction};

/// Address modes, offsets and cache policies.
pub(super) fn modifiers(of: &Instruction, dialect: Dialect, out: &mut impl Write) -> fmt::Result {
    let modifiers = &of.modifiers;
    if of.family() == Family::Mtbuf {
        format(of.arch(), modifiers.format, out)?;
    }
    out.write_str(if modifiers.index_enable { " idxen" } else { "" })?;
    out.write_str(if modifiers.offset_enable { " offen" } else { "" })?;
    if of.family() == Family::Smem {
        if modifiers.offset_named {
            let sign = if modifiers.offset < 0 { "-" } else { "" };
            write!(out, " offset:{sign}{:#x}", modifiers.offset.unsigned_abs())?;
        }
    } else if of.mnemonic() == "ds_swizzle_b32" {
        swizzle(u16::try_from(modifiers.offset).unwrap_or(0), dialect, out)?;
    } else if modifiers.offset != 0 {
        write!(out, " offset:{}", modifiers.offset)?;
    }
    for (name, offset) in ["offset0", "offset1"].iter().zip(modifiers.pair_offsets) {
        if offset != 0 {
            write!(out, " {name}:{offset}")?;
        }
    }
    cache_policy(of, dialect, out)?;
    out.write_str(if modifiers.texture_fail { " tfe" } else { "" })?;
    out.write_str(if modifiers.to_lds { " lds" } else { "" })?;
    out.write_str(if modifiers.gds { " gds" } else { "" })?;
    if of.family() == Family::LdsDirect {
        if of.arch() == Arch::Gfx11 {
            write!(out, " wait_vdst:{}", modifiers.wait_vdst)?;
        } else {
            write!(out, " wait_va_vdst:{} wait_vm_vsrc:{}", modifiers.wait_vdst, modifiers.wait_vsrc)?;
        }
    }
    Ok(())
}

fn cache_policy(of: &Instruction, dialect: Dialect, out: &mut impl Write) -> fmt::Result {
    let bits = of.modifiers.cache;
    if of.arch() == Arch::Gfx12 {
        return temporal_policy(of, bits & 7, bits >> 3, dialect, out);
    }
    let gfx940 = of.arch() == Arch::Gfx940 && of.family() != Family::Smem;
    let names = match of.arch() {
        _ if gfx940 => [(1, "sc0"), (2, "nt"), (16, "sc1")],
        Arch::Gfx9 | Arch::Gfx90a => [(1, "glc"), (2, "slc"), (16, "scc")],
        _ => [(1, "glc"), (2, "slc"), (4, "dlc")],
    };
    for (bit, name) in names {
        if bits & bit != 0 {
            write!(out, " {name}")?;
        }
    }
    Ok(())
}

/// gfx12: a temporal hint and a scope.
fn temporal_policy(
    of: &Instruction,
    hint: u8,
    scope: u8,
    dialect: Dialect,
    out: &mut impl Write,
) -> fmt::Result {
    let mnemonic = of.mnemonic();
    let device = scope >= 2;
    if hint != 0 {
        out.write_str(" th:")?;
        if mnemonic.contains("atomic") {
            atomic_hint(hint, device, out)?;
        } else {
            let store = mnemonic.contains("store");
            let name = match hint {
                1 => "NT",
                2 => "HT",
                3 if scope == 3 => "BYPASS",
                3 if store && dialect == Dialect::Llvm19 => "RT_WB",
                3 if store => "WB",
                3 => "LU",
                4 => "NT_RT",
                5 => "RT_NT",
                6 => "NT_HT",
                _ if store => "NT_WB",
                _ => "",
            };
            match name {
                "" => write!(out, "{hint:#x}")?,
                _ => write!(out, "TH_{}_{name}", if store { "STORE" } else { "LOAD" })?,
            }
        }
    }
    match scope {
        1 => out.write_str(" scope:SCOPE_SE"),
        2 => out.write_str(" scope:SCOPE_DEV"),
        3 => out.write_str(" scope:SCOPE_SYS"),
        _ => Ok(()),
    }
}

fn atomic_hint(hint: u8, device: bool, out: &mut impl Write) -> fmt::Result {
    let name = match hint {
        4.. if device && hint & 2 != 0 => "CASCADE_NT",
        4.. if device => "CASCADE_RT",
        4.. => "",
        3 => "NT_RETURN",
        2 => "NT",
        _ => "RETURN",
    };
    match name {
        "" => write!(out, "TH_ATOMIC_{hint:#x}"),
        _ => write!(out, "TH_ATOMIC_{name}"),
    }
}

/// A pattern of lanes within 32.
fn swizzle(pattern: u16, dialect: Dialect, out: &mut impl Write) -> fmt::Result {
    let field = |low: u16| (pattern >> low) & 31;
    match pattern {
        0 => Ok(()),
        0x8000..=0x80ff => {
            let lane = |place: u16| (pattern >> (2 * place)) & 3;
            write!(out, " offset:swizzle(QUAD_PERM,{},{},{},{})", lane(0), lane(1), lane(2), lane(3))
        }
        0xe000.. if dialect == Dialect::Llvm22 => write!(out, " offset:swizzle(FFT,{})", field(0)),
        0xc000..=0xdfff if dialect == Dialect::Llvm22 => {
            write!(out, " offset:swizzle(ROTATE,{},{})", (pattern >> 10) & 1, field(5))
        }
        0x1..=0x7fff => bit_mask(field(0), field(5), field(10), out),
        _ => write!(out, " offset:{pattern}"),
    }
}

/// Lane `i` reads lane `((i & and) | or) ^ xor`.
fn bit_mask(and: u16, or: u16, xor: u16, out: &mut impl Write) -> fmt::Result {
    let group = 32 - and;
    if and == 31 && or == 0 && xor.is_power_of_two() {
        return write!(out, " offset:swizzle(SWAP,{xor})");
    }
    if and == 31 && or == 0 && xor > 0 && (xor + 1).is_power_of_two() {
        return write!(out, " offset:swizzle(REVERSE,{})", xor + 1);
    }
    if group > 1 && group.is_power_of_two() && or < group && xor == 0 {
        return write!(out, " offset:swizzle(BROADCAST,{group},{or})");
    }
    out.write_str(" offset:swizzle(BITMASK_PERM,\"")?;
    let (of_zeros, of_ones) = (or ^ xor, (and | or) ^ xor);
    for bit in (0..5).rev() {
        out.write_char(match ((of_zeros >> bit) & 1, (of_ones >> bit) & 1) {
            (0, 0) => '0',
            (1, 1) => '1',
            (0, _) => 'p',
            _ => 'i',
        })?;
    }
    out.write_str("\")")
}

/// Buffer formats: one number, or on gfx9 a data format and a number format. The default is left out.
fn format(arch: Arch, format: u8, out: &mut impl Write) -> fmt::Result {
    const DATA: [&str; 16] = [
        "INVALID",
        "8",
        "16",
        "8_8",
        "32",
        "16_16",
        "10_11_11",
        "11_11_10",
        "10_10_10_2",
        "2_10_10_10",
        "8_8_8_8",
        "32_32",
        "16_16_16_16",
        "32_32_32",
        "32_32_32_32",
        "RESERVED_15",
    ];
    const NUMBER: [&str; 8] = ["UNORM", "SNORM", "USCALED", "SSCALED", "UINT", "SINT", "RESERVED_6", "FLOAT"];
    if arch.is_gfx9() {
        let data = DATA.get(usize::from(format & 15)).copied().unwrap_or("");
        let number = NUMBER.get(usize::from(format >> 4)).copied().unwrap_or("");
        return match (format & 15, format >> 4) {
            (1, 0) => Ok(()),
            (1, _) => write!(out, " format:[BUF_NUM_FORMAT_{number}]"),
            (_, 0) => write!(out, " format:[BUF_DATA_FORMAT_{data}]"),
            _ => write!(out, " format:[BUF_DATA_FORMAT_{data},BUF_NUM_FORMAT_{number}]"),
        };
    }
    let mut left = format;
    if left == 1 {
        return Ok(());
    }
    if left == 0 {
        return out.write_str(" format:[BUF_FMT_INVALID]");
    }
    left -= 1;
    for (data, numbers) in unified(arch) {
        match numbers.get(usize::from(left)) {
            Some(number) => return write!(out, " format:[BUF_FMT_{data}_{number}]"),
            None => left = left.saturating_sub(u8::try_from(numbers.len()).unwrap_or(u8::MAX)),
        }
    }
    write!(out, " format:{format}")
}

/// Data formats in the order of their numbers, each with its number formats.
const fn unified(arch: Arch) -> &'static [(&'static str, &'static [&'static str])] {
    const SIX: &[&str] = &["UNORM", "SNORM", "USCALED", "SSCALED", "UINT", "SINT"];
    const SEVEN: &[&str] = &["UNORM", "SNORM", "USCALED", "SSCALED", "UINT", "SINT", "FLOAT"];
    const WORDS: &[&str] = &["UINT", "SINT", "FLOAT"];
    const FLOAT: &[&str] = &["FLOAT"];
    const FOUR: &[&str] = &["UNORM", "SNORM", "UINT", "SINT"];
    const GFX10: &[(&str, &[&str])] = &[
        ("8", SIX),
        ("16", SEVEN),
        ("8_8", SIX),
        ("32", WORDS),
        ("16_16", SEVEN),
        ("10_11_11", SEVEN),
        ("11_11_10", SEVEN),
        ("10_10_10_2", SIX),
        ("2_10_10_10", SIX),
        ("8_8_8_8", SIX),
        ("32_32", WORDS),
        ("16_16_16_16", SEVEN),
        ("32_32_32", WORDS),
        ("32_32_32_32", WORDS),
    ];
    const GFX11: &[(&str, &[&str])] = &[
        ("8", SIX),
        ("16", SEVEN),
        ("8_8", SIX),
        ("32", WORDS),
        ("16_16", SEVEN),
        ("10_11_11", FLOAT),
        ("11_11_10", FLOAT),
        ("10_10_10_2", FOUR),
        ("2_10_10_10", SIX),
        ("8_8_8_8", SIX),
        ("32_32", WORDS),
        ("16_16_16_16", SEVEN),
        ("32_32_32", WORDS),
        ("32_32_32_32", WORDS),
    ];
    match arch {
        Arch::Gfx10 => GFX10,
        _ => GFX11,
    }
}
