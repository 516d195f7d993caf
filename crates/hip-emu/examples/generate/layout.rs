//! Layouts: the operands of an encoding in printed order, with the bits each is read from.

use std::{error::Error, fmt::Write as _};

use crate::record::{Operand, Part, Record};

/// The operands of an encoding.
pub(crate) struct Layout {
    pub(crate) family: &'static str,
    /// Which of `op_sel` 1, `op_sel_hi` 2, `neg_lo` 4 and `neg_hi` 8 the encoding prints; above, the sources' number.
    pub(crate) flags: usize,
    /// The source of each slot.
    pub(crate) slots: Vec<String>,
}

/// The layout of one record.
pub(crate) fn of(record: &Record) -> Result<Layout, Box<dyn Error>> {
    let family = family(record);
    let mut flags = Vec::new();
    let unprinted = record.mnemonic.starts_with("v_cndmask_b16");
    for (name, flag) in [("op_sel", 1), ("op_sel_hi", 2), ("neg_lo", 4), ("neg_hi", 8)] {
        if !unprinted && record.ins.iter().any(|operand| operand.name == name) {
            flags.push(flag);
        }
    }
    let sources = ["src0", "src1", "src2"]
        .iter()
        .filter(|&&source| record.ins.iter().any(|o| o.name == source))
        .count();
    let flags = flags.iter().sum::<usize>() + (sources << 4);
    let mut slots = Vec::new();
    if !matches!(family, "Image" | "Export" | "Interpolation") {
        modifiers(record, family, &mut slots)?;
        operands(record, family, &mut slots)?;
    }
    Ok(Layout { family, flags, slots })
}

/// The family by mnemonic and by the encoding's prefix.
fn family(record: &Record) -> &'static str {
    let mnemonic = record.mnemonic.as_str();
    let top = u32::try_from((record.value >> 23) & 0x1ff).unwrap_or(0);
    let gfx9 = record.namespace == "GFX8" || record.namespace.starts_with("GFX9");
    let starts = |prefix: &str| mnemonic.starts_with(prefix);
    match () {
        () if starts("v_interp") => "Interpolation",
        () if starts("image_") => "Image",
        () if starts("exp") => "Export",
        () if starts("lds_") || (starts("ds_") && record.bytes == 4) => "LdsDirect",
        () if starts("ds_") => "Ds",
        () if starts("buffer_") => "Mubuf",
        () if starts("tbuffer_") => "Mtbuf",
        () if starts("flat_") => "Flat",
        () if starts("global_") => "Global",
        () if starts("scratch_") => "Scratch",
        () if starts("v_dual_") => "Vopd",
        () if starts("v_") && top >> 8 == 0 => match top >> 2 {
            0x3f => "Vop1",
            0x3e => "Vopc",
            _ => "Vop2",
        },
        () if starts("v_") && (top >> 1 == 0b1100_1100 || (gfx9 && top == 0b1_1010_0111)) => "Vop3p",
        () if starts("v_") => "Vop3",
        () if top == 0b1_0111_1101 => "Sop1",
        () if top == 0b1_0111_1110 => "Sopc",
        () if top == 0b1_0111_1111 => "Sopp",
        () if top >> 5 == 0b1011 => "Sopk",
        () if top >> 7 == 0b10 => "Sop2",
        () => "Smem",
    }
}

/// Modifiers of sources come first: they decide how registers are read.
fn modifiers(record: &Record, family: &str, slots: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for (index, source) in ["src0", "src1", "src2"].iter().enumerate() {
        let name = format!("{source}_modifiers");
        let Some(parts) = record.fields.get(&name) else { continue };
        let class = record
            .ins
            .iter()
            .find(|operand| operand.name == name)
            .map_or("", |operand| operand.class.as_str());
        let flavour = match class {
            _ if family == "Vop3p" && !record.mnemonic.contains("_mix") => 3,
            _ if class.contains("SDWA") && (class.starts_with("Int") || class.starts_with("Bin")) => 2,
            _ if class.starts_with("Int") || class.is_empty() => 0,
            "anonymous_18716" | "anonymous_22842" => 0,
            _ => 1,
        };
        slot(slots, "Modifiers", &format!("Src{index}"), "None", flavour, parts)?;
    }
    Ok(())
}

