//! What the tests of the GPU path share.

use device_mem::{Device, DeviceBuffer, Element, Float, RanOn};
use kernels_nn::{NnError, RmsNorm};
use parity::{Gpu, Tolerance, compare, uniform};

/// The devices under test; none is the CPU.
pub(crate) fn gpus() -> Vec<Gpu> {
    parity::devices().unwrap()
}

pub(crate) fn gpu() -> Gpu {
    gpus().swap_remove(0)
}

pub(crate) fn on<T: Element>(device: &Device, values: &[T]) -> DeviceBuffer<T> {
    DeviceBuffer::from_host_vec(device, values.to_vec()).unwrap()
}

/// Not zeros, so that an element that is not written shows.
pub(crate) fn unwritten(device: &Device, len: usize) -> DeviceBuffer<f32> {
    on(device, &vec![-77.25; len])
}

/// Runs an operation, and asserts that on a HIP device it is one launch and nothing else.
pub(crate) fn counted(device: &Device, run: impl FnOnce() -> Result<RanOn, NnError>) {
    let before = device.transfers();
    let ran_on = run().unwrap();
    let mut expected = before;
    match device {
        Device::Cpu => assert_eq!(ran_on, RanOn::Cpu),
        Device::Hip(_) => {
            assert_eq!(ran_on, RanOn::Hip);
            expected.launches += 1;
        }
    }
    assert_eq!(device.transfers(), expected, "one launch: no copy, no allocation, no wait");
}

/// Runs on the CPU and on every device, and compares all bits.
#[track_caller]
pub(crate) fn all_agree<T: parity::Number>(what: &str, run: impl Fn(&Device) -> Vec<T>) {
    let cpu = run(&Device::Cpu);
    for device in gpus() {
        compare(&cpu, &run(&device), Tolerance::Bits)
            .unwrap_or_else(|mismatch| panic!("{what} on {device:?}: {mismatch}"));
    }
}

#[track_caller]
pub(crate) fn unchanged<T: Float>(buffer: &DeviceBuffer<T>, values: &[T]) {
    compare(
        &values.iter().map(|value| value.to_f32()).collect::<Vec<_>>(),
        &buffer.to_host_vec().unwrap().iter().map(|value| value.to_f32()).collect::<Vec<_>>(),
        Tolerance::Bits,
    )
    .unwrap();
}

pub(crate) fn norm_on(device: &Device, seed: u64, width: usize, eps: f32) -> RmsNorm {
    RmsNorm::new(on(device, &uniform::<f32>(seed, width)), eps).unwrap()
}
