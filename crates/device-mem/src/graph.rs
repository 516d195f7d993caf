use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use hip_ffi::sys::{hipGraph_t, hipGraphExec_t};
use hip_ffi::{GraphApi, HipApi, result};

use crate::progress::Work;
use crate::{HipDevice, MemError};

/// Work of a device that was recorded once and is done again by one call: a graph of HIP.
///
/// What is recorded are launches, with the values and addresses that their arguments have, and copies and fills on the
/// device. So whatever changes from one time to the next must be in device memory. Memory that was in use when the graph
/// was recorded stays allocated until the last graph of the device is dropped, whoever owned it.
///
/// ```no_run
/// use device_mem::{Device, Graph, MemError};
///
/// # fn main() -> Result<(), MemError> {
/// # let step = || Ok::<(), MemError>(());
/// if let Device::Hip(hip) = Device::open("hip".parse().unwrap())?.device {
///     step()?; // Once as it is, so that kernels are loaded.
///     let graph = Graph::record(&hip, step)?;
///     for _ in 0..100 {
///         graph.launch()?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Graph {
    device: Arc<HipDevice>,
    api: GraphApi,
    ready: hipGraphExec_t,
    launches: u64,
}

// SAFETY: HIP's graph handles are valid process-wide, and calls bind the device to the calling thread.
unsafe impl Send for Graph {}
// SAFETY: as above; HIP serialises launches on one stream, and the graph is not changed by one.
unsafe impl Sync for Graph {}

impl Graph {
    /// Records what `work` gives to the device's stream; none of it is done. Meanwhile the device serves this thread only, and
    /// refuses to allocate, to upload, to download and to wait.
    ///
    /// # Errors
    /// [`MemError::NoGraphs`] when the library has none, [`MemError::Recording`] when the device records already, what
    /// `work` returns, or what the device reports. Nothing is then recorded, and the device goes on as before.
    pub fn record<E: From<MemError>>(
        device: &Arc<HipDevice>,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        let recorder = Recorder::begin(device)?;
        work()?;
        Ok(recorder.finish()?)
    }

    /// Puts all that was recorded into the device's stream and returns; errors of the work itself come out at a later
    /// call.
    ///
    /// # Errors
    /// [`MemError::Recording`], or what the device reports.
    pub fn launch(&self) -> Result<(), MemError> {
        let Graph { device, api, ready, launches } = self;
        if device.records() {
            return Err(device.recording_error());
        }
        let _span = tracing::trace_span!("graph", launches).entered();
        device.progress.asked(Work::Graph { launches: *launches });
        // SAFETY: graph and stream live as long as `self` and the device. The recorded launches were sound when they were
        // recorded; the memory that they use has not been freed since, modules live as long as the device, and program
        // order is stream order.
        device.call(|hip| unsafe { result::graph_launch(hip, api, *ready, device.stream) })?;
        device.counters.launched_graph(*launches);
        device.progress.launched(*launches);
        Ok(())
    }

    /// The device that it was recorded on.
    pub fn device(&self) -> &Arc<HipDevice> {
        &self.device
    }

    /// Kernel launches in it.
    pub fn launches(&self) -> u64 {
        self.launches
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.device.end_graph(&self.api, self.ready);
        self.device.release_kept();
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("device", &self.device)
            .field("launches", &self.launches)
            .finish_non_exhaustive()
    }
}

/// What a device knows of its recording and its graphs.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// The thread that records. Held for reading by every call, so that none falls into the recording of another thread.
    by: RwLock<Option<ThreadId>>,
    /// Launches in the recording.
    launches: AtomicU64,
    kept: Mutex<Kept>,
}

/// What is kept until no graph is left.
#[derive(Debug, Default)]
struct Kept {
    /// Graphs alive, and the one that is being recorded.
    graphs: usize,
    /// Memory whose owners are gone, and which graphs may use.
    addresses: Vec<u64>,
    /// Graphs that could not be ended when they were dropped.
    ready: Vec<(GraphApi, hipGraphExec_t)>,
}

impl Recording {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps memory that a graph may use; `false` when there is no graph.
    pub(crate) fn keep(&self, address: u64) -> bool {
        let mut kept = self.kept();
        if kept.graphs > 0 {
            kept.addresses.push(address);
        }
        kept.graphs > 0
    }
}

