//! The bodies for AVX-512 with VNNI: two groups, an even one and the next, in one vector of bytes.

#[rustversion::since(1.89)]
pub(super) use self::bodies::products;

/// Compilers before 1.89 know no such level, so that this is not called.
#[rustversion::before(1.89)]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn products<const ROWS: usize>(
    block: crate::BlockType,
    rows: [&[u8]; ROWS],
    token: super::Token<'_>,
) -> [f32; ROWS] {
    rows.map(|row| super::avx2::product(block, row, token))
}

#[rustversion::since(1.89)]
mod bodies {
    use std::arch::x86_64::{
        __m512, __m512i, _mm256_add_ps, _mm256_loadu_si256, _mm256_mask_set1_epi16, _mm256_mul_ps,
        _mm256_set1_epi16, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_and_si512,
        _mm512_broadcast_i32x4, _mm512_broadcast_i64x4, _mm512_castps128_ps512, _mm512_castps256_ps512,
        _mm512_castsi256_si512, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_cvtss_f32,
        _mm512_dpbusd_epi32, _mm512_inserti64x4, _mm512_loadu_si512, _mm512_mask_add_epi8,
        _mm512_mask_broadcast_i32x4, _mm512_mask_mov_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_permute_ps,
        _mm512_permutexvar_ps, _mm512_set_epi64, _mm512_set1_epi8, _mm512_set1_ps, _mm512_setr_epi32,
        _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_slli_epi16, _mm512_srli_epi16,
        _mm512_srlv_epi16, _mm512_storeu_ps, _mm512_sub_epi32, _mm512_test_epi8_mask, _mm512_xor_si512,
    };

    use device_mem::prefetch;

    use super::super::avx2;
    use super::super::avx2::{eight, four_scales, half, halves, pairs, sixteen};
    use crate::blocks::BlockType;
    use crate::cpu::quantized::groups::Group;
    use crate::cpu::quantized::token::{QUAD, Token};
    use crate::cpu::quantized::{GROUP, Sums};
    use crate::cpu::simd::{LINE, prefetch_rows};

    /// Bytes that are asked for ahead of large blocks, whose rows are read one after another.
    const AHEAD_OF_BLOCKS: usize = 4096;
    /// The lanes of the second group.
    const SECOND: u16 = 0xff00;

    /// The product of each row.
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(in super::super) fn products<const ROWS: usize>(
        block: BlockType,
        rows: [&[u8]; ROWS],
        token: Token<'_>,
    ) -> [f32; ROWS] {
        // Loops, because what `map` calls is not compiled for the features of this function.
        let mut totals = [0.0; ROWS];
        match block {
            BlockType::Q8_0 => small::<34, 128, ROWS>(block, rows, token, q8_0_levels, &mut totals),
            BlockType::Q5_0 => small::<22, 16, ROWS>(block, rows, token, q5_0_levels, &mut totals),
            BlockType::Q5_1 => small::<24, 0, ROWS>(block, rows, token, q5_1_levels, &mut totals),
            _ => {
                for (total, row) in totals.iter_mut().zip(rows) {
                    *total = match block {
                        BlockType::Q4_0 => fourth(row, token),
                        BlockType::Q4_K => large::<144>(row, token, q4_k_levels),
                        BlockType::Q5_K => large::<176>(row, token, q5_k_levels),
                        _ => sixth(row, token),
                    };
                }
            }
        }
        totals
    }

