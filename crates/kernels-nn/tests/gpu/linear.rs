//! `linear` of few tokens is within its bound of f64 on every device, with the same bits on all of them.

use device_mem::{DType, Device, DeviceBuffer, Float};
use half::{bf16, f16};
use kernels_nn::{Linear, Weight, linear};
use parity::{SplitMix64, Tolerance, compare, first_alike, uniform};
use proptest::prelude::*;

use crate::common::{all_agree, counted, gpus, on, unchanged, unwritten};

/// Half the distance from 1 to the next f32.
const U: f64 = 5.960_464_477_539_063e-8;

/// Tokens from which on tiles are multiplied.
pub(crate) const TILED_FROM: usize = 16;

/// A linear layer with its data, and what it must give within which bounds.
pub(crate) struct Layer<T: Float> {
    pub(crate) x: Vec<f32>,
    pub(crate) weight: Vec<T>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) out_features: usize,
    pub(crate) in_features: usize,
    pub(crate) wrap: fn(DeviceBuffer<T>) -> Weight,
}

impl<T: Float> Layer<T> {
    pub(crate) fn new(
        (tokens, out_features, in_features): (usize, usize, usize),
        wrap: fn(DeviceBuffer<T>) -> Weight,
    ) -> Layer<T> {
        Layer {
            x: uniform(1, tokens * in_features),
            weight: uniform(2, out_features * in_features),
            bias: (tokens % 2 == 1).then(|| uniform(3, out_features)),
            out_features,
            in_features,
            wrap,
        }
    }

    /// The result of a device, with `x` starting `offset` elements into its buffer.
    pub(crate) fn run(&self, device: &Device, offset: usize) -> Vec<f32> {
        let weight = (self.wrap)(on(device, &self.weight));
        let bias = self.bias.as_ref().map(|bias| on(device, bias));
        let layer = Linear::new(weight, bias, self.out_features, self.in_features).unwrap();
        let shifted = [vec![f32::NAN; offset], self.x.clone()].concat();
        let x = on(device, &shifted);
        let mut out = unwritten(device, self.x.len() / self.in_features * self.out_features);
        let view = x.view(offset..shifted.len()).unwrap();
        counted(device, || linear(view, &layer, out.as_view_mut().unwrap()));
        unchanged(&x, &shifted);
        out.to_host_vec().unwrap()
    }

    /// The f64 results, and the bounds that `linear` documents for HIP devices.
    fn exact(&self) -> (Vec<f64>, Vec<f64>) {
        let roundings = self.roundings();
        let gamma = roundings as f64 * U / (1.0 - roundings as f64 * U);
        let (mut exact, mut bounds) = (Vec::new(), Vec::new());
        for x in self.x.chunks_exact(self.in_features) {
            for (row, weights) in self.weight.chunks_exact(self.in_features).enumerate() {
                let products = || weights.iter().zip(x).map(|(w, &x)| f64::from(w.to_f32()) * f64::from(x));
                let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
                exact.push(products().sum::<f64>() + bias);
                bounds.push(gamma * (products().map(f64::abs).sum::<f64>() + bias.abs()));
            }
        }
        (exact, bounds)
    }

    /// Roundings that the bound allows for.
    fn roundings(&self) -> usize {
        if self.x.len() / self.in_features < TILED_FROM {
            let lanes = if self.out_features < 1 << 14 { 256 } else { 32 };
            return 8 * self.in_features.div_ceil(8 * lanes) + lanes.ilog2() as usize + 1;
        }
        let (additions, parts) = (self.in_features.min(256), self.in_features.div_ceil(256));
        match T::DTYPE {
            DType::F32 => additions + parts + 1,
            DType::BF16 => 4 * additions + parts + 140,
            DType::F16 => 6 * additions + parts + 410,
            other => panic!("no weight is {other}"),
        }
    }

