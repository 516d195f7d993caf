//! Graphs. Each entry trusts its caller as HIP's does; the modes of a recording have CUDA's numbers.

use core::ffi::c_char;

use super::answer;
use crate::sys::{hipError_t, hipGraph_t, hipGraphExec_t, hipGraphNode_t, hipStream_t, hipStreamCaptureMode};

/// `hipStreamBeginCapture`.
pub(super) unsafe extern "C" fn begin_capture(stream: hipStream_t, mode: hipStreamCaptureMode) -> hipError_t {
    // SAFETY: the caller vouches for the stream.
    answer(|driver| unsafe { (driver.begin_capture)(stream.cast(), mode.0) })
}

/// `hipStreamEndCapture`.
pub(super) unsafe extern "C" fn end_capture(stream: hipStream_t, graph: *mut hipGraph_t) -> hipError_t {
    // SAFETY: the caller vouches for the stream and gives room for a handle.
    answer(|driver| unsafe { (driver.end_capture)(stream.cast(), graph.cast()) })
}

/// `hipGraphInstantiate`. CUDA's newer function tells no node and writes no log.
pub(super) unsafe extern "C" fn instantiate(
    ready: *mut hipGraphExec_t,
    graph: hipGraph_t,
    _node: *mut hipGraphNode_t,
    _log: *mut c_char,
    _room: usize,
) -> hipError_t {
    // SAFETY: the caller vouches for the graph and gives room for a handle.
    answer(|driver| unsafe { (driver.graph_instantiate)(ready.cast(), graph.cast(), 0) })
}

/// `hipGraphLaunch`.
pub(super) unsafe extern "C" fn launch(ready: hipGraphExec_t, stream: hipStream_t) -> hipError_t {
    // SAFETY: the caller vouches for both.
    answer(|driver| unsafe { (driver.graph_launch)(ready.cast(), stream.cast()) })
}

/// `hipGraphExecDestroy`.
pub(super) unsafe extern "C" fn exec_destroy(ready: hipGraphExec_t) -> hipError_t {
    // SAFETY: the caller got it from `instantiate`.
    answer(|driver| unsafe { (driver.graph_exec_destroy)(ready.cast()) })
}

/// `hipGraphDestroy`.
pub(super) unsafe extern "C" fn destroy(graph: hipGraph_t) -> hipError_t {
    // SAFETY: the caller got it from `end_capture`.
    answer(|driver| unsafe { (driver.graph_destroy)(graph.cast()) })
}
