use std::fmt;

use attention::{AttentionShape, KvCache, KvDType};
use device_mem::{DType, Device, DeviceBuffer, RanOn};
use kernels_nn::{Embedding, Linear, NnError, RmsNorm, embed, linear, rms_norm};
use kernels_rope::{Positions, RopeTable};

use crate::layer::{Layer, Scratch};
use crate::load::Loader;
use crate::observe::{Observed, Observer};
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
    /// Refuse NaN and infinite weights by name. It reads every weight once.
    pub check_finite: bool,
    /// Called after each tensor.
    pub progress: Option<&'a mut Progress<'a>>,
}

impl fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("dtype", &self.dtype)
            .field("context", &self.context)
            .field("check_finite", &self.check_finite)
            .finish_non_exhaustive()
    }
}

/// The most positions that a model prepares for unasked, in tokens.
pub const DEFAULT_CONTEXT: u32 = 131_072;

/// A loaded model on one device.
#[derive(Debug)]
pub struct GlmModel {
    config: GlmConfig,
    device: Device,
    shape: AttentionShape,
    rope: RopeTable,
    embedding: Embedding,
    layers: Vec<Layer>,
    final_norm: RmsNorm,
    output: Linear,
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
    buffer: DeviceBuffer<f32>,
    vocab: usize,
}

/// Which tokens' logits a forward pass gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    LastOfEach,
    All,
}

