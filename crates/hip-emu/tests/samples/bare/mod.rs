//! Kernels that need no headers: a portability header of their own maps them to the compiler's builtins.

mod atomics;
mod attn_decode;
mod gemv;
mod lds64k;
mod matrix;
mod matrix_builtins;
mod rmsnorm;
mod rope;
