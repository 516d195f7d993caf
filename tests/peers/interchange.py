"""Holds GGUF files to llama.cpp, both ways: `python3 interchange.py GLM FOLDER WORK`.

GLM is the command, FOLDER a checkpoint with a tokenizer whose matrices have rows of whole blocks of 256, and WORK an empty folder for
files of 10 bytes for each of its parameters. For each type `glm quantize` writes a file, and llama.cpp's quantizer another one from ours of f32. A
line of JSON each tells whether all tensors of both have the same bytes, and how far the logits of 48 tokens are from each other, as the
divergence of Kullback and Leibler in nats (mean over the tokens, then the largest) and how many tokens have the same most likely
successor: glm's and llama.cpp's of our file (`ours`), glm's and llama.cpp's of llama.cpp's (`theirs`), and, for scale, llama.cpp's of
our file and of the same numbers in f32 (`own_error`), which is what its rounding of tokens does.

It needs llama-cpp-python, gguf, safetensors and numpy.
"""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import llama_cpp
import numpy
from gguf import GGUFReader
from safetensors.numpy import load_file

TYPES = {
    "f32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
# Those of which every matrix has the one type, as `glm quantize` writes them.
PURE = {"q8_0", "q4_0"}
TOKENS = 48


def ids(vocab):
    return [(place * 7919 + 13) % (vocab - 1) for place in range(TOKENS)]


def logits_of_llama_cpp(path):
    parameters = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        sys.exit(f"llama.cpp does not read {path}")
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    context_parameters = llama_cpp.llama_context_default_params()
    context_parameters.n_ctx, context_parameters.n_batch = 256, 256
    context_parameters.type_k = context_parameters.type_v = llama_cpp.GGML_TYPE_F32
    context_parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, context_parameters)
    batch = llama_cpp.llama_batch_init(TOKENS, 0, 1)
    batch.n_tokens = TOKENS
    for place, token in enumerate(ids(vocab)):
        batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
        batch.seq_id[place][0], batch.logits[place] = 0, 1
    if llama_cpp.llama_decode(context, batch) != 0:
        sys.exit(f"llama.cpp does not run {path}")
    rows = [llama_cpp.llama_get_logits_ith(context, place) for place in range(TOKENS)]
    rows = [numpy.ctypeslib.as_array(row, shape=(vocab,)).astype(numpy.float64) for row in rows]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return numpy.array(rows)


def logits_of_glm(glm, path, vocab, work):
    out = work / "logits.safetensors"
    out.unlink(missing_ok=True)
    tokens = ",".join(map(str, ids(vocab)))
    arguments = ["dump", "--device", "cpu", "--model", path, "--ids", tokens, "--out", out]
    subprocess.run([glm, *arguments], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    tensors = load_file(out)
    name = next(name for name in tensors if name.endswith("logits"))
    return tensors[name].reshape(TOKENS, vocab).astype(numpy.float64)


def distance(left, right):
    def log_softmax(rows):
        rows = rows - rows.max(axis=1, keepdims=True)
        return rows - numpy.log(numpy.exp(rows).sum(axis=1, keepdims=True))

    left, right = log_softmax(left), log_softmax(right)
    nats = (numpy.exp(left) * (left - right)).sum(axis=1)
    same = int((left.argmax(axis=1) == right.argmax(axis=1)).sum())
    return {"mean": float(f"{nats.mean():.2g}"), "most": float(f"{nats.max():.2g}"), "same_first": same, "of": TOKENS}


def quantize_by_llama_cpp(source, target, name):
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.pure, parameters.allow_requantize = TYPES[name], name in PURE, True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)) != 0:
        sys.exit(f"llama.cpp does not quantise {source} to {name}")


def has_the_bytes_of(left, right):
    tensors = [{tensor.name: tensor for tensor in GGUFReader(path).tensors} for path in (left, right)]
    if tensors[0].keys() != tensors[1].keys():
        return False
    pairs = ((tensors[0][name], tensors[1][name]) for name in tensors[0])
    return all(a.tensor_type == b.tensor_type and numpy.array_equal(a.data, b.data) for a, b in pairs)


def main(glm, folder, work):
    work = Path(work)
    llama_cpp.llama_backend_init()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    in_f32 = work / "f32.gguf"
    for name in TYPES:
        ours, theirs, widened = (work / f"{whose}-{name}.gguf" for whose in ("ours", "theirs", "widened"))
        quantize = [glm, "quantize", folder, ours, "--type", name, "--force"]
        subprocess.run(quantize, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        expected = logits_of_llama_cpp(ours)
        vocab = expected.shape[1]
        found = {"type": name, "ours": distance(logits_of_glm(glm, ours, vocab, work), expected)}
        if name == "f32":
            ours.rename(in_f32)
        else:
            quantize_by_llama_cpp(in_f32, theirs, name)
            found["same_bytes"] = has_the_bytes_of(ours, theirs)
            found["theirs"] = distance(logits_of_glm(glm, theirs, vocab, work), logits_of_llama_cpp(theirs))
            quantize_by_llama_cpp(ours, widened, "f32")
            found["own_error"] = distance(logits_of_llama_cpp(widened), expected)
            for path in (ours, theirs, widened):
                path.unlink()
        print(json.dumps(found), flush=True)


if len(sys.argv) != 4:
    sys.exit(__doc__)
main(*sys.argv[1:])
