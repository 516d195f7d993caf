//! Records as exported, and the choice among records that share an encoding.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
};

/// One bit range of a field: bits `low..low + width` of the encoding are bits `shift..` of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) low: u32,
    pub(crate) width: u32,
    pub(crate) shift: u32,
}

/// An operand: its class and its field.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) class: String,
    pub(crate) name: String,
    /// 16 bits wide, in one half of a register.
    pub(crate) half: bool,
}

/// One encoding.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) mnemonic: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) bytes: u32,
    pub(crate) mask: u128,
    pub(crate) value: u128,
    pub(crate) fields: BTreeMap<String, Vec<Part>>,
    pub(crate) outs: Vec<Operand>,
    pub(crate) ins: Vec<Operand>,
    /// The second half of a dual-issue pair.
    pub(crate) second: Option<String>,
}

impl Record {
    /// Reads one line of the export.
    pub(crate) fn parse(line: &str) -> Result<Self, Box<dyn Error>> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [mnemonic, name, namespace, bytes, mask, value, fields, operands] = columns[..] else {
            return Err(format!("expected 8 columns: {line}").into());
        };
        let (outs, ins) = operands.split_once('|').ok_or("operands need `|`")?;
        Ok(Self {
            mnemonic: mnemonic.replace(['{', '}'], ""),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            bytes: bytes.parse()?,
            mask: u128::from_str_radix(mask, 16)?,
            value: u128::from_str_radix(value, 16)?,
            fields: parse_fields(fields)?,
            outs: parse_operands(outs),
            ins: parse_operands(ins),
            second: None,
        })
    }

    /// The record's name without its generation, and without the marks of the two 16-bit register models.
    fn stem(&self) -> String {
        let name = self.name.rsplit_once("_gfx").map_or(self.name.as_str(), |(stem, _)| stem);
        let name = name.strip_suffix("_vi").unwrap_or(name);
        name.replace("_fake16", "").replace("_t16", "").replace("_gfx9", "")
    }

    /// Whether the record speaks of register halves.
    fn real_t16(&self) -> bool {
        self.outs.iter().chain(&self.ins).any(|operand| {
            operand.class.starts_with("VOPDstOperand_t16")
                || operand.class.starts_with("VSrcT_")
                || operand.class.starts_with("VGPRSrc_16")
        })
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }
}

fn parse_fields(text: &str) -> Result<BTreeMap<String, Vec<Part>>, Box<dyn Error>> {
    let mut fields = BTreeMap::new();
    for field in text.split(';').map(str::trim).filter(|field| !field.is_empty()) {
        let (name, ranges) = field.split_once('=').ok_or("a field needs `=`")?;
        let mut parts = Vec::new();
        for range in ranges.split_whitespace() {
            let (bits, shift) = match range.split_once('<') {
                Some((bits, shift)) => (bits, shift.trim_end_matches('>').parse()?),
                None => (range, 0),
            };
            let (low, high) = bits.split_once(':').ok_or("a range needs `:`")?;
            let (low, high): (u32, u32) = (low.parse()?, high.parse()?);
            parts.push(Part { low, width: high - low + 1, shift });
        }
        fields.insert(name.to_owned(), parts);
    }
    Ok(fields)
}

fn parse_operands(text: &str) -> Vec<Operand> {
    let list = text.trim().trim_start_matches("(outs").trim_start_matches("(ins").trim_end_matches(')');
    list.split(',')
        .filter_map(|operand| operand.trim().split_once(":$"))
        .map(|(class, name)| Operand { class: class.to_owned(), name: name.to_owned(), half: false })
        .collect()
}

