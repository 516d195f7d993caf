use std::sync::Arc;

use device_mem::{Device, DeviceBuffer, MemError, View};
use rayon::prelude::*;

use crate::hip::RopeKernels;
use crate::{RopeError, RopeSpec};

/// cos and sin of every position, `[length, rotary_dim / 2]` each, on one device.
///
/// They are computed on the host in f64, times the attention factor, rounded once to f32 and uploaded once, so that
/// they are right to half an ulp at any position and the same bits on every device.
#[derive(Debug)]
pub struct RopeTable {
    spec: RopeSpec,
    length: u32,
    device: Device,
    pub(crate) cos: DeviceBuffer<f32>,
    pub(crate) sin: DeviceBuffer<f32>,
    /// The position axis of each pair, `[rotary_dim / 2]`.
    pub(crate) pair_axis: DeviceBuffer<u32>,
    /// `0..length`, of which [`Positions::span`](crate::Positions::span) takes a part.
    pub(crate) positions: Arc<DeviceBuffer<u32>>,
    /// On a HIP device, its kernels.
    pub(crate) kernels: Option<RopeKernels>,
}

impl RopeTable {
    /// The table of the positions `0..length`. `length` is also the sequence length that
    /// [`Scaling::Dynamic`](crate::Scaling::Dynamic) and [`Scaling::LongRope`](crate::Scaling::LongRope) scale for.
    /// It takes `length * (rotary_dim + 1) * 4` bytes.
    ///
    /// # Errors
    /// [`RopeError::TableSize`] when `length` is 0 or memory cannot hold the table, [`RopeError::Frequency`], or the
    /// device's error.
    pub fn new(spec: &RopeSpec, length: u32, device: &Device) -> Result<RopeTable, RopeError> {
        let inv_freq = spec.inv_freq(length);
        spec.check_frequencies(&inv_freq)?;
        let kernels = match device {
            Device::Cpu => None,
            Device::Hip(hip) => Some(RopeKernels::load(hip)?),
        };
        let (cos, sin) = cos_sin(&inv_freq, spec.attention_factor(), length)?;
        Ok(RopeTable {
            spec: spec.clone(),
            length,
            device: device.clone(),
            cos: DeviceBuffer::from_host_vec(device, cos)?,
            sin: DeviceBuffer::from_host_vec(device, sin)?,
            pair_axis: DeviceBuffer::from_host_vec(device, spec.pair_axis())?,
            positions: Arc::new(DeviceBuffer::from_host_vec(device, Vec::from_iter(0..length))?),
            kernels,
        })
    }

    /// What the table was built from.
    pub fn spec(&self) -> &RopeSpec {
        &self.spec
    }

    /// Positions served: `0..length`.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Where the table lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// cos `[length, rotary_dim / 2]`, where the table lives.
    pub fn cos(&self) -> View<'_, f32> {
        self.cos.as_view()
    }

    /// sin `[length, rotary_dim / 2]`, where the table lives.
    pub fn sin(&self) -> View<'_, f32> {
        self.sin.as_view()
    }

    /// The position axis of each pair `[rotary_dim / 2]`, where the table lives.
    pub fn pair_axis(&self) -> View<'_, u32> {
        self.pair_axis.as_view()
    }

    /// cos, `[length, rotary_dim / 2]`, for tests and dumps; on HIP this is one download.
    ///
    /// # Errors
    /// The device's error.
    pub fn cos_to_host(&self) -> Result<Vec<f32>, MemError> {
        self.cos.to_host_vec()
    }

    /// sin, `[length, rotary_dim / 2]`, for tests and dumps; on HIP this is one download.
    ///
    /// # Errors
    /// The device's error.
    pub fn sin_to_host(&self) -> Result<Vec<f32>, MemError> {
        self.sin.to_host_vec()
    }
}

fn cos_sin(inv_freq: &[f64], factor: f64, length: u32) -> Result<(Vec<f32>, Vec<f32>), RopeError> {
    let pairs = inv_freq.len();
    let (mut cos, mut sin) = (zeros(length, pairs)?, zeros(length, pairs)?);
    let rows = cos.par_chunks_exact_mut(pairs).zip(sin.par_chunks_exact_mut(pairs));
    rows.zip(0..length).for_each(|((cos, sin), position)| {
        for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(inv_freq) {
            let (sin_exact, cos_exact) = (f64::from(position) * frequency).sin_cos();
            *cos = rounded(factor * cos_exact);
            *sin = rounded(factor * sin_exact);
        }
    });
    Ok((cos, sin))
}

fn zeros(length: u32, pairs: usize) -> Result<Vec<f32>, RopeError> {
    let too_large = || RopeError::TableSize { length, pairs };
    let len = usize::try_from(length).ok().and_then(|rows| rows.checked_mul(pairs)).filter(|&len| len > 0);
    let len = len.ok_or_else(too_large)?;
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(len).map_err(|_| too_large())?;
    zeros.resize(len, 0.0);
    Ok(zeros)
}

#[expect(clippy::cast_possible_truncation, reason = "the one rounding of the table, to nearest even")]
fn rounded(value: f64) -> f32 {
    value as f32
}
