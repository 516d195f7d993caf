use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path};

use device_mem::{DType, Device, DeviceBuffer, Element, Float, MappedFile};
use half::{bf16, f16};
use kernels_nn::Weight;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::GlmError;
use crate::json::Strict;

/// The tensors of a checkpoint, by name: one safetensors file, or shards with an index.
///
/// Files are mapped, headers are checked whole before a tensor is used, and on the CPU weights of a fitting type stay
/// in the mapping. A file must not be cut while the model is used; see [`MappedFile`].
#[derive(Debug)]
pub struct GlmWeights {
    files: Vec<File>,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Debug)]
struct File {
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Mapped(MappedFile),
    Memory(Cow<'static, [u8]>),
}

/// One tensor as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    file: usize,
    /// Element type, as safetensors names it: `BF16`.
    pub dtype: String,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Tensor {
    /// Size in the file.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

impl GlmWeights {
    /// Opens `model.safetensors`, or the shards of `model.safetensors.index.json`, in a checkpoint folder.
    ///
    /// # Errors
    /// [`GlmError::Read`] when there is neither, [`GlmError::MissingShard`], [`GlmError::ShardEscapes`],
    /// [`GlmError::DuplicateTensor`], [`GlmError::Safetensors`] for a damaged header.
    pub fn open(folder: &Path) -> Result<GlmWeights, GlmError> {
        let names = match fs::read_to_string(folder.join(INDEX)) {
            Ok(text) => shard_names(&text)?,
            Err(_) => vec![String::from(SINGLE)],
        };
        let mut weights = GlmWeights { files: Vec::new(), tensors: BTreeMap::new() };
        for name in names {
            let path = folder.join(&name);
            if !path.exists() {
                return Err(missing_file(folder, name));
            }
            let mapped = MappedFile::open(&path)?;
            weights.add(name, Source::Mapped(mapped))?;
        }
        Ok(weights)
    }

    /// Takes the bytes of one safetensors file.
    ///
    /// # Errors
    /// [`GlmError::Safetensors`] for a damaged header.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<GlmWeights, GlmError> {
        let mut weights = GlmWeights { files: Vec::new(), tensors: BTreeMap::new() };
        weights.add(String::from(SINGLE), Source::Memory(bytes.into()))?;
        Ok(weights)
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Bytes of all tensors as they are stored.
    pub fn bytes(&self) -> usize {
        self.tensors.values().map(Tensor::bytes).sum()
    }

    fn add(&mut self, name: String, source: Source) -> Result<(), GlmError> {
        let damaged = |source| GlmError::Safetensors { file: name.clone(), source };
        let (header, metadata) = SafeTensors::read_metadata(source.bytes()).map_err(damaged)?;
        // The header's length stands before it, in eight bytes.
        let start = header + 8;
        for (tensor, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let place = Tensor {
                file: self.files.len(),
                dtype: format!("{:?}", info.dtype),
                shape: info.shape.clone(),
                bytes: start + from..start + to,
            };
            if let Some(other) = self.tensors.insert(tensor.clone(), place) {
                let first = self.files.get(other.file).map(|file| file.name.clone()).unwrap_or_default();
                return Err(GlmError::DuplicateTensor { tensor, first, second: name });
            }
        }
        self.files.push(File { name, source });
        Ok(())
    }

    /// Rows of the matrix `name` `[shape_rows, columns]` as a weight on `device`, in `dtype` or as stored.
    pub(crate) fn matrix(&self, name: &str, wanted: &Wanted<'_>) -> Result<Weight, GlmError> {
        let tensor = self.shaped(name, &[wanted.shape_rows, wanted.columns])?;
        let stored = stored_dtype(name, tensor)?;
        let row = wanted.columns * stored.size();
        let bytes = tensor.bytes.start + wanted.rows.start * row..tensor.bytes.start + wanted.rows.end * row;
        let dtype = wanted.dtype.unwrap_or(stored);
        if wanted.check_finite {
            self.expect_finite(name, tensor, stored)?;
        }
        if dtype != stored {
            return self.converted(tensor, bytes, stored, dtype, wanted.device);
        }
        match self.source(tensor) {
            Source::Mapped(file) => Ok(Weight::from_mapped(wanted.device, file, bytes, dtype)?),
            Source::Memory(_) => self.converted(tensor, bytes, stored, dtype, wanted.device),
        }
    }

    /// The type that a matrix is held in where `dtype` is asked for; `None` without such a tensor, or of a type that is not
    /// read.
    pub(crate) fn held_as(&self, name: &str, dtype: Option<DType>) -> Option<DType> {
        let stored = stored_dtype(name, self.tensors.get(name)?).ok()?;
        Some(dtype.unwrap_or(stored))
    }

    /// The vector `name` `[len]`, or a part of it, widened to f32.
    pub(crate) fn vector(
        &self,
        name: &str,
        len: usize,
        part: Range<usize>,
        device: &Device,
    ) -> Result<DeviceBuffer<f32>, GlmError> {
        let values = self.widened(name, &[len], part)?;
        Ok(DeviceBuffer::from_host_vec(device, values)?)
    }

    /// Fails unless the tensor `name` is there with this shape and in a type that is read.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), GlmError> {
        stored_dtype(name, self.shaped(name, shape)?).map(|_| ())
    }

    /// A part of the elements of the tensor `name`, widened to f32.
    pub(crate) fn widened(
        &self,
        name: &str,
        shape: &[usize],
        part: Range<usize>,
    ) -> Result<Vec<f32>, GlmError> {
        let tensor = self.shaped(name, shape)?;
        let stored = stored_dtype(name, tensor)?;
        let at = |index: usize| tensor.bytes.start + index * stored.size();
        Ok(widened(self.slice(tensor, at(part.start)..at(part.end)), stored))
    }

    fn shaped(&self, name: &str, expected: &[usize]) -> Result<&Tensor, GlmError> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        if tensor.shape == expected {
            return Ok(tensor);
        }
        Err(GlmError::Shape {
            tensor: name.to_owned(),
            expected: expected.to_vec(),
            found: tensor.shape.clone(),
        })
    }

