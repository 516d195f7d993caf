//! Test-only: what the tests of every layer share, so that a rule exists once.
//!
//! - [`compare`] is the one comparison, with [`Tolerance`] from bit-equal to a derived bound per element. NaN or an
//!   infinity on one side only is always a failure.
//! - [`SplitMix64`] and the functions beside it make seeded data that is the same on every platform.
//! - [`host_hip`] fills HIP's function table with the kernels' sources compiled for the host, so that the whole HIP path
//!   but the machine code of the images runs on any machine. [`devices`] lists what parity tests run on.
//! - [`Suite`] runs lists of named cases: which of them, seeded by what, and one line that says what ran where.
//! - [`Golden`] reads the committed golden data in [`golden_dir`].
//!
//! What this crate does not do: it holds no model code and no expected results of its own, and nothing but tests
//! depends on it.
//!
//! ```
//! use parity::{Tolerance, compare};
//!
//! let report = compare(&[1.0_f64, 2.0], &[1.0_f32, 2.000_000_2], Tolerance::Ulps(1))?;
//! assert_eq!(report.worst.map(|worst| worst.index), Some(1));
//! assert!(compare(&[1.0_f64], &[f32::NAN], Tolerance::Absolute(1e9)).is_err());
//! # Ok::<(), parity::Mismatch>(())
//! ```

#![deny(unsafe_code)]

mod compare;
mod data;
mod devices;
mod golden;
#[expect(unsafe_code, reason = "a C interface, filled by functions of this process")]
mod host_hip;
mod images;
mod mutate;
mod mutations;
mod number;
mod page;
mod suite;

pub use compare::{Element, Mismatch, Report, Tolerance, compare};
pub use data::{SPECIAL, SplitMix64, positions, uniform, uniform_with_special};
pub use devices::{
    DevicesError, Gpu, PARITY_DEVICES, cpu_and_devices, devices, first_alike, matrix_units, named_devices,
};
pub use golden::{Golden, GoldenError, golden_dir};
pub use host_hip::{
    HOST_HIP_ARCH, SPOILED_BIT, host_hip, host_hip_has, host_hip_with_graphs, spoil_launch, spoiled,
};
pub use images::check_images;
pub use mutate::{mutate, sweep};
pub use mutations::Mutations;
pub use number::{Number, half_ulp, ulp};
pub use page::check_told_counts;
pub use suite::{PARITY_CASE, PARITY_FULL, PARITY_SEED, PARITY_TRIES, Suite, SuiteError, Tally};
