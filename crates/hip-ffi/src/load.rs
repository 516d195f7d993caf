use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use libloading::Library;
use thiserror::Error;

use crate::HipApi;

/// Where to look for HIP's library, in this order. The fields are filled by [`Search::from_env`]; a test may fill them
/// itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The one file to load, from `HIP_FFI_LIB`. When it is given, nothing else is tried.
    pub file: Option<PathBuf>,
    /// ROCm roots, from `ROCM_PATH` and `HIP_PATH`; the library is in their `lib` folder (`bin` on Windows).
    pub roots: Vec<PathBuf>,
    /// File names, newest first. They are tried in each root and by the system's loader.
    pub names: Vec<String>,
    /// Roots to try after the loader: `/opt/rocm` and its versioned neighbours, newest first.
    pub last_roots: Vec<PathBuf>,
}

/// A place where no usable library was found, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// File path, or a bare name that was given to the system's loader.
    pub place: PathBuf,
    /// What the loader or the file system said.
    pub reason: String,
}

/// The library that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path, or the name that the system's loader resolved.
    pub library: PathBuf,
    /// The places tried before it.
    pub missed: Vec<Miss>,
}

/// Why no table could be filled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no library to load.
    #[error(
        "no HIP library was found; install ROCm's runtime (Debian: libamdhip64-5) or set HIP_FFI_LIB to libamdhip64.so{}",
        Misses(tried)
    )]
    NotFound {
        /// Every place and its reason, in the order tried.
        tried: Vec<Miss>,
    },
    /// The library loads but lacks a function.
    #[error("{} lacks {symbol}, so it is no HIP runtime that this version can use; HIP 5.2 to 7 can be used", library.display())]
    MissingSymbol {
        /// The library.
        library: PathBuf,
        /// The first function that is missing.
        symbol: &'static str,
    },
    /// There is no CUDA driver to load.
    #[error(
        "no CUDA driver was found; install NVIDIA's driver, which brings libcuda.so.1, or set HIP_FFI_CUDA_LIB to it{}",
        Misses(tried)
    )]
    NoDriver {
        /// Every place and its reason, in the order tried.
        tried: Vec<Miss>,
    },
    /// The CUDA driver loads but lacks a function.
    #[error("{} lacks {symbol}, so it is no CUDA driver that this version can use; those of CUDA 11.4 and later can be used", library.display())]
    OldDriver {
        /// The library.
        library: PathBuf,
        /// The first function that is missing.
        symbol: &'static str,
    },
}

struct Misses<'a>(&'a [Miss]);

impl fmt::Display for Misses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|Miss { place, reason }| write!(f, "\nlooked for {}: {reason}", place.display()))
    }
}

