//! `linear` against f64 within its documented bound, and bit for bit against itself.

use device_mem::{DType, Isa, Level, RanOn};
use kernels_nn::{Linear, linear};
use parity::{Tolerance, compare, uniform};

use crate::common::{WEIGHT_TYPES, cpu, gamma, in_pool, weight, zeros};

/// Widths around the edges of lanes, groups of rows, tiles, blocks of tokens and tasks.
const SHAPES: [(usize, usize, usize); 19] = [
    (1, 1, 1),
    (1, 3, 2),
    (2, 4, 7),
    (3, 5, 8),
    (5, 6, 9),
    (4, 7, 511),
    (1, 9, 512),
    (2, 13, 513),
    (1, 2, 13_696),
    (15, 5, 33),
    (16, 12, 256),
    (17, 47, 257),
    (31, 3, 17),
    (32, 4, 16),
    (33, 11, 33),
    (33, 97, 511),
    (65, 130, 65),
    (1, 2049, 160),
    (16, 3100, 33),
];

/// Tokens from which on tiles are multiplied.
const TILED_FROM: usize = 16;

struct Case {
    x: Vec<f32>,
    layer: Linear,
    exact: Vec<f64>,
    bounds: Vec<f64>,
}

fn case((tokens, out_features, in_features): (usize, usize, usize), dtype: DType, biased: bool) -> Case {
    let x = uniform::<f32>(1, tokens * in_features);
    let (weight, exact_weight) = weight(dtype, &uniform::<f32>(2, out_features * in_features));
    let bias = if biased { uniform::<f32>(3, out_features) } else { vec![0.0; out_features] };
    let (mut exact, mut bounds) = (Vec::new(), Vec::new());
    let roundings = match tokens < TILED_FROM {
        true => in_features.div_ceil(16) + 5,
        false => in_features.min(256) + in_features.div_ceil(256) + 2,
    };
    for x in x.chunks_exact(in_features) {
        for (row, bias) in exact_weight.chunks_exact(in_features).zip(&bias) {
            let products = || row.iter().zip(x).map(|(w, &x)| w * f64::from(x));
            exact.push(products().sum::<f64>() + f64::from(*bias));
            let magnitude = products().map(f64::abs).sum::<f64>() + f64::from(bias.abs());
            bounds.push(gamma(roundings) * magnitude);
        }
    }
    let bias = biased.then(|| cpu(&bias));
    let layer = Linear::new(weight, bias, out_features, in_features).unwrap();
    Case { x, layer, exact, bounds }
}

fn run(x: &[f32], layer: &Linear) -> Vec<f32> {
    let tokens = x.len() / layer.in_features();
    let mut out = zeros(tokens * layer.out_features());
    assert_eq!(linear(cpu(x).as_view(), layer, out.as_view_mut().unwrap()).unwrap(), RanOn::Cpu);
    out.to_host_vec().unwrap()
}

#[test]
fn every_weight_type_meets_the_bound_at_every_edge() {
    for shape in SHAPES {
        for dtype in WEIGHT_TYPES {
            for biased in [false, true] {
                let Case { x, layer, exact, bounds } = case(shape, dtype, biased);
                compare(&exact, &run(&x, &layer), Tolerance::Elementwise(&bounds))
                    .unwrap_or_else(|mismatch| panic!("{shape:?} {dtype} bias {biased}: {mismatch}"));
            }
        }
    }
}

#[test]
fn whole_numbers_come_out_exact() {
    // Sums of small whole numbers round nowhere, so a wrong order, row or tail cannot hide inside the bound.
    let (tokens, out_features, in_features) = (3, 6, 1031);
    let x = Vec::from_iter((0..tokens * in_features).map(|index| (index % 7) as f32 - 3.0));
    let values = Vec::from_iter((0..out_features * in_features).map(|index| (index % 11) as f32 - 5.0));
    for dtype in WEIGHT_TYPES {
        let (weight, exact_weight) = weight(dtype, &values);
        let layer = Linear::new(weight, None, out_features, in_features).unwrap();
        let expected = x.chunks_exact(in_features).flat_map(|x| {
            let rows = exact_weight.chunks_exact(in_features);
            rows.map(move |row| row.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>())
        });
        compare(&Vec::from_iter(expected), &run(&x, &layer), Tolerance::Bits).unwrap();
    }
}

