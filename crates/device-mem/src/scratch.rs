//! Memory that calls leave to those that follow.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What calls on the CPU have worked in: each takes what an earlier one has left, so that once one has found room, those like it
/// allocate nothing, whichever threads they run on.
#[derive(Debug)]
pub struct Scratch<T>(Mutex<Vec<T>>);

impl<T: Default> Scratch<T> {
    /// Nothing yet.
    pub const fn new() -> Scratch<T> {
        Scratch(Mutex::new(Vec::new()))
    }

    /// Lends `work` what the last call has left, in whatever state, or else a default.
    pub fn lend<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut room = self.left().pop().unwrap_or_default();
        let result = work(&mut room);
        self.left().push(room);
        result
    }

    fn left(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Scratch<T> {
    fn default() -> Scratch<T> {
        Scratch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_what_the_last_one_left_and_one_within_another_its_own() {
        static SCRATCH: Scratch<Vec<u8>> = Scratch::new();
        let within = SCRATCH.lend(|outer| {
            outer.push(1);
            SCRATCH.lend(|inner| std::mem::replace(inner, vec![2, 2]))
        });
        assert!(within.is_empty());
        assert_eq!(SCRATCH.lend(|last| last.clone()), [1]);
        let inner = SCRATCH.lend(|_| SCRATCH.lend(|inner| inner.clone()));
        assert_eq!(inner, [2, 2]);
    }
}
