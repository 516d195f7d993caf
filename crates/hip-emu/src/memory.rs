//! The card's memory: allocations at real addresses, and the table against which every access is checked.

use std::{
    alloc::{self, Layout},
    collections::VecDeque,
    fmt,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use crate::{MemoryError, words::Words, written::Written};

/// Alignment of an allocation, in bytes.
const ALIGNMENT: usize = 256;
/// Bytes between an allocation and whatever lies beside it.
const RED_ZONE: usize = 256;
/// Freed bytes, and freed allocations, that are kept to tell uses of them.
const KEPT_BYTES: usize = 1 << 28;
const KEPT_BLOCKS: usize = 4096;

/// Memory that a kernel may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Address of the first byte.
    pub address: u64,
    /// Size in bytes.
    pub bytes: usize,
}

impl Allocation {
    /// Whether `bytes` bytes at `address` lie inside.
    #[inline(always)]
    pub(crate) const fn holds(&self, address: u64, bytes: usize) -> bool {
        let offset = address.wrapping_sub(self.address);
        offset <= self.bytes as u64 && bytes as u64 <= self.bytes as u64 - offset
    }

    /// Bytes from the start to an address that lies inside.
    pub(crate) fn offset(&self, address: u64) -> usize {
        usize::try_from(address.wrapping_sub(self.address)).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Allocation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the allocation of {} bytes at {:#x}", self.bytes, self.address)
    }
}

/// The card's memory.
#[derive(Debug, Default)]
pub struct Memory {
    blocks: RwLock<Blocks>,
    /// Whether freed allocations are kept for a while.
    keeps_freed: bool,
    /// Whether it is known which bytes were written.
    tracks_written: bool,
}

#[derive(Debug, Default)]
struct Blocks {
    /// By address.
    live: Vec<Block>,
    /// In the order in which they were freed.
    freed: VecDeque<Block>,
    freed_bytes: usize,
}

/// Owned bytes with a red zone on either side.
#[derive(Debug)]
struct Block {
    start: *mut u8,
    layout: Layout,
    allocation: Allocation,
    written: Option<Written>,
}

// SAFETY: a block owns its bytes, which are only accessed through relaxed atomics.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc` with this layout, and nothing uses it after the owner.
        unsafe { alloc::dealloc(self.start, self.layout) }
    }
}

impl Memory {
    /// Empty memory that can tell uses of what was freed, and of bytes that were never written.
    pub(crate) fn new(keeps_freed: bool, tracks_written: bool) -> Self {
        Self { blocks: RwLock::default(), keeps_freed, tracks_written }
    }

    /// Allocates `bytes` bytes, aligned to 256; zero bytes give an address of their own. Every byte is 0xff.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfMemory`].
    pub fn allocate(&self, bytes: usize) -> Result<u64, MemoryError> {
        let failed = MemoryError::OutOfMemory { bytes };
        let whole = bytes.checked_add(2 * RED_ZONE).ok_or(failed)?;
        let layout =
            Layout::from_size_align(whole, ALIGNMENT).map_err(|_| MemoryError::OutOfMemory { bytes })?;
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc::alloc(layout) };
        if start.is_null() {
            return Err(MemoryError::OutOfMemory { bytes });
        }
        // What a card hands out is not zero: a pattern that is NaN in every float type shows unwritten elements.
        // SAFETY: the block was just allocated with this size, and nobody else has it yet.
        unsafe { start.write_bytes(0xff, whole) };
        let address = start.wrapping_add(RED_ZONE).expose_provenance() as u64;
        let written = self.tracks_written.then(|| Written::new(bytes));
        let block = Block { start, layout, allocation: Allocation { address, bytes }, written };
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let place = blocks.live.partition_point(|other| other.allocation.address < address);
        blocks.live.insert(place, block);
        Ok(address)
    }

    /// Frees an allocation.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotAnAllocation`]: nothing starts there.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let found = blocks.live.binary_search_by_key(&address, |block| block.allocation.address);
        let place = found.map_err(|_| MemoryError::NotAnAllocation { address })?;
        let block = blocks.live.remove(place);
        if self.keeps_freed {
            blocks.keep(block);
        }
        Ok(())
    }

    /// The allocation that holds an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<Allocation> {
        self.lock().find(address, 1)
    }

    /// Bytes allocated.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().0.live.iter().map(|block| block.allocation.bytes as u64).sum()
    }

    /// Copies bytes out.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`]; with [`Checks::init`](crate::Checks::init) also [`MemoryError::Unwritten`].
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let guard = self.checked(address, into.len())?;
        if let Some(unwritten) = guard.unwritten(address, into.len()) {
            return Err(unwritten);
        }
        // SAFETY: the range was checked against the table, whose guard keeps the block alive.
        unsafe { guard.words().copy_out(address, into) };
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        let guard = self.checked(address, from.len())?;
        guard.mark_written(address, from.len());
        // SAFETY: the range was checked against the table, whose guard keeps the block alive.
        unsafe { guard.words().copy_in(address, from) };
        Ok(())
    }

    /// Sets bytes.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn fill(&self, address: u64, byte: u8, bytes: usize) -> Result<(), MemoryError> {
        /// Bytes that are set at once.
        const PIECE: usize = 4096;
        let guard = self.checked(address, bytes)?;
        guard.mark_written(address, bytes);
        let pattern = [byte; PIECE];
        for start in (0..bytes).step_by(PIECE) {
            let piece = &pattern[..PIECE.min(bytes - start)];
            // SAFETY: a part of the range, which was checked against the table, whose guard keeps the block alive.
            unsafe { guard.words().copy_in(address + start as u64, piece) };
        }
        Ok(())
    }

    /// Copies bytes from one place to another; what was never written stays so. The places may overlap.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), MemoryError> {
        let guard = self.checked(from, bytes)?;
        guard.expect_inside(to, bytes)?;
        let mut between = vec![0; bytes];
        // SAFETY: the range was checked against the table, whose guard keeps the block alive.
        unsafe { guard.words().copy_out(from, &mut between) };
        // SAFETY: as above.
        unsafe { guard.words().copy_in(to, &between) };
        guard.copy_written(to, from, bytes);
        Ok(())
    }

    fn checked(&self, address: u64, bytes: usize) -> Result<Table<'_>, MemoryError> {
        let table = self.lock();
        table.expect_inside(address, bytes)?;
        Ok(table)
    }

    /// The table; while it is held nothing is allocated or freed.
    pub(crate) fn lock(&self) -> Table<'_> {
        Table(self.blocks.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Blocks {
    /// Keeps a freed block, and gives up the oldest ones when there are many.
    fn keep(&mut self, block: Block) {
        self.freed_bytes += block.allocation.bytes;
        self.freed.push_back(block);
        while self.freed_bytes > KEPT_BYTES || self.freed.len() > KEPT_BLOCKS {
            let Some(oldest) = self.freed.pop_front() else { break };
            self.freed_bytes -= oldest.allocation.bytes;
        }
    }
}

/// The allocations, held still.
pub(crate) struct Table<'a>(RwLockReadGuard<'a, Blocks>);

