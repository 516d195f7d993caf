//! Quantised blocks: `embed` gives the CPU's bits, `linear` rounds tokens to the CPU's bits and is within its bound of f64 with the
//! same bits on every device.

mod fused;

use device_mem::Device;
use half::f16;
use kernels_nn::{BlockType, Embedding, Linear, NnError, Weight, embed, linear};
use parity::{SplitMix64, Tolerance, compare, uniform};
use proptest::prelude::*;

use crate::common::{all_agree, counted, gpu, gpus, on, unchanged, unwritten};

/// Half the distance from 1 to the next f32.
const U: f64 = 5.960_464_477_539_063e-8;
/// Elements that share a scale of a token.
const GROUP: usize = 32;

/// Where a block has its scales in f16.
fn scales(block: BlockType) -> &'static [usize] {
    match block {
        BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
        BlockType::Q6_K => &[208],
        _ => &[0],
    }
}

/// Blocks of any bits, but for scales, which `scale` gives.
fn any_blocks(
    block: BlockType,
    seed: u64,
    elements: usize,
    mut scale: impl FnMut(&mut SplitMix64) -> f16,
) -> Vec<u8> {
    let mut random = SplitMix64::new(seed);
    let count = elements / block.block_len();
    let mut bytes =
        Vec::from_iter((0..count * block.block_bytes()).map(|_| random.below(256).to_le_bytes()[0]));
    for bytes in bytes.chunks_exact_mut(block.block_bytes()) {
        for &at in scales(block) {
            bytes[at..at + 2].copy_from_slice(&scale(&mut random).to_le_bytes());
        }
    }
    bytes
}

/// A scale of either sign below 1 / 64.
fn small(random: &mut SplitMix64) -> f16 {
    f16::from_f32((random.below(4097) as f32 - 2048.0) / (1 << 17) as f32)
}

/// Tokens of whole numbers whose groups have a level of 1, as 127 is in each: rounding changes none of them.
fn whole(seed: u64, len: usize) -> Vec<f32> {
    let mut x = Vec::from_iter(uniform::<f32>(seed, len).iter().map(|x| (x * 127.0).round()));
    x.iter_mut().step_by(GROUP).for_each(|x| *x = 127.0_f32.copysign(*x));
    x
}

/// A linear layer of blocks.
struct Layer {
    block: BlockType,
    bytes: Vec<u8>,
    bias: Option<Vec<f32>>,
    out_features: usize,
    in_features: usize,
}

impl Layer {
    fn new(block: BlockType, out_features: usize, in_features: usize, biased: bool) -> Layer {
        let seed = (out_features + in_features) as u64;
        let bytes = any_blocks(block, seed, out_features * in_features, small);
        let bias = biased.then(|| uniform(3, out_features));
        Layer { block, bytes, bias, out_features, in_features }
    }

    fn on(&self, device: &Device) -> Linear {
        let weight = Weight::Blocks(self.block, on(device, &self.bytes));
        let bias = self.bias.as_ref().map(|bias| on(device, bias));
        Linear::new(weight, bias, self.out_features, self.in_features).unwrap()
    }

    fn widened(&self) -> Vec<f32> {
        let mut wide = vec![0.0; self.out_features * self.in_features];
        self.block.dequantize(&self.bytes, &mut wide).unwrap();
        wide
    }

    /// What each element's level is above, `-m`: the element with level 0, where a format has minima.
    fn minima(&self) -> Vec<f32> {
        let head = match self.block {
            BlockType::Q5_1 => 4,
            BlockType::Q4_K | BlockType::Q5_K => 16,
            _ => return vec![0.0; self.out_features * self.in_features],
        };
        let mut bytes = self.bytes.clone();
        bytes.chunks_exact_mut(self.block.block_bytes()).for_each(|block| block[head..].fill(0));
        Layer { bytes, bias: None, ..*self }.widened()
    }

