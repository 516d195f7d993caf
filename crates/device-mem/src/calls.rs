//! Whether HIP returns: calls begun and ended in this process, for a watchdog.

use std::sync::atomic::{AtomicU64, Ordering};

static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

/// Operations of HIP devices, each of one HIP call or some, since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Of which the first call was made.
    pub begun: u64,
    /// Of which the last call has returned.
    pub ended: u64,
}

/// Counts now. Where `begun` is ahead of `ended` and neither changes for longer than [twice the
/// deadline](crate::HipDevice::deadline), which bounds the waits of an operation, the runtime does not return from a call.
pub fn calls() -> Calls {
    // Read first, so that it is never ahead.
    let ended = ENDED.load(Ordering::Acquire);
    Calls { begun: BEGUN.load(Ordering::Acquire), ended }
}

/// An operation under way.
pub(crate) struct Call(());

impl Call {
    pub(crate) fn begin() -> Call {
        BEGUN.fetch_add(1, Ordering::AcqRel);
        Call(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        ENDED.fetch_add(1, Ordering::AcqRel);
    }
}
