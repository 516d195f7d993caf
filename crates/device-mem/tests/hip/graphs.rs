//! Graphs: what is recorded, what is counted, what is kept for them, and what a failing recording leaves behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use device_mem::{Device, DeviceBuffer, Graph, Kernel, MemError};
use hip_ffi::sys::hipError_t;
use hip_ffi::{ErrorClass, HipApi};

use crate::{IMAGES, ONE_BLOCK, ScaleArgs, fake, hip, open, scale};

fn buffers(device: &Device) -> (Kernel<ScaleArgs>, DeviceBuffer<f32>, DeviceBuffer<f32>) {
    let kernel = Kernel::load(hip(device), &IMAGES, "scale").unwrap();
    let x = DeviceBuffer::from_host_vec(device, vec![1.0_f32, -2.0]).unwrap();
    let y = x.try_clone().unwrap();
    (kernel, x, y)
}

/// `y = 2 x`, then `x = 3 y`.
fn twice_then_thrice(
    kernel: &Kernel<ScaleArgs>,
    x: &mut DeviceBuffer<f32>,
    y: &mut DeviceBuffer<f32>,
) -> Result<(), MemError> {
    scale(kernel, ONE_BLOCK, y, x, 2.0)?;
    scale(kernel, ONE_BLOCK, x, y, 3.0)
}

#[test]
fn a_graph_does_again_what_was_recorded() {
    let device = open();
    let (kernel, mut x, mut y) = buffers(&device);
    let before = device.transfers();
    let graph = Graph::record(hip(&device), || twice_then_thrice(&kernel, &mut x, &mut y)).unwrap();
    assert_eq!((graph.launches(), device.transfers()), (2, before), "what is recorded is not done");
    let mut expected = before;
    for _ in 0..3 {
        graph.launch().unwrap();
        expected.graph_launches += 1;
        expected.launches += 2;
    }
    assert_eq!(device.transfers(), expected);
    assert_eq!(x.to_host_vec().unwrap(), [216.0, -432.0]);
    assert_eq!(y.to_host_vec().unwrap(), [72.0, -144.0]);
}

#[test]
fn memory_outlives_its_owner_until_the_last_graph_is_dropped() {
    let device = open();
    let live = || fake::with(|fake| fake.memory.len());
    let before = live();
    let (kernel, mut x, mut y) = buffers(&device);
    let record = |x: &mut _, y: &mut _| Graph::record(hip(&device), || twice_then_thrice(&kernel, x, y));
    let (first, second) = (record(&mut x, &mut y).unwrap(), record(&mut x, &mut y).unwrap());
    drop((x, y));
    first.launch().unwrap();
    drop(first);
    second.launch().unwrap();
    device.synchronize().unwrap();
    assert_eq!(live(), before + 2);
    drop(second);
    assert_eq!(live(), before);
    drop(kernel);
    drop(device);
    assert_eq!(fake::with(|fake| fake.handles), 0, "graphs, modules and streams are given back");
}

#[test]
fn what_cannot_be_recorded_is_refused_before_hip_is_asked() {
    let device = open();
    let (_, x, mut y) = buffers(&device);
    let before = device.transfers();
    let attempts: [&mut dyn FnMut() -> Result<(), MemError>; 6] = [
        &mut || device.synchronize(),
        &mut || x.to_host_vec().map(drop),
        &mut || x.try_clone().map(drop),
        &mut || y.as_view_mut()?.copy_from_host(&[1.0, 2.0]),
        &mut || DeviceBuffer::<f32>::zeroed(&device, 1).map(drop),
        &mut || Graph::record(hip(&device), || Ok::<_, MemError>(())).map(drop),
    ];
    for attempt in attempts {
        let mut calls = Vec::new();
        let error = Graph::record(hip(&device), || {
            let mut done = Ok(());
            calls = fake::calls_of(|| done = attempt());
            done
        })
        .unwrap_err();
        assert!(matches!(error, MemError::Recording { .. }), "{error}");
        assert!(calls.is_empty(), "{calls:?}");
    }
    assert_eq!(device.transfers(), before);
    assert_eq!(x.to_host_vec().unwrap(), [1.0, -2.0]);
}

#[test]
fn a_recording_that_fails_leaves_the_device_in_use() {
    let device = open();
    let (kernel, mut x, mut y) = buffers(&device);
    let (handles, live) = fake::with(|fake| (fake.handles, fake.memory.len()));
    for call in
        ["hipStreamBeginCapture", "hipModuleLaunchKernel", "hipStreamEndCapture", "hipGraphInstantiate"]
    {
        fake::fail(call, 1, hipError_t::hipErrorStreamCaptureUnsupported);
        let error = Graph::record(hip(&device), || twice_then_thrice(&kernel, &mut x, &mut y)).unwrap_err();
        assert_eq!(error.class(), Some(ErrorClass::Refused), "{call}");
        assert!(matches!(error, MemError::Hip { source, .. } if source.call == call));
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        Graph::record(hip(&device), || -> Result<(), MemError> { panic!("as a test wants") })
    }));
    assert!(panicked.is_err());
    assert_eq!(fake::with(|fake| (fake.handles, fake.memory.len())), (handles, live));
    assert_eq!(x.to_host_vec().unwrap(), [1.0, -2.0], "nothing was done");
    drop(y);
    assert_eq!(fake::with(|fake| fake.memory.len()), live - 1, "no graph keeps memory");
}

#[test]
fn another_thread_does_not_fall_into_a_recording() {
    let device = open();
    let (kernel, mut x, mut y) = buffers(&device);
    let graph = Graph::record(hip(&device), || {
        // The other thread's own runtime is never asked.
        let others =
            thread::scope(|scope| scope.spawn(|| twice_then_thrice(&kernel, &mut x, &mut y)).join().unwrap());
        assert!(matches!(others, Err(MemError::Recording { .. })), "{others:?}");
        Ok::<_, MemError>(())
    })
    .unwrap();
    assert_eq!(graph.launches(), 0);
    twice_then_thrice(&kernel, &mut x, &mut y).unwrap();
    assert_eq!(x.to_host_vec().unwrap(), [6.0, -12.0]);
}

#[test]
fn a_graph_dropped_while_another_is_recorded_is_ended_later() {
    let device = open();
    let (kernel, mut x, mut y) = buffers(&device);
    let handles = fake::with(|fake| fake.handles);
    let first = Graph::record(hip(&device), || twice_then_thrice(&kernel, &mut x, &mut y)).unwrap();
    let second = Graph::record(hip(&device), || {
        let calls = fake::calls_of(|| drop(first));
        assert!(calls.is_empty(), "{calls:?}");
        twice_then_thrice(&kernel, &mut x, &mut y)
    })
    .unwrap();
    drop(second);
    assert_eq!(fake::with(|fake| fake.handles), handles);
}

#[test]
fn a_library_without_graphs_says_so() {
    let device = Device::from_api(HipApi { graph: None, ..fake::api() }, 0).unwrap();
    let error = Graph::record(hip(&device), || Ok::<_, MemError>(())).unwrap_err();
    assert!(matches!(error, MemError::NoGraphs { .. }), "{error}");
    assert!(error.to_string().contains("hipStreamBeginCapture"), "{error}");
}
