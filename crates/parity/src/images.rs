use std::ffi::CString;

use hsaco::{CodeObject, ImageSet, Origin};

use crate::host_hip_has;

/// Every target that a crate embeds an image for.
const TARGETS: [&str; 14] = [
    "gfx90a",
    "gfx942",
    "gfx1030",
    "gfx1100",
    "gfx1101",
    "gfx1151",
    "gfx1200",
    "gfx1201",
    "gfx9-generic",
    "gfx9-4-generic",
    "gfx10-1-generic",
    "gfx10-3-generic",
    "gfx11-generic",
    "gfx12-generic",
];

/// Holds a crate's embedded images to their declarations: one for every target, which is chosen for it and passes the
/// load check; page-aligned; exactly the declared kernels, in waves of the target's size, with no scratch and no spill;
/// and each kernel compiled for the host as well.
///
/// # Panics
/// Where one does not hold, as an assertion of the calling test.
pub fn check_images(sets: &[&ImageSet]) {
    for set in sets {
        assert_eq!(set.images.len(), TARGETS.len(), "{}", set.decl.family);
        for target in TARGETS {
            let selected = set.select(target).unwrap_or_else(|error| panic!("{target}: {error}"));
            assert_eq!((selected.target.to_string().as_str(), selected.origin), (target, Origin::Embedded));
        }
        for image in set.images {
            assert_eq!(image.bytes.as_ptr().addr() % 4096, 0, "{} for {}", set.decl.family, image.arch);
            let object =
                CodeObject::parse(image.bytes).unwrap_or_else(|error| panic!("{}: {error}", image.arch));
            let lanes = if image.arch.starts_with("gfx9") { 64 } else { 32 };
            assert_eq!(
                object.kernels().len(),
                set.decl.symbols.len(),
                "{} for {}",
                set.decl.family,
                image.arch
            );
            for kernel in object.kernels() {
                let place = format!("{} for {}", kernel.name, image.arch);
                assert!(set.decl.symbols.contains(&kernel.name.as_str()), "{place} is not declared");
                assert_eq!(kernel.wavefront_size, lanes, "{place}");
                assert_eq!((kernel.scratch, kernel.vgpr_spills, kernel.sgpr_spills), (0, 0, 0), "{place}");
            }
        }
        for symbol in set.decl.symbols {
            let known = CString::new(*symbol).is_ok_and(|name| host_hip_has(&name));
            assert!(known, "{symbol} is not in host_kernels.cpp");
        }
    }
}
