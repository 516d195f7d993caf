//! `Q4_K`: scale and scale of the minima in f16, twelve bytes of 6-bit pairs, then 128 bytes. Of each 64 elements the
//! first 32 lie in the low halves of 32 bytes, the others in the high halves.

use super::scales::{GROUPS, PACKED, half, unpack};

const LEN: usize = 256;
const LEVELS: usize = 4 + PACKED;
const GROUP: usize = LEN / GROUPS;
pub(super) const BYTES: usize = LEVELS + LEN / 2;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    let pairs = unpack(&block[4..LEVELS]);
    for (group, (pair, out)) in pairs.iter().zip(out.chunks_exact_mut(GROUP)).enumerate() {
        let (scale, minimum) = (scale * f32::from(pair.scale), minimum * f32::from(pair.minimum));
        let (bytes, shift) = (LEVELS + group / 2 * GROUP, group % 2 * 4);
        for (out, byte) in out.iter_mut().zip(&block[bytes..]) {
            *out = scale * f32::from(byte >> shift & 15) - minimum;
        }
    }
}
