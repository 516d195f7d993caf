//! Tests of the workspace as a whole; see `tests/`. There is no library here.
//!
//! - `arrows`: the layering of ARCHITECTURE.md, compared with `cargo metadata`.
//! - `outside_crate`: a crate outside the workspace builds without network and rotates a tensor.
