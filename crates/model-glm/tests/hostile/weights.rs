//! 4 checkpoints whose weights cannot be computed with, and further ones.

use std::fs;

use device_mem::{DType, Device};
use model_glm::{GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions};

use crate::case::{Case, Input, Outcome};
use crate::checkpoint::Checkpoint;
use crate::config::load;

const DOWN: &str = "model.layers.1.mlp.down_proj.weight";
const NORM: &str = "model.layers.0.input_layernorm.weight";
const V: &str = "model.layers.0.self_attn.v_proj.weight";

/// A checkpoint with this number at an element.
fn with(tensor: &str, index: usize, value: f32) -> Checkpoint {
    Checkpoint::golden().element(tensor, index, &value.to_le_bytes())
}

fn load_as(input: &Input, options: LoadOptions<'_>) -> Outcome {
    let (config, weights) = (GlmConfig::open(input.folder())?, GlmWeights::open(input.folder())?);
    GlmModel::load(config, &weights, &Device::Cpu, LoadOptions { context: Some(64), ..options }).map(drop)
}

fn load_as_f16(input: &Input) -> Outcome {
    load_as(input, LoadOptions { dtype: Some(DType::F16), ..LoadOptions::default() })
}

fn load_all_the_same(input: &Input) -> Outcome {
    load_as(input, LoadOptions { allow_non_finite: true, ..LoadOptions::default() })
}

fn load_all_the_same_as_f16(input: &Input) -> Outcome {
    load_as(input, LoadOptions { dtype: Some(DType::F16), allow_non_finite: true, ..LoadOptions::default() })
}

fn index(text: &'static str) -> Checkpoint {
    Checkpoint::golden().with("model.safetensors.index.json", text)
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        refused!("a NaN among the weights", with(DOWN, 6143, f32::NAN).folder(), load, GlmError::NotFinite { tensor, index: 6143, value } if tensor == DOWN && value.is_nan()),
        refused!("an infinity among the weights", with(V, 64, f32::NEG_INFINITY).folder(), load, GlmError::NotFinite { tensor, index: 64, value: f32::NEG_INFINITY } if tensor == V),
        refused!("a weight that f16 cannot hold", with(DOWN, 7, -65_536.0).folder(), load_as_f16, GlmError::TooLarge { tensor, value: -65_536.0, stored: "f16" } if tensor == DOWN),
        refused!("an empty list of shards", index(r#"{"metadata": {}, "weight_map": {}}"#).folder(), load, GlmError::BadKey { key, .. } if key == "weight_map"),
    ]
}

pub(crate) fn further() -> Vec<Case> {
    vec![
        taken!("weights: a NaN that is allowed", with(DOWN, 6143, f32::NAN).folder(), load_all_the_same),
        taken!(
            "weights: an infinity in f16 that is allowed",
            with(DOWN, 7, 1e30).folder(),
            load_all_the_same_as_f16
        ),
        refused!("weights: a NaN in a norm", with(NORM, 63, f32::NAN).folder(), load, GlmError::NotFinite { tensor, index: 63, .. } if tensor == NORM),
        refused!("weights: no list of shards", index("{}").folder(), load, GlmError::Json { .. }),
        refused!(
            "weights: shards that are no texts",
            index(r#"{"weight_map": {"a": 1}}"#).folder(),
            load,
            GlmError::Json { .. }
        ),
        refused!(
            "weights: no file",
            {
                let checkpoint = Checkpoint::golden();
                fs::remove_file(checkpoint.path().join("model.safetensors")).unwrap();
                checkpoint.folder()
            },
            load,
            GlmError::Read { .. }
        ),
    ]
}
