//! From a checkpoint folder to one file.

mod encode;
mod file_type;
mod metadata;
mod plan;
mod vocabulary;
mod write;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use self::plan::Planned;
use crate::names::Names;
use crate::{GlmConfig, GlmError, GlmWeights, Progress};

pub use file_type::{FileType, Stored};
pub use write::{Field, GgufWriter, TensorSpec};

/// How a checkpoint is converted.
#[expect(missing_debug_implementations, reason = "a callback has nothing to show")]
pub struct ConvertOptions<'p> {
    /// What to.
    pub file_type: FileType,
    /// Whether a file that is there is replaced.
    pub overwrite: bool,
    /// Told after each piece of a tensor: bytes of the checkpoint done, all bytes, the tensor's name in the file.
    pub progress: Option<&'p mut Progress<'p>>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// All tensors, in the order of the file.
    pub tensors: Vec<TensorSpec>,
    /// Bytes of the file.
    pub bytes: u64,
    /// What a person should know before using the file.
    pub warnings: Vec<String>,
}

/// Elements that are in memory at once, at most, unless a row is longer.
const PIECE: usize = 1 << 22;

/// Writes the checkpoint in `folder` as the GGUF file `out`, for the architectures that this crate runs.
///
/// Tensors pass through memory in pieces of rows; the rows of a piece are rounded in parallel. The bytes do not depend on the
/// number of threads. Everything is checked before `out` is touched; it is written as `out` with `.part` behind, synced, and
/// renamed, so that no other program meets half a file; that one is removed if anything fails.
///
/// # Errors
/// [`GlmError::Exists`]; those of [`GlmConfig::open`] and [`GlmWeights::open`]; [`GlmError::NotInGguf`] for what llama.cpp
/// could not compute; [`GlmError::MissingTensor`], [`GlmError::Shape`], [`GlmError::TensorDType`], [`GlmError::NotFinite`],
/// [`GlmError::TooLarge`] for weights; [`GlmError::Tokenizer`]; [`GlmError::Write`].
pub fn convert(folder: &Path, out: &Path, options: ConvertOptions<'_>) -> Result<Converted, GlmError> {
    if !options.overwrite && out.exists() {
        return Err(GlmError::Exists { path: out.to_owned() });
    }
    let config = GlmConfig::open(folder)?;
    let weights = GlmWeights::open(folder)?;
    let mut fields = metadata::of_model(&config, options.file_type, &name_of(folder))?;
    let vocabulary = vocabulary::of_folder(folder, &config)?;
    fields.extend(vocabulary.fields);
    let plan = plan::tensors(&config, Names::of(&config, &weights), options.file_type);
    for planned in &plan {
        weights.expect(&planned.source, &planned.shape())?;
    }

    let part = Part::create(out)?;
    let written = |source| GlmError::Write { path: part.path.clone(), source };
    let file = BufWriter::new(File::create(&part.path).map_err(written)?);
    let specs: Vec<TensorSpec> = plan.iter().map(|planned| planned.spec.clone()).collect();
    let mut writer = GgufWriter::new(file, &fields, &specs).map_err(written)?;
    let mut pieces = Pieces::new(&weights, &plan, options.progress);
    for planned in &plan {
        pieces.each(planned, |bytes| writer.write(bytes).map_err(written))?;
    }
    weights.expect_unchanged()?;
    let file = writer.finish().map_err(written)?;
    let file = file.into_inner().map_err(|error| written(error.into_error()))?;
    file.sync_all().map_err(written)?;
    let bytes = file.metadata().map_err(written)?.len();
    part.rename(out)?;
    let warnings = config.warnings.into_iter().chain(vocabulary.warnings).collect();
    Ok(Converted { tensors: specs, bytes, warnings })
}

/// The folder's own name, which is mostly the model's.
fn name_of(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// The unfinished file, removed when it is dropped before it has its name.
struct Part {
    path: PathBuf,
    renamed: bool,
}

impl Part {
    fn create(out: &Path) -> Result<Part, GlmError> {
        let mut name = OsString::from(out.as_os_str());
        name.push(".part");
        Ok(Part { path: PathBuf::from(name), renamed: false })
    }

    fn rename(mut self, out: &Path) -> Result<(), GlmError> {
        fs::rename(&self.path, out).map_err(|source| GlmError::Write { path: out.to_owned(), source })?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.renamed {
            // The error that led here is the one to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads tensors piece by piece, and tells how far it is.
struct Pieces<'a, 'p> {
    weights: &'a GlmWeights,
    progress: Option<&'p mut Progress<'p>>,
    done: usize,
    total: usize,
}

impl<'a, 'p> Pieces<'a, 'p> {
    fn new(
        weights: &'a GlmWeights,
        plan: &[Planned],
        progress: Option<&'p mut Progress<'p>>,
    ) -> Pieces<'a, 'p> {
        let bytes =
            |planned: &Planned| weights.tensors().get(&planned.source).map_or(0, |tensor| tensor.bytes());
        Pieces { weights, progress, done: 0, total: plan.iter().map(bytes).sum() }
    }

    /// Gives `write` the bytes of the planned tensor.
    fn each(
        &mut self,
        planned: &Planned,
        mut write: impl FnMut(&[u8]) -> Result<(), GlmError>,
    ) -> Result<(), GlmError> {
        let Planned { spec, source } = planned;
        let elements = spec.rows * spec.columns;
        let whole = self.weights.tensors().get(source).map_or(0, |tensor| tensor.bytes());
        let piece = (PIECE / spec.columns).max(1) * spec.columns;
        let mut bytes = Vec::new();
        for start in (0..elements).step_by(piece) {
            let end = elements.min(start + piece);
            let values = self.weights.widened(source, &planned.shape(), start..end)?;
            expect_finite(&values, source, start)?;
            encode::rows(&values, spec.columns, spec.stored, &mut bytes)
                .map_err(|value| too_large(source, value, spec.stored))?;
            write(&bytes)?;
            self.done += whole / elements * (end - start);
            if let Some(progress) = &mut self.progress {
                progress(self.done, self.total, &spec.name);
            }
        }
        Ok(())
    }
}

fn expect_finite(values: &[f32], tensor: &str, start: usize) -> Result<(), GlmError> {
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((at, &value)) => {
            Err(GlmError::NotFinite { tensor: tensor.to_owned(), index: start + at, value })
        }
        None => Ok(()),
    }
}

fn too_large(tensor: &str, value: f32, stored: Stored) -> GlmError {
    GlmError::TooLarge { tensor: tensor.to_owned(), value, stored: stored.name() }
}
