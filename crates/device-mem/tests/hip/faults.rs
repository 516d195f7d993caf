//! What a failing call leaves behind: inputs as they were, the right class, no HIP call after a loss, nothing leaked.

use std::error::Error;

use device_mem::{Device, DeviceBuffer, Kernel, MemError};
use hip_ffi::ErrorClass;
use hip_ffi::sys::hipError_t;

use crate::fake::{self, Failure};
use crate::{IMAGES, ONE_BLOCK, ScaleArgs, hip, open, scale};

#[test]
fn a_refused_call_leaves_the_device_in_use_and_no_error_pending() {
    let device = open();
    let before = device.transfers();
    fake::fail("hipMalloc", 1, hipError_t::hipErrorOutOfMemory);
    let error = DeviceBuffer::<f32>::zeroed(&device, 4).unwrap_err();
    assert_eq!(error.class(), Some(ErrorClass::Refused));
    assert_eq!(error.source().unwrap().to_string(), "hipMalloc returned hipErrorFake (2)");
    assert_eq!(fake::with(|fake| fake.pending), hipError_t::hipSuccess);
    assert_eq!(device.transfers(), before, "what was refused is not counted");
    assert_eq!(DeviceBuffer::<f32>::zeroed(&device, 1).unwrap().to_host_vec().unwrap(), [0.0]);
}

#[test]
fn after_a_loss_no_hip_call_is_made() {
    let device = open();
    let kernel = Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap();
    let x = DeviceBuffer::from_host_vec(&device, vec![1.0_f32]).unwrap();
    let mut y = x.try_clone().unwrap();
    fake::fail("hipModuleLaunchKernel", 1, hipError_t::hipErrorLaunchFailure);
    let error = scale(&kernel, ONE_BLOCK, &mut y, &x, 1.0).unwrap_err();
    assert_eq!(error.class(), Some(ErrorClass::Lost));
    assert!(matches!(error, MemError::Hip { .. }) && hip(&device).is_lost());

    let before = device.transfers();
    let calls = fake::calls_of(|| {
        let errors = [
            scale(&kernel, ONE_BLOCK, &mut y, &x, 1.0).unwrap_err(),
            device.synchronize().unwrap_err(),
            x.to_host_vec().unwrap_err(),
            x.try_clone().unwrap_err(),
            y.as_view_mut().unwrap().copy_from_host(&[5.0]).unwrap_err(),
            DeviceBuffer::<f32>::zeroed(&device, 1).unwrap_err(),
            DeviceBuffer::from_host_vec(&device, vec![1.0_f32]).unwrap_err(),
            Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.class(), Some(ErrorClass::Lost));
            let MemError::Lost { source, .. } = &error else { panic!("{error:?}") };
            assert_eq!(
                (source.call, source.code.0),
                ("hipModuleLaunchKernel", 719),
                "the first cause is told"
            );
        }
        assert_eq!(device.transfers(), before);
        drop((x, y, kernel, device));
    });
    assert!(calls.is_empty(), "{calls:?}");
}

#[test]
fn an_error_of_a_drop_is_counted_and_told_by_the_next_operation() {
    let device = open();
    let [first, second] = [1, 2].map(|len| DeviceBuffer::<f32>::zeroed(&device, len).unwrap());
    let kept = DeviceBuffer::from_host_vec(&device, vec![7.0_f32]).unwrap();
    fake::fail("hipFree", 2, hipError_t::hipErrorInvalidValue);
    drop((first, second));
    assert_eq!(device.transfers().drop_errors, 2);
    let error = kept.to_host_vec().unwrap_err();
    assert!(matches!(&error, MemError::Hip { source, .. } if source.call == "hipFree"), "{error:?}");
    assert_eq!(kept.to_host_vec().unwrap(), [7.0], "told once");
}

#[test]
fn a_loss_in_a_drop_is_a_loss() {
    let device = open();
    let [first, second] = [1, 2].map(|len| DeviceBuffer::<f32>::zeroed(&device, len).unwrap());
    fake::fail("hipFree", 1, hipError_t::hipErrorIllegalAddress);
    drop(first);
    let calls = fake::calls_of(|| {
        drop(second);
        let error = device.synchronize().unwrap_err();
        assert!(matches!(&error, MemError::Lost { source, .. } if source.call == "hipFree"), "{error:?}");
        drop(device);
    });
    assert!(calls.is_empty(), "{calls:?}");
}