    /// Blocks of one group with a scale before. Levels are 0 to 255, and `OFFSET` above what they stand for.
    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn small<const BYTES: usize, const OFFSET: u8, const ROWS: usize>(
        block: BlockType,
        rows: [&[u8]; ROWS],
        token: Token<'_>,
        levels: unsafe fn(&[[u8; BYTES]; 2]) -> __m512i,
        totals: &mut [f32; ROWS],
    ) {
        let (token_levels, _) = token.levels.as_chunks::<2>();
        let token_scales = token.scales.as_chunks::<2>().0;
        let pairs = token_levels.len().min(token_scales.len());
        let blocks_of = rows.map(|row| &row.as_chunks::<BYTES>().0[..2 * pairs]);
        let pairs_of = blocks_of.map(|blocks| blocks.as_chunks::<2>().0);
        let mut products = [_mm512_setzero_ps(); ROWS];
        for pair in 0..pairs {
            prefetch_rows(blocks_of, 2 * pair);
            if 2 * BYTES > LINE {
                prefetch_rows(blocks_of, 2 * pair + 1);
            }
            let token = two_groups(&token_levels[pair]);
            let [first, second] = token_scales[pair];
            let token_scale = _mm512_mask_mov_ps(_mm512_set1_ps(first), SECOND, _mm512_set1_ps(second));
            let offset = _mm512_set1_epi8(OFFSET.cast_signed());
            let too_much = _mm512_dpbusd_epi32(_mm512_setzero_si512(), offset, token);
            let start = _mm512_sub_epi32(_mm512_setzero_si512(), too_much);
            for (product, row) in products.iter_mut().zip(pairs_of) {
                let blocks = &row[pair];
                // SAFETY: the caller's features are those of the function.
                let whole = _mm512_dpbusd_epi32(start, unsafe { levels(blocks) }, token);
                let [first, second] = blocks;
                let first = i16::from_le_bytes([first[0], first[1]]);
                let second = i16::from_le_bytes([second[0], second[1]]);
                let scales = _mm256_mask_set1_epi16(_mm256_set1_epi16(first), SECOND, second);
                let scale = _mm512_mul_ps(_mm512_cvtph_ps(scales), token_scale);
                *product = _mm512_add_ps(*product, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(whole)));
            }
        }
        for ((total, products), row) in totals.iter_mut().zip(products).zip(rows) {
            let blocks = row.as_chunks::<BYTES>().0;
            if OFFSET != 0 && blocks.len() == 2 * pairs {
                *total = add_lanes(products);
                continue;
            }
            let mut sums = sums_of(products, [0.0; 8]);
            if OFFSET == 0 {
                for (group, block) in blocks.iter().enumerate().take(2 * pairs) {
                    sums.minima[group % 8] +=
                        -half(block[2], block[3]) * token.scales[group] * token.sums[group];
                }
            }
            // The last group of an odd number.
            let rest = blocks.iter().zip(token.groups()).enumerate().skip(2 * pairs);
            for (index, (bytes, part)) in rest {
                Group::all(block, bytes).for_each(|group| sums.add(block, index, &group, &part));
            }
            *total = sums.total();
        }
    }

    /// `Q4_0`: four blocks in one vector, of which the low halves of bytes are multiplied, then the high ones.
    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn fourth(row: &[u8], token: Token<'_>) -> f32 {
        let mut products = _mm512_setzero_ps();
        let blocks = row.as_chunks::<18>().0;
        let quads = blocks.as_chunks::<QUAD>().0.iter().zip(token.quads);
        for ((blocks, quad), token_scales) in quads.zip(token.scales.as_chunks::<QUAD>().0) {
            prefetch(blocks.as_ptr().cast::<u8>().wrapping_add(AHEAD_OF_BLOCKS));
            let bytes = four_blocks(blocks);
            let [low, high] = &quad.levels;
            let (low, high) = (two_groups(low), two_groups(high));
            // SAFETY: there are sixteen elements.
            let starts = unsafe { _mm512_loadu_si512(quad.starts.as_ptr().cast()) };
            let whole = _mm512_dpbusd_epi32(starts, low_bits(bytes, 15), low);
            let whole = _mm512_dpbusd_epi32(whole, low_bits(_mm512_srli_epi16::<4>(bytes), 15), high);
            let scales = _mm512_castps128_ps512(four_scales(blocks, token_scales));
            let scale = _mm512_permutexvar_ps(places(0, 4), scales);
            products = _mm512_add_ps(products, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(whole)));
        }
        if blocks.len() == QUAD * token.quads.len() {
            return add_lanes(products);
        }
        let mut sums = sums_of(products, [0.0; 8]);
        // The last groups of a number that is no multiple of four.
        let rest = blocks.iter().zip(token.groups()).enumerate().skip(QUAD * token.quads.len());
        for (index, (bytes, part)) in rest {
            let groups = Group::all(BlockType::Q4_0, bytes);
            groups.for_each(|group| sums.add(BlockType::Q4_0, index, &group, &part));
        }
        sums.total()
    }

    /// The halves of each block in a quarter.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn four_blocks([first, second, third, fourth]: &[[u8; 18]; QUAD]) -> __m512i {
        let bytes = _mm512_broadcast_i32x4(sixteen(halves(first)));
        let bytes = _mm512_mask_broadcast_i32x4(bytes, 0x00f0, sixteen(halves(second)));
        let bytes = _mm512_mask_broadcast_i32x4(bytes, 0x0f00, sixteen(halves(third)));
        _mm512_mask_broadcast_i32x4(bytes, 0xf000, sixteen(halves(fourth)))
    }

    /// Blocks of eight groups, with a scale and a minimum for each.
    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn large<const BYTES: usize>(
        row: &[u8],
        token: Token<'_>,
        levels: unsafe fn(&[u8; BYTES], usize) -> __m512i,
    ) -> f32 {
        let mut sums = _mm512_setzero_ps();
        let mut minima = _mm256_setzero_ps();
        let (row, _) = row.as_chunks::<BYTES>();
        let parts = token.levels.as_chunks::<8>().0.iter().zip(token.scales.as_chunks::<8>().0);
        for ((block, (levels_of, scales)), whole) in row.iter().zip(parts).zip(token.sums.as_chunks::<8>().0)
        {
            let [group_scales, group_minima] = pairs(block);
            let (scales, whole) = (eight(scales), eight(whole));
            minima = _mm256_add_ps(minima, _mm256_mul_ps(_mm256_mul_ps(group_minima, scales), whole));
            let scales = _mm512_castps256_ps512(_mm256_mul_ps(group_scales, scales));
            for (pair, levels_of) in levels_of.as_chunks::<2>().0.iter().enumerate() {
                // SAFETY: the caller's features are those of the function.
                let levels = unsafe { levels(block, pair) };
                let whole = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels, two_groups(levels_of));
                let scale = _mm512_permutexvar_ps(places(2 * pair, 8), scales);
                sums = _mm512_add_ps(sums, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(whole)));
            }
        }
        let mut stored = [0.0; 8];
        // SAFETY: there are eight elements.
        unsafe { _mm256_storeu_ps(stored.as_mut_ptr(), minima) };
        sums_of(sums, stored).total()
    }

    /// `Q6_K`: sixteen scales.
    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn sixth(row: &[u8], token: Token<'_>) -> f32 {
        let mut sums = _mm512_setzero_ps();
        let (row, _) = row.as_chunks::<210>();
        let parts = token.levels.as_chunks::<8>().0.iter().zip(token.scales.as_chunks::<8>().0);
        for (block, (levels_of, token_scales)) in row.iter().zip(parts) {
            prefetch_block(block);
            let scales = signed_scales(block);
            let token_scales = _mm512_castps256_ps512(eight(token_scales));
            for (pair, levels_of) in levels_of.as_chunks::<2>().0.iter().enumerate() {
                let token = two_groups(levels_of);
                let too_much = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(32), token);
                let start = _mm512_sub_epi32(_mm512_setzero_si512(), too_much);
                let whole = _mm512_dpbusd_epi32(start, q6_k_levels(block, pair), token);
                let scale = _mm512_permutexvar_ps(places(4 * pair, 4), scales);
                let scale = _mm512_mul_ps(scale, _mm512_permutexvar_ps(places(2 * pair, 8), token_scales));
                sums = _mm512_add_ps(sums, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(whole)));
            }
        }
        add_lanes(sums)
    }

    /// Asks for as much as a block, some blocks behind it.
    #[inline]
    fn prefetch_block<const BYTES: usize>(block: &[u8; BYTES]) {
        for line in (0..BYTES).step_by(LINE) {
            prefetch(block.as_ptr().wrapping_add(AHEAD_OF_BLOCKS + line));
        }
    }

    /// What [`Sums::total`] gives where there are no minima.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add_lanes(products: __m512) -> f32 {
        let half = _mm512_add_ps(products, _mm512_shuffle_f32x4::<0b1110>(products, products));
        let quarter = _mm512_add_ps(half, _mm512_shuffle_f32x4::<1>(half, half));
        let pair = _mm512_add_ps(quarter, _mm512_permute_ps::<0b1110>(quarter));
        _mm512_cvtss_f32(_mm512_add_ps(pair, _mm512_permute_ps::<1>(pair)))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn sums_of(products: __m512, minima: [f32; 8]) -> Sums {
        let mut sums = Sums { products: [0.0; 16], minima };
        // SAFETY: there are sixteen elements.
        unsafe { _mm512_storeu_ps(sums.products.as_mut_ptr(), products) };
        sums
    }

    /// Element `first` for the first `each` lanes, the next one for the next, and so on.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn places(first: usize, each: usize) -> __m512i {
        #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "below 16")]
        let at = |lane: usize| (first + lane / each) as i32;
        _mm512_setr_epi32(
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
            at(5),
            at(6),
            at(7),
            at(8),
            at(9),
            at(10),
            at(11),
            at(12),
            at(13),
            at(14),
            at(15),
        )
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn two_groups(groups: &[[i8; GROUP]; 2]) -> __m512i {
        // SAFETY: there are 64 bytes.
        unsafe { _mm512_loadu_si512(groups.as_ptr().cast()) }
    }

    /// 64 bytes from `at` on; zeros where the block ends before.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn bytes(block: &[u8], at: usize) -> __m512i {
        match block[at..].first_chunk::<64>() {
            // SAFETY: there are 64 bytes.
            Some(bytes) => unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) },
            None => _mm512_setzero_si512(),
        }
    }

    /// 32 bytes from `at` on, twice; zeros where the block ends before.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn twice(block: &[u8], at: usize) -> __m512i {
        match block[at..].first_chunk::<32>() {
            // SAFETY: there are 32 bytes.
            Some(bytes) => _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }),
            None => _mm512_setzero_si512(),
        }
    }

    /// Each of the halves shifted right by its own number of bits, at most eight.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn shift_halves(bytes: __m512i, [first, second]: [i64; 2]) -> __m512i {
        let [first, second] = [first, second].map(|bits| bits * 0x0001_0001_0001_0001);
        let bits = _mm512_set_epi64(second, second, second, second, first, first, first, first);
        _mm512_srlv_epi16(bytes, bits)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn low_bits(bytes: __m512i, mask: i8) -> __m512i {
        _mm512_and_si512(bytes, _mm512_set1_epi8(mask))
    }

    /// The levels of 16 bytes, low halves, then high ones, and those of 16 others.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn nibbles(halves: [&[u8; 16]; 2]) -> __m512i {
        const FOUR: i64 = 0x0004_0004_0004_0004;
        let [first, second] = halves;
        let bytes = _mm512_broadcast_i32x4(sixteen(first));
        let bytes = _mm512_mask_broadcast_i32x4(bytes, SECOND, sixteen(second));
        let bits = _mm512_set_epi64(FOUR, FOUR, 0, 0, FOUR, FOUR, 0, 0);
        low_bits(_mm512_srlv_epi16(bytes, bits), 15)
    }

    /// Two words of fifth bits, and 16 bytes of halves each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn fifths(words: [[u8; 4]; 2], halves: [&[u8; 16]; 2]) -> __m512i {
        let [first, second] = words.map(|word| u64::from(u32::from_le_bytes(word)));
        let levels = nibbles(halves);
        _mm512_mask_add_epi8(levels, first | second << 32, levels, _mm512_set1_epi8(16))
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f")]
    fn q8_0_levels([first, second]: &[[u8; 34]; 2]) -> __m512i {
        let (first, second) = (avx2::q8_0_levels(first), avx2::q8_0_levels(second));
        let levels = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
        // 128 is added to each.
        _mm512_xor_si512(levels, _mm512_set1_epi8(i8::MIN))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn q5_0_levels([first, second]: &[[u8; 22]; 2]) -> __m512i {
        let &[_, _, a, b, c, d, ref first @ ..] = first;
        let &[_, _, e, f, g, h, ref second @ ..] = second;
        fifths([[a, b, c, d], [e, f, g, h]], [first, second])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn q5_1_levels([first, second]: &[[u8; 24]; 2]) -> __m512i {
        let &[_, _, _, _, a, b, c, d, ref first @ ..] = first;
        let &[_, _, _, _, e, f, g, h, ref second @ ..] = second;
        fifths([[a, b, c, d], [e, f, g, h]], [first, second])
    }

    /// Those of groups `2 pair` and `2 pair + 1`.
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw")]
    fn q4_k_levels(block: &[u8; 144], pair: usize) -> __m512i {
        low_bits(shift_halves(twice(block, 16 + 32 * pair), [0, 4]), 15)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw")]
    fn q5_k_levels(block: &[u8; 176], pair: usize) -> __m512i {
        let bit = 0x0101_0101_0101_0101_u64 << (2 * pair);
        let [first, second] = [bit, bit << 1].map(u64::cast_signed);
        let bits = _mm512_set_epi64(second, second, second, second, first, first, first, first);
        let levels = low_bits(shift_halves(twice(block, 48 + 32 * pair), [0, 4]), 15);
        let is_set = _mm512_test_epi8_mask(twice(block, 16), bits);
        _mm512_mask_add_epi8(levels, is_set, levels, _mm512_set1_epi8(16))
    }

    /// Those of groups `2 pair` and `2 pair + 1`, 32 above what they stand for.
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw")]
    fn q6_k_levels(block: &[u8; 210], pair: usize) -> __m512i {
        let stretch = pair / 2;
        let low = bytes(block, 64 * stretch);
        let low = low_bits(if pair.is_multiple_of(2) { low } else { _mm512_srli_epi16::<4>(low) }, 15);
        let high = twice(block, 128 + 32 * stretch);
        let high = shift_halves(high, if pair.is_multiple_of(2) { [0, 2] } else { [4, 6] });
        _mm512_or_si512(low, _mm512_slli_epi16::<4>(low_bits(high, 3)))
    }

    /// The scales of `Q6_K`, each for 16 elements.
    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f")]
    fn signed_scales(block: &[u8; 210]) -> __m512 {
        let scales = block[192..].first_chunk::<16>().copied().unwrap_or_default();
        let scales = _mm512_cvtepi8_epi32(sixteen(&scales));
        _mm512_mul_ps(_mm512_set1_ps(half(block[208], block[209])), _mm512_cvtepi32_ps(scales))
    }
}
