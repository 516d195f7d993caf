//! Which bits of a wave's state were never written.

use crate::Half;
use crate::exec::{
    check::{
        access::Access,
        facts::{Facts, Span},
    },
    environment::Environment,
    memory_ops::active,
    op::Op,
    watch::Given,
    wave::{M0, SCALARS, SPARE_ROWS, TTMP, VCC, Wave},
};
use crate::finding::{Origin, Use};

/// Undefined bits of a wave's registers.
pub(super) struct Undefined<const L: usize> {
    /// Lanes with undefined bits, by vector register.
    pub(super) lanes: Vec<u64>,
    /// The bits, where the lane is set in `lanes`.
    bits: Vec<[u32; L]>,
    roots: Vec<Root>,
    pub(super) scalars: [u32; SCALARS],
    pub(super) scalar_roots: Vec<Root>,
    pub(super) scc: bool,
    pub(super) scc_root: Root,
    /// Scratch, byte by byte.
    pub(super) scratch: Vec<u8>,
}

/// Where undefined bits come from, and the load that brought them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub(super) origin: Origin,
    /// Word of the load.
    pub(super) at: Option<usize>,
}

impl Root {
    /// Of bits that are defined.
    pub(super) const NONE: Self = Self { origin: Origin::Scc, at: None };

    const fn register(vector: bool, index: usize) -> Self {
        Self { origin: Origin::Register { vector, index }, at: None }
    }
}

/// A use of undefined bits that decides something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decides {
    pub(super) used: Use,
    pub(super) root: Root,
    pub(super) lane: Option<usize>,
}

impl<const L: usize> Undefined<L> {
    /// A wave as it starts: the `given` registers and EXEC are defined.
    pub(super) fn new(wave: &Wave<L>, given: Given) -> Self {
        let rows = wave.vgprs.len() - SPARE_ROWS;
        let mut undefined = Self {
            lanes: vec![Wave::<L>::all_lanes(); rows],
            bits: vec![[u32::MAX; L]; rows],
            roots: (0..rows).map(|index| Root::register(true, index)).collect(),
            scalars: [u32::MAX; SCALARS],
            scalar_roots: (0..SCALARS).map(|index| Root::register(false, index)).collect(),
            scc: true,
            scc_root: Root { origin: Origin::Scc, at: None },
            scratch: vec![0xff; wave.scratch.len()],
        };
        undefined.lanes.iter_mut().take(given.rows).for_each(|lanes| *lanes = 0);
        for (register, bits) in undefined.scalars.iter_mut().enumerate().take(64) {
            *bits = if given.scalars >> register & 1 != 0 { 0 } else { u32::MAX };
        }
        undefined.scalars[TTMP..].fill(0);
        undefined.scalars[M0] = u32::MAX;
        undefined
    }

    /// Undefined bits of a lane of a vector register.
    pub(super) fn bits(&self, register: usize, lane: usize) -> u32 {
        match (self.lanes.get(register), self.bits.get(register)) {
            (Some(lanes), Some(bits)) if lanes >> lane & 1 != 0 => bits[lane],
            _ => 0,
        }
    }

    /// Where the undefined bits of a vector register come from.
    pub(super) fn root(&self, register: usize) -> Root {
        self.roots.get(register).copied().unwrap_or(Root::register(true, register))
    }

    /// Sets the undefined bits of a lane.
    pub(super) fn set_bits(&mut self, register: usize, lane: usize, undefined: u32, root: Root) {
        let (Some(lanes), Some(bits)) = (self.lanes.get_mut(register), self.bits.get_mut(register)) else {
            return;
        };
        if undefined == 0 {
            *lanes &= !(1 << lane);
            return;
        }
        // Of several lanes the first one tells.
        if let Some(place) = self.roots.get_mut(register)
            && (*lanes == 0 || place.at != root.at)
        {
            *place = root;
        }
        *lanes |= 1 << lane;
        bits[lane] = undefined;
    }

    /// Whether a vector register is defined in the lanes of `mask`.
    pub(super) fn is_defined(&self, register: usize, mask: u64) -> bool {
        self.lanes.get(register).is_none_or(|lanes| lanes & mask == 0)
    }

