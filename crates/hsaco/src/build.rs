//! What stands beside the images, for build scripts and for the tool that compiles kernels.
//!
//! A crate keeps its images in `hsaco/<arch>/<family>_kernel.hsaco`, or `.ptx`, and a [`Manifest`] in `hsaco/manifest.json`. Its
//! build script is one call of [`embed_crate`]; no compiler runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ArgInfo, KernelInfo, ValueKind};

/// File name of the manifest in a crate's `hsaco` folder.
pub const MANIFEST: &str = "manifest.json";

/// What every image of a crate was made from and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Sorted by family, then architecture.
    pub images: Vec<ImageRow>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// The kernel's family: `rope`.
    pub family: String,
    /// Its target: `gfx1100`, `sm_80`.
    pub arch: String,
    /// File name in `<arch>/`: `rope_kernel.hsaco`.
    pub image: String,
    /// SHA-256 of the image.
    pub sha256: String,
    /// SHA-256 of the source and its headers, see [`source_digest`].
    pub source_sha256: String,
    /// Version line of the compiler.
    pub compiler: String,
    /// Every flag but input and output.
    pub flags: Vec<String>,
    /// The kernels in it.
    pub kernels: Vec<KernelRow>,
}

/// One kernel of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRow {
    /// Entry symbol.
    pub name: String,
    /// `offset+size kind name` of each argument that the source names.
    pub args: Vec<String>,
    /// Bytes of the argument block, hidden arguments included.
    pub kernarg_size: u32,
    /// Bytes of group memory of a block.
    pub lds: u32,
    /// Scalar registers.
    pub sgprs: u32,
    /// Vector registers.
    pub vgprs: u32,
    /// Accumulation registers.
    pub agprs: u32,
    /// Lanes of a wave.
    pub wavefront_size: u32,
    /// The most threads of a block.
    pub max_block: u32,
}

impl KernelRow {
    /// The kernels of an image, sorted by name.
    pub fn of(kernels: &[KernelInfo]) -> Vec<KernelRow> {
        let mut rows: Vec<_> = kernels.iter().map(KernelRow::new).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    fn new(kernel: &KernelInfo) -> KernelRow {
        KernelRow {
            name: kernel.name.clone(),
            args: kernel.explicit_args().map(arg_text).collect(),
            kernarg_size: kernel.kernarg_size,
            lds: kernel.lds,
            sgprs: kernel.sgprs,
            vgprs: kernel.vgprs,
            agprs: kernel.agprs,
            wavefront_size: kernel.wavefront_size,
            max_block: kernel.max_block,
        }
    }
}

fn arg_text(arg: &ArgInfo) -> String {
    let kind = match &arg.kind {
        ValueKind::GlobalBuffer => "pointer",
        ValueKind::ByValue => "value",
        ValueKind::Hidden(_) => "hidden",
        ValueKind::Other(kind) => kind,
    };
    format!("{}+{} {kind} {}", arg.offset, arg.size, arg.name.as_deref().unwrap_or("?"))
}

/// Why images cannot be embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file that cannot be read or written.
    #[error("{}: {source}{}", path.display(), hint(path))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A manifest that is not one.
    #[error("{} is no manifest: {source}; restore it with git", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest row whose names would leave the folder.
    #[error("manifest row `{arch}/{image}` is not a plain file name")]
    RowName {
        /// Folder.
        arch: String,
        /// File.
        image: String,
    },
    /// An image that is not the one of the manifest.
    #[error(
        "{} has SHA-256 {found}, its manifest says {expected}; restore it, or write {{\"images\": []}} to the manifest \
         and run `cargo xtask build-kernels`", path.display()
    )]
    Digest {
        /// The image.
        path: PathBuf,
        /// From the manifest.
        expected: String,
        /// Of the file.
        found: String,
    },
}

