//! What runs each kernel: shapes that are small and together go every way through it, in data that lets no change hide.

use anyhow::Result;
use device_mem::{Device, DeviceBuffer, Element};
use hsaco::ImageSet;

use crate::hip::Blocks;
use crate::{attending, layers, rotating};

/// A kernel, and how it is run.
pub(crate) struct Case {
    pub(crate) kernel: &'static str,
    pub(crate) images: &'static ImageSet,
    pub(crate) run: fn(&Device) -> Result<Vec<f32>>,
    /// How far each element may be from the CPU's; `None` where all bits are the same.
    pub(crate) bounds: Option<fn() -> Result<Vec<f64>>>,
    /// The fewest blocks that do all of the work, where blocks take it in turn: the kernel is then run with these too.
    pub(crate) fewest: Option<Blocks>,
}

pub(crate) fn all() -> Vec<Case> {
    [rotating::cases(), attending::cases(), layers::cases()].into_iter().flatten().collect()
}

pub(crate) fn on<T: Element>(device: &Device, values: &[T]) -> Result<DeviceBuffer<T>> {
    Ok(DeviceBuffer::from_host_vec(device, values.to_vec())?)
}

/// Not zeros, so that an element that is not written shows.
pub(crate) fn unwritten(device: &Device, len: usize) -> Result<DeviceBuffer<f32>> {
    on(device, &vec![-77.25; len])
}

/// Numbers whose bits a comparison of f32 sees.
pub(crate) fn as_f32(values: &[u32]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