impl Search {
    /// What the environment and this machine give: `HIP_FFI_LIB` alone, else `ROCM_PATH`, `HIP_PATH`, the loader's
    /// names, and `/opt/rocm*`. The Windows names are untested.
    pub fn from_env() -> Search {
        Search::from_variables(|name| env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Search {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let names: &[&str] = if cfg!(windows) {
            &["amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll"]
        } else {
            &["libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"]
        };
        Search {
            file: path("HIP_FFI_LIB"),
            roots: ["ROCM_PATH", "HIP_PATH"].into_iter().filter_map(path).collect(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            last_roots: if cfg!(windows) { Vec::new() } else { rocm_roots(Path::new("/opt")) },
        }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.file {
            return vec![file.clone()];
        }
        let folder = if cfg!(windows) { "bin" } else { "lib" };
        let inside = |roots: &[PathBuf]| -> Vec<PathBuf> {
            let places = |root: &PathBuf| {
                self.names.iter().map(|name| root.join(folder).join(name)).collect::<Vec<_>>()
            };
            roots.iter().flat_map(places).collect()
        };
        let by_loader = self.names.iter().map(PathBuf::from);
        inside(&self.roots).into_iter().chain(by_loader).chain(inside(&self.last_roots)).collect()
    }
}

/// `rocm` and `rocm-*` in `parent`, the plain name first, then by version, newest first.
fn rocm_roots(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut versions: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version =
                name.strip_prefix("rocm-")?.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
            Some((version, entry.path()))
        })
        .collect();
    versions.sort_by(|left, right| right.cmp(left));
    let plain = Some(parent.join("rocm")).filter(|root| root.is_dir());
    plain.into_iter().chain(versions.into_iter().map(|(_, root)| root)).collect()
}

impl HipApi {
    /// Loads the first library that `search` names and resolves every function of the table in it.
    ///
    /// A file that is not there or does not load is a [`Miss`], and the search goes on. A library that loads but lacks
    /// a function ends it: going on would hide which installation is broken.
    ///
    /// # Errors
    /// [`LoadError::NotFound`] with every place and its reason, or [`LoadError::MissingSymbol`].
    pub fn load(search: &Search) -> Result<(HipApi, Found), LoadError> {
        let (library, found) = first_library(search).map_err(|tried| LoadError::NotFound { tried })?;
        let table = HipApi::resolve(library);
        let api =
            table.map_err(|symbol| LoadError::MissingSymbol { library: found.library.clone(), symbol })?;
        Ok((api, found))
    }
}

/// Loads the first library that `search` names and that is one; else every place and its reason.
pub(crate) fn first_library(search: &Search) -> Result<(Library, Found), Vec<Miss>> {
    let mut missed = Vec::new();
    for place in search.candidates() {
        // A path that is not there is said plainly; a bare name is the loader's business.
        let is_path = place.components().count() > 1;
        if is_path && !place.is_file() {
            missed.push(Miss { place, reason: String::from("no such file") });
            continue;
        }
        // SAFETY: loading runs the library's initialisers. The place is what the user's environment or an installation
        // names as a GPU's runtime, whose initialisers may run in any process.
        match unsafe { Library::new(&place) } {
            Err(error) => {
                let reason = reason(&error, &place);
                missed.push(Miss { place, reason });
            }
            Ok(library) => return Ok((library, Found { library: place, missed })),
        }
    }
    Err(missed)
}

/// The loader's own words, without libloading's frame around them and the place before them.
fn reason(error: &libloading::Error, place: &Path) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let said = source.unwrap_or_else(|| error.to_string());
    let frame = format!("{}: ", place.display());
    said.strip_prefix(&frame).map(str::to_owned).unwrap_or(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_is_the_only_candidate() {
        let file = PathBuf::from("/somewhere/libamdhip64.so");
        let search = Search { file: Some(file.clone()), ..Search::from_env() };
        assert_eq!(search.candidates(), [file]);
    }

    #[test]
    fn variables_that_are_empty_count_as_unset() {
        let given = |name: &str| match name {
            "ROCM_PATH" => Some(OsString::from("/rocm")),
            "HIP_PATH" => Some(OsString::from("/hip")),
            _ => Some(OsString::new()),
        };
        let search = Search::from_variables(given);
        assert_eq!((search.file, search.roots), (None, vec!["/rocm".into(), "/hip".into()]));
        let empty = Search::from_variables(|_| Some(OsString::new()));
        assert_eq!(empty, Search::from_variables(|_| None));
        let named = Search::from_variables(|name| (name == "HIP_FFI_LIB").then(|| OsString::from("/it.so")));
        assert_eq!(named.file, Some("/it.so".into()));
    }

    #[test]
    fn candidates_come_in_the_documented_order() {
        let search = Search {
            file: None,
            roots: vec!["/rocm".into(), "/hip".into()],
            names: vec!["new.so".into(), "old.so".into()],
            last_roots: vec!["/opt/rocm".into()],
        };
        let folder = if cfg!(windows) { "bin" } else { "lib" };
        let expected: Vec<PathBuf> = [
            format!("/rocm/{folder}/new.so"),
            format!("/rocm/{folder}/old.so"),
            format!("/hip/{folder}/new.so"),
            format!("/hip/{folder}/old.so"),
            "new.so".into(),
            "old.so".into(),
            format!("/opt/rocm/{folder}/new.so"),
            format!("/opt/rocm/{folder}/old.so"),
        ]
        .into_iter()
        .map(PathBuf::from)
        .collect();
        assert_eq!(search.candidates(), expected);
    }

    #[test]
    fn rocm_roots_are_newest_first() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["rocm-6.4.1", "rocm-10.0.0", "rocm-7.2.0", "rocm", "other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let names: Vec<_> =
            rocm_roots(parent.path()).iter().map(|root| root.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["rocm", "rocm-10.0.0", "rocm-7.2.0", "rocm-6.4.1"]);
    }

    #[test]
    fn no_library_names_every_place_and_what_to_do() {
        let search = Search {
            file: None,
            roots: vec!["/not/here".into()],
            names: vec!["libamdhip64_absent.so.9".into()],
            last_roots: Vec::new(),
        };
        let error = HipApi::load(&search).unwrap_err();
        let LoadError::NotFound { tried } = &error else { panic!("{error}") };
        assert_eq!(tried.len(), 2);
        assert_eq!(tried[0].reason, "no such file");
        let text = error.to_string();
        assert!(text.contains("libamdhip64_absent.so.9") && text.contains("HIP_FFI_LIB"), "{text}");
    }
}
