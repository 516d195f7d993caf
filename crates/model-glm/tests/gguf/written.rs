//! Files that `convert` writes are read as the folders that they are of.

use std::path::{Path, PathBuf};

use device_mem::{DType, Device};
use model_glm::gguf::{ConvertOptions, FileType, convert};
use model_glm::{ChatTemplate, GlmConfig, GlmModel, GlmWeights, LoadOptions, Message, Tokenizer};
use parity::golden_dir;

pub(crate) fn written(folder: &Path, file_type: FileType, out: &Path) -> PathBuf {
    let path = out.join(format!("{}.gguf", file_type.name()));
    convert(folder, &path, ConvertOptions { file_type, overwrite: false, progress: None }).unwrap();
    path
}

/// Logits after some tokens.
fn logits(path: &Path, dtype: Option<DType>) -> Vec<f32> {
    let options = LoadOptions { dtype, context: Some(64), ..LoadOptions::default() };
    let (config, weights) = (GlmConfig::open(path).unwrap(), GlmWeights::open(path).unwrap());
    let model = GlmModel::load(config, &weights, &Device::Cpu, options).unwrap();
    let mut cache = model.new_cache(64, attention::KvDType::F32).unwrap();
    model.forward(&[3, 1, 4, 1, 5, 9, 2, 6], &mut cache).unwrap().to_host_vec().unwrap()
}

/// The cosine of the angle between two vectors.
fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(&left, &right)| f64::from(left) * f64::from(right)).sum()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[test]
fn f32_files_give_the_bits_of_their_folders_and_others_come_near() {
    for checkpoint in ["glm4", "glm", "chatglm_orig"] {
        let (folder, out) = (golden_dir().join(checkpoint), tempfile::tempdir().unwrap());
        let expected = logits(&folder, None);
        for file_type in FileType::ALL {
            let path = written(&folder, file_type, out.path());
            let found = logits(&path, None);
            match file_type {
                // The checkpoints are exact in bf16.
                FileType::F32 | FileType::BF16 => {
                    assert_eq!(found, expected, "{checkpoint} {}", file_type.name())
                }
                // Held in blocks, a token is rounded to 8 bits as well. A wrong block or row would leave nothing alike; of a
                // random model 4 bits leave this much.
                _ => {
                    let widened = logits(&path, Some(DType::F32));
                    let (blocks, rounding) = (cosine(&widened, &found), cosine(&expected, &widened));
                    assert!(
                        blocks > 0.99 && rounding > 0.6,
                        "{checkpoint} {}: {blocks} {rounding}",
                        file_type.name()
                    );
                }
            }
        }
    }
}

#[test]
fn the_toy_keeps_its_config_its_tokens_and_its_template() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../glm/demo");
    let out = tempfile::tempdir().unwrap();
    let file = written(&demo, FileType::BF16, out.path());
    assert_eq!(GlmConfig::open(&file).unwrap(), GlmConfig::open(&demo).unwrap());
    assert_eq!(logits(&file, None), logits(&demo, None));
    let question = [Message::new("user", "What is Gyre? <|user|> ü 智谱 12345\n\n")];
    let ids = |path: &Path| {
        let (tokenizer, template) = (Tokenizer::open(path).unwrap(), ChatTemplate::open(path).unwrap());
        tokenizer.encode_prompt(&template.render(&question, &tokenizer.control_tokens()).unwrap()).unwrap()
    };
    assert_eq!(ids(&file), ids(&demo));
}
