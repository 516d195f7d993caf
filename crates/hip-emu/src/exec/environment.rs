//! What a wave sees of the world: global memory, its group's LDS, the dispatch.

use crate::{
    Arch, FaultKind,
    exec::fidelity::Executed,
    memory::{Allocation, Table},
    words::Words,
};

/// Global memory, LDS and the facts of a dispatch, for the waves of one group at a time.
pub(super) struct Environment<'a> {
    table: &'a Table<'a>,
    words: Words<'a>,
    /// Memory of the dispatch itself: arguments and packet.
    own: &'a [Allocation],
    /// The allocation of the last access, and some before it.
    last: Allocation,
    before: [Allocation; 4],
    pub(super) lds: Vec<u8>,
    /// Bytes of scratch of each lane.
    pub(super) scratch_per_lane: usize,
    /// Address of the code's first byte.
    pub(super) code_address: u64,
    /// Bytes of code.
    pub(super) code_bytes: u64,
    pub(super) clock: u64,
    /// Operations that ran whose low bits hardware does not specify.
    pub(super) executed: Executed,
    /// Seed of what their results are moved by; 0 is not at all.
    pub(super) perturb: u64,
    pub(super) arch: Arch,
}

impl<'a> Environment<'a> {
    pub(super) fn new(table: &'a Table<'a>, own: &'a [Allocation], code: Allocation) -> Self {
        Self {
            table,
            words: table.words(),
            own,
            last: Allocation { address: 0, bytes: 0 },
            before: [Allocation { address: 0, bytes: 0 }; 4],
            lds: Vec::new(),
            scratch_per_lane: 0,
            code_address: code.address,
            code_bytes: code.bytes as u64,
            clock: 0,
            executed: Executed::default(),
            perturb: 0,
            arch: Arch::Gfx11,
        }
    }

    /// Checks a range against the allocations.
    #[inline(always)]
    pub(super) fn check(&mut self, address: u64, bytes: usize) -> Result<(), FaultKind> {
        if self.last.holds(address, bytes) { Ok(()) } else { self.find(address, bytes) }
    }

    #[cold]
    fn find(&mut self, address: u64, bytes: usize) -> Result<(), FaultKind> {
        if let Some(place) = self.before.iter_mut().find(|allocation| allocation.holds(address, bytes)) {
            std::mem::swap(place, &mut self.last);
            return Ok(());
        }
        let own = self.own.iter().copied().find(|allocation| allocation.holds(address, bytes));
        match own.or_else(|| self.table.find(address, bytes)) {
            Some(found) => {
                self.before.rotate_right(1);
                self.before[0] = self.last;
                self.last = found;
                Ok(())
            }
            None => Err(match self.table.find_freed(address, bytes) {
                Some(freed) => FaultKind::UseAfterFree { address, bytes, freed },
                None => FaultKind::OutOfBounds { address, bytes, nearest: self.table.nearest(address) },
            }),
        }
    }

    #[inline(always)]
    pub(super) fn load8(&mut self, address: u64) -> Result<u8, FaultKind> {
        self.check(address, 1)?;
        // SAFETY: the range was checked.
        Ok(unsafe { self.words.load8(address) })
    }

    #[inline(always)]
    pub(super) fn load16(&mut self, address: u64) -> Result<u16, FaultKind> {
        self.check(address, 2)?;
        // SAFETY: the range was checked.
        Ok(unsafe { self.words.load16(address) })
    }

    #[inline(always)]
    pub(super) fn load32(&mut self, address: u64) -> Result<u32, FaultKind> {
        self.check(address, 4)?;
        // SAFETY: the range was checked.
        Ok(unsafe { self.words.load32(address) })
    }

    #[inline(always)]
    pub(super) fn store8(&mut self, address: u64, value: u8) -> Result<(), FaultKind> {
        self.check(address, 1)?;
        // SAFETY: the range was checked.
        unsafe { self.words.store8(address, value) }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn store16(&mut self, address: u64, value: u16) -> Result<(), FaultKind> {
        self.check(address, 2)?;
        // SAFETY: the range was checked.
        unsafe { self.words.store16(address, value) }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn store32(&mut self, address: u64, value: u32) -> Result<(), FaultKind> {
        self.check(address, 4)?;
        // SAFETY: the range was checked.
        unsafe { self.words.store32(address, value) }
        Ok(())
    }

    pub(super) fn update32(&mut self, address: u64, f: impl Fn(u32) -> u32) -> Result<u32, FaultKind> {
        self.check(address, 4)?;
        // SAFETY: the range was checked.
        let old = unsafe { self.words.update32(address, f) };
        old.ok_or(FaultKind::Misaligned { address, bytes: 4 })
    }

    pub(super) fn update64(&mut self, address: u64, f: impl Fn(u64) -> u64) -> Result<u64, FaultKind> {
        self.check(address, 8)?;
        // SAFETY: the range was checked.
        let old = unsafe { self.words.update64(address, f) };
        old.ok_or(FaultKind::Misaligned { address, bytes: 8 })
    }

    /// Bytes of LDS.
    pub(super) fn lds(&mut self, address: u32, bytes: usize) -> Result<&mut [u8], FaultKind> {
        let size = self.lds.len();
        let start = usize::try_from(address).unwrap_or(usize::MAX);
        let range = start.checked_add(bytes).and_then(|end| self.lds.get_mut(start..end));
        range.ok_or(FaultKind::LdsOutOfBounds { address, bytes, size })
    }

    pub(super) fn load_lds32(&mut self, address: u32) -> Result<u32, FaultKind> {
        let bytes = self.lds(address, 4)?;
        Ok(bytes.first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk)))
    }

    pub(super) fn store_lds32(&mut self, address: u32, value: u32) -> Result<(), FaultKind> {
        self.lds(address, 4)?.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }
}
