use std::fmt;
use std::ops::Range;

use device_mem::{DType, Device, DeviceBuffer, Element, MappedFile, View};
use half::{bf16, f16};

use crate::cpu::{HostLinear, HostNorm};
use crate::{BlockType, NnError};

/// A matrix of parameters in the type that the checkpoint stores; operations widen it to f32 as they read it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Weight {
    /// IEEE 754 binary32.
    F32(DeviceBuffer<f32>),
    /// IEEE 754 binary16.
    F16(DeviceBuffer<f16>),
    /// bfloat16.
    BF16(DeviceBuffer<bf16>),
    /// Quantised blocks, whole in each row.
    Blocks(BlockType, DeviceBuffer<u8>),
}

/// What the elements of a [`Weight`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightType {
    /// Floating-point numbers.
    Float(DType),
    /// Blocks of several elements.
    Blocks(BlockType),
}

impl WeightType {
    /// Bytes of `elements` elements; `None` where they are not whole blocks, or too many to count.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        match self {
            WeightType::Float(dtype) => elements.checked_mul(dtype.size()),
            WeightType::Blocks(block) if elements.is_multiple_of(block.block_len()) => {
                (elements / block.block_len()).checked_mul(block.block_bytes())
            }
            WeightType::Blocks(_) => None,
        }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightType::Float(dtype) => dtype.fmt(f),
            WeightType::Blocks(block) => block.fmt(f),
        }
    }
}

impl Weight {
    /// The elements of type `dtype` in `bytes` of a mapped file; see [`DeviceBuffer::from_mapped`].
    ///
    /// # Errors
    /// [`NnError::WeightDType`] for a type that no weight has, or the device's error.
    pub fn from_mapped(
        device: &Device,
        file: &MappedFile,
        bytes: Range<usize>,
        dtype: DType,
    ) -> Result<Weight, NnError> {
        match dtype {
            DType::F32 => Ok(Weight::F32(DeviceBuffer::from_mapped(device, file, bytes)?)),
            DType::F16 => Ok(Weight::F16(DeviceBuffer::from_mapped(device, file, bytes)?)),
            DType::BF16 => Ok(Weight::BF16(DeviceBuffer::from_mapped(device, file, bytes)?)),
            found => Err(NnError::WeightDType { found }),
        }
    }

    /// The whole blocks in `bytes` of a mapped file; see [`DeviceBuffer::from_mapped`].
    ///
    /// # Errors
    /// [`NnError::NoWholeBlocks`], or the device's error.
    pub fn blocks_from_mapped(
        device: &Device,
        file: &MappedFile,
        bytes: Range<usize>,
        block: BlockType,
    ) -> Result<Weight, NnError> {
        let found = bytes.len();
        if !found.is_multiple_of(block.block_bytes()) {
            return Err(NnError::NoWholeBlocks { block, found });
        }
        Ok(Weight::Blocks(block, DeviceBuffer::from_mapped(device, file, bytes)?))
    }

    /// The elements' type.
    pub fn weight_type(&self) -> WeightType {
        match self {
            Weight::F32(_) => WeightType::Float(DType::F32),
            Weight::F16(_) => WeightType::Float(DType::F16),
            Weight::BF16(_) => WeightType::Float(DType::BF16),
            Weight::Blocks(block, _) => WeightType::Blocks(*block),
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Weight::F32(buffer) => buffer.len(),
            Weight::F16(buffer) => buffer.len(),
            Weight::BF16(buffer) => buffer.len(),
            Weight::Blocks(block, bytes) => bytes.len() / block.block_bytes() * block.block_len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Weight::F32(buffer) => buffer.len() * size_of::<f32>(),
            Weight::F16(buffer) => buffer.len() * size_of::<f16>(),
            Weight::BF16(buffer) => buffer.len() * size_of::<bf16>(),
            Weight::Blocks(_, bytes) => bytes.len(),
        }
    }

    /// The device that holds the elements.
    pub fn device(&self) -> Device {
        match self {
            Weight::F32(buffer) => buffer.device(),
            Weight::F16(buffer) => buffer.device(),
            Weight::BF16(buffer) => buffer.device(),
            Weight::Blocks(_, bytes) => bytes.device(),
        }
    }

    /// The elements, when they live in host memory.
    pub(crate) fn host(&self) -> Option<HostWeight<'_>> {
        match self {
            Weight::F32(buffer) => host_slice(buffer).map(HostWeight::F32),
            Weight::F16(buffer) => host_slice(buffer).map(HostWeight::F16),
            Weight::BF16(buffer) => host_slice(buffer).map(HostWeight::BF16),
            Weight::Blocks(block, bytes) => host_slice(bytes).map(|bytes| HostWeight::Blocks(*block, bytes)),
        }
    }

    /// Fails unless the elements are `[rows, columns]` and neither is zero.
    fn expect_shape(&self, (rows_name, rows): Named, (columns_name, columns): Named) -> Result<(), NnError> {
        for (dimension, size) in [(rows_name, rows), (columns_name, columns)] {
            if size == 0 {
                return Err(NnError::ZeroDimension { dimension });
            }
        }
        let found = self.len();
        if rows.checked_mul(columns) != Some(found) {
            return Err(NnError::MatrixLength { matrix: "weight", rows, columns, found });
        }
        match self {
            Weight::Blocks(block, _) if !columns.is_multiple_of(block.block_len()) => {
                Err(NnError::RowOfBlocks { block: *block, columns })
            }
            _ => Ok(()),
        }
    }
}

