use std::ffi::CString;

use hsaco::{CodeObject, HsacoError, Image, ImageSet, KernelInfo, Origin, Ptx};

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

/// Those of NVIDIA's that a crate embeds PTX for with its feature `cuda`.
const PTX_TARGETS: [&str; 1] = ["sm_80"];

/// Holds a crate's embedded images to their declarations: one for every target, of NVIDIA's with `with_ptx` alone, which is chosen for it and passes the
/// load check; page-aligned; exactly the declared kernels, in waves of the target's size, with no scratch and no spill;
/// and each kernel compiled for the host as well.
///
/// # Panics
/// Where one does not hold, as an assertion of the calling test.
pub fn check_images(sets: &[&ImageSet], with_ptx: bool) {
    let targets: Vec<&str> =
        TARGETS.into_iter().chain(PTX_TARGETS.into_iter().filter(|_| with_ptx)).collect();
    for set in sets {
        assert_eq!(set.images.len(), targets.len(), "{}", set.decl.family);
        for &target in &targets {
            let selected = set.select(target).unwrap_or_else(|error| panic!("{target}: {error}"));
            assert_eq!((selected.target.to_string().as_str(), selected.origin), (target, Origin::Embedded));
        }
        for image in set.images {
            assert_eq!(image.bytes.as_ptr().addr() % 4096, 0, "{} for {}", set.decl.family, image.arch);
            let kernels = kernels(image).unwrap_or_else(|error| panic!("{}: {error}", image.arch));
            let lanes = if image.arch.starts_with("gfx9") { 64 } else { 32 };
            assert_eq!(kernels.len(), set.decl.symbols.len(), "{} for {}", set.decl.family, image.arch);
            for kernel in kernels {
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

fn kernels(image: &Image) -> Result<Vec<KernelInfo>, HsacoError> {
    if PTX_TARGETS.contains(&image.arch) {
        Ok(Ptx::parse(image.bytes)?.kernels().to_vec())
    } else {
        Ok(CodeObject::parse(image.bytes)?.kernels().to_vec())
    }
}
