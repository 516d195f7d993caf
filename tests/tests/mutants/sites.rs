//! Where the code of an image can be changed, and how: by one bit that makes another instruction of the same kind, or by taking
//! an instruction out.

use std::collections::BTreeMap;
use std::ops::Range;

use hip_emu::{Arch, Instruction, Listing, Modifiers, Operand, Register, Value, decode};

/// What is changed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    /// A wait for memory is taken out.
    Wait,
    /// A barrier is taken out.
    Barrier,
    /// An operand is another register.
    Operand,
    /// An access is elsewhere by a power of two.
    Offset,
    /// A constant is another one.
    Constant,
}

pub(crate) const KINDS: [Kind; 5] = [Kind::Wait, Kind::Barrier, Kind::Operand, Kind::Offset, Kind::Constant];

/// One change of one instruction.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    pub(crate) kind: Kind,
    /// Place in the image.
    place: Range<usize>,
    code: Vec<u8>,
    /// The instruction before, which of those of the kernel that are alike, and after.
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Mutant {
    /// The image with the change.
    pub(crate) fn of(&self, image: &[u8]) -> Vec<u8> {
        let mut image = image.to_vec();
        image[self.place.clone()].copy_from_slice(&self.code);
        image
    }

    /// The image with code that no card has in the place of the instruction.
    pub(crate) fn trap_of(&self, image: &[u8]) -> Vec<u8> {
        let mut image = image.to_vec();
        image[self.place.clone()].fill(0xff);
        image
    }

    /// The image without the instruction.
    pub(crate) fn without_of(&self, image: &[u8]) -> Vec<u8> {
        let mut image = image.to_vec();
        image[self.place.clone()].copy_from_slice(&nops(self.place.len()));
        image
    }

    /// The image with `v_nop` in the place of the instruction, which does not count as a wait.
    pub(crate) fn uncounted_of(&self, image: &[u8]) -> Vec<u8> {
        let mut image = image.to_vec();
        image[self.place.clone()].copy_from_slice(&repeated(0x7e00_0000, self.place.len()));
        image
    }

    /// The change, for a list.
    pub(crate) fn text(&self) -> String {
        format!("{} -> {}", self.from, self.to)
    }
}

/// Every change of a kernel of an image, in order of places.
pub(crate) fn mutants(image: &[u8], arch: Arch, kernel: &str) -> Vec<Mutant> {
    let listings = Listing::of_elf(image, arch).unwrap();
    let mut functions = listings.iter().flat_map(|listing| &listing.functions);
    let function = functions.find(|function| function.name == kernel).unwrap();
    let (mut all, mut alike) = (Vec::new(), BTreeMap::<String, u32>::new());
    let lines: Vec<_> = function.lines(arch).collect();
    for (at, line) in lines.iter().enumerate() {
        let Ok(instruction) = &line.instruction else { continue };
        let next = lines[at + 1..].iter().map_while(|line| line.instruction.as_ref().ok());
        if is_of_a_barrier(instruction, next) {
            continue;
        }
        let start = line.code.as_ptr().addr() - image.as_ptr().addr();
        let text = instruction.to_string();
        let number = alike.entry(text.clone()).and_modify(|number| *number += 1).or_insert(1);
        let from = format!("#{number} {text}");
        all.extend(taken_out(instruction, start, &from));
        all.extend(changed(instruction, line.code, start, &from));
    }
    all
}

/// Whether it is a wait for vector memory that belongs to a barrier behind it: no wave reads from memory what another one of
/// its group stores there before the launch ends, and what registers get from it is waited for where it is used.
fn is_of_a_barrier<'a>(instruction: &Instruction, mut next: impl Iterator<Item = &'a Instruction>) -> bool {
    let waits = instruction.to_string();
    let is_barrier = |next: &Instruction| next.mnemonic() == "s_barrier";
    match waits.as_str() {
        _ if waits.starts_with("s_waitcnt_vscnt") => {
            let branches = |next: &Instruction| next.mnemonic().contains("branch");
            next.take_while(|next| !branches(next)).any(is_barrier)
        }
        "s_waitcnt vmcnt(0)" => {
            next.next().is_some_and(|next| is_barrier(next) || next.mnemonic().starts_with("s_wait"))
        }
        _ => false,
    }
}

/// As many bytes of `s_nop 0`.
fn nops(bytes: usize) -> Vec<u8> {
    repeated(0xbf80_0000, bytes)
}

/// As many bytes of an instruction of one word.
fn repeated(code: u32, bytes: usize) -> Vec<u8> {
    code.to_le_bytes().repeat(bytes / size_of_val(&code))
}

/// A wait or a barrier that is taken out.
fn taken_out(instruction: &Instruction, start: usize, from: &str) -> Option<Mutant> {
    let mnemonic = instruction.mnemonic();
    // Hardware waits for these by itself, or they are about other units.
    let others = ["s_wait_idle", "s_waitcnt_depctr", "s_wait_alu", "s_wait_event"];
    let kind = match mnemonic {
        _ if others.contains(&mnemonic) => return None,
        _ if mnemonic.starts_with("s_wait") => Kind::Wait,
        "s_barrier" => Kind::Barrier,
        _ => return None,
    };
    let code = nops(instruction.length());
    Some(Mutant {
        kind,
        place: start..start + code.len(),
        code,
        from: from.to_owned(),
        to: "s_nop 0".to_owned(),
    })
}

