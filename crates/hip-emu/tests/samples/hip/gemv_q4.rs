use half::f16;

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, assert_same};
use crate::compile::Dialect;

const ROWS: usize = 9;
/// Weights or activations of a block.
const BLOCK: usize = 32;

/// Work-items of a group.
const BLOCK_ITEMS: usize = 128;

/// A wave for each row.
fn groups(card: &Card) -> [usize; 3] {
    [(ROWS * card.lanes()).div_ceil(BLOCK_ITEMS), 1, 1]
}

/// A scale, and 16 bytes of two weights each: the low halves come first.
#[derive(Clone, Copy)]
struct Q4 {
    scale: f16,
    weights: [u8; BLOCK / 2],
}

impl Q4 {
    fn bytes(&self) -> Vec<u8> {
        [&self.scale.to_le_bytes()[..], &self.weights].concat()
    }
}

/// A scale, the sum of the activations, and the activations over the scale.
#[derive(Clone, Copy)]
struct Q8 {
    scale: f16,
    sum: f16,
    values: [i8; BLOCK],
}

impl Q8 {
    const BYTES: usize = 4 + BLOCK;

    fn bytes(&self) -> Vec<u8> {
        let header = [self.scale.to_le_bytes(), self.sum.to_le_bytes()].concat();
        [&header, bytemuck::cast_slice(&self.values)].concat()
    }

    fn read(bytes: &[u8]) -> Q8 {
        let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let values = std::array::from_fn(|i| i8::from_le_bytes([bytes[4 + i]]));
        Q8 { scale: half(0), sum: half(2), values }
    }
}

fn q4(card: &Card) {
    const BLOCKS: usize = 40;
    let mut random = Random::new(16);
    let mut weights = || Q4 {
        scale: f16::nearest(0.1 * f64::from(random.signed())),
        weights: std::array::from_fn(|_| u8::try_from(random.below(256)).unwrap()),
    };
    let weights: Vec<Q4> = (0..ROWS * BLOCKS).map(|_| weights()).collect();
    let mut activations = || Q8 {
        scale: f16::nearest(0.01 * f64::from(random.signed())),
        sum: f16::nearest(f64::from(random.signed())),
        values: std::array::from_fn(|_| i8::try_from(random.below(256).cast_signed() - 128).unwrap()),
    };
    let x: Vec<Q8> = (0..BLOCKS).map(|_| activations()).collect();
    let term = |(weights, x): (&Q4, &Q8)| {
        let weight =
            |i: usize| i32::from(if i < 16 { weights.weights[i] & 15 } else { weights.weights[i - 16] >> 4 });
        let sum: i32 = (0..BLOCK).map(|i| weight(i) * i32::from(x.values[i])).sum();
        weights.scale.wide() * (f64::from(sum) * x.scale.wide() - 8.0 * x.sum.wide())
    };
    let device_weights = card.upload(&weights.iter().flat_map(Q4::bytes).collect::<Vec<_>>());
    let device_x = card.upload(&x.iter().flat_map(Q8::bytes).collect::<Vec<_>>());
    let y = card.upload(&[f32::NAN; ROWS]);
    let arguments = Arguments::default().buffer(&device_weights).buffer(&device_x).buffer(&y);
    card.launch("gemv_q4_0_q8_1", groups(card), BLOCK_ITEMS, arguments.size(ROWS).size(BLOCKS));
    for (row, found) in card.download(&y).into_iter().enumerate() {
        let terms: Vec<f64> = weights[row * BLOCKS..].iter().zip(&x).map(term).collect();
        let sizes: f64 = terms.iter().map(|term| term.abs() + 1.0).sum();
        // Four roundings a term and up to seven additions; a difference's parts exceed it by less than 1.
        let limit = 16.0 * sizes * f32::ROUNDING;
        assert_close(card, &format!("gemv_q4_0_q8_1, row {row}"), &[found], &[terms.iter().sum()], limit);
    }
}

