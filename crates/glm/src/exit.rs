//! From an error to what a person reads and a script tests.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use model_glm::GlmError;

use crate::device;

const FAILURE: u8 = 1;
const NO_DEVICE: u8 = 3;
const BAD_MODEL: u8 = 4;

/// Prints an error with its causes and gives the exit code that `--help` documents. A reader that went away is none.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {}", cause.to_string().replace('\n', "\n    "));
    }
    ExitCode::from(code(error))
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
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