    /// The result of a device, with `x` starting `offset` elements into its buffer.
    fn run(&self, device: &Device, x: &[f32], offset: usize) -> Vec<f32> {
        let layer = self.on(device);
        let shifted = [vec![f32::NAN; offset], x.to_vec()].concat();
        let buffer = on(device, &shifted);
        let mut out = unwritten(device, x.len() / self.in_features * self.out_features);
        let view = buffer.view(offset..shifted.len()).unwrap();
        counted(device, || linear(view, &layer, out.as_view_mut().unwrap()));
        unchanged(&buffer, &shifted);
        out.to_host_vec().unwrap()
    }

    /// The f64 results, and the bounds that `linear` documents for HIP devices, of which `rounding` is what levels of tokens may
    /// miss, as a share of a level.
    fn exact(&self, x: &[f32], rounding: f64) -> (Vec<f64>, Vec<f64>) {
        let lanes = if self.out_features < 1 << 14 { 128 } else { 32 };
        let roundings = (4 * self.in_features.div_ceil(32 * lanes) + lanes.ilog2() as usize + 3) as f64;
        let gamma = roundings * U / (1.0 - roundings * U);
        let (wide, minima) = (self.widened(), self.minima());
        let (mut exact, mut bounds) = (Vec::new(), Vec::new());
        for x in x.chunks_exact(self.in_features) {
            let largest = |x: &[f32]| x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let levels = Vec::from_iter(x.chunks_exact(GROUP).map(|x| f64::from(largest(x)) / 127.0));
            let rows = wide.chunks_exact(self.in_features).zip(minima.chunks_exact(self.in_features));
            for (row, (weights, minima)) in rows.enumerate() {
                let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
                let (mut sum, mut bound) = (bias, gamma * bias.abs());
                for (at, (&x, (&w, &m))) in x.iter().zip(weights.iter().zip(minima)).enumerate() {
                    let (x, w, m, level) = (f64::from(x), f64::from(w), f64::from(m), levels[at / GROUP]);
                    sum += w * x;
                    let magnitude = ((w - m).abs() + m.abs()) * (x.abs() + rounding * level);
                    bound += rounding * level * w.abs() + gamma * magnitude;
                }
                exact.push(sum);
                bounds.push(bound);
            }
        }
        (exact, bounds)
    }

    /// Every device is within the bound, and all have the same bits.
    fn check(&self, x: &[f32], rounding: f64) {
        let what = format!("{} [{}, {}] x {}", self.block, self.out_features, self.in_features, x.len());
        let (exact, bounds) = self.exact(x, rounding);
        let devices = gpus();
        let results = Vec::from_iter(devices.iter().map(|device| self.run(device, x, 0)));
        for (device, result) in devices.iter().zip(&results) {
            compare(&exact, result, Tolerance::Elementwise(&bounds))
                .unwrap_or_else(|mismatch| panic!("{what} on {device:?}: {mismatch}"));
            compare(&results[0], result, Tolerance::Bits)
                .unwrap_or_else(|mismatch| panic!("{what} on {device:?} and {:?}: {mismatch}", devices[0]));
        }
    }

    /// Where no token is changed by rounding.
    fn check_whole(&self, tokens: usize) {
        self.check(&whole(1, tokens * self.in_features), 0.0);
    }
}

/// Tokens, rows, and blocks of a row: around passes (1, 8), tiles of rows (8, 16, 64), and lanes (128 pieces of 32).
const SHAPES: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (2, 3, 2),
    (4, 8, 3),
    (7, 9, 1),
    (8, 15, 2),
    (15, 7, 3),
    (16, 4, 1),
    (17, 17, 2),
    (1, 16, 16),
    (1, 33, 3),
    (1, 5, 17),
    (3, 18, 16),
    (1, 7, 129),
    (9, 2, 131),
];

#[test]
fn linear_meets_the_bound_and_is_the_same_on_every_device() {
    for block in BlockType::ALL {
        for (tokens, out_features, blocks) in SHAPES {
            // Rows of 256 reach past all lanes with fewer blocks.
            let blocks = if block.block_len() == 256 { blocks.div_ceil(4) } else { blocks };
            let in_features = blocks * block.block_len();
            let layer = Layer::new(block, out_features, in_features, tokens % 2 == 1);
            layer.check_whole(tokens);
        }
    }
}

