//! What the checks must know of an instruction: the registers that it touches, its memory access, what it waits for.

use crate::{
    Arch, Family, Instruction, Lanes, Register, Special, Value, decode,
    descriptor::VectorRegisters,
    exec::{
        check::{
            access::{Access, access},
            counters::Class,
        },
        indexing::Region,
        names::{accumulates, stem},
        one_lane,
        wave::{EXEC, FLAT_SCRATCH, M0, TTMP, VCC, XNACK_MASK},
    },
    operand::Operand,
};

/// Consecutive registers of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) vector: bool,
    pub(super) first: u16,
    pub(super) words: u16,
}

impl Span {
    const NONE: Self = Self { vector: false, first: 0, words: 0 };

    pub(super) const fn scalar(first: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "scalar registers are fewer than 256")]
        Self { vector: false, first: first as u16, words: 1 }
    }

    /// Its registers.
    pub(super) fn registers(self) -> impl Iterator<Item = usize> {
        (self.first..self.first.saturating_add(self.words)).map(usize::from)
    }
}

/// A few spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    spans: [Span; 12],
    count: u8,
}

impl Spans {
    const NONE: Self = Self { spans: [Span::NONE; 12], count: 0 };

    fn push(&mut self, span: Span) {
        if let Some(place) = self.spans.get_mut(usize::from(self.count)) {
            *place = span;
            self.count += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.spans.iter().copied().take(usize::from(self.count))
    }
}

/// How an instruction steers its wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// On to the next one.
    Next,
    /// A branch that SCC decides.
    Scc,
    /// A branch that VCC decides.
    Vcc,
    /// To an address in its first source.
    Jump,
    /// A wait until no more than so many of each kind are in flight.
    Wait(Counts),
    /// The first half of a barrier: what is done by now is before what others do after it.
    Signal,
}

/// Operations in flight, by counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Vector memory operations that give a result (`vmcnt`).
    pub(super) loads: usize,
    /// Those that give none (`vscnt`).
    pub(super) stores: usize,
    /// LDS operations, and where they share its counter scalar memory operations and messages (`lgkmcnt`, `dscnt`).
    pub(super) others: usize,
    /// Scalar memory operations and messages where they have a counter of their own (`kmcnt`).
    pub(super) scalars: usize,
}

impl Counts {
    /// Waits for nothing.
    pub(super) const ANY: Self =
        Self { loads: usize::MAX, stores: usize::MAX, others: usize::MAX, scalars: usize::MAX };
    const ZERO: Self = Self { loads: 0, stores: 0, others: 0, scalars: 0 };
}

/// What the checks must know of one instruction, or of both halves of a pair.
#[derive(Clone, Copy, Debug)]
pub(in crate::exec) struct Facts<const L: usize> {
    pub(super) class: Class,
    pub(super) reads: Spans,
    pub(super) writes: Spans,
    /// Parts of its results may keep what was there.
    pub(super) keeps: bool,
    /// It reads lanes other than the one that it writes.
    pub(super) crosses_lanes: bool,
    /// M0 shifts which registers it touches.
    pub(super) relative: bool,
    /// SCC is read.
    pub(super) reads_scc: bool,
    /// SCC may be written.
    pub(super) writes_scc: bool,
    pub(super) flow: Flow,
    pub(super) access: Option<Access<L>>,
    /// Lanes exchange values through the LDS unit.
    pub(super) exchanges: bool,
}

/// The facts of each instruction, by its first word; what is not one has none.
pub(in crate::exec) fn facts_of<const L: usize>(
    arch: Arch,
    code: &[u8],
    registers: VectorRegisters,
) -> Vec<Option<Facts<L>>> {
    let mut facts = vec![None; code.len() / 4];
    let mut region = Region::default();
    let mut at = 0;
    while at < facts.len() {
        let words = match decode(arch, code.get(4 * at..).unwrap_or(&[])) {
            Ok(instruction) => {
                let mut of_one = Facts::new(&instruction, registers);
                if region.shifts(&instruction) {
                    of_one.relative = true;
                    of_one.reads.push(Span::scalar(M0));
                }
                facts[at] = Some(of_one);
                instruction.length() / 4
            }
            Err(_) => 1,
        };
        at += words.max(1);
    }
    facts
}

