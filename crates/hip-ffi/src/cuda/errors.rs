//! Codes of the driver in HIP's names. HIP has taken over CUDA's numbers, and lacks some of them.

use core::cell::Cell;
use core::ffi::c_char;
use core::ptr;

use super::DRIVER;
use super::driver::{Code, SUCCESS};
use crate::sys::hipError_t;

thread_local! {
    /// What `hipGetLastError` gives next.
    static PENDING: Cell<hipError_t> = const { Cell::new(hipError_t::hipSuccess) };
    /// The driver's own code for it, whose text says more.
    static LAST: Cell<Code> = const { Cell::new(SUCCESS) };
}

macro_rules! names {
    ($($name:ident)+) => {
        &[$((hipError_t::$name, concat!(stringify!($name), "\0"))),+]
    };
}

/// The codes that both have, of one number and one meaning.
const NAMES: &[(hipError_t, &str)] = names! {
    hipSuccess hipErrorInvalidValue hipErrorOutOfMemory hipErrorNotInitialized hipErrorDeinitialized
    hipErrorInsufficientDriver hipErrorNoDevice hipErrorInvalidDevice hipErrorInvalidImage hipErrorInvalidContext
    hipErrorMapFailed hipErrorUnmapFailed hipErrorNoBinaryForGpu hipErrorECCNotCorrectable hipErrorUnsupportedLimit
    hipErrorPeerAccessUnsupported hipErrorInvalidKernelFile hipErrorInvalidSource hipErrorFileNotFound
    hipErrorSharedObjectSymbolNotFound hipErrorSharedObjectInitFailed hipErrorOperatingSystem hipErrorInvalidHandle
    hipErrorIllegalState hipErrorNotFound hipErrorNotReady hipErrorIllegalAddress hipErrorLaunchOutOfResources
    hipErrorLaunchTimeOut hipErrorSetOnActiveProcess hipErrorContextIsDestroyed hipErrorAssert hipErrorLaunchFailure
    hipErrorCooperativeLaunchTooLarge hipErrorNotSupported hipErrorStreamCaptureUnsupported
    hipErrorStreamCaptureInvalidated hipErrorStreamCaptureMerge hipErrorStreamCaptureUnmatched
    hipErrorStreamCaptureUnjoined hipErrorStreamCaptureIsolation hipErrorStreamCaptureImplicit hipErrorCapturedEvent
    hipErrorStreamCaptureWrongThread hipErrorGraphExecUpdateFailure hipErrorUnknown
};

/// HIP's code for one of the driver. Those that HIP lacks go to one after which as much can still be done.
fn of_driver(code: Code) -> hipError_t {
    match code {
        // A stub in place of the library; a driver too old for what is asked, not ready, or of another version than its parts.
        34 | 36 | 802..=804 => hipError_t::hipErrorInsufficientDriver,
        // Another process has the device for itself; no licence for it.
        46 | 102 => hipError_t::hipErrorNoDevice,
        // No compiler for PTX, PTX newer than the driver, compiling it turned off.
        221..=223 => hipError_t::hipErrorNoBinaryForGpu,
        // A kernel met a broken stack, an illegal instruction, a misaligned address, a wrong address space, a wrong counter.
        714..=718 => hipError_t::hipErrorLaunchFailure,
        _ => entry(hipError_t(code)).map_or(hipError_t::hipErrorUnknown, |(known, _)| *known),
    }
}

fn entry(code: hipError_t) -> Option<&'static (hipError_t, &'static str)> {
    NAMES.iter().find(|(known, _)| *known == code)
}

/// Translates the driver's answer and keeps it where it is an error.
pub(super) fn told(code: Code) -> hipError_t {
    if code == SUCCESS {
        return hipError_t::hipSuccess;
    }
    LAST.set(code);
    pend(of_driver(code))
}

/// Keeps an error for `hipGetLastError`.
pub(super) fn pend(error: hipError_t) -> hipError_t {
    PENDING.set(error);
    error
}

/// `hipGetLastError`.
pub(super) unsafe extern "C" fn take_pending() -> hipError_t {
    PENDING.replace(hipError_t::hipSuccess)
}

/// `hipGetErrorName`.
pub(super) unsafe extern "C" fn name(code: hipError_t) -> *const c_char {
    entry(code).map_or(c"hipErrorUnknown".as_ptr(), |(_, name)| name.as_ptr().cast())
}

/// `hipGetErrorString`: what the driver says about its code behind this thread's latest such error, else about the same number.
pub(super) unsafe extern "C" fn meaning(code: hipError_t) -> *const c_char {
    let last = LAST.get();
    let asked = if last != SUCCESS && of_driver(last) == code { last } else { code.0 };
    let mut text = ptr::null();
    if let Some((driver, _)) = DRIVER.get() {
        // SAFETY: the function takes any code, and gives null or a static NUL-terminated text.
        let known = unsafe { (driver.error_string)(asked, &raw mut text) };
        if known != SUCCESS {
            return ptr::null();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorClass, HipError};

    fn class(code: Code) -> ErrorClass {
        let (name, meaning) = (String::new(), String::new());
        HipError { call: "hipMemcpyAsync", code: of_driver(code), name, meaning }.class()
    }

    #[test]
    fn numbers_that_both_have_stay() {
        for (code, name) in NAMES {
            assert_eq!(of_driver(code.0), *code, "{name}");
            assert!(name.ends_with('\0'), "{name}");
        }
    }

    #[test]
    fn what_hip_lacks_goes_to_the_class_that_it_is_of() {
        let classes = [
            (ErrorClass::Unavailable, &[3, 4, 34, 36, 46, 100, 101, 102, 802, 803, 804][..]),
            (ErrorClass::Refused, &[1, 2, 200, 209, 218, 221, 222, 223, 300, 400, 500, 701, 801, 900]),
            (ErrorClass::Lost, &[214, 220, 700, 702, 714, 715, 716, 717, 718, 719, 999, 12_345]),
        ];
        for (expected, codes) in classes {
            for &code in codes {
                assert_eq!(class(code), expected, "{code}");
            }
        }
    }
}
