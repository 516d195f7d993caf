use std::ops::Range;
use std::path::PathBuf;

use hip_ffi::sys::hipError_t;
use hip_ffi::{ErrorClass, HipError, LoadError};
use hsaco::HsacoError;
use thiserror::Error;

use crate::{DType, LastWork};

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
    /// A mapped file was cut, or its disk failed, and zeros were read in place of its bytes.
    #[error("{} was cut or could not be read while it was used: what was computed from it is void; restore it and begin anew", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
    },
    /// A mapped file was written to.
    #[error("{} was changed while it was used: what was computed from it is void; begin anew", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
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
    /// No HIP library could be loaded, or no CUDA driver.
    #[error("the runtime of the device is not to be had")]
    Load {
        /// Where it was looked for, and what was found instead.
        #[source]
        source: LoadError,
    },
    /// The program was built without the feature `cuda`.
    #[error("this program was built without CUDA; build it with `--features cuda`")]
    WithoutCuda,
    /// HIP sees fewer devices.
    #[error(
        "HIP device {ordinal} was asked for, but {visible} devices are visible; list them with `glm doctor`"
    )]
    Ordinal {
        /// The device asked for.
        ordinal: u32,
        /// Devices that HIP sees.
        visible: u32,
    },
    /// A HIP call failed.
    #[error("{device}: a HIP call failed ({}){}", source.class(), told(work.as_deref()))]
    Hip {
        /// The device.
        device: String,
        /// The call and its code.
        #[source]
        source: HipError,
        /// What the device was asked for before; `None` before the first launch.
        work: Option<Box<LastWork>>,
    },
    /// An earlier error ended the use of the device in this process.
    #[error("{device} was lost to an earlier error; restart the process to use it again")]
    Lost {
        /// The device.
        device: String,
        /// The error that ended it.
        #[source]
        source: HipError,
    },
    /// There is no usable image of a kernel for this card.
    #[error("the kernel cannot be loaded")]
    Image {
        /// What is wrong with the image, or which is missing.
        #[from]
        source: HsacoError,
    },
    /// A kernel's name is no C string, or the declaration does not list it.
    #[error("no kernel {symbol:?} is declared with these arguments")]
    Symbol {
        /// The name.
        symbol: &'static str,
    },
    /// A launch asks for more than the kernel or the device allows.
    #[error(
        "{symbol}: {blocks:?} blocks of {threads:?} threads cannot be launched; each count must be at least 1, a block at most {max_block} threads, and a dimension below 2^32 threads"
    )]
    Grid {
        /// The kernel.
        symbol: &'static str,
        /// Blocks per dimension.
        blocks: [u32; 3],
        /// Threads of a block per dimension.
        threads: [u32; 3],
        /// The most threads of a block.
        max_block: u32,
    },
    /// The HIP library records nothing.
    #[error(
        "{device}: its HIP library lacks hipStreamBeginCapture or what belongs to it, so launch one by one, or use HIP 5 or newer"
    )]
    NoGraphs {
        /// The device.
        device: String,
    },
    /// The device records a graph, in which the operation has no place.
    #[error(
        "{device} is recording a graph: allocate, upload, download and wait before or after it, and use the device from no other thread meanwhile"
    )]
    Recording {
        /// The device.
        device: String,
    },
    /// The bytes of a buffer cannot be counted.
    #[error("{elements} elements of {dtype} are more bytes than an address can count")]
    TooLarge {
        /// Elements asked for.
        elements: usize,
        /// Their type.
        dtype: DType,
    },
}

impl MemError {
    /// What the error means for the device: `None` when it is about arguments or host memory only.
    pub fn class(&self) -> Option<ErrorClass> {
        match self {
            MemError::Load { .. } | MemError::Ordinal { .. } | MemError::WithoutCuda => {
                Some(ErrorClass::Unavailable)
            }
            MemError::Hip { source, .. } => Some(source.class()),
            MemError::Lost { .. } => Some(ErrorClass::Lost),
            MemError::Image { .. }
            | MemError::Symbol { .. }
            | MemError::Grid { .. }
            | MemError::NoGraphs { .. } => Some(ErrorClass::Refused),
            _ => None,
        }
    }

    /// What a person can do about it, in one line, where that is more than the message says.
    pub fn remedy(&self) -> Option<&'static str> {
        let source = match self {
            MemError::Hip { source, .. } | MemError::Lost { source, .. } => source,
            MemError::Load { .. } => return Some("see `glm doctor` for what was looked for and where"),
            _ => return None,
        };
        Some(match source.class() {
            ErrorClass::Unavailable => "see `glm doctor` for the driver, the permissions and the devices",
            ErrorClass::Refused if source.code == hipError_t::hipErrorOutOfMemory => {
                "choose a shorter context or smaller types, or close what else uses the device"
            }
            ErrorClass::Refused => "check the kernels with `glm selfcheck`, or use --device cpu",
            ErrorClass::Lost if source.is_overdue() => {
                "start again; if work takes that long, allow it with --device-timeout"
            }
            ErrorClass::Lost => {
                "start again; if it recurs, see the kernel's log (dmesg) and use --device cpu meanwhile"
            }
        })
    }
}

/// What a device was asked for, as the end of a message.
fn told(work: Option<&LastWork>) -> String {
    work.map_or(String::new(), |work| format!("; {work}"))
}

/// An error and its causes on one line: the first line of each.
pub(crate) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let lines = causes.map(|cause| cause.to_string().lines().next().unwrap_or_default().to_owned());
    lines.collect::<Vec<_>>().join(": ")
}
