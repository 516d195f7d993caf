//! What a model takes on its device, counted before anything is allocated.

use std::fmt;

use attention::{AttentionShape, KvCache, KvDType};
use device_mem::Device;

use crate::arena::Arena;
use crate::model::{DEFAULT_CHUNK, LoadOptions};
use crate::names::{Names, QkvNames};
use crate::weights::GlmWeights;
use crate::{GlmConfig, GlmError};

/// A cache that is going to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSize {
    /// Tokens that it holds.
    pub capacity: u32,
    /// The type of its keys and values.
    pub dtype: KvDType,
}

/// Bytes that a model takes on its device. On the CPU, weights that are held as they are stored are lent by the mapped file
/// and counted all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBudget {
    /// Matrices, norms and biases.
    pub weights: u64,
    /// cos, sin and positions.
    pub rope_table: u64,
    /// Keys and values of the caches that are going to be made, and what attention over them needs.
    pub caches: u64,
    /// What passes compute in.
    pub activations: u64,
}

impl MemoryBudget {
    /// What [`GlmModel::load`](crate::GlmModel::load) with these options takes, and the caches that they name. A tensor that
    /// the file lacks counts nothing.
    ///
    /// # Errors
    /// [`GlmError::Attention`] when a cache is larger than memory can be, or heads are not what attention takes.
    pub fn of(
        config: &GlmConfig,
        weights: &GlmWeights,
        device: &Device,
        options: &LoadOptions<'_>,
    ) -> Result<MemoryBudget, GlmError> {
        let shape = AttentionShape::new(config.q_heads, config.kv_heads, config.head_dim)?;
        let mut caches = 0_u64;
        for &CacheSize { capacity, dtype } in options.caches {
            let bytes = KvCache::bytes_of(device, config.layers, shape, capacity, dtype)?;
            caches = caches.saturating_add(bytes as u64);
        }
        let chunk = options.chunk.unwrap_or(DEFAULT_CHUNK).get() as usize;
        Ok(MemoryBudget {
            weights: weight_bytes(config, weights, options),
            rope_table: rope_bytes(config, options.positions(config)),
            caches,
            activations: Arena::bytes(config, chunk),
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let &MemoryBudget { weights, rope_table, caches, activations } = self;
        [rope_table, caches, activations].into_iter().fold(weights, u64::saturating_add)
    }

    /// Fails when `device` has less memory free than this; a CPU has what the operating system gives.
    ///
    /// # Errors
    /// [`GlmError::DeviceMemory`] with the numbers, or what the device reports.
    pub fn expect_room(&self, device: &Device) -> Result<(), GlmError> {
        match device.free_memory()? {
            Some(free) if free < self.total() => Err(GlmError::DeviceMemory {
                device: device.to_string(),
                needed: *self,
                free,
                shared: device.shared_memory(),
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &MemoryBudget { weights, rope_table, caches, activations } = self;
        write!(
            f,
            "{} bytes (weights {weights}, rotary table {rope_table}, keys and values {caches}, activations {activations})",
            self.total()
        )
    }
}

/// cos and sin `[positions, rotary_dim / 2]`, positions `[positions]`, and the pairs' axes.
fn rope_bytes(config: &GlmConfig, positions: u32) -> u64 {
    let rotary_dim = u64::from(config.rope.rotary_dim());
    4 * (u64::from(positions) * (rotary_dim + 1) + rotary_dim / 2)
}

/// The tensors of the loader, in the types that it holds them in.
fn weight_bytes(config: &GlmConfig, weights: &GlmWeights, options: &LoadOptions<'_>) -> u64 {
    let &GlmConfig { vocab_size, hidden_size, intermediate_size, .. } = config;
    let names = Names::of(config, weights);
    let hidden = hidden_size as u64;
    let matrix = |name: &str, rows: usize, columns: u64| {
        let held = weights.held_as(name, options.dtype);
        let row = held.and_then(|held| held.bytes(usize::try_from(columns).ok()?)).unwrap_or(0);
        (row as u64).saturating_mul(rows as u64)
    };
    let norm = 4 * hidden;
    // A tied output is held beside the embedding.
    let mut bytes = norm
        .saturating_add(matrix(names.embedding(), vocab_size, hidden))
        .saturating_add(matrix(names.output(config), vocab_size, hidden));
    let (q_width, kv_width) = (config.q_width(), config.kv_width());
    let biases = if config.qkv_bias { 4 * (q_width + 2 * kv_width) as u64 } else { 0 };
    for index in 0..config.layers {
        let names = names.layer(index);
        let of = |name: &str, rows, columns| matrix(&format!("{name}.weight"), rows, columns);
        let qkv = match &names.qkv {
            QkvNames::Separate([q, k, v]) => [(q, q_width), (k, kv_width), (v, kv_width)]
                .iter()
                .map(|(name, rows)| of(name, *rows, hidden))
                .fold(0, u64::saturating_add),
            QkvNames::Fused(name) => of(name, q_width + 2 * kv_width, hidden),
        };
        let branch_norms = [&names.post_attention_norm, &names.post_mlp_norm].into_iter().flatten().count();
        bytes = [
            qkv,
            biases,
            of(&names.out, hidden_size, q_width as u64),
            of(&names.gate_up, 2 * intermediate_size, hidden),
            of(&names.down, hidden_size, intermediate_size as u64),
            norm * (2 + branch_norms as u64),
        ]
        .into_iter()
        .fold(bytes, u64::saturating_add);
    }
    bytes
}