    /// Every device is within the bound, and all have the same bits.
    pub(crate) fn check(&self) {
        let what = format!("[{}, {}] x {}", self.out_features, self.in_features, self.x.len());
        let (exact, bounds) = self.exact();
        let devices = gpus();
        let results = Vec::from_iter(devices.iter().map(|device| self.run(device, 0)));
        for (device, result) in devices.iter().zip(&results) {
            compare(&exact, result, Tolerance::Elementwise(&bounds))
                .unwrap_or_else(|mismatch| panic!("{what} on {device:?}: {mismatch}"));
            let first = first_alike(&devices, device);
            compare(&results[first], result, Tolerance::Bits).unwrap_or_else(|mismatch| {
                panic!("{what} on {device:?} and {:?}: {mismatch}", devices[first])
            });
        }
    }
}

/// Around the tiles of tokens (1, 4, 8), of rows (4, 32), chunks (8), groups (256) and blocks (2048) of elements.
const SHAPES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (2, 3, 7),
    (3, 4, 8),
    (4, 5, 9),
    (5, 7, 63),
    (7, 8, 64),
    (8, 9, 65),
    (9, 31, 255),
    (1, 32, 256),
    (1, 33, 257),
    (14, 4, 264),
    (15, 5, 2040),
    (1, 65, 2047),
    (2, 6, 2048),
    (3, 5, 2056),
    (1, 3, 4100),
];

#[test]
fn linear_meets_the_bound_and_is_the_same_on_every_device() {
    for shape in SHAPES {
        Layer::new(shape, Weight::F32).check();
        Layer::<f16>::new(shape, Weight::F16).check();
        Layer::<bf16>::new(shape, Weight::BF16).check();
    }
}

#[test]
fn many_rows_are_summed_in_fewer_lanes() {
    for shape in [(1, 16_383, 8), (1, 16_384, 40), (3, 16_385, 9)] {
        Layer::<bf16>::new(shape, Weight::BF16).check();
    }
}

#[test]
fn a_row_may_start_anywhere() {
    // An operand that is not aligned to 16 bytes takes the other way through the kernel, to the same bits.
    let layer = Layer::<bf16>::new((3, 5, 2056), Weight::BF16);
    for device in gpus() {
        let aligned = layer.run(&device, 0);
        for offset in [1, 2, 3, 4, 7] {
            compare(&aligned, &layer.run(&device, offset), Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn a_token_alone_gets_the_bits_it_gets_among_others() {
    for in_features in [264, 2061] {
        let mut layer = Layer::<f16>::new((TILED_FROM - 1, 6, in_features), Weight::F16);
        for device in gpus() {
            let together = layer.run(&device, 0);
            let x = layer.x.clone();
            let mut alone = Vec::new();
            for row in x.chunks_exact(in_features) {
                layer.x = row.to_vec();
                alone.extend(layer.run(&device, 0));
            }
            layer.x = x;
            compare(&together, &alone, Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn whole_numbers_come_out_as_on_the_cpu() {
    // Sums of small whole numbers round nowhere, so a wrong row, element or tail cannot hide inside the bound.
    for (tokens, out_features, in_features) in [(1, 9, 1031), (4, 70, 264), (11, 34, 520)] {
        let mut random = SplitMix64::new(5);
        let mut whole = |len: usize| Vec::from_iter((0..len).map(|_| random.below(9) as f32 - 4.0));
        let (x, weight, bias) =
            (whole(tokens * in_features), whole(out_features * in_features), whole(out_features));
        let weight = Vec::from_iter(weight.into_iter().map(bf16::from_f32));
        let layer = Layer { x, weight, bias: Some(bias), out_features, in_features, wrap: Weight::BF16 };
        all_agree(&format!("[{out_features}, {in_features}]"), |device| layer.run(device, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_products_meet_the_bound(
        seed: u64, tokens in 1..TILED_FROM, out_features in 1_usize..80, in_features in 1_usize..700, whole: bool,
    ) {
        let in_features = if whole { in_features.next_multiple_of(8) } else { in_features };
        let mut layer = Layer::<bf16>::new((tokens, out_features, in_features), Weight::BF16);
        layer.x = uniform(seed, layer.x.len());
        layer.check();
    }
}
