//! The bodies for AVX2: the 32 elements of a group in one vector of bytes.

use std::arch::x86_64::{
    __m128, __m128i, __m256, __m256i, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_cvtss_f32,
    _mm_loadu_si128, _mm_mul_ps, _mm_setr_ps, _mm_srli_epi16, _mm256_abs_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castps128_ps256, _mm256_cmpeq_epi8,
    _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256, _mm256_permutevar8x32_ps,
    _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_epi64x,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_setr_epi64x, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_slli_epi16, _mm256_srl_epi16, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_sub_epi8,
};

use crate::blocks::BlockType;
use crate::cpu::quantized::groups::Group;
use crate::cpu::quantized::token::{QUAD, Token};
use crate::cpu::quantized::{GROUP, Sums};

/// The places of eight elements, as instructions take them.
const GROUPS: [i32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
/// Levels from 0, of which nothing is taken.
const UNSIGNED: bool = false;
/// Levels below 0 too.
const SIGNED: bool = true;

/// The product of a row and a token.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn product(block: BlockType, row: &[u8], token: Token<'_>) -> f32 {
    let sums = match block {
        BlockType::Q8_0 => small::<34, SIGNED>(row, token, q8_0_levels, None),
        BlockType::Q4_0 => fourth(row, token),
        BlockType::Q5_0 => small::<22, SIGNED>(row, token, q5_0_levels, None),
        BlockType::Q5_1 => {
            let minimum = |block: &[u8; 24]| -half(block[2], block[3]);
            small::<24, UNSIGNED>(row, token, q5_1_levels, Some(minimum))
        }
        BlockType::Q4_K => large::<144>(row, token, q4_k_levels),
        BlockType::Q5_K => large::<176>(row, token, q5_k_levels),
        BlockType::Q6_K => sixth(row, token),
    };
    sums.total()
}
/// The products of a group, as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn products<const SIGN: bool>(levels: __m256i, token: &[i8; GROUP]) -> __m256 {
    let token = group(token);
    let whole = match SIGN {
        SIGNED => fours(_mm256_abs_epi8(levels), _mm256_sign_epi8(token, levels)),
        UNSIGNED => fours(levels, token),
    };
    _mm256_cvtepi32_ps(whole)
}

/// Blocks of one group, with a scale before and perhaps a minimum.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn small<const BYTES: usize, const SIGN: bool>(
    row: &[u8],
    token: Token<'_>,
    levels: unsafe fn(&[u8; BYTES]) -> __m256i,
    minimum: Option<fn(&[u8; BYTES]) -> f32>,
) -> Sums {
    let mut sums = [_mm256_setzero_ps(); 2];
    let mut minima = [0.0; 8];
    let (row, _) = row.as_chunks::<BYTES>();
    let groups = row.len().min(token.levels.len());
    let (row, token_levels, scales) = (&row[..groups], &token.levels[..groups], &token.scales[..groups]);
    for group in 0..groups {
        let block = &row[group];
        let scale = _mm256_set1_ps(half(block[0], block[1]) * scales[group]);
        // SAFETY: the caller's features are those of the function.
        let products = products::<SIGN>(unsafe { levels(block) }, &token_levels[group]);
        let sum = _mm256_add_ps(sums[0], _mm256_mul_ps(scale, products));
        // The halves of all lanes are added first, so it does not matter which holds the even groups.
        sums = [sums[1], sum];
        if let Some(minimum) = minimum {
            minima[group % 8] += minimum(block) * scales[group] * token.sums[group];
        }
    }
    sums_of(sums, minima)
}