/// The records of one table: one for each encoding, with printed mnemonics, the most specific first.
pub(crate) fn select(module: &str, mut records: Vec<Record>) -> Result<Vec<Record>, Box<dyn Error>> {
    let wave32 = matches!(module, "gfx10" | "gfx11" | "gfx12");
    records.retain(|record| exists(module, record));
    if wave32 {
        records.retain(|record| !record.name.contains("_w64"));
    }
    let halves: BTreeSet<String> = records.iter().filter(|r| r.real_t16()).map(Record::stem).collect();
    records.retain(|record| record.real_t16() || !halves.contains(&record.stem()));

    let mut seen = BTreeSet::new();
    for record in &mut records {
        restrict_dpp8(record);
    }
    records.retain(|record| record.real_t16() || seen.insert((record.bytes, record.mask, record.value)));

    let e32: BTreeMap<String, Record> = records
        .iter()
        .filter(|record| record.bytes == 4)
        .map(|record| (record.stem().trim_end_matches("_e32").to_owned(), record.clone()))
        .collect();
    let e64: BTreeSet<String> =
        records.iter().filter_map(|r| r.stem().split_once("_e64").map(|(s, _)| s.to_owned())).collect();
    let long: BTreeMap<String, Record> = records
        .iter()
        .filter(|record| record.bytes == 8 && !record.name.contains("_dpp"))
        .map(|record| (record.stem().trim_end_matches("_e64").to_owned(), record.clone()))
        .collect();
    let second_names = dual_names(&records);
    for record in &mut records {
        record.second = record.name.split_once("_X_").and_then(|(_, second)| {
            let key = second.split("_e32").next().unwrap_or(second).split("_gfx").next().unwrap_or(second);
            // The integer addition is called by its older name here.
            second_names.get(key).or_else(|| second_names.get(&key.replace("_U32", "_NC_U32"))).cloned()
        });
        if module == "gfx11" || module == "gfx12" {
            mark_halves(record, &e32, &long);
        }
        share_accumulator_bit(record);
        record.mnemonic = printed_mnemonic(record, &e32, &e64);
    }
    let mut seen = BTreeSet::new();
    records.retain(|record| seen.insert((record.bytes, record.mask, record.value)));
    // The newest generation first, then the most specific; last what is in no generation's namespace.
    let rank = |record: &Record| match record.namespace.as_str() {
        "GFX940" => 0,
        _ if record.name.contains("_gfx940") => 0,
        "GFX90A" => 1,
        "" => 3,
        _ => 2,
    };
    records.sort_by_key(|record| (rank(record), std::cmp::Reverse(record.mask.count_ones())));
    Ok(records)
}

/// Whether the targets of a table have an operation: the export holds all targets that share a decoder.
fn exists(module: &str, record: &Record) -> bool {
    let name = record.name.as_str();
    match module {
        "gfx10" => !record.mnemonic.starts_with("v_dot8c") && !name.starts_with("V_MAC_LEGACY"),
        "gfx90a" => !name.contains("_gfx940") && !name.contains("_TFE_") && !name.starts_with("V_MUL_LO_I32"),
        "gfx940" => {
            let scratch_to_lds = name.starts_with("SCRATCH_") && name.contains("_LDS_");
            let absent = name.contains("_TFE_") || name.starts_with("V_MUL_LO_I32");
            !absent && (!scratch_to_lds || record.mnemonic.contains("_lds_"))
        }
        _ => true,
    }
}

/// One bit says that all data of a memory operation are in accumulation registers.
fn share_accumulator_bit(record: &mut Record) {
    let accumulator = |name| record.fields.get(name)?.iter().find(|part| part.shift == 9).copied();
    let bit = ["vdst", "data0"].into_iter().find_map(accumulator);
    for name in ["vdata", "data0", "data1"] {
        if let (Some(bit), Some(parts)) = (bit, record.fields.get_mut(name))
            && !parts.iter().any(|part| part.shift == 9)
        {
            parts.push(bit);
        }
    }
}

/// Names of the second halves of dual-issue pairs: `ADD_U32` is printed `v_dual_add_nc_u32`.
fn dual_names(records: &[Record]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for record in records {
        let Some(rest) = record.name.strip_prefix("V_") else { continue };
        if let Some((first, _)) = rest.strip_prefix("DUAL_").and_then(|pair| pair.split_once("_X_")) {
            names.insert(first.replace("_e32", ""), record.mnemonic.clone());
        }
    }
    for record in records.iter().filter(|record| record.bytes == 4) {
        let stem = record.stem();
        if let Some(operation) = stem.strip_prefix("V_").map(|name| name.trim_end_matches("_e32").to_owned())
        {
            let plain = record.mnemonic.trim_start_matches("v_").trim_end_matches("_e32").to_owned();
            names.entry(operation).or_insert_with(|| format!("v_dual_{plain}"));
        }
    }
    names
}

/// The eight-lane form is chosen by 0xe9 or 0xea in the place of `src0`; the exported mask leaves that to a field.
fn restrict_dpp8(record: &mut Record) {
    if record.has("dpp8")
        && let Some([part]) = record.fields.get("fi").map(Vec::as_slice)
        && part.width == 9
    {
        record.mask |= 0x1fc_u128 << part.low;
        record.value |= 0x0e8_u128 << part.low;
    }
}