fn hint(path: &Path) -> &'static str {
    if path.ends_with(MANIFEST) {
        "; a crate without images yet needs one with {\"images\": []}, which `cargo xtask build-kernels` fills"
    } else {
        ""
    }
}

/// Reads the manifest of an `hsaco` folder.
///
/// # Errors
/// [`BuildError::File`] and [`BuildError::Manifest`].
pub fn read_manifest(folder: &Path) -> Result<Manifest, BuildError> {
    let path = folder.join(MANIFEST);
    let text = read(&path)?;
    serde_json::from_slice(&text).map_err(|source| BuildError::Manifest { path, source })
}

/// SHA-256 in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of named texts, in the order of their names: each name, a zero byte, the text's length (8 bytes, little
/// endian) and the text.
pub fn source_digest(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hasher = Sha256::new();
    for (name, text) in files {
        hasher.update(name.as_bytes());
        hasher.update([0]);
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The whole build script of a crate with images: [`embed`] with the crate's `hsaco` folder and Cargo's output folder, with
/// PTX where the crate's feature `cuda` is on. What is wrong becomes Cargo's error message.
pub fn embed_crate() {
    println!("cargo::rerun-if-changed=hsaco");
    let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from).unwrap_or_default();
    let with_ptx = std::env::var_os("CARGO_FEATURE_CUDA").is_some();
    if let Err(error) = embed(&folder("CARGO_MANIFEST_DIR").join("hsaco"), &folder("OUT_DIR"), with_ptx) {
        println!("cargo::error={error}");
    }
}

/// Compares every image of `folder` with its manifest and writes `images.rs` to `out`: a `const IMAGES` for
/// [`images_of`](crate::images_of), of all images or of all but PTX.
///
/// # Errors
/// [`BuildError`]; a digest that differs is an error, so an edited image never ships.
pub fn embed(folder: &Path, out: &Path, with_ptx: bool) -> Result<(), BuildError> {
    let manifest = read_manifest(folder)?;
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    for row in manifest.images.iter().filter(|row| with_ptx || !row.image.ends_with(".ptx")) {
        let path = image_path(folder, row)?;
        let found = sha256_hex(&read(&path)?);
        if found != row.sha256 {
            return Err(BuildError::Digest { path, expected: row.sha256.clone(), found });
        }
        families.entry(&row.family).or_default().push_str(&image_code(row, &path));
    }
    let families: String =
        families.iter().map(|(family, images)| format!("    ({family:?}, &[\n{images}    ]),\n")).collect();
    let code = format!("const IMAGES: &[(&str, &[::hsaco::Image])] = &[\n{families}];\n");
    let path = out.join("images.rs");
    fs::write(&path, code).map_err(|source| BuildError::File { path, source })
}

/// Path of a row's image. Names are plain, so that no manifest reaches outside its folder.
fn image_path(folder: &Path, row: &ImageRow) -> Result<PathBuf, BuildError> {
    let plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed)
    };
    if !(plain(&row.arch) && plain(&row.image)) {
        return Err(BuildError::RowName { arch: row.arch.clone(), image: row.image.clone() });
    }
    Ok(folder.join(&row.arch).join(&row.image))
}