/// `Q4_0`: two blocks in one vector, of which the low halves of bytes are multiplied, then the high ones.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn fourth(row: &[u8], token: Token<'_>) -> Sums {
    let mut products = [_mm256_setzero_ps(); 2];
    let blocks = row.as_chunks::<18>().0;
    let quads = blocks.as_chunks::<QUAD>().0.iter().zip(token.quads);
    for ((blocks, quad), token_scales) in quads.zip(token.scales.as_chunks::<QUAD>().0) {
        let scales = _mm256_castps128_ps256(four_scales(blocks, token_scales));
        let starts = quad.starts.as_chunks::<8>().0;
        for (side, blocks) in blocks.as_chunks::<2>().0.iter().enumerate() {
            let bytes = _mm256_set_m128i(sixteen(halves(&blocks[1])), sixteen(halves(&blocks[0])));
            let low = _mm256_maddubs_epi16(low_halves(bytes), group(&quad.levels[0][side]));
            let high = low_halves(_mm256_srli_epi16::<4>(bytes));
            let high = _mm256_maddubs_epi16(high, group(&quad.levels[1][side]));
            // Four products fit 16 bits: at most `4 * 15 * 127`.
            let whole = _mm256_madd_epi16(_mm256_add_epi16(low, high), _mm256_set1_epi16(1));
            // SAFETY: there are eight elements.
            let starts = unsafe { _mm256_loadu_si256(starts[side].as_ptr().cast()) };
            let (first, second) = (GROUPS[2 * side], GROUPS[2 * side + 1]);
            let places = _mm256_setr_epi32(first, first, first, first, second, second, second, second);
            let scale = _mm256_permutevar8x32_ps(scales, places);
            let product = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_add_epi32(whole, starts)));
            products[side] = _mm256_add_ps(products[side], product);
        }
    }
    let mut sums = sums_of(products, [0.0; 8]);
    // The last groups of a number that is no multiple of four.
    let rest = blocks.iter().zip(token.groups()).enumerate().skip(QUAD * token.quads.len());
    for (index, (bytes, part)) in rest {
        Group::all(BlockType::Q4_0, bytes).for_each(|group| sums.add(BlockType::Q4_0, index, &group, &part));
    }
    sums
}

/// The 16 bytes behind the scale.
#[inline(always)]
pub(super) fn halves([_, _, halves @ ..]: &[u8; 18]) -> &[u8; 16] {
    halves
}

/// The scales of blocks times those of a token.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn four_scales(blocks: &[[u8; 18]; QUAD], token: &[f32; QUAD]) -> __m128 {
    let half = |block: &[u8; 18]| u64::from(u16::from_le_bytes([block[0], block[1]]));
    let [first, second, third, fourth] = blocks;
    let halves = half(first) | half(second) << 16 | (half(third) | half(fourth) << 16) << 32;
    let scales = _mm_cvtph_ps(_mm_cvtsi64_si128(halves.cast_signed()));
    let &[first, second, third, fourth] = token;
    _mm_mul_ps(scales, _mm_setr_ps(first, second, third, fourth))
}

/// Blocks of eight groups, with a scale and a minimum for each.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn large<const BYTES: usize>(
    row: &[u8],
    token: Token<'_>,
    levels: unsafe fn(&[u8; BYTES], usize) -> [__m256i; 2],
) -> Sums {
    let mut sums = [_mm256_setzero_ps(); 2];
    let mut minima = _mm256_setzero_ps();
    let (row, _) = row.as_chunks::<BYTES>();
    let parts = token.levels.as_chunks::<8>().0.iter().zip(token.scales.as_chunks::<8>().0);
    for ((block, (levels_of, scales)), whole) in row.iter().zip(parts).zip(token.sums.as_chunks::<8>().0) {
        let [group_scales, group_minima] = pairs(block);
        let (scales, whole) = (eight(scales), eight(whole));
        let least = _mm256_mul_ps(_mm256_mul_ps(group_minima, scales), whole);
        minima = _mm256_add_ps(minima, least);
        let scales = _mm256_mul_ps(group_scales, scales);
        for pair in 0..4 {
            // SAFETY: the caller's features are those of the function.
            let levels = unsafe { levels(block, pair) };
            for side in 0..2 {
                let group = 2 * pair + side;
                let products = products::<UNSIGNED>(levels[side], &levels_of[group]);
                let scale = _mm256_permutevar8x32_ps(scales, _mm256_set1_epi32(GROUPS[group]));
                sums[side] = _mm256_add_ps(sums[side], _mm256_mul_ps(scale, products));
            }
        }
    }
    let mut stored = [0.0; 8];
    // SAFETY: there are eight elements.
    unsafe { _mm256_storeu_ps(stored.as_mut_ptr(), minima) };
    sums_of(sums, stored)
}

