//! `Q4_K`: scale and scale of the minima in f16, twelve bytes of 6-bit pairs, then 128 bytes. Of each 64 elements the
//! first 32 lie in the low halves of 32 bytes, the others in the high halves.

use super::grouped::{self, HEAD, LEN, Search};
use super::scales::{GROUPS, half, unpack};

const GROUP: usize = LEN / GROUPS;
pub(super) const BYTES: usize = HEAD + LEN / 2;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    let pairs = unpack(&block[4..HEAD]);
    for (group, (pair, out)) in pairs.iter().zip(out.chunks_exact_mut(GROUP)).enumerate() {
        let (scale, minimum) = (scale * f32::from(pair.scale), minimum * f32::from(pair.minimum));
        let (bytes, shift) = (HEAD + group / 2 * GROUP, group % 2 * 4);
        for (out, byte) in out.iter_mut().zip(&block[bytes..]) {
            *out = scale * f32::from(byte >> shift & 15) - minimum;
        }
    }
}

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let (head, bytes) = block.split_at_mut(HEAD);
    let levels = grouped::quantize(x, Search { most: 15, first: -1.0, steps: 20 }, head);
    let pairs = levels.chunks_exact(2 * GROUP).zip(bytes.chunks_exact_mut(GROUP));
    for (levels, bytes) in pairs {
        let (low, high) = levels.split_at(GROUP);
        for (byte, (low, high)) in bytes.iter_mut().zip(low.iter().zip(high)) {
            *byte = low | high << 4;
        }
    }
}
