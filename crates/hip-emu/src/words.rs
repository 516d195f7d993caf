//! Access to bytes of memory that were found to be there.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering},
};

#[expect(clippy::cast_possible_truncation, reason = "device addresses are addresses of this process")]
fn pointer<T>(address: u64) -> *mut T {
    std::ptr::with_exposed_provenance_mut(address as usize)
}

/// Access to ranges that were checked against a [`Table`](super::memory::Table), which it borrows.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a>(PhantomData<&'a ()>);

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
    access!(load64, store64, AtomicU64, u64);

    /// For ranges that are checked, and stay allocated, while `'a` lasts.
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }

    /// Copies bytes out.
    ///
    /// # Safety
    ///
    /// As for reading, for all of them.
    pub(crate) unsafe fn copy_out(self, address: u64, into: &mut [u8]) {
        let (chunks, rest) = into.as_chunks_mut::<8>();
        let mut at = address;
        for chunk in chunks {
            // SAFETY: by the contract.
            *chunk = unsafe { self.load64(at) }.to_le_bytes();
            at += 8;
        }
        for byte in rest {
            // SAFETY: by the contract.
            *byte = unsafe { self.load8(at) };
            at += 1;
        }
    }

    /// Copies bytes in.
    ///
    /// # Safety
    ///
    /// As for writing, for all of them.
    pub(crate) unsafe fn copy_in(self, address: u64, from: &[u8]) {
        let (chunks, rest) = from.as_chunks::<8>();
        let mut at = address;
        for chunk in chunks {
            // SAFETY: by the contract.
            unsafe { self.store64(at, u64::from_le_bytes(*chunk)) };
            at += 8;
        }
        for byte in rest {
            // SAFETY: by the contract.
            unsafe { self.store8(at, *byte) };
            at += 1;
        }
    }

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