#[test]
fn an_error_of_a_drop_does_not_cut_a_copy_from_its_wait() {
    let device = open();
    let buffer = DeviceBuffer::from_host_vec(&device, vec![1.0_f32, 2.0]).unwrap();
    let other = DeviceBuffer::<f32>::zeroed(&device, 1).unwrap();
    fake::fail("hipFree", 1, hipError_t::hipErrorInvalidValue);
    drop(other);
    let calls = fake::calls_of(|| drop(buffer.to_host_vec().unwrap_err()));
    assert!(calls.is_empty(), "the error is told before the copy, not between copy and wait: {calls:?}");
}

const INPUT: [f32; 3] = [1.0, -2.0, 3.5];

/// All that a forward pass does to a device: open, allocate, fill, upload, load, launch, copy, download, drop.
fn work(input: &[f32]) -> Result<Vec<f32>, MemError> {
    let device = Device::from_api(fake::api(), 0)?;
    let kernel = Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale")?;
    let mut x = DeviceBuffer::<f32>::zeroed(&device, input.len())?;
    x.as_view_mut()?.copy_from_host(input)?;
    let mut y = DeviceBuffer::<f32>::zeroed(&device, input.len())?;
    scale(&kernel, ONE_BLOCK, &mut y, &x, 2.0)?;
    device.synchronize()?;
    y.try_clone()?.to_host_vec()
}

/// SQLite's protocol: fail the first call, then the second, ..., once and for good, until a run has none to fail.
#[test]
fn each_call_may_fail_with_any_code_once_or_for_good() {
    let expected = INPUT.map(|value| 2.0 * value);
    let calls = fake::calls_of(|| assert_eq!(work(&INPUT).unwrap(), expected));
    assert!(calls.len() > 30, "{calls:?}");
    let mut points = 0;
    for code in
        [1, 2, 3, 4, 98, 100, 101, 200, 209, 214, 304, 700, 702, 719, 720, 999, 12_345].map(hipError_t)
    {
        for times in [1, usize::MAX] {
            for (after, failing) in calls.iter().enumerate() {
                fake::with(|fake| fake.fail = Some(Failure { call: None, after, times, code }));
                one_fault(&expected, failing, code, times == 1);
                points += 1;
            }
        }
    }
    assert!(points > 1000, "{points} points");
}

fn one_fault(expected: &[f32], failing: &'static str, code: hipError_t, once: bool) {
    let input = INPUT;
    let mut result = None;
    let calls = fake::calls_of(|| result = Some(work(&input)));
    let (memory, handles) = fake::with(|fake| {
        (fake.fail, fake.bound) = (None, None);
        (std::mem::take(&mut fake.memory).len(), std::mem::take(&mut fake.handles))
    });
    let what = format!("{failing} returns {}: {calls:?}", code.0);
    let starting = ["hipInit", "hipGetDeviceCount"].contains(&failing);
    let fault = matches!(code.0, 214 | 304 | 700 | 702 | 719 | 720 | 999 | 12_345);
    let gives_back = ["hipFree", "hipModuleUnload", "hipStreamDestroy"].contains(&failing);
    let cleanup = gives_back || ["hipSetDevice", "hipStreamQuery"].contains(&failing);
    assert_eq!(input, INPUT);
    match result.unwrap() {
        Ok(values) => {
            assert_eq!(values, expected, "{what}");
            assert!(cleanup, "an error was swallowed: {what}");
        }
        Err(error) => {
            let class = match code.0 {
                _ if starting => ErrorClass::Unavailable,
                _ if fault => ErrorClass::Lost,
                3 | 4 | 100 | 101 => ErrorClass::Unavailable,
                _ => ErrorClass::Refused,
            };
            assert_eq!(error.class(), Some(class), "{what}");
        }
    }
    if fault && !starting {
        assert_eq!(calls.last(), Some(&failing), "a call after the loss: {what}");
    } else if once && !gives_back {
        assert_eq!((memory, handles), (0, 0), "something was leaked: {what}");
    }
}