    fn missing(&self, name: &str) -> GlmError {
        const MOST: usize = 3;
        let end = name.rsplit('.').take(2).collect::<Vec<_>>();
        let alike = |candidate: &&String| candidate.rsplit('.').take(2).eq(end.iter().copied());
        let alike = self.tensors.keys().filter(alike).take(MOST).cloned().collect();
        GlmError::MissingTensor { tensor: name.to_owned(), alike }
    }

    fn source(&self, tensor: &Tensor) -> &Source {
        // A tensor's file index is given by `add` only.
        &self.files[tensor.file].source
    }

    fn slice(&self, tensor: &Tensor, bytes: Range<usize>) -> &[u8] {
        // `read_metadata` proved every tensor to lie inside its file.
        self.source(tensor).bytes().get(bytes).unwrap_or_default()
    }

    fn converted(
        &self,
        tensor: &Tensor,
        bytes: Range<usize>,
        stored: DType,
        dtype: DType,
        device: &Device,
    ) -> Result<Weight, GlmError> {
        let bytes = self.slice(tensor, bytes);
        match dtype {
            DType::F32 => Ok(Weight::F32(DeviceBuffer::from_host_vec(device, widened(bytes, stored))?)),
            DType::F16 => {
                Ok(Weight::F16(DeviceBuffer::from_host_vec(device, rounded::<f16>(bytes, stored))?))
            }
            DType::BF16 => {
                Ok(Weight::BF16(DeviceBuffer::from_host_vec(device, rounded::<bf16>(bytes, stored))?))
            }
            found => Err(GlmError::WeightDType { found }),
        }
    }

    fn expect_finite(&self, name: &str, tensor: &Tensor, stored: DType) -> Result<(), GlmError> {
        let values = widened(self.slice(tensor, tensor.bytes.clone()), stored);
        match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            Some((index, &value)) => Err(GlmError::NotFinite { tensor: name.to_owned(), index, value }),
            None => Ok(()),
        }
    }
}

/// What a matrix is wanted as.
pub(crate) struct Wanted<'a> {
    /// Rows of the stored tensor.
    pub(crate) shape_rows: usize,
    /// The rows wanted of them.
    pub(crate) rows: Range<usize>,
    pub(crate) columns: usize,
    pub(crate) dtype: Option<DType>,
    pub(crate) check_finite: bool,
    pub(crate) device: &'a Device,
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Source::Mapped(file) => file.bytes(),
            Source::Memory(bytes) => bytes,
        }
    }
}

/// The shards that an index names, each once, in order.
fn shard_names(index: &str) -> Result<Vec<String>, GlmError> {
    let json = |source| GlmError::Json { file: String::from(INDEX), source };
    let Strict(index) = serde_json::from_str(index).map_err(json)?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let bad = |found: String| GlmError::BadKey {
        key: format!("{INDEX}: weight_map"),
        expected: "tensor names and their files",
        found,
    };
    let map = map.filter(|map| !map.is_empty()).ok_or_else(|| bad(String::from("none")))?;
    let mut names = Vec::new();
    for shard in map.values() {
        let shard = shard.as_str().ok_or_else(|| bad(shard.to_string()))?;
        let mut parts = Path::new(shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain {
            return Err(GlmError::ShardEscapes { shard: shard.to_owned() });
        }
        names.push(shard.to_owned());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn missing_file(folder: &Path, name: String) -> GlmError {
    if name == SINGLE {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file");
        return GlmError::Read { path: folder.join(name), source };
    }
    GlmError::MissingShard { shard: name }
}

fn stored_dtype(name: &str, tensor: &Tensor) -> Result<DType, GlmError> {
    match tensor.dtype.as_str() {
        "F32" => Ok(DType::F32),
        "F16" => Ok(DType::F16),
        "BF16" => Ok(DType::BF16),
        found => Err(GlmError::TensorDType { tensor: name.to_owned(), found: found.to_owned() }),
    }
}

fn elements<T: Element>(bytes: &[u8]) -> impl Iterator<Item = T> + '_ {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

fn widened(bytes: &[u8], stored: DType) -> Vec<f32> {
    match stored {
        DType::F16 => elements::<f16>(bytes).map(f16::to_f32).collect(),
        DType::BF16 => elements::<bf16>(bytes).map(bf16::to_f32).collect(),
        _ => elements::<f32>(bytes).collect(),
    }
}

fn rounded<T: Float>(bytes: &[u8], stored: DType) -> Vec<T> {
    if stored == T::DTYPE {
        return elements::<T>(bytes).collect();
    }
    widened(bytes, stored).into_iter().map(T::from_f32).collect()
}
