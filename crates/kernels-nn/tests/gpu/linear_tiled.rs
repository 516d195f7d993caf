//! `linear` of many tokens is within its bound of f64 on every device, with the same bits on those that are tested.

use device_mem::Float;
use half::{bf16, f16};
use kernels_nn::Weight;
use parity::{SplitMix64, Tolerance, compare, uniform};
use proptest::prelude::*;

use crate::common::{all_agree, gpus};
use crate::linear::{Layer, TILED_FROM};

/// Around fragments (16), waves (32), tiles of tokens (64) and of rows (128), and around units (4, 8), steps (16, 32) and
/// sums that start again (256) of elements.
const SHAPES: [(usize, usize, usize); 22] = [
    (16, 1, 1),
    (16, 15, 3),
    (17, 16, 4),
    (18, 17, 5),
    (19, 31, 7),
    (31, 32, 8),
    (32, 33, 9),
    (33, 47, 15),
    (34, 48, 16),
    (47, 49, 17),
    (48, 63, 24),
    (49, 64, 31),
    (63, 65, 32),
    (64, 95, 33),
    (65, 96, 40),
    (21, 127, 63),
    (20, 128, 64),
    (66, 129, 65),
    (16, 130, 255),
    (130, 3, 256),
    (23, 257, 257),
    (24, 20, 776),
];

#[test]
fn tiles_meet_the_bound_and_are_the_same_on_every_device() {
    for shape in SHAPES {
        Layer::new(shape, Weight::F32).check();
        Layer::<f16>::new(shape, Weight::F16).check();
        Layer::<bf16>::new(shape, Weight::BF16).check();
    }
}

/// Whole numbers of at most `x_most` and `weight_most`, whose sums of products round nowhere.
fn whole<T: Float>(
    (tokens, out_features, in_features): (usize, usize, usize),
    (x_most, weight_most): (u32, u32),
    wrap: fn(device_mem::DeviceBuffer<T>) -> Weight,
) -> Layer<T> {
    let mut random = SplitMix64::new(5);
    let mut whole = |len: usize, most: u32| {
        Vec::from_iter((0..len).map(|_| random.below(2 * most + 1) as f32 - most as f32))
    };
    let (x, weight) = (whole(tokens * in_features, x_most), whole(out_features * in_features, weight_most));
    let weight = Vec::from_iter(weight.into_iter().map(T::from_f32));
    Layer { x, weight, bias: Some(whole(out_features, 9)), out_features, in_features, wrap }
}

#[test]
fn whole_numbers_come_out_as_on_the_cpu() {
    // A wrong row, element, piece or tail cannot hide inside the bound. Numbers above 256 need both pieces of bf16.
    for shape in [(16, 9, 1031), (70, 140, 264), (131, 34, 520)] {
        let what = format!("{shape:?}");
        let layer = whole(shape, (2000, 4), Weight::F32);
        all_agree(&what, |device| layer.run(device, 0));
        let layer = whole::<bf16>(shape, (2000, 4), Weight::BF16);
        all_agree(&what, |device| layer.run(device, 0));
        let layer = whole::<bf16>(shape, (60, 200), Weight::BF16);
        all_agree(&what, |device| layer.run(device, 0));
        let layer = whole::<f16>(shape, (2000, 4), Weight::F16);
        all_agree(&what, |device| layer.run(device, 0));
        let layer = whole::<f16>(shape, (6, 1900), Weight::F16);
        all_agree(&what, |device| layer.run(device, 0));
    }
}

#[test]
fn a_row_may_start_anywhere() {
    // An operand that is not aligned to 16 bytes takes the other way through the kernel, to the same bits.
    let layer = Layer::<bf16>::new((20, 40, 296), Weight::BF16);
    let wide = Layer::<f32>::new((20, 40, 296), Weight::F32);
    for device in gpus() {
        for offset in [1, 2, 3, 7] {
            compare(&layer.run(&device, 0), &layer.run(&device, offset), Tolerance::Bits).unwrap();
            compare(&wide.run(&device, 0), &wide.run(&device, offset), Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn a_token_gets_the_bits_it_gets_among_any_other_tokens() {
    let mut layer = Layer::<bf16>::new((83, 33, 300), Weight::BF16);
    let x = layer.x.clone();
    for device in gpus() {
        layer.x = x.clone();
        let together = layer.run(&device, 0);
        for first in [0, 16, 50, 67] {
            layer.x = x[first * 300..(first + TILED_FROM) * 300].to_vec();
            let expected = &together[first * 33..(first + TILED_FROM) * 33];
            compare(expected, &layer.run(&device, 0), Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn long_sums_keep_what_one_sum_would_lose() {
    // Beyond 4096, adding 1 + 2^-12 to a single sum would lose the small part; each result is 8192 (1 + 2^-12).
    fn check<T: Float>(wrap: fn(device_mem::DeviceBuffer<T>) -> Weight) {
        let mut layer = Layer::new((16, 3, 8192), wrap);
        layer.x.fill(1.0 + 2.0_f32.powi(-12));
        layer.weight.fill(T::from_f32(1.0));
        layer.bias = None;
        for device in gpus() {
            assert_eq!(layer.run(&device, 0), [8194.0; 48], "{device:?}");
        }
    }
    check(Weight::F32);
    check::<f16>(Weight::F16);
    check::<bf16>(Weight::BF16);
}

#[test]
fn infinities_and_nan_stay_in_their_rows() {
    let mut layer = Layer::<bf16>::new((16, 5, 40), Weight::BF16);
    layer.weight.fill(bf16::ONE);
    layer.x.fill(1.0);
    layer.x[40] = f32::INFINITY;
    layer.x[2 * 40 + 39] = f32::NEG_INFINITY;
    layer.x[3 * 40 + 17] = f32::NAN;
    // All bits set is what memory often holds that nothing was written to.
    layer.x[4 * 40 + 8] = f32::from_bits(u32::MAX);
    layer.x[5 * 40 + 8] = 1e-39;
    layer.bias = None;
    for device in gpus() {
        let out = layer.run(&device, 0);
        for (token, row) in out.chunks_exact(5).enumerate() {
            let right = |value: &f32| match token {
                1 => *value == f32::INFINITY,
                2 => *value == f32::NEG_INFINITY,
                3 | 4 => value.is_nan(),
                5 => *value == 39.0,
                _ => *value == 40.0,
            };
            assert!(row.iter().all(right), "token {token}: {row:?} on {device:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_products_meet_the_bound(
        seed: u64, tokens in TILED_FROM..90, out_features in 1_usize..150, in_features in 1_usize..300, whole: bool,
    ) {
        let in_features = if whole { in_features.next_multiple_of(8) } else { in_features };
        let mut layer = Layer::<bf16>::new((tokens, out_features, in_features), Weight::BF16);
        layer.x = uniform(seed, layer.x.len());
        layer.check();
    }
}