impl GlmModel {
    /// Loads the weights onto `device` and builds the rotary table.
    ///
    /// # Errors
    /// [`GlmError::MissingTensor`], [`GlmError::Shape`], [`GlmError::TensorDType`] when weights and config do not fit;
    /// [`GlmError::NotFinite`] when asked to check; [`GlmError::Attention`] when the device cannot run attention of these
    /// heads; what memory or the device reports.
    pub fn load(
        config: GlmConfig,
        weights: &GlmWeights,
        device: &Device,
        options: LoadOptions<'_>,
    ) -> Result<GlmModel, GlmError> {
        let shape = AttentionShape::new(config.q_heads, config.kv_heads, config.head_dim)?;
        // An empty cache: a device that cannot attend is told before any weight is moved to it.
        KvCache::new(device, 0, shape, 0, KvDType::default())?;
        let context = options.context.unwrap_or_else(|| config.max_positions.min(DEFAULT_CONTEXT));
        let rope = RopeTable::new(&config.rope, context, device)?;
        let mut loader = Loader::new(&config, weights, device, options);
        let embedding = loader.embedding()?;
        let layers = (0..config.layers).map(|index| loader.layer(index)).collect::<Result<_, _>>()?;
        let final_norm = loader.final_norm()?;
        let output = loader.output()?;
        let device = device.clone();
        Ok(GlmModel { config, device, shape, rope, embedding, layers, final_norm, output })
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

    /// Runs `tokens` after what `cache` holds. Gives the last token's logits `[1, vocab]`.
    ///
    /// # Errors
    /// [`GlmError::NoTokens`], [`GlmError::ContextFull`], a token outside the vocabulary, or what an operation reports.
    /// The cache is then as long as before, and the call may be repeated.
    pub fn forward(&self, tokens: &[TokenId], cache: &mut KvCache) -> Result<Logits, GlmError> {
        self.forward_batch(&mut [Sequence { tokens, cache, position_offset: 0 }])
    }

    /// Runs several sequences, packed without padding. Gives the logits `[sequences, vocab]` of each one's last token.
    ///
    /// # Errors
    /// As [`GlmModel::forward`]; no sequence's cache grows.
    pub fn forward_batch(&self, batch: &mut [Sequence<'_>]) -> Result<Logits, GlmError> {
        self.run(batch, Rows::LastOfEach, &mut Observed::nothing())
    }

    /// Runs one sequence and gives the logits of all its tokens, `[tokens, vocab]`. The observer, if any, is shown the
    /// tensors of every layer.
    ///
    /// # Errors
    /// As [`GlmModel::forward`].
    pub fn forward_all(
        &self,
        sequence: Sequence<'_>,
        observer: Option<&mut dyn Observer>,
    ) -> Result<Logits, GlmError> {
        self.run(&mut [sequence], Rows::All, &mut Observed::new(observer))
    }

    fn run(
        &self,
        batch: &mut [Sequence<'_>],
        rows: Rows,
        observed: &mut Observed<'_>,
    ) -> Result<Logits, GlmError> {
        let positions = self.positions(batch)?;
        let tokens = self.tokens(batch)?;
        let hidden = self.config.hidden_size;
        let ids = DeviceBuffer::from_host_vec(&self.device, tokens)?;
        let mut x = DeviceBuffer::zeroed(&self.device, ids.len() * hidden)?;
        embed(&self.embedding, ids.as_view(), x.as_view_mut()?)?;
        observed.rows("embed", hidden, &x)?;
        if let [sequence] = &*batch {
            let first = sequence.position_offset as usize + sequence.cache.len() as usize;
            observed.table(&self.rope, first, sequence.tokens.len())?;
        }

        let mut scratch = Scratch::new(&self.config, &self.device, ids.len())?;
        // Each layer norms what the next one takes; the last one, what the output takes.
        let norms = self.layers.iter().map(|layer| &layer.input_norm).chain([&self.final_norm]);
        let first_norm = norms.clone().next().unwrap_or(&self.final_norm);
        rms_norm(x.as_view(), first_norm, scratch.normed.as_view_mut()?)?;
        for (index, (layer, next_norm)) in self.layers.iter().zip(norms.skip(1)).enumerate() {
            let mut observed = observed.layer(index, self.shape);
            let rope = &self.rope;
            layer.forward(index, &mut x, &mut scratch, batch, &positions, rope, next_norm, &mut observed)?;
        }
        observed.rows("final_norm", hidden, &scratch.normed)?;
        let logits = self.logits(&scratch.normed, batch, rows)?;
        for (sequence, at) in batch.iter_mut().zip(&positions) {
            sequence.cache.commit(at.tokens())?;
        }
        Ok(logits)
    }

    /// Each sequence's positions, checked against table and cache before anything runs.
    fn positions(&self, batch: &[Sequence<'_>]) -> Result<Vec<Positions>, GlmError> {
        if batch.is_empty() {
            return Err(GlmError::NoTokens);
        }
        batch.iter().map(|sequence| self.positions_of(sequence)).collect()
    }

    /// All tokens, checked against the vocabulary before anything runs: a kernel could not refuse one.
    fn tokens(&self, batch: &[Sequence<'_>]) -> Result<Vec<TokenId>, GlmError> {
        let tokens: Vec<TokenId> = batch.iter().flat_map(|sequence| sequence.tokens).copied().collect();
        let vocab = self.config.vocab_size;
        match tokens.iter().position(|&id| id as usize >= vocab) {
            Some(index) => Err(NnError::TokenId { id: tokens[index], index, vocab }.into()),
            None => Ok(tokens),
        }
    }

    fn positions_of(&self, sequence: &Sequence<'_>) -> Result<Positions, GlmError> {
        let (tokens, used, capacity) =
            (sequence.tokens.len(), sequence.cache.len(), sequence.cache.capacity());
        if tokens == 0 {
            return Err(GlmError::NoTokens);
        }
        let fits = u32::try_from(tokens).ok().filter(|&tokens| tokens <= capacity.saturating_sub(used));
        let count = fits.ok_or(GlmError::ContextFull { tokens, used, capacity })?;
        let offset = sequence.position_offset;
        let first = offset.checked_add(used).ok_or(GlmError::PositionOverflow { offset, used })?;
        Ok(Positions::span(&self.rope, first, count)?)
    }

    fn logits(
        &self,
        normed: &DeviceBuffer<f32>,
        batch: &[Sequence<'_>],
        rows: Rows,
    ) -> Result<Logits, GlmError> {
        let (hidden, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let tokens = normed.len() / hidden;
        if rows == Rows::All {
            let mut buffer = DeviceBuffer::zeroed(&self.device, tokens * vocab)?;
            linear(normed.as_view(), &self.output, buffer.as_view_mut()?)?;
            return Ok(Logits { buffer, vocab });
        }
        let mut buffer = DeviceBuffer::zeroed(&self.device, batch.len() * vocab)?;
        let mut end = 0;
        for (row, sequence) in batch.iter().enumerate() {
            end += sequence.tokens.len();
            let last = normed.view((end - 1) * hidden..end * hidden)?;
            linear(last, &self.output, buffer.view_mut(row * vocab..(row + 1) * vocab)?)?;
        }
        Ok(Logits { buffer, vocab })
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