    /// Makes what a load gives defined; a load of half a register leaves the other half as it was.
    pub(super) fn define_loaded(&mut self, facts: &Facts<L>, access: &Access<L>, mask: u64) {
        let kept = match access.half {
            Half::Whole => return facts.writes.iter().for_each(|span| self.define(span, mask)),
            Half::Low => 0xffff_0000,
            Half::High => 0xffff,
        };
        for register in facts.writes.iter().flat_map(Span::registers) {
            let root = self.root(register);
            let lanes = self.lanes.get(register).copied().unwrap_or(0) & mask;
            for lane in active::<L>(lanes) {
                let bits = self.bits(register, lane) & kept;
                self.set_bits(register, lane, bits, root);
            }
        }
    }

    /// Makes the lanes of `mask` defined.
    pub(super) fn define(&mut self, span: Span, mask: u64) {
        for register in span.registers() {
            if span.vector {
                if let Some(lanes) = self.lanes.get_mut(register) {
                    *lanes &= !mask;
                }
            } else if let Some(bits) = self.scalars.get_mut(register) {
                *bits = 0;
            }
        }
    }

    /// Sets the undefined bits of a scalar register.
    pub(super) fn set_scalar(&mut self, register: usize, undefined: u32, root: Root) {
        if let (Some(bits), Some(place)) =
            (self.scalars.get_mut(register), self.scalar_roots.get_mut(register))
        {
            *bits = undefined;
            if undefined != 0 {
                *place = root;
            }
        }
    }

    /// The first undefined register of a span, in the lanes of `mask`.
    fn first(&self, span: Span, mask: u64) -> Option<(Root, Option<usize>)> {
        for register in span.registers() {
            if span.vector {
                let lanes = self.lanes.get(register).copied().unwrap_or(0) & mask;
                if lanes != 0 {
                    let lane = usize::try_from(lanes.trailing_zeros()).unwrap_or(0);
                    return Some((self.root(register), Some(lane)));
                }
            } else if self.scalars.get(register).copied().unwrap_or(0) != 0 {
                let root = self.scalar_roots.get(register).copied();
                return Some((root.unwrap_or(Root::register(false, register)), None));
            }
        }
        None
    }

    /// Fails when registers are undefined in the active lanes.
    pub(super) fn expect(&self, span: Span, mask: u64, used: Use) -> Result<(), Decides> {
        match self.first(span, mask) {
            Some((root, lane)) => Err(Decides { used, root, lane }),
            None => Ok(()),
        }
    }

    /// Fails when a branch depends on undefined bits.
    pub(super) fn expect_scc(&self) -> Result<(), Decides> {
        if self.scc { Err(Decides { used: Use::Branch, root: self.scc_root, lane: None }) } else { Ok(()) }
    }

    /// Fails when it depends on undefined bits whether VCC is zero.
    pub(super) fn expect_vccz(&self, wave: &Wave<L>) -> Result<(), Decides> {
        let words: u16 = if L > 32 { 2 } else { 1 };
        let decided = (VCC..VCC + usize::from(words))
            .any(|register| wave.scalar(register) & !self.scalars[register] != 0);
        let span = Span { vector: false, first: u16::try_from(VCC).unwrap_or(0), words };
        if decided { Ok(()) } else { self.expect(span, 0, Use::Branch) }
    }

    /// Follows an operation that touches no memory, before it is run.
    ///
    /// # Errors
    ///
    /// Which lanes are active would depend on undefined bits.
    pub(super) fn follow(
        &mut self,
        spare: &mut Wave<L>,
        facts: &Facts<L>,
        wave: &Wave<L>,
        ops: &[Op<L>],
        environment: &mut Environment<'_>,
    ) -> Result<(), Decides> {
        let (exec, all) = (wave.exec(), Wave::<L>::all_lanes());
        let mask = if facts.crosses_lanes { all } else { exec };
        let mut found = facts.reads.iter().find_map(|span| self.first(span, mask));
        if facts.keeps {
            found = found.or_else(|| facts.writes.iter().find_map(|span| self.first(span, mask)));
        }
        if facts.relative {
            let whole = Span { vector: true, first: 0, words: u16::try_from(self.lanes.len()).unwrap_or(0) };
            found = found.or_else(|| self.first(whole, mask));
        }
        if facts.reads_scc && self.scc {
            found = found.or(Some((self.scc_root, None)));
        }
        let Some((root, _)) = found else {
            facts.writes.iter().for_each(|span| self.define(span, exec));
            self.scc &= !facts.writes_scc;
            return Ok(());
        };
        self.sample(spare, facts, wave, ops, environment, root)
    }
}
