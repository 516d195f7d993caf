use std::ffi::c_int;

use crate::breaker::Breaker;

/// Whether a device of a library that was loaded is lost. Such a library's own teardown may wait for ever: a program ends with
/// [`exit_at_once`] then.
pub fn any_is_lost() -> bool {
    Breaker::of_libraries().cause().is_some()
}

/// Ends the process with `code` and runs nothing more: no destructor, no handler of `atexit`, no library's teardown. Flush what
/// was written first.
pub fn exit_at_once(code: u8) -> ! {
    unsafe extern "C" {
        /// C's and POSIX's: takes any status and does not return.
        safe fn _exit(status: c_int) -> !;
    }
    _exit(c_int::from(code))
}
