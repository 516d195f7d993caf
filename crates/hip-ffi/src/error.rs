use core::ffi::CStr;
use core::fmt;

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
    /// `Ok` for success, else the error with the library's name for it.
    pub(crate) fn check(api: &HipApi, call: &'static str, code: hipError_t) -> Result<(), HipError> {
        if code == hipError_t::hipSuccess {
            return Ok(());
        }
        // SAFETY: the function takes any code.
        let name = unsafe { (api.hip_get_error_name)(code) };
        let name = if name.is_null() {
            String::from("unnamed error")
        } else {
            // SAFETY: HIP returns a static NUL-terminated string.
            unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
        };
        Err(HipError { call, code, name })
    }

    /// What the error means for the work that met it.
    pub fn class(&self) -> ErrorClass {
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
            | hipError_t::hipErrorNotSupported => ErrorClass::Refused,
            _ => ErrorClass::Lost,
        }
    }
}

impl fmt::Display for HipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} returned {} ({})", self.call, self.name, self.code.0)
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
