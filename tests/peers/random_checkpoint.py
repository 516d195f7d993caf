"""Writes a checkpoint of GLM-4-9B's shape with random weights in bf16, for timing: `python3 random_checkpoint.py FOLDER`.

It needs PyTorch and safetensors, and 18.8 GB at FOLDER.
"""

import json
import os
import sys

import torch
from safetensors.torch import save_file

CONFIG = {
    "model_type": "glm", "hidden_size": 4096, "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2,
    "head_dim": 128, "intermediate_size": 13696, "vocab_size": 151552, "rms_norm_eps": 1.5625e-07,
    "max_position_embeddings": 131072, "partial_rotary_factor": 0.5, "rope_theta": 10000.0, "attention_bias": True,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "eos_token_id": [151329],
}


def matrix(rows, columns):
    return (torch.randn(rows, columns, device=DEVICE) * columns ** -0.5).to(torch.bfloat16).cpu()


def vector(rows, around):
    return (around + 0.1 * torch.randn(rows)).to(torch.bfloat16)


def layer(index):
    hidden, width = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    q, kv = CONFIG["num_attention_heads"] * CONFIG["head_dim"], CONFIG["num_key_value_heads"] * CONFIG["head_dim"]
    name = f"model.layers.{index}."
    attention, mlp = name + "self_attn.", name + "mlp."
    tensors = {
        attention + "q_proj.weight": matrix(q, hidden), attention + "q_proj.bias": vector(q, 0.0),
        attention + "k_proj.weight": matrix(kv, hidden), attention + "k_proj.bias": vector(kv, 0.0),
        attention + "v_proj.weight": matrix(kv, hidden), attention + "v_proj.bias": vector(kv, 0.0),
        attention + "o_proj.weight": matrix(hidden, q),
        mlp + "gate_up_proj.weight": matrix(2 * width, hidden), mlp + "down_proj.weight": matrix(hidden, width),
        name + "input_layernorm.weight": vector(hidden, 1.0), name + "post_attention_layernorm.weight": vector(hidden, 1.0),
    }
    return tensors


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main(folder):
    os.makedirs(folder, exist_ok=True)
    hidden, vocab, layers = CONFIG["hidden_size"], CONFIG["vocab_size"], CONFIG["num_hidden_layers"]
    shards = [{"model.embed_tokens.weight": matrix(vocab, hidden), "model.norm.weight": vector(hidden, 1.0)},
              {"lm_head.weight": matrix(vocab, hidden)}]
    weight_map = {}

    def save(number, tensors):
        file = f"model-{number:05}.safetensors"
        save_file(tensors, os.path.join(folder, file))
        weight_map.update({name: file for name in tensors})

    for number, tensors in enumerate(shards):
        save(number, tensors)
    for index in range(layers):
        save(len(shards) + index, layer(index))
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(CONFIG, file)
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": weight_map}, file)


if __name__ == "__main__":
    main(sys.argv[1])
