//! The state of one wave.

use crate::{LaunchFault, exec::mode::Mode};

/// Scalar registers by gfx11's operand codes, whatever an architecture's own are: 0..106 ordinary, of which gfx9 gives four
/// other duties, then VCC, the trap handler's, null, M0, EXEC.
pub(super) const FLAT_SCRATCH: usize = 102;
pub(super) const XNACK_MASK: usize = 104;
pub(super) const VCC: usize = 106;
pub(super) const TTMP: usize = 108;
pub(super) const NULL: usize = 124;
pub(super) const M0: usize = 125;
pub(super) const EXEC: usize = 126;
/// Where writes to the null register go.
pub(super) const DROPPED: usize = 128;
/// Scalar words of a wave, the dropped ones included: the widest result has 16 words.
pub(super) const SCALARS: usize = 144;

/// Rows behind a wave's registers: permuted sources and the first half of a pair.
pub(super) const SPARE_ROWS: usize = 4;

/// Why a wave stopped running.
#[derive(Debug)]
pub(super) enum Stop {
    /// It ended.
    End,
    /// It waits at a barrier.
    Barrier,
    /// It gave way to others.
    Yield,
    /// It cannot go on.
    Fault(Box<LaunchFault>),
}

/// One wave of `L` lanes.
pub(super) struct Wave<const L: usize> {
    pub(super) vgprs: Vec<[u32; L]>,
    pub(super) sgprs: [u32; SCALARS],
    pub(super) scc: bool,
    pub(super) mode: Mode,
    /// Next instruction, in words from the start of the code.
    pub(super) pc: usize,
    pub(super) stop: Option<Stop>,
    /// Per-lane private memory: `bytes_per_lane` bytes a lane, lane after lane.
    pub(super) scratch: Vec<u8>,
    pub(super) executed: u64,
    /// Number of the wave in its work-group.
    pub(super) number: u32,
    /// Vector registers are indexed by M0.
    pub(super) indexes: bool,
    /// It has said that it came to a barrier that it has not yet waited at.
    pub(super) signalled: bool,
}

impl<const L: usize> Wave<L> {
    pub(super) fn new(rows: usize, scratch_bytes: usize) -> Self {
        Self {
            vgprs: vec![[0; L]; rows + SPARE_ROWS],
            sgprs: [0; SCALARS],
            scc: false,
            mode: Mode(0),
            pc: 0,
            stop: None,
            scratch: vec![0; scratch_bytes],
            executed: 0,
            number: 0,
            indexes: false,
            signalled: false,
        }
    }

    pub(super) const fn all_lanes() -> u64 {
        if L >= 64 { u64::MAX } else { (1 << L) - 1 }
    }

    #[inline(always)]
    pub(super) fn exec(&self) -> u64 {
        self.mask(EXEC)
    }

    /// A lane mask held in scalar registers.
    #[inline(always)]
    pub(super) fn mask(&self, first: usize) -> u64 {
        if L > 32 { self.scalar64(first) } else { u64::from(self.scalar(first)) }
    }

    #[inline(always)]
    pub(super) fn set_mask(&mut self, first: usize, mask: u64) {
        if L > 32 { self.set_scalar64(first, mask) } else { self.set_scalar(first, low(mask)) }
    }

    #[inline(always)]
    pub(super) fn scalar(&self, index: usize) -> u32 {
        self.sgprs.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(super) fn set_scalar(&mut self, index: usize, value: u32) {
        if let Some(place) = self.sgprs.get_mut(index) {
            *place = value;
        }
    }

    #[inline(always)]
    pub(super) fn scalar64(&self, index: usize) -> u64 {
        u64::from(self.scalar(index)) | u64::from(self.scalar(index + 1)) << 32
    }

    #[inline(always)]
    pub(super) fn set_scalar64(&mut self, index: usize, value: u64) {
        self.set_scalar(index, low(value));
        self.set_scalar(index + 1, low(value >> 32));
    }

    /// A register of all lanes; operands are held to the allocation when code is translated.
    #[inline(always)]
    pub(super) fn row(&self, register: usize) -> &[u32; L] {
        self.vgprs.get(register).unwrap_or(const { &[0; L] })
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub(super) fn write_row(&mut self, register: usize, row: &[u32; L], mask: u64) {
        let Some(place) = self.vgprs.get_mut(register) else { return };
        if mask == Self::all_lanes() {
            *place = *row;
        } else {
            for lane in 0..L {
                place[lane] = if mask >> lane & 1 != 0 { row[lane] } else { place[lane] };
            }
        }
    }

    pub(super) fn fault(&mut self, fault: LaunchFault) {
        self.stop = Some(Stop::Fault(Box::new(fault)));
    }
}

/// The low word.
#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
pub(super) const fn low(value: u64) -> u32 {
    value as u32
}
