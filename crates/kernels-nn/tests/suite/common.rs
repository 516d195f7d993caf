//! What the tests of this crate share.

use device_mem::{DType, Device, DeviceBuffer, Element, Float};
use kernels_nn::Weight;

/// Half the distance from 1 to the next f32.
pub(crate) const U: f64 = 5.960_464_477_539_063e-8;

/// Higham's `gamma_n`: what `n` roundings can do to a value, as a share of it.
pub(crate) fn gamma(n: usize) -> f64 {
    let error = n as f64 * U;
    error / (1.0 - error)
}

pub(crate) fn cpu<T: Element>(values: &[T]) -> DeviceBuffer<T> {
    DeviceBuffer::from_host_vec(&Device::Cpu, values.to_vec()).unwrap()
}

pub(crate) fn zeros(len: usize) -> DeviceBuffer<f32> {
    DeviceBuffer::zeroed(&Device::Cpu, len).unwrap()
}

pub(crate) const WEIGHT_TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// `values` rounded to `dtype`, as a weight and exactly.
pub(crate) fn weight(dtype: DType, values: &[f32]) -> (Weight, Vec<f64>) {
    match dtype {
        DType::F32 => weight_of(values, Weight::F32),
        DType::F16 => weight_of(values, Weight::F16),
        DType::BF16 => weight_of(values, Weight::BF16),
        other => panic!("no weight is {other}"),
    }
}

fn weight_of<T: Float>(values: &[f32], wrap: fn(DeviceBuffer<T>) -> Weight) -> (Weight, Vec<f64>) {
    let rounded = Vec::from_iter(values.iter().map(|&value| T::from_f32(value)));
    (wrap(cpu(&rounded)), rounded.iter().map(|value| f64::from(value.to_f32())).collect())
}

pub(crate) fn in_pool<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}
