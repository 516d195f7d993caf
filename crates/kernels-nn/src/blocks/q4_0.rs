//! `Q4_0`: the scale, then 16 bytes; byte `i` holds element `i` in its low half and element `i + 16` in its high half.

use super::rounding::{extreme, inverse, low_byte};
use super::scales::{half, put_half};

const LEN: usize = 32;
pub(super) const BYTES: usize = 2 + LEN / 2;

/// The level that stands for 0.
const ZERO: f32 = 8.0;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let scale = half(block, 0);
    let (first, second) = out.split_at_mut(LEN / 2);
    for ((first, second), &pair) in first.iter_mut().zip(second).zip(&block[2..]) {
        *first = (f32::from(pair & 15) - ZERO) * scale;
        *second = (f32::from(pair >> 4) - ZERO) * scale;
    }
}

/// The element of the largest magnitude gets level 0, the other end 15.
pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let scale = extreme(x) / -ZERO;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    let level = |x: f32| low_byte(x * inverse + (ZERO + 0.5)).min(15);
    let (first, second) = x.split_at(LEN / 2);
    for (pair, (&first, &second)) in block[2..].iter_mut().zip(first.iter().zip(second)) {
        *pair = level(first) | level(second) << 4;
    }
}