/// The instructions that one other bit makes, if one thing alone is then another.
fn changed(instruction: &Instruction, code: &[u8], start: usize, from: &str) -> Vec<Mutant> {
    // What they hold is for the hardware's pace, or for debuggers.
    let paced = ["s_nop", "s_delay", "s_clause", "s_sleep", "s_sendmsg", "s_set", "s_code_end", "s_wait"];
    if paced.iter().any(|paced| instruction.mnemonic().starts_with(paced)) {
        return Vec::new();
    }
    let bits = (0..code.len() * 8).filter_map(|bit| {
        let mut code = code.to_vec();
        code[bit / 8] ^= 1 << (bit % 8);
        let other = decode(instruction.arch(), &code).ok()?;
        let kind = difference(instruction, &other)?;
        let idle = kind == Kind::Constant && !counts(instruction, code.len() * 8 - 32, bit);
        if idle || is_pattern(instruction) {
            return None;
        }
        let place = start..start + code.len();
        Some(Mutant { kind, place, code, from: from.to_owned(), to: other.to_string() })
    });
    bits.collect()
}

/// Whether a bit of a constant is one that results depend on. Of a mask, what it clears is mostly clear; what a select gives is
/// mostly a truth, of which any bit will do; of a float literal, which begins at bit `literal`, low bits are below the bound; what
/// sums start from is a small number as an integer, and as a float less than any rounding.
fn counts(instruction: &Instruction, literal: usize, bit: usize) -> bool {
    let has = |part: &str| {
        let second = instruction.second_mnemonic();
        instruction.mnemonic().contains(part) || second.is_some_and(|second| second.contains(part))
    };
    let is_float = ["f16", "f32", "f64"].into_iter().any(has);
    let is_low = instruction.length() > 4 && (literal..literal + 22).contains(&bit);
    let is_start = has("mov") && !is_literal(instruction);
    let is_mask_or_truth = ["and_b", "cndmask", "cselect"].into_iter().any(has);
    let is_idle = is_mask_or_truth || (is_float && is_low) || is_start || estimates(instruction);
    !is_idle
}

fn is_literal(instruction: &Instruction) -> bool {
    let operands = instruction.operands().iter().chain(instruction.second_operands());
    operands.into_iter().any(|operand| matches!(operand.value, Value::Literal(_)))
}

/// Whether it scales the estimate of a quotient of integers, which is then corrected: `2^32` or `2^64`, less a little.
fn estimates(instruction: &Instruction) -> bool {
    let scales = [Value::Literal(0x4f7f_fffe), Value::Literal(0x5f7f_fffc)];
    let operands = instruction.operands().iter().chain(instruction.second_operands());
    operands.into_iter().any(|operand| scales.contains(&operand.value))
}

/// Whether the offset is a pattern of lanes.
fn is_pattern(instruction: &Instruction) -> bool {
    instruction.mnemonic().starts_with("ds_swizzle")
}

/// What alone is another in the second instruction, if it is one of the kinds.
fn difference(one: &Instruction, other: &Instruction) -> Option<Kind> {
    let same_form = (one.mnemonic(), one.second_mnemonic(), one.length(), one.family())
        == (other.mnemonic(), other.second_mnemonic(), other.length(), other.family());
    let counts =
        |instruction: &Instruction| (instruction.operands().len(), instruction.second_operands().len());
    if !same_form || counts(one) != counts(other) {
        return None;
    }
    let pairs = one.operands().iter().zip(other.operands());
    let pairs = pairs.chain(one.second_operands().iter().zip(other.second_operands()));
    let mut kinds = pairs.filter_map(|(one, other)| operand_difference(one, other));
    let operand = kinds.next();
    if kinds.next().is_some() {
        return None;
    }
    let (before, after) = (one.modifiers(), other.modifiers());
    match operand {
        Some(kind) if before == after => kind,
        None if offset_alone(before, after) => Some(Kind::Offset),
        _ => None,
    }
}

/// `None` for the same operand, `Some(None)` for a difference that is of no kind.
fn operand_difference(one: &Operand, other: &Operand) -> Option<Option<Kind>> {
    if one == other {
        return None;
    }
    let otherwise_alike = Operand { value: one.value, ..*other } == *one;
    Some(match (&one.value, &other.value) {
        _ if !otherwise_alike => None,
        (Value::Register(one), Value::Register(other)) if same_file(one, other) => Some(Kind::Operand),
        (one, other) if is_constant(one) && is_constant(other) => Some(Kind::Constant),
        _ => None,
    })
}

/// Whether it is a number that is computed with.
fn is_constant(value: &Value) -> bool {
    matches!(
        value,
        Value::Integer(_) | Value::Float(_) | Value::Literal(_) | Value::Constant(_) | Value::Immediate(_)
    )
}

/// Whether both are vector registers, or both scalar ones, of the same width.
fn same_file(one: &Register, other: &Register) -> bool {
    match (one, other) {
        (Register::Vgpr { words, half, .. }, Register::Vgpr { words: others, half: halves, .. }) => {
            (words, half) == (others, halves)
        }
        (Register::Sgpr { words, .. }, Register::Sgpr { words: others, .. }) => words == others,
        _ => false,
    }
}

/// Whether the offsets differ and nothing else does.
fn offset_alone(before: &Modifiers, after: &Modifiers) -> bool {
    let moved = Modifiers { offset: after.offset, pair_offsets: after.pair_offsets, ..*before };
    before != after && moved == *after
}