/// A [`Weight`] in host memory.
#[derive(Clone, Copy)]
pub(crate) enum HostWeight<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    BF16(&'a [bf16]),
    Blocks(BlockType, &'a [u8]),
}

pub(crate) fn host_slice<T: Element>(buffer: &DeviceBuffer<T>) -> Option<&[T]> {
    match buffer.as_view() {
        View::Host(values) => Some(values),
        View::Hip(_) => None,
    }
}

/// A dimension and its name.
type Named = (&'static str, usize);

/// A linear map `y = W x + b`.
#[derive(Debug)]
pub struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<DeviceBuffer<f32>>,
    pub(crate) out_features: usize,
    pub(crate) in_features: usize,
}

impl Linear {
    /// Bytes of weight and bias.
    pub(crate) fn bytes(&self) -> usize {
        self.weight.bytes() + self.bias.as_ref().map_or(0, |bias| bias.len() * size_of::<f32>())
    }

    /// The parameters, when they live in host memory.
    pub(crate) fn host(&self) -> Option<HostLinear<'_>> {
        let bias = match &self.bias {
            Some(bias) => Some(host_slice(bias)?),
            None => None,
        };
        let features = [self.out_features, self.in_features];
        Some(HostLinear { weight: self.weight.host()?, bias, features })
    }

    /// `weight` `[out_features, in_features]`, row-major, and `bias` `[out_features]` on the same device.
    ///
    /// # Errors
    /// [`NnError::ZeroDimension`], [`NnError::MatrixLength`], [`NnError::VectorLength`], or
    /// [`ForeignDevice`](device_mem::MemError::ForeignDevice).
    pub fn new(
        weight: Weight,
        bias: Option<DeviceBuffer<f32>>,
        out_features: usize,
        in_features: usize,
    ) -> Result<Linear, NnError> {
        weight.expect_shape(("out_features", out_features), ("in_features", in_features))?;
        if let Some(bias) = &bias {
            weight.device().expect_same(&bias.device())?;
            if bias.len() != out_features {
                let (expected, found) = (out_features, bias.len());
                return Err(NnError::VectorLength { vector: "bias", expected, found });
            }
        }
        Ok(Linear { weight, bias, out_features, in_features })
    }

    /// Width of an output row.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Width of an input row.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// The matrix.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// The bias, where there is one.
    pub fn bias(&self) -> Option<&DeviceBuffer<f32>> {
        self.bias.as_ref()
    }
}

/// A table of one row per token id.
#[derive(Debug)]
pub struct Embedding {
    pub(crate) weight: Weight,
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
}

impl Embedding {
    /// `weight` `[vocab, hidden]`, row-major.
    ///
    /// # Errors
    /// [`NnError::ZeroDimension`], [`NnError::MatrixLength`].
    pub fn new(weight: Weight, vocab: usize, hidden: usize) -> Result<Embedding, NnError> {
        weight.expect_shape(("vocab", vocab), ("hidden", hidden))?;
        Ok(Embedding { weight, vocab, hidden })
    }

    /// Rows: token ids are below this.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Width of a row.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// The table.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }
}

/// The parameters of a root-mean-square norm.
#[derive(Debug)]
pub struct RmsNorm {
    pub(crate) weight: DeviceBuffer<f32>,
    pub(crate) eps: f32,
}

impl RmsNorm {
    /// Bytes of the weight.
    pub(crate) fn bytes(&self) -> usize {
        self.hidden() * size_of::<f32>()
    }

    /// `weight` `[hidden]`; `eps` is added to the mean square.
    ///
    /// # Errors
    /// [`NnError::ZeroDimension`], [`NnError::Eps`].
    pub fn new(weight: DeviceBuffer<f32>, eps: f32) -> Result<RmsNorm, NnError> {
        if weight.is_empty() {
            return Err(NnError::ZeroDimension { dimension: "hidden" });
        }
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(NnError::Eps { found: eps });
        }
        Ok(RmsNorm { weight, eps })
    }

    /// Width of a row.
    pub fn hidden(&self) -> usize {
        self.weight.len()
    }

    /// What is added to the mean square.
    pub fn eps(&self) -> f32 {
        self.eps
    }

    /// The parameters, when they live in host memory.
    pub(crate) fn host(&self) -> Option<HostNorm<'_>> {
        host_slice(&self.weight).map(|weight| HostNorm { weight, eps: self.eps })
    }
}
