//! Code objects, bare, in bundles and in compressed bundles, and the check of a kernel in them.
#![no_main]

use hsaco::{CodeObject, KernelArgs, KernelPointer, TargetId};
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
    let _ = CodeObject::parse(bytes);
    if let Ok(card) = "gfx1100".parse::<TargetId>()
        && let Ok(object) = CodeObject::parse_for(bytes, &card)
    {
        let _ = object.check(&ScaleArgs::DECL, "gfx1100");
    }
});