/// Products and sums in 16 lanes, then lanes in halves.
#[expect(clippy::cast_possible_truncation, reason = "the weight is one of 32 bits")]
fn in_lanes(x: &[f32], weight: &[f64]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (index, (&x, &w)) in x.iter().zip(weight).enumerate() {
        lanes[index % 16] += w as f32 * x;
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// Multiply-adds of 256 elements, fused where the CPU can, then those sums.
#[expect(clippy::cast_possible_truncation, reason = "the weight is one of 32 bits")]
fn in_tiles(x: &[f32], weight: &[f64]) -> f32 {
    let is_fused = Isa::best().level() != Level::Baseline || cfg!(target_arch = "aarch64");
    let add = |sum: f32, (&x, &w): (&f32, &f64)| match is_fused {
        true => (w as f32).mul_add(x, sum),
        false => w as f32 * x + sum,
    };
    let parts = x.chunks(256).zip(weight.chunks(256)).map(|(x, weight)| x.iter().zip(weight).fold(0.0, add));
    parts.fold(0.0, |sum, part| sum + part)
}

#[test]
fn sums_have_the_documented_order() {
    for dtype in WEIGHT_TYPES {
        for (tokens, in_features) in [(1, 5), (1, 31), (3, 527), (15, 600), (16, 5), (16, 256), (33, 527)] {
            let order = if tokens < TILED_FROM { in_lanes } else { in_tiles };
            let x = uniform::<f32>(1, tokens * in_features);
            let (weight, exact) = weight(dtype, &uniform::<f32>(2, 7 * in_features));
            let layer = Linear::new(weight, None, 7, in_features).unwrap();
            let expected = x
                .chunks_exact(in_features)
                .flat_map(|x| exact.chunks_exact(in_features).map(move |row| order(x, row)));
            compare(&Vec::from_iter(expected), &run(&x, &layer), Tolerance::Bits)
                .unwrap_or_else(|mismatch| panic!("{tokens} tokens of {in_features}, {dtype}: {mismatch}"));
        }
    }
}

#[test]
fn a_token_alone_gets_the_bits_it_gets_among_others() {
    for dtype in WEIGHT_TYPES {
        let Case { x, layer, .. } = case((TILED_FROM - 1, 13, 777), dtype, true);
        let together = run(&x, &layer);
        let alone = Vec::from_iter(x.chunks_exact(777).flat_map(|x| run(x, &layer)));
        compare(&together, &alone, Tolerance::Bits).unwrap();
    }
}

#[test]
fn a_token_among_many_gets_the_same_bits_among_more() {
    let tokens = 4 * TILED_FROM + 3;
    for dtype in WEIGHT_TYPES {
        let Case { x, layer, .. } = case((tokens, 61, 777), dtype, true);
        let together = run(&x, &layer);
        for (first, len) in [(0, TILED_FROM), (5, 17), (30, 33), (tokens - 34, 34)] {
            let some = run(&x[first * 777..(first + len) * 777], &layer);
            compare(&together[first * 61..(first + len) * 61], &some, Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let Case { x, layer, .. } = case((5, 1000, 600), DType::BF16, true);
    let one = in_pool(1, || run(&x, &layer));
    for threads in [2, 3, 8] {
        compare(&one, &in_pool(threads, || run(&x, &layer)), Tolerance::Bits).unwrap();
    }
    let Case { x, layer, .. } = case((40, 1000, 600), DType::BF16, true);
    let one = in_pool(1, || run(&x, &layer));
    for threads in [2, 3, 8] {
        compare(&one, &in_pool(threads, || run(&x, &layer)), Tolerance::Bits).unwrap();
    }
}

#[test]
fn no_tokens_give_no_rows() {
    let Case { layer, .. } = case((1, 3, 2), DType::F32, true);
    assert!(run(&[], &layer).is_empty());
}

#[test]
fn infinities_and_nan_come_through() {
    let layer = Linear::new(weight(DType::F32, &[1.0, 0.0, 0.0, 1.0]).0, None, 2, 2).unwrap();
    let out = run(&[f32::INFINITY, 1.0, 2.0, f32::NAN], &layer);
    assert_eq!(out[0], f32::INFINITY);
    // Infinity times zero.
    assert!(out[1].is_nan() && out[2].is_nan() && out[3].is_nan());
}
