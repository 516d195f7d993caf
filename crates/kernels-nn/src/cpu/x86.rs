//! The vector instructions of x86-64 under the same names for either width.

/// Eight elements.
pub(super) mod avx2 {
    pub(in crate::cpu) use std::arch::x86_64::{
        __m256 as Vector, _mm256_add_ps as add, _mm256_loadu_ps as load_f32, _mm256_mul_ps as multiply,
        _mm256_setzero_ps as zero, _mm256_storeu_ps as store,
    };
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_slli_epi32,
    };

    use half::{bf16, f16};

    pub(in crate::cpu) const WIDTH: usize = 8;

    /// # Safety
    /// `values` has [`WIDTH`] elements.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub(in crate::cpu) unsafe fn load_f16(values: *const f16) -> Vector {
        // SAFETY: the elements are there.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.cast()) })
    }

    /// # Safety
    /// `values` has [`WIDTH`] elements.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu) unsafe fn load_bf16(values: *const bf16) -> Vector {
        // SAFETY: the elements are there.
        let halves = unsafe { _mm_loadu_si128(values.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    }
}

/// Sixteen elements.
#[rustversion::since(1.89)]
pub(super) mod avx512 {
    pub(in crate::cpu) use std::arch::x86_64::{
        __m512 as Vector, _mm512_add_ps as add, _mm512_loadu_ps as load_f32, _mm512_mul_ps as multiply,
        _mm512_setzero_ps as zero, _mm512_storeu_ps as store,
    };
    use std::arch::x86_64::{
        _mm256_loadu_si256, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_slli_epi32,
    };

    use half::{bf16, f16};

    pub(in crate::cpu) const WIDTH: usize = 16;

    /// # Safety
    /// `values` has [`WIDTH`] elements.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) unsafe fn load_f16(values: *const f16) -> Vector {
        // SAFETY: the elements are there.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(values.cast()) })
    }

    /// # Safety
    /// `values` has [`WIDTH`] elements.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in crate::cpu) unsafe fn load_bf16(values: *const bf16) -> Vector {
        // SAFETY: the elements are there.
        let halves = unsafe { _mm256_loadu_si256(values.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
}
