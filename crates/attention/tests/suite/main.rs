//! Cache and attention, held to their documents from outside.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod bounds;
mod cache;
mod causality;
#[allow(dead_code, reason = "each test target uses its part")]
mod common;
mod decode;
mod decode_faults;
mod errors;
mod paged;
mod prefix;
mod rotation;
#[allow(dead_code, reason = "each test target uses its part")]
mod truth;
