//! What the tests share: devices, seeded passes, calls, and attention in f64 with its derived bounds.

use attention::{AttentionError, AttentionShape, KvCache, KvDType, attend_with_prefix};
use device_mem::{Device, DeviceBuffer, Element, Float, RanOn};
use half::{bf16, f16};
use kernels_rope::BlockTable;
use parity::uniform;

pub(crate) const KV_TYPES: [KvDType; 3] = [KvDType::F32, KvDType::F16, KvDType::BF16];

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1 << 24) as f64;

/// The devices under test; none is the CPU.
pub(crate) fn gpus() -> Vec<Device> {
    parity::devices().unwrap()
}

/// The CPU, and the devices under test.
pub(crate) fn devices() -> Vec<Device> {
    [vec![Device::Cpu], gpus()].concat()
}

pub(crate) fn on<T: Element>(device: &Device, values: &[T]) -> DeviceBuffer<T> {
    DeviceBuffer::from_host_vec(device, values.to_vec()).unwrap()
}

/// Runs an operation, and asserts that on a HIP device it is `launches` launches and nothing else.
pub(crate) fn counted(device: &Device, launches: u64, run: impl FnOnce() -> Result<RanOn, AttentionError>) {
    let before = device.transfers();
    let ran_on = run().unwrap();
    let mut expected = before;
    match device {
        Device::Cpu => assert_eq!(ran_on, RanOn::Cpu),
        Device::Hip(_) => {
            assert_eq!(ran_on, RanOn::Hip);
            expected.launches += launches;
        }
    }
    assert_eq!(device.transfers(), expected, "no copy, no allocation, no wait");
}

pub(crate) fn shape(q_heads: u32, kv_heads: u32, head_dim: u32) -> AttentionShape {
    AttentionShape::new(q_heads, kv_heads, head_dim).unwrap()
}

pub(crate) fn cache(device: &Device, shape: AttentionShape, capacity: u32, dtype: KvDType) -> KvCache {
    KvCache::new(device, 1, shape, capacity, dtype).unwrap()
}

/// `q` `[tokens, q_heads, head_dim]`, `k` and `v` `[tokens, kv_heads, head_dim]`.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) shape: AttentionShape,
    pub(crate) tokens: u32,
    /// Tokens of the sequence that all see.
    pub(crate) prefix: u32,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

impl Pass {
    /// Uniform in `[-1, 1)`, the queries `q_scale` times that.
    pub(crate) fn new(seed: u64, shape: AttentionShape, tokens: u32, q_scale: f32) -> Pass {
        let (q_len, kv_len) = (shape.q_heads() * shape.head_dim(), shape.kv_heads() * shape.head_dim());
        let len = |row: u32| (tokens * row) as usize;
        let q = uniform::<f32>(seed, len(q_len)).iter().map(|value| value * q_scale).collect();
        let (k, v) = (uniform(seed + 1, len(kv_len)), uniform(seed + 2, len(kv_len)));
        Pass { shape, tokens, prefix: 0, q, k, v }
    }

    /// The tokens of a range alone.
    pub(crate) fn tokens(&self, from: u32, to: u32) -> Pass {
        let part = |values: &[f32], heads: u32| {
            let row = (heads * self.shape.head_dim()) as usize;
            values[from as usize * row..to as usize * row].to_vec()
        };
        let (q_heads, kv_heads) = (self.shape.q_heads(), self.shape.kv_heads());
        let (q, k, v) = (part(&self.q, q_heads), part(&self.k, kv_heads), part(&self.v, kv_heads));
        Pass { tokens: to - from, q, k, v, ..*self }
    }

    /// Appends, attends and commits, on the cache's device.
    pub(crate) fn run(&self, cache: &mut KvCache) -> Vec<f32> {
        self.run_sequence(cache, 0)
    }

