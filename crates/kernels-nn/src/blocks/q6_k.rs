//! `Q6_K`: 128 bytes of low halves, 64 bytes of high pairs of bits, 16 signed scales, and their scale in f16.
//!
//! Of each 128 elements, part `p` is the 32 from `32 p`. Parts 0 and 1 lie in the low halves of 64 bytes, parts 2 and 3 in
//! their high halves; bits `2 p` and above of 32 further bytes are part `p`'s high two.

use super::rounding::{extreme, nearest};
use super::scales::{half, put_half};

const LEN: usize = 256;
const HIGH: usize = LEN / 2;
const SCALES: usize = HIGH + LEN / 4;
pub(super) const SCALE: usize = SCALES + LEN / GROUP;
pub(super) const BYTES: usize = SCALE + 2;

/// Elements that share a scale.
const GROUP: usize = 16;
const PART: usize = 32;
/// The level that stands for 0.
const ZERO: i32 = 32;
/// Groups and blocks of smaller numbers count as 0, as in ggml.
const LEAST: f32 = 1e-15;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let scale = half(block, SCALE);
    for (index, out) in out.chunks_exact_mut(PART).enumerate() {
        let place = Place::of(index);
        let levels = block[place.low..].iter().zip(&block[place.high..]);
        for (at, (out, (low, high))) in out.iter_mut().zip(levels).enumerate() {
            let level = low >> place.low_shift & 15 | (high >> place.high_shift & 3) << 4;
            let group = block[SCALES + index * PART / GROUP + at / GROUP].cast_signed();
            *out = scale * f32::from(group) * (f32::from(level) - ZERO as f32);
        }
    }
}

/// Each group's scale is fitted to levels from several trial scales, as in ggml's `make_qx_quants` with weights `x^2`, sum
/// for sum; then all are rounded to 8 bits, and the levels are chosen again for what the rounded ones stand for.
pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    block.fill(0);
    let (groups, _) = x.as_chunks::<GROUP>();
    let mut levels = [[0; GROUP]; LEN / GROUP];
    let mut scales = [0.0; LEN / GROUP];
    for ((scale, levels), group) in scales.iter_mut().zip(&mut levels).zip(groups) {
        *scale = fitted(group, levels);
    }
    let largest = extreme(&scales);
    if largest.abs() < LEAST {
        return;
    }
    let inverse = -128.0 / largest;
    let scale = put_half(block, SCALE, 1.0 / inverse);
    for (index, (group, levels)) in groups.iter().zip(&mut levels).enumerate() {
        let rounded = signed_byte(inverse * scales[index]);
        block[SCALES + index] = rounded.cast_unsigned();
        let scale = scale * f32::from(rounded);
        if scale != 0.0 {
            *levels = group.map(|x| level(x / scale));
        }
    }
    write(levels.as_flattened(), block);
}

fn write(levels: &[u8], block: &mut [u8; BYTES]) {
    for (index, levels) in levels.chunks_exact(PART).enumerate() {
        let place = Place::of(index);
        for (at, level) in levels.iter().enumerate() {
            block[place.low + at] |= (level & 15) << place.low_shift;
            block[place.high + at] |= level >> 4 << place.high_shift;
        }
    }
}

/// The scale of a group, and its levels.
fn fitted(x: &[f32; GROUP], levels: &mut [u8; GROUP]) -> f32 {
    const TRIALS: i8 = 9;
    let largest = extreme(x);
    if largest.abs() < LEAST {
        *levels = [0; GROUP];
        return 0.0;
    }
    let inverse = -(ZERO as f32) / largest;
    *levels = x.map(|x| level(inverse * x));
    let sums = Sums::of(x, levels);
    let mut scale = if sums.square == 0.0 { 0.0 } else { sums.product / sums.square };
    let mut best = scale * sums.product;
    for trial in (-TRIALS..=TRIALS).filter(|&trial| trial != 0) {
        let inverse = -(ZERO as f32 + 0.1 * f32::from(trial)) / largest;
        let trial = x.map(|x| level(inverse * x));
        let sums = Sums::of(x, &trial);
        if sums.square > 0.0 && sums.product * sums.product > best * sums.square {
            *levels = trial;
            scale = sums.product / sums.square;
            best = scale * sums.product;
        }
    }
    scale
}

/// Sums of a group with given levels, weighted by `x^2`.
struct Sums {
    product: f32,
    square: f32,
}

impl Sums {
    fn of(x: &[f32; GROUP], levels: &[u8; GROUP]) -> Sums {
        let mut sums = Sums { product: 0.0, square: 0.0 };
        for (x, &level) in x.iter().zip(levels) {
            let (weight, level) = (x * x, f32::from(level) - ZERO as f32);
            sums.product += weight * x * level;
            sums.square += weight * level * level;
        }
        sums
    }
}

/// The level nearest to `x`, from 0 for -32 to 63 for 31.
fn level(x: f32) -> u8 {
    let clamped = nearest(x).clamp(-ZERO, ZERO - 1) + ZERO;
    u8::try_from(clamped).unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, reason = "ggml keeps the low byte of what is at most 127")]
fn signed_byte(x: f32) -> i8 {
    nearest(x).min(127) as i8
}

/// Where 32 elements have their bits.
struct Place {
    low: usize,
    low_shift: usize,
    high: usize,
    high_shift: usize,
}

impl Place {
    /// Those of the elements from `32 index`.
    fn of(index: usize) -> Place {
        let (stretch, part) = (index / 4, index % 4);
        Place {
            low: stretch * 64 + part % 2 * PART,
            low_shift: part / 2 * 4,
            high: HIGH + stretch * PART,
            high_shift: part * 2,
        }
    }
}
