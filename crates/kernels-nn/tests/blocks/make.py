#!/usr/bin/env python3
r"""Writes the vectors of tests/block_vectors.rs: what ggml's reference makes of the rows that the test builds too.

  make.py libggml-base.so OUT_FOLDER

The library is that of the package llama-cpp-python 0.3.36 built for x86-64. Its `ggml-base` is compiled for any such machine, so
products and sums are not fused; gcc fuses them where a build allows it (`-march=native`) or the machine always can (aarch64),
and then last bits differ. This is the same without fusing on any machine, `ggml` being llama.cpp's folder in the package's source:

  echo 'char ggml_abort, ggml_row_size, ggml_type_name, ggml_type_size;' > unused.c
  gcc -O2 -ffp-contract=off -DNDEBUG -fPIC -shared -I ggml/include -I ggml/src -o libquants.so ggml/src/ggml-quants.c unused.c -lm

Elements are compared with those of the package gguf 0.19.0, which does not fuse either; it also rounds the formats of 32, and its
bytes must be the same. The committed files are from gcc 12.2.0 and numpy 2.4.6.
"""
import ctypes, sys
from pathlib import Path
import numpy as np
from gguf import quants
from gguf.constants import GGMLQuantizationType

FORMATS = {"Q8_0": (32, 34), "Q4_0": (32, 18), "Q5_0": (32, 22), "Q5_1": (32, 24),
           "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210)}
ROW, MANY, BYTES = 256, 2048, 1 << 18
f32 = np.float32

def words(seed, count):
    """SplitMix64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

def noise(seed, count):
    """Sums of four 16-bit parts of a word, centred, in (-1, 1): nearly normal, deviation 0.29."""
    w = words(seed, count)
    total = sum((w >> np.uint64(s)) & np.uint64(0xFFFF) for s in (0, 16, 32, 48)).astype(np.int64)
    return (total - 131070).astype(f32) * f32(2.0 ** -17)

def rows():
    i = np.arange(ROW)
    zero = np.zeros(ROW, f32)
    at = lambda base, value: np.where(i == 100, f32(value), base).astype(f32)
    yield zero                                               # 0 zeros
    yield at(zero, 3.5)                                      # 1 one outlier
    yield np.full(ROW, 0.7, f32)                             # 2 all equal
    yield np.full(ROW, -0.7, f32)                            # 3 all equal, negative
    yield (i - 128).astype(f32) * f32(2.0 ** -149)           # 4 subnormal
    yield -np.abs(noise(5, ROW))                             # 5 negative only
    yield np.abs(noise(6, ROW))                              # 6 positive only
    yield noise(7, ROW) * f32(1e30)                          # 7 beyond what an f16 scale reaches
    yield np.where(i % 2 == 0, f32(1), f32(-1))              # 8 alternating
    yield (i - 128).astype(f32) * f32(2.0 ** -7)             # 9 a ramp
    yield noise(10, ROW) * f32(2.0 ** -60)                   # 10 below Q6_K's least
    yield at(noise(11, ROW), 300)                            # 11 an outlier above noise
    yield np.where(i % 3 == 0, f32(3e38), f32(-3e38))        # 12 a range that f32 does not hold
    yield (i % 16 - 8).astype(f32) + f32(0.5)                # 13 ties
    yield -zero                                              # 14 negative zeros
    yield noise(15, ROW) * f32(2.0 ** -16)                   # 15 scales below f16's normal range
    yield noise(16, ROW) * (i // 16).astype(f32)             # 16 groups of different magnitude
    yield noise(17, ROW) + f32(5)                            # 17 far from zero
    yield noise(18, ROW) - f32(5)                            # 18 far from zero, negative
    for seed in range(19, 32):
        yield noise(seed, ROW) * f32(2.0 ** (seed - 28))     # 19 to 31

def fnv(data):
    """FNV-1a over little-endian words of 16 bits."""
    h = 0xCBF29CE484222325
    for word in np.frombuffer(data, "<u2").tolist():
        h = ((h ^ word) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h

def call(lib, name, source, out, count):
    pointer = lambda a: a.ctypes.data_as(ctypes.c_void_p)
    getattr(lib, name)(pointer(source), pointer(out), ctypes.c_int64(count))
    return out

def quantize(lib, name, x):
    length, size = FORMATS[name]
    return call(lib, f"quantize_row_{name[0].lower()}{name[1:]}_ref", x, np.zeros(x.size // length * size, np.uint8), x.size)

def dequantize(lib, name, blocks):
    length, size = FORMATS[name]
    count = blocks.size // size * length
    return call(lib, f"dequantize_row_{name[0].lower()}{name[1:]}", blocks, np.zeros(count, f32), count)

def same(a, b):
    return np.array_equal(np.where(np.isnan(a), f32(0), a).view(np.uint32), np.where(np.isnan(b), f32(0), b).view(np.uint32)) \
        and np.array_equal(np.isnan(a), np.isnan(b))

def main():
    lib, out = ctypes.CDLL(sys.argv[1]), Path(sys.argv[2])
    few, many = np.concatenate(list(rows())), noise(99, MANY * ROW) * f32(0.125)
    lines = []
    for name, (length, size) in FORMATS.items():
        kind = GGMLQuantizationType[name]
        blocks = quantize(lib, name, few)
        (out / f"{name}.bin").write_bytes(blocks.tobytes())
        random = words(1234, BYTES // 8).view(np.uint8)[: BYTES // size // 2 * 2 * size].copy()
        with np.errstate(all="ignore"):
            for given in (blocks, random):
                assert same(dequantize(lib, name, given), quants.dequantize(given, kind).ravel()), name
        if length == 32:
            assert np.array_equal(quantize(lib, name, many), quants.quantize(many, kind).ravel()), name
        elements = dequantize(lib, name, random)
        elements[np.isnan(elements)] = np.frombuffer(b"\0\0\xc0\x7f", f32)[0]
        lines.append(f"{name} {fnv(quantize(lib, name, many).tobytes()):016x} {fnv(elements.tobytes()):016x}")
    (out / "hashes.txt").write_text("\n".join(lines) + "\n")

main()
