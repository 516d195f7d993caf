//! Tables of what the caller's handles stand for.

use std::{
    collections::BTreeMap,
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use hip_ffi::sys::hipError_t;

/// The next handle. Kinds of handles share it, so that none is taken for another kind's; HIP gives the first few
/// numbers to streams of its own.
static NEXT: AtomicUsize = AtomicUsize::new(64);

/// Live handles of one kind. A handle is a number in a pointer, given once in the life of the process.
pub(super) struct Handles<T>(Mutex<BTreeMap<usize, Arc<T>>>);

impl<T> Handles<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a value a handle.
    pub(super) fn add<H>(&self, value: T) -> *mut H {
        let handle = NEXT.fetch_add(1, Ordering::Relaxed);
        self.table().insert(handle, Arc::new(value));
        ptr::without_provenance_mut(handle)
    }

    /// What a handle stands for.
    pub(super) fn get<H>(&self, handle: *mut H) -> Result<Arc<T>, hipError_t> {
        self.table().get(&handle.addr()).cloned().ok_or(hipError_t::hipErrorInvalidHandle)
    }

    /// Ends a handle.
    pub(super) fn remove<H>(&self, handle: *mut H) -> Result<Arc<T>, hipError_t> {
        self.table().remove(&handle.addr()).ok_or(hipError_t::hipErrorInvalidHandle)
    }

    /// The first handle whose value is wanted.
    pub(super) fn find<H>(&self, wanted: impl Fn(&T) -> bool) -> Option<*mut H> {
        let table = self.table();
        let (handle, _) = table.iter().find(|(_, value)| wanted(value))?;
        Some(ptr::without_provenance_mut(*handle))
    }

    /// What all handles stand for.
    pub(super) fn values(&self) -> Vec<Arc<T>> {
        self.table().values().cloned().collect()
    }

    /// Ends the handles whose values are not kept.
    pub(super) fn retain(&self, kept: impl Fn(&T) -> bool) {
        self.table().retain(|_, value| kept(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_until_it_is_removed_and_for_its_own_kind() {
        let (texts, numbers) = (Handles::new(), Handles::new());
        let text: *mut u8 = texts.add("text");
        let number: *mut u8 = numbers.add(7);
        assert_eq!(texts.get(text).as_deref(), Ok(&"text"));
        assert_eq!(numbers.get(text), Err(hipError_t::hipErrorInvalidHandle));
        assert_eq!(numbers.find(|value| *value == 7), Some(number));
        assert_eq!(texts.remove(text).as_deref(), Ok(&"text"));
        assert_eq!(texts.get(text), Err(hipError_t::hipErrorInvalidHandle));
        assert_eq!(texts.remove(text), Err(hipError_t::hipErrorInvalidHandle));
        numbers.retain(|value| *value != 7);
        assert_eq!(numbers.find::<u8>(|_| true), None);
    }
}
