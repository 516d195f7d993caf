//! The embedded images: there for every architecture, and what the declarations say.

#[test]
fn images_are_what_their_declarations_say() {
    parity::check_images(&kernels_nn::kernels::ALL, cfg!(feature = "cuda"));
}
