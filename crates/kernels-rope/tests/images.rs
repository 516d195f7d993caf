//! The embedded images: there for every architecture, and what the declarations say.

use kernels_rope::kernels::{ALL, POSITION_EMBEDDINGS, ROPE};

#[test]
fn rope_04_images_are_what_their_declarations_say() {
    parity::check_images(&ALL, cfg!(feature = "cuda"));
}

#[test]
fn rope_04_cards_get_their_own_image_or_their_familys() {
    for set in ALL {
        let target = |card: &str| set.select(card).unwrap().target.to_string();
        assert_eq!(target("gfx90a:sramecc+:xnack-"), "gfx90a");
        assert_eq!(target("gfx942:sramecc+:xnack-"), "gfx942");
        assert_eq!(target("gfx950:sramecc+:xnack-"), "gfx9-4-generic");
        assert_eq!(target("gfx906:sramecc-:xnack-"), "gfx9-generic");
        assert_eq!(target("gfx1012:xnack-"), "gfx10-1-generic");
        assert_eq!(target("gfx1036"), "gfx10-3-generic");
        assert_eq!(target("gfx1150"), "gfx11-generic");
        assert!(set.select("gfx908:sramecc-:xnack-").unwrap_err().to_string().contains("--arch gfx908"));
    }
}

#[test]
fn rope_04_names_are_the_documented_ones() {
    assert_eq!((ROPE.decl.image, ROPE.decl.variable), ("rope_kernel.hsaco", "ROPE_HSACO"));
    let decl = POSITION_EMBEDDINGS.decl;
    assert_eq!(
        (decl.image, decl.variable),
        ("position_embeddings_kernel.hsaco", "POSITION_EMBEDDINGS_HSACO")
    );
    assert_eq!(ROPE.decl.symbols, ["rope_f32", "rope_f16", "rope_bf16"]);
}
