//! The bodies of tiles: rows of a weight in groups, and the tokens of one panel or two in the lanes of vectors.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_extracti128_si256,
    _mm256_set1_epi8, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_xor_si256,
};

use super::avx2::{
    half, pairs, q4_0_levels, q4_k_levels, q5_0_levels, q5_1_levels, q5_k_levels, q6_k_levels, q8_0_levels,
    signed_scales,
};
use crate::blocks::BlockType;
use crate::cpu::quantized::tiles::{GROUPS, Layout, Unpacked, Word};

/// Takes whole blocks of row `row` apart.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn unpack(weight: &mut Unpacked, row: usize, bytes: &[u8]) {
    let mut places = Places::of(weight, row);
    match places.block {
        BlockType::Q8_0 => small::<34, false>(places, bytes, q8_0_levels),
        BlockType::Q4_0 => small::<18, false>(places, bytes, q4_0_levels),
        BlockType::Q5_0 => small::<22, false>(places, bytes, q5_0_levels),
        BlockType::Q5_1 => small::<24, true>(places, bytes, q5_1_levels),
        BlockType::Q4_K => large::<144>(places, bytes, q4_k_levels),
        BlockType::Q5_K => large::<176>(places, bytes, q5_k_levels),
        BlockType::Q6_K => {
            if let ([block], _) = bytes.as_chunks::<210>() {
                for group in 0..8 {
                    places.put(group, q6_k_levels(block, group));
                }
                let [first, second] = signed_scales(block).map(|scales| stored(scales));
                let (scales, _) = places.scales.as_flattened_mut().as_chunks_mut::<8>();
                for (place, scales) in scales.iter_mut().zip([first, second]) {
                    *place = scales;
                }
            }
        }
    }
}

/// Where what a row holds goes.
struct Places<'a> {
    block: BlockType,
    layout: Layout,
    words: &'a mut [Word],
    scales: &'a mut [[f32; 2]],
    minima: &'a mut [f32],
}

impl Places<'_> {
    fn of(weight: &mut Unpacked, row: usize) -> Places<'_> {
        let row_words = weight.row_words();
        Places {
            block: weight.block,
            layout: weight.layout,
            words: &mut weight.words[row * row_words..(row + 1) * row_words],
            scales: &mut weight.scales[row],
            minima: &mut weight.minima[row],
        }
    }

    /// The levels of a group.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn put(&mut self, group: usize, levels: __m256i) {
        let words = &mut self.words[group * self.layout.words()..][..self.layout.words()];
        let (bytes, _) = words.as_flattened_mut().as_chunks_mut::<32>();
        let vectors = match self.layout {
            Layout::Fours => [_mm256_xor_si256(levels, _mm256_set1_epi8(i8::MIN)); 2],
            Layout::Pairs => [
                _mm256_cvtepi8_epi16(_mm256_castsi256_si128(levels)),
                _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(levels)),
            ],
        };
        for (bytes, vector) in bytes.iter_mut().zip(vectors) {
            // SAFETY: there are 32 bytes.
            unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) };
        }
    }
}

/// Blocks of one group.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn small<const BYTES: usize, const MINIMUM: bool>(
    mut places: Places<'_>,
    bytes: &[u8],
    levels: unsafe fn(&[u8; BYTES]) -> __m256i,
) {
    for (group, block) in bytes.as_chunks::<BYTES>().0.iter().enumerate() {
        // SAFETY: the caller's features are those of the function.
        places.put(group, unsafe { levels(block) });
        places.scales[group] = [half(block[0], block[1]); 2];
        places.minima[group] = if MINIMUM { -half(block[2], block[3]) } else { 0.0 };
    }
}