impl Table<'_> {
    /// The allocation that holds a range.
    pub(crate) fn find(&self, address: u64, bytes: usize) -> Option<Allocation> {
        Some(self.block(address, bytes)?.allocation)
    }

    fn block(&self, address: u64, bytes: usize) -> Option<&Block> {
        let live = &self.0.live;
        let after = live.partition_point(|block| block.allocation.address <= address);
        live.get(after.checked_sub(1)?).filter(|block| block.allocation.holds(address, bytes))
    }

    fn expect_inside(&self, address: u64, bytes: usize) -> Result<(), MemoryError> {
        match self.block(address, bytes) {
            Some(_) => Ok(()),
            None => Err(MemoryError::OutOfBounds { address, bytes, nearest: self.nearest(address) }),
        }
    }

    /// The allocation that held a range before it was freed.
    pub(crate) fn find_freed(&self, address: u64, bytes: usize) -> Option<Allocation> {
        let freed = self.0.freed.iter().rev().map(|block| block.allocation);
        freed.into_iter().find(|allocation| allocation.holds(address, bytes))
    }

    /// The allocation that lies nearest to an address.
    pub(crate) fn nearest(&self, address: u64) -> Option<Allocation> {
        let distance = |allocation: &Allocation| {
            let end = allocation.address + allocation.bytes as u64;
            allocation.address.saturating_sub(address).max(address.saturating_sub(end))
        };
        self.0.live.iter().map(|block| block.allocation).min_by_key(distance)
    }

    /// An allocation and what of it was written, where that is known.
    pub(crate) fn written(&self, address: u64, bytes: usize) -> Option<(Allocation, &Written)> {
        let block = self.block(address, bytes)?;
        Some((block.allocation, block.written.as_ref()?))
    }

    /// Notes that a range was written.
    fn mark_written(&self, address: u64, bytes: usize) {
        if let Some((allocation, written)) = self.written(address, bytes) {
            written.mark(allocation.offset(address), bytes);
        }
    }

    fn copy_written(&self, to: u64, from: u64, bytes: usize) {
        let (to_found, from_found) = (self.written(to, bytes), self.written(from, bytes));
        if let (Some((to_place, to_written)), Some((from_place, from_written))) = (to_found, from_found) {
            to_written.copy(to_place.offset(to), from_written, from_place.offset(from), bytes);
        }
    }

    /// The error for a range that was never written as a whole.
    fn unwritten(&self, address: u64, bytes: usize) -> Option<MemoryError> {
        let (allocation, written) = self.written(address, bytes)?;
        let first = written.first_missing(allocation.offset(address), bytes)?;
        Some(MemoryError::Unwritten { address: allocation.address + first as u64, allocation })
    }

    /// The words of a checked range.
    pub(crate) const fn words(&self) -> Words<'_> {
        Words::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{Memory, MemoryError};

    #[test]
    fn ranges_are_held_to_their_allocation() {
        let memory = Memory::default();
        let address = memory.allocate(10).unwrap();
        let mut fresh = [0; 10];
        assert_eq!((memory.read(address, &mut fresh), fresh), (Ok(()), [0xff; 10]));
        assert_eq!(memory.write(address, &[7; 10]), Ok(()));
        assert!(memory.write(address, &[7; 11]).is_err());
        assert!(memory.write(address - 1, &[7]).is_err());
        let mut bytes = [0; 4];
        assert_eq!((memory.read(address + 6, &mut bytes), bytes), (Ok(()), [7; 4]));
        assert!(memory.fill(u64::MAX, 0, 4).is_err());
        assert_eq!(memory.find(address + 9).map(|found| found.address), Some(address));
        assert_eq!(memory.used(), 10);
        assert!(memory.free(address + 1).is_err());
        assert_eq!(memory.free(address), Ok(()));
        assert!(memory.read(address, &mut bytes).is_err());
    }

    /// Places may lie outside their allocation.
    #[derive(Clone, Debug)]
    enum Step {
        Allocate(usize),
        Free(usize),
        Write((usize, i64), Vec<u8>),
        Fill((usize, i64), u8, usize),
        Copy((usize, i64), (usize, i64), usize),
        Read((usize, i64), usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = || (0..4_usize, -3..70_i64);
        prop_oneof![
            (0..70_usize).prop_map(Step::Allocate),
            (0..4_usize).prop_map(Step::Free),
            (place(), vec(any::<u8>(), 0..40)).prop_map(|(to, bytes)| Step::Write(to, bytes)),
            (place(), any::<u8>(), 0..40_usize).prop_map(|(to, byte, bytes)| Step::Fill(to, byte, bytes)),
            (place(), place(), 0..40_usize).prop_map(|(to, from, bytes)| Step::Copy(to, from, bytes)),
            (place(), 0..40_usize).prop_map(|(from, bytes)| Step::Read(from, bytes)),
        ]
    }

    /// What memory must be like: the bytes of live allocations by their address, `None` where never written.
    #[derive(Default)]
    struct Model(Vec<(u64, Vec<Option<u8>>)>);

    impl Model {
        /// The address of a place, and its bytes where they lie in an allocation.
        fn at(&mut self, (which, offset): (usize, i64), bytes: usize) -> (u64, Option<&mut [Option<u8>]>) {
            let len = self.0.len().max(1);
            let Some((start, content)) = self.0.get_mut(which % len) else { return (1 << 20, None) };
            let range = usize::try_from(offset).ok().map(|offset| offset..offset + bytes);
            (start.wrapping_add_signed(offset), range.and_then(|range| content.get_mut(range)))
        }
    }

    /// Takes a step in both, which must agree.
    fn take(step: Step, memory: &Memory, tracks: bool, model: &mut Model) {
        match step {
            Step::Allocate(bytes) => model.0.push((memory.allocate(bytes).unwrap(), vec![None; bytes])),
            Step::Free(which) if which < model.0.len() => {
                let (address, _) = model.0.remove(which);
                memory.free(address).unwrap();
                assert_eq!(memory.free(address), Err(MemoryError::NotAnAllocation { address }));
            }
            Step::Free(_) => assert!(memory.free(8).is_err()),
            Step::Write(to, bytes) => {
                let (address, content) = model.at(to, bytes.len());
                assert_eq!(memory.write(address, &bytes).is_ok(), content.is_some());
                content.into_iter().flatten().zip(bytes).for_each(|(old, new)| *old = Some(new));
            }
            Step::Fill(to, byte, bytes) => {
                let (address, content) = model.at(to, bytes);
                assert_eq!(memory.fill(address, byte, bytes).is_ok(), content.is_some());
                content.into_iter().flatten().for_each(|old| *old = Some(byte));
            }
            Step::Copy(to, from, bytes) => {
                let (from, source) = model.at(from, bytes);
                let source = source.map(|source| source.to_vec());
                let (to, target) = model.at(to, bytes);
                assert_eq!(memory.copy(to, from, bytes).is_ok(), source.is_some() && target.is_some());
                if let (Some(source), Some(target)) = (source, target) {
                    target.copy_from_slice(&source);
                }
            }
            Step::Read(from, bytes) => {
                let (address, content) = model.at(from, bytes);
                let mut found = vec![0; bytes];
                let result = memory.read(address, &mut found);
                match content {
                    None => assert!(matches!(result, Err(MemoryError::OutOfBounds { .. }))),
                    Some(content) if tracks && content.contains(&None) => {
                        assert!(matches!(result, Err(MemoryError::Unwritten { .. })));
                    }
                    Some(content) => {
                        let expected = Vec::from_iter(content.iter().map(|byte| byte.unwrap_or(0xff)));
                        assert_eq!((result, found), (Ok(()), expected));
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn memory_is_as_vectors_are(keeps: bool, tracks: bool, steps in vec(step(), 1..24)) {
            let (memory, mut model) = (Memory::new(keeps, tracks), Model::default());
            steps.into_iter().for_each(|step| take(step, &memory, tracks, &mut model));
            let live: usize = model.0.iter().map(|(_, content)| content.len()).sum();
            prop_assert_eq!(memory.used(), live as u64);
        }
    }
}
