//! Tokens with a quantised weight, in whole numbers.
//!
//! Tokens are rounded to 8 bits for each 32 elements. With the levels `q` of a weight's row, its scales `s` and minima `m`,
//! and the levels `p` and scales `t` of a token, a product is `sum (s t) sum q p - sum (m t) sum p`: the inner sums are
//! exact, and no instruction of any CPU changes a bit.

mod groups;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions, each with its proof")]
mod simd;
mod tiles;
mod token;

use std::array;

use device_mem::Isa;

use self::groups::Group;
use self::token::{GROUP, Part, Token};
use super::simd::{LANES, Lanes, add_lanes};
use crate::blocks::BlockType;

pub(super) use self::tiles::{BlockPanels, BlockTiles};
pub(super) use self::token::Tokens;

/// Rows of the weight that are multiplied together, so that what they need of a token is made once for all of them.
const ROWS: usize = 4;
/// Lanes of a group: lane `l` of an even group sums its elements from `4 l` to `4 l + 3`, lane `8 + l` those of an odd group.
const GROUP_LANES: usize = LANES / 2;
/// Lanes of a group of `Q4_0`, whose bytes hold two elements that are 16 apart: lane `l` of the first of four groups sums its
/// elements from `4 l` to `4 l + 3` and from `16 + 4 l` to `19 + 4 l`, lane `4 + l` those of the second.
const HALF_LANES: usize = LANES / 4;

/// Each row with each token, of which there are few.
pub(super) fn multiply(
    isa: Isa,
    block: BlockType,
    weight: &[u8],
    row_bytes: usize,
    tokens: &Tokens,
    columns: &mut [&mut [f32]],
) {
    let rows = weight.len() / row_bytes;
    let in_groups = rows - rows % ROWS;
    let row = |row: usize| &weight[row * row_bytes..(row + 1) * row_bytes];
    for (index, column) in columns.iter_mut().enumerate() {
        let token = tokens.get(index);
        for first in (0..in_groups).step_by(ROWS) {
            let rows: [&[u8]; ROWS] = array::from_fn(|place| row(first + place));
            column[first..first + ROWS].copy_from_slice(&products(isa, block, rows, token));
        }
        for last in in_groups..rows {
            [column[last]] = products(isa, block, [row(last)], token);
        }
    }
}

/// The product of each row and a token.
fn products<const ROWS: usize>(
    isa: Isa,
    block: BlockType,
    rows: [&[u8]; ROWS],
    token: Token<'_>,
) -> [f32; ROWS] {
    #[cfg(target_arch = "x86_64")]
    if let Some(products) = simd::products(isa, block, rows, token) {
        return products;
    }
    let _ = isa;
    rows.map(|row| baseline(block, row, token).total())
}

/// Sums of a row and a token.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Lanes of even groups, then of odd ones.
    products: Lanes,
    /// What the minima take away, group `g` in lane `g % 8`.
    minima: [f32; GROUP_LANES],
}

impl Sums {
    /// Adds a group and what a token has there.
    fn add(&mut self, block: BlockType, index: usize, group: &Group, part: &Part<'_>) {
        match block {
            BlockType::Q4_0 => self.add_products::<HALF_LANES>(index, group, part),
            _ => self.add_products::<GROUP_LANES>(index, group, part),
        }
        let whole: i32 = part.levels.iter().map(|&p| i32::from(p)).sum();
        self.minima[index % GROUP_LANES] += group.minimum * part.scale * whole as f32;
    }

    /// Adds the products of a group, which has so many lanes.
    fn add_products<const OF_GROUP: usize>(&mut self, index: usize, group: &Group, part: &Part<'_>) {
        let scales = group.scales.map(|scale| scale * part.scale);
        let mut whole = [0; OF_GROUP];
        for (q, p) in group
            .levels
            .as_chunks::<4>()
            .0
            .chunks(OF_GROUP)
            .zip(part.levels.as_chunks::<4>().0.chunks(OF_GROUP))
        {
            for (whole, (q, p)) in whole.iter_mut().zip(q.iter().zip(p)) {
                *whole += q.iter().zip(p).map(|(&q, &p)| i32::from(q) * i32::from(p)).sum::<i32>();
            }
        }
        let first = index * OF_GROUP % LANES;
        for (lane, whole) in whole.into_iter().enumerate() {
            self.products[first + lane] += scales[lane / (GROUP_LANES / 2)] * whole as f32;
        }
    }

    /// Lanes are added in halves, minima last.
    #[inline(always)]
    fn total(&self) -> f32 {
        let mut minima = [0.0; LANES];
        minima[..GROUP_LANES].copy_from_slice(&self.minima);
        add_lanes(self.products) - add_lanes(minima)
    }
}

fn baseline(block: BlockType, row: &[u8], token: Token<'_>) -> Sums {
    let mut sums = Sums { products: [0.0; LANES], minima: [0.0; GROUP_LANES] };
    let groups = row.chunks_exact(block.block_bytes()).flat_map(|bytes| Group::all(block, bytes));
    for (index, (group, part)) in groups.zip(token.groups()).enumerate() {
        sums.add(block, index, &group, &part);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_instructions_change_no_bit() {
        // An even number of groups, and an odd one where a block is a group.
        for (block, groups) in BlockType::ALL.into_iter().flat_map(|block| [(block, 16), (block, 7)]) {
            let in_features = groups * GROUP;
            if !in_features.is_multiple_of(block.block_len()) {
                continue;
            }
            let values = parity::uniform::<f32>(1, (ROWS + 2) * in_features);
            let (weights, tokens) = values.split_at(ROWS * in_features);
            let row_bytes = in_features / block.block_len() * block.block_bytes();
            let mut bytes = vec![0; ROWS * row_bytes];
            block.quantize(weights, &mut bytes).unwrap();
            let rows: [&[u8]; ROWS] = array::from_fn(|row| &bytes[row * row_bytes..(row + 1) * row_bytes]);
            for isa in Isa::available() {
                Tokens::with(isa, tokens, in_features, |tokens| {
                    for token in [0, 1].map(|index| tokens.get(index)) {
                        let expected = rows.map(|row| baseline(block, row, token).total().to_bits());
                        let together = products(isa, block, rows, token).map(f32::to_bits);
                        assert_eq!(together, expected, "{block} {groups} {isa:?}");
                        let [alone] = products(isa, block, [rows[1]], token).map(f32::to_bits);
                        assert_eq!(alone, expected[1], "{block} {groups} {isa:?}");
                    }
                });
            }
        }
    }

    #[test]
    fn any_bytes_and_the_ends_of_the_levels_come_out_alike() {
        // Scales of any bytes may be NaN, whose bits differ from CPU to CPU.
        for block in BlockType::ALL {
            for (fill, x) in [(0x00, 1.0), (0x80, 1.0), (0x7b, -1.0), (0x55, 1.0), (0xff, -1.0), (0xfb, 1.0)]
            {
                let weight = vec![fill; 512 / block.block_len() * block.block_bytes()];
                for isa in Isa::available() {
                    Tokens::with(isa, &[x; 512], 512, |tokens| {
                        let expected = baseline(block, &weight, tokens.get(0)).total();
                        let [found] = products(isa, block, [&weight], tokens.get(0));
                        let alike =
                            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                        assert!(alike, "{block} {isa:?} {fill}: {found} {expected}");
                    });
                }
            }
        }
    }
}
