//! The embedded images: there for every architecture, and what the declarations say.

use attention::kernels::{ATTENTION, DECODE_ATTENTION};

#[test]
fn images_are_what_their_declarations_say() {
    parity::check_images(&[&ATTENTION, &DECODE_ATTENTION]);
}
