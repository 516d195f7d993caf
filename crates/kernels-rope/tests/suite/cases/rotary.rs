//! Rotary embeddings: the config that the library is given, and the definition that truth is computed from.

use std::sync::Arc;

use kernels_rope::{Axes, InvFreq, Pairing, RopeConfig, Scaling};

/// One rotary embedding.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    /// Its scaling and its axes.
    pub(crate) label: String,
    /// What the library is given.
    pub(crate) config: RopeConfig,
    /// What truth is computed from.
    pub(crate) definition: Definition,
}

/// Where the frequencies of truth come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Definition {
    /// From the config, by the formulas of the papers.
    Config,
    /// From ggml's parameters, by ggml's formulas. The config says the same by other means.
    Ggml {
        mode: GgmlMode,
        freq_scale: f64,
        ext_factor: f64,
        attn_factor: f64,
        /// Divisors `[rotary_dim / 2]`; ones where there are none.
        freq_factors: Vec<f64>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GgmlMode {
    Normal,
    Neox,
    Mrope,
    Imrope,
    Vision,
}

impl Rotary {
    pub(crate) fn new(label: &str, config: RopeConfig) -> Arc<Rotary> {
        Arc::new(Rotary { label: label.to_owned(), config, definition: Definition::Config })
    }

    /// Pairing, scaling, widths and base.
    pub(crate) fn name(&self) -> String {
        let RopeConfig { head_dim, rotary_dim, theta, pairing, .. } = &self.config;
        let pairing = match pairing {
            Pairing::Interleaved => "interleaved",
            Pairing::Halves => "halves",
        };
        format!("{pairing}-{}/d{head_dim}-r{rotary_dim}-b{theta:e}", self.label)
    }
}

/// A config without scaling and with one axis.
pub(crate) fn plain(head_dim: u32, rotary_dim: u32, theta: f64, pairing: Pairing) -> RopeConfig {
    let (scaling, axes, inv_freq) = (Scaling::None, Axes::Single, InvFreq::Exact);
    RopeConfig { head_dim, rotary_dim, theta, pairing, scaling, axes, inv_freq }
}

/// Llama 3.1's scaling, which FlashInfer's kernels have as their defaults.
pub(crate) fn llama31() -> Scaling {
    Scaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, trained_positions: 8192 }
}

/// YaRN with the defaults of the paper and of transformers.
pub(crate) fn yarn(factor: f64, trained_positions: u32) -> Scaling {
    Scaling::Yarn {
        factor,
        trained_positions,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    }
}

/// LongRoPE with divisors that grow with the pair, as those of models do: to 2 up to the trained positions, to 48 beyond.
pub(crate) fn longrope(factor: f64, pairs: u32, trained_positions: u32) -> Scaling {
    let growing = |most: f64| {
        let share = |pair: u32| f64::from(pair) / f64::from(pairs.max(2) - 1);
        (0..pairs).map(|pair| 1.0 + (most - 1.0) * share(pair)).collect()
    };
    Scaling::LongRope {
        factor,
        short_factor: growing(2.0),
        long_factor: growing(48.0),
        trained_positions,
        attention_factor: None,
    }
}
