//! Kernels as PTX, and the check of one of them.
#![no_main]

use gyre_fuzz::ScaleArgs;
use hsaco::{KernelArgs, Ptx};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ptx) = Ptx::parse(bytes) {
        let _ = ptx.check(&ScaleArgs::DECL, "sm_80");
        let _ = (ptx.loose_operation(), ptx.fused_operation());
    }
});
