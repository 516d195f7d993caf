//! The levels of `Q5_0` and `Q5_1`: a little-endian word of fifth bits, then 16 bytes, the low four bits of element `i` in
//! the low half of byte `i` and those of element `i + 16` in its high half.

const LEN: usize = 32;

pub(super) fn read(bytes: &[u8]) -> [u8; LEN] {
    let fifth = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    std::array::from_fn(|at| {
        let low = bytes[4 + at % 16] >> (at / 16 * 4) & 15;
        if fifth >> at & 1 == 1 { low | 16 } else { low }
    })
}

pub(super) fn write(levels: &[u8; LEN], bytes: &mut [u8]) {
    let bits = levels.iter().enumerate().filter(|(_, level)| **level & 16 != 0);
    let fifth = bits.fold(0_u32, |fifth, (at, _)| fifth | 1 << at);
    bytes[..4].copy_from_slice(&fifth.to_le_bytes());
    let (first, second) = levels.split_at(LEN / 2);
    for (byte, (first, second)) in bytes[4..].iter_mut().zip(first.iter().zip(second)) {
        *byte = first & 15 | second << 4;
    }
}
