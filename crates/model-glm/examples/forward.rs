//! A forward pass and some greedy tokens of a tiny model with made-up weights, on the CPU.

use attention::KvDType;
use device_mem::Device;
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::{GenerateOptions, GlmConfig, GlmModel, GlmWeights, LoadOptions, Next, generate};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView};

const CONFIG: &str = r#"{
    "model_type": "glm4", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 32, "vocab_size": 64, "rms_norm_eps": 1e-5, "max_position_embeddings": 128,
    "partial_rotary_factor": 0.5, "rope_theta": 10000.0
}"#;

const SHAPES: &[(&str, &[usize])] = &[
    ("model.embed_tokens.weight", &[64, 16]),
    ("model.layers.0.input_layernorm.weight", &[16]),
    ("model.layers.0.self_attn.q_proj.weight", &[32, 16]),
    ("model.layers.0.self_attn.k_proj.weight", &[16, 16]),
    ("model.layers.0.self_attn.v_proj.weight", &[16, 16]),
    ("model.layers.0.self_attn.o_proj.weight", &[16, 32]),
    ("model.layers.0.post_self_attn_layernorm.weight", &[16]),
    ("model.layers.0.post_attention_layernorm.weight", &[16]),
    ("model.layers.0.mlp.gate_up_proj.weight", &[64, 16]),
    ("model.layers.0.mlp.down_proj.weight", &[16, 32]),
    ("model.layers.0.post_mlp_layernorm.weight", &[16]),
    ("model.norm.weight", &[16]),
    ("lm_head.weight", &[64, 16]),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let weights = GlmWeights::from_bytes(made_up_weights()?)?;
    let model =
        GlmModel::load(GlmConfig::from_json(CONFIG)?, &weights, &Device::Cpu, LoadOptions::default())?;

    let mut cache = model.new_cache(64, KvDType::BF16)?;
    let sampler = Sampler::new(SamplerConfig::default())?;
    let options = GenerateOptions { max_tokens: 8, sampler, stop_ids: &[] };
    let answer = generate(&model, &mut cache, &[3, 1, 4, 1, 5], options, |_| Ok(Next::Continue))?;
    println!("ran on {}, tokens {:?}, {} in the cache", answer.ran_on, answer.tokens, cache.len());
    Ok(())
}

fn made_up_weights() -> Result<Vec<u8>, SafeTensorError> {
    let bytes: Vec<u8> =
        (0..1024_u16).flat_map(|at| (f32::from(at * 37 % 101) / 101.0 - 0.5).to_le_bytes()).collect();
    let view = |&(name, shape): &(&'static str, &[usize])| {
        let len = 4 * shape.iter().product::<usize>();
        Ok((name, TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..len])?))
    };
    let tensors = SHAPES.iter().map(view).collect::<Result<Vec<_>, SafeTensorError>>()?;
    safetensors::serialize(tensors, None)
}
