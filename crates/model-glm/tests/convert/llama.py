#!/usr/bin/env python3
"""Compares `glm quantize` with llama.cpp itself, on the CPU.

  llama.py GLM_BINARY GOLDEN_FOLDER

needs: llama-cpp-python 0.3.36 built from its source package, gguf 0.19.0, numpy. GOLDEN_FOLDER is tests/golden.

1. Golden checkpoints in F32 and Q8_0, loaded and run by llama.cpp: its logits against the golden ones in f64.
2. Random checkpoints: the tensors that glm writes in each type, against those that llama.cpp makes of the F32 file.
Ends with 1 if a golden F32 logit misses by 1e-4 or more, or a tensor has other bytes.
"""
import ctypes, json, struct, subprocess, sys, tempfile
from pathlib import Path
import gguf, numpy as np, llama_cpp as L

silent = L.llama_log_callback(lambda level, text, data: None)
L.llama_log_set(silent, ctypes.c_void_p(0))
L.llama_backend_init()
GLM, GOLDEN = sys.argv[1], Path(sys.argv[2])
KINDS = {"F32": np.float32, "F64": np.float64, "I64": np.int64}
# Name, llama.cpp's number, and whether it is to quantise without a mixture.
TYPES = [("f16", 1, 0), ("bf16", 32, 0), ("q8_0", 7, 0), ("q4_0", 2, 1), ("q4_k", 14, 1), ("q5_k", 16, 1), ("q6_k", 18, 1), ("q4_k_m", 15, 0)]

def quantize(folder, out, kind):
    subprocess.run([GLM, "quantize", folder, out, "--type", kind, "--force"], check=True, capture_output=True)

def read_safetensors(path):
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    part = lambda info: np.frombuffer(data[start + info["data_offsets"][0]:start + info["data_offsets"][1]], KINDS[info["dtype"]])
    return {name: part(info).reshape(info["shape"]) for name, info in header.items()}

def logits(path, ids, vocab):
    model = L.llama_model_default_params()
    # The repacked layouts need instructions that a virtual machine may claim and lack.
    model.n_gpu_layers, model.use_extra_bufts = 0, False
    model = L.llama_model_load_from_file(str(path).encode(), model)
    context = L.llama_context_default_params()
    context.n_ctx, context.type_k, context.type_v, context.flash_attn_type = 512, 0, 0, 0
    context = L.llama_init_from_model(model, context)
    batch = L.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for at, token in enumerate(ids):
        batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = int(token), at, 1, 0, 1
    assert L.llama_decode(context, batch) == 0
    rows = [np.ctypeslib.as_array(L.llama_get_logits_ith(context, at), (vocab,)).copy() for at in range(len(ids))]
    L.llama_free(context), L.llama_model_free(model)
    return np.stack(rows)

