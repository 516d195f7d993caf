//! Tests of the workspace as a whole; see `tests/`. There is no library here.
//!
//! - `arrows`: the layering of ARCHITECTURE.md, compared with `cargo metadata`.
//! - `attention_traffic`: what a decode step's attention moves, against the least possible.
//! - `outside_crate`: a crate outside the workspace builds without network and rotates a tensor.
