//! The innermost product of CPU bodies: a few rows of a matrix with some columns side by side, in registers.

use crate::isa::{Isa, Level};

/// A matrix `[rows, depth]` within a slice: element `(row, k)` is at `row * row_stride + k * depth_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    values: &'a [f32],
    rows: usize,
    depth: usize,
    row_stride: usize,
    depth_stride: usize,
}

impl<'a> Strided<'a> {
    /// `None` when an element would lie outside `values`.
    pub fn new(
        values: &'a [f32],
        [rows, depth]: [usize; 2],
        [row_stride, depth_stride]: [usize; 2],
    ) -> Option<Strided<'a>> {
        let last = |count: usize, stride: usize| count.saturating_sub(1).checked_mul(stride);
        let end = last(rows, row_stride)?.checked_add(last(depth, depth_stride)?)?;
        let fits = rows == 0 || depth == 0 || end < values.len();
        fits.then_some(Strided { values, rows, depth, row_stride, depth_stride })
    }

    /// The rows from `first` on, at most `count`.
    fn rows(self, first: usize, count: usize) -> Strided<'a> {
        let rows = self.rows.saturating_sub(first).min(count);
        let values = self.values.get(first * self.row_stride..).unwrap_or_default();
        Strided { values, rows, ..self }
    }
}

impl Isa {
    /// Columns side by side for which [`Isa::multiply`] has a body in registers: the least that hold `wanted`, or else the
    /// most.
    pub fn lanes(self, wanted: usize) -> usize {
        match (self.level(), wanted) {
            (Level::Avx512, 17..) => 32,
            (Level::Avx2, ..=8) => 8,
            _ => 16,
        }
    }

    /// `products[row][lane] = sum_k matrix[row][k] * x[k][lane]`, with `x` `[depth, lanes]` and `products` `[rows, lanes]`, where
    /// `lanes` is what [`Isa::lanes`] gave. Rows for which there is no place, or not enough of `x`, are left out.
    ///
    /// Each sum is fused multiply-adds in ascending order of `k`. A CPU without them rounds products too.
    pub fn multiply(self, matrix: Strided<'_>, x: &[f32], lanes: usize, products: &mut [f32]) {
        let rows = matrix.rows.min(products.len() / lanes.max(1));
        if x.len() / lanes.max(1) < matrix.depth {
            return;
        }
        // Twelve rows of two vectors do not fit the sixteen registers of AVX2.
        let most = if self.level() == Level::Avx2 { 6 } else { 12 };
        let mut first = 0;
        for group in [12, 6, 4, 2, 1].into_iter().filter(|&group| group <= most) {
            while rows - first >= group {
                let products = &mut products[first * lanes..(first + group) * lanes];
                self.group(matrix.rows(first, group), x, lanes, products);
                first += group;
            }
        }
    }

    /// A group of as many rows as there are bodies for.
    fn group(self, matrix: Strided<'_>, x: &[f32], lanes: usize, products: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        match (self.level(), lanes) {
            // SAFETY: the CPU has the features of the function, as a level exists only where it has them.
            (Level::Avx512, 16) => return unsafe { avx512::group::<1>(matrix, x, products) },
            // SAFETY: as above.
            (Level::Avx512, 32) => return unsafe { avx512::group::<2>(matrix, x, products) },
            // SAFETY: as above.
            (Level::Avx2, 8) => return unsafe { avx2::group::<1>(matrix, x, products) },
            // SAFETY: as above.
            (Level::Avx2, 16) => return unsafe { avx2::group::<2>(matrix, x, products) },
            _ => {}
        }
        baseline(matrix, x, lanes, products);
    }
}

fn baseline(matrix: Strided<'_>, x: &[f32], lanes: usize, products: &mut [f32]) {
    products.fill(0.0);
    for (row, sums) in products.chunks_exact_mut(lanes).enumerate() {
        for (k, x) in x.chunks_exact(lanes).enumerate().take(matrix.depth) {
            let w = matrix.values[row * matrix.row_stride + k * matrix.depth_stride];
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = multiply_add(w, *x, *sum);
            }
        }
    }
}

/// One rounding where the target has such an instruction, else two: the function of the C library is a hundred times slower.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

