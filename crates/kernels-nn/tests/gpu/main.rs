//! The GPU path on every device that `PARITY_DEVICES` lists: by default the kernels' sources compiled for the host, and the
//! images executed by the emulator. All but `linear` equal the CPU bit for bit; `linear` is the same on every device and
//! within its bound of f64. Every test asserts that kernels were launched; nothing here passes on the CPU body.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;
mod fused;
mod linear;
mod linear_tiled;
mod refusals;
mod rows;
mod sampling;

use std::ffi::CString;

use kernels_nn::kernels::{
    ADD, ADD_RMS_NORM, ARGMAX, EMBEDDING, LINEAR, LINEAR_TILED, NORM_LINEAR, RMS_NORM, SAMPLE, SWIGLU,
};
use parity::host_hip_has;

#[test]
fn every_declared_kernel_has_a_host_twin() {
    let sets = [
        &EMBEDDING,
        &RMS_NORM,
        &ADD_RMS_NORM,
        &SWIGLU,
        &ADD,
        &LINEAR,
        &LINEAR_TILED,
        &NORM_LINEAR,
        &ARGMAX,
        &SAMPLE,
    ];
    for symbol in sets.iter().flat_map(|set| set.decl.symbols) {
        assert!(host_hip_has(&CString::new(*symbol).unwrap()), "{symbol} is not in host_kernels.cpp");
    }
}
