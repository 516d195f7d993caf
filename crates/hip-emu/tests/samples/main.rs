//! Runs kernels written for other purposes than this test: each source is compiled for a target of each
//! generation at -O0 and -O3, executed, and held to a reference in f64; and its listing to llvm-objdump's.

#![expect(clippy::unwrap_used, reason = "a test fails where its ground is missing")]

mod bare;
mod card;
mod compare;
mod compile;
mod disassembly;
mod forms;
mod hip;
mod objdump;
mod reference;
