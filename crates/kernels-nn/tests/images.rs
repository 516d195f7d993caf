//! The embedded images: there for every architecture, and what the declarations say.

use kernels_nn::kernels::{
    ADD, ADD_RMS_NORM, ARGMAX, EMBEDDING, LINEAR, LINEAR_TILED, NORM_LINEAR, RMS_NORM, SAMPLE, SWIGLU,
};

#[test]
fn images_are_what_their_declarations_say() {
    parity::check_images(&[
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
    ]);
}
