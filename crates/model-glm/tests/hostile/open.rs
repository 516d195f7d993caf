//! Files that change while they are open.

use std::fs::{self, File};
use std::path::Path;

use attention::KvDType;
use device_mem::{Device, MemError};
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::{GenerateOptions, GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions, Next, generate};

use crate::case::Outcome;
use crate::checkpoint::Checkpoint;

const MODEL: &str = "model.safetensors";

fn load(folder: &Path) -> Result<GlmModel, GlmError> {
    let (config, weights) = (GlmConfig::open(folder)?, GlmWeights::open(folder)?);
    let options = LoadOptions { context: Some(64), ..LoadOptions::default() };
    GlmModel::load(config, &weights, &Device::Cpu, options)
}

/// Loads a model, does something to its file, and runs a pass.
pub(crate) fn forward_after(folder: &Path, change: fn(&Path)) -> Outcome {
    let model = load(folder)?;
    change(&folder.join(MODEL));
    model.forward(&[1, 2, 3], &mut model.new_cache(64, KvDType::F32)?).map(drop)
}

fn cut(file: &Path) {
    File::options().write(true).open(file).unwrap().set_len(4096).unwrap();
}

#[test]
fn a_cut_ends_the_answer_that_meets_it_and_leaves_the_cache_as_it_was() {
    let _alone = crate::case::alone();
    let checkpoint = Checkpoint::golden();
    let model = load(checkpoint.path()).unwrap();
    let mut cache = model.new_cache(64, KvDType::F32).unwrap();
    model.forward(&[1, 2, 3], &mut cache).unwrap();
    let sampler = Sampler::new(SamplerConfig::default()).unwrap();
    let options = GenerateOptions { max_tokens: 8, sampler, stop_ids: &[] };
    let mut told = 0;
    let error = generate(&model, &mut cache, &[4], options, |_| {
        told += 1;
        if told == 3 {
            cut(&checkpoint.path().join(MODEL));
        }
        Ok(Next::Continue)
    });
    let error = error.unwrap_err();
    assert!(matches!(&error, GlmError::Mem(MemError::Torn { path }) if path.ends_with(MODEL)), "{error:?}");
    assert_eq!((told, cache.len()), (3, 6), "the token that was computed from zeros is not told");
    assert!(model.forward(&[5], &mut cache).is_err(), "the model stays void");
    assert_eq!(cache.len(), 6);
}

#[test]
fn a_change_while_loading_is_told() {
    let _alone = crate::case::alone();
    let checkpoint = Checkpoint::golden();
    let weights = GlmWeights::open(checkpoint.path()).unwrap();
    let config = GlmConfig::open(checkpoint.path()).unwrap();
    let (file, mut is_first) = (checkpoint.path().join(MODEL), true);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let mut change = |_: usize, _: usize, _: &str| {
        if std::mem::take(&mut is_first) {
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, bytes).unwrap();
        }
    };
    let options = LoadOptions { context: Some(64), progress: Some(&mut change), ..LoadOptions::default() };
    let error = GlmModel::load(config, &weights, &Device::Cpu, options).unwrap_err();
    assert!(matches!(&error, GlmError::Mem(MemError::Changed { .. } | MemError::Torn { .. })), "{error:?}");
}

#[test]
fn a_file_that_is_replaced_is_used_as_it_was() {
    let _alone = crate::case::alone();
    let checkpoint = Checkpoint::golden();
    let model = load(checkpoint.path()).unwrap();
    let logits = || {
        let mut cache = model.new_cache(64, KvDType::F32).unwrap();
        model.forward(&[1, 2, 3], &mut cache).unwrap().to_host_vec().unwrap()
    };
    let before = logits();
    let other = checkpoint.path().join("other");
    fs::write(&other, b"another file").unwrap();
    fs::rename(other, checkpoint.path().join(MODEL)).unwrap();
    assert_eq!(logits(), before);
}
