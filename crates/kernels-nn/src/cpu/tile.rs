//! The innermost product: a few rows of the weight with a panel of tokens, in registers.

use device_mem::{Isa, Level};

use super::tiled::DEPTH;

/// Sums that the largest tile has.
pub(super) const MAX_TILE: usize = 12 * 32;

/// A tile that fits the registers of a CPU.
#[derive(Clone, Copy)]
pub(super) struct Tile(Isa);

impl Tile {
    pub(super) fn of(isa: Isa) -> Tile {
        Tile(isa)
    }

    /// Rows of the weight.
    pub(super) fn rows(self) -> usize {
        match self.0.level() {
            Level::Avx512 => 12,
            Level::Avx2 => 6,
            _ => 4,
        }
    }

    /// Tokens.
    pub(super) fn tokens(self) -> usize {
        match self.0.level() {
            Level::Avx512 => 32,
            _ => 16,
        }
    }

    /// `products[row][token] = sum weight[row][k] * x[k][token]`, in ascending order of `k`.
    ///
    /// `weight` is `[rows, DEPTH]`, of which `x` `[depth, tokens]` uses the first `depth`; `products` begins with
    /// `[rows, tokens]`.
    pub(super) fn multiply(self, weight: &[f32], x: &[f32], products: &mut [f32; MAX_TILE]) {
        let (weight, _) = weight.as_chunks::<DEPTH>();
        match self.0.level() {
            // SAFETY: the CPU has the features of the function, as a level exists only where it has them.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::multiply(weight, x.as_chunks().0, products) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::multiply(weight, x.as_chunks().0, products) },
            _ => baseline(weight, x.as_chunks().0, products),
        }
    }
}

const BASELINE_ROWS: usize = 4;
const BASELINE_TOKENS: usize = 16;

#[expect(clippy::needless_range_loop, reason = "counted loops over local arrays become vector code")]
fn baseline(weight: &[[f32; DEPTH]], x: &[[f32; BASELINE_TOKENS]], products: &mut [f32; MAX_TILE]) {
    let (products, _) = products.as_chunks_mut::<BASELINE_TOKENS>();
    for (row, products) in weight.iter().zip(products).take(BASELINE_ROWS) {
        let mut sums = [0.0_f32; BASELINE_TOKENS];
        for (w, x) in row.iter().zip(x) {
            for token in 0..BASELINE_TOKENS {
                sums[token] = multiply_add(*w, x[token], sums[token]);
            }
        }
        *products = sums;
    }
}

/// One rounding where the target has such an instruction, else two: the function of the C library is a hundred times slower.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

/// A tile of `$rows` rows and two vectors of tokens.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_tile {
    ($features:literal, $rows:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn multiply(
            weight: &[[f32; DEPTH]],
            x: &[[f32; 2 * WIDTH]],
            products: &mut [f32; MAX_TILE],
        ) {
            let Some(weight) = weight.first_chunk::<$rows>() else { return };
            let mut sums: [[Vector; 2]; $rows] = [[zero(); 2]; $rows];
            for (k, x) in x.iter().enumerate().take(DEPTH) {
                let (low, high) = x.split_at(WIDTH);
                // SAFETY: each half has WIDTH elements.
                let x = unsafe { [load_f32(low.as_ptr()), load_f32(high.as_ptr())] };
                for (sums, weight) in sums.iter_mut().zip(weight) {
                    let w = splat(weight[k]);
                    sums[0] = fused(w, x[0], sums[0]);
                    sums[1] = fused(w, x[1], sums[1]);
                }
            }
            let (products, _) = products.as_chunks_mut::<WIDTH>();
            for (products, sum) in products.iter_mut().zip(sums.as_flattened()) {
                // SAFETY: `products` has WIDTH elements.
                unsafe { store(products.as_mut_ptr(), *sum) };
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{DEPTH, MAX_TILE};
    use crate::cpu::x86::avx2::{Vector, WIDTH, fused, load_f32, splat, store, zero};

    x86_tile!("avx2,fma", 6);
}

#[cfg(target_arch = "x86_64")]
#[rustversion::since(1.89)]
mod avx512 {
    use super::{DEPTH, MAX_TILE};
    use crate::cpu::x86::avx512::{Vector, WIDTH, fused, load_f32, splat, store, zero};

    x86_tile!("avx512f", 12);
}

/// Compilers before 1.89 know no such level, so that this is not called.
#[cfg(target_arch = "x86_64")]
#[rustversion::before(1.89)]
mod avx512 {
    pub(super) use super::avx2::multiply;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_adds_in_ascending_order() {
        for isa in Isa::available() {
            let tile = Tile::of(isa);
            let (rows, tokens) = (tile.rows(), tile.tokens());
            for depth in [1, 2, 255, DEPTH] {
                let values = |seed, len| parity::uniform::<f32>(seed, len);
                let (weight, x) = (values(1, rows * DEPTH), values(2, depth * tokens));
                let mut products = [f32::NAN; MAX_TILE];
                tile.multiply(&weight, &x, &mut products);
                for row in 0..rows {
                    for token in 0..tokens {
                        let add = |sum: f32, k: usize| match isa.level() {
                            Level::Baseline => {
                                multiply_add(weight[row * DEPTH + k], x[k * tokens + token], sum)
                            }
                            _ => weight[row * DEPTH + k].mul_add(x[k * tokens + token], sum),
                        };
                        let expected = (0..depth).fold(0.0, add);
                        let found = products[row * tokens + token];
                        assert_eq!(found.to_bits(), expected.to_bits(), "{isa:?} {depth} {row} {token}");
                    }
                }
            }
        }
    }
}