/// A block of eight groups, with a scale and a minimum for each.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn large<const BYTES: usize>(
    mut places: Places<'_>,
    bytes: &[u8],
    levels: unsafe fn(&[u8; BYTES], usize) -> [__m256i; 2],
) {
    let ([block], _) = bytes.as_chunks::<BYTES>() else { return };
    for pair in 0..4 {
        // SAFETY: the caller's features are those of the function.
        let [first, second] = unsafe { levels(block, pair) };
        places.put(2 * pair, first);
        places.put(2 * pair + 1, second);
    }
    let [scales, minima] = pairs(block);
    let (scales, minima) = (stored(scales), stored(minima));
    for group in 0..8 {
        places.scales[group] = [scales[group]; 2];
        places.minima[group] = minima[group];
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn stored(vector: __m256) -> [f32; 8] {
    let mut values = [0.0; 8];
    // SAFETY: there are eight elements.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), vector) };
    values
}

/// Some rows of a weight.
struct Rows<'a, const ROWS: usize> {
    /// Of all groups of a row.
    words: [&'a [Word]; ROWS],
    scales: &'a [[[f32; 2]; GROUPS]; ROWS],
    minima: &'a [[f32; GROUPS]; ROWS],
    group_words: usize,
    groups: usize,
}

impl<'a, const ROWS: usize> Rows<'a, ROWS> {
    /// Those from `first` on, if so many are there.
    fn of(weight: &'a Unpacked, first: usize) -> Option<Self> {
        let (group_words, groups) = (weight.layout.words(), weight.groups);
        let words = |row| &weight.words[(first + row) * weight.row_words()..][..groups * group_words];
        Some(Rows {
            words: std::array::from_fn(words),
            scales: weight.scales[first..].first_chunk()?,
            minima: weight.minima[first..].first_chunk()?,
            group_words,
            groups,
        })
    }
}

/// The products of all rows, so many of them at once.
macro_rules! x86_products {
    ($features:literal, $rows:literal) => {
        /// Adds the products of `rows` rows to the sums of each panel; the tokens of all fill `VECTORS` vectors.
        #[target_feature(enable = $features)]
        pub(in super::super) fn add_products<const PANELS: usize, const VECTORS: usize>(
            weight: &Unpacked,
            rows: usize,
            panels: [Panel<'_>; PANELS],
            sums: [&mut [[f32; TOKENS]]; PANELS],
        ) {
            match (has_halves(weight.block), has_minima(weight.block)) {
                (true, _) => in_groups::<PANELS, VECTORS, true, false>(weight, rows, panels, sums),
                (_, true) => in_groups::<PANELS, VECTORS, false, true>(weight, rows, panels, sums),
                _ => in_groups::<PANELS, VECTORS, false, false>(weight, rows, panels, sums),
            }
        }

        #[target_feature(enable = $features)]
        fn in_groups<const PANELS: usize, const VECTORS: usize, const HALVES: bool, const MINIMA: bool>(
            weight: &Unpacked,
            rows: usize,
            panels: [Panel<'_>; PANELS],
            mut sums: [&mut [[f32; TOKENS]]; PANELS],
        ) {
            let together = rows - rows % $rows;
            for first in (0..together).step_by($rows) {
                let rows = Rows::<$rows>::of(weight, first);
                let sums = sums.each_mut().map(|sums| sums[first..].first_chunk_mut());
                group::<PANELS, VECTORS, HALVES, MINIMA, $rows>(rows, panels, sums);
            }
            for last in together..rows {
                let rows = Rows::<1>::of(weight, last);
                let sums = sums.each_mut().map(|sums| sums[last..].first_chunk_mut());
                group::<PANELS, VECTORS, HALVES, MINIMA, 1>(rows, panels, sums);
            }
        }

        /// The products of some rows, where there is a place for all.
        #[target_feature(enable = $features)]
        fn group<
            const PANELS: usize,
            const VECTORS: usize,
            const HALVES: bool,
            const MINIMA: bool,
            const ROWS: usize,
        >(
            rows: Option<Rows<'_, ROWS>>,
            panels: [Panel<'_>; PANELS],
            mut sums: [Option<&mut [[f32; TOKENS]; ROWS]>; PANELS],
        ) {
            let Some(Rows { words, scales: row_scales, minima: row_minima, group_words, groups }) = rows
            else {
                return;
            };
            // Not known to the compiler, which would otherwise unroll all steps, and keep a group's words in memory.
            let steps = if HALVES { group_words / 2 } else { group_words };
            // Starts of what is read below, as one offset for all is fewer registers than their indices.
            let words: [*const Word; ROWS] = words.map(<[Word]>::as_ptr);
            let mut lines: [*const u8; VECTORS] = [ptr::null(); VECTORS];
            for (vector, start) in lines.iter_mut().enumerate() {
                let (panel, lane) = (vector * WIDTH / TOKENS, vector * WIDTH % TOKENS);
                let line = panels[panel].lines[..groups * group_words].as_ptr().cast::<u8>();
                *start = line.wrapping_add(size_of::<Word>() * lane);
            }
            for group in 0..groups.min(GROUPS) {
                let mut scales = [zero(); VECTORS];
                let mut minima = [zero(); VECTORS];
                let mut starts = [[no_levels(); VECTORS]; 2];
                for vector in 0..VECTORS {
                    let (panel, lane) = (&panels[vector * WIDTH / TOKENS], vector * WIDTH % TOKENS);
                    scales[vector] = floats(&panel.scales[group], lane);
                    let [low, high] = &panel.sums[group];
                    let (low, high) = (levels(low, lane), levels(high, lane));
                    let whole = add_levels(low, high);
                    minima[vector] = multiply(scales[vector], as_floats(whole));
                    if HALVES {
                        (starts[0][vector], starts[1][vector]) = (start_of(low), start_of(high));
                    } else {
                        starts[0][vector] = start_of(whole);
                    }
                }
                for half in 0..=usize::from(HALVES) {
                    let mut products = [starts[half]; ROWS];
                    let from = group * group_words + half * steps;
                    for step in from..from + steps {
                        let mut x = [no_levels(); VECTORS];
                        for (x, line) in x.iter_mut().zip(lines) {
                            // SAFETY: a step is below the lines of the slice above, and a vector within a line.
                            *x = unsafe { load(line.wrapping_add(step * size_of::<Line>())) };
                        }
                        for (products, row) in products.iter_mut().zip(words) {
                            // SAFETY: a step is below the words of a row, of which there are as many as lines.
                            let word = unsafe { *row.wrapping_add(step) };
                            let word = splat_word(i32::from_le_bytes(word));
                            for (product, x) in products.iter_mut().zip(x) {
                                *product = add_dots(*product, word, x);
                            }
                        }
                    }
                    for (row, products) in products.iter().enumerate() {
                        let scale = splat(row_scales[row][group][half]);
                        let minimum = splat(row_minima[row][group]);
                        for vector in 0..VECTORS {
                            let lane = vector * WIDTH % TOKENS;
                            let Some(sums) = &mut sums[vector * WIDTH / TOKENS] else { return };
                            let scale = multiply(scale, scales[vector]);
                            let product = multiply(scale, as_floats(products[vector]));
                            let mut sum = add(floats(&sums[row], lane), product);
                            if MINIMA {
                                sum = subtract(sum, multiply(minimum, minima[vector]));
                            }
                            let (_, lanes) = sums[row].split_at_mut(lane);
                            if let Some(lanes) = lanes.first_chunk_mut::<WIDTH>() {
                                // SAFETY: there are WIDTH elements.
                                unsafe { store(lanes.as_mut_ptr(), sum) };
                            }
                        }
                    }
                }
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn floats(values: &[f32; TOKENS], lane: usize) -> Floats {
            match values.split_at(lane).1.first_chunk::<WIDTH>() {
                // SAFETY: there are WIDTH elements.
                Some(values) => unsafe { load_floats(values.as_ptr()) },
                None => zero(),
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn levels(values: &[i32; TOKENS], lane: usize) -> Levels {
            match values.split_at(lane).1.first_chunk::<WIDTH>() {
                // SAFETY: there are WIDTH elements.
                Some(values) => unsafe { load(values.as_ptr().cast()) },
                None => no_levels(),
            }
        }
    };
}

/// Four rows of two vectors fit the sixteen registers.
pub(super) mod avx2 {
    use std::arch::x86_64::{
        __m256 as Floats, __m256i as Levels, _mm256_add_epi32 as add_levels, _mm256_add_ps as add,
        _mm256_cvtepi32_ps as as_floats, _mm256_loadu_ps as load_floats, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_mul_ps as multiply, _mm256_set1_epi32 as splat_word,
        _mm256_set1_ps as splat, _mm256_setzero_ps as zero, _mm256_setzero_si256 as no_levels,
        _mm256_storeu_ps as store, _mm256_sub_ps as subtract,
    };
    use std::ptr;

    use super::Rows;
    use crate::cpu::quantized::tiles::{GROUPS, Line, Panel, TOKENS, Unpacked, Word, has_halves, has_minima};

    const WIDTH: usize = 8;

    x86_products!("avx2,fma,f16c", 4);

    /// # Safety
    /// There are 32 bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(bytes: *const u8) -> Levels {
        // SAFETY: as the caller says.
        unsafe { _mm256_loadu_si256(bytes.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_dots(sums: Levels, word: Levels, x: Levels) -> Levels {
        add_levels(sums, _mm256_madd_epi16(word, x))
    }

    /// What sums start from, for tokens whose levels sum to this.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn start_of(_sums: Levels) -> Levels {
        no_levels()
    }
}

/// Six rows of two vectors, which are two panels.
#[rustversion::since(1.89)]
pub(super) mod avx512 {
    use std::arch::x86_64::{
        __m512 as Floats, __m512i as Levels, _mm512_add_epi32 as add_levels, _mm512_add_ps as add,
        _mm512_cvtepi32_ps as as_floats, _mm512_dpbusd_epi32 as add_dots, _mm512_loadu_ps as load_floats,
        _mm512_loadu_si512, _mm512_mul_ps as multiply, _mm512_set1_epi32 as splat_word,
        _mm512_set1_ps as splat, _mm512_setzero_ps as zero, _mm512_setzero_si512 as no_levels,
        _mm512_slli_epi32, _mm512_storeu_ps as store, _mm512_sub_epi32, _mm512_sub_ps as subtract,
    };
    use std::ptr;

    use super::Rows;
    use crate::cpu::quantized::tiles::{GROUPS, Line, Panel, TOKENS, Unpacked, Word, has_halves, has_minima};

    const WIDTH: usize = 16;

    x86_products!("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", 6);

    /// # Safety
    /// There are 64 bytes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(bytes: *const u8) -> Levels {
        // SAFETY: as the caller says.
        unsafe { _mm512_loadu_si512(bytes.cast()) }
    }

    /// Levels of the weight are 128 up: so much too much comes of tokens whose levels sum to this.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn start_of(sums: Levels) -> Levels {
        _mm512_sub_epi32(no_levels(), _mm512_slli_epi32::<7>(sums))
    }
}

/// Compilers before 1.89 know no such level, so that this is not called.
#[rustversion::before(1.89)]
pub(super) mod avx512 {
    pub(in super::super) use super::avx2::add_products;
}