    /// The same for a sequence of the cache.
    pub(crate) fn run_sequence(&self, cache: &mut KvCache, sequence: u32) -> Vec<f32> {
        let device = cache.device().clone();
        let (q, k, v) = (on(&device, &self.q), on(&device, &self.k), on(&device, &self.v));
        let mut out = on(&device, &vec![f32::NAN; self.q.len()]);
        let mut layer = cache.layer_of(0, sequence).unwrap();
        let launches = u64::from(self.tokens > 0);
        counted(&device, launches, || layer.append(k.as_view(), v.as_view(), self.tokens));
        counted(&device, launches, || {
            attend_with_prefix(q.as_view(), self.tokens, self.prefix, &mut layer, out.as_view_mut().unwrap())
        });
        cache.commit_sequence(sequence, self.tokens).unwrap();
        out.to_host_vec().unwrap()
    }

    /// Appends and commits, and attends to nothing.
    pub(crate) fn append_only(&self, cache: &mut KvCache) {
        self.append_to(cache, 0);
    }

    /// The same to a sequence of the cache.
    pub(crate) fn append_to(&self, cache: &mut KvCache, sequence: u32) {
        let device = cache.device().clone();
        let (k, v) = (on(&device, &self.k), on(&device, &self.v));
        cache.layer_of(0, sequence).unwrap().append(k.as_view(), v.as_view(), self.tokens).unwrap();
        cache.commit_sequence(sequence, self.tokens).unwrap();
    }

    /// What the whole pass attends to in an empty cache of `dtype`.
    pub(crate) fn run_alone(&self, device: &Device, dtype: KvDType) -> Vec<f32> {
        self.run(&mut cache(device, self.shape, self.tokens, dtype))
    }

    /// What the tokens of this pass attend to, piece by piece, each ending before the next of `ends`.
    pub(crate) fn run_in_pieces(&self, device: &Device, ends: &[u32], dtype: KvDType) -> Vec<f32> {
        let mut cache = cache(device, self.shape, self.tokens, dtype);
        let mut out = Vec::new();
        for &end in ends {
            out.extend(self.tokens(cache.len(), end).run(&mut cache));
            assert_eq!(cache.len(), end);
        }
        out
    }

    /// The same in f64, from the keys and values as the cache rounds them; bounds for the sums of `order`.
    pub(crate) fn exact(&self, dtype: KvDType, order: Order) -> Exact {
        self.exact_from(0, dtype, order)
    }

    /// As [`Pass::exact`], for the tokens from `first` on.
    pub(crate) fn exact_from(&self, first: u32, dtype: KvDType, order: Order) -> Exact {
        let (k, v) = (rounded(&self.k, dtype), rounded(&self.v, dtype));
        let mut exact = Exact::default();
        for token in first..self.tokens {
            for head in 0..self.shape.q_heads() {
                self.exact_row(&k, &v, (token, head), order, &mut exact);
            }
        }
        exact
    }

    fn exact_row(&self, k: &[f64], v: &[f64], (token, head): (u32, u32), order: Order, exact: &mut Exact) {
        let head_dim = self.shape.head_dim() as usize;
        let row = |token: u32, heads: u32, head: u32| (token * heads + head) as usize * head_dim;
        let kv_heads = self.shape.kv_heads();
        let kv_head = head / (self.shape.q_heads() / kv_heads);
        let q = &self.q[row(token, self.shape.q_heads(), head)..][..head_dim];
        let scale = 1.0 / (head_dim as f64).sqrt();
        let (mut scores, mut probable, mut worst) = (Vec::new(), 0.0_f64, 0.0_f64);
        let visible = (token + 1).max(self.prefix);
        for key in 0..visible {
            let key = &k[row(key, kv_heads, kv_head)..][..head_dim];
            let products = || q.iter().zip(key).map(|(&q, k)| f64::from(q) * k);
            let score = scale * products().sum::<f64>();
            let (magnitude, energy) =
                (products().map(f64::abs).sum::<f64>(), products().map(|p| p * p).sum::<f64>());
            probable =
                probable.max(order.probable_score_roundings() * U * scale * energy.sqrt() + U * score.abs());
            worst = worst.max(order.score_roundings(head_dim) * U * scale * magnitude);
            scores.push(score);
        }
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread = max - scores.iter().copied().fold(f64::INFINITY, f64::min);
        let weights = Vec::from_iter(scores.iter().map(|score| (score - max).exp()));
        let sum: f64 = weights.iter().sum();
        let keys = scores.len() as f64;
        // The forms of the bound, as shares of sum p |v|; `worst_case` says where its terms come from.
        let probable = 2.0 * probable + order.probable_mean(keys) + 2.0 * U * spread;
        let worst = order.worst_case(worst, spread, keys);
        for index in 0..head_dim {
            let values = (0..visible).map(|key| v[row(key, kv_heads, kv_head) + index]);
            let (mut mean, mut magnitude) = (0.0, 0.0);
            for (weight, value) in weights.iter().zip(values) {
                mean += weight / sum * value;
                magnitude += weight / sum * value.abs();
            }
            exact.out.push(mean);
            exact.probable.push(probable * magnitude);
            exact.worst.push(worst * magnitude);
        }
    }
}