#[test]
fn many_rows_are_summed_in_fewer_lanes() {
    for block in BlockType::ALL {
        let width = block.block_len();
        Layer::new(block, 16_384, width, true).check_whole(1);
        Layer::new(block, 16_383, width, false).check_whole(1);
    }
    // Tiles of more rows than are left, and lanes that have several pieces.
    Layer::new(BlockType::Q4_0, 16_421, 32 * 33, true).check_whole(1);
    Layer::new(BlockType::Q4_K, 16_417, 256, false).check_whole(3);
}

#[test]
fn rows_wider_than_a_stage_are_rounded_in_parts() {
    for (block, tokens, in_features) in [
        (BlockType::Q8_0, 1, 16_384 + 32),
        (BlockType::Q4_K, 1, 2 * 16_384 + 256),
        (BlockType::Q6_K, 2, 4096 + 256),
        (BlockType::Q5_1, 9, 2 * 4096 + 32),
    ] {
        Layer::new(block, 3, in_features, true).check_whole(tokens);
    }
}

/// The levels of tokens by a weight that picks each element out: groups of any numbers, of halves between levels, and of what is
/// near the ends of f32 or not finite.
#[test]
fn tokens_are_rounded_to_the_bits_of_the_cpu() {
    let mut picks = vec![0; GROUP * BlockType::Q8_0.block_bytes()];
    for (at, block) in picks.chunks_exact_mut(BlockType::Q8_0.block_bytes()).enumerate() {
        block[..2].copy_from_slice(&f16::ONE.to_le_bytes());
        block[2 + at] = 1;
    }
    let layer =
        Layer { block: BlockType::Q8_0, bytes: picks, bias: None, out_features: GROUP, in_features: GROUP };
    let mut groups = Vec::from_iter((0..6).map(|seed| uniform::<f32>(seed, GROUP)));
    for scale in [0.0, 1e-45, 1e-40, 3e-37, 1e-36, 3e38] {
        groups.push(Vec::from_iter(uniform::<f32>(7, GROUP).iter().map(|x| x * scale)));
    }
    groups.push(Vec::from_iter((0..GROUP).map(|at| if at == 0 { 127.0 } else { at as f32 - 15.5 })));
    groups.push(Vec::from_iter((0..GROUP).map(|at| if at == 5 { -1e-39 } else { 0.0 })));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        groups.push(Vec::from_iter((0..GROUP).map(|at| if at == 17 { value } else { 1.0 })));
    }
    let levels = |device: &Device, x: &[f32]| {
        // A NaN may have any bits.
        Vec::from_iter(layer.run(device, x, 0).iter().map(|y| if y.is_nan() { f32::NAN } else { *y }))
    };
    for x in groups.iter().cloned().chain(groups.chunks(9).map(<[_]>::concat)) {
        all_agree(&format!("{x:?}"), |device| levels(device, &x));
    }
}

