//! `Q5_K`: as `Q4_K`, with 32 bytes of fifth bits before the halves: bit `g` of byte `i` is that of element `i` of group `g`.

use super::scales::{GROUPS, PACKED, half, unpack};

const LEN: usize = 256;
const FIFTH: usize = 4 + PACKED;
const LEVELS: usize = FIFTH + LEN / 8;
const GROUP: usize = LEN / GROUPS;
pub(super) const BYTES: usize = LEVELS + LEN / 2;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    let pairs = unpack(&block[4..FIFTH]);
    for (group, (pair, out)) in pairs.iter().zip(out.chunks_exact_mut(GROUP)).enumerate() {
        let (scale, minimum) = (scale * f32::from(pair.scale), minimum * f32::from(pair.minimum));
        let (bytes, shift) = (LEVELS + group / 2 * GROUP, group % 2 * 4);
        let levels = block[bytes..].iter().zip(&block[FIFTH..LEVELS]);
        for (out, (low, high)) in out.iter_mut().zip(levels) {
            let level = low >> shift & 15 | (high >> group & 1) << 4;
            *out = scale * f32::from(level) - minimum;
        }
    }
}
