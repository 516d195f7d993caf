//! Execution: translated code, waves, work-groups.

mod atomic_ops;
mod bodies;
mod buffers;
mod cdna;
mod check;
mod control;
mod division;
mod element;
mod environment;
mod exact;
mod extremes;
mod fidelity;
mod float;
mod float8;
mod formats;
mod group;
mod indexing;
mod lacks;
mod lanes;
mod matrix;
mod memory_ops;
mod mfma;
mod mode;
mod names;
mod one_lane;
mod op;
mod packed;
mod placement;
mod scalar_ops;
mod shape;
mod space;
mod split_matrix;
mod start;
mod sub_dword;
mod table;
#[cfg(test)]
mod tests;
mod translate;
mod typed_buffers;
mod vector_float;
mod vector_int;
mod vector_rare;
mod watch;
mod wave;

pub(crate) use group::{Code, Dispatched, run};
pub(crate) use op::{PRIVATE_APERTURE, SHARED_APERTURE};
