//! The block formats against ggml: bytes and elements of its reference, committed under `blocks/`, and what must hold of any
//! row. `blocks/make.py` tells how the files were made; its rows are built here again.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::fs;
use std::path::Path;

use kernels_nn::{BlockType, NnError};
use proptest::prelude::*;

/// Elements of a row.
const ROW: usize = 256;
/// Rows of the long comparison.
const MANY: usize = 2048;
/// Random bytes that are widened.
const BYTES: usize = 1 << 18;

/// SplitMix64.
fn words(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |index: u64| {
        let z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Sums of four 16-bit parts of a word, centred, in (-1, 1).
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let part = |word: u64, at: u32| (word >> (16 * at) & 0xffff) as i64;
    let sum = |word: u64| (0..4).map(|at| part(word, at)).sum::<i64>() - 131_070;
    words(seed).take(count).map(|word| sum(word) as f32 * (-17_f32).exp2()).collect()
}

fn scaled(seed: u64, factor: f32) -> Vec<f32> {
    noise(seed, ROW).into_iter().map(|x| x * factor).collect()
}

fn of_index(element: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..ROW).map(element).collect()
}

fn moved(seed: u64, by: f32) -> Vec<f32> {
    noise(seed, ROW).into_iter().map(|x| x + by).collect()
}

/// `base` with one element of another value.
fn outlier(mut base: Vec<f32>, value: f32) -> Vec<f32> {
    base[100] = value;
    base
}

/// The rows of `make.py`, in its order.
fn rows() -> Vec<f32> {
    let centred = |i: usize| i as f32 - 128.0;
    let (noise_11, noise_16) = (noise(11, ROW), noise(16, ROW));
    let mut rows = vec![
        vec![0.0; ROW],
        outlier(vec![0.0; ROW], 3.5),
        vec![0.7; ROW],
        vec![-0.7; ROW],
        of_index(|i| centred(i) * f32::from_bits(1)),
        noise(5, ROW).into_iter().map(|x| -x.abs()).collect(),
        noise(6, ROW).into_iter().map(f32::abs).collect(),
        scaled(7, 1e30),
        of_index(|i| if i % 2 == 0 { 1.0 } else { -1.0 }),
        of_index(|i| centred(i) / 128.0),
        scaled(10, (-60_f32).exp2()),
        outlier(noise_11, 300.0),
        of_index(|i| if i % 3 == 0 { 3e38 } else { -3e38 }),
        of_index(|i| (i % 16) as f32 - 8.0 + 0.5),
        vec![-0.0; ROW],
        scaled(15, (-16_f32).exp2()),
        of_index(|i| noise_16[i] * (i / 16) as f32),
        moved(17, 5.0),
        moved(18, -5.0),
    ];
    rows.extend((19..32_u8).map(|seed| scaled(u64::from(seed), (f32::from(seed) - 28.0).exp2())));
    rows.concat()
}

/// FNV-1a over little-endian words of 16 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.as_chunks::<2>().0.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash ^ u64::from(u16::from_le_bytes(*word))).wrapping_mul(0x100_0000_01b3)
    })
}

fn committed(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blocks").join(name)).unwrap()
}

/// The committed hashes of a format: of the bytes of many rows, and of the elements of random bytes.
fn hashes(block: BlockType) -> (u64, u64) {
    let text = String::from_utf8(committed("hashes.txt")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(block.name())).unwrap();
    let hashes: Vec<u64> =
        line.split_whitespace().map(|hash| u64::from_str_radix(hash, 16).unwrap()).collect();
    (hashes[0], hashes[1])
}

fn quantized(block: BlockType, x: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xaa; x.len() / block.block_len() * block.block_bytes()];
    block.quantize(x, &mut blocks).unwrap();
    blocks
}

fn widened(block: BlockType, blocks: &[u8]) -> Vec<f32> {
    let mut out = vec![7.0; blocks.len() / block.block_bytes() * block.block_len()];
    block.dequantize(blocks, &mut out).unwrap();
    out
}

#[test]
fn rows_get_the_bytes_of_ggml() {
    let rows = rows();
    assert_eq!(rows.len(), 32 * ROW);
    for block in BlockType::ALL {
        let (ours, theirs) = (quantized(block, &rows), committed(&format!("{block}.bin")));
        let mine = ours.chunks_exact(block.block_bytes());
        let pairs = mine.zip(theirs.chunks_exact(block.block_bytes()));
        for (index, (ours, theirs)) in pairs.enumerate() {
            let row = index * block.block_len() / ROW;
            assert_eq!(ours, theirs, "{block}, row {row}, block {index}");
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

#[test]
fn many_rows_get_the_bytes_of_ggml() {
    let x: Vec<f32> = noise(99, MANY * ROW).into_iter().map(|x| x * 0.125).collect();
    for block in BlockType::ALL {
        assert_eq!(hash(&quantized(block, &x)), hashes(block).0, "{block}");
    }
}

#[test]
fn any_bytes_widen_to_the_elements_of_ggml() {
    let bytes: Vec<u8> = words(1234).take(BYTES / 8).flat_map(u64::to_le_bytes).collect();
    for block in BlockType::ALL {
        let whole = BYTES / block.block_bytes() / 2 * 2 * block.block_bytes();
        let elements = widened(block, &bytes[..whole]);
        let canonical = elements.iter().map(|&x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() });
        let bytes: Vec<u8> = canonical.flat_map(u32::to_le_bytes).collect();
        assert_eq!(hash(&bytes), hashes(block).1, "{block}");
        assert!(elements.iter().any(|x| x.is_nan()), "{block}: no scale of the random bytes is NaN");
    }
}

#[test]
fn what_is_not_finite_is_refused_and_changes_nothing() {
    for block in BlockType::ALL {
        for found in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 2 * ROW];
            x[300] = found;
            let mut blocks = vec![0xaa; x.len() / block.block_len() * block.block_bytes()];
            let refused = block.quantize(&x, &mut blocks);
            assert!(matches!(refused, Err(NnError::NotFinite { index: 300, .. })), "{block}: {refused:?}");
            assert!(blocks.iter().all(|&byte| byte == 0xaa));
        }
    }
}