impl<const L: usize> Facts<L> {
    fn new(instruction: &Instruction, registers: VectorRegisters) -> Self {
        let (family, name) = (instruction.family(), &*stem(instruction.arch(), instruction.mnemonic()));
        let scalar = matches!(family, Family::Sop1 | Family::Sop2 | Family::Sopc | Family::Sopk);
        // These leave SCC as it is; the rest of the family may not.
        let apart = [
            "s_mov",
            "s_mul_",
            "s_pack_",
            "s_bfm_",
            "s_brev_",
            "s_sext_",
            "s_get",
            "s_set",
            "s_cselect",
            "s_cmov",
            "s_add_nc_",
            "s_sub_nc_",
            "s_barrier_",
            "s_sleep",
        ];
        let access = access(family, name, instruction);
        let mut facts = Self {
            class: Class::of(family, name),
            reads: Spans::NONE,
            writes: Spans::NONE,
            keeps: !matches!(instruction.modifiers().lanes, Lanes::Own | Lanes::Eights { .. }),
            crosses_lanes: !matches!(instruction.modifiers().lanes, Lanes::Own | Lanes::SubDword { .. }),
            relative: false,
            reads_scc: ["s_cselect", "s_cmov", "s_addc", "s_subb"]
                .iter()
                .any(|start| name.starts_with(start)),
            writes_scc: scalar
                && !apart.iter().any(|start| name.starts_with(start))
                && (name.starts_with("s_cmp") || one_lane::vector_name(family, name).is_none()),
            flow: flow(instruction, name),
            access,
            exchanges: family == Family::Ds && access.is_none() && name != "ds_nop",
        };
        facts.half(name, instruction.operands(), registers);
        if let Some(second) = instruction.second_mnemonic() {
            facts.half(&stem(instruction.arch(), second), instruction.second_operands(), registers);
        }
        facts
    }

    /// Adds one operation; a pair has two.
    fn half(&mut self, mnemonic: &str, operands: &[Operand], registers: VectorRegisters) {
        let name = mnemonic.replacen("v_dual_", "v_", 1);
        let name = name.as_str();
        for operand in operands {
            let Some(span) = span(operand, registers) else { continue };
            if operand.written { self.writes.push(span) } else { self.reads.push(span) }
        }
        let tied = ["v_swap", "s_bitset", "s_addk", "s_mulk", "s_cmov"];
        if accumulates(name) || tied.iter().any(|part| name.contains(part)) {
            let targets = self.writes;
            targets.iter().for_each(|span| self.reads.push(span));
        }
        if name.starts_with("v_swap") {
            let sources = self.reads;
            sources.iter().for_each(|span| self.writes.push(span));
        }
        // What is not printed.
        if name.starts_with("v_div_fmas") || name == "v_cndmask_b32" {
            self.reads.push(Span::scalar(VCC));
        }
        if name.starts_with("v_cmpx") || name.contains("saveexec") || name.contains("wrexec") {
            self.reads.push(Span::scalar(EXEC));
            self.writes.push(Span::scalar(EXEC));
        }
        // Other bits of M0 than those that are written are not used.
        if name.starts_with("s_set_gpr_idx_") && name != "s_set_gpr_idx_off" {
            self.writes.push(Span::scalar(M0));
        }
        // Operations with 16-bit results keep the other half of their register.
        let halves = name.contains("16")
            && !["v_pk_", "_f32_", "_i32_", "_u32_", "wmma", "mfma"].iter().any(|part| name.contains(part));
        let bytes = name.contains("_pk_fp8_") || name.contains("_pk_bf8_");
        self.keeps |= halves
            || bytes
            || ["writelane", "movrel", "swap", "permlane64"].iter().any(|part| name.contains(part));
        self.relative |= name.contains("movrel") || name.contains("swaprel");
        let by_m0 =
            ["ds_append", "ds_consume", "ds_load_addtid", "ds_store_addtid", "lds_direct", "load_lds_"];
        if self.relative || by_m0.iter().any(|part| name.contains(part)) {
            self.reads.push(Span::scalar(M0));
        }
        self.crosses_lanes |= ["lane", "permute", "swizzle", "wmma", "mfma", "movrel", "swaprel"]
            .iter()
            .any(|part| name.contains(part));
    }
}