/// The bodies of a group, whose columns are `VECTORS` vectors.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_group {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn group<const VECTORS: usize>(matrix: Strided<'_>, x: &[f32], products: &mut [f32]) {
            match matrix.rows {
                12 => rows::<12, VECTORS>(matrix, x, products),
                6 => rows::<6, VECTORS>(matrix, x, products),
                4 => rows::<4, VECTORS>(matrix, x, products),
                2 => rows::<2, VECTORS>(matrix, x, products),
                _ => rows::<1, VECTORS>(matrix, x, products),
            }
        }

        #[target_feature(enable = $features)]
        fn rows<const ROWS: usize, const VECTORS: usize>(
            matrix: Strided<'_>,
            x: &[f32],
            products: &mut [f32],
        ) {
            let Strided { values, depth, row_stride, depth_stride, .. } = matrix;
            let mut sums = [[zero(); VECTORS]; ROWS];
            for (k, x) in x.chunks_exact(VECTORS * WIDTH).take(depth).enumerate() {
                let mut vectors = [zero(); VECTORS];
                for (vector, x) in vectors.iter_mut().zip(x.chunks_exact(WIDTH)) {
                    // SAFETY: the chunk has WIDTH elements.
                    *vector = unsafe { load(x.as_ptr()) };
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: the constructor proved that the elements of all rows, of which there are ROWS, and of all
                    // depths lie within.
                    let w = splat(*unsafe { values.get_unchecked(row * row_stride + k * depth_stride) });
                    for (sum, x) in sums.iter_mut().zip(vectors) {
                        *sum = fused(w, x, *sum);
                    }
                }
            }
            for (products, sum) in products.chunks_exact_mut(WIDTH).zip(sums.as_flattened()) {
                // SAFETY: the chunk has WIDTH elements.
                unsafe { store(products.as_mut_ptr(), *sum) };
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        _mm256_fmadd_ps as fused, _mm256_loadu_ps as load, _mm256_set1_ps as splat,
        _mm256_setzero_ps as zero, _mm256_storeu_ps as store,
    };

    use super::Strided;

    const WIDTH: usize = 8;

    x86_group!("avx2,fma");
}

#[cfg(target_arch = "x86_64")]
#[rustversion::since(1.89)]
mod avx512 {
    use std::arch::x86_64::{
        _mm512_fmadd_ps as fused, _mm512_loadu_ps as load, _mm512_set1_ps as splat,
        _mm512_setzero_ps as zero, _mm512_storeu_ps as store,
    };

    use super::Strided;

    const WIDTH: usize = 16;

    x86_group!("avx512f");
}

/// Compilers before 1.89 know no such level, so that this is not called.
#[cfg(target_arch = "x86_64")]
#[rustversion::before(1.89)]
mod avx512 {
    pub(super) use super::avx2::group;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: usize) -> Vec<f32> {
        Vec::from_iter((0..len).map(|index| ((index * 37 + seed * 11) % 101) as f32 * 0.37 - 17.0))
    }

    #[test]
    fn every_cpu_adds_in_ascending_order() {
        for isa in Isa::available() {
            for (wanted, [rows, depth], strides) in [
                (1, [1, 1], [1, 1]),
                (8, [5, 3], [7, 2]),
                (9, [25, 256], [256, 1]),
                (17, [32, 128], [1, 32]),
                (40, [13, 31], [40, 1]),
            ] {
                let lanes = isa.lanes(wanted);
                let matrix = values(rows * strides[0] + depth * strides[1], 1);
                let x = values(depth * lanes, 2);
                let strided = Strided::new(&matrix, [rows, depth], strides).unwrap();
                let mut products = vec![f32::NAN; rows * lanes];
                isa.multiply(strided, &x, lanes, &mut products);
                for row in 0..rows {
                    for lane in 0..lanes {
                        let sum = (0..depth).fold(0.0, |sum: f32, k| {
                            let (w, x) = (matrix[row * strides[0] + k * strides[1]], x[k * lanes + lane]);
                            if isa.level() == Level::Baseline {
                                multiply_add(w, x, sum)
                            } else {
                                w.mul_add(x, sum)
                            }
                        });
                        let found = products[row * lanes + lane];
                        assert_eq!(found.to_bits(), sum.to_bits(), "{isa:?} {rows} {depth} {row} {lane}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_matrix_lies_within_its_slice() {
        let values = [0.0; 20];
        assert!(Strided::new(&values, [4, 5], [5, 1]).is_some());
        assert!(Strided::new(&values, [5, 4], [1, 5]).is_some());
        assert!(Strided::new(&values, [5, 5], [5, 1]).is_none());
        assert!(Strided::new(&values, [4, 5], [6, 1]).is_none());
        assert!(Strided::new(&values, [usize::MAX, 2], [usize::MAX, 1]).is_none());
        assert!(Strided::new(&[], [0, 5], [5, 1]).is_some());
    }
}
