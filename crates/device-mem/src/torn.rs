//! Keeps a file that is cut while it is mapped from ending the process.
//!
//! A read of a page that the file no longer has raises SIGBUS on the reading thread. The handler here puts zeros in the place
//! of that page and of those behind it, and marks the mapping: who reads on reads zeros, and can ask afterwards. A SIGBUS of any other
//! memory goes to the handler that was there before.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use libc::{c_void, sigaction, siginfo_t};

/// A mapping that the handler looks after for as long as this lives.
#[derive(Debug)]
pub(crate) struct Guard {
    place: &'static Place,
}

/// What the handler is told of a mapping. Places are never freed, so that it may look at them at any time, but used again.
#[derive(Debug)]
struct Place {
    /// The first byte's address; 0 while the place is free.
    start: AtomicUsize,
    /// The address behind the last byte.
    end: AtomicUsize,
    torn: AtomicBool,
    next: Option<&'static Place>,
}

/// The newest place, from which all are reached. The handler takes no lock.
static PLACES: AtomicPtr<Place> = AtomicPtr::new(null_mut());
/// Taken to add a place or to take a free one.
static CHANGE: Mutex<()> = Mutex::new(());
/// What SIGBUS did before, and the size of a page.
static BEFORE: OnceLock<(sigaction, usize)> = OnceLock::new();

impl Guard {
    /// Looks after the mapping of these bytes.
    pub(crate) fn new(mapping: &[u8]) -> Guard {
        let _change = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        install();
        let free = places().find(|place| place.start.load(Ordering::Relaxed) == 0);
        let place = free.unwrap_or_else(add_place);
        place.torn.store(false, Ordering::Relaxed);
        place.end.store(mapping.as_ptr().addr() + mapping.len(), Ordering::Relaxed);
        place.start.store(mapping.as_ptr().addr(), Ordering::Release);
        Guard { place }
    }

    /// Whether bytes that could not be read were replaced by zeros.
    pub(crate) fn is_torn(&self) -> bool {
        self.place.torn.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.place.start.store(0, Ordering::Release);
    }
}

fn places() -> impl Iterator<Item = &'static Place> {
    let newest = PLACES.load(Ordering::Acquire);
    // SAFETY: null, or stored by `add_place`, which leaks what it stores.
    let newest: Option<&'static Place> = unsafe { newest.as_ref() };
    std::iter::successors(newest, |place| place.next)
}

fn add_place() -> &'static Place {
    let place: &'static mut Place = Box::leak(Box::new(Place {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        torn: AtomicBool::new(false),
        next: places().next(),
    }));
    PLACES.store(place, Ordering::Release);
    place
}

/// Installs the handler once. Where that fails, SIGBUS does what it did before.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeros are a valid action: SIG_DFL with no flags and an empty mask.
        let mut before = unsafe { MaybeUninit::<sigaction>::zeroed().assume_init() };
        // SAFETY: without a new action the call only writes the old one, to memory of its type.
        unsafe { sigaction(libc::SIGBUS, null(), &raw mut before) };
        // SAFETY: asks for a number and touches no memory.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        BEFORE.get_or_init(|| (before, usize::try_from(page).unwrap_or(4096)));
        let mut action = before;
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_sigbus;
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        // On the alternate stack that Rust gives its threads.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the action is whole, and its handler has the signature that SA_SIGINFO asks for and does only what a
        // handler may: atomics, and calls to the system that allocate and lock nothing.
        unsafe { sigaction(libc::SIGBUS, &raw const action, null_mut()) };
    });
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives a handler with SA_SIGINFO a valid `siginfo_t`, which nothing else has.
    let told = unsafe { &*info };
    // SAFETY: the address is set where the system raised the signal itself, and else not looked at.
    let address = unsafe { told.si_addr() }.addr();
    let code = told.si_code;
    let place = places().find(|place| code > 0 && place.holds(address));
    if !place.is_some_and(|place| place.fill_from(address)) {
        pass_on(signal, code, info, context);
    }
}

impl Place {
    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start != 0 && (start..self.end.load(Ordering::Relaxed)).contains(&address)
    }

    /// Puts zeros in the place of the page of `address` and of all behind it, which the file lacks as well.
    fn fill_from(&self, address: usize) -> bool {
        let Some((_, page)) = BEFORE.get() else { return false };
        let first = address - address % page;
        let (length, end) = (self.end.load(Ordering::Relaxed) - first, libc::MAP_FAILED);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let at = std::ptr::with_exposed_provenance_mut::<c_void>(first);
        self.torn.store(true, Ordering::Release);
        // SAFETY: the pages are those of a mapping whose guard lives: its reader stands still at `address`. They are readable
        // before and after, and what they hold was the file's to change at any time.
        let filled = unsafe { libc::mmap(at, length, libc::PROT_READ, flags, -1, 0) };
        filled != end
    }
}

/// Does what SIGBUS did before.
fn pass_on(signal: c_int, code: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some((before, _)) = BEFORE.get() else { return };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the action is the one that the system gave. The access is made again and ends the process.
            unsafe { sigaction(signal, before, null_mut()) };
            if code <= 0 {
                // SAFETY: sends again what was sent, and touches no memory.
                unsafe { libc::raise(signal) };
            }
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: installed with SA_SIGINFO, it is a function of this type.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: installed without SA_SIGINFO, it is a function of this type.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