/// Marks 16-bit operands, and frees the bits that select their halves in the three-operand form.
fn mark_halves(record: &mut Record, e32: &BTreeMap<String, Record>, long: &BTreeMap<String, Record>) {
    let stem = record.stem();
    let base = stem.split("_e64").next().unwrap_or(&stem).split("_dpp").next().unwrap_or(&stem);
    let base = base.trim_end_matches("_e32");
    let short = e32.get(base).filter(|_| !record.name.contains("DUAL"));
    let vop3 = record.bytes > 4 && (record.value >> 26) & 0x3f == 0b11_0101;
    let mut any = false;
    for (index, name) in OPERANDS.into_iter().enumerate() {
        let in_short = short.and_then(|short| find(short, name)).map(|operand| is_half_class(&operand.class));
        let Some(class) = find(record, name).map(|operand| operand.class.clone()) else { continue };
        // The lane-permuting form names no type for its first source.
        let class = match long.get(base).and_then(|long| find(long, name)) {
            Some(plain) if vop3 && short.is_none() && record.name.contains("_dpp") => plain.class.clone(),
            _ => class,
        };
        let half = is_half_class(&class)
            || (vop3 && in_short == Some(true))
            || (vop3 && short.is_none() && long_half(&record.mnemonic, index, &class));
        if half {
            any = true;
            for operand in
                record.outs.iter_mut().chain(&mut record.ins).filter(|operand| operand.name == name)
            {
                operand.half = true;
            }
        }
    }
    if vop3 && any {
        free_half_selection(record);
    }
}

/// Result and sources.
const OPERANDS: [&str; 4] = ["vdst", "src0", "src1", "src2"];

/// Lets `op_sel` vary for each operand that the encoding has.
fn free_half_selection(record: &mut Record) {
    let own: BTreeSet<String> = record.fields.keys().cloned().collect();
    for (name, source, bit, shift) in
        [("vdst", "src0", 14, 3), ("src0", "src0", 11, 2), ("src1", "src1", 12, 2), ("src2", "src2", 13, 2)]
    {
        let field = format!("{source}_modifiers");
        let Some(operand) = find(record, name) else { continue };
        if name != "vdst" && !operand.half && own.contains(&field) {
            continue;
        }
        record.mask &= !(1_u128 << bit);
        let parts = record.fields.entry(field.clone()).or_default();
        if !parts.iter().any(|part| part.low == bit) {
            parts.push(Part { low: bit, width: 1, shift });
        }
        if !record.ins.iter().any(|operand| operand.name == field) {
            record.ins.insert(0, Operand { class: "IntOpSelMods".into(), name: field, half: false });
        }
        if !record.ins.iter().any(|operand| operand.name == "op_sel") {
            record.ins.push(Operand { class: "op_sel0".into(), name: "op_sel".into(), half: false });
        }
    }
}

fn find<'a>(record: &'a Record, name: &str) -> Option<&'a Operand> {
    record.outs.iter().chain(&record.ins).find(|operand| operand.name == name)
}

fn is_half_class(class: &str) -> bool {
    class.contains("t16")
        || class.contains("Lo128")
        || class.starts_with("VSrcT_")
        || class.starts_with("VGPRSrc_16")
        || matches!(class, "anonymous_15872" | "anonymous_23267")
}

/// Whether operand `index` (result, then sources) of an operation without a short form is 16 bits.
fn long_half(mnemonic: &str, index: usize, class: &str) -> bool {
    if mnemonic.starts_with("v_alignb") {
        return index == 3;
    }
    if mnemonic.starts_with("v_sad_") || mnemonic.starts_with("v_s_") {
        return false;
    }
    if index == 0 { half_result(mnemonic) } else { class.ends_with("16") && !class.contains("v2") }
}

/// Whether an operation without a short form gives 16 bits, from the first type in its name.
fn half_result(mnemonic: &str) -> bool {
    !mnemonic.contains("_pk_")
        && !mnemonic.contains("pack")
        && mnemonic
            .split('_')
            .find(|token| {
                token.len() >= 2 && token[1..].chars().all(|c| c.is_ascii_digit()) || *token == "bf16"
            })
            .is_some_and(|token| token.ends_with("16"))
}

/// The mnemonic as printed: with the suffix of its encoding where an operation has more than one.
fn printed_mnemonic(record: &Record, e32: &BTreeMap<String, Record>, e64: &BTreeSet<String>) -> String {
    let mnemonic = &record.mnemonic;
    let vector = mnemonic.starts_with("v_") && !mnemonic.starts_with("v_dual");
    let suffixed = ["_e32", "_e64", "_dpp", "_sdwa"].iter().any(|suffix| mnemonic.ends_with(suffix));
    if !vector || suffixed {
        return mnemonic.clone();
    }
    let destination = record.has("vdst") || record.has("sdst");
    let suffix = if record.has("dpp8") || record.has("dpp_ctrl") {
        match record.bytes {
            12 => "_e64_dpp",
            _ if destination => "_dpp",
            _ => "",
        }
    } else if record.name.contains("_sdwa") && destination {
        "_sdwa"
    } else if record.name.contains("_e32")
        && destination
        && e64.contains(record.stem().trim_end_matches("_e32"))
    {
        "_e32"
    } else if record.name.contains("_e64")
        && destination
        && e32.contains_key(record.stem().split("_e64").next().unwrap_or(""))
    {
        "_e64"
    } else {
        ""
    };
    format!("{mnemonic}{suffix}")
}