#[test]
fn a_row_may_start_anywhere() {
    for block in BlockType::ALL {
        let layer = Layer::new(block, 5, 512, true);
        for tokens in [1, 3] {
            let x = uniform::<f32>(1, tokens * 512);
            for device in gpus() {
                let aligned = layer.run(&device, &x, 0);
                for offset in [1, 2, 3] {
                    compare(&aligned, &layer.run(&device, &x, offset), Tolerance::Bits).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_token_alone_gets_the_bits_it_gets_among_others() {
    for block in BlockType::ALL {
        let layer = Layer::new(block, 11, 512, true);
        let x = uniform::<f32>(1, 19 * 512);
        for device in gpus() {
            let together = layer.run(&device, &x, 0);
            let alone = Vec::from_iter(x.chunks_exact(512).flat_map(|x| layer.run(&device, x, 0)));
            compare(&together, &alone, Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn what_is_not_finite_comes_through() {
    for block in BlockType::ALL {
        for scale in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
            let mut layer = Layer::new(block, 9, 512, false);
            let row = layer.bytes.len() / 9;
            layer.bytes[4 * row + scales(block)[0]..][..2].copy_from_slice(&scale.to_le_bytes());
            for device in gpus() {
                let out = layer.run(&device, &[1.0; 512], 0);
                let finite = Vec::from_iter(out.iter().map(|y| y.is_finite()));
                assert_eq!(finite, Vec::from_iter((0..9).map(|row| row != 4)), "{block} {scale} {device:?}");
            }
        }
        let zeros = Layer {
            bytes: vec![0; Layer::new(block, 3, 256, false).bytes.len()],
            ..Layer::new(block, 3, 256, true)
        };
        for device in gpus() {
            let expected = zeros.bias.clone().unwrap();
            compare(&expected, &zeros.run(&device, &[1.0; 256], 0), Tolerance::Bits).unwrap();
        }
    }
}

fn embedded(device: &Device, block: BlockType, table: &[u8], ids: &[u32]) -> Vec<f32> {
    const VOCAB: usize = 5;
    let hidden = table.len() / block.block_bytes() * block.block_len() / VOCAB;
    let embedding = Embedding::new(Weight::Blocks(block, on(device, table)), VOCAB, hidden).unwrap();
    let (ids, mut out) = (on(device, ids), unwritten(device, ids.len() * hidden));
    counted(device, || embed(&embedding, ids.as_view(), out.as_view_mut().unwrap()));
    out.to_host_vec().unwrap()
}

#[test]
fn embedded_rows_are_equal_bit_for_bit() {
    for block in BlockType::ALL {
        for blocks in [1, 3, 9, 257] {
            // Scales of any bits: NaN, infinite, below the normal range, and zeros of either sign.
            let any = |random: &mut SplitMix64| f16::from_bits(u16::try_from(random.below(1 << 16)).unwrap());
            let mut table = any_blocks(block, blocks as u64, 5 * blocks * block.block_len(), any);
            for (at, scale) in [f16::ZERO, f16::NEG_ZERO, f16::INFINITY, f16::NAN].into_iter().enumerate() {
                let first = at * blocks * block.block_bytes() + scales(block)[0];
                table[first..first + 2].copy_from_slice(&scale.to_le_bytes());
            }
            all_agree(&format!("{block}, {blocks} blocks"), |device| {
                embedded(device, block, &table, &[4, 0, 1, 2, 3, 1])
            });
        }
    }
}

#[test]
fn an_id_outside_the_vocabulary_gives_nan_and_reads_nothing() {
    for block in BlockType::ALL {
        let table = any_blocks(block, 1, 5 * 256, small);
        for device in gpus() {
            let out = embedded(&device, block, &table, &[4, 5, u32::MAX, 0]);
            let cpu = embedded(&Device::Cpu, block, &table, &[4, 0]);
            assert_eq!((&out[..256], &out[768..]), (&cpu[..256], &cpu[256..]));
            assert!(out[256..768].iter().all(|value| value.is_nan()), "{block} {device:?}");
        }
    }
}

#[test]
fn rows_too_wide_for_32_bits_are_refused() {
    let device = gpu();
    let width = 1 << 25;
    let bytes = width / 256 * BlockType::Q4_K.block_bytes();
    let weight = Weight::Blocks(BlockType::Q4_K, on(&device, &vec![0; bytes]));
    let layer = Linear::new(weight, None, 1, width).unwrap();
    let (x, mut out) = (on(&device, &vec![0.0_f32; width]), unwritten(&device, 1));
    let before = device.transfers();
    let error = linear(x.as_view(), &layer, out.as_view_mut().unwrap()).unwrap_err();
    assert!(matches!(error, NnError::RowTooWide { width: 0x200_0000, most: 0x1ff_ffff }), "{error}");
    assert_eq!(device.transfers(), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn random_products_meet_the_bound(
        seed: u64, format in 0_usize..7, tokens in 1_usize..20, out_features in 1_usize..80, blocks in 1_usize..12,
    ) {
        let block = BlockType::ALL[format];
        let blocks = if block.block_len() == 256 { blocks.div_ceil(4) } else { blocks };
        let in_features = blocks * block.block_len();
        let mut layer = Layer::new(block, out_features, in_features, seed % 2 == 0);
        layer.bytes = any_blocks(block, seed, out_features * in_features, small);
        layer.check(&uniform(seed, tokens * in_features), 0.500_1);
        layer.check_whole(tokens);
    }
}
