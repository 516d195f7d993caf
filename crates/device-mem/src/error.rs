use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

use crate::DType;

/// What can go wrong with devices, memory and launches. Inputs survive every error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemError {
    /// The range does not lie inside the buffer or view.
    #[error("elements {}..{} were asked of a buffer of {len} elements; ask for a range inside it", range.start, range.end)]
    OutOfRange {
        /// The range asked for, in elements.
        range: Range<usize>,
        /// The buffer's length in elements.
        len: usize,
    },
    /// Two lengths that must agree do not.
    #[error("{what} must hold {expected} elements but holds {found}")]
    Length {
        /// What has the wrong length.
        what: &'static str,
        /// The length that was expected, in elements.
        expected: usize,
        /// The length that was found, in elements.
        found: usize,
    },
    /// Operands live on different devices.
    #[error("operands live on different devices ({left} and {right}); create both with the same Device")]
    ForeignDevice {
        /// Where the first operand lives.
        left: String,
        /// Where the second operand lives.
        right: String,
    },
    /// The buffer borrows a mapped file and cannot be written.
    #[error("this buffer borrows a mapped file and is read-only; copy it with try_clone first")]
    ReadOnly,
    /// The host could not give the memory.
    #[error(
        "the host could not allocate {bytes} bytes; free memory or use a smaller model, dtype or context"
    )]
    HostOutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// A file could not be opened, sized or mapped.
    #[error("{} could not be mapped; check that it is a readable regular file", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A range of a mapped file does not hold whole elements.
    #[error("bytes {}..{} of {} do not hold whole {dtype} elements inside its {file_len} bytes; the file is damaged", range.start, range.end, path.display())]
    MappedRange {
        /// The file.
        path: PathBuf,
        /// The bytes asked for.
        range: Range<usize>,
        /// The file's length in bytes.
        file_len: usize,
        /// The element type asked for.
        dtype: DType,
    },
}