fn operands(record: &Record, family: &str, slots: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    if family == "Vopd" {
        let second = |operand: &&Operand| operand.name.ends_with('Y');
        let split = record.ins.iter().position(|operand| operand.name == "src0Y").unwrap_or(record.ins.len());
        let (first_ins, second_ins) = record.ins.split_at(split);
        for operand in record.outs.iter().filter(|operand| !second(operand)).chain(first_ins) {
            operand_slot(record, operand, slots)?;
        }
        slots.push("s(K::Pair, R::None, T::None, 0, &[])".into());
        for operand in record.outs.iter().filter(second).chain(second_ins) {
            operand_slot(record, operand, slots)?;
        }
        return Ok(());
    }
    let carry_in = ["v_cndmask_b32", "v_add_co_ci", "v_sub_co_ci", "v_subrev_co_ci", "v_addc", "v_subb"]
        .iter()
        .any(|prefix| record.mnemonic.starts_with(prefix));
    let carry_out = record.mnemonic.contains("_co_")
        || record.mnemonic.contains("_addc_")
        || record.mnemonic.contains("_subb");
    let short = matches!(family, "Vop1" | "Vop2" | "Vopc");
    let old = record.namespace == "GFX8" || record.namespace.starts_with("GFX9");
    let vcc =
        |slots: &mut Vec<String>, role: &str| slots.push(format!("s(K::Vcc, R::{role}, T::None, 0, &[])"));
    for operand in &record.outs {
        operand_slot(record, operand, slots)?;
    }
    let compare = family == "Vopc" && (old || !record.mnemonic.starts_with("v_cmpx"));
    if short && !record.has("sdst") && (compare || (family == "Vop2" && carry_out)) {
        vcc(slots, "Dst");
    }
    let mut ins: Vec<&Operand> = record.ins.iter().collect();
    if record.name.starts_with("S_SETREG") {
        ins.reverse();
    }
    if family == "Sopk" && !record.name.starts_with("S_SETREG") {
        ins.sort_by_key(|operand| operand.name != "sdst");
    }
    if matches!(family, "Scratch" | "Global") {
        ins.sort_by_key(|operand| operand.name != "vaddr");
    }
    let no_address = matches!(family, "Mubuf" | "Mtbuf") && record.has("srsrc");
    if no_address && !record.has("vaddr") {
        let at = ins.iter().position(|operand| operand.name == "srsrc").unwrap_or(0);
        for operand in &ins[..at] {
            operand_slot(record, operand, slots)?;
        }
        slots.push("s(K::Off, R::Other, T::None, 0, &[])".into());
        ins.drain(..at);
    }
    for operand in ins {
        operand_slot(record, operand, slots)?;
    }
    if record.name.contains("_M0_gfx") {
        slots.push("s(K::M0, R::Src0, T::None, 0, &[])".into());
    }
    if short && carry_in && !record.has("src2") {
        vcc(slots, "Src2");
    }
    global_off(record, family, slots);
    addressing(record, family, slots);
    if ["DS_GWS_", "DS_ORDERED", "_GS_REG"].iter().any(|name| record.name.contains(name)) {
        slots.push("s(K::Gds, R::None, T::None, 1, &[])".into());
    }
    Ok(())
}

/// Global and scratch addresses print `off` for a missing part.
fn global_off(record: &Record, family: &str, slots: &mut Vec<String>) {
    let off = || "s(K::Off, R::Other, T::None, 0, &[])".to_owned();
    let thread_addressed = record.mnemonic.contains("addtid");
    if !record.has("offset") {
        return;
    }
    if matches!(family, "Global" | "Scratch") && !record.has("vaddr") && !thread_addressed {
        // `dst, off, saddr` and `off, data, saddr`.
        let at = usize::from(record.has("vdst"));
        slots.insert(at, off());
    }
    if matches!(family, "Global" | "Scratch") && !record.has("saddr") {
        let at = slots.iter().position(|slot| slot.contains("K::FlatOffset")).unwrap_or(slots.len());
        slots.insert(at, off());
    }
}

/// Buffer address modes are fixed bits: the record's name says which are set.
fn addressing(record: &Record, family: &str, slots: &mut Vec<String>) {
    let to_lds = record.name.contains("_LDS_") && !record.mnemonic.contains("_lds");
    if !matches!(family, "Mubuf" | "Mtbuf") && !to_lds {
        return;
    }
    let flags = u32::from(record.name.contains("IDXEN") || record.name.contains("BOTHEN"))
        | u32::from(record.name.contains("OFFEN") || record.name.contains("BOTHEN")) << 1
        | u32::from(record.name.contains("_TFE")) << 2
        | u32::from(to_lds) << 3;
    slots.push(format!("s(K::Addressing, R::None, T::None, {flags}, &[])"));
}