fn image_code(row: &ImageRow, path: &Path) -> String {
    let ImageRow { arch, sha256, compiler, .. } = row;
    format!(
        "        ::hsaco::Image {{\n            arch: {arch:?},\n            \
         bytes: &::hsaco::Aligned(*include_bytes!({path:?})).0,\n            \
         sha256: {sha256:?},\n            compiler: {compiler:?},\n        }},\n"
    )
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CodeObject;

    const IMAGE: &[u8] = include_bytes!("../tests/images/scale.gfx1100.elf");

    fn row(arch: &str, image: &str) -> ImageRow {
        ImageRow {
            family: "scale".to_owned(),
            arch: arch.to_owned(),
            image: image.to_owned(),
            sha256: sha256_hex(IMAGE),
            source_sha256: String::new(),
            compiler: "clang version 22".to_owned(),
            flags: vec!["-O3".to_owned()],
            kernels: KernelRow::of(CodeObject::parse(IMAGE).unwrap().kernels()),
        }
    }

    /// Embeds a folder with one image and this manifest row.
    fn embed_one(row: &ImageRow) -> Result<String, BuildError> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("gfx1100")).unwrap();
        fs::write(folder.path().join("gfx1100/scale_kernel.hsaco"), IMAGE).unwrap();
        let manifest = serde_json::to_string(&Manifest { images: vec![row.clone()] }).unwrap();
        fs::write(folder.path().join(MANIFEST), manifest).unwrap();
        assert_eq!(read_manifest(folder.path()).unwrap().images, std::slice::from_ref(row));
        embed(folder.path(), folder.path(), true)?;
        Ok(fs::read_to_string(folder.path().join("images.rs")).unwrap())
    }

    #[test]
    fn images_are_embedded_with_what_the_manifest_says() {
        let code = embed_one(&row("gfx1100", "scale_kernel.hsaco")).unwrap();
        for part in ["\"scale\"", "\"gfx1100\"", "clang version 22", &sha256_hex(IMAGE)] {
            assert!(code.contains(part), "{part} is not in {code}");
        }
    }

    #[test]
    fn ptx_is_embedded_where_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sm_80")).unwrap();
        fs::write(folder.path().join("sm_80/scale_kernel.ptx"), IMAGE).unwrap();
        let manifest = Manifest { images: vec![row("sm_80", "scale_kernel.ptx")] };
        fs::write(folder.path().join(MANIFEST), serde_json::to_string(&manifest).unwrap()).unwrap();
        for with_ptx in [false, true] {
            embed(folder.path(), folder.path(), with_ptx).unwrap();
            let code = fs::read_to_string(folder.path().join("images.rs")).unwrap();
            assert_eq!(code.contains("sm_80"), with_ptx, "{code}");
        }
    }

    #[test]
    fn an_image_that_is_not_the_manifests_is_refused() {
        let mut other = row("gfx1100", "scale_kernel.hsaco");
        other.sha256 = sha256_hex(b"other");
        assert!(matches!(embed_one(&other), Err(BuildError::Digest { .. })));
        assert!(matches!(embed_one(&row("gfx942", "scale_kernel.hsaco")), Err(BuildError::File { .. })));
        for (arch, image) in
            [("..", "a"), ("gfx1100", "../a"), ("", "a"), ("gfx1100", "/a"), ("gfx1100", "a\"b")]
        {
            assert!(
                matches!(embed_one(&row(arch, image)), Err(BuildError::RowName { .. })),
                "{arch}/{image}"
            );
        }
    }

    #[test]
    fn a_missing_or_broken_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = embed(folder.path(), folder.path(), true).unwrap_err().to_string();
        assert!(missing.contains(MANIFEST) && missing.contains("build-kernels"), "{missing}");
        fs::write(folder.path().join(MANIFEST), "{").unwrap();
        assert!(matches!(embed(folder.path(), folder.path(), true), Err(BuildError::Manifest { .. })));
    }

    #[test]
    fn rows_list_kernels_by_name_with_their_arguments() {
        let kernels = row("gfx1100", "").kernels;
        assert_eq!(kernels[0].name, "reverse");
        assert_eq!(
            kernels[1].args,
            ["0+8 pointer y", "8+8 pointer x", "16+4 value factor", "24+8 value length"]
        );
    }

    #[test]
    fn digests_are_sha256_and_see_every_part() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b""), empty);
        let digest = |files: &[(&str, &str)]| {
            let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
            source_digest(&files.collect())
        };
        let one = digest(&[("a.hip", "x"), ("b.h", "y")]);
        assert_ne!(one, digest(&[("a.hip", "xy"), ("b.h", "")]));
        assert_ne!(one, digest(&[("a.hip", "x"), ("c.h", "y")]));
    }
}
