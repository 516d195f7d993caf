//! The embedded images: there for every architecture, aligned, and what the declarations say.

use hsaco::{CodeObject, ImageSet, Origin};
use kernels_rope::kernels::{APPEND_KV, POSITION_EMBEDDINGS, ROPE};

const SETS: [ImageSet; 3] = [ROPE, POSITION_EMBEDDINGS, APPEND_KV];

#[test]
fn rope_04_every_architecture_is_embedded_and_passes_the_load_check() {
    let cards = ["gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1101", "gfx1151", "gfx1200", "gfx1201"];
    let families = [
        "gfx9-generic",
        "gfx9-4-generic",
        "gfx10-1-generic",
        "gfx10-3-generic",
        "gfx11-generic",
        "gfx12-generic",
    ];
    for set in SETS {
        let embedded: Vec<_> = set.images.iter().map(|image| image.arch).collect();
        assert_eq!(embedded.len(), cards.len() + families.len(), "{embedded:?}");
        for arch in cards.iter().chain(&families) {
            let selected = set.select(arch).unwrap();
            assert_eq!(selected.target.to_string(), *arch);
            assert_eq!(selected.origin, Origin::Embedded);
        }
    }
}

#[test]
fn rope_04_cards_get_their_own_image_or_their_familys() {
    for set in SETS {
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

#[test]
fn images_start_at_a_page_and_hold_only_declared_kernels() {
    for set in SETS {
        for image in set.images {
            assert_eq!(image.bytes.as_ptr().addr() % 4096, 0, "{}", image.arch);
            let object = CodeObject::parse(image.bytes).unwrap();
            assert!(object.kernels().iter().all(|kernel| set.decl.symbols.contains(&kernel.name.as_str())));
            assert_eq!(object.kernels().len(), set.decl.symbols.len());
        }
    }
}
