//! `Q6_K`: 128 bytes of low halves, 64 bytes of high pairs of bits, 16 signed scales, and their scale in f16.
//!
//! Of each 128 elements, part `p` is the 32 from `32 p`. Parts 0 and 1 lie in the low halves of 64 bytes, parts 2 and 3 in
//! their high halves; bits `2 p` and above of 32 further bytes are part `p`'s high two.

use super::scales::half;

const LEN: usize = 256;
const HIGH: usize = LEN / 2;
const SCALES: usize = HIGH + LEN / 4;
const SCALE: usize = SCALES + LEN / GROUP;
pub(super) const BYTES: usize = SCALE + 2;

/// Elements that share a scale.
const GROUP: usize = 16;
const PART: usize = 32;
/// The level that stands for 0.
const ZERO: f32 = 32.0;

pub(super) fn dequantize(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let scale = half(block, SCALE);
    for (index, out) in out.chunks_exact_mut(PART).enumerate() {
        let place = Place::of(index);
        let levels = block[place.low..].iter().zip(&block[place.high..]);
        for (at, (out, (low, high))) in out.iter_mut().zip(levels).enumerate() {
            let level = low >> place.low_shift & 15 | (high >> place.high_shift & 3) << 4;
            let group = block[SCALES + index * PART / GROUP + at / GROUP].cast_signed();
            *out = scale * f32::from(group) * (f32::from(level) - ZERO);
        }
    }
}

/// Where 32 elements have their bits.
struct Place {
    low: usize,
    low_shift: usize,
    high: usize,
    high_shift: usize,
}

impl Place {
    /// Those of the elements from `32 index`.
    fn of(index: usize) -> Place {
        let (stretch, part) = (index / 4, index % 4);
        Place {
            low: stretch * 64 + part % 2 * PART,
            low_shift: part / 2 * 4,
            high: HIGH + stretch * PART,
            high_shift: part * 2,
        }
    }
}
