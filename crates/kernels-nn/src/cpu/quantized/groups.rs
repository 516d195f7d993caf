//! A block taken apart into groups of 32 elements: whole numbers, scales, and a minimum.

use super::GROUP;
use crate::blocks::BlockType;
use crate::blocks::scales::{half, unpack};

/// 32 elements `scale * level - minimum`, the first scale for the first 16.
pub(super) struct Group {
    /// From -128 to 127.
    pub(super) levels: [i8; GROUP],
    pub(super) scales: [f32; 2],
    pub(super) minimum: f32,
}

impl Group {
    /// The groups of a block of `bytes`.
    pub(super) fn all(block: BlockType, bytes: &[u8]) -> impl Iterator<Item = Group> {
        (0..block.block_len() / GROUP).map(move |group| match block {
            BlockType::Q8_0 => Group::even(half(bytes, 0), |at| bytes[2 + at].cast_signed()),
            BlockType::Q4_0 => Group::even(half(bytes, 0), |at| nibble(&bytes[2..], at) - 8),
            BlockType::Q5_0 => Group::even(half(bytes, 0), |at| fifth(&bytes[2..], at) - 16),
            BlockType::Q5_1 => {
                Group { minimum: -half(bytes, 2), ..Group::even(half(bytes, 0), |at| fifth(&bytes[4..], at)) }
            }
            BlockType::Q4_K => Group::paired(bytes, group, |at| pair_nibble(&bytes[16..], group, at)),
            BlockType::Q5_K => Group::paired(bytes, group, |at| {
                let high = bytes[16 + at] >> group & 1;
                pair_nibble(&bytes[48..], group, at) | (high << 4).cast_signed()
            }),
            BlockType::Q6_K => {
                let scale = |half_group: usize| f32::from(bytes[192 + 2 * group + half_group].cast_signed());
                let (stretch, part) = (group / 4, group % 4);
                let levels = |at: usize| {
                    let low = bytes[64 * stretch + 32 * (part % 2) + at] >> (part / 2 * 4) & 15;
                    let high = bytes[128 + 32 * stretch + at] >> (2 * part) & 3;
                    (low | high << 4).cast_signed() - 32
                };
                let scales = [half(bytes, 208) * scale(0), half(bytes, 208) * scale(1)];
                Group { scales, ..Group::even(0.0, levels) }
            }
        })
    }

    fn even(scale: f32, level: impl FnMut(usize) -> i8) -> Group {
        Group { levels: std::array::from_fn(level), scales: [scale; 2], minimum: 0.0 }
    }

    /// With the scale and minimum of a group of `Q4_K` or `Q5_K`.
    fn paired(bytes: &[u8], group: usize, level: impl FnMut(usize) -> i8) -> Group {
        let pair = unpack(&bytes[4..16])[group];
        let scale = half(bytes, 0) * f32::from(pair.scale);
        Group { minimum: half(bytes, 2) * f32::from(pair.minimum), ..Group::even(scale, level) }
    }
}

/// Level `at` of 16 bytes, whose high halves hold the last 16.
fn nibble(bytes: &[u8], at: usize) -> i8 {
    (bytes[at % 16] >> (at / 16 * 4) & 15).cast_signed()
}

/// The same with a word of fifth bits before.
fn fifth(bytes: &[u8], at: usize) -> i8 {
    nibble(&bytes[4..], at) | (bytes[at / 8] >> (at % 8) & 1).cast_signed() << 4
}

/// Level `at` of a group of a block of 256, two of which share 32 bytes.
fn pair_nibble(bytes: &[u8], group: usize, at: usize) -> i8 {
    (bytes[group / 2 * 32 + at] >> (group % 2 * 4) & 15).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_what_the_block_widens_to() {
        for block in BlockType::ALL {
            let x = parity::uniform::<f32>(3, block.block_len());
            let mut bytes = vec![0; block.block_bytes()];
            block.quantize(&x, &mut bytes).unwrap();
            let mut wide = vec![0.0; block.block_len()];
            block.dequantize(&bytes, &mut wide).unwrap();
            let found = Group::all(block, &bytes).flat_map(|Group { levels, scales, minimum }| {
                let at = |at: usize| scales[at / 16] * f32::from(levels[at]) - minimum;
                (0..GROUP).map(at).collect::<Vec<_>>()
            });
            assert_eq!(Vec::from_iter(found), wide, "{block}");
        }
    }
}
