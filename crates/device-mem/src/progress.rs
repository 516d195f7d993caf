use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a device was asked for last, told beside an error: errors of a kernel come out at a later call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastWork {
    /// The last launch that was asked for.
    pub work: Work,
    /// Launches that the device has taken, those of graphs included.
    pub launches: u64,
    /// The first of these are known to be done.
    pub done: u64,
}

/// One launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Of a kernel.
    Kernel {
        /// Its name.
        symbol: &'static str,
        /// Blocks in x, y and z.
        blocks: [u32; 3],
        /// Threads of a block in x, y and z.
        threads: [u32; 3],
    },
    /// Of a graph.
    Graph {
        /// The kernels in it.
        launches: u64,
    },
}

impl fmt::Display for LastWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LastWork { work, launches, done } = self;
        write!(
            f,
            "{launches} launches given, {done} of them known to be done; the last asked for was of {work}"
        )
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Kernel { symbol, blocks, threads } => {
                write!(f, "{symbol}, {blocks:?} blocks of {threads:?} threads")
            }
            Work::Graph { launches } => write!(f, "a graph of {launches}"),
        }
    }
}

/// The live record behind [`LastWork`].
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<LastWork>>);

impl Progress {
    /// A launch is about to be asked for.
    pub(crate) fn asked(&self, work: Work) {
        let mut last = self.lock();
        let (launches, done) = last.map_or((0, 0), |last| (last.launches, last.done));
        *last = Some(LastWork { work, launches, done });
    }

    /// The device took it.
    pub(crate) fn launched(&self, launches: u64) {
        if let Some(last) = &mut *self.lock() {
            last.launches += launches;
        }
    }

    /// A wait for all that was given has ended well.
    pub(crate) fn is_done(&self) {
        if let Some(last) = &mut *self.lock() {
            last.done = last.launches;
        }
    }

    pub(crate) fn last(&self) -> Option<LastWork> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<LastWork>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
