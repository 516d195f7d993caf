//! The operations and the sampler, held to their documents from outside.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;
mod errors;
mod linear;
mod quantized;
mod rows;
mod sampling;
