//! Registers that M0 shifts between `s_set_gpr_idx_on` and `s_set_gpr_idx_off` (Vega ISA, "VGPR Indexing").
//!
//! Compilers keep the two in one straight line, so that it is known from the code which operations are shifted; a way in or out
//! that is not, ends in a fault.

use crate::{
    Family, Instruction, Lanes,
    exec::{
        environment::Environment,
        lanes::{shifted_row, unsupported},
        names::{accumulates, stem},
        op::{Op, Place, Target},
        wave::{M0, Wave},
    },
};

/// Where a walk over code stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Region {
    inside: bool,
}

impl Region {
    /// Goes on to an instruction; whether its registers are shifted.
    pub(super) fn shifts(&mut self, instruction: &Instruction) -> bool {
        let families = [Family::Vop1, Family::Vop2, Family::Vop3, Family::Vop3p, Family::Vopc];
        let shifts = self.inside && families.contains(&instruction.family());
        match instruction.mnemonic() {
            "s_set_gpr_idx_on" => self.inside = true,
            "s_set_gpr_idx_off" => self.inside = false,
            _ => {}
        }
        shifts
    }

    /// Whether an instruction may lead out of the region otherwise than at its end.
    pub(super) fn is_left_by(self, instruction: &Instruction) -> bool {
        const WAYS: [&str; 6] = ["s_branch", "s_cbranch", "s_setpc", "s_swappc", "s_call", "s_endpgm"];
        self.inside && WAYS.iter().any(|way| instruction.mnemonic().starts_with(way))
    }
}

/// The operation with its registers shifted; `None` for what is not executed in this way.
pub(super) fn shifted<const L: usize>(op: Op<L>, instruction: &Instruction) -> Option<Op<L>> {
    let name = stem(instruction.arch(), instruction.mnemonic());
    if op.pair || op.lanes != Lanes::Own || accumulates(&name) {
        return None;
    }
    Some(Op { inner: op.run, run: by_index::<L>, ..op })
}

/// Bit of M0 from which on it says which operands are shifted: sources, then the result.
const OPERANDS: u32 = 12;

/// Starts shifting: by how much, and which operands.
pub(super) fn start<const L: usize>(wave: &mut Wave<L>, by: u32, operands: u32) {
    wave.indexes = true;
    set(wave, by, operands);
}

/// Changes what is shifted.
pub(super) fn set<const L: usize>(wave: &mut Wave<L>, by: u32, operands: u32) {
    let kept = wave.scalar(M0) & !(0xff | 15 << OPERANDS);
    wave.set_scalar(M0, kept | by & 0xff | (operands & 15) << OPERANDS);
}

/// How much registers are shifted, and which.
pub(super) fn current<const L: usize>(wave: &Wave<L>) -> (u32, u32) {
    let m0 = wave.scalar(M0);
    (m0 & 0xff, m0 >> OPERANDS & 15)
}

/// # Safety
///
/// As for the operation that is wrapped.
unsafe fn by_index<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, environment: &mut Environment<'_>) {
    let (by, operands) = current(wave);
    let by = usize::try_from(by).unwrap_or(usize::MAX);
    let shifted = |wave: &Wave<L>, first: u16| {
        shifted_row(wave, usize::from(first), by).and_then(|row| u16::try_from(row).ok())
    };
    let mut inner = *op;
    let mut known = wave.indexes;
    for (number, source) in inner.sources.iter_mut().enumerate().take(3) {
        if let (1, Place::Vector(first)) = (operands >> number & 1, source.place) {
            let row = shifted(wave, first);
            known &= row.is_some();
            source.place = Place::Vector(row.unwrap_or(first));
        }
    }
    if let (true, Target::Vector { first, half }) = (operands & 8 != 0, inner.target) {
        let row = shifted(wave, first);
        known &= row.is_some();
        inner.target = Target::Vector { first: row.unwrap_or(first), half };
    }
    if !known {
        return unsupported(wave);
    }
    // SAFETY: the contract is the caller's.
    unsafe { (op.inner)(wave, &inner, environment) };
}
