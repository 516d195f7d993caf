//! `Q5_0`: the scale, four bytes of fifth bits, bit `i` that of element `i`, then halves as in `Q4_0`.

use super::fifth::{read, write};
use super::rounding::{extreme, inverse, low_byte};
use super::scales::{half, put_half};

const LEN: usize = 32;
pub(super) const BYTES: usize = 2 + 4 + LEN / 2;

/// The level that stands for 0.
const ZERO: f32 = 16.0;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let scale = half(block, 0);
    *out = read(&block[2..]).map(|level| (f32::from(level) - ZERO) * scale);
}

/// The element of the largest magnitude gets level 0, the other end 31.
pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let scale = extreme(x) / -ZERO;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    write(&x.map(|x| low_byte(x * inverse + (ZERO + 0.5)).min(31)), &mut block[2..]);
}
