//! Graphs: what a stream is given while it records, done again in the same order. There is one line of work and no
//! branches. Launches, copies and fills are recorded, with the values that their arguments have; other work of the stream,
//! and what HIP does at once, is refused while a stream records, which ends the recording's use.

use std::{
    ffi::{c_char, c_int, c_ulonglong},
    sync::Arc,
    thread::{self, ThreadId},
};

use hip_ffi::sys::{
    hipError_t, hipGraph_t, hipGraphExec_t, hipGraphNode_t, hipStream_t, hipStreamCaptureMode,
};

use crate::hip::{Status, handles::Handles, put, stream};

/// Work that was recorded.
pub(super) type Work = Arc<dyn Fn() -> Status + Send + Sync>;

static GRAPHS: Handles<Vec<Work>> = Handles::new();
static READY: Handles<Vec<Work>> = Handles::new();

/// What a stream has recorded since it began.
pub(super) struct Recording {
    thread: ThreadId,
    mode: hipStreamCaptureMode,
    /// `None` once something was refused.
    work: Option<Vec<Work>>,
}

impl Recording {
    fn new(mode: hipStreamCaptureMode) -> Self {
        Self { thread: thread::current().id(), mode, work: Some(Vec::new()) }
    }

    /// Adds work behind what is there.
    pub(super) fn add(&mut self, work: Work) -> Status {
        self.work.as_mut().ok_or(hipError_t::hipErrorStreamCaptureInvalidated)?.push(work);
        Ok(())
    }

    /// Ends the recording's use.
    pub(super) fn refuse(&mut self) -> Status {
        self.work = None;
        Err(hipError_t::hipErrorStreamCaptureUnsupported)
    }

    /// Whether what HIP does at once is refused to this thread.
    pub(super) fn forbids_this_thread(&self) -> bool {
        match self.mode {
            hipStreamCaptureMode::hipStreamCaptureModeGlobal => true,
            hipStreamCaptureMode::hipStreamCaptureModeRelaxed => false,
            _ => self.may_end_here(),
        }
    }

    fn may_end_here(&self) -> bool {
        self.thread == thread::current().id()
    }
}

fn begin(on: hipStream_t, mode: hipStreamCaptureMode) -> Status {
    // HIP's own streams record nothing.
    let stream = stream::find(on)?.ok_or(hipError_t::hipErrorStreamCaptureUnsupported)?;
    if mode.0 > hipStreamCaptureMode::hipStreamCaptureModeRelaxed.0 {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    let mut recording = stream.recording();
    if recording.is_some() {
        return Err(hipError_t::hipErrorIllegalState);
    }
    *recording = Some(Recording::new(mode));
    Ok(())
}

fn end(on: hipStream_t) -> Result<Vec<Work>, hipError_t> {
    let stream = stream::find(on)?.ok_or(hipError_t::hipErrorIllegalState)?;
    let mut recording = stream.recording();
    let current = recording.as_ref().ok_or(hipError_t::hipErrorIllegalState)?;
    let relaxed = current.mode == hipStreamCaptureMode::hipStreamCaptureModeRelaxed;
    if !relaxed && !current.may_end_here() {
        return Err(hipError_t::hipErrorStreamCaptureWrongThread);
    }
    let work = recording.take().and_then(|recording| recording.work);
    work.ok_or(hipError_t::hipErrorStreamCaptureInvalidated)
}

hip_functions! {
    /// Records what the stream is given from now on, instead of doing it.
    fn hipStreamBeginCapture(on: hipStream_t, mode: hipStreamCaptureMode) {
        begin(on, mode)
    }

    /// Ends a recording and gives its graph; null when something was refused.
    fn hipStreamEndCapture(on: hipStream_t, place: *mut hipGraph_t) {
        if place.is_null() {
            return Err(hipError_t::hipErrorInvalidValue);
        }
        let recorded = end(on);
        let graph = recorded.as_ref().map_or(std::ptr::null_mut(), |work| GRAPHS.add(work.clone()));
        // SAFETY: the caller's place for the result.
        unsafe { put(place, graph) }?;
        recorded.map(drop)
    }

    /// 0 for a stream that records nothing, 1 for one that does, 2 for one whose recording has no use any more.
    fn hipStreamIsCapturing(on: hipStream_t, place: *mut c_int) {
        let state = match stream::find(on)?.as_ref().map(|stream| stream.recording()).as_deref() {
            Some(Some(Recording { work: Some(_), .. })) => 1,
            Some(Some(Recording { work: None, .. })) => 2,
            _ => 0,
        };
        // SAFETY: the caller's place for the result.
        unsafe { put(place, state) }
    }

    /// Makes a graph ready to be launched; there is nothing to log.
    fn hipGraphInstantiate(
        place: *mut hipGraphExec_t, graph: hipGraph_t, _node: *mut hipGraphNode_t, _log: *mut c_char, _room: usize,
    ) {
        let work = GRAPHS.get(graph)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(place, READY.add(work.to_vec())) }
    }

    /// As `hipGraphInstantiate`; no flag is defined.
    fn hipGraphInstantiateWithFlags(place: *mut hipGraphExec_t, graph: hipGraph_t, flags: c_ulonglong) {
        let work = GRAPHS.get(graph)?;
        if flags != 0 {
            return Err(hipError_t::hipErrorInvalidValue);
        }
        // SAFETY: the caller's place for the result.
        unsafe { put(place, READY.add(work.to_vec())) }
    }

    /// Does what was recorded, in order, up to the first error; a stream that records takes it over.
    fn hipGraphLaunch(ready: hipGraphExec_t, on: hipStream_t) {
        let work = READY.get(ready)?;
        work.iter().try_for_each(|work| stream::submit_recorded(on, work))
    }

    /// Ends a graph that was made ready.
    fn hipGraphExecDestroy(ready: hipGraphExec_t) {
        READY.remove(ready).map(drop)
    }

    /// Ends a graph; those made ready from it stay.
    fn hipGraphDestroy(graph: hipGraph_t) {
        GRAPHS.remove(graph).map(drop)
    }
}
