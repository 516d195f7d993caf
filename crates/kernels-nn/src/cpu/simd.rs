//! The innermost product of a token: a few rows of the weight, each in 16 lanes, in registers.

use device_mem::{Float, Isa, Level};
use half::{bf16, f16};

/// Independent sums of one dot product: element `i` goes to lane `i % LANES`, on every CPU.
pub(super) const LANES: usize = 16;

pub(super) type Lanes = [f32; LANES];

/// An element type with bodies for every CPU.
pub(super) trait Row: Float {
    /// The lanes of each row's products with `x`, each product and sum rounded once. Only as many chunks are read of a row
    /// as `x` has.
    fn lanes<const ROWS: usize>(isa: Isa, rows: [&[[Self; LANES]]; ROWS], x: &[Lanes]) -> [Lanes; ROWS];
}

/// Adds the lanes in halves.
pub(super) fn add_lanes(mut lanes: Lanes) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

macro_rules! row {
    ($element:ty, $name:ident) => {
        impl Row for $element {
            fn lanes<const ROWS: usize>(
                isa: Isa,
                rows: [&[[$element; LANES]]; ROWS],
                x: &[Lanes],
            ) -> [Lanes; ROWS] {
                let rows = rows.map(|row| &row[..x.len()]);
                match isa.level() {
                    // SAFETY: the CPU has the features of the function, as a level exists only where it has them.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => unsafe { avx512::$name(rows, x) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => unsafe { avx2::$name(rows, x) },
                    _ => baseline(rows, x),
                }
            }
        }
    };
}

row!(f32, f32_lanes);
row!(f16, f16_lanes);
row!(bf16, bf16_lanes);

/// Counted loops over local arrays are what the compiler turns into vector code.
fn baseline<T: Float, const ROWS: usize>(rows: [&[[T; LANES]]; ROWS], x: &[Lanes]) -> [Lanes; ROWS] {
    let mut lanes = [[0.0; LANES]; ROWS];
    for chunk in 0..x.len() {
        let x = x[chunk];
        for row in 0..ROWS {
            let w = T::widen(&rows[row][chunk]);
            for lane in 0..LANES {
                lanes[row][lane] += w[lane] * x[lane];
            }
        }
    }
    lanes
}

/// The lanes in as many vectors as they fill.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_lanes {
    ($features:literal, $name:ident, $element:ty, $load:path) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name<const ROWS: usize>(
            rows: [&[[$element; LANES]]; ROWS],
            x: &[Lanes],
        ) -> [Lanes; ROWS] {
            const VECTORS: usize = LANES / WIDTH;
            let mut sums = [[zero(); VECTORS]; ROWS];
            for (chunk, x) in x.iter().enumerate() {
                let mut vectors = [zero(); VECTORS];
                for (vector, x) in vectors.iter_mut().zip(x.chunks_exact(WIDTH)) {
                    // SAFETY: the chunk has WIDTH elements.
                    *vector = unsafe { load_f32(x.as_ptr()) };
                }
                for (sums, row) in sums.iter_mut().zip(rows) {
                    for (vector, w) in row[chunk].chunks_exact(WIDTH).enumerate() {
                        // SAFETY: the chunk has WIDTH elements.
                        let w = unsafe { $load(w.as_ptr()) };
                        sums[vector] = add(sums[vector], multiply(w, vectors[vector]));
                    }
                }
            }
            sums.map(|sums| {
                let mut lanes = [0.0; LANES];
                for (lanes, sum) in lanes.chunks_exact_mut(WIDTH).zip(sums) {
                    // SAFETY: a chunk has WIDTH elements.
                    unsafe { store(lanes.as_mut_ptr(), sum) };
                }
                lanes
            })
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256 as Vector, _mm256_add_ps as add, _mm256_loadu_ps as load_f32, _mm256_mul_ps as multiply,
        _mm256_setzero_ps as zero, _mm256_storeu_ps as store,
    };
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_slli_epi32,
    };

    const WIDTH: usize = 8;

    /// # Safety
    /// `values` has [`WIDTH`] elements.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load_f16(values: *const f16) -> Vector {
        // SAFETY: the elements are there.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.cast()) })
    }

    /// # Safety
    /// `values` has [`WIDTH`] elements.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_bf16(values: *const bf16) -> Vector {
        // SAFETY: the elements are there.
        let halves = unsafe { _mm_loadu_si128(values.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    }

    use super::{LANES, Lanes, bf16, f16};

    x86_lanes!("avx2,f16c", f32_lanes, f32, load_f32);
    x86_lanes!("avx2,f16c", f16_lanes, f16, load_f16);
    x86_lanes!("avx2,f16c", bf16_lanes, bf16, load_bf16);
}

#[cfg(target_arch = "x86_64")]
#[rustversion::since(1.89)]
mod avx512 {
    use std::arch::x86_64::{
        __m512 as Vector, _mm512_add_ps as add, _mm512_loadu_ps as load_f32, _mm512_mul_ps as multiply,
        _mm512_setzero_ps as zero, _mm512_storeu_ps as store,
    };
    use std::arch::x86_64::{
        _mm256_loadu_si256, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_slli_epi32,
    };

    const WIDTH: usize = 16;

    /// # Safety
    /// `values` has [`WIDTH`] elements.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_f16(values: *const f16) -> Vector {
        // SAFETY: the elements are there.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(values.cast()) })
    }

    /// # Safety
    /// `values` has [`WIDTH`] elements.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_bf16(values: *const bf16) -> Vector {
        // SAFETY: the elements are there.
        let halves = unsafe { _mm256_loadu_si256(values.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }

    use super::{LANES, Lanes, bf16, f16};

    x86_lanes!("avx512f", f32_lanes, f32, load_f32);
    x86_lanes!("avx512f", f16_lanes, f16, load_f16);
    x86_lanes!("avx512f", bf16_lanes, bf16, load_bf16);
}

/// Compilers before 1.89 know no such level, so that these are not called.
#[cfg(target_arch = "x86_64")]
#[rustversion::before(1.89)]
mod avx512 {
    pub(super) use super::avx2::{bf16_lanes, f16_lanes, f32_lanes};
}

#[cfg(test)]
mod tests {
    use std::array;

    use parity::uniform;

    use super::*;

    fn every_level_computes_the_same_bits<T: Row>() {
        const CHUNKS: usize = 7;
        let x = uniform::<f32>(1, CHUNKS * LANES);
        let weight = Vec::from_iter(uniform::<f32>(2, 3 * CHUNKS * LANES).into_iter().map(T::from_f32));
        let (x, weight) = (x.as_chunks().0, weight.as_chunks().0);
        let rows: [&[[T; LANES]]; 3] = array::from_fn(|row| &weight[row * CHUNKS..(row + 1) * CHUNKS]);
        let expected = rows.map(|row| {
            array::from_fn(|lane| {
                let products = row.iter().zip(x).map(|(w, x)| w[lane].to_f32() * x[lane]);
                products.fold(0.0, |sum: f32, product| sum + product).to_bits()
            })
        });
        for isa in Isa::available() {
            let lanes = T::lanes(isa, rows, x).map(|lanes| lanes.map(f32::to_bits));
            assert_eq!(lanes, expected, "{} {isa:?}", T::DTYPE);
        }
    }

    #[test]
    fn vector_instructions_change_no_bit() {
        every_level_computes_the_same_bits::<f32>();
        every_level_computes_the_same_bits::<f16>();
        every_level_computes_the_same_bits::<bf16>();
    }
}
