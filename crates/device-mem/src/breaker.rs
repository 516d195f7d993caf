//! What ends the use of a device: the first loss, which is told to everyone who comes later.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};
#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

use hip_ffi::HipError;

/// Closed until the first loss, then open for good. While it is closed, asking costs one load.
#[derive(Debug)]
pub(crate) struct Breaker {
    is_open: AtomicBool,
    cause: Mutex<Option<HipError>>,
}

/// What a library that this process has loaded has lost, it has lost for all its devices.
static OF_LIBRARIES: LazyLock<Arc<Breaker>> = LazyLock::new(|| Arc::new(Breaker::new()));

impl Breaker {
    pub(crate) fn new() -> Breaker {
        Breaker { is_open: AtomicBool::new(false), cause: Mutex::new(None) }
    }

    /// The one of all devices behind loaded libraries.
    pub(crate) fn of_libraries() -> Arc<Breaker> {
        OF_LIBRARIES.clone()
    }

    /// Opens it. The first cause stays.
    pub(crate) fn open(&self, cause: &HipError) {
        self.lock().get_or_insert_with(|| cause.clone());
        self.is_open.store(true, Ordering::Release);
    }

    /// Why it is open.
    pub(crate) fn cause(&self) -> Option<HipError> {
        if !self.is_open.load(Ordering::Acquire) {
            return None;
        }
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HipError>> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p device-mem --lib breaker`: every order in which threads may meet.
#[cfg(all(test, loom))]
mod tests {
    use hip_ffi::sys::hipError_t;
    use loom::thread;

    use super::*;

    fn loss(call: &'static str) -> HipError {
        let code = hipError_t::hipErrorLaunchFailure;
        HipError { call, code, name: String::new(), meaning: String::new() }
    }

    #[test]
    fn everyone_is_told_one_cause() {
        loom::model(|| {
            let breaker = Arc::new(Breaker::new());
            let others = ["hipFree", "hipMalloc"].map(|call| {
                let breaker = breaker.clone();
                thread::spawn(move || {
                    breaker.open(&loss(call));
                    breaker.cause().map(|cause| cause.call)
                })
            });
            let before = breaker.cause().map(|cause| cause.call);
            let told = others.map(|other| other.join().unwrap());
            let at_last = breaker.cause().map(|cause| cause.call);
            assert!(at_last.is_some() && told == [at_last; 2], "{told:?} {at_last:?}");
            assert!(before.is_none() || before == at_last);
        });
    }

    #[test]
    fn a_wait_ends_when_another_thread_meets_a_loss() {
        loom::model(|| {
            let breaker = Arc::new(Breaker::new());
            let opener = breaker.clone();
            let other = thread::spawn(move || opener.open(&loss("hipGraphLaunch")));
            // As a wait for a stream that is never ready.
            while breaker.cause().is_none() {
                thread::yield_now();
            }
            other.join().unwrap();
        });
    }

    #[test]
    fn open_is_for_good() {
        loom::model(|| {
            let breaker = Arc::new(Breaker::new());
            let opener = breaker.clone();
            let other = thread::spawn(move || opener.open(&loss("hipFree")));
            let (first, second) = (breaker.cause().is_some(), breaker.cause().is_some());
            assert!(second || !first);
            other.join().unwrap();
        });
    }
}