/// The registers of an operand.
fn span(operand: &Operand, registers: VectorRegisters) -> Option<Span> {
    let Value::Register(register) = operand.value else { return None };
    let (vector, first, words) = match register {
        Register::Vgpr { first, words, .. } => (true, usize::from(first), words),
        Register::Sgpr { first, words } => (false, usize::from(first), words),
        Register::Ttmp { first, words } => (false, TTMP + usize::from(first), words),
        Register::Special { name, words } => {
            let first = match name {
                Special::VccLo => VCC,
                Special::VccHi => VCC + 1,
                Special::ExecLo => EXEC,
                Special::ExecHi => EXEC + 1,
                Special::M0 => M0,
                Special::FlatScratchLo => FLAT_SCRATCH,
                Special::FlatScratchHi => FLAT_SCRATCH + 1,
                Special::XnackMaskLo => XNACK_MASK,
                Special::XnackMaskHi => XNACK_MASK + 1,
                Special::Vccz => VCC,
                Special::Execz => EXEC,
                _ => return None,
            };
            (false, first, words)
        }
        Register::Agpr { first, words } => (true, registers.ordinary + usize::from(first), words),
    };
    Some(Span { vector, first: u16::try_from(first).ok()?, words: u16::from(words.max(1)) })
}

fn flow(instruction: &Instruction, name: &str) -> Flow {
    match name {
        "s_cbranch_scc0" | "s_cbranch_scc1" => Flow::Scc,
        "s_cbranch_vccz" | "s_cbranch_vccnz" => Flow::Vcc,
        "s_setpc_b64" | "s_swappc_b64" => Flow::Jump,
        "s_wait_idle" => Flow::Wait(Counts::ZERO),
        "s_barrier_signal" => Flow::Signal,
        _ if name.starts_with("s_wait") => wait(instruction, name),
        _ => Flow::Next,
    }
}

/// What a wait waits for (the ISA documents, "S_WAITCNT", "S_WAIT_LOADCNT").
fn wait(instruction: &Instruction, name: &str) -> Flow {
    let bits = instruction.operands().iter().find_map(|operand| match operand.value {
        Value::WaitCounters(bits) | Value::Immediate(bits) => Some(usize::from(bits)),
        Value::Number(bits) => usize::try_from(bits).ok(),
        _ => None,
    });
    let Some(bits) = bits else { return Flow::Next };
    let (low, high) = (bits & 63, bits >> 8 & 63);
    Flow::Wait(match name {
        "s_waitcnt" => match instruction.arch() {
            Arch::Gfx11 | Arch::Gfx12 => {
                Counts { loads: bits >> 10 & 63, others: bits >> 4 & 63, ..Counts::ANY }
            }
            Arch::Gfx10 => Counts { loads: bits & 15 | bits >> 10 & 48, others: high, ..Counts::ANY },
            // There the most that can be waited for is 15.
            Arch::Gfx9 | Arch::Gfx90a | Arch::Gfx940 => {
                Counts { loads: bits & 15 | bits >> 10 & 48, others: bits >> 8 & 15, ..Counts::ANY }
            }
        },
        "s_wait_loadcnt" => Counts { loads: low, ..Counts::ANY },
        "s_wait_storecnt" => Counts { stores: low, ..Counts::ANY },
        "s_wait_dscnt" => Counts { others: low, ..Counts::ANY },
        "s_wait_kmcnt" => Counts { scalars: bits & 31, ..Counts::ANY },
        "s_wait_loadcnt_dscnt" => Counts { loads: high, others: low, ..Counts::ANY },
        "s_wait_storecnt_dscnt" => Counts { stores: high, others: low, ..Counts::ANY },
        "s_waitcnt_vmcnt" => Counts { loads: bits & 63, ..Counts::ANY },
        "s_waitcnt_vscnt" => Counts { stores: bits & 63, ..Counts::ANY },
        "s_waitcnt_lgkmcnt" => Counts { others: bits & 63, ..Counts::ANY },
        _ => Counts::ANY,
    })
}
