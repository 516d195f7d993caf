//! What the tests share: seeded passes, calls, and attention in f64 with its derived bounds.

use attention::{AttentionShape, KvCache, KvDType, attend};
use device_mem::{Device, Float, RanOn, View, ViewMut};
use half::{bf16, f16};
use parity::uniform;

pub(crate) const KV_TYPES: [KvDType; 3] = [KvDType::F32, KvDType::F16, KvDType::BF16];

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1 << 24) as f64;

pub(crate) fn shape(q_heads: u32, kv_heads: u32, head_dim: u32) -> AttentionShape {
    AttentionShape::new(q_heads, kv_heads, head_dim).unwrap()
}

pub(crate) fn cache(shape: AttentionShape, capacity: u32, dtype: KvDType) -> KvCache {
    KvCache::new(&Device::Cpu, 1, shape, capacity, dtype).unwrap()
}

/// `q` `[tokens, q_heads, head_dim]`, `k` and `v` `[tokens, kv_heads, head_dim]`.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) shape: AttentionShape,
    pub(crate) tokens: u32,
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
        Pass { shape, tokens, q, k, v }
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

    /// Appends, attends and commits.
    pub(crate) fn run(&self, cache: &mut KvCache) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.q.len()];
        let mut layer = cache.layer(0).unwrap();
        layer.append(View::Host(&self.k), View::Host(&self.v), self.tokens).unwrap();
        let ran_on = attend(View::Host(&self.q), self.tokens, &layer, ViewMut::Host(&mut out)).unwrap();
        assert_eq!(ran_on, RanOn::Cpu);
        cache.commit(self.tokens).unwrap();
        out
    }

    /// What the whole pass attends to in an empty cache of `dtype`.
    pub(crate) fn run_alone(&self, dtype: KvDType) -> Vec<f32> {
        self.run(&mut cache(self.shape, self.tokens, dtype))
    }

    /// The same in f64, from the keys and values as the cache rounds them.
    pub(crate) fn exact(&self, dtype: KvDType) -> Exact {
        let (k, v) = (rounded(&self.k, dtype), rounded(&self.v, dtype));
        let mut exact = Exact::default();
        for token in 0..self.tokens {
            for head in 0..self.shape.q_heads() {
                self.exact_row(&k, &v, token, head, &mut exact);
            }
        }
        exact
    }

    fn exact_row(&self, k: &[f64], v: &[f64], token: u32, head: u32, exact: &mut Exact) {
        let head_dim = self.shape.head_dim() as usize;
        let row = |token: u32, heads: u32, head: u32| (token * heads + head) as usize * head_dim;
        let kv_heads = self.shape.kv_heads();
        let kv_head = head / (self.shape.q_heads() / kv_heads);
        let q = &self.q[row(token, self.shape.q_heads(), head)..][..head_dim];
        let scale = 1.0 / (head_dim as f64).sqrt();
        let (mut scores, mut probable, mut worst) = (Vec::new(), 0.0_f64, 0.0_f64);
        for key in 0..=token {
            let key = &k[row(key, kv_heads, kv_head)..][..head_dim];
            let products = || q.iter().zip(key).map(|(&q, k)| f64::from(q) * k);
            let score = scale * products().sum::<f64>();
            let (magnitude, energy) =
                (products().map(f64::abs).sum::<f64>(), products().map(|p| p * p).sum::<f64>());
            probable = probable.max(8.0 * U * scale * energy.sqrt() + U * score.abs());
            worst = worst.max((head_dim.div_ceil(8) + 5) as f64 * U * scale * magnitude);
            scores.push(score);
        }
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread = max - scores.iter().copied().fold(f64::INFINITY, f64::min);
        let weights = Vec::from_iter(scores.iter().map(|score| (score - max).exp()));
        let sum: f64 = weights.iter().sum();
        let keys = scores.len() as f64;
        let blocks = (keys / 32.0).ceil();
        // The forms of the bound, as shares of sum p |v|; `worst_case` says where its terms come from.
        let probable = 2.0 * probable + (6.0 * keys.sqrt() + 8.0) * U + 2.0 * U * spread;
        let worst = worst_case(worst, spread, keys, blocks);
        for index in 0..head_dim {
            let values = (0..=token).map(|key| v[row(key, kv_heads, kv_head) + index]);
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

/// What the roundings can do to an output at most, as a share of `sum p |v|`. Numerator and denominator each carry
/// the error `eps` of a score, the rounding of `score - max` and of the differences of maxima, which add up to the
/// spread, and `e^x` (2 units) with a product at each of at most `blocks` rescalings; the numerator a product and
/// `keys` sums, the denominator 6 sums within a block and one per block; and the division rounds once. A product of
/// factors `1 + d` lies within `e^(sum d)`, and `1 / (1 - d)` within `e^(1.01 d)` for these d.
fn worst_case(eps: f64, spread: f64, keys: f64, blocks: f64) -> f64 {
    let both = eps + (2.0 * spread + 2.0 + 3.0 * blocks) * U;
    let sums = (1.0 + keys + 6.0 + blocks + 1.0) * U;
    (1.01 * (2.0 * both + sums)).exp_m1()
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

pub(crate) fn in_pool<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}
