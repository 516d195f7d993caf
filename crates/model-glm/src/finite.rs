//! Whether stored weights are numbers: one pass over their bytes, as fast as memory gives them.

use device_mem::DType;
use half::{bf16, f16};
use kernels_nn::{BlockType, WeightType};
use rayon::prelude::*;

/// An element that is NaN or infinite, or the scale that makes it so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NotFinite {
    pub(crate) index: usize,
    pub(crate) value: f32,
}

/// Bytes that one thread looks at before it asks whether another has found something.
const PIECE: usize = 1 << 20;

/// The first element that is NaN or infinite. Of blocks only the scales are read: finite ones make finite elements.
pub(crate) fn first_not_finite(bytes: &[u8], stored: WeightType) -> Option<NotFinite> {
    match stored {
        WeightType::Float(DType::F32) => first(bytes, 4, f32_is_wrong, |element, index| NotFinite {
            index,
            value: f32::from_bits(u32_at(element)),
        }),
        WeightType::Float(DType::F16) => first(bytes, 2, half_is_wrong::<F16_EXPONENT>, |element, index| {
            NotFinite { index, value: f16::from_bits(u16_at(element)).to_f32() }
        }),
        WeightType::Float(DType::BF16) => {
            first(bytes, 2, half_is_wrong::<BF16_EXPONENT>, |element, index| NotFinite {
                index,
                value: bf16::from_bits(u16_at(element)).to_f32(),
            })
        }
        WeightType::Blocks(block) => of_blocks(bytes, block),
        // No weight is held in another type.
        _ => None,
    }
}

const F32_EXPONENT: u32 = 0x7f80_0000;
const F16_EXPONENT: u16 = 0x7c00;
const BF16_EXPONENT: u16 = 0x7f80;

/// The first element of `size` bytes in whose piece `is_wrong` finds one.
fn first(
    bytes: &[u8],
    size: usize,
    is_wrong: fn(&[u8]) -> bool,
    tell: fn(&[u8], usize) -> NotFinite,
) -> Option<NotFinite> {
    let pieces = bytes.par_chunks(PIECE).enumerate();
    let (at, piece) = pieces.find_first(|(_, piece)| is_wrong(piece))?;
    let mut elements = piece.chunks_exact(size).enumerate();
    let (index, element) = elements.find(|(_, element)| is_wrong(element))?;
    Some(tell(element, at * (PIECE / size) + index))
}

/// The largest exponent tells, which compilers find many at a time.
fn f32_is_wrong(bytes: &[u8]) -> bool {
    let exponents = bytes.chunks_exact(4).map(|element| u32_at(element) & F32_EXPONENT);
    exponents.fold(0, u32::max) == F32_EXPONENT
}

fn half_is_wrong<const EXPONENT: u16>(bytes: &[u8]) -> bool {
    let exponents = bytes.chunks_exact(2).map(|element| u16_at(element) & EXPONENT);
    exponents.fold(0, u16::max) == EXPONENT
}

fn of_blocks(bytes: &[u8], block: BlockType) -> Option<NotFinite> {
    let (size, scales) = (block.block_bytes(), block.scales());
    let wrong = |bytes: &[u8]| {
        let values = scales.iter().filter_map(|&at| bytes.get(at..at + 2)).map(u16_at);
        values.map(f16::from_bits).find(|scale| !scale.is_finite())
    };
    let pieces = bytes.par_chunks(PIECE / size * size).enumerate();
    let (at, piece) =
        pieces.find_first(|(_, piece)| piece.chunks_exact(size).any(|one| wrong(one).is_some()))?;
    let mut blocks = piece.chunks_exact(size).enumerate();
    let (index, value) = blocks.find_map(|(index, one)| Some((index, wrong(one)?)))?;
    let index = (at * (PIECE / size) + index) * block.block_len();
    Some(NotFinite { index, value: value.to_f32() })
}

fn u16_at(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    fn write(bytes: &mut [u8], dtype: DType, index: usize, value: f32) {
        match dtype {
            DType::F32 => bytes[4 * index..][..4].copy_from_slice(&value.to_le_bytes()),
            DType::F16 => bytes[2 * index..][..2].copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            _ => bytes[2 * index..][..2].copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
        }
    }

    #[test]
    fn the_first_of_each_kind_is_found_wherever_it_stands() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        for (dtype, value) in FLOATS.iter().flat_map(|&dtype| values.map(|value| (dtype, value))) {
            let (stored, elements) = (WeightType::Float(dtype), 5 * PIECE / 8);
            let mut bytes = vec![0_u8; elements * dtype.size()];
            write(&mut bytes, dtype, 7, if dtype == DType::F16 { 65_504.0 } else { -3.3e38 });
            assert_eq!(first_not_finite(&bytes, stored), None, "{dtype}: the largest is a number");
            for index in [elements - 1, PIECE / dtype.size(), PIECE / dtype.size() - 1, 1, 0] {
                write(&mut bytes, dtype, index, value);
                let found = first_not_finite(&bytes, stored).unwrap();
                assert_eq!((found.index, found.value.to_bits() == value.to_bits()), (index, true), "{dtype}");
            }
        }
        assert_eq!(first_not_finite(&[], WeightType::Float(DType::F32)), None);
    }

    #[test]
    fn blocks_are_wrong_by_their_scales_alone() {
        for block in BlockType::ALL {
            let (stored, blocks) = (WeightType::Blocks(block), 2 * PIECE / block.block_bytes());
            // The largest whole numbers, scaled by the largest scale, are numbers.
            let mut bytes = vec![0xff_u8; blocks * block.block_bytes()];
            let scales: Vec<usize> =
                block.scales().iter().map(|&at| at + (blocks - 1) * block.block_bytes()).collect();
            for one in bytes.chunks_exact_mut(block.block_bytes()) {
                for &at in block.scales() {
                    one[at..at + 2].copy_from_slice(&f16::MAX.to_le_bytes());
                }
            }
            assert_eq!(first_not_finite(&bytes, stored), None, "{block}");
            let mut widened = vec![0.0; blocks * block.block_len()];
            block.dequantize(&bytes, &mut widened).unwrap();
            assert!(widened.iter().all(|value| value.is_finite()), "{block}");
            for at in scales {
                bytes[at..at + 2].copy_from_slice(&f16::INFINITY.to_le_bytes());
                let found = first_not_finite(&bytes, stored).unwrap();
                assert_eq!(
                    (found.index, found.value),
                    ((blocks - 1) * block.block_len(), f32::INFINITY),
                    "{block}"
                );
                block.dequantize(&bytes, &mut widened).unwrap();
                assert!(!widened[found.index].is_finite(), "{block}: the scale at byte {at} counts");
                bytes[at..at + 2].copy_from_slice(&f16::MAX.to_le_bytes());
            }
        }
    }
}
