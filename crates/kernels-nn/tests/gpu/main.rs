//! The GPU path on every device that `PARITY_DEVICES` lists: by default the kernels' sources compiled for the host, and the
//! images executed by the emulator. All but `linear` equal the CPU bit for bit; `linear` is the same on every device and
//! within its bound of f64. Every test asserts that kernels were launched; nothing here passes on the CPU body.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod blocks;
mod common;
mod fused;
mod linear;
mod linear_tiled;
mod refusals;
mod rows;
mod sampling;
