//! `Q8_0`: the scale, then 32 signed bytes.

use super::scales::half;

const LEN: usize = 32;
pub(super) const BYTES: usize = 2 + LEN;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let scale = half(block, 0);
    for (out, &level) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(level.cast_signed()) * scale;
    }
}
