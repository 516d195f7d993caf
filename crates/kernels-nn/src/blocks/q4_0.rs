//! `Q4_0`: the scale, then 16 bytes; byte `i` holds element `i` in its low half and element `i + 16` in its high half.

use super::scales::half;

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
