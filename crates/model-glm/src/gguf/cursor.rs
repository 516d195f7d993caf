//! Reading little-endian numbers and runs of bytes, each checked against the end of the file.

use super::GgufError;

/// A place in the file.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes before this place.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes behind it.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `len` bytes, or `None` where the file ends before.
    pub(super) fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(len).ok()?)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, GgufError> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn array<const LEN: usize>(&mut self, what: &'static str) -> Result<[u8; LEN], GgufError> {
        let truncated = self.truncated(what, LEN as u64);
        self.take(LEN as u64).and_then(|bytes| bytes.try_into().ok()).ok_or(truncated)
    }

    /// The error that `needed` bytes of `what` are not there.
    pub(super) fn truncated(&self, what: &'static str, needed: u64) -> GgufError {
        GgufError::Truncated { what, at: self.at, needed, left: self.left() }
    }
}
