use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Component, Path};

use device_mem::{DType, Device, DeviceBuffer, Element, Float, MappedFile};
use half::{bf16, f16};
use kernels_nn::{BlockType, NnError, Weight, WeightType};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::GlmError;
use crate::files::{self, MAX_INDEX};
use crate::finite::{NotFinite, first_not_finite};
use crate::gguf::{self, Gguf};
use crate::safetensors_header::Header;

/// The tensors of a checkpoint, by name: one safetensors file, or shards with an index, or one GGUF file.
///
/// Files are mapped, headers are checked whole before a tensor is used, and on the CPU weights of a fitting type stay
/// in the mapping. A file that is cut while the model is used ends the pass with an error; see [`MappedFile`].
#[derive(Debug)]
pub struct GlmWeights {
    files: Vec<File>,
    tensors: BTreeMap<String, Tensor>,
    gguf: bool,
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
    /// Element type, as safetensors names it: `BF16`; that of a GGUF file's blocks as ggml does: `Q4_K`.
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
    /// Opens a GGUF file, or `model.safetensors` or the shards of `model.safetensors.index.json` in a checkpoint folder.
    ///
    /// # Errors
    /// [`GlmError::Read`] when there is none of them, [`GlmError::MissingShard`], [`GlmError::ShardEscapes`],
    /// [`GlmError::DuplicateTensor`], [`GlmError::Safetensors`] and [`GlmError::Gguf`] for a damaged header.
    pub fn open(path: &Path) -> Result<GlmWeights, GlmError> {
        let mut weights = GlmWeights::empty();
        if gguf::is_gguf(path) {
            weights.add_gguf(file_name(path), Source::Mapped(MappedFile::open(path)?))?;
            return Ok(weights);
        }
        let folder = path;
        let names = match files::read_optional_text(&folder.join(INDEX), MAX_INDEX)? {
            Some(index) => shard_names(&index)?,
            None => vec![String::from(SINGLE)],
        };
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

    /// Takes the bytes of one safetensors or GGUF file.
    ///
    /// # Errors
    /// [`GlmError::Safetensors`] and [`GlmError::Gguf`] for a damaged header.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<GlmWeights, GlmError> {
        let (mut weights, bytes) = (GlmWeights::empty(), bytes.into());
        match bytes.starts_with(gguf::MAGIC) {
            true => weights.add_gguf(String::from("GGUF"), Source::Memory(bytes))?,
            false => weights.add(String::from(SINGLE), Source::Memory(bytes))?,
        }
        Ok(weights)
    }

    fn empty() -> GlmWeights {
        GlmWeights { files: Vec::new(), tensors: BTreeMap::new(), gguf: false }
    }

    /// Whether the tensors have GGUF's names.
    pub(crate) fn is_gguf(&self) -> bool {
        self.gguf
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Bytes of all tensors as they are stored.
    pub fn bytes(&self) -> usize {
        self.tensors.values().map(Tensor::bytes).sum()
    }

    /// The files that are mapped.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = &MappedFile> {
        self.files.iter().filter_map(|file| match &file.source {
            Source::Mapped(file) => Some(file),
            Source::Memory(_) => None,
        })
    }

    /// Fails when a file is not the one that was opened any more.
    pub(crate) fn expect_unchanged(&self) -> Result<(), GlmError> {
        Ok(self.mapped().try_for_each(MappedFile::expect_unchanged)?)
    }