def random_checkpoint(folder, kind, layers, hidden, ff, vocab=512, head=32, kv=2):
    rng, heads = np.random.default_rng(7), hidden // head
    shared = dict(model_type=kind, hidden_size=hidden, num_attention_heads=heads, eos_token_id=1)
    if kind == "chatglm":
        config = dict(shared, num_layers=layers, multi_query_attention=True, multi_query_group_num=kv, kv_channels=head, seq_length=4096,
                      ffn_hidden_size=ff, padded_vocab_size=vocab, layernorm_epsilon=1e-5, add_qkv_bias=True, rope_ratio=50)
        ends = ["transformer.embedding.word_embeddings", "transformer.output_layer", "transformer.encoder.final_layernorm"]
        layer = "transformer.encoder.layers.{}."
        parts = {"self_attention.query_key_value.weight": ((heads + 2 * kv) * head, hidden), "self_attention.query_key_value.bias": ((heads + 2 * kv) * head,),
                 "self_attention.dense.weight": (hidden, hidden), "mlp.dense_h_to_4h.weight": (2 * ff, hidden), "mlp.dense_4h_to_h.weight": (hidden, ff)}
    else:
        config = dict(shared, num_hidden_layers=layers, num_key_value_heads=kv, head_dim=head, intermediate_size=ff, vocab_size=vocab,
                      rms_norm_eps=1e-5, max_position_embeddings=4096, attention_bias=True)
        ends = ["model.embed_tokens", "lm_head", "model.norm"]
        layer = "model.layers.{}."
        parts = {"self_attn.o_proj.weight": (hidden, hidden), "mlp.gate_up_proj.weight": (2 * ff, hidden), "mlp.down_proj.weight": (hidden, ff)}
        for name, rows in (("q", heads * head), ("k", kv * head), ("v", kv * head)):
            parts |= {f"self_attn.{name}_proj.weight": (rows, hidden), f"self_attn.{name}_proj.bias": (rows,)}
        if kind == "glm4":
            parts |= {"post_self_attn_layernorm.weight": (hidden,), "post_mlp_layernorm.weight": (hidden,)}
    parts |= {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    shapes = {f"{ends[0]}.weight": (vocab, hidden), f"{ends[1]}.weight": (vocab, hidden), f"{ends[2]}.weight": (hidden,)}
    shapes |= {layer.format(i) + name: shape for i in range(layers) for name, shape in parts.items()}
    header, blob = {}, b""
    for name, shape in shapes.items():
        data = (rng.standard_normal(shape) * 0.02).astype(np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + blob)
    (folder / "config.json").write_text(json.dumps(config))

def tensors(path):
    return {tensor.name: (tensor.tensor_type.name, np.asarray(tensor.data).tobytes()) for tensor in gguf.GGUFReader(path).tensors}

def golden(scratch):
    ok = True
    for checkpoint, outputs in (("glm4", "glm4"), ("glm", "glm"), ("chatglm_orig", "glm")):
        truth = read_safetensors(GOLDEN / outputs / "golden.safetensors")
        for kind in ("f32", "q8_0"):
            quantize(GOLDEN / checkpoint, scratch / "model.gguf", kind)
            for prompt in ("p0", "p1", "p2"):
                expected = truth[f"{prompt}.logits_f64"]
                got = logits(scratch / "model.gguf", truth[f"{prompt}.input_ids"].ravel(), expected.shape[-1])
                miss, same = np.abs(got - expected), int((got.argmax(-1) == expected.argmax(-1)).sum())
                print(f"{checkpoint} {kind} {prompt}: logits miss by at most {miss.max():.2e}, same choice for {same} of {len(got)} tokens")
                ok &= kind != "f32" or miss.max() < 1e-4
    return ok

def random(scratch):
    ok = True
    for name, shape in {"glm4": (18, 256, 512), "glm4, odd rows": (9, 256, 544), "glm": (10, 256, 512), "chatglm": (12, 256, 512)}.items():
        folder = scratch / name
        random_checkpoint(folder, name.split(",")[0], *shape)
        quantize(folder, scratch / "f32.gguf", "f32")
        for kind, number, pure in TYPES:
            quantize(folder, scratch / "ours.gguf", kind)
            params = L.llama_model_quantize_default_params()
            params.ftype, params.pure, params.nthread = number, bool(pure), 2
            assert L.llama_model_quantize(str(scratch / "f32.gguf").encode(), str(scratch / "theirs.gguf").encode(), ctypes.byref(params)) == 0
            ours, theirs = tensors(scratch / "ours.gguf"), tensors(scratch / "theirs.gguf")
            equal = sum(ours[tensor] == theirs.get(tensor) for tensor in ours)
            print(f"{name} {kind}: {equal} of {len(theirs)} tensors equal, in {', '.join(sorted({stored for stored, _ in ours.values()}))}")
            ok &= equal == len(theirs) == len(ours)
    return ok

with tempfile.TemporaryDirectory() as scratch:
    results = [golden(Path(scratch)), random(Path(scratch))]
sys.exit(not all(results))
