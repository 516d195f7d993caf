//! Graphs of the stand-in: what a thread gives to a stream while it records, done again.

use std::cell::RefCell;
use std::ffi::c_char;

use hip_ffi::GraphApi;
use hip_ffi::sys::{
    hipError_t, hipFunction_t, hipGraph_t, hipGraphExec_t, hipGraphNode_t, hipStream_t, hipStreamCaptureMode,
};

use super::{SUCCESS, copy, fill, launch};

pub(super) fn api() -> GraphApi {
    GraphApi {
        hip_stream_begin_capture,
        hip_stream_end_capture,
        hip_graph_instantiate,
        hip_graph_launch,
        hip_graph_exec_destroy,
        hip_graph_destroy,
    }
}

/// Work of a stream, with the values and addresses that it was given.
#[derive(Clone)]
pub(super) enum Recorded {
    Launch {
        function: hipFunction_t,
        grid: [u32; 3],
        block: [u32; 3],
        /// Each argument, in words so that it is aligned.
        arguments: Vec<Vec<u64>>,
    },
    Copy {
        target: usize,
        source: usize,
        bytes: usize,
    },
    Fill {
        target: usize,
        value: u8,
        bytes: usize,
    },
}

/// A graph, and one that is made ready.
struct Graph(Vec<Recorded>);

thread_local! {
    /// What this thread records, while it does.
    static RECORDING: RefCell<Option<Vec<Recorded>>> = const { RefCell::new(None) };
}

/// Whether this thread records.
pub(super) fn records() -> bool {
    RECORDING.with_borrow(Option::is_some)
}

/// A new stream records nothing, whatever a lost device has left open on this thread.
pub(super) fn begin_anew() {
    RECORDING.set(None);
}

/// Puts work into what this thread records.
pub(super) fn record(work: Recorded) -> hipError_t {
    RECORDING.with_borrow_mut(|recording| match recording {
        Some(recording) => {
            recording.push(work);
            SUCCESS
        }
        None => hipError_t::hipErrorIllegalState,
    })
}

unsafe extern "C" fn hip_stream_begin_capture(_: hipStream_t, _: hipStreamCaptureMode) -> hipError_t {
    RECORDING.set(Some(Vec::new()));
    SUCCESS
}

unsafe extern "C" fn hip_stream_end_capture(_: hipStream_t, graph: *mut hipGraph_t) -> hipError_t {
    let Some(recorded) = RECORDING.take() else { return hipError_t::hipErrorIllegalState };
    // SAFETY: the caller gives room for a handle.
    unsafe { graph.write(Box::into_raw(Box::new(Graph(recorded))).cast()) };
    SUCCESS
}

unsafe extern "C" fn hip_graph_instantiate(
    ready: *mut hipGraphExec_t,
    graph: hipGraph_t,
    _: *mut hipGraphNode_t,
    _: *mut c_char,
    _: usize,
) -> hipError_t {
    // SAFETY: the handle is from `hip_stream_end_capture` and live.
    let Graph(recorded) = unsafe { &*graph.cast::<Graph>() };
    let made = Box::new(Graph(recorded.clone()));
    // SAFETY: the caller gives room for a handle.
    unsafe { ready.write(Box::into_raw(made).cast()) };
    SUCCESS
}

unsafe extern "C" fn hip_graph_launch(ready: hipGraphExec_t, _: hipStream_t) -> hipError_t {
    // SAFETY: the handle is from `hip_graph_instantiate` and live.
    let Graph(recorded) = unsafe { &*ready.cast::<Graph>() };
    for work in recorded {
        let code = match work {
            Recorded::Launch { function, grid, block, arguments } => {
                let mut parameters =
                    Vec::from_iter(arguments.iter().map(|words| words.as_ptr().cast_mut().cast()));
                // SAFETY: the function was live when it was recorded, and its module still is. A pointer for each argument,
                // of its size; the caller vouches that the kernel may run now.
                unsafe { launch(*function, *grid, *block, parameters.as_mut_ptr()) }
            }
            // SAFETY: the caller vouches that what was recorded may be done now.
            Recorded::Copy { target, source, bytes } => unsafe { copy(*target, *source, *bytes) },
            Recorded::Fill { target, value, bytes } => fill(*target, *value, *bytes),
        };
        if code != SUCCESS {
            return code;
        }
    }
    SUCCESS
}

unsafe extern "C" fn hip_graph_exec_destroy(ready: hipGraphExec_t) -> hipError_t {
    // SAFETY: the handle is from `hip_graph_instantiate`, and the caller gives it back once.
    drop(unsafe { Box::from_raw(ready.cast::<Graph>()) });
    SUCCESS
}

unsafe extern "C" fn hip_graph_destroy(graph: hipGraph_t) -> hipError_t {
    // SAFETY: the handle is from `hip_stream_end_capture`, and the caller gives it back once.
    drop(unsafe { Box::from_raw(graph.cast::<Graph>()) });
    SUCCESS
}
