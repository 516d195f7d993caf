use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use hip_ffi::{ErrorClass, HipError};

/// How often one HIP function has failed with one code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The C function.
    pub call: &'static str,
    /// What it returned.
    pub code: u32,
    /// The library's name for that.
    pub name: String,
    /// What it means for the device.
    pub class: ErrorClass,
    /// How often.
    pub count: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { call, code, name, class, count } = self;
        write!(f, "{call} returned {name} ({code}), {class}: {count} times")
    }
}

/// The live counts behind [`Failure`]. Nothing is touched while calls succeed.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<BTreeMap<(&'static str, u32), Failure>>);

impl Failures {
    pub(crate) fn note(&self, error: &HipError) {
        let HipError { call, code, name, .. } = error;
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = failures.entry((call, code.0)).or_insert_with(|| Failure {
            call,
            code: code.0,
            name: name.clone(),
            class: error.class(),
            count: 0,
        });
        failure.count += 1;
    }

    pub(crate) fn read(&self) -> Vec<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
