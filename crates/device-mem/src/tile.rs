//! The innermost product of CPU bodies: a few rows of a matrix with some columns side by side, in registers.

use crate::isa::{Isa, Level};

/// A matrix `[rows, depth]` within a slice, or two that alternate: element `(row, k)` of the first is at
/// `row * row_stride + k * depth_stride`, that of the second behind it.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    values: &'a [f32],
    rows: usize,
    depth: usize,
    row_stride: usize,
    depth_stride: usize,
    /// Matrices: even columns take the first, odd ones the last.
    sides: usize,
}

impl<'a> Strided<'a> {
    /// One matrix. `None` when an element would lie outside `values`.
    pub fn new(values: &'a [f32], shape: [usize; 2], strides: [usize; 2]) -> Option<Strided<'a>> {
        Strided::of(values, shape, strides, 1)
    }

    /// Two matrices, of which even columns take the first and odd ones the second. `None` when an element would lie outside
    /// `values`.
    pub fn pair(values: &'a [f32], shape: [usize; 2], strides: [usize; 2]) -> Option<Strided<'a>> {
        Strided::of(values, shape, strides, 2)
    }

    fn of(
        values: &'a [f32],
        [rows, depth]: [usize; 2],
        [row_stride, depth_stride]: [usize; 2],
        sides: usize,
    ) -> Option<Strided<'a>> {
        let last = |count: usize, stride: usize| count.saturating_sub(1).checked_mul(stride);
        let end = last(rows, row_stride)?.checked_add(last(depth, depth_stride)?)?.checked_add(sides - 1)?;
        let fits = rows == 0 || depth == 0 || end < values.len();
        fits.then_some(Strided { values, rows, depth, row_stride, depth_stride, sides })
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

    /// `sum_k matrix[row][k] * x[k][lane]` for `x` `[depth, lanes]` and `sums` `[rows, lanes]`, which is overwritten or added to as
    /// `onto` says; `lanes` is what [`Isa::lanes`] gave. Rows for which there is no place, or not enough of `x`, are left out.
    ///
    /// Each sum is fused multiply-adds in ascending order of `k`, from 0; what it is added to comes last. A CPU without them
    /// rounds products too.
    pub fn multiply(self, matrix: Strided<'_>, x: &[f32], lanes: usize, onto: Onto<'_>, sums: &mut [f32]) {
        let rows = matrix.rows.min(sums.len() / lanes.max(1));
        let factors = if let Onto::Rescaled(factors) = onto { factors.len() } else { lanes };
        if x.len() / lanes.max(1) < matrix.depth || factors < lanes {
            return;
        }
        // Eight rows of two vectors do not fit the sixteen registers of AVX2.
        let most = if self.level() == Level::Avx2 { 6 } else { 8 };
        let mut first = 0;
        for group in [8, 6, 4, 2, 1].into_iter().filter(|&group| group <= most) {
            while rows - first >= group {
                let sums = &mut sums[first * lanes..(first + group) * lanes];
                self.group(matrix.rows(first, group), x, lanes, onto, sums);
                first += group;
            }
        }
    }

    /// A group of as many rows as there are bodies for.
    fn group(self, matrix: Strided<'_>, x: &[f32], lanes: usize, onto: Onto<'_>, sums: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        match (self.level(), lanes) {
            // SAFETY: the CPU has the features of the function, as a level exists only where it has them.
            (Level::Avx512, 16) => return unsafe { avx512::group::<1>(matrix, x, onto, sums) },
            // SAFETY: as above.
            (Level::Avx512, 32) => return unsafe { avx512::group::<2>(matrix, x, onto, sums) },
            // SAFETY: as above.
            (Level::Avx2, 8) => return unsafe { avx2::group::<1>(matrix, x, onto, sums) },
            // SAFETY: as above.
            (Level::Avx2, 16) => return unsafe { avx2::group::<2>(matrix, x, onto, sums) },
            _ => {}
        }
        baseline(matrix, x, lanes, onto, sums);
    }
}

/// What the sums of a product are added to.
#[derive(Clone, Copy, Debug)]
pub enum Onto<'a> {
    /// Nothing: they are written.
    Nothing,
    /// What is there.
    Sums,
    /// What is there, times the factor of each lane, `[lanes]`.
    Rescaled(&'a [f32]),
}

/// Counted loops over arrays are what the compiler turns into vector code.
fn baseline(matrix: Strided<'_>, x: &[f32], lanes: usize, onto: Onto<'_>, sums: &mut [f32]) {
    const LANES: usize = 8;
    for (row, sums) in sums.chunks_exact_mut(lanes).enumerate() {
        for (first, sums) in (0..lanes).step_by(LANES).zip(sums.chunks_mut(LANES)) {
            let mut products = [0.0; LANES];
            for (k, x) in x.chunks_exact(lanes).take(matrix.depth).enumerate() {
                let at = row * matrix.row_stride + k * matrix.depth_stride;
                let w = [matrix.values[at], matrix.values[at + matrix.sides - 1]];
                for (lane, (product, x)) in products.iter_mut().zip(&x[first..]).enumerate() {
                    *product = multiply_add(w[lane % 2], *x, *product);
                }
            }
            for (lane, (sum, product)) in sums.iter_mut().zip(products).enumerate() {
                *sum = match onto {
                    Onto::Nothing => product,
                    Onto::Sums => *sum + product,
                    Onto::Rescaled(factors) => *sum * factors[first + lane] + product,
                };
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
        pub(super) fn group<const VECTORS: usize>(
            matrix: Strided<'_>,
            x: &[f32],
            onto: Onto<'_>,
            sums: &mut [f32],
        ) {
            match (matrix.rows, matrix.sides) {
                (8, 1) => rows::<8, VECTORS, 1>(matrix, x, onto, sums),
                (8, _) => rows::<8, VECTORS, 2>(matrix, x, onto, sums),
                (6, 1) => rows::<6, VECTORS, 1>(matrix, x, onto, sums),
                (6, _) => rows::<6, VECTORS, 2>(matrix, x, onto, sums),
                (4, 1) => rows::<4, VECTORS, 1>(matrix, x, onto, sums),
                (4, _) => rows::<4, VECTORS, 2>(matrix, x, onto, sums),
                (2, 1) => rows::<2, VECTORS, 1>(matrix, x, onto, sums),
                (2, _) => rows::<2, VECTORS, 2>(matrix, x, onto, sums),
                (_, 1) => rows::<1, VECTORS, 1>(matrix, x, onto, sums),
                _ => rows::<1, VECTORS, 2>(matrix, x, onto, sums),
            }
        }

        #[target_feature(enable = $features)]
        fn rows<const ROWS: usize, const VECTORS: usize, const SIDES: usize>(
            matrix: Strided<'_>,
            x: &[f32],
            onto: Onto<'_>,
            sums: &mut [f32],
        ) {
            let Strided { values, depth, row_stride, depth_stride, .. } = matrix;
            // A pointer for each row and one offset for all are fewer registers than what the compiler makes of indices.
            let starts: [*const f32; ROWS] =
                array::from_fn(|row| values.as_ptr().wrapping_add(row * row_stride));
            let mut products = [[zero(); VECTORS]; ROWS];
            let mut offset = 0;
            for x in x.chunks_exact(VECTORS * WIDTH).take(depth) {
                let mut vectors = [zero(); VECTORS];
                for (vector, x) in vectors.iter_mut().zip(x.chunks_exact(WIDTH)) {
                    // SAFETY: the chunk has WIDTH elements.
                    *vector = unsafe { load(x.as_ptr()) };
                }
                for (start, products) in starts.iter().zip(&mut products) {
                    // SAFETY: the constructor proved that the elements of all rows, of which there are ROWS, of all depths
                    // and of all sides lie within.
                    let w = unsafe {
                        let at = start.add(offset);
                        if SIDES == 1 {
                            splat(*at)
                        } else {
                            as_floats(splat_pair(at.cast::<f64>().read_unaligned()))
                        }
                    };
                    for (product, x) in products.iter_mut().zip(vectors) {
                        *product = fused(w, x, *product);
                    }
                }
                offset += depth_stride;
            }
            let mut factors = [zero(); VECTORS];
            if let Onto::Rescaled(of_lanes) = onto {
                for (factors, of_lanes) in factors.iter_mut().zip(of_lanes.chunks_exact(WIDTH)) {
                    // SAFETY: the chunk has WIDTH elements.
                    *factors = unsafe { load(of_lanes.as_ptr()) };
                }
            }
            let places = sums.chunks_exact_mut(WIDTH).zip(products.as_flattened());
            for ((sums, product), factors) in places.zip(factors.iter().cycle()) {
                // SAFETY: the chunk has WIDTH elements.
                let before = unsafe { load(sums.as_ptr()) };
                let sum = match onto {
                    Onto::Nothing => *product,
                    Onto::Sums => add(before, *product),
                    Onto::Rescaled(_) => add(multiply(before, *factors), *product),
                };
                // SAFETY: as above.
                unsafe { store(sums.as_mut_ptr(), sum) };
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        _mm256_add_ps as add, _mm256_castpd_ps as as_floats, _mm256_fmadd_ps as fused,
        _mm256_loadu_ps as load, _mm256_mul_ps as multiply, _mm256_set1_pd as splat_pair,
        _mm256_set1_ps as splat, _mm256_setzero_ps as zero, _mm256_storeu_ps as store,
    };
    use std::array;

    use super::{Onto, Strided};

    const WIDTH: usize = 8;

    x86_group!("avx2,fma");
}

#[cfg(target_arch = "x86_64")]
#[rustversion::since(1.89)]
mod avx512 {
    use std::arch::x86_64::{
        _mm512_add_ps as add, _mm512_castpd_ps as as_floats, _mm512_fmadd_ps as fused,
        _mm512_loadu_ps as load, _mm512_mul_ps as multiply, _mm512_set1_pd as splat_pair,
        _mm512_set1_ps as splat, _mm512_setzero_ps as zero, _mm512_storeu_ps as store,
    };
    use std::array;

    use super::{Onto, Strided};

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
                let factors = values(lanes, 3);
                let one = Strided::new(&matrix, [rows, depth], strides).unwrap();
                let pair = Strided::pair(&matrix, [rows, depth], strides).unwrap();
                for (strided, onto) in [one, pair].into_iter().flat_map(|strided| {
                    [Onto::Nothing, Onto::Sums, Onto::Rescaled(&factors)].map(|onto| (strided, onto))
                }) {
                    let before = values(rows * lanes, 4);
                    let mut sums = before.clone();
                    isa.multiply(strided, &x, lanes, onto, &mut sums);
                    for (place, (found, before)) in sums.into_iter().zip(before).enumerate() {
                        let (row, lane) = (place / lanes, place % lanes);
                        let product = (0..depth).fold(0.0, |sum: f32, k| {
                            let at = row * strides[0] + k * strides[1] + lane % strided.sides;
                            let (w, x) = (matrix[at], x[k * lanes + lane]);
                            if isa.level() == Level::Baseline {
                                multiply_add(w, x, sum)
                            } else {
                                w.mul_add(x, sum)
                            }
                        });
                        let expected = match onto {
                            Onto::Nothing => product,
                            Onto::Sums => before + product,
                            Onto::Rescaled(factors) => before * factors[lane] + product,
                        };
                        let what = format!("{isa:?} {rows} {depth} {} {onto:?} {row} {lane}", strided.sides);
                        assert_eq!(found.to_bits(), expected.to_bits(), "{what}");
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
        assert!(Strided::pair(&values, [2, 5], [10, 2]).is_some());
        assert!(Strided::pair(&values, [4, 5], [5, 1]).is_none());
        assert!(Strided::new(&values, [4, 5], [6, 1]).is_none());
        assert!(Strided::new(&values, [usize::MAX, 2], [usize::MAX, 1]).is_none());
        assert!(Strided::new(&[], [0, 5], [5, 1]).is_some());
    }
}
