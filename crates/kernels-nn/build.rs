//! Embeds the committed kernel images. No compiler runs.

fn main() {
    hsaco::build::embed_crate();
}