/// The last block is cut short: what lies beyond stays.
fn quantise(card: &Card) {
    const COUNT: usize = 90;
    let mut x = Random::new(17).values::<f32>(COUNT);
    x[BLOCK..2 * BLOCK].fill(0.0);
    let kept = Q8 { scale: f16::ONE, sum: f16::ONE, values: [77; BLOCK] };
    let (device_x, y) = (card.upload(&x), card.upload(&kept.bytes().repeat(3)));
    let arguments = Arguments::default().buffer(&device_x).buffer(&y).size(COUNT);
    card.launch("quant_q8_1", [1, 1, 1], 128, arguments);
    #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
    let quantum = |x: f32, scale: f32| if scale == 0.0 { 0 } else { (x / scale).round() as i8 };
    let found = card.download(&y);
    for (block, (found, x)) in found.chunks_exact(Q8::BYTES).map(Q8::read).zip(x.chunks(BLOCK)).enumerate() {
        let greatest = x.iter().fold(0f32, |greatest, x| greatest.max(x.abs()));
        let scale = greatest / 127.0;
        let mut values = kept.values;
        for (value, x) in values.iter_mut().zip(x) {
            *value = quantum(*x, scale);
        }
        let what = format!("quant_q8_1, block {block}");
        assert_same(card, &what, &[found.scale], &[f16::from_f32(scale)]);
        assert_same(card, &what, &found.values, &values);
        // Five additions of sums of at most 32.
        assert_close(card, &what, &[found.sum], &[x.iter().map(|x| x.wide()).sum()], 160.0 * f32::ROUNDING);
    }
}

/// OCP's 8-bit float with 4 bits of exponent: no infinities, one NaN of each sign.
fn e4m3(bits: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let size = match exponent {
        15 if bits & 7 == 7 => f64::NAN,
        0 => mantissa / 8.0 * 2f64.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if bits & 0x80 == 0 { size } else { -size }
}

/// A NaN among the weights of the last row makes that row's output NaN.
fn fp8(card: &Card) {
    const COLUMNS: usize = 260;
    let mut random = Random::new(18);
    let finite = |bits: u32| u8::try_from(if bits & 0x7f == 0x7f { bits - 1 } else { bits }).unwrap();
    let mut weights: Vec<u8> = (0..ROWS * COLUMNS).map(|_| finite(random.below(256))).collect();
    weights[ROWS * COLUMNS - 1] = 0x7f;
    let (scales, x) = (random.values::<f32>(COLUMNS.div_ceil(128)), random.values::<f32>(COLUMNS));
    let (device_weights, device_scales) = (card.upload(&weights), card.upload(&scales));
    let (device_x, y) = (card.upload(&x), card.upload(&[0f32; ROWS]));
    let arguments =
        Arguments::default().buffer(&device_weights).buffer(&device_scales).buffer(&device_x).buffer(&y);
    card.launch("gemv_fp8", groups(card), BLOCK_ITEMS, arguments.size(ROWS).size(COLUMNS));
    let found = card.download(&y);
    for (row, weights) in weights.chunks_exact(COLUMNS).take(ROWS - 1).enumerate() {
        let term = |c: usize| scales[c / 128].wide() * e4m3(weights[c]) * x[c].wide();
        let (sum, sizes) =
            (0..COLUMNS).map(term).fold((0.0, 0.0), |(sum, sizes), t| (sum + t, sizes + t.abs()));
        // Two roundings a term, three additions in a group of four, three of groups and five between lanes.
        let limit = 13.0 * sizes * f32::ROUNDING;
        assert_close(card, &format!("gemv_fp8, row {row}"), &found[row..=row], &[sum], limit);
    }
    assert!(found[ROWS - 1].is_nan(), "{}: gemv_fp8: {} despite a NaN", card.label(), found[ROWS - 1]);
}

#[test]
fn gemv_q4() {
    each_build(Dialect::Hip, "gemv_q4", &[], |card| {
        q4(card);
        quantise(card);
        fp8(card);
    });
}
