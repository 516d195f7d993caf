use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::{CodeObject, HsacoError, KernelDecl, Ptx, TargetId};

/// Bytes at a page boundary, where loaders want an image to start.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Aligned<B: ?Sized>(pub B);

/// One embedded image.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Its target: `gfx1100`, `gfx11-generic`, `gfx90a:xnack-`, `sm_80`.
    pub arch: &'static str,
    /// The bare ELF, or the PTX, at a page boundary.
    pub bytes: &'static [u8],
    /// SHA-256 of the bytes, in hexadecimal.
    pub sha256: &'static str,
    /// Version line of the compiler that made it.
    pub compiler: &'static str,
}

/// The images of one kernel, by target.
#[derive(Clone, Copy, Debug)]
pub struct ImageSet {
    /// What each of them must look like.
    pub decl: KernelDecl,
    /// At most one per target.
    pub images: &'static [Image],
}

/// An image that was chosen and checked.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The bare ELF, or PTX and the NUL that a driver ends it by.
    pub bytes: Cow<'static, [u8]>,
    /// The target it is for, which is the card's processor or its family, or an earlier compute capability.
    pub target: TargetId,
    /// Where it is from.
    pub origin: Origin,
}

/// Where an image is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was embedded at build time.
    Embedded,
    /// The file that the kernel's variable names.
    File(PathBuf),
}

impl ImageSet {
    /// The image to load on `card`, which is HIP's full `gcnArchName` (`gfx90a:sramecc+:xnack-`): the file that the
    /// kernel's variable names, else [`ImageSet::select`].
    ///
    /// # Errors
    /// As [`image_override`] and [`ImageSet::select`].
    pub fn load(&self, card: &str) -> Result<Selected, HsacoError> {
        match image_override(&self.decl, card)? {
            Some(selected) => Ok(selected),
            None => self.select(card),
        }
    }

    /// The embedded image for `card`: one for its processor, with the settings (xnack, sramecc) it has, else one for
    /// the generic family that contains it, or the latest earlier compute capability. It is checked against the declaration.
    ///
    /// # Errors
    /// [`HsacoError::NoImage`] naming the card, what is embedded and the command that adds it;
    /// [`HsacoError::BadTarget`] when `card` is no target; what [`CodeObject::check`] or [`Ptx::check`] finds.
    pub fn select(&self, card: &str) -> Result<Selected, HsacoError> {
        let card_target: TargetId = card.parse()?;
        let mut best: Option<(TargetId, &Image)> = None;
        for image in self.images {
            let target: TargetId = image.arch.parse()?;
            let better = best.as_ref().is_none_or(|(chosen, _)| target.precedence() > chosen.precedence());
            if target.runs_on(&card_target) && better {
                best = Some((target, image));
            }
        }
        let (target, image) = best.ok_or_else(|| HsacoError::NoImage {
            family: self.decl.family,
            card: card.to_owned(),
            arch: card_target.processor.clone(),
            embedded: self.images.iter().map(|image| image.arch).collect(),
            variable: self.decl.variable,
        })?;
        let bytes = if target.is_nvidia() {
            let ptx = Ptx::parse(image.bytes)?;
            ptx.check(&self.decl, image.arch)?;
            Cow::Owned(with_nul(&ptx))
        } else {
            CodeObject::parse(image.bytes)?.check(&self.decl, image.arch)?;
            Cow::Borrowed(image.bytes)
        };
        Ok(Selected { bytes, target, origin: Origin::Embedded })
    }
}

/// The image that the kernel's variable (`ROPE_HSACO`) names, as [`image_from_file`] takes it; `None` when the variable is
/// not set or empty.
///
/// # Errors
/// As [`image_from_file`].
pub fn image_override(decl: &KernelDecl, card: &str) -> Result<Option<Selected>, HsacoError> {
    let path = env::var_os(decl.variable).filter(|path| path != OsStr::new(""));
    path.map(|path| image_from_file(decl, Path::new(&path), card)).transpose()
}

