//! Graphs: what a stream records is not done, and done whenever the graph is launched; what cannot be recorded is refused.

#![expect(unsafe_code, reason = "HIP's functions are C functions")]
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{
    ffi::{CStr, c_uint, c_void},
    num::NonZeroUsize,
    ptr, thread,
};

use hip_ffi::{GraphApi, HipApi, HipError, result, sys::*};

const AXPY: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");
const LENGTH: usize = 300;
const ELEMENTS: u32 = 300;
const BYTES: usize = LENGTH * size_of::<f32>();
/// Streams that wait for the null stream.
const BLOCKING: c_uint = 0;
const NON_BLOCKING: c_uint = 1;

/// A stream with the vectors x and y, and y += 2 x.
struct Setup {
    api: HipApi,
    graph: GraphApi,
    stream: hipStream_t,
    x: *mut c_void,
    y: *mut c_void,
    axpy: hipFunction_t,
}

impl Setup {
    fn new(flags: c_uint) -> Setup {
        let api = hip_emu::api();
        let graph = api.graph.unwrap();
        let mut stream = ptr::null_mut();
        // SAFETY: the place is a local.
        let code = unsafe { (api.hip_stream_create_with_flags)(&raw mut stream, flags) };
        assert_eq!(code, hipError_t::hipSuccess);
        let allocate = || result::malloc(&api, NonZeroUsize::new(BYTES).unwrap()).unwrap();
        let (x, y) = (allocate(), allocate());
        // SAFETY: the image is whole and static.
        let module = unsafe { result::module_load_data(&api, AXPY.as_ptr().cast()) }.unwrap();
        // SAFETY: the module is live.
        let axpy = unsafe { result::module_get_function(&api, module, c"axpy_f32") }.unwrap();
        let setup = Setup { api, graph, stream, x, y, axpy };
        setup.write(x, |at| at as f32).unwrap();
        setup.write(y, |_| 0.0).unwrap();
        setup
    }

    fn write(&self, to: *mut c_void, value: impl Fn(usize) -> f32) -> Result<(), HipError> {
        let values: Vec<f32> = (0..LENGTH).map(value).collect();
        let kind = hipMemcpyKind::hipMemcpyHostToDevice;
        // SAFETY: both hold the bytes; the emulator has copied when it returns, or refuses.
        unsafe { result::memcpy_async(&self.api, to, values.as_ptr().cast(), BYTES, kind, ptr::null_mut()) }
    }

    fn read(&self, from: *mut c_void) -> Vec<f32> {
        let mut values = vec![0.0; LENGTH];
        let (to, kind) = (values.as_mut_ptr().cast(), hipMemcpyKind::hipMemcpyDeviceToHost);
        // SAFETY: both hold the bytes; the emulator has copied when it returns.
        unsafe { result::memcpy_async(&self.api, to, from, BYTES, kind, ptr::null_mut()) }.unwrap();
        values
    }

    /// y += factor * x
    fn launch(&self, mut factor: f32) -> Result<(), HipError> {
        let (mut y, mut x, mut length) = (self.y, self.x, ELEMENTS);
        let mut arguments: [*mut c_void; 4] =
            [(&raw mut y).cast(), (&raw mut x).cast(), (&raw mut factor).cast(), (&raw mut length).cast()];
        let (blocks, threads) = ([2, 1, 1], [256, 1, 1]);
        // SAFETY: the arguments are the kernel's, and both vectors hold `length` elements.
        unsafe {
            result::module_launch_kernel(&self.api, self.axpy, blocks, threads, self.stream, &mut arguments)
        }
    }

    fn copy_y_to_x(&self) -> Result<(), HipError> {
        let kind = hipMemcpyKind::hipMemcpyDeviceToDevice;
        // SAFETY: both hold the bytes.
        unsafe { result::memcpy_async(&self.api, self.x, self.y, BYTES, kind, self.stream) }
    }

    fn clear_y(&self) -> Result<(), HipError> {
        // SAFETY: it holds the bytes.
        unsafe { result::memset_async(&self.api, self.y, 0, BYTES, self.stream) }
    }

    fn synchronize(&self) -> Result<(), HipError> {
        // SAFETY: the stream is live.
        unsafe { result::stream_synchronize(&self.api, self.stream) }
    }

    fn begin(&self) -> Result<(), HipError> {
        // SAFETY: the stream is live, and of this thread only.
        unsafe { result::stream_begin_capture(&self.api, &self.graph, self.stream) }
    }

    fn end(&self) -> Result<hipGraph_t, HipError> {
        // SAFETY: the stream is live; without a recording it is refused.
        unsafe { result::stream_end_capture(&self.api, &self.graph, self.stream) }
    }

    fn instantiate(&self, recorded: hipGraph_t) -> hipGraphExec_t {
        // SAFETY: the graph is live.
        unsafe { result::graph_instantiate(&self.api, &self.graph, recorded) }.unwrap()
    }

    fn replay(&self, ready: hipGraphExec_t) -> Result<(), HipError> {
        // SAFETY: handles are looked up, and the memory is live.
        unsafe { result::graph_launch(&self.api, &self.graph, ready, self.stream) }
    }