/// Tokens from which on 16-bit caches of heads up to 128 are attended in tiles on a HIP device.
pub(crate) const TILED_FROM: u32 = 16;

/// Whose order of sums.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Cpu,
    Hip,
    /// Passes of many tokens on HIP, which matrix units may multiply: products of bf16 that a product is made of, and what
    /// that leaves out of it at most, in units of [`U`].
    HipTiled {
        products: usize,
        left_out: f64,
    },
}

impl Order {
    /// That of a pass of `tokens` on a HIP device.
    pub(crate) fn hip(dtype: KvDType, shape: AttentionShape, tokens: u32) -> Order {
        // Of a query or a weight two pieces leave 2^-17 of it out; of a product with two pieces the rests', 2^-16 of it.
        match dtype {
            _ if tokens < TILED_FROM || shape.head_dim() > 128 => Order::Hip,
            KvDType::F32 => Order::Hip,
            KvDType::F16 => Order::HipTiled { products: 3, left_out: 128.0 + 256.0 },
            KvDType::BF16 => Order::HipTiled { products: 2, left_out: 128.0 },
        }
    }

    /// That of a pass of `tokens`.
    pub(crate) fn of(device: &Device, dtype: KvDType, shape: AttentionShape, tokens: u32) -> Order {
        match device {
            Device::Cpu => Order::Cpu,
            Device::Hip(_) => Order::hip(dtype, shape, tokens),
        }
    }

    /// Normalised mean square errors that are too large: that of f32, or of what is left out, with room for large scores.
    pub(crate) fn nmse(self) -> f64 {
        match self {
            Order::Cpu | Order::Hip => 1e-11,
            Order::HipTiled { .. } => 1e-10,
        }
    }

    /// Roundings of one element's product on its way into a score. On the CPU: the product, the sums of its lane, 3 sums of
    /// lanes. On HIP: the sums of its slab, those of the slabs but the first. In tiles: the sums of all slabs, each of two
    /// units, as no manual says how matrix units round, and what is left out. The scale is rounded, and its product.
    fn score_roundings(self, head_dim: usize) -> f64 {
        let sums = match self {
            Order::Cpu => (1 + head_dim.div_ceil(8) - 1 + 3) as f64,
            Order::Hip => (head_dim.min(32) + head_dim.div_ceil(32) - 1) as f64,
            Order::HipTiled { products, left_out } => {
                left_out + (2 * products * head_dim.next_multiple_of(32)) as f64
            }
        };
        sums + 2.0
    }

    /// The same if errors are independent: 6 deviations, as a share of the root of the sum of squares. What is left out is
    /// spread evenly.
    fn probable_score_roundings(self) -> f64 {
        match self {
            Order::Cpu | Order::Hip => 8.0,
            Order::HipTiled { products, left_out } => {
                6.0 / 3.0_f64.sqrt() * left_out + 8.0 * 2.0 * (products as f64).sqrt()
            }
        }
    }

