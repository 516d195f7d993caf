//! The bodies for x86-64.

mod avx2;
mod avx512;
mod tiles;

use device_mem::{Isa, Level};

use super::tiles::{Panel, TOKENS, Unpacked};
use super::token::Token;
use crate::blocks::BlockType;

/// The product of each row and a token, if there is a body for the CPU.
pub(super) fn products<const ROWS: usize>(
    isa: Isa,
    block: BlockType,
    rows: [&[u8]; ROWS],
    token: Token<'_>,
) -> Option<[f32; ROWS]> {
    match isa.level() {
        // SAFETY: the CPU has the features of the function, as a level exists only where it has them.
        Level::Avx512 => Some(unsafe { avx512::products(block, rows, token) }),
        // SAFETY: as above.
        Level::Avx2 => Some(rows.map(|row| unsafe { avx2::product(block, row, token) })),
        _ => None,
    }
}

/// Takes whole blocks of row `row` of a weight apart, if there is a body for the CPU.
pub(super) fn unpack(isa: Isa, weight: &mut Unpacked, row: usize, bytes: &[u8]) -> bool {
    let has_body = matches!(isa.level(), Level::Avx2 | Level::Avx512);
    if has_body {
        // SAFETY: the CPU has the features of the function, as these levels exist only where it has them.
        unsafe { tiles::unpack(weight, row, bytes) };
    }
    has_body
}

/// Adds the products of `rows` rows and the tokens of a panel to its sums, if there is a body for the CPU.
pub(super) fn add_products_of_one(
    isa: Isa,
    weight: &Unpacked,
    rows: usize,
    panel: Panel<'_>,
    sums: &mut [[f32; TOKENS]],
) -> bool {
    match isa.level() {
        // SAFETY: the CPU has the features of the function, as a level exists only where it has them.
        Level::Avx512 => unsafe { tiles::avx512::add_products::<1, 1>(weight, rows, [panel], [sums]) },
        // SAFETY: as above.
        Level::Avx2 => unsafe { tiles::avx2::add_products::<1, 2>(weight, rows, [panel], [sums]) },
        _ => return false,
    }
    true
}

/// The same for two panels, if there is a body for both together.
pub(super) fn add_products_of_two(
    isa: Isa,
    weight: &Unpacked,
    rows: usize,
    panels: [Panel<'_>; 2],
    sums: [&mut [[f32; TOKENS]]; 2],
) -> bool {
    let has_body = isa.level() == Level::Avx512;
    if has_body {
        // SAFETY: the CPU has the features of the function, as the level exists only where it has them.
        unsafe { tiles::avx512::add_products::<2, 2>(weight, rows, panels, sums) };
    }
    has_body
}