    fn name(&self, code: hipError_t) -> String {
        // SAFETY: the function takes any code.
        let name = unsafe { (self.api.hip_get_error_name)(code) };
        // SAFETY: it is a string of the program.
        let name = unsafe { CStr::from_ptr(name) };
        name.to_string_lossy().into_owned()
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(done: Result<T, HipError>, code: hipError_t) {
    assert_eq!(done.unwrap_err().code, code);
}

#[test]
fn what_is_recorded_is_done_in_order_whenever_the_graph_is_launched() {
    let setup = Setup::new(NON_BLOCKING);
    setup.begin().unwrap();
    setup.launch(2.0).unwrap();
    setup.copy_y_to_x().unwrap();
    setup.clear_y().unwrap();
    setup.launch(0.5).unwrap();
    let recorded = setup.end().unwrap();
    let x = |at: usize| at as f32;
    assert_eq!(setup.read(setup.y), vec![0.0; LENGTH], "recording does nothing");
    assert_eq!(setup.read(setup.x), (0..LENGTH).map(x).collect::<Vec<_>>());

    let ready = setup.instantiate(recorded);
    // SAFETY: it is not used afterwards; what was made ready from it stays.
    unsafe { result::graph_destroy(&setup.api, &setup.graph, recorded) }.unwrap();
    let (mut expected_x, mut expected_y): (Vec<f32>, Vec<f32>) =
        ((0..LENGTH).map(x).collect(), vec![0.0; LENGTH]);
    for _ in 0..3 {
        setup.replay(ready).unwrap();
        for (x, y) in expected_x.iter_mut().zip(&mut expected_y) {
            *x = *y + 2.0 * *x;
            *y = 0.5 * *x;
        }
        assert_eq!(setup.read(setup.x), expected_x);
        assert_eq!(setup.read(setup.y), expected_y);
    }

    // A graph within another.
    setup.begin().unwrap();
    setup.replay(ready).unwrap();
    setup.clear_y().unwrap();
    let outer = setup.instantiate(setup.end().unwrap());
    assert_eq!(setup.read(setup.y), expected_y);
    setup.replay(outer).unwrap();
    assert_eq!(setup.read(setup.y), vec![0.0; LENGTH]);

    // SAFETY: it is not used afterwards, but to be refused.
    unsafe { result::graph_exec_destroy(&setup.api, &setup.graph, ready) }.unwrap();
    refused(setup.replay(ready), hipError_t::hipErrorInvalidHandle);
}

#[test]
fn what_cannot_be_recorded_is_refused_and_ends_the_recording() {
    let setup = Setup::new(NON_BLOCKING);
    let unsupported = hipError_t::hipErrorStreamCaptureUnsupported;
    type Attempt = fn(&Setup) -> Result<(), HipError>;
    let attempts: [Attempt; 4] = [
        Setup::synchronize,
        // SAFETY: the stream is live.
        |setup| unsafe { result::stream_query(&setup.api, setup.stream) }.map(drop),
        |setup| result::malloc(&setup.api, NonZeroUsize::MIN).map(drop),
        // SAFETY: it is refused.
        |setup| unsafe { result::free(&setup.api, setup.x) },
    ];
    for attempt in attempts {
        setup.begin().unwrap();
        setup.launch(1.0).unwrap();
        refused(attempt(&setup), unsupported);
        refused(setup.launch(1.0), hipError_t::hipErrorStreamCaptureInvalidated);
        refused(setup.end(), hipError_t::hipErrorStreamCaptureInvalidated);
        // The stream works as before.
        setup.synchronize().unwrap();
        assert_eq!(setup.read(setup.y), vec![0.0; LENGTH]);
    }
    assert_eq!(setup.name(unsupported), "hipErrorStreamCaptureUnsupported");
    setup.launch(1.0).unwrap();
    assert_eq!(setup.read(setup.y), setup.read(setup.x));
}

#[test]
fn a_recording_begins_once_and_ends_where_it_began() {
    let setup = Setup::new(NON_BLOCKING);
    refused(setup.end(), hipError_t::hipErrorIllegalState);
    setup.begin().unwrap();
    refused(setup.begin(), hipError_t::hipErrorIllegalState);
    let (stream, begin, end) =
        (setup.stream.addr(), setup.graph.hip_stream_begin_capture, setup.graph.hip_stream_end_capture);
    thread::spawn(move || {
        let (mut graph, stream) = (ptr::null_mut(), ptr::without_provenance_mut(stream));
        // SAFETY: the place is a local, and handles are looked up.
        let code = unsafe { end(stream, &raw mut graph) };
        assert_eq!(code, hipError_t::hipErrorStreamCaptureWrongThread);
        // What the mode of the recording forbids is forbidden to its own thread.
        result::malloc(&hip_emu::api(), NonZeroUsize::MIN).unwrap();
    })
    .join()
    .unwrap();
    setup.launch(1.0).unwrap();
    setup.end().unwrap();
    let thread_local = hipStreamCaptureMode::hipStreamCaptureModeThreadLocal;
    // SAFETY: handles are looked up.
    let code = unsafe { begin(ptr::null_mut(), thread_local) };
    assert_eq!(code, hipError_t::hipErrorStreamCaptureUnsupported, "the null stream records nothing");
    // SAFETY: as above.
    let code = unsafe { begin(setup.stream, hipStreamCaptureMode(3)) };
    assert_eq!(code, hipError_t::hipErrorInvalidValue);
}

#[test]
fn the_null_stream_does_not_wait_for_a_recording() {
    // In a process of its own: other tests use the null stream.
    const ALONE: &str = "HIP_EMU_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "the_null_stream_does_not_wait_for_a_recording";
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        let status = test.args(["--exact", name]).env(ALONE, "1").status().unwrap();
        assert!(status.success());
        return;
    }
    let setup = Setup::new(BLOCKING);
    setup.begin().unwrap();
    refused(setup.write(setup.y, |_| 1.0), hipError_t::hipErrorStreamCaptureImplicit);
    refused(setup.end(), hipError_t::hipErrorStreamCaptureInvalidated);
    setup.write(setup.y, |_| 1.0).unwrap();
    assert_eq!(setup.read(setup.y), vec![1.0; LENGTH]);
}