fn operand_slot(record: &Record, operand: &Operand, slots: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    let field = if operand.name == "immDeferred" { "imm" } else { operand.name.as_str() };
    let empty = Vec::new();
    let parts = match record.fields.get(field) {
        Some(parts) => parts,
        // Cache policy: an atomic that returns has its bit fixed, and no field where nothing else may vary.
        None if field == "cpol" => &empty,
        None => return Ok(()),
    };
    if operand.name.ends_with("_modifiers") {
        return Ok(());
    }
    let width: u32 = parts.iter().map(|part| part.width).sum();
    if operand.name == "dpp_ctrl" {
        // Control, fetch-inactive, bound control and both masks fill 24 bits.
        let whole = Part { low: parts.first().map_or(0, |part| part.low), width: 24, shift: 0 };
        return slot(slots, "Dpp16", "None", "None", 0, &[whole]);
    }
    if matches!(operand.name.as_str(), "row_mask" | "bank_mask" | "bound_ctrl") || operand.class == "Dpp16FI"
    {
        return Ok(());
    }
    let class = operand.class.as_str();
    let role = role(record, operand);
    let (kind, element, words) =
        kind(record, operand, width).ok_or_else(|| format!("{}: unknown class {class}", record.name))?;
    slot(slots, kind, role, element, words, parts)
}

fn role(record: &Record, operand: &Operand) -> &'static str {
    if record.outs.iter().any(|out| out.name == operand.name) {
        return "Dst";
    }
    match operand.name.trim_end_matches(['X', 'Y']) {
        "src0" => "Src0",
        "src1" | "vsrc1" => "Src1",
        "src2" => "Src2",
        _ => "Other",
    }
}

/// The kind, element type and size in words of an operand's class.
fn kind(record: &Record, operand: &Operand, width: u32) -> Option<(&'static str, &'static str, u32)> {
    let class = operand.class.as_str();
    let bits = class.split('_').filter_map(|token| token.parse::<u32>().ok()).next_back().unwrap_or(32);
    let words = bits.div_ceil(32);
    if operand.half {
        let element = element(class);
        let short = record.bytes == 4 || (record.value >> 31) & 1 == 0;
        return Some(match (short, width) {
            (true, 8) => ("Vgpr16Short", "F16", 1),
            (true, _) => ("Source16Short", element, 1),
            (false, 8) => ("Vgpr16", "F16", 1),
            (false, _) => ("Source16", element, 1),
        });
    }
    let words_of = |element: &str| if matches!(element, "F64" | "B64" | "V2F32" | "V2B32") { 2 } else { 1 };
    Some(match class {
        "anonymous_15868" | "anonymous_15876" | "VGPR_32" | "VGPR_32_Lo128" | "VGPRSrc_32"
        | "VOPDDstYOperand" | "anonymous_15872" | "VGPRSrc_32_Lo128" | "VINTRPDst" | "VOPDstOperand_t16"
            if width <= 8 =>
        {
            match class {
                "VOPDDstYOperand" => ("VgprSecond", "None", 1),
                _ => ("Vgpr", "None", 1),
            }
        }
        "anonymous_15870" => ("Vgpr", "None", 4),
        "anonymous_15871" | "anonymous_15875" => ("Vgpr", "None", 2),
        "anonymous_21878" => ("Scalar", "None", 1),
        "anonymous_22824" => ("Agpr", "None", 1),
        "anonymous_24166" => ("Scalar", "None", 1),
        "VOPDstS64orS32" => ("LaneMask", "None", 0),
        "SSrc_i1" => ("LaneMask", "None", 0),
        "SDWAVopcDst" => ("SdwaMask", "None", 0),
        "SendMsg" => ("Message", "None", 0),
        "SplitBarrier" | "SSrcOrLds_b32" | "VRegOrLdsSrc_32" => ("Source", "B32", 1),
        "GPRIdxMode" => ("IndexMode", "None", 0),
        _ if class.starts_with("AVLdSt_") || class.starts_with("AVDst_") => ("VgprOrAgpr", "None", words),
        _ if class.starts_with("ADst_") => ("Agpr", "None", words),
        _ if class.starts_with("ARegSrc") => ("AgprSource", "B32", words),
        _ if class.starts_with("VDst_") => ("Vgpr", "None", words),
        _ if class.starts_with("VReg_") || class.starts_with("VGPR") && width <= 8 => ("Vgpr", "None", words),
        _ if class.starts_with("AVSrc_") => ("AnySource", "B32", words),
        _ if class.starts_with("AISrc_") => ("AgprSource", element(class), words),
        _ if class.starts_with("VISrc_") || class.starts_with("VRegSrc_") => {
            ("Source", element(class), words)
        }
        _ if class.starts_with("SReg_") => ("Scalar", "None", words),
        _ if class.starts_with("SDWASrc_") => ("SdwaSource", element(class), 1),
        _ if class.contains("Src_") || class.starts_with("VSrc") => {
            ("Source", element(class), words_of(element(class)))
        }
        "SMEMOffsetMod" | "OptSMEMOffsetMod" => ("ScalarOffsetNamed", "None", 1),
        _ => {
            (named_kind(record, operand)?, "None", u32::from(class.contains("GLC") && !class.contains("Non")))
        }
    })
}