/// `Q6_K`: sixteen scales.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn sixth(row: &[u8], token: Token<'_>) -> Sums {
    let mut sums = [_mm256_setzero_ps(); 2];
    let (row, _) = row.as_chunks::<210>();
    let parts = token.levels.as_chunks::<8>().0.iter().zip(token.scales.as_chunks::<8>().0);
    for (block, (levels_of, scales)) in row.iter().zip(parts) {
        let halves = signed_scales(block);
        for group in 0..8 {
            let products = products::<SIGNED>(q6_k_levels(block, group), &levels_of[group]);
            let (first, second) = (GROUPS[2 * group % 8], GROUPS[2 * group % 8 + 1]);
            let places = _mm256_setr_epi32(first, first, first, first, second, second, second, second);
            let scale = _mm256_permutevar8x32_ps(halves[group / 4], places);
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(scales[group]));
            let side = group % 2;
            sums[side] = _mm256_add_ps(sums[side], _mm256_mul_ps(scale, products));
        }
    }
    sums_of(sums, [0.0; 8])
}

#[inline]
#[target_feature(enable = "avx2")]
fn group(levels: &[i8; GROUP]) -> __m256i {
    // SAFETY: a group has 32 bytes.
    unsafe { _mm256_loadu_si256(levels.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sixteen(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: there are 16 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Pairs fit 16 bits: at most `2 * 128 * 127`.
#[inline]
#[target_feature(enable = "avx2")]
fn fours(levels: __m256i, token: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_maddubs_epi16(levels, token), _mm256_set1_epi16(1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums_of(sums: [__m256; 2], minima: [f32; 8]) -> Sums {
    let mut products = [0.0; 16];
    for (products, sum) in products.chunks_exact_mut(8).zip(sums) {
        // SAFETY: a chunk has eight elements.
        unsafe { _mm256_storeu_ps(products.as_mut_ptr(), sum) };
    }
    Sums { products, minima }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn eight(values: &[f32; 8]) -> __m256 {
    // SAFETY: there are eight elements.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn half(low: u8, high: u8) -> f32 {
    let bits = i32::from(u16::from_le_bytes([low, high]));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
}

/// The scales and the minima of the eight groups of `Q4_K` and `Q5_K`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn pairs(block: &[u8]) -> [__m256; 2] {
    const SIX_BITS: u32 = 0x3f3f_3f3f;
    const FOUR_BITS: u32 = 0x0f0f_0f0f;
    const TWO_BITS: u32 = 0x0303_0303;
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let (first, second, third) = (word(4), word(8), word(12));
    let scales = [first & SIX_BITS, third & FOUR_BITS | (first >> 6 & TWO_BITS) << 4];
    let minima = [second & SIX_BITS, third >> 4 & FOUR_BITS | (second >> 6 & TWO_BITS) << 4];
    [
        _mm256_mul_ps(_mm256_set1_ps(half(block[0], block[1])), bytes_as_f32(scales)),
        _mm256_mul_ps(_mm256_set1_ps(half(block[2], block[3])), bytes_as_f32(minima)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn bytes_as_f32([low, high]: [u32; 2]) -> __m256 {
    let bytes = _mm_cvtsi64_si128((u64::from(low) | u64::from(high) << 32).cast_signed());
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
}

/// The scales of `Q6_K`, each for 16 elements.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn signed_scales(block: &[u8; 210]) -> [__m256; 2] {
    let scale = _mm256_set1_ps(half(block[208], block[209]));
    [192, 200].map(|at| {
        let scales = block[at..].first_chunk().copied().unwrap_or_default();
        let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(scales));
        _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)))
    })
}

/// 32 bytes from `at` on; zeros where the block ends before.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes(block: &[u8], at: usize) -> __m256i {
    match block[at..].first_chunk::<32>() {
        // SAFETY: there are 32 bytes.
        Some(bytes) => unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) },
        None => _mm256_setzero_si256(),
    }
}

/// The levels of 16 bytes: low halves, then high ones.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(bytes: &[u8; 16]) -> __m256i {
    let bytes = sixteen(bytes);
    low_halves(_mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes))
}

