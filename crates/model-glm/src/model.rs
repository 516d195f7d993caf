use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use attention::{AttentionShape, KvCache, KvDType};
use device_mem::{DType, Device, DeviceBuffer, MappedFile, RanOn};
use kernels_nn::{Embedding, Linear, RmsNorm};
use kernels_rope::RopeTable;

use crate::arena::Arena;
use crate::layer::Layer;
use crate::load::Loader;
use crate::memory::{CacheSize, MemoryBudget};
use crate::weights::GlmWeights;
use crate::{GlmConfig, GlmError};

/// A token's id.
pub type TokenId = u32;

/// Is told how far loading is: bytes so far, bytes in all, and the tensor that came last.
pub type Progress<'a> = dyn FnMut(usize, usize, &str) + 'a;

/// How a model is loaded.
#[derive(Default)]
pub struct LoadOptions<'a> {
    /// Type that matrices are held in; `None` keeps each as stored.
    pub dtype: Option<DType>,
    /// Positions to prepare the rotary table for; `None` takes the config's, at most [`DEFAULT_CONTEXT`].
    pub context: Option<u32>,
    /// The most tokens of a prompt that run at once, which memory for activations grows with; `None` takes
    /// [`DEFAULT_CHUNK`]. From 32 on no bit of a result depends on it.
    pub chunk: Option<NonZeroU32>,
    /// The caches that are going to be made, for which memory must be left.
    pub caches: &'a [CacheSize],
    /// Take weights that are NaN or infinite, which are refused by name otherwise. The check reads every weight once; of
    /// blocks, their scales.
    pub allow_non_finite: bool,
    /// Called after each tensor.
    pub progress: Option<&'a mut Progress<'a>>,
}

impl fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("dtype", &self.dtype)
            .field("context", &self.context)
            .field("chunk", &self.chunk)
            .field("caches", &self.caches)
            .field("allow_non_finite", &self.allow_non_finite)
            .finish_non_exhaustive()
    }
}

impl LoadOptions<'_> {
    /// Positions to prepare the rotary table for.
    pub(crate) fn positions(&self, config: &GlmConfig) -> u32 {
        self.context.unwrap_or_else(|| config.max_positions.min(DEFAULT_CONTEXT))
    }
}

/// The most positions that a model prepares for unasked, in tokens.
pub const DEFAULT_CONTEXT: u32 = 131_072;

/// The most tokens of a prompt that run at once unasked.
pub const DEFAULT_CHUNK: NonZeroU32 = NonZeroU32::new(512).unwrap();

/// A loaded model on one device, and the memory that its passes compute in. Passes of one model take turns.
#[derive(Debug)]
pub struct GlmModel {
    pub(crate) config: GlmConfig,
    pub(crate) device: Device,
    pub(crate) shape: AttentionShape,
    pub(crate) rope: RopeTable,
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: RmsNorm,
    pub(crate) output: Linear,
    /// What lends the weights on the CPU.
    files: Vec<MappedFile>,
    arena: Mutex<Arena>,
}

/// Tokens of one sequence and its cache. The tokens continue what the cache holds.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// `[tokens]`, at least one.
    pub tokens: &'a [TokenId],
    /// The sequence's keys and values so far.
    pub cache: &'a mut KvCache,
    /// Added to every position, so that a sequence need not begin at position 0.
    pub position_offset: u32,
}

/// Scores of every token of the vocabulary for some rows, `[rows, vocab]` f32, on the model's device.
#[derive(Debug)]
pub struct Logits {
    pub(crate) buffer: DeviceBuffer<f32>,
    pub(crate) vocab: usize,
}

impl GlmModel {
    /// Loads the weights onto `device`, builds the rotary table, and allocates what passes compute in.
    ///
    /// # Errors
    /// [`GlmError::MissingTensor`], [`GlmError::Shape`], [`GlmError::TensorDType`] when weights and config do not fit;
    /// [`GlmError::DeviceMemory`] when the device has too little left, before anything is moved to it;
    /// [`GlmError::NotFinite`] and [`GlmError::TooLarge`] unless such weights are allowed; [`GlmError::Attention`] when the device cannot run attention of these
    /// heads; [`GlmError::Mem`] when a file is cut or changed meanwhile; what memory or the device reports.
    pub fn load(
        config: GlmConfig,
        weights: &GlmWeights,
        device: &Device,
        options: LoadOptions<'_>,
    ) -> Result<GlmModel, GlmError> {
        let shape = AttentionShape::new(config.q_heads, config.kv_heads, config.head_dim)?;
        // An empty cache: a device that cannot attend is told before any weight is moved to it.
        KvCache::new(device, 0, shape, 0, KvDType::default())?;
        MemoryBudget::of(&config, weights, device, &options)?.expect_room(device)?;
        let rope = RopeTable::new(&config.rope, options.positions(&config), device)?;
        let chunk = options.chunk.unwrap_or(DEFAULT_CHUNK);
        let mut loader = Loader::new(&config, weights, device, options);
        let embedding = loader.embedding()?;
        let layers = (0..config.layers).map(|index| loader.layer(index)).collect::<Result<_, _>>()?;
        let final_norm = loader.final_norm()?;
        let output = loader.output()?;
        let arena = Mutex::new(Arena::new(&config, device, chunk.get() as usize)?);
        weights.expect_unchanged()?;
        let lent = matches!(device, Device::Cpu);
        let files = weights.mapped().filter(|_| lent).cloned().collect();
        let device = device.clone();
        Ok(GlmModel { config, device, shape, rope, embedding, layers, final_norm, output, files, arena })
    }

    /// What the model was built from.
    pub fn config(&self) -> &GlmConfig {
        &self.config
    }

    /// Where the model lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where forward passes run.
    pub fn ran_on(&self) -> RanOn {
        match self.device {
            Device::Cpu => RanOn::Cpu,
            Device::Hip(_) => RanOn::Hip,
        }
    }

    /// Positions that the rotary table serves: `0..context`.
    pub fn context(&self) -> u32 {
        self.rope.length()
    }

    /// An empty cache for `capacity` tokens of one sequence.
    ///
    /// # Errors
    /// [`GlmError::Attention`] when memory cannot hold it.
    pub fn new_cache(&self, capacity: u32, dtype: KvDType) -> Result<KvCache, GlmError> {
        Ok(KvCache::new(&self.device, self.config.layers, self.shape, capacity, dtype)?)
    }

    /// Runs a pass, or more. On the CPU it runs on a thread of the pool, so that operations fork and join among threads that
    /// are awake. Take no lock within: a thread of the pool that waits may run another pass meanwhile.
    pub(crate) fn in_pool<R: Send>(&self, pass: impl FnOnce() -> R + Send) -> R {
        match self.device {
            Device::Cpu => rayon::scope(|_| pass()),
            Device::Hip(_) => pass(),
        }
    }

    /// Fails when weights were cut away under a pass, which is void then.
    pub(crate) fn expect_whole(&self) -> Result<(), GlmError> {
        Ok(self.files.iter().try_for_each(MappedFile::expect_whole)?)
    }

    /// What passes compute in. It holds nothing between two passes, so one that ended in a panic leaves nothing behind.
    pub(crate) fn arena(&self) -> MutexGuard<'_, Arena> {
        self.arena.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Logits {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.buffer.len() / self.vocab
    }

    /// Width of a row.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// All rows, row-major; the one download of a forward pass.
    ///
    /// # Errors
    /// What the device reports, errors of the pass included.
    pub fn to_host_vec(&self) -> Result<Vec<f32>, GlmError> {
        Ok(self.buffer.to_host_vec()?)
    }
}
