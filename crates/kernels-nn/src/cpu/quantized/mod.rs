//! Few tokens with a quantised weight, in whole numbers.
//!
//! Tokens are rounded to 8 bits for each 32 elements. With the levels `q` of a weight's row, its scales `s` and minima `m`,
//! and the levels `p` and scales `t` of a token, a product is `sum (s t) sum q p - sum (m t) sum p`: the inner sums are
//! exact, and no instruction of any CPU changes a bit.

mod groups;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions, each with its proof")]
mod simd;
mod token;

use std::ops::Range;

use device_mem::Isa;

use self::groups::Group;
use self::token::{GROUP, Token, Tokens};
use super::linear::in_tasks;
use super::simd::{LANES, Lanes, add_lanes};
use super::tiled::{TILED_FROM, linear_tiled};
use crate::blocks::BlockType;

/// Lanes of a group: lane `l` of an even group sums its elements from `4 l` to `4 l + 3`, lane `8 + l` those of an odd group.
const GROUP_LANES: usize = LANES / 2;

/// `out = x W^T + b` with `x` `[tokens, in_features]`, `weight` `[out_features, in_features]` in whole blocks a row, and
/// `out` `[tokens, out_features]`.
pub(super) fn linear_blocks(
    x: &[f32],
    (block, weight): (BlockType, &[u8]),
    bias: Option<&[f32]>,
    [out_features, in_features]: [usize; 2],
    out: &mut [f32],
) {
    let row_bytes = in_features / block.block_len() * block.block_bytes();
    if x.len() / in_features >= TILED_FROM {
        let widen = |row: usize, range: Range<usize>, wide: &mut [f32]| {
            let at = |element: usize| row * row_bytes + element / block.block_len() * block.block_bytes();
            block.widen(&weight[at(range.start)..at(range.end)], wide);
        };
        return linear_tiled(x, widen, bias, [out_features, in_features], out);
    }
    let isa = Isa::best();
    Tokens::with(isa, x, in_features, |rounded| {
        in_tasks(out, bias, [out_features, in_features], |rows, columns| {
            let weight = &weight[rows.start * row_bytes..rows.end * row_bytes];
            multiply(isa, block, weight, row_bytes, rounded, columns);
        });
    });
}

/// Each row with each token.
fn multiply(
    isa: Isa,
    block: BlockType,
    weight: &[u8],
    row_bytes: usize,
    tokens: &Tokens,
    columns: &mut [&mut [f32]],
) {
    for (row, weight) in weight.chunks_exact(row_bytes).enumerate() {
        for (index, column) in columns.iter_mut().enumerate() {
            column[row] = product(isa, block, weight, tokens.get(index));
        }
    }
}

/// The product of a row and a token.
fn product(isa: Isa, block: BlockType, row: &[u8], token: Token<'_>) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(sums) = simd::sums(isa, block, row, token) {
        return sums.total();
    }
    let _ = isa;
    baseline(block, row, token).total()
}

/// Sums of a row and a token.
struct Sums {
    /// Lanes of even groups, then of odd ones.
    products: Lanes,
    /// What the minima take away, group `g` in lane `g % 8`.
    minima: [f32; GROUP_LANES],
}

impl Sums {
    /// Lanes are added in halves, minima last.
    fn total(self) -> f32 {
        let mut minima = [0.0; LANES];
        minima[..GROUP_LANES].copy_from_slice(&self.minima);
        add_lanes(self.products) - add_lanes(minima)
    }
}

fn baseline(block: BlockType, row: &[u8], token: Token<'_>) -> Sums {
    let mut sums = Sums { products: [0.0; LANES], minima: [0.0; GROUP_LANES] };
    let groups = row.chunks_exact(block.block_bytes()).flat_map(|bytes| Group::all(block, bytes));
    for (index, (group, part)) in groups.zip(token.groups()).enumerate() {
        let scales = group.scales.map(|scale| scale * part.scale);
        let first = index % 2 * GROUP_LANES;
        for lane in 0..GROUP_LANES {
            let elements = 4 * lane..4 * lane + 4;
            let levels = group.levels[elements.clone()].iter().zip(&part.levels[elements]);
            let whole: i32 = levels.map(|(&q, &p)| i32::from(q) * i32::from(p)).sum();
            sums.products[first + lane] += scales[lane / (GROUP_LANES / 2)] * whole as f32;
        }
        let whole: i32 = part.levels.iter().map(|&p| i32::from(p)).sum();
        sums.minima[index % GROUP_LANES] += group.minimum * part.scale * whole as f32;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_instructions_change_no_bit() {
        let in_features = 2 * 256;
        for block in BlockType::ALL {
            let values = parity::uniform::<f32>(1, 3 * in_features);
            let mut weight = vec![0; in_features / block.block_len() * block.block_bytes()];
            block.quantize(&values[..in_features], &mut weight).unwrap();
            for isa in Isa::available() {
                Tokens::with(isa, &values[in_features..], in_features, |tokens| {
                    for index in 0..2 {
                        let expected = baseline(block, &weight, tokens.get(index)).total();
                        let found = product(isa, block, &weight, tokens.get(index));
                        assert_eq!(
                            found.to_bits(),
                            expected.to_bits(),
                            "{block} {isa:?}: {found} {expected}"
                        );
                    }
                });
            }
        }
    }

    #[test]
    fn any_bytes_and_the_ends_of_the_levels_come_out_alike() {
        // Scales of any bytes may be NaN, whose bits differ from CPU to CPU.
        for block in BlockType::ALL {
            for (fill, x) in [(0x00, 1.0), (0x7b, -1.0), (0x55, 1.0), (0xff, -1.0), (0xfb, 1.0)] {
                let weight = vec![fill; 512 / block.block_len() * block.block_bytes()];
                for isa in Isa::available() {
                    Tokens::with(isa, &[x; 512], 512, |tokens| {
                        let expected = baseline(block, &weight, tokens.get(0)).total();
                        let found = product(isa, block, &weight, tokens.get(0));
                        let alike =
                            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                        assert!(alike, "{block} {isa:?} {fill}: {found} {expected}");
                    });
                }
            }
        }
    }
}
