//! Code objects, bare, in bundles and in compressed bundles.
#![no_main]

use hsaco::{CodeObject, TargetId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = CodeObject::parse(bytes);
    if let Ok(card) = "gfx1100".parse::<TargetId>() {
        let _ = CodeObject::parse_for(bytes, &card);
    }
});
