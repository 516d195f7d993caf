//! The bodies for x86-64.

mod avx2;
mod avx512;

use device_mem::{Isa, Level};

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
