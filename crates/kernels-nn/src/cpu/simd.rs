//! The innermost product of a token: a few rows of the weight, each in 16 lanes, in registers.

use device_mem::{Float, Isa, Level, prefetch};
use half::{bf16, f16};

/// Independent sums of one dot product: element `i` goes to lane `i % LANES`, on every CPU.
pub(super) const LANES: usize = 16;

pub(super) type Lanes = [f32; LANES];

/// Bytes of each row that are asked for ahead. Several short rows are more streams than CPUs find by themselves.
const AHEAD: usize = 2048;
/// Bytes that are asked for at once.
pub(super) const LINE: usize = 64;

/// Asks for what a loop over `rows` of one length, each behind the one before, reads some time after chunk `at` of each: chunks
/// of the same rows, or of those that follow.
#[inline(always)]
pub(super) fn prefetch_rows<T, const ROWS: usize>(rows: [&[T]; ROWS], at: usize) {
    let len = rows.first().map_or(0, |row| row.len());
    let ahead = at + AHEAD / size_of::<T>();
    let place = if ahead < len { ahead } else { ahead + (ROWS - 1) * len };
    for row in rows {
        prefetch(row.as_ptr().wrapping_add(place));
    }
}

/// An element type with bodies for every CPU.
pub(super) trait Row: Float {
    /// The dot product of each row with `x`, of as many elements: products are added to their lane, each product and sum
    /// rounded once, and then the lanes in halves.
    fn products<const ROWS: usize>(isa: Isa, rows: [&[Self]; ROWS], x: &[f32]) -> [f32; ROWS];
}

/// Adds the lanes in halves.
#[inline(always)]
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

/// Adds what is left of a row after whole chunks.
#[inline(always)]
fn add_tail<T: Float>(lanes: &mut Lanes, row: &[T], x: &[f32]) {
    for (lane, (w, x)) in lanes.iter_mut().zip(row.iter().zip(x)) {
        *lane += w.to_f32() * x;
    }
}

macro_rules! row {
    ($element:ty, $name:ident) => {
        impl Row for $element {
            fn products<const ROWS: usize>(isa: Isa, rows: [&[$element]; ROWS], x: &[f32]) -> [f32; ROWS] {
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

row!(f32, f32_products);
row!(f16, f16_products);
row!(bf16, bf16_products);

/// Counted loops over local arrays are what the compiler turns into vector code.
fn baseline<T: Float, const ROWS: usize>(rows: [&[T]; ROWS], x: &[f32]) -> [f32; ROWS] {
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    let mut lanes = [[0.0; LANES]; ROWS];
    for (chunk, x) in x_body.iter().enumerate() {
        for (lanes, row) in lanes.iter_mut().zip(rows) {
            let w = T::widen(&row.as_chunks::<LANES>().0[chunk]);
            for lane in 0..LANES {
                lanes[lane] += w[lane] * x[lane];
            }
        }
    }
    for (lanes, row) in lanes.iter_mut().zip(rows) {
        add_tail(lanes, &row[x_body.len() * LANES..], x_tail);
    }
    lanes.map(add_lanes)
}

/// The lanes in as many vectors as they fill.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_products {
    ($features:literal, $name:ident, $element:ty, $load:path) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name<const ROWS: usize>(rows: [&[$element]; ROWS], x: &[f32]) -> [f32; ROWS] {
            const VECTORS: usize = LANES / WIDTH;
            let (x_body, x_tail) = x.as_chunks::<LANES>();
            // Loops, because what `map` calls is not compiled for the features of this function.
            let mut chunks: [&[[$element; LANES]]; ROWS] = [&[]; ROWS];
            for (chunks, row) in chunks.iter_mut().zip(rows) {
                *chunks = &row.as_chunks().0[..x_body.len()];
            }
            let mut sums = [[zero(); VECTORS]; ROWS];
            for (chunk, x) in x_body.iter().enumerate() {
                if chunk.is_multiple_of(LINE / size_of::<[$element; LANES]>()) {
                    prefetch_rows(chunks, chunk);
                }
                let mut vectors = [zero(); VECTORS];
                for (vector, x) in vectors.iter_mut().zip(x.chunks_exact(WIDTH)) {
                    // SAFETY: the chunk has WIDTH elements.
                    *vector = unsafe { load_f32(x.as_ptr()) };
                }
                for (sums, row) in sums.iter_mut().zip(chunks) {
                    for (vector, w) in row[chunk].chunks_exact(WIDTH).enumerate() {
                        // SAFETY: the chunk has WIDTH elements.
                        let w = unsafe { $load(w.as_ptr()) };
                        sums[vector] = add(sums[vector], multiply(w, vectors[vector]));
                    }
                }
            }
            let mut products = [0.0; ROWS];
            for ((product, sums), row) in products.iter_mut().zip(sums).zip(rows) {
                let mut lanes = [0.0; LANES];
                for (lanes, sum) in lanes.chunks_exact_mut(WIDTH).zip(sums) {
                    // SAFETY: a chunk has WIDTH elements.
                    unsafe { store(lanes.as_mut_ptr(), sum) };
                }
                add_tail(&mut lanes, &row[x_body.len() * LANES..], x_tail);
                *product = add_lanes(lanes);
            }
            products
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

    use super::{LANES, LINE, add_lanes, add_tail, bf16, f16, prefetch_rows};

    x86_products!("avx2,f16c", f32_products, f32, load_f32);
    x86_products!("avx2,f16c", f16_products, f16, load_f16);
    x86_products!("avx2,f16c", bf16_products, bf16, load_bf16);
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

    use super::{LANES, LINE, add_lanes, add_tail, bf16, f16, prefetch_rows};

    x86_products!("avx512f", f32_products, f32, load_f32);
    x86_products!("avx512f", f16_products, f16, load_f16);
    x86_products!("avx512f", bf16_products, bf16, load_bf16);
}

/// Compilers before 1.89 know no such level, so that these are not called.
#[cfg(target_arch = "x86_64")]
#[rustversion::before(1.89)]
mod avx512 {
    pub(super) use super::avx2::{bf16_products, f16_products, f32_products};
}

#[cfg(test)]
mod tests {
    use std::array;

    use parity::uniform;

    use super::*;

    fn every_level_computes_the_same_bits<T: Row>() {
        // Whole chunks, and some elements more.
        const LEN: usize = 7 * LANES + 5;
        let x = uniform::<f32>(1, LEN);
        let weight = Vec::from_iter(uniform::<f32>(2, 3 * LEN).into_iter().map(T::from_f32));
        let rows: [&[T]; 3] = array::from_fn(|row| &weight[row * LEN..(row + 1) * LEN]);
        let expected = rows.map(|row| {
            let lanes = array::from_fn(|lane| {
                let of_lane = row.iter().zip(&x).skip(lane).step_by(LANES);
                of_lane.fold(0.0, |sum: f32, (w, x)| sum + w.to_f32() * x)
            });
            add_lanes(lanes).to_bits()
        });
        for isa in Isa::available() {
            let products = T::products(isa, rows, &x).map(f32::to_bits);
            assert_eq!(products, expected, "{} {isa:?}", T::DTYPE);
        }
    }

    #[test]
    fn vector_instructions_change_no_bit() {
        every_level_computes_the_same_bits::<f32>();
        every_level_computes_the_same_bits::<f16>();
        every_level_computes_the_same_bits::<bf16>();
    }
}
