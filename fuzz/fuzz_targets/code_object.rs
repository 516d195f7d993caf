//! Code objects, bare, in bundles and in compressed bundles, and the check of a kernel in them.
#![no_main]

use gyre_fuzz::ScaleArgs;
use hsaco::{CodeObject, KernelArgs, TargetId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = CodeObject::parse(bytes);
    if let Ok(card) = "gfx1100".parse::<TargetId>()
        && let Ok(object) = CodeObject::parse_for(bytes, &card)
    {
        let _ = object.check(&ScaleArgs::DECL, "gfx1100");
    }
});