/// The image in a file that no other user can replace, checked against the declaration and for `card`. The file is read once:
/// what is given is what was checked.
///
/// # Errors
/// [`HsacoError::OverrideUnreadable`] when the file cannot be read, [`HsacoError::OverrideExposed`] when others could put
/// another in its place, [`HsacoError::OverrideRefused`] with the cause when it is truncated, for another card, or of
/// another kernel. All name the variable and the path.
pub fn image_from_file(decl: &KernelDecl, path: &Path, card: &str) -> Result<Selected, HsacoError> {
    let variable = decl.variable;
    let unreadable = |source| {
        let path = path.to_owned();
        HsacoError::OverrideUnreadable { variable, path, source }
    };
    if let Some(exposed) = exposed(path).map_err(unreadable)? {
        return Err(HsacoError::OverrideExposed { variable, path: path.to_owned(), exposed });
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    checked_file(decl, &bytes, path, card).map_err(|source| {
        let (path, source) = (path.to_owned(), Box::new(source));
        HsacoError::OverrideRefused { variable, path, source }
    })
}

/// What other users could put another file in the place of `path` by: the file, or a folder on the way to it, that anyone may
/// write to, or that is another user's in a folder that anyone may write to.
#[cfg(unix)]
fn exposed(path: &Path) -> io::Result<Option<PathBuf>> {
    use std::os::unix::fs::MetadataExt;

    const OTHERS_WRITE: u32 = 0o002;
    const ONLY_OWNERS_REMOVE: u32 = 0o1000;
    const MOST_LINKS: usize = 40;
    // The process's own entry belongs to its user; without one, to nobody that could be told from others.
    let me = fs::metadata("/proc/self").map(|me| me.uid()).ok();
    let foreign = |uid: u32| uid != 0 && me.is_some_and(|me| me != uid);
    let mut path = std::path::absolute(path)?;
    for _ in 0..MOST_LINKS {
        let found = fs::symlink_metadata(&path)?;
        let Some(folder) = path.parent() else { return Ok(None) };
        let (mut uid, mut inner) = (found.uid(), path.clone());
        for folder in folder.canonicalize()?.ancestors() {
            let found = fs::metadata(folder)?;
            if found.mode() & OTHERS_WRITE != 0 {
                if found.mode() & ONLY_OWNERS_REMOVE == 0 {
                    return Ok(Some(folder.to_owned()));
                }
                if foreign(uid) {
                    return Ok(Some(inner));
                }
            }
            (uid, inner) = (found.uid(), folder.to_owned());
        }
        if !found.is_symlink() {
            return Ok((found.mode() & OTHERS_WRITE != 0).then_some(path));
        }
        path = folder.join(fs::read_link(&path)?);
    }
    Err(io::Error::other("too many links"))
}

/// Other systems have permissions of other kinds, which are not looked at.
#[cfg(not(unix))]
fn exposed(_path: &Path) -> io::Result<Option<PathBuf>> {
    Ok(None)
}

fn checked_file(decl: &KernelDecl, bytes: &[u8], path: &Path, card: &str) -> Result<Selected, HsacoError> {
    let card: TargetId = card.parse()?;
    let (target, bytes) = if card.is_nvidia() {
        let ptx = Ptx::parse(bytes)?;
        let target = expect_runs_on(ptx.target(), &card)?;
        ptx.check(decl, &target.to_string())?;
        (target, with_nul(&ptx))
    } else {
        let object = CodeObject::parse_for(bytes, &card)?;
        let target = expect_runs_on(object.target(), &card)?;
        object.check(decl, &target.to_string())?;
        (target, object.elf().to_vec())
    };
    Ok(Selected { bytes: Cow::Owned(bytes), target, origin: Origin::File(path.to_owned()) })
}

fn expect_runs_on(target: &TargetId, card: &TargetId) -> Result<TargetId, HsacoError> {
    if target.runs_on(card) {
        return Ok(target.clone());
    }
    Err(HsacoError::WrongTarget { expected: card.to_string(), found: target.to_string() })
}

fn with_nul(ptx: &Ptx<'_>) -> Vec<u8> {
    let mut bytes = ptx.text().as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// The images of `family` among those that a build script embedded; none when it embedded none, which
/// [`ImageSet::select`] then reports.
pub const fn images_of(families: &[(&str, &'static [Image])], family: &str) -> &'static [Image] {
    let mut at = 0;
    while at < families.len() {
        if same_text(families[at].0, family) {
            return families[at].1;
        }
        at += 1;
    }
    &[]
}

const fn same_text(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArgDecl, ArgKind};

    const GFX1100: &[u8] = include_bytes!("../tests/images/scale.gfx1100.elf");
    const GFX11_GENERIC: &[u8] = include_bytes!("../tests/images/scale.gfx11-generic.elf");
    const GFX90A: &[u8] = include_bytes!("../tests/images/scale.gfx90a.elf");
    const SM_80: &[u8] = include_bytes!("../tests/images/scale.sm_80.ptx");

    const fn image(arch: &'static str, bytes: &'static [u8]) -> Image {
        Image { arch, bytes, sha256: "", compiler: "" }
    }

    const SET: ImageSet = ImageSet {
        decl: KernelDecl {
            family: "scale",
            source: "scale.hip",
            image: "scale_kernel.hsaco",
            variable: "SCALE_HSACO",
            symbols: &["reverse"],
            args: &[ArgDecl { name: "x", offset: 0, size: 8, kind: ArgKind::Pointer }],
            max_block: 64,
        },
        images: &[
            image("gfx11-generic", GFX11_GENERIC),
            image("gfx1100", GFX1100),
            image("gfx90a:xnack-", GFX90A),
        ],
    };

    fn chosen(card: &str) -> String {
        SET.select(card).unwrap().target.to_string()
    }

    #[test]
    fn the_card_itself_comes_before_its_family() {
        assert_eq!(chosen("gfx1100"), "gfx1100");
        assert_eq!(chosen("gfx1103"), "gfx11-generic");
        assert_eq!(chosen("gfx90a:sramecc+:xnack-"), "gfx90a:xnack-");
        let reversed: Vec<_> = SET.images.iter().rev().copied().collect();
        let reversed = ImageSet { images: reversed.leak(), ..SET };
        assert_eq!(reversed.select("gfx1100").unwrap().target.to_string(), "gfx1100");
    }

    #[test]
    fn a_card_of_nvidias_gets_ptx_and_a_nul() {
        const WITH_PTX: &[Image] = &[image("gfx1100", GFX1100), image("sm_80", SM_80)];
        let set = ImageSet { images: WITH_PTX, ..SET };
        for card in ["sm_80", "sm_90", "sm_120"] {
            let selected = set.select(card).unwrap();
            assert_eq!(selected.target.to_string(), "sm_80");
            assert_eq!(*selected.bytes, *[SM_80, &[0]].concat());
        }
        assert_eq!(set.select("gfx1100").unwrap().target.to_string(), "gfx1100");
        let error = set.select("sm_75").unwrap_err().to_string();
        assert!(error.contains("[gfx1100, sm_80]") && error.contains("--arch sm_75"), "{error}");
        let selected = override_with(SM_80, "sm_90").unwrap();
        assert_eq!(*selected.bytes, *[SM_80, &[0]].concat());
        assert!(matches!(override_with(SM_80, "gfx1100"), Err(HsacoError::OverrideRefused { .. })));
        assert!(matches!(override_with(GFX1100, "sm_90"), Err(HsacoError::OverrideRefused { .. })));
    }

    #[test]
    fn a_card_without_an_image_is_told_what_to_do() {
        let error = SET.select("gfx90a:sramecc+:xnack+").unwrap_err();
        assert!(matches!(error, HsacoError::NoImage { .. }));
        let text = error.to_string();
        for part in [
            "gfx90a:sramecc+:xnack+",
            "[gfx11-generic, gfx1100, gfx90a:xnack-]",
            "cargo xtask build-kernels --arch gfx90a",
            "SCALE_HSACO",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(matches!(SET.select("AMD Radeon"), Err(HsacoError::BadTarget { .. })));
        assert!(matches!(ImageSet { images: &[], ..SET }.select("gfx1100"), Err(HsacoError::NoImage { .. })));
    }

    #[test]
    fn an_embedded_image_is_checked_before_use() {
        const MISLABELLED: &[Image] = &[image("gfx1100", GFX90A)];
        let mislabelled = ImageSet { images: MISLABELLED, ..SET };
        assert!(matches!(mislabelled.select("gfx1100"), Err(HsacoError::WrongTarget { .. })));
        let large = ImageSet { decl: KernelDecl { max_block: 256, ..SET.decl }, ..SET };
        assert!(matches!(large.select("gfx1100"), Err(HsacoError::BlockLimit { .. })));
    }

    /// Uses `bytes` as the file that the variable names.
    fn override_with(bytes: &[u8], card: &str) -> Result<Selected, HsacoError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.hsaco");
        fs::write(&path, bytes).unwrap();
        image_from_file(&SET.decl, &path, card)
    }

    #[test]
    fn a_file_takes_the_embedded_images_place_if_it_fits() {
        let selected = override_with(GFX11_GENERIC, "gfx1151").unwrap();
        assert_eq!(&*selected.bytes, GFX11_GENERIC);
        assert!(matches!(selected.origin, Origin::File(path) if path.ends_with("mine.hsaco")));
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused_by_name() {
        let missing = image_from_file(&SET.decl, Path::new("nowhere/mine.hsaco"), "gfx1100").unwrap_err();
        assert!(matches!(missing, HsacoError::OverrideUnreadable { .. }));
        assert!(missing.to_string().starts_with("SCALE_HSACO=nowhere/mine.hsaco"), "{missing}");

        let cause = |bytes: &[u8], card: &str| match override_with(bytes, card).unwrap_err() {
            HsacoError::OverrideRefused { variable: "SCALE_HSACO", path, source }
                if path.ends_with("mine.hsaco") =>
            {
                *source
            }
            other => panic!("{other}"),
        };
        assert!(matches!(cause(&GFX1100[..4000], "gfx1100"), HsacoError::BadElf { .. }));
        assert!(matches!(cause(GFX1100, "gfx1201"), HsacoError::WrongTarget { .. }));
        assert!(matches!(cause(GFX90A, "gfx90a:sramecc+:xnack+"), HsacoError::WrongTarget { .. }));
        assert!(matches!(cause(b"", "gfx1100"), HsacoError::NotACodeObject { .. }));
    }

    #[test]
    fn families_are_found_by_name() {
        const FAMILIES: &[(&str, &[Image])] = &[("rope", &[]), ("scale", &[image("gfx1100", GFX1100)])];
        const FOUND: &[Image] = images_of(FAMILIES, "scale");
        assert_eq!(FOUND.len(), 1);
        assert!(images_of(FAMILIES, "rope").is_empty() && images_of(FAMILIES, "scalf").is_empty());
    }
}
