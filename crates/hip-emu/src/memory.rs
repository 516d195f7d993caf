//! The card's memory: allocations at real addresses, and the table against which every access is checked.

use std::{
    alloc::{self, Layout},
    sync::{
        PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering},
    },
};

use crate::MemoryError;

/// Alignment of an allocation, in bytes.
const ALIGNMENT: usize = 256;
/// Bytes between an allocation and whatever lies beside it.
const RED_ZONE: usize = 256;

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
}

/// The card's memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// By address.
    blocks: RwLock<Vec<Block>>,
}

/// Owned bytes with a red zone on either side.
#[derive(Debug)]
struct Block {
    start: *mut u8,
    layout: Layout,
    allocation: Allocation,
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
        let block = Block { start, layout, allocation: Allocation { address, bytes } };
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let place = blocks.partition_point(|other| other.allocation.address < address);
        blocks.insert(place, block);
        Ok(address)
    }

    /// Frees an allocation.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotAnAllocation`]: nothing starts there.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        match blocks.binary_search_by_key(&address, |block| block.allocation.address) {
            Ok(place) => {
                drop(blocks.remove(place));
                Ok(())
            }
            Err(_) => Err(MemoryError::NotAnAllocation { address }),
        }
    }

    /// The allocation that holds an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<Allocation> {
        self.lock().find(address, 1)
    }

    /// Bytes allocated.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().0.iter().map(|block| block.allocation.bytes as u64).sum()
    }

    /// Copies bytes out.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let guard = self.checked(address, into.len())?;
        for (offset, byte) in (0_u64..).zip(into) {
            *byte = guard.bytes(address + offset).load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        let guard = self.checked(address, from.len())?;
        for (offset, byte) in (0_u64..).zip(from) {
            guard.bytes(address + offset).store(*byte, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sets bytes.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfBounds`].
    pub fn fill(&self, address: u64, byte: u8, bytes: usize) -> Result<(), MemoryError> {
        let guard = self.checked(address, bytes)?;
        for offset in 0..bytes as u64 {
            guard.bytes(address + offset).store(byte, Ordering::Relaxed);
        }
        Ok(())
    }

    fn checked(&self, address: u64, bytes: usize) -> Result<Table<'_>, MemoryError> {
        let table = self.lock();
        match table.find(address, bytes) {
            Some(_) => Ok(table),
            None => Err(MemoryError::OutOfBounds { address, bytes, nearest: table.nearest(address) }),
        }
    }

    /// The table; while it is held nothing is allocated or freed.
    pub(crate) fn lock(&self) -> Table<'_> {
        Table(self.blocks.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The allocations, held still.
pub(crate) struct Table<'a>(RwLockReadGuard<'a, Vec<Block>>);

impl Table<'_> {
    /// The allocation that holds a range.
    pub(crate) fn find(&self, address: u64, bytes: usize) -> Option<Allocation> {
        let after = self.0.partition_point(|block| block.allocation.address <= address);
        let allocation = self.0.get(after.checked_sub(1)?)?.allocation;
        allocation.holds(address, bytes).then_some(allocation)
    }

    /// The allocation that lies nearest to an address.
    pub(crate) fn nearest(&self, address: u64) -> Option<Allocation> {
        let distance = |allocation: &Allocation| {
            let end = allocation.address + allocation.bytes as u64;
            allocation.address.saturating_sub(address).max(address.saturating_sub(end))
        };
        self.0.iter().map(|block| block.allocation).min_by_key(distance)
    }

    /// One byte.
    #[expect(clippy::unused_self, reason = "the guard keeps the block alive")]
    fn bytes(&self, address: u64) -> &AtomicU8 {
        // SAFETY: callers checked the address against the table, whose guard keeps the block alive; every access to
        // a block's bytes is atomic.
        unsafe { AtomicU8::from_ptr(pointer(address)) }
    }

    /// The words of a checked range.
    pub(crate) const fn words(&self) -> Words<'_> {
        Words(std::marker::PhantomData)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "device addresses are addresses of this process")]
fn pointer<T>(address: u64) -> *mut T {
    std::ptr::with_exposed_provenance_mut(address as usize)
}

/// Access to ranges that were checked against a [`Table`], which it borrows.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a>(std::marker::PhantomData<&'a ()>);

macro_rules! access {
    ($load:ident, $store:ident, $atomic:ty, $word:ty) => {
        /// Reads a word, whole where its address is aligned.
        ///
        /// # Safety
        ///
        /// An allocation of the borrowed table, or memory that the caller owns and lends to the kernel, holds the word.
        #[inline(always)]
        pub(crate) unsafe fn $load(self, address: u64) -> $word {
            if address % size_of::<$word>() as u64 == 0 {
                // SAFETY: aligned; in bounds and alive by the contract; all accesses are atomic.
                return unsafe { <$atomic>::from_ptr(pointer(address)) }.load(Ordering::Relaxed);
            }
            let mut bytes = [0; size_of::<$word>()];
            for (offset, byte) in (0_u64..).zip(&mut bytes) {
                // SAFETY: a byte of the word.
                *byte = unsafe { AtomicU8::from_ptr(pointer(address + offset)) }.load(Ordering::Relaxed);
            }
            <$word>::from_le_bytes(bytes)
        }

        /// Writes a word, whole where its address is aligned.
        ///
        /// # Safety
        ///
        /// As for reading.
        #[inline(always)]
        pub(crate) unsafe fn $store(self, address: u64, value: $word) {
            if address % size_of::<$word>() as u64 == 0 {
                // SAFETY: aligned; in bounds and alive by the contract; all accesses are atomic.
                return unsafe { <$atomic>::from_ptr(pointer(address)) }.store(value, Ordering::Relaxed);
            }
            for (offset, byte) in (0_u64..).zip(value.to_le_bytes()) {
                // SAFETY: a byte of the word.
                unsafe { AtomicU8::from_ptr(pointer(address + offset)) }.store(byte, Ordering::Relaxed);
            }
        }
    };
}

impl Words<'_> {
    access!(load8, store8, AtomicU8, u8);
    access!(load16, store16, AtomicU16, u16);
    access!(load32, store32, AtomicU32, u32);

    /// Replaces a 32-bit word by `f` of it, in one step; gives the old one. `None` when the address is not aligned.
    ///
    /// # Safety
    ///
    /// As for reading.
    pub(crate) unsafe fn update32(self, address: u64, f: impl Fn(u32) -> u32) -> Option<u32> {
        if !address.is_multiple_of(4) {
            return None;
        }
        // SAFETY: aligned; in bounds and alive by the contract; all accesses are atomic.
        let word = unsafe { AtomicU32::from_ptr(pointer(address)) };
        word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| Some(f(old))).ok()
    }

    /// As [`Words::update32`], for 64 bits.
    ///
    /// # Safety
    ///
    /// As for reading.
    pub(crate) unsafe fn update64(self, address: u64, f: impl Fn(u64) -> u64) -> Option<u64> {
        if !address.is_multiple_of(8) {
            return None;
        }
        // SAFETY: aligned; in bounds and alive by the contract; all accesses are atomic.
        let word = unsafe { AtomicU64::from_ptr(pointer(address)) };
        word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| Some(f(old))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;

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
}
