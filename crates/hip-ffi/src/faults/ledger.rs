//! What a table has given out and not been asked to take back.

use std::collections::BTreeMap;

use crate::sys::hipError_t;

/// Makes something, and gives it back.
struct Pair {
    makes: &'static str,
    /// Which argument is where it writes the handle.
    out: usize,
    gives_back: &'static str,
}

const PAIRS: [Pair; 5] = [
    Pair { makes: "hipMalloc", out: 0, gives_back: "hipFree" },
    Pair { makes: "hipStreamCreateWithFlags", out: 0, gives_back: "hipStreamDestroy" },
    Pair { makes: "hipModuleLoadData", out: 0, gives_back: "hipModuleUnload" },
    Pair { makes: "hipStreamEndCapture", out: 1, gives_back: "hipGraphDestroy" },
    Pair { makes: "hipGraphInstantiate", out: 0, gives_back: "hipGraphExecDestroy" },
];

/// Whether a call gives something back.
pub(super) fn gives_back(call: &str) -> bool {
    PAIRS.iter().any(|pair| pair.gives_back == call)
}

/// How many of each handle there are, by the function that made it. What a call made that returned an error is not there: its
/// caller never had it.
pub(super) struct Ledger(BTreeMap<(&'static str, usize), usize>);

impl Ledger {
    pub(super) const fn new() -> Ledger {
        Ledger(BTreeMap::new())
    }

    /// Enters a call that has returned `code`. Giving back counts whatever it returns, since nobody may try it again.
    ///
    /// # Errors
    /// The call, when it gave back what was not there.
    pub(super) fn enter(
        &mut self,
        call: &'static str,
        words: &[usize],
        code: hipError_t,
    ) -> Result<(), &'static str> {
        for Pair { makes, out, gives_back } in &PAIRS {
            if call == *makes
                && code == hipError_t::hipSuccess
                && let Some(&target) = words.get(*out)
            {
                // SAFETY: the call has succeeded, so it wrote a handle, which is an address, where its caller made room.
                let handle = unsafe { core::ptr::with_exposed_provenance::<usize>(target).read() };
                *self.0.entry((makes, handle)).or_default() += 1;
            }
            if call == *gives_back
                && let Some(&handle) = words.first()
            {
                let count = self.0.get_mut(&(*makes, handle)).ok_or(call)?;
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&(*makes, handle));
                }
            }
        }
        Ok(())
    }

    /// How many there are of each kind.
    pub(super) fn held(&self) -> BTreeMap<&'static str, usize> {
        let mut held = BTreeMap::new();
        for ((makes, _), count) in &self.0 {
            *held.entry(*makes).or_default() += count;
        }
        held
    }
}
