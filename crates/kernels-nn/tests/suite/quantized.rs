//! Quantised weights against f64: exact where tokens are whole numbers, else within the documented bound.

use std::io::Write;

use device_mem::{Device, DeviceBuffer, MappedFile, RanOn};
use kernels_nn::{BlockType, Embedding, Linear, NnError, Weight, WeightType, embed, linear};
use parity::{Tolerance, compare, uniform};

use crate::common::{cpu, gamma, in_pool, zeros};

/// Elements that share a scale of a token.
const GROUP: usize = 32;
const TILED_FROM: usize = 16;

/// Tokens, rows, and groups or blocks of a row. The last has tasks of more rows than are made ready at once.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (1, 5, 2),
    (2, 4, 3),
    (3, 33, 1),
    (15, 6, 5),
    (16, 12, 2),
    (17, 49, 3),
    (1, 2049, 1),
    (17, 3121, 1),
];

struct Case {
    layer: Linear,
    /// `[out_features, in_features]`
    weight: Vec<f32>,
    bias: Vec<f32>,
}

fn case(block: BlockType, out_features: usize, in_features: usize) -> Case {
    let values = uniform::<f32>(2, out_features * in_features);
    let mut bytes = vec![0; values.len() / block.block_len() * block.block_bytes()];
    block.quantize(&values, &mut bytes).unwrap();
    let mut weight = vec![0.0; values.len()];
    block.dequantize(&bytes, &mut weight).unwrap();
    let bias = uniform::<f32>(3, out_features);
    let layer = Linear::new(Weight::Blocks(block, cpu(&bytes)), Some(cpu(&bias)), out_features, in_features);
    Case { layer: layer.unwrap(), weight, bias }
}

fn run(x: &[f32], layer: &Linear) -> Vec<f32> {
    let mut out = zeros(x.len() / layer.in_features() * layer.out_features());
    assert_eq!(linear(cpu(x).as_view(), layer, out.as_view_mut().unwrap()).unwrap(), RanOn::Cpu);
    out.to_host_vec().unwrap()
}

/// The products in f64, and the bound of each, of which `rounding` is what levels of tokens may miss, as a share of a level.
fn truth(case: &Case, x: &[f32], rounding: f64) -> (Vec<f64>, Vec<f64>) {
    let in_features = case.layer.in_features();
    let roundings = match x.len() / in_features < TILED_FROM {
        true => in_features.div_ceil(2 * GROUP) + 9,
        // Two sums a group, of halves or of a product and a minimum.
        false => 2 * in_features.div_ceil(GROUP) + 3,
    };
    // Widening a weight rounds three times.
    let gamma = gamma(roundings + 3);
    let (mut exact, mut bounds) = (Vec::new(), Vec::new());
    for x in x.chunks_exact(in_features) {
        for (weight, &bias) in case.weight.chunks_exact(in_features).zip(&case.bias) {
            let (mut sum, mut bound) = (f64::from(bias), gamma * f64::from(bias.abs()));
            for (x, weight) in x.chunks(GROUP).zip(weight.chunks(GROUP)) {
                let largest =
                    |values: &[f32]| values.iter().fold(0.0_f64, |most, &v| most.max(f64::from(v).abs()));
                // A group's minimum is at most its largest magnitude, as its lowest level is used.
                let (level, minimum) = (largest(x) / 127.0, largest(weight));
                for (&x, &w) in x.iter().zip(weight) {
                    let (x, w) = (f64::from(x), f64::from(w));
                    sum += x * w;
                    bound +=
                        rounding * level * w.abs() + gamma * (w.abs() + 2.0 * minimum) * (x.abs() + level);
                }
            }
            exact.push(sum);
            bounds.push(bound);
        }
    }
    (exact, bounds)
}

fn check(whole: bool, rounding: f64) {
    for block in BlockType::ALL {
        for (tokens, out_features, parts) in SHAPES {
            let in_features = parts * block.block_len();
            let case = case(block, out_features, in_features);
            let mut x = uniform::<f32>(1, tokens * in_features);
            if whole {
                // With 127 in each group, a level is 1.
                x.iter_mut().for_each(|x| *x = (*x * 127.0).round());
                x.iter_mut().step_by(GROUP).for_each(|x| *x = x.signum() * 127.0);
            }
            let (exact, bounds) = truth(&case, &x, rounding);
            compare(&exact, &run(&x, &case.layer), Tolerance::Elementwise(&bounds)).unwrap_or_else(
                |mismatch| panic!("{block} [{tokens}, {out_features}, {in_features}]: {mismatch}"),
            );
        }
    }
}

