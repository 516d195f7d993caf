//! `Q5_K`: as `Q4_K`, with 32 bytes of fifth bits before the halves: bit `g` of byte `i` is that of element `i` of group `g`.

use super::grouped::{self, HEAD, LEN, Search};
use super::scales::{GROUPS, half, unpack};

const LEVELS: usize = HEAD + LEN / 8;
const GROUP: usize = LEN / GROUPS;
pub(super) const BYTES: usize = LEVELS + LEN / 2;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let (scale, minimum) = (half(block, 0), half(block, 2));
    let pairs = unpack(&block[4..HEAD]);
    for (group, (pair, out)) in pairs.iter().zip(out.chunks_exact_mut(GROUP)).enumerate() {
        let (scale, minimum) = (scale * f32::from(pair.scale), minimum * f32::from(pair.minimum));
        let (bytes, shift) = (LEVELS + group / 2 * GROUP, group % 2 * 4);
        let levels = block[bytes..].iter().zip(&block[HEAD..LEVELS]);
        for (out, (low, high)) in out.iter_mut().zip(levels) {
            let level = low >> shift & 15 | (high >> group & 1) << 4;
            *out = scale * f32::from(level) - minimum;
        }
    }
}

pub(super) fn quantize(x: &[f32; LEN], block: &mut [u8; BYTES]) {
    let (head, rest) = block.split_at_mut(HEAD);
    let levels = grouped::quantize(x, Search { most: 31, first: -0.5, steps: 15 }, head);
    rest.fill(0);
    let (fifth, low) = rest.split_at_mut(LEVELS - HEAD);
    for (group, levels) in levels.chunks_exact(GROUP).enumerate() {
        let (bytes, shift) = (group / 2 * GROUP, group % 2 * 4);
        for ((level, fifth), low) in levels.iter().zip(&mut *fifth).zip(&mut low[bytes..]) {
            *low |= (level & 15) << shift;
            *fifth |= level >> 4 << group;
        }
    }
}
