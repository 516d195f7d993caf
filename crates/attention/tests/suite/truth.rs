//! Attention in f64, and how far an f32 body may be from it: the derived bounds, in a form that always holds and in one that
//! holds if roundings are independent.

use attention::{AttentionShape, KvDType};
use device_mem::{Device, Float};
use half::{bf16, f16};

use crate::common::Pass;

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1 << 24) as f64;

impl Pass {
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
            probable = probable
                .max(order.probable_score_roundings(head_dim) * U * scale * energy.sqrt() + U * score.abs());
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

/// Elements of heads whose single tokens matrix units may attend with caches of bf16 on a HIP device.
const WAVE_HEAD_DIM: u32 = 128;
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
    /// One token on HIP, likewise, by waves that each take some steps of its keys: a product is made of two.
    HipWaves {
        left_out: f64,
    },
}

impl Order {
    /// That of a pass of `tokens` on a HIP device.
    pub(crate) fn hip(dtype: KvDType, shape: AttentionShape, tokens: u32) -> Order {
        // Of a query or a weight two pieces leave 2^-17 of it out; of a product with two pieces the rests', 2^-16 of it.
        match (dtype, shape.head_dim()) {
            (KvDType::BF16, WAVE_HEAD_DIM) if tokens == 1 => Order::HipWaves { left_out: 128.0 },
            (KvDType::F16, ..=128) if tokens >= TILED_FROM => {
                Order::HipTiled { products: 3, left_out: 128.0 + 256.0 }
            }
            (KvDType::BF16, ..=128) if tokens >= TILED_FROM => {
                Order::HipTiled { products: 2, left_out: 128.0 }
            }
            _ => Order::Hip,
        }
    }

    /// That of a pass of `tokens`.
    pub(crate) fn of(device: &Device, dtype: KvDType, shape: AttentionShape, tokens: u32) -> Order {
        match device {
            Device::Cpu => Order::Cpu,
            Device::Hip(_) => Order::hip(dtype, shape, tokens),
        }
    }

    /// Roundings of one element's product on its way into a score. On the CPU: the sums of its slab
    /// of 64, those of the slabs, and the product where it is rounded too. On HIP: the sums of its slab, those of the slabs but the first. In tiles: the sums of all slabs, each of two
    /// units, as no manual says how matrix units round, and what is left out. The scale is rounded, and its product.
    fn score_roundings(self, head_dim: usize) -> f64 {
        let sums = match self {
            Order::Cpu => (head_dim.min(64) + head_dim.div_ceil(64)) as f64,
            Order::Hip => (head_dim.min(32) + head_dim.div_ceil(32) - 1) as f64,
            Order::HipWaves { left_out } => left_out + (2 * 2 * head_dim.next_multiple_of(32)) as f64,
            Order::HipTiled { products, left_out } => {
                left_out + (2 * products * head_dim.next_multiple_of(32)) as f64
            }
        };
        sums + 2.0
    }

    /// The same if errors are independent: 6 deviations, as a share of the root of the sum of squares. What is left out is
    /// spread evenly.
    fn probable_score_roundings(self, head_dim: usize) -> f64 {
        match self {
            // The sum of `i` elements is as large as the root of `i`, and a rounding a third of the square of its unit: the
            // root of a sixth of a slab's elements, and 1 for products and slabs.
            Order::Cpu => 6.0 * (head_dim.min(64) as f64 / 6.0 + 1.0).sqrt(),
            Order::Hip => 8.0,
            Order::HipWaves { left_out } => 6.0 / 3.0_f64.sqrt() * left_out + 8.0 * 2.0 * 2.0_f64.sqrt(),
            Order::HipTiled { products, left_out } => {
                6.0 / 3.0_f64.sqrt() * left_out + 8.0 * 2.0 * (products as f64).sqrt()
            }
        }
    }

    /// What the sums over keys and softmax do to an output, likewise, as a share of `sum p |v|`.
    fn probable_mean(self, keys: f64) -> f64 {
        match self {
            Order::Cpu | Order::Hip => (6.0 * keys.sqrt() + 8.0) * U,
            Order::HipWaves { left_out } => (left_out + 6.0 * 2.0 * (2.0 * keys).sqrt() + 8.0) * U,
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
            // Within a block of 32 numerator and denominator have as many sums as keys, the numerator a product too; both
            // have a product and a sum per block, and one per span of 512 behind the first.
            Order::Cpu => {
                let blocks = (keys / 32.0).ceil() + (keys / 512.0).ceil() - 1.0;
                (blocks, 2.0 * keys.min(32.0) + 1.0 + 2.0 * blocks, 0.0)
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
            // No wave has more than all steps. The denominator has 16 sums of a step in a lane, both have a product and a sum
            // per step; then there are 2 sums of lanes or 3 of waves, 8 of waves' denominators, and 64 of spans.
            Order::HipWaves { left_out } => {
                let steps = (keys / 32.0).ceil();
                let spans = if keys > 256.0 { 64.0 } else { 0.0 };
                (steps + 2.0, (2.0 * 2.0 * 32.0 + 18.0) * steps + 13.0 + spans, left_out)
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

impl Exact {
    /// Normalised mean square errors that are too large: for sums in f32 1e-11; in tiles what 3 deviations of every element
    /// would be.
    pub(crate) fn most_nmse(&self, order: Order) -> f64 {
        let energy = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        match order {
            Order::Cpu | Order::Hip => 1e-11,
            Order::HipTiled { .. } | Order::HipWaves { .. } => {
                energy(&self.probable) / 4.0 / energy(&self.out)
            }
        }
    }
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