#[test]
fn scales_beyond_f16_are_told() {
    for block in BlockType::ALL {
        assert!(block.is_finite(&quantized(block, &vec![1.0; ROW])), "{block}");
        let mut one_large = vec![1.0; 2 * ROW];
        one_large[ROW + 7] = 1e10;
        assert!(!block.is_finite(&quantized(block, &one_large)), "{block}");
    }
}

/// What `quantize` promises of one element of the formats of 32, as multiples of the block's largest magnitude or range.
fn bound(block: BlockType, x: &[f32]) -> f64 {
    let e = (-11_f64).exp2();
    let largest = f64::from(x.iter().fold(0.0_f32, |so_far, x| so_far.max(x.abs())));
    let (low, high) = x.iter().fold((x[0], x[0]), |(low, high), &x| (low.min(x), high.max(x)));
    let range = f64::from(high) - f64::from(low);
    match block {
        BlockType::Q8_0 => largest / 127.0 * (0.5 + 127.0 * e),
        BlockType::Q4_0 => largest / 8.0 * (1.0 + 8.0 * e),
        BlockType::Q5_0 => largest / 16.0 * (1.0 + 16.0 * e),
        _ => range / 31.0 * (0.5 + 31.0 * e) + largest * e,
    }
}

fn magnitudes() -> impl Strategy<Value = Vec<f32>> {
    (-3_i8..4, prop::collection::vec(-1.0_f32..1.0, ROW))
        .prop_map(|(power, x)| x.into_iter().map(|x| x * f32::from(power).exp2()).collect())
}

/// As many cases as said, under Miri as `PROPTEST_CASES` says.
fn cases(cases: u32) -> ProptestConfig {
    if cfg!(miri) { ProptestConfig::default() } else { ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..cases(256) })]

    #[test]
    fn formats_of_32_keep_their_bound(x in magnitudes()) {
        for block in [BlockType::Q8_0, BlockType::Q4_0, BlockType::Q5_0, BlockType::Q5_1] {
            let out = widened(block, &quantized(block, &x));
            for (x, out) in x.chunks_exact(32).zip(out.chunks_exact(32)) {
                // To first order: what is left out is below 1 part in 1000.
                let bound = bound(block, x) * 1.001;
                for (x, out) in x.iter().zip(out) {
                    let error = (f64::from(*x) - f64::from(*out)).abs();
                    prop_assert!(error <= bound, "{block}: {x} became {out}, beyond {bound}");
                }
            }
        }
    }

    /// No other level of a group, seen among what the block holds, is nearer to an element than the one it got.
    #[test]
    fn formats_of_256_choose_the_nearest_level(x in magnitudes()) {
        for (block, group) in [(BlockType::Q4_K, 32), (BlockType::Q5_K, 32), (BlockType::Q6_K, 16)] {
            let out = widened(block, &quantized(block, &x));
            for (x, out) in x.chunks_exact(group).zip(out.chunks_exact(group)) {
                for (x, got) in x.iter().zip(out) {
                    let error = |value: f32| (f64::from(*x) - f64::from(value)).abs();
                    let nearest = out.iter().copied().map(error).fold(f64::INFINITY, f64::min);
                    let rounding = f64::from(x.abs().max(got.abs())) * 1e-5;
                    prop_assert!(error(*got) <= nearest + rounding, "{block}: {x} became {got}");
                }
            }
        }
    }
}

/// Root mean square of the error over that of the rows, for noise: what each format costs, and that no change makes it worse.
#[test]
fn the_error_of_noise_is_what_it_was() {
    let x = noise(99, 64 * ROW);
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
    for (block, most) in [
        (BlockType::Q8_0, 0.00509),
        (BlockType::Q4_0, 0.08191),
        (BlockType::Q5_0, 0.04034),
        (BlockType::Q5_1, 0.03651),
        (BlockType::Q4_K, 0.06863),
        (BlockType::Q5_K, 0.03456),
        (BlockType::Q6_K, 0.01702),
    ] {
        let out = widened(block, &quantized(block, &x));
        let error = square(&mut x.iter().zip(&out).map(|(x, out)| x - out)) / square(&mut x.iter().copied());
        assert!(error.sqrt() <= most, "{block}: {}", error.sqrt());
    }
}
