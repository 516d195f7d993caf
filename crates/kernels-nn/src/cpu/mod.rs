//! The reference bodies, on slices of host memory whose lengths the callers have proven.

mod linear;
mod rows;

pub(crate) use linear::linear_host;
pub(crate) use rows::{add_host, embed_host, rms_norm_host, swiglu_host};