#[test]
fn whole_tokens_lose_nothing() {
    check(true, 0.0);
}

#[test]
fn any_tokens_miss_by_half_a_level_at_most() {
    check(false, 0.500_1);
}

#[test]
fn the_bound_notices_tokens_of_7_bits() {
    // Levels twice as far apart miss by up to a whole one of theirs.
    let block = BlockType::Q8_0;
    let case = case(block, 64, 256);
    for tokens in [1, TILED_FROM] {
        let x = uniform::<f32>(1, tokens * 256);
        let coarse = Vec::from_iter(x.chunks(GROUP).flat_map(|x| {
            let level = x.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 31.0;
            x.iter().map(move |x| (x / level).round() * level)
        }));
        let (exact, _) = truth(&case, &x, 0.0);
        let (_, bounds) = truth(&case, &x, 0.05);
        assert!(compare(&exact, &run(&coarse, &case.layer), Tolerance::Elementwise(&bounds)).is_err());
    }
}

#[test]
fn a_token_alone_gets_the_bits_it_gets_among_others() {
    for block in BlockType::ALL {
        let in_features = 3 * block.block_len();
        let case = case(block, 13, in_features);
        let x = uniform::<f32>(1, (TILED_FROM - 1) * in_features);
        let together = run(&x, &case.layer);
        let alone = Vec::from_iter(x.chunks_exact(in_features).flat_map(|x| run(x, &case.layer)));
        compare(&together, &alone, Tolerance::Bits).unwrap();
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for tokens in [1, 5, 40] {
        let case = case(BlockType::Q4_K, 700, 512);
        let x = uniform::<f32>(1, tokens * 512);
        let one = in_pool(1, || run(&x, &case.layer));
        for threads in [2, 3, 8] {
            compare(&one, &in_pool(threads, || run(&x, &case.layer)), Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn what_is_not_finite_comes_through() {
    for block in BlockType::ALL {
        let case = case(block, 3, 512);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for tokens in [1, TILED_FROM] {
                let mut x = vec![1.0; tokens * 512];
                x[300] = value;
                let y = run(&x, &case.layer);
                assert!(y[..3].iter().all(|y| !y.is_finite()), "{block} {value}");
                assert!(y[3..].iter().all(|y| y.is_finite()), "{block} {value}");
            }
        }
    }
}

#[test]
fn embedded_rows_are_the_blocks_widened() {
    for block in BlockType::ALL {
        let hidden = 2 * block.block_len();
        let Case { layer, weight, .. } = case(block, 7, hidden);
        let Weight::Blocks(_, bytes) = layer.weight() else { panic!("a weight of blocks") };
        let table = Weight::Blocks(block, bytes.try_clone().unwrap());
        let table = Embedding::new(table, 7, hidden).unwrap();
        let ids = DeviceBuffer::from_host_vec(&Device::Cpu, vec![6, 0, 3, 6]).unwrap();
        let mut out = zeros(4 * hidden);
        assert_eq!(embed(&table, ids.as_view(), out.as_view_mut().unwrap()).unwrap(), RanOn::Cpu);
        let expected = [6, 0, 3, 6].map(|row| &weight[row * hidden..(row + 1) * hidden]).concat();
        assert_eq!(out.to_host_vec().unwrap(), expected, "{block}");
    }
}

#[test]
fn blocks_that_do_not_fill_rows_are_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0; 3 * 34 + 8]).unwrap();
    let file = MappedFile::open(file.path()).unwrap();
    let weight = |bytes, block| Weight::blocks_from_mapped(&Device::Cpu, &file, bytes, block);
    let error = weight(8..8 + 33, BlockType::Q8_0).unwrap_err();
    assert!(matches!(error, NnError::NoWholeBlocks { block: BlockType::Q8_0, found: 33 }), "{error}");

    let three = weight(8..8 + 102, BlockType::Q8_0).unwrap();
    assert_eq!((three.len(), three.bytes()), (96, 102));
    assert_eq!(three.weight_type(), WeightType::Blocks(BlockType::Q8_0));
    assert_eq!(three.weight_type().bytes(64), Some(68));
    assert_eq!(three.weight_type().bytes(65), None);
    // 96 elements are [2, 48] too, but no row of 48 is whole blocks.
    let error = Linear::new(three, None, 2, 48).unwrap_err();
    assert!(matches!(error, NnError::RowOfBlocks { block: BlockType::Q8_0, columns: 48 }), "{error}");
    assert!(error.to_string().contains("48") && error.to_string().contains("32"), "{error}");
}
