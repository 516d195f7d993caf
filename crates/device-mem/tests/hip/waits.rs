//! Waits end: when the device is ready, at a deadline, or when another thread loses the device.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use device_mem::{Device, DeviceBuffer, Graph, Kernel, MemError};
use hip_ffi::ErrorClass;
use hip_ffi::sys::hipError_t;

use crate::{IMAGES, ONE_BLOCK, ScaleArgs, fake, hip, open, scale};

const DEADLINE: Duration = Duration::from_millis(30);

/// A device whose stream is ready so many more times when it is asked.
fn ready_for(device: &Device, times: usize) {
    hip(device).set_deadline(DEADLINE);
    fake::with(|fake| fake.ready_for = Some(times));
}

#[track_caller]
fn overdue(error: &MemError) {
    let MemError::Hip { source, .. } = error else { panic!("{error:?}") };
    assert!(source.is_overdue() && error.class() == Some(ErrorClass::Lost), "{source}");
    assert!(source.to_string().contains("still not ready after "), "{source}");
}

#[test]
fn a_device_that_is_never_ready_is_lost_at_the_deadline() {
    let device = open();
    let buffer = DeviceBuffer::<f32>::zeroed(&device, 1).unwrap();
    ready_for(&device, 0);
    let start = Instant::now();
    let calls = fake::calls_of(|| overdue(&device.synchronize().unwrap_err()));
    assert!(start.elapsed() >= DEADLINE && hip(&device).is_lost());
    assert!(!calls.contains(&"hipStreamSynchronize"), "it would never return");
    let failures = hip(&device).failures();
    assert_eq!(failures.len(), 1, "{failures:?}");
    let failure = &failures[0];
    assert_eq!((failure.call, failure.code, failure.count), ("hipStreamQuery", 600, 1));
    let after = fake::calls_of(|| drop((buffer, device)));
    assert!(after.is_empty(), "{after:?}");
}

#[test]
fn what_a_copy_may_still_write_is_not_given_back() {
    let device = open();
    let buffer = DeviceBuffer::from_host_vec(&device, vec![1.0_f32, 2.0, 3.0]).unwrap();
    // Ready before the copy, never after it.
    ready_for(&device, 1);
    let calls = fake::calls_of(|| overdue(&buffer.to_host_vec().unwrap_err()));
    assert!(calls.contains(&"hipMemcpyAsync"));
    assert_eq!(device.transfers().quarantined_bytes, 12);
}

#[test]
fn nothing_waits_for_a_device_that_hangs_but_by_asking() {
    type Use = fn(&Device, &mut DeviceBuffer<f32>, &Kernel<ScaleArgs>) -> Result<(), MemError>;
    let uses: [(&str, Use); 4] = [
        ("an upload", |_, buffer, _| buffer.as_view_mut()?.copy_from_host(&[5.0])),
        ("a download", |_, buffer, _| buffer.to_host_vec().map(drop)),
        ("a buffer's end", |device, buffer, _| {
            drop(buffer.try_clone()?);
            device.synchronize()
        }),
        ("a graph's end", |device, buffer, kernel| {
            let x = buffer.try_clone()?;
            drop(Graph::record(hip(device), || scale(kernel, ONE_BLOCK, buffer, &x, 1.0))?);
            device.synchronize()
        }),
    ];
    for (what, run) in uses {
        let device = open();
        let kernel = Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap();
        let mut buffer = DeviceBuffer::<f32>::zeroed(&device, 1).unwrap();
        ready_for(&device, 0);
        let calls = fake::calls_of(|| {
            let error = run(&device, &mut buffer, &kernel).unwrap_err();
            assert_eq!(error.class(), Some(ErrorClass::Lost), "{what}: {error:?}");
        });
        let waits = ["hipStreamSynchronize", "hipFree", "hipGraphExecDestroy"];
        assert!(!calls.iter().any(|call| waits.contains(call)), "{what}: {calls:?}");
        fake::with(|fake| fake.ready_for = None);
    }
}

#[test]
fn a_wait_ends_when_another_thread_loses_the_device() {
    let device = open();
    hip(&device).set_deadline(Duration::from_secs(600));
    let waits = Arc::new(Barrier::new(2));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            fake::with(|fake| {
                fake.ready_for = Some(0);
                fake.first_wait = Some(waits.clone());
            });
            device.synchronize().unwrap_err()
        });
        waits.wait();
        fake::fail("hipMemGetInfo", 1, hipError_t::hipErrorIllegalAddress);
        let error = device.free_memory().unwrap_err();
        assert_eq!(error.class(), Some(ErrorClass::Lost));
        let told = waiting.join().unwrap();
        let MemError::Hip { source, .. } = &told else { panic!("{told:?}") };
        assert_eq!(source.call, "hipMemGetInfo");
    });
}

#[test]
fn things_are_given_back_though_the_device_cannot_be_bound() {
    let device = open();
    let [buffer, kept] = [1, 2].map(|len| DeviceBuffer::<f32>::zeroed(&device, len).unwrap());
    fake::fail("hipSetDevice", 1, hipError_t::hipErrorInvalidValue);
    drop(buffer);
    assert_eq!((fake::with(|fake| fake.memory.len()), device.transfers().drop_errors), (1, 1));
    let error = kept.to_host_vec().unwrap_err();
    assert!(matches!(&error, MemError::Hip { source, .. } if source.call == "hipSetDevice"), "{error:?}");
}

#[test]
fn an_error_tells_what_the_device_was_asked_for() {
    let device = open();
    let kernel = Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap();
    let x = DeviceBuffer::from_host_vec(&device, vec![1.0_f32]).unwrap();
    let mut y = x.try_clone().unwrap();
    scale(&kernel, ONE_BLOCK, &mut y, &x, 1.0).unwrap();
    device.synchronize().unwrap();
    scale(&kernel, ONE_BLOCK, &mut y, &x, 1.0).unwrap();
    fake::fail("hipStreamQuery", 1, hipError_t::hipErrorLaunchFailure);
    let error = device.synchronize().unwrap_err();
    let text = error.to_string();
    let expected = "2 launches given, 1 of them known to be done; the last asked for was of scale, [1, 1, 1] blocks of [64, 1, 1] threads";
    assert!(text.contains("(lost)") && text.ends_with(expected), "{text}");
    assert!(error.remedy().unwrap().contains("dmesg"));
}