    /// What the sums over keys and softmax do to an output, likewise, as a share of `sum p |v|`.
    fn probable_mean(self, keys: f64) -> f64 {
        match self {
            Order::Cpu | Order::Hip => (6.0 * keys.sqrt() + 8.0) * U,
            Order::HipTiled { products, left_out } => {
                (left_out + 6.0 * 2.0 * (products as f64 * keys).sqrt() + 8.0) * U
            }
        }
    }

    /// What the roundings can do to an output at most, as a share of `sum p |v|`. Numerator and denominator each carry the
    /// error `eps` of a score, the rounding of `score - max` and of the differences of maxima, which add up to the spread,
    /// and `e^x` (2 units) with a product at each of at most `blocks` rescalings. The division rounds once. A product of
    /// factors `1 + d` lies within `e^(sum d)`, and `1 / (1 - d)` within `e^(1.01 d)` for these d.
    fn worst_case(self, eps: f64, spread: f64, keys: f64) -> f64 {
        let (blocks, sums, left_out) = match self {
            // The numerator has a product and `keys` sums, the denominator 6 sums within a block of 32 and one per block.
            Order::Cpu => {
                let blocks = (keys / 32.0).ceil();
                (blocks, 1.0 + keys + 6.0 + blocks, 0.0)
            }
            // Within a chunk of 256 the numerator has as many sums as keys, the denominator 16 in a lane and 4 of lanes;
            // both have a product and a sum per chunk, and one per span of 1024 behind the first.
            Order::Hip => {
                let chunks = (keys / 256.0).ceil() + (keys / 1024.0).ceil() - 1.0;
                (chunks, keys.min(256.0) + 16.0 + 4.0 + 2.0 * (1.0 + chunks), 0.0)
            }
            // A step is 32 keys. The numerator has sums of two units for every product, the denominator 8 and 2 of a step;
            // both have a product and a sum per step.
            Order::HipTiled { products, left_out } => {
                let steps = (keys / 32.0).ceil();
                (steps, 2.0 * products as f64 * 32.0 * steps + 10.0 + 2.0 * steps, left_out)
            }
        };
        let both = eps + (2.0 * spread + 2.0 + 3.0 * blocks) * U;
        (1.01 * (2.0 * both + (sums + 1.0 + left_out) * U)).exp_m1()
    }
}

/// Outputs `[tokens, q_heads, head_dim]` and how far an f32 body may be from each.
#[derive(Default)]
pub(crate) struct Exact {
    pub(crate) out: Vec<f64>,
    /// The form that holds if roundings are independent, with 6 deviations.
    pub(crate) probable: Vec<f64>,
    /// The form that always holds.
    pub(crate) worst: Vec<f64>,
}

fn rounded(values: &[f32], dtype: KvDType) -> Vec<f64> {
    fn through<T: Float>(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| f64::from(T::from_f32(value).to_f32())).collect()
    }
    match dtype {
        KvDType::F32 => through::<f32>(values),
        KvDType::F16 => through::<f16>(values),
        KvDType::BF16 => through::<bf16>(values),
    }
}

/// Whether the bits of a token are the same in every pass; else passes of [`TILED_FROM`] tokens and more have their own.
pub(crate) fn passes_agree(device: &Device, dtype: KvDType) -> bool {
    matches!(device, Device::Cpu) || dtype == KvDType::F32
}

/// A cache of one sequence in blocks that lie in no order.
pub(crate) fn paged(
    device: &Device,
    shape: AttentionShape,
    capacity: u32,
    block_size: u32,
    dtype: KvDType,
) -> KvCache {
    let needed = capacity.div_ceil(block_size);
    let blocks = needed + 3;
    let table = BlockTable::new(device, blocks, block_size, 1, needed).unwrap();
    let mut cache = KvCache::paged(device, 1, shape, table, dtype).unwrap();
    cache.assign(0, &shuffled(blocks)[..needed as usize]).unwrap();
    cache
}

/// The numbers below `count` in another order.
pub(crate) fn shuffled(count: u32) -> Vec<u32> {
    let mut numbers = Vec::from_iter(0..count);
    numbers.sort_by_key(|number| number.wrapping_mul(2_654_435_761).rotate_left(11));
    numbers
}

pub(crate) fn in_pool<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}
