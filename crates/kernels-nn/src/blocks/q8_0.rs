//! `Q8_0`: the scale, then 32 signed bytes.

use super::rounding::{extreme, inverse, low_byte};
use super::scales::{half, put_half};

const LEN: usize = 32;
pub(super) const BYTES: usize = 2 + LEN;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let scale = half(block, 0);
    for (out, &level) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(level.cast_signed()) * scale;
    }
}

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    const MOST: f32 = 127.0;
    let scale = extreme(x).abs() / MOST;
    put_half(block, 0, scale);
    for (level, x) in block[2..].iter_mut().zip(x) {
        *level = low_byte((x * inverse(scale)).round());
    }
}
