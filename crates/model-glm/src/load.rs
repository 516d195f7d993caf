//! From tensors to layers.

use std::ops::Range;

use device_mem::{Device, DeviceBuffer};
use kernels_nn::{Embedding, Linear, RmsNorm, Weight};

use crate::layer::Layer;
use crate::model::LoadOptions;
use crate::names::{Names, QkvNames};
use crate::weights::{GlmWeights, Wanted};
use crate::{GlmConfig, GlmError};

/// Builds the parts of a model, and tells how far it is.
pub(crate) struct Loader<'a, 'p> {
    config: &'a GlmConfig,
    weights: &'a GlmWeights,
    names: Names,
    device: &'a Device,
    options: LoadOptions<'p>,
    loaded: usize,
    total: usize,
}

impl<'a, 'p> Loader<'a, 'p> {
    pub(crate) fn new(
        config: &'a GlmConfig,
        weights: &'a GlmWeights,
        device: &'a Device,
        options: LoadOptions<'p>,
    ) -> Loader<'a, 'p> {
        let names = Names::of(config, weights);
        Loader { config, weights, names, device, options, loaded: 0, total: weights.bytes() }
    }

    pub(crate) fn embedding(&mut self) -> Result<Embedding, GlmError> {
        let &GlmConfig { vocab_size, hidden_size, .. } = self.config;
        let weight = self.matrix(self.names.embedding(), vocab_size, hidden_size)?;
        Ok(Embedding::new(weight, vocab_size, hidden_size)?)
    }

    pub(crate) fn final_norm(&mut self) -> Result<RmsNorm, GlmError> {
        self.norm(self.names.final_norm())
    }

    pub(crate) fn output(&mut self) -> Result<Linear, GlmError> {
        let &GlmConfig { vocab_size, hidden_size, .. } = self.config;
        let weight = self.matrix(self.names.output(self.config), vocab_size, hidden_size)?;
        Ok(Linear::new(weight, None, vocab_size, hidden_size)?)
    }

    pub(crate) fn layer(&mut self, index: usize) -> Result<Layer, GlmError> {
        let &GlmConfig { hidden_size, intermediate_size, .. } = self.config;
        let names = self.names.layer(index);
        let [q, k, v] = self.qkv(&names.qkv)?;
        let q_width = self.config.q_width();
        Ok(Layer {
            input_norm: self.norm(&format!("{}.weight", names.input_norm))?,
            q,
            k,
            v,
            out: self.linear(&names.out, hidden_size, q_width)?,
            post_attention_norm: self.optional_norm(names.post_attention_norm.as_deref())?,
            mlp_norm: self.norm(&format!("{}.weight", names.mlp_norm))?,
            gate_up: self.linear(&names.gate_up, 2 * intermediate_size, hidden_size)?,
            down: self.linear(&names.down, hidden_size, intermediate_size)?,
            post_mlp_norm: self.optional_norm(names.post_mlp_norm.as_deref())?,
        })
    }

    fn qkv(&mut self, names: &QkvNames) -> Result<[Linear; 3], GlmError> {
        let (q_width, kv_width) = (self.config.q_width(), self.config.kv_width());
        match names {
            QkvNames::Separate([q, k, v]) => Ok([
                self.projection(q, q_width, 0..q_width)?,
                self.projection(k, kv_width, 0..kv_width)?,
                self.projection(v, kv_width, 0..kv_width)?,
            ]),
            QkvNames::Fused(name) => {
                let (k_end, width) = (q_width + kv_width, q_width + 2 * kv_width);
                Ok([
                    self.projection(name, width, 0..q_width)?,
                    self.projection(name, width, q_width..k_end)?,
                    self.projection(name, width, k_end..width)?,
                ])
            }
        }
    }

    /// `rows` of the projection `name`, with their biases when the model has them.
    fn projection(&mut self, name: &str, shape_rows: usize, rows: Range<usize>) -> Result<Linear, GlmError> {
        let (out_features, hidden) = (rows.len(), self.config.hidden_size);
        let weight = self.rows(&format!("{name}.weight"), shape_rows, rows.clone(), hidden)?;
        let bias = match self.config.qkv_bias {
            true => Some(self.vector(&format!("{name}.bias"), shape_rows, rows)?),
            false => None,
        };
        Ok(Linear::new(weight, bias, out_features, hidden)?)
    }

    fn linear(&mut self, name: &str, out_features: usize, in_features: usize) -> Result<Linear, GlmError> {
        let weight = self.matrix(&format!("{name}.weight"), out_features, in_features)?;
        Ok(Linear::new(weight, None, out_features, in_features)?)
    }

    fn norm(&mut self, name: &str) -> Result<RmsNorm, GlmError> {
        let hidden = self.config.hidden_size;
        let weight = self.vector(name, hidden, 0..hidden)?;
        Ok(RmsNorm::new(weight, self.config.rms_norm_eps)?)
    }

    fn optional_norm(&mut self, name: Option<&str>) -> Result<Option<RmsNorm>, GlmError> {
        name.map(|name| self.norm(&format!("{name}.weight"))).transpose()
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Weight, GlmError> {
        self.rows(name, rows, 0..rows, columns)
    }

    fn rows(
        &mut self,
        name: &str,
        shape_rows: usize,
        rows: Range<usize>,
        columns: usize,
    ) -> Result<Weight, GlmError> {
        let LoadOptions { dtype, allow_non_finite, .. } = self.options;
        let share = rows.len();
        let wanted = Wanted { shape_rows, rows, columns, dtype, allow_non_finite, device: self.device };
        let weight = self.weights.matrix(name, &wanted)?;
        self.advance(name, share, shape_rows);
        Ok(weight)
    }

    fn vector(&mut self, name: &str, len: usize, part: Range<usize>) -> Result<DeviceBuffer<f32>, GlmError> {
        let share = part.len();
        let vector = self.weights.vector(name, len, part, self.device, self.options.allow_non_finite)?;
        self.advance(name, share, len);
        Ok(vector)
    }

    /// Counts `share` of `whole` rows of the tensor as loaded.
    fn advance(&mut self, name: &str, share: usize, whole: usize) {
        let bytes = self.weights.tensors().get(name).map_or(0, |tensor| tensor.bytes());
        self.loaded += bytes.checked_div(whole).unwrap_or(0) * share;
        if let Some(progress) = &mut self.options.progress {
            progress(self.loaded.min(self.total), self.total, name);
        }
    }
}
