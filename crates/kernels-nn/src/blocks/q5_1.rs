//! `Q5_1`: scale and minimum in f16, then levels as in `Q5_0`.

use super::fifth::{read, write};
use super::rounding::{inverse, low_byte};
use super::scales::{half, put_half};

const LEN: usize = 32;
pub(super) const BYTES: usize = 4 + 4 + LEN / 2;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    *out = read(&block[4..]).map(|level| f32::from(level) * scale + minimum);
}

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    const MOST: f32 = 31.0;
    let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| {
        (if x < low { x } else { low }, if x > high { x } else { high })
    });
    let scale = (high - low) / MOST;
    let inverse = inverse(scale);
    put_half(block, 0, scale);
    put_half(block, 2, low);
    write(&x.map(|x| low_byte((x - low) * inverse + 0.5)), &mut block[4..]);
}
