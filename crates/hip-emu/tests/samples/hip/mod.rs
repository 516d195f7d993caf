//! Kernels that include HIP's headers, here the prelude's.

mod awkward;
mod elementwise;
mod flash_decode;
mod gemm_lds;
mod gemm_wmma;
mod gemv_q4;
mod rmsnorm;
mod rope;
mod softmax;
mod topk;