#[inline]
#[target_feature(enable = "avx2")]
fn low_halves(bytes: __m256i) -> __m256i {
    _mm256_and_si256(bytes, _mm256_set1_epi8(15))
}

/// 16 in each byte that has one of these bits.
#[inline]
#[target_feature(enable = "avx2")]
fn sixteens(bytes: __m256i, bits: __m256i) -> __m256i {
    let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
    _mm256_and_si256(is_set, _mm256_set1_epi8(16))
}

/// A word of fifth bits and 16 bytes of halves.
#[inline]
#[target_feature(enable = "avx2")]
fn fifths(word: [u8; 4], halves: &[u8; 16]) -> __m256i {
    const BITS: i64 = 0x8040_2010_0804_0201_u64.cast_signed();
    // Byte `i / 8` of the word for element `i`; the shuffle works within each half of the vector.
    let places = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(word)), places);
    _mm256_or_si256(nibbles(halves), sixteens(spread, _mm256_set1_epi64x(BITS)))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q8_0_levels(block: &[u8; 34]) -> __m256i {
    bytes(block, 2)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q4_0_levels(block: &[u8; 18]) -> __m256i {
    let [_, _, halves @ ..] = block;
    _mm256_sub_epi8(nibbles(halves), _mm256_set1_epi8(8))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q5_0_levels(block: &[u8; 22]) -> __m256i {
    let &[_, _, a, b, c, d, ref halves @ ..] = block;
    _mm256_sub_epi8(fifths([a, b, c, d], halves), _mm256_set1_epi8(16))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q5_1_levels(block: &[u8; 24]) -> __m256i {
    let &[_, _, _, _, a, b, c, d, ref halves @ ..] = block;
    fifths([a, b, c, d], halves)
}

/// Those of groups `2 pair` and `2 pair + 1`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q4_k_levels(block: &[u8; 144], pair: usize) -> [__m256i; 2] {
    let halves = bytes(block, 16 + 32 * pair);
    [low_halves(halves), low_halves(_mm256_srli_epi16::<4>(halves))]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q5_k_levels(block: &[u8; 176], pair: usize) -> [__m256i; 2] {
    let (fifths, halves) = (bytes(block, 16), bytes(block, 48 + 32 * pair));
    let bit = |group: usize| _mm256_set1_epi8((1_u8 << group).cast_signed());
    [
        _mm256_or_si256(low_halves(halves), sixteens(fifths, bit(2 * pair))),
        _mm256_or_si256(low_halves(_mm256_srli_epi16::<4>(halves)), sixteens(fifths, bit(2 * pair + 1))),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn q6_k_levels(block: &[u8; 210], group: usize) -> __m256i {
    let (stretch, part) = (group / 4, group % 4);
    let low = bytes(block, 64 * stretch + 32 * (part % 2));
    let low = low_halves(if part < 2 { low } else { _mm256_srli_epi16::<4>(low) });
    let high = _mm256_srl_epi16(bytes(block, 128 + 32 * stretch), _mm_cvtsi32_si128(GROUPS[2 * part]));
    let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
    _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32))
}