    fn add(&mut self, name: String, source: Source) -> Result<(), GlmError> {
        let header = Header::read(source.bytes())
            .map_err(|source| GlmError::Safetensors { file: name.clone(), source })?;
        for (tensor, entry) in &header.tensors {
            // A dimension beyond memory stands beside a zero, and no config asks for it.
            let dims = entry.shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX));
            let place = Tensor {
                file: self.files.len(),
                dtype: format!("{:?}", entry.dtype),
                shape: dims.collect(),
                bytes: header.place(entry),
            };
            if let Some(other) = self.tensors.insert(tensor.clone(), place) {
                let first = self.files.get(other.file).map(|file| file.name.clone()).unwrap_or_default();
                return Err(GlmError::DuplicateTensor { tensor: tensor.clone(), first, second: name });
            }
        }
        self.files.push(File { name, source });
        Ok(())
    }

    fn add_gguf(&mut self, name: String, source: Source) -> Result<(), GlmError> {
        let gguf = Gguf::read(source.bytes())?;
        for tensor in gguf.tensors() {
            // The reader proved a tensor's bytes to be in memory, so its dimensions are no more; GGUF has them reversed.
            let dims = tensor.dims().iter().rev().map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX));
            let place = Tensor {
                file: self.files.len(),
                dtype: tensor.tensor_type().name().to_owned(),
                shape: dims.collect(),
                bytes: tensor.bytes(),
            };
            self.tensors.insert(tensor.name().to_owned(), place);
        }
        self.files.push(File { name, source });
        self.gguf = true;
        Ok(())
    }

    /// Rows of the matrix `name` `[shape_rows, columns]` as a weight on `device`, in `dtype` or as stored.
    pub(crate) fn matrix(&self, name: &str, wanted: &Wanted<'_>) -> Result<Weight, GlmError> {
        let tensor = self.shaped(name, &[wanted.shape_rows, wanted.columns])?;
        let stored = stored_type(name, tensor)?;
        let row =
            stored.bytes(wanted.columns).ok_or_else(|| part_of_a_block(name, stored, wanted.columns))?;
        let bytes = tensor.bytes.start + wanted.rows.start * row..tensor.bytes.start + wanted.rows.end * row;
        if !wanted.allow_non_finite {
            let first = wanted.rows.start * wanted.columns;
            expect_finite(name, self.slice(tensor, bytes.clone()), stored, first)?;
        }
        let mapped = match self.source(tensor) {
            Source::Mapped(file) if wanted.dtype.is_none_or(|dtype| WeightType::Float(dtype) == stored) => {
                Some(file)
            }
            _ => None,
        };
        match (held_type(stored, wanted.dtype), mapped) {
            (WeightType::Blocks(block), Some(file)) => {
                Ok(Weight::blocks_from_mapped(wanted.device, file, bytes, block)?)
            }
            (WeightType::Blocks(block), None) => {
                let blocks = self.slice(tensor, bytes).to_vec();
                Ok(Weight::Blocks(block, DeviceBuffer::from_host_vec(wanted.device, blocks)?))
            }
            (WeightType::Float(dtype), Some(file)) => {
                Ok(Weight::from_mapped(wanted.device, file, bytes, dtype)?)
            }
            (WeightType::Float(dtype), None) => {
                converted(name, self.slice(tensor, bytes), stored, dtype, wanted)
            }
            (found, _) => Err(GlmError::TensorDType { tensor: name.to_owned(), found: found.to_string() }),
        }
    }

    /// The type that a matrix is held in where `dtype` is asked for; `None` without such a tensor, or of a type that is not
    /// read.
    pub(crate) fn held_as(&self, name: &str, dtype: Option<DType>) -> Option<WeightType> {
        let stored = stored_type(name, self.tensors.get(name)?).ok()?;
        Some(held_type(stored, dtype))
    }

    /// The vector `name` `[len]`, or a part of it, widened to f32.
    pub(crate) fn vector(
        &self,
        name: &str,
        len: usize,
        part: Range<usize>,
        device: &Device,
        allow_non_finite: bool,
    ) -> Result<DeviceBuffer<f32>, GlmError> {
        let first = part.start;
        let values = self.widened(name, &[len], part)?;
        if !allow_non_finite {
            expect_finite(name, bytemuck::cast_slice(&values), WeightType::Float(DType::F32), first)?;
        }
        Ok(DeviceBuffer::from_host_vec(device, values)?)
    }

    /// Fails unless the tensor `name` is there with this shape and in a type that is read.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), GlmError> {
        stored_type(name, self.shaped(name, shape)?).map(|_| ())
    }

    /// A part of the elements of the tensor `name`, widened to f32.
    pub(crate) fn widened(
        &self,
        name: &str,
        shape: &[usize],
        part: Range<usize>,
    ) -> Result<Vec<f32>, GlmError> {
        let tensor = self.shaped(name, shape)?;
        let stored = stored_type(name, tensor)?;
        let place = |elements| stored.bytes(elements).map(|bytes| tensor.bytes.start + bytes);
        let (Some(start), Some(end)) = (place(part.start), place(part.end)) else {
            let mut values = widened(self.slice(tensor, tensor.bytes.clone()), stored)?;
            values.truncate(part.end);
            return Ok(values.split_off(part.start.min(values.len())));
        };
        widened(self.slice(tensor, start..end), stored)
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
        // The reader of either header proved every tensor to lie inside its file.
        self.source(tensor).bytes().get(bytes).unwrap_or_default()
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
    pub(crate) allow_non_finite: bool,
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
    let index: Index =
        serde_json::from_str(index).map_err(|source| GlmError::Json { file: String::from(INDEX), source })?;
    if index.weight_map.0.is_empty() {
        let (key, found) = (String::from("weight_map"), String::from("none"));
        return Err(GlmError::BadKey { file: INDEX, key, expected: "tensor names and their files", found });
    }
    let mut names = Vec::new();
    for shard in index.weight_map.0 {
        let mut parts = Path::new(&shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain {
            return Err(GlmError::ShardEscapes { shard });
        }
        names.push(shard);
    }
    Ok(names)
}

/// What counts of a shard index.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: Shards,
}

/// The files of `weight_map`, whose tensors may not stand twice.
struct Shards(BTreeSet<String>);

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ShardsVisitor).map(Shards)
    }
}

struct ShardsVisitor;