/// Immediates and controls, by name.
fn named_kind(record: &Record, operand: &Operand) -> Option<&'static str> {
    Some(match operand.class.as_str() {
        "SWaitCnt" => "WaitCount",
        "SDelayALU" => "DelayAlu",
        "DepCtr" => "DependencyCounters",
        "hwreg" => "HardwareRegister",
        "SOPPBrTarget" => "Label",
        "Endpgm" => "EndCode",
        "VersionImm" => "Version",
        "s16imm" | "u16imm" => "Hex16",
        "i16imm" => "Number16",
        "i32imm" if operand.name == "simm16" => "Number16",
        "i32imm" => "Number32",
        "i8imm" => "Number8",
        "KImmFP32" => "Constant32",
        "KImmFP16" => "Constant16",
        "Swizzle" => "Swizzle",
        "SMEMOffset" => "ScalarOffset",
        // Before gfx12 an offset from a flat address is never negative.
        "flat_offset" if record.mnemonic.starts_with("flat_") && record.bytes == 8 => "Offset",
        "flat_offset" => "FlatOffset",
        _ => match operand.name.as_str() {
            "offset" => "Offset",
            "offset0" => "Offset0",
            "offset1" => "Offset1",
            "cpol" => "CachePolicy",
            "gds" => "Gds",
            "format" => "Format",
            "clamp" => "Clamp",
            "omod" => "OutputModifier",
            "dpp8" => "Dpp8",
            "fi" => "Dpp8Fetch",
            "dst_sel" => "SdwaDst",
            "dst_unused" => "SdwaUnused",
            "src0_sel" => "SdwaSrc0",
            "src1_sel" => "SdwaSrc1",
            "byte_sel" => "ByteSelect",
            "index_key_8bit" | "index_key_16bit" => "IndexKey",
            "cbsz" => "BroadcastSize",
            "abid" => "BroadcastBlock",
            "blgp" => "LaneGroup",
            "waitvdst" => "WaitVdst",
            "waitvsrc" => "WaitVsrc",
            "attr" => "Attribute",
            "attrchan" => "AttributeChannel",
            _ => return None,
        },
    })
}

/// The element type in which constants of a class are read.
fn element(class: &str) -> &'static str {
    match class
        .split('_')
        .rev()
        .find(|token| token.starts_with(['f', 'b', 'i', 'v']) && token.len() <= 5 && *token != "fake16")
    {
        Some("f16") => "F16",
        Some("bf16") => "Bf16",
        Some("f32") => "F32",
        Some("f64") => "F64",
        Some("b16" | "i16") => "B16",
        Some("b64") => "B64",
        Some("v2f16") => "V2F16",
        Some("v2b16") => "V2B16",
        Some("v2bf16") => "V2Bf16",
        Some("v2f32") => "V2F32",
        Some("v2b32") => "V2B32",
        _ => "B32",
    }
}

fn slot(
    slots: &mut Vec<String>,
    kind: &str,
    role: &str,
    element: &str,
    words: u32,
    parts: &[Part],
) -> Result<(), Box<dyn Error>> {
    let mut bits = String::new();
    for (index, part) in parts.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(bits, "{comma}p({}, {}, {})", part.low, part.width, part.shift)?;
    }
    slots.push(format!("s(K::{kind}, R::{role}, T::{element}, {words}, &[{bits}])"));
    Ok(())
}
