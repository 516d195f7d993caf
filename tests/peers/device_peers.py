"""Times what `device-bench` timed with PyTorch, cuBLAS and Triton on the same card, at the same shapes.

    python3 device_peers.py BENCH.json      reads the rows of BENCH.json, and writes it back with the peers of each

The runs of a sample are one CUDA graph over as many sets of operands as `device-bench` used; a time is the middle of the
samples, as there. Rates of a copy and of a matrix product by cuBLAS are measured too: what a card gives at best.
`cargo xtask bench --device` runs it; it needs PyTorch and Triton.
"""

import json
import subprocess
import sys

import torch
import torch.nn.attention.bias
import torch.nn.functional as F
import triton
import triton.language as tl

SAMPLES = 7
SAMPLE_MS = 20.0
MOST_RUNS = 2000
DEVICE = "cuda"


def numbers(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device=DEVICE).uniform_(-1, 1)


@triton.jit
def rope_append_kernel(q, k, v, keys, values, cos, sin, positions, q_heads: tl.constexpr, kv_heads: tl.constexpr,
                       head_dim: tl.constexpr, pairs: tl.constexpr, capacity, WIDTH: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    position = tl.load(positions + token).to(tl.int64)
    at = tl.arange(0, WIDTH)
    if head < q_heads:
        q_row = q + (token * q_heads + head) * head_dim
        pair = at < pairs
        c = tl.load(cos + position * pairs + at, mask=pair)
        s = tl.load(sin + position * pairs + at, mask=pair)
        even = tl.load(q_row + 2 * at, mask=pair)
        odd = tl.load(q_row + 2 * at + 1, mask=pair)
        tl.store(q_row + 2 * at, even * c - odd * s, mask=pair)
        tl.store(q_row + 2 * at + 1, odd * c + even * s, mask=pair)
    else:
        kv_head = head - q_heads
        from_ = (token * kv_heads + kv_head) * head_dim
        to = (kv_head * capacity + token) * head_dim
        pair = at < pairs
        c = tl.load(cos + position * pairs + at, mask=pair)
        s = tl.load(sin + position * pairs + at, mask=pair)
        even = tl.load(k + from_ + 2 * at, mask=pair)
        odd = tl.load(k + from_ + 2 * at + 1, mask=pair)
        first = even * c - odd * s
        second = odd * c + even * s
        tl.store(k + from_ + 2 * at, first, mask=pair)
        tl.store(k + from_ + 2 * at + 1, second, mask=pair)
        tl.store(keys + to + 2 * at, first.to(tl.bfloat16), mask=pair)
        tl.store(keys + to + 2 * at + 1, second.to(tl.bfloat16), mask=pair)
        rest = (at >= 2 * pairs) & (at < head_dim)
        tl.store(keys + to + at, tl.load(k + from_ + at, mask=rest).to(tl.bfloat16), mask=rest)
        whole = at < head_dim
        tl.store(values + to + at, tl.load(v + from_ + at, mask=whole).to(tl.bfloat16), mask=whole)


def rope_append(row):
    shape, tokens = row["shape"], row["tokens"]
    q_heads, kv_heads, head_dim = shape["q_heads"], shape["kv_heads"], shape["head_dim"]
    pairs = shape["rotary_dim"] // 2
    angles = torch.arange(131072, device=DEVICE)[:, None] * 10000.0 ** (-torch.arange(pairs, device=DEVICE) / pairs)
    cos, sin = angles.cos(), angles.sin()
    positions = torch.arange(tokens, device=DEVICE, dtype=torch.int32)

    def operands():
        q = numbers(tokens, q_heads, head_dim)
        k, v = numbers(tokens, kv_heads, head_dim), numbers(tokens, kv_heads, head_dim)
        keys = torch.empty(kv_heads, tokens, head_dim, dtype=torch.bfloat16, device=DEVICE)
        return q, k, v, keys, torch.empty_like(keys)

    def triton_twin():
        q, k, v, keys, values = operands()
        grid = (tokens, q_heads + kv_heads)
        return lambda: rope_append_kernel[grid](q, k, v, keys, values, cos, sin, positions, q_heads, kv_heads,
                                                head_dim, pairs, tokens, triton.next_power_of_2(head_dim), num_warps=1)

    def eager():
        q, k, v, keys, values = operands()

        def rotate(x):
            c, s = cos[positions][:, None, :], sin[positions][:, None, :]
            even, odd = x[..., : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
            rotated = torch.stack((even * c - odd * s, odd * c + even * s), dim=-1).flatten(-2)
            x[..., : 2 * pairs].copy_(rotated)

        def run():
            rotate(q)
            rotate(k)
            keys.copy_(k.transpose(0, 1))
            values.copy_(v.transpose(0, 1))
        return run

    return {"Triton": triton_twin, "torch": eager}


def both(function, operands):
    """Eager and compiled."""
    compiled = torch.compile(function, dynamic=False)

    def of(function):
        def make():
            given = operands()
            return lambda: function(*given)
        return make

    return {"torch": of(function), "torch compiled": of(compiled)}


def norm(row):
    tokens, hidden = row["tokens"], row["shape"]["hidden"]
    weight = numbers(hidden)
    return both(lambda x: F.rms_norm(x, (hidden,), weight, 1e-5), lambda: (numbers(tokens, hidden),))


def residual_norm(row):
    tokens, hidden = row["tokens"], row["shape"]["hidden"]
    weight = numbers(hidden)

    def function(x, branch):
        x.add_(branch)
        return F.rms_norm(x, (hidden,), weight, 1e-5)

    return both(function, lambda: (numbers(tokens, hidden), numbers(tokens, hidden)))


def swiglu(row):
    tokens, width = row["tokens"], row["shape"]["intermediate"]
    return both(lambda x: F.silu(x[:, :width]) * x[:, width:], lambda: (numbers(tokens, 2 * width),))


def linear(row):
    tokens, columns, rows = row["tokens"], row["shape"]["in"], row["shape"]["out"]

    def make():
        x, w = numbers(tokens, columns, dtype=torch.bfloat16), numbers(rows, columns, dtype=torch.bfloat16)
        return lambda: F.linear(x, w)

    return {"cuBLAS, x of bf16": make}


def norm_swiglu(row):
    columns, rows = row["shape"]["in"], row["shape"]["out"]
    weight = numbers(columns)

    def function(x, branch, w):
        x = x + branch
        y = F.linear(F.rms_norm(x, (columns,), weight, 1e-5).bfloat16(), w).float()
        return x, F.silu(y[:, : rows // 2]) * y[:, rows // 2 :]

    return both(function, lambda: (numbers(1, columns), numbers(1, columns), numbers(rows, columns, dtype=torch.bfloat16)))


def attention(row):
    shape, tokens = row["shape"], row["tokens"]
    q_heads, kv_heads, head_dim, keys = shape["q_heads"], shape["kv_heads"], shape["head_dim"], shape["keys"]

    def make():
        q = numbers(1, q_heads, tokens, head_dim, dtype=torch.bfloat16)
        k = numbers(1, kv_heads, keys, head_dim, dtype=torch.bfloat16)
        v = numbers(1, kv_heads, keys, head_dim, dtype=torch.bfloat16)
        if tokens == 1:
            return lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        if tokens == keys:
            return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        k, v = k.repeat_interleave(q_heads // kv_heads, 1), v.repeat_interleave(q_heads // kv_heads, 1)
        mask = torch.nn.attention.bias.causal_lower_right(tokens, keys)
        return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return {"torch SDPA, q of bf16": make}


def embedding(row):
    tokens, hidden = row["tokens"], row["shape"]["hidden"]

    def operands():
        ids = torch.arange(tokens, device=DEVICE).flip(0)
        return ids, numbers(max(tokens, 1024), hidden, dtype=torch.bfloat16)

    return both(lambda ids, table: F.embedding(ids, table).float(), operands)


def add(row):
    tokens, hidden = row["tokens"], row["shape"]["hidden"]

    def make():
        x, y = numbers(tokens, hidden), numbers(tokens, hidden)
        return lambda: x.add_(y)

    return {"torch": make}


def argmax(row):
    def make():
        x = numbers(row["shape"]["vocab"])
        return lambda: torch.argmax(x)

    return {"torch": make}


PEERS = {
    "rope_append": rope_append, "rms_norm": norm, "add_rms_norm": residual_norm, "swiglu": swiglu,
    "norm_swiglu": norm_swiglu, "decode_attention": attention, "attend": attention, "embedding": embedding,
    "add": add, "argmax": argmax,
}


def milliseconds(run):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def seconds(make, copies):
    """Of one run, the middle of the samples."""
    operations = [make() for _ in range(copies)]

    def round_of(rounds):
        for _ in range(rounds):
            for operation in operations:
                operation()

    for _ in range(2):
        round_of(1)
    once = milliseconds(lambda: round_of(1))
    rounds = max(1, min(int(SAMPLE_MS / max(once, 1e-3)) + 1, MOST_RUNS // copies))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        round_of(rounds)
    graph.replay()
    samples = sorted(milliseconds(graph.replay) for _ in range(SAMPLES))
    return samples[SAMPLES // 2] * 1e-3 / (rounds * copies)


def copy_rate():
    """Bytes a second, read and written, of the fastest way to copy 1 GiB: the driver's, or a kernel's."""
    source = numbers(1 << 28)
    target = torch.empty_like(source)
    kernel = torch.compile(lambda to, x: to.copy_(x * 1.0000001), dynamic=False)
    ways = [lambda: target.copy_(source), lambda: torch.mul(source, 1.5, out=target), lambda: kernel(target, source)]
    return 2 * source.nbytes / min(seconds(lambda way=way: way, 1) for way in ways)


def product_rate():
    size = 8192
    a, b = numbers(size, size, dtype=torch.bfloat16), numbers(size, size, dtype=torch.bfloat16)
    return 2 * size ** 3 / seconds(lambda: (lambda: torch.matmul(a, b)), 1)


def driver():
    told = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
    return told.stdout.strip().splitlines()[0] if told.returncode == 0 else "unknown"


def main(path):
    with open(path) as file:
        bench = json.load(file)
    bench["versions"] = {"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda, "driver": driver()}
    bench["copy_bytes_per_second"] = copy_rate()
    bench["product_operations_per_second"] = product_rate()
    for row in bench["rows"]:
        peers = PEERS.get(row["op"], linear if row["op"].startswith("linear") else None)
        row["peers"] = {}
        for name, make in (peers(row) if peers else {}).items():
            try:
                row["peers"][name] = seconds(make, row["copies"])
            except Exception as error:  # A peer that cannot run is told, and the others go on.
                print(f"{row['op']} {row['shape']} by {name}: {error}", file=sys.stderr)
                row["peers"][name] = None
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        torch.compiler.reset() if row["op"] in ("rms_norm", "add_rms_norm", "swiglu", "norm_swiglu", "embedding") else None
        with open(path, "w") as file:
            json.dump(bench, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
