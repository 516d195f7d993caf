//! The embedded images: there for every architecture, and what the declarations say.

use hsaco::{CodeObject, ImageSet, Origin};
use kernels_nn::kernels::{
    ADD, ADD_RMS_NORM, ARGMAX, EMBEDDING, LINEAR, LINEAR_TILED, NORM_LINEAR, RMS_NORM, SAMPLE, SWIGLU,
};

const SETS: [&ImageSet; 10] = [
    &EMBEDDING,
    &RMS_NORM,
    &ADD_RMS_NORM,
    &SWIGLU,
    &ADD,
    &LINEAR,
    &LINEAR_TILED,
    &NORM_LINEAR,
    &ARGMAX,
    &SAMPLE,
];
const CARDS: [&str; 8] =
    ["gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1101", "gfx1151", "gfx1200", "gfx1201"];
const FAMILIES: [&str; 6] = [
    "gfx9-generic",
    "gfx9-4-generic",
    "gfx10-1-generic",
    "gfx10-3-generic",
    "gfx11-generic",
    "gfx12-generic",
];

#[test]
fn every_architecture_is_embedded_and_passes_the_load_check() {
    for set in SETS {
        assert_eq!(set.images.len(), CARDS.len() + FAMILIES.len(), "{}", set.decl.family);
        for arch in CARDS.iter().chain(&FAMILIES) {
            let selected = set.select(arch).unwrap();
            assert_eq!((selected.target.to_string().as_str(), selected.origin), (*arch, Origin::Embedded));
        }
    }
}

#[test]
fn waves_have_the_size_of_their_architecture_and_nothing_spills() {
    for set in SETS {
        for image in set.images {
            let object = CodeObject::parse(image.bytes).unwrap();
            let lanes = if image.arch.starts_with("gfx9") { 64 } else { 32 };
            assert_eq!(object.kernels().len(), set.decl.symbols.len());
            for kernel in object.kernels() {
                assert_eq!(kernel.wavefront_size, lanes, "{} for {}", kernel.name, image.arch);
                assert_eq!(
                    (kernel.scratch, kernel.vgpr_spills, kernel.sgpr_spills),
                    (0, 0, 0),
                    "{}",
                    kernel.name
                );
            }
        }
    }
}
