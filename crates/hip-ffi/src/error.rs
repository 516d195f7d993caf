use core::ffi::{CStr, c_char};
use core::fmt;
use core::time::Duration;

use crate::HipApi;
use crate::sys::hipError_t;

/// A HIP call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HipError {
    /// The C function.
    pub call: &'static str,
    /// What it returned.
    pub code: hipError_t,
    /// The library's own name for the code, `hipErrorOutOfMemory`.
    pub name: String,
    /// What the library says the code means, `out of memory`; HIP 5 repeats the name.
    pub meaning: String,
}

/// What an error means for the work that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The device was never there: nothing has started.
    Unavailable,
    /// This call was refused; the device goes on.
    Refused,
    /// The device is gone for this process: no HIP call may follow. Unknown codes are of this class.
    Lost,
}

impl HipError {
    /// `Ok` for success, else the error in the library's words.
    pub(crate) fn check(api: &HipApi, call: &'static str, code: hipError_t) -> Result<(), HipError> {
        if code == hipError_t::hipSuccess {
            return Ok(());
        }
        Err(HipError::of(api, call, code))
    }

    /// That a stream was still not ready when a wait gave up: [`ErrorClass::Lost`], though `hipStreamQuery` may say the same
    /// code at any time.
    pub fn overdue(api: &HipApi, waited: Duration) -> HipError {
        let error = HipError::of(api, "hipStreamQuery", hipError_t::hipErrorNotReady);
        HipError { meaning: format!("still not ready after {:.1} s", waited.as_secs_f64()), ..error }
    }

    /// Whether a wait gave up.
    pub fn is_overdue(&self) -> bool {
        (self.call, self.code) == ("hipStreamQuery", hipError_t::hipErrorNotReady)
    }

    /// The error in the library's words.
    fn of(api: &HipApi, call: &'static str, code: hipError_t) -> HipError {
        // SAFETY: the function takes any code.
        let name = unsafe { (api.hip_get_error_name)(code) };
        // SAFETY: as above.
        let meaning = unsafe { (api.hip_get_error_string)(code) };
        // SAFETY: both are null or static NUL-terminated strings.
        let [name, meaning] = [name, meaning].map(|text| unsafe { owned(text) });
        HipError { call, code, name, meaning }
    }

    /// What the error means for the work that met it.
    ///
    /// Before `hipInit` and `hipGetDeviceCount` nothing has started, so whatever they return is
    /// [`ErrorClass::Unavailable`]. A stream that is not ready is no error until a wait [gives up](HipError::overdue), and then
    /// nobody knows what the device still writes: [`ErrorClass::Lost`].
    pub fn class(&self) -> ErrorClass {
        if matches!(self.call, "hipInit" | "hipGetDeviceCount") {
            return ErrorClass::Unavailable;
        }
        if self.is_overdue() {
            return ErrorClass::Lost;
        }
        match self.code {
            hipError_t::hipErrorNotInitialized
            | hipError_t::hipErrorDeinitialized
            | hipError_t::hipErrorInsufficientDriver
            | hipError_t::hipErrorNoDevice
            | hipError_t::hipErrorInvalidDevice => ErrorClass::Unavailable,
            hipError_t::hipErrorInvalidValue
            | hipError_t::hipErrorOutOfMemory
            | hipError_t::hipErrorInvalidConfiguration
            | hipError_t::hipErrorInvalidPitchValue
            | hipError_t::hipErrorInvalidSymbol
            | hipError_t::hipErrorInvalidDevicePointer
            | hipError_t::hipErrorInvalidMemcpyDirection
            | hipError_t::hipErrorMissingConfiguration
            | hipError_t::hipErrorInvalidDeviceFunction
            | hipError_t::hipErrorInvalidImage
            | hipError_t::hipErrorNoBinaryForGpu
            | hipError_t::hipErrorUnsupportedLimit
            | hipError_t::hipErrorInvalidKernelFile
            | hipError_t::hipErrorInvalidSource
            | hipError_t::hipErrorFileNotFound
            | hipError_t::hipErrorSharedObjectSymbolNotFound
            | hipError_t::hipErrorSharedObjectInitFailed
            | hipError_t::hipErrorInvalidHandle
            | hipError_t::hipErrorNotFound
            | hipError_t::hipErrorNotReady
            | hipError_t::hipErrorLaunchOutOfResources
            | hipError_t::hipErrorIllegalState
            | hipError_t::hipErrorNotSupported
            | hipError_t::hipErrorStreamCaptureUnsupported
            | hipError_t::hipErrorStreamCaptureInvalidated
            | hipError_t::hipErrorStreamCaptureMerge
            | hipError_t::hipErrorStreamCaptureUnmatched
            | hipError_t::hipErrorStreamCaptureUnjoined
            | hipError_t::hipErrorStreamCaptureIsolation
            | hipError_t::hipErrorStreamCaptureImplicit
            | hipError_t::hipErrorStreamCaptureWrongThread => ErrorClass::Refused,
            _ => ErrorClass::Lost,
        }
    }
}

/// # Safety
/// `text` is null or a NUL-terminated string.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: it is not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

impl fmt::Display for HipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} returned {} ({})", self.call, self.name, self.code.0)?;
        if self.meaning.is_empty() || self.meaning == self.name {
            return Ok(());
        }
        write!(f, ": {}", self.meaning)
    }
}

impl std::error::Error for HipError {}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorClass::Unavailable => "unavailable",
            ErrorClass::Refused => "refused",
            ErrorClass::Lost => "lost",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(call: &'static str, code: hipError_t) -> HipError {
        HipError { call, code, name: String::from("hipErrorSome"), meaning: String::from("some meaning") }
    }

    #[test]
    fn errors_say_call_name_number_and_meaning() {
        let error = error("hipMalloc", hipError_t::hipErrorOutOfMemory);
        assert_eq!(error.to_string(), "hipMalloc returned hipErrorSome (2): some meaning");
        let repeated = HipError { meaning: error.name.clone(), ..error };
        assert_eq!(repeated.to_string(), "hipMalloc returned hipErrorSome (2)");
    }

    #[test]
    fn classes_follow_the_code() {
        let class = |code| error("hipMemcpyAsync", hipError_t(code)).class();
        for code in [3, 4, 35, 100, 101] {
            assert_eq!(class(code), ErrorClass::Unavailable, "{code}");
        }
        for code in [1, 2, 9, 17, 98, 200, 209, 400, 401, 500, 600, 701, 801, 900, 901, 906, 908] {
            assert_eq!(class(code), ErrorClass::Refused, "{code}");
        }
    }

    #[test]
    fn faults_and_unknown_codes_end_the_device() {
        for code in [53, 214, 700, 702, 710, 718, 719, 720, 999, 1053, 12_345, u32::MAX] {
            let class = error("hipMemcpyAsync", hipError_t(code)).class();
            assert_eq!(class, ErrorClass::Lost, "{code}");
        }
    }

    #[test]
    fn a_stream_that_is_never_ready_is_lost() {
        let overdue = error("hipStreamQuery", hipError_t::hipErrorNotReady);
        assert!(overdue.is_overdue() && overdue.class() == ErrorClass::Lost);
        let refused = error("hipGraphLaunch", hipError_t::hipErrorNotReady);
        assert!(!refused.is_overdue() && refused.class() == ErrorClass::Refused);
    }

    #[test]
    fn nothing_is_lost_that_has_not_started() {
        for call in ["hipInit", "hipGetDeviceCount"] {
            assert_eq!(error(call, hipError_t::hipErrorUnknown).class(), ErrorClass::Unavailable);
        }
    }
}
