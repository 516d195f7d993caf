//! What the formats share: half-precision scales, and the 6-bit pairs of `Q4_K` and `Q5_K`.

use half::f16;

/// Groups of a block that have a scale and a minimum of their own.
pub(crate) const GROUPS: usize = 8;
/// Bytes that eight pairs of 6 bits take.
pub(super) const PACKED: usize = 12;

/// The f16 at byte `at`, widened.
pub(crate) fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Rounds `value` to the f16 at byte `at`, and gives what it stands for then.
pub(super) fn put_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let rounded = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&rounded.to_le_bytes());
    rounded.to_f32()
}

/// Scale and minimum of a group, 6 bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) scale: u8,
    pub(crate) minimum: u8,
}

/// The pairs of twelve bytes. Groups 0 to 3 have their scales in bytes 0 to 3 and their minima in bytes 4 to 7, low 6
/// bits. Groups 4 to 7 have their low 4 bits in bytes 8 to 11, scales in the low halves, and their high 2 bits above
/// those of the group four before.
pub(crate) fn unpack(packed: &[u8]) -> [Pair; GROUPS] {
    std::array::from_fn(|group| {
        if group < 4 {
            return Pair { scale: packed[group] & 63, minimum: packed[group + 4] & 63 };
        }
        let low = packed[group + 4];
        Pair { scale: low & 15 | packed[group - 4] >> 6 << 4, minimum: low >> 4 | packed[group] >> 6 << 4 }
    })
}

/// The inverse of [`unpack`].
pub(super) fn pack(pairs: &[Pair; GROUPS]) -> [u8; PACKED] {
    let mut packed = [0; PACKED];
    for group in 0..4 {
        let (here, after) = (pairs[group], pairs[group + 4]);
        packed[group] = here.scale | after.scale >> 4 << 6;
        packed[group + 4] = here.minimum | after.minimum >> 4 << 6;
        packed[group + 8] = after.scale & 15 | after.minimum << 4;
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::{GROUPS, Pair, pack, unpack};

    #[test]
    fn pairs_survive_packing() {
        for seed in 0..64_u8 {
            let mut group = 0;
            let pairs: [Pair; GROUPS] = std::array::from_fn(|_| {
                group += 1;
                Pair { scale: (seed + 9 * group) & 63, minimum: (63 - seed + 23 * group) & 63 }
            });
            assert_eq!(unpack(&pack(&pairs)), pairs);
        }
    }
}
