//! One module per verb.

pub(crate) mod advisories;
pub(crate) mod asan;
pub(crate) mod bench;
#[cfg(feature = "bindgen")]
pub(crate) mod bindgen;
pub(crate) mod build_kernels;
pub(crate) mod ci;
pub(crate) mod doctor;
pub(crate) mod faults;
pub(crate) mod fuzz;
pub(crate) mod instructions;
pub(crate) mod kernel_report;
pub(crate) mod lint;
pub(crate) mod miri;
pub(crate) mod sbom;
pub(crate) mod seeded;
pub(crate) mod setup;
pub(crate) mod test;
pub(crate) mod tidy;
