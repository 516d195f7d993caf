//! Codes of the emulator's errors, their names, and the last one of a thread.

use std::{
    cell::Cell,
    error::Error,
    ffi::c_char,
    io::{self, Write},
    iter,
};

use hip_ffi::sys::hipError_t;
use hsaco::HsacoError;

use crate::{FaultKind, LaunchError, LoadError, MemoryError, OptionsError, hip::Status};

thread_local! {
    static LAST: Cell<hipError_t> = const { Cell::new(hipError_t::hipSuccess) };
}

/// The code of a call; an error is kept as the thread's last.
pub(super) fn remember(status: Status) -> hipError_t {
    match status {
        Ok(()) => hipError_t::hipSuccess,
        Err(code) => {
            LAST.set(code);
            code
        }
    }
}

/// Tells an error on the standard error stream, where a C caller can see it, and gives its code.
pub(super) fn tell<E: Error + Coded>(error: E) -> hipError_t {
    let mut text = format!("hip-emu: {error}");
    let causes = iter::successors(error.source(), |cause| (*cause).source());
    for cause in causes.map(ToString::to_string) {
        // Some errors tell their cause themselves.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    // A program that closed the stream does not want the text.
    let _ = writeln!(io::stderr().lock(), "{text}");
    error.code()
}

/// Errors that HIP has a code for.
pub(super) trait Coded {
    fn code(&self) -> hipError_t;
}

impl Coded for MemoryError {
    fn code(&self) -> hipError_t {
        match self {
            Self::OutOfMemory { .. } => hipError_t::hipErrorOutOfMemory,
            Self::NotAnAllocation { .. } | Self::OutOfBounds { .. } => hipError_t::hipErrorInvalidValue,
            // A kernel did not do what it was launched for.
            Self::Unwritten { .. } => hipError_t::hipErrorLaunchFailure,
        }
    }
}

impl Coded for &OptionsError {
    fn code(&self) -> hipError_t {
        hipError_t::hipErrorNotInitialized
    }
}

impl Coded for LoadError {
    fn code(&self) -> hipError_t {
        match self {
            Self::WrongTarget { .. } | Self::UnsupportedTarget { .. } => hipError_t::hipErrorNoBinaryForGpu,
            Self::Object(HsacoError::NoBundleEntry { .. } | HsacoError::WrongTarget { .. }) => {
                hipError_t::hipErrorNoBinaryForGpu
            }
            Self::Memory(error) => error.code(),
            _ => hipError_t::hipErrorInvalidImage,
        }
    }
}

impl Coded for LaunchError {
    fn code(&self) -> hipError_t {
        match self {
            Self::NoKernel { .. } => hipError_t::hipErrorNotFound,
            Self::BadDispatch { .. } => hipError_t::hipErrorInvalidConfiguration,
            Self::TooMuchLds { .. } | Self::TooMuchScratch { .. } => hipError_t::hipErrorLaunchOutOfResources,
            Self::WideWaves { .. } => hipError_t::hipErrorInvalidDeviceFunction,
            Self::BadArguments { .. } => hipError_t::hipErrorInvalidValue,
            Self::Memory(error) => error.code(),
            Self::Fault(fault) => match fault.kind {
                FaultKind::OutOfBounds { .. } | FaultKind::UseAfterFree { .. } => {
                    hipError_t::hipErrorIllegalAddress
                }
                _ => hipError_t::hipErrorLaunchFailure,
            },
        }
    }
}

/// The codes that are given, with HIP's names, each ended by NUL.
macro_rules! codes {
    ($($name:ident: $meaning:literal;)+) => {
        const CODES: &[(hipError_t, &str, &str)] = &[
            $((hipError_t::$name, concat!(stringify!($name), "\0"), concat!($meaning, "\0")),)+
        ];
    };
}

codes! {
    hipSuccess: "no error";
    hipErrorInvalidValue: "invalid argument";
    hipErrorOutOfMemory: "out of memory";
    hipErrorNotInitialized: "initialization error";
    hipErrorInvalidConfiguration: "invalid configuration argument";
    hipErrorInvalidSymbol: "invalid device symbol";
    hipErrorInvalidDevicePointer: "invalid device pointer";
    hipErrorInvalidMemcpyDirection: "invalid copy direction for memcpy";
    hipErrorMissingConfiguration: "kernel launch without a configuration";
    hipErrorInvalidDeviceFunction: "invalid device function";
    hipErrorNoDevice: "no HIP-capable device is detected";
    hipErrorInvalidDevice: "invalid device ordinal";
    hipErrorInvalidImage: "device kernel image is invalid";
    hipErrorNoBinaryForGpu: "no kernel image is available for execution on the device";
    hipErrorFileNotFound: "file not found";
    hipErrorInvalidHandle: "invalid resource handle";
    hipErrorIllegalState: "the operation cannot be performed in the present state";
    hipErrorNotFound: "named symbol not found";
    hipErrorNotReady: "device not ready";
    hipErrorIllegalAddress: "an illegal memory access was encountered";
    hipErrorLaunchOutOfResources: "too many resources requested for launch";
    hipErrorLaunchFailure: "unspecified launch failure";
    hipErrorNotSupported: "operation not supported";
    hipErrorStreamCaptureUnsupported: "operation not permitted when stream is capturing";
    hipErrorStreamCaptureInvalidated: "operation failed due to a previous error during capture";
    hipErrorStreamCaptureImplicit: "operation would make the legacy stream depend on a capturing blocking stream";
    hipErrorStreamCaptureWrongThread: "attempt to terminate a thread-local capture sequence from another thread";
    hipErrorUnknown: "unknown error";
}

fn named(code: hipError_t) -> (&'static str, &'static str) {
    let found = CODES.iter().find(|(known, ..)| *known == code);
    found.map_or(("hipErrorUnknown\0", "unknown error\0"), |(_, name, meaning)| (*name, *meaning))
}

/// The code's name.
#[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
pub(super) extern "C" fn hipGetErrorName(code: hipError_t) -> *const c_char {
    named(code).0.as_ptr().cast()
}

/// The code's meaning.
#[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
pub(super) extern "C" fn hipGetErrorString(code: hipError_t) -> *const c_char {
    named(code).1.as_ptr().cast()
}

/// The thread's last error, which is forgotten.
#[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
pub(super) extern "C" fn hipGetLastError() -> hipError_t {
    LAST.replace(hipError_t::hipSuccess)
}

/// The thread's last error, which is kept.
#[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
pub(super) extern "C" fn hipPeekAtLastError() -> hipError_t {
    LAST.get()
}

#[cfg(test)]
mod tests {
    use std::{ffi::CStr, thread};

    use super::*;

    #[test]
    fn every_code_that_is_given_has_its_name() {
        for (code, name, meaning) in CODES {
            // SAFETY: the function gives a NUL-terminated string of the program.
            let got = unsafe { CStr::from_ptr(hipGetErrorName(*code)) };
            assert_eq!(got.to_bytes_with_nul(), name.as_bytes());
            assert!(CStr::from_bytes_with_nul(meaning.as_bytes()).is_ok(), "{name}");
        }
        assert_eq!(named(hipError_t(12_345)).0, "hipErrorUnknown\0");
    }

    #[test]
    fn the_last_error_is_the_threads_and_is_given_once() {
        assert_eq!(remember(Err(hipError_t::hipErrorNotFound)), hipError_t::hipErrorNotFound);
        assert_eq!(remember(Ok(())), hipError_t::hipSuccess);
        thread::scope(|scope| {
            let other = scope.spawn(|| hipGetLastError());
            assert_eq!(other.join().unwrap(), hipError_t::hipSuccess);
        });
        assert_eq!(hipPeekAtLastError(), hipError_t::hipErrorNotFound);
        assert_eq!(hipGetLastError(), hipError_t::hipErrorNotFound);
        assert_eq!(hipGetLastError(), hipError_t::hipSuccess);
    }
}
