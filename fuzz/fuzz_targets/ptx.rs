//! Kernels as PTX, and the check of one of them.
#![no_main]

use hsaco::{KernelArgs, KernelPointer, Ptx};
use libfuzzer_sys::fuzz_target;

hsaco::kernel! {
    /// `y[i] = factor * x[i]` for `i < length`.
    pub struct ScaleArgs: "scale" => [scale], variable "SCALE_HSACO", max_block 256 {
        /// `[length]`, written.
        y: KernelPointer,
        /// `[length]`.
        x: KernelPointer,
        /// Factor of `x`.
        factor: f32,
        /// Elements.
        length: u64,
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ptx) = Ptx::parse(bytes) {
        let _ = ptx.check(&ScaleArgs::DECL, "sm_80");
        let _ = (ptx.loose_operation(), ptx.fused_operation());
    }
});
