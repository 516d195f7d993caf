//! GGUF files: the reader on right and wrong files, and models, tokenizers and templates from them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blocks;
mod builder;
mod convert;
mod divergence;
mod model;
mod mutate;
mod reader;
mod text;
mod written;