impl<'de> Visitor<'de> for ShardsVisitor {
    type Value = BTreeSet<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor names and their files")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<BTreeSet<String>, A::Error> {
        let (mut tensors, mut shards) = (BTreeSet::new(), BTreeSet::new());
        while let Some((tensor, shard)) = access.next_entry::<String, String>()? {
            shards.insert(shard);
            if let Some(tensor) = tensors.replace(tensor) {
                return Err(A::Error::custom(format!("tensor {tensor:?} stands twice in weight_map")));
            }
        }
        Ok(shards)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().display().to_string()
}

fn missing_file(folder: &Path, name: String) -> GlmError {
    if name == SINGLE {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file");
        return GlmError::Read { path: folder.join(name), source };
    }
    GlmError::MissingShard { shard: name }
}

fn stored_type(name: &str, tensor: &Tensor) -> Result<WeightType, GlmError> {
    let floats = [("F32", DType::F32), ("F16", DType::F16), ("BF16", DType::BF16)];
    let floats = floats.map(|(name, dtype)| (name, WeightType::Float(dtype)));
    let blocks = BlockType::ALL.map(|block| (block.name(), WeightType::Blocks(block)));
    let known = floats.into_iter().chain(blocks).find(|(known, _)| *known == tensor.dtype);
    known
        .map(|(_, stored)| stored)
        .ok_or_else(|| GlmError::TensorDType { tensor: name.to_owned(), found: tensor.dtype.clone() })
}

/// The type that a matrix is held in where `dtype` is asked for.
fn held_type(stored: WeightType, dtype: Option<DType>) -> WeightType {
    dtype.map_or(stored, WeightType::Float)
}

/// The GGUF reader refuses such rows already.
fn part_of_a_block(name: &str, stored: WeightType, columns: usize) -> GlmError {
    match stored {
        WeightType::Blocks(block) => NnError::RowOfBlocks { block, columns }.into(),
        found => GlmError::TensorDType { tensor: name.to_owned(), found: found.to_string() },
    }
}

fn elements<T: Element>(bytes: &[u8]) -> impl Iterator<Item = T> + '_ {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

fn widened(bytes: &[u8], stored: WeightType) -> Result<Vec<f32>, GlmError> {
    match stored {
        WeightType::Float(DType::F16) => Ok(elements::<f16>(bytes).map(f16::to_f32).collect()),
        WeightType::Float(DType::BF16) => Ok(elements::<bf16>(bytes).map(bf16::to_f32).collect()),
        WeightType::Blocks(block) => {
            let mut values = vec![0.0; bytes.len() / block.block_bytes() * block.block_len()];
            block.dequantize(bytes, &mut values)?;
            Ok(values)
        }
        _ => Ok(elements::<f32>(bytes).collect()),
    }
}

/// A matrix in another type than it is stored in, or from memory.
fn converted(
    name: &str,
    bytes: &[u8],
    stored: WeightType,
    dtype: DType,
    wanted: &Wanted<'_>,
) -> Result<Weight, GlmError> {
    let device = wanted.device;
    match dtype {
        DType::F32 => Ok(Weight::F32(DeviceBuffer::from_host_vec(device, widened(bytes, stored)?)?)),
        DType::F16 => {
            let values = rounded::<f16>(name, bytes, stored, wanted.allow_non_finite)?;
            Ok(Weight::F16(DeviceBuffer::from_host_vec(device, values)?))
        }
        DType::BF16 => {
            let values = rounded::<bf16>(name, bytes, stored, wanted.allow_non_finite)?;
            Ok(Weight::BF16(DeviceBuffer::from_host_vec(device, values)?))
        }
        found => Err(GlmError::WeightDType { found }),
    }
}

/// Fails for elements that are NaN or infinite. The first of `bytes` is the tensor's element `first`.
fn expect_finite(name: &str, bytes: &[u8], stored: WeightType, first: usize) -> Result<(), GlmError> {
    match first_not_finite(bytes, stored) {
        None => Ok(()),
        Some(NotFinite { index, value }) => {
            Err(GlmError::NotFinite { tensor: name.to_owned(), index: first + index, value })
        }
    }
}

/// The elements in a narrower type, which must be able to hold them unless infinities are allowed.
fn rounded<T: Float>(
    name: &str,
    bytes: &[u8],
    stored: WeightType,
    allow_non_finite: bool,
) -> Result<Vec<T>, GlmError> {
    if stored == WeightType::Float(T::DTYPE) {
        return Ok(elements::<T>(bytes).collect());
    }
    let values = widened(bytes, stored)?;
    let narrow: Vec<T> = values.iter().map(|&value| T::from_f32(value)).collect();
    if !allow_non_finite
        && let Some(NotFinite { index, .. }) =
            first_not_finite(bytemuck::cast_slice(&narrow), WeightType::Float(T::DTYPE))
    {
        let value = values.get(index).copied().unwrap_or_default();
        return Err(GlmError::TooLarge { tensor: name.to_owned(), value, stored: T::DTYPE.name() });
    }
    Ok(narrow)
}