impl HipDevice {
    /// Runs `call` while no other thread records on the device.
    pub(crate) fn outside_recordings<R>(
        &self,
        call: impl FnOnce() -> Result<R, MemError>,
    ) -> Result<R, MemError> {
        let by = self.recording.by.read().unwrap_or_else(PoisonError::into_inner);
        match *by {
            Some(thread) if thread != thread::current().id() => Err(self.recording_error()),
            _ => call(),
        }
    }

    /// Fails while the device records: `what` cannot be a part of it.
    pub(crate) fn expect_no_recording(&self) -> Result<(), MemError> {
        if self.records() { Err(self.recording_error()) } else { Ok(()) }
    }

    /// Counts a launch, where it is done or recorded.
    pub(crate) fn count_launch(&self) {
        if self.records() {
            self.recording.launches.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters.launched();
            self.progress.launched(1);
        }
    }

    pub(crate) fn records(&self) -> bool {
        self.recording.by.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn recording_error(&self) -> MemError {
        MemError::Recording { device: self.to_string() }
    }

    /// Ends a graph, once its launches are done. While the device records nothing can be waited for, so it is kept.
    fn end_graph(&self, api: &GraphApi, ready: hipGraphExec_t) {
        let by = self.recording.by.read().unwrap_or_else(PoisonError::into_inner);
        if by.is_some() {
            self.recording.kept().ready.push((*api, ready));
            return;
        }
        // SAFETY: launches of the graph are done after the wait, and its owner, who alone could make another, is gone.
        let destroy = |hip: &HipApi| unsafe { result::graph_exec_destroy(hip, api, ready) };
        self.call_in_drop(|hip| self.release(hip, destroy));
    }

    /// One graph less; without the last one, what was kept is freed.
    fn release_kept(&self) {
        let mut kept = self.recording.kept();
        kept.graphs = kept.graphs.saturating_sub(1);
        let freed = if kept.graphs == 0 { std::mem::take(&mut *kept) } else { Kept::default() };
        drop(kept);
        freed.ready.into_iter().for_each(|(api, ready)| self.end_graph(&api, ready));
        freed.addresses.into_iter().for_each(|address| self.free(address));
    }
}

/// A recording under way. Dropped before its end, as by an error or a panic, it leaves no graph.
struct Recorder<'a> {
    device: &'a Arc<HipDevice>,
    api: GraphApi,
    open: bool,
}

impl<'a> Recorder<'a> {
    fn begin(device: &'a Arc<HipDevice>) -> Result<Recorder<'a>, MemError> {
        let api = device.graph_api().ok_or_else(|| MemError::NoGraphs { device: device.to_string() })?;
        let recording = &device.recording;
        let mut by = recording.by.write().unwrap_or_else(PoisonError::into_inner);
        if by.is_some() {
            return Err(device.recording_error());
        }
        // SAFETY: the stream lives as long as the device; other threads are refused while `by` names this one.
        device.call_unguarded(|hip| unsafe { result::stream_begin_capture(hip, &api, device.stream) })?;
        *by = Some(thread::current().id());
        recording.launches.store(0, Ordering::Relaxed);
        recording.kept().graphs += 1;
        Ok(Recorder { device, api, open: true })
    }

    /// Ends the recording, whatever comes out.
    fn end(&mut self) -> Result<hipGraph_t, MemError> {
        let Recorder { device, api, open } = self;
        *open = false;
        let mut by = device.recording.by.write().unwrap_or_else(PoisonError::into_inner);
        *by = None;
        // SAFETY: the stream records, begun by this thread, which a recorder does not leave.
        device.call_unguarded(|hip| unsafe { result::stream_end_capture(hip, api, device.stream) })
    }

    fn finish(mut self) -> Result<Graph, MemError> {
        let recorded = self.end().inspect_err(|_| self.device.release_kept())?;
        let Recorder { device, api, .. } = self;
        let launches = device.recording.launches.load(Ordering::Relaxed);
        // SAFETY: the graph is live, and is destroyed only below.
        let ready = device.call(|hip| unsafe { result::graph_instantiate(hip, &api, recorded) });
        // SAFETY: it is not used afterwards; what was made from it does not need it.
        device.call_in_drop(|hip| unsafe { result::graph_destroy(hip, &api, recorded) });
        match ready {
            Ok(ready) => Ok(Graph { device: device.clone(), api, ready, launches }),
            Err(error) => {
                device.release_kept();
                Err(error)
            }
        }
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if let Ok(recorded) = self.end() {
            let api = self.api;
            // SAFETY: it was made here and is not used.
            self.device.call_in_drop(|hip| unsafe { result::graph_destroy(hip, &api, recorded) });
        }
        self.device.release_kept();
    }
}
