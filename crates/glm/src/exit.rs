//! From an error to what a person reads and a script tests.

use std::error::Error;
use std::io;

use model_glm::GlmError;

use crate::device;
use crate::supervise::WorkerFailed;

pub(crate) const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
pub(crate) const NO_DEVICE: u8 = 3;
const BAD_MODEL: u8 = 4;

/// Prints an error with its causes and gives the exit code that `--help` documents. A reader that went away is none.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    if error.chain().any(is_broken_pipe) {
        return SUCCESS;
    }
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {}", cause.to_string().replace('\n', "\n    "));
    }
    if let Some(remedy) = remedy(error) {
        eprintln!("  try: {remedy}");
    }
    code(error)
}

/// One line of advice, where the error is a device's.
pub(crate) fn remedy(error: &anyhow::Error) -> Option<&str> {
    let of_worker = error.chain().find_map(|cause| cause.downcast_ref::<WorkerFailed>()?.remedy.as_deref());
    of_worker.or_else(|| error.chain().find_map(|cause| device::memory_error(cause)?.remedy()))
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit code of an error.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    if let Some(failed) = error.chain().find_map(|cause| cause.downcast_ref::<WorkerFailed>()) {
        return failed.code;
    }
    if device::is_to_blame(error.as_ref()) {
        return NO_DEVICE;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<GlmError>()) {
        Some(
            GlmError::NoTokens
            | GlmError::ContextFull { .. }
            | GlmError::PositionOverflow { .. }
            | GlmError::Nn(_)
            | GlmError::Attention(_)
            | GlmError::WeightDType { .. }
            | GlmError::Exists { .. }
            | GlmError::Write { .. },
        )
        | None => FAILURE,
        Some(_) => BAD_MODEL,
    }
}
