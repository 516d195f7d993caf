//! The fake's graphs.

use std::ffi::c_char;
use std::ptr;

use hip_ffi::GraphApi;
use hip_ffi::sys::{
    hipError_t, hipGraph_t, hipGraphExec_t, hipGraphNode_t, hipStream_t, hipStreamCaptureMode,
};

use super::{code, give, with};

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

unsafe extern "C" fn hip_stream_begin_capture(_: hipStream_t, _: hipStreamCaptureMode) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipStreamBeginCapture")?;
        fake.recording = Some(Vec::new());
        Ok(())
    }))
}

unsafe extern "C" fn hip_stream_end_capture(_: hipStream_t, graph: *mut hipGraph_t) -> hipError_t {
    let recorded = with(|fake| {
        let work = fake.recording.take().ok_or(hipError_t::hipErrorIllegalState)?;
        fake.enter_bound("hipStreamEndCapture")?;
        fake.handles += 1;
        let handle = fake.graphs.keys().next_back().map_or(1, |last| last + 1);
        fake.graphs.insert(handle, work);
        Ok(handle)
    });
    // SAFETY: the caller gives room for a handle; nothing is read through it.
    code(recorded.and_then(|handle| unsafe { give(graph, ptr::without_provenance_mut(handle)) }))
}

unsafe extern "C" fn hip_graph_instantiate(
    ready: *mut hipGraphExec_t,
    graph: hipGraph_t,
    _: *mut hipGraphNode_t,
    _: *mut c_char,
    _: usize,
) -> hipError_t {
    let entered = with(|fake| {
        fake.enter_bound("hipGraphInstantiate")?;
        fake.handles += 1;
        Ok(())
    });
    // SAFETY: as above.
    code(entered.and_then(|()| unsafe { give(ready, ptr::without_provenance_mut(graph.addr())) }))
}

unsafe extern "C" fn hip_graph_launch(ready: hipGraphExec_t, _: hipStream_t) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipGraphLaunch")?;
        let work = fake.graphs.get(&ready.addr()).cloned().ok_or(hipError_t::hipErrorInvalidHandle)?;
        work.into_iter().for_each(|work| fake.give(work));
        Ok(())
    }))
}

unsafe extern "C" fn hip_graph_exec_destroy(_: hipGraphExec_t) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipGraphExecDestroy")?;
        fake.handles -= 1;
        Ok(())
    }))
}

unsafe extern "C" fn hip_graph_destroy(_: hipGraph_t) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipGraphDestroy")?;
        fake.handles -= 1;
        Ok(())
    }))
}
