//! The reference bodies, on slices of host memory whose lengths the callers have proven.

mod fused;
mod linear;
mod norm;
mod quantized;
mod rows;
mod sampling;
#[expect(unsafe_code, reason = "vector instructions, each with its proof")]
mod simd;
mod tiled;

pub(crate) use fused::{norm_linear_host, norm_swiglu_host};
pub(crate) use linear::{HostLinear, MOST_LAYERS, linear_host};
pub(crate) use norm::{HostNorm, add_rms_norm_host, inverse_width, rms_norm_host, rms_norm_in_place_host};
pub(crate) use rows::{add_host, embed_host, swiglu_host};
pub(crate) use sampling::{Candidate, argmax_host, choose, first_maximum, sample_host};

/// Elements that are worth a task of their own.
const TASK_LEN: usize = 1 << 14;
