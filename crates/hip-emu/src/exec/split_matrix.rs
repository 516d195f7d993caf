//! Matrix operations of gfx12: 16x16x16 and 16x16x32, every element once in the wave.
//!
//! Layout: lane `l` holds elements of row `l % 16` of A and of column `l % 16` of B; lanes 0 to 15 the first half of each block of
//! the inner dimension, lanes 16 to 31 the second. Lane `l` holds column `l % 16` of C and D, element `i` row
//! `i + 8 * (l / 16)`; of 16-bit results two are in a register.

use crate::exec::{
    float::{F16, bf16_to_f32, f32_to_bf16, half_word},
    matrix::{SIDE, addend, registers, signed, write},
    op::{Op, Source},
    table::instructions,
    wave::{Wave, low},
};

/// Rows of a result that one lane holds.
pub(super) const ROWS: usize = 8;

/// The 16-bit elements of a row or column, in the order of the inner dimension; signs of even and of odd ones change as asked.
fn line<const L: usize>(words: &[[u32; L]; 4], source: &Source, line: usize) -> [u16; SIDE] {
    std::array::from_fn(|k| {
        let word = words[k % 8 / 2][line + SIDE * (k / 8)];
        signed(source, k, half_word(u64::from(word >> (16 * (k % 2)))))
    })
}

/// Sums of products and an addend, in the order of the inner dimension, each step fused. Hardware does not specify the order.
fn sums<const L: usize>(
    wave: &Wave<L>,
    op: &Op<L>,
    start: impl Fn(usize, usize) -> f32,
    to_f32: impl Fn(u16) -> f32,
) -> [[f32; L]; ROWS] {
    let (a, b) = (registers::<L, 4>(wave, &op.sources[0]), registers::<L, 4>(wave, &op.sources[1]));
    let mut sums = [[0.0; L]; ROWS];
    for lane in 0..L.min(32) {
        let column = line(&b, &op.sources[1], lane % SIDE);
        for (element, row) in sums.iter_mut().enumerate() {
            let products = line(&a, &op.sources[0], element + ROWS * (lane / SIDE)).into_iter().zip(column);
            let start = addend(&op.sources[2], start(element, lane));
            row[lane] = products.fold(start, |sum, (x, y)| to_f32(x).mul_add(to_f32(y), sum));
        }
    }
    sums
}

/// D = A B + C in binary32.
fn accumulate<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, to_f32: impl Fn(u16) -> f32) {
    let c = registers::<L, 8>(wave, &op.sources[2]);
    let sums = sums(wave, op, |element, lane| f32::from_bits(c[element][lane]), to_f32);
    write(wave, op, &sums.map(|row| row.map(f32::to_bits)));
}

/// D = A B + C with 16-bit results, two in a register.
fn accumulate16<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    to_f32: impl Fn(u16) -> f32,
    from_f32: impl Fn(f32) -> u16,
) {
    let c = registers::<L, 4>(wave, &op.sources[2]);
    let start = |element: usize, lane: usize| {
        to_f32(half_word(u64::from(c[element / 2][lane] >> (16 * (element % 2)))))
    };
    let sums = sums(wave, op, start, &to_f32);
    let packed: [[u32; L]; 4] = std::array::from_fn(|register| {
        std::array::from_fn(|lane| {
            let [first, second] = [0, 1].map(|half| u32::from(from_f32(sums[2 * register + half][lane])));
            first | second << 16
        })
    });
    write(wave, op, &packed);
}

/// D = A B + C in integers of `width` bits, `WORDS` registers of them in a lane; `neg` of a source says that it is signed.
fn accumulate_integers<const L: usize, const WORDS: usize>(wave: &mut Wave<L>, op: &Op<L>, width: u32) {
    let (a, b) = (registers::<L, WORDS>(wave, &op.sources[0]), registers::<L, WORDS>(wave, &op.sources[1]));
    let c = registers::<L, 8>(wave, &op.sources[2]);
    let element = |word: u32, index: u32, signed: bool| {
        let top = word << (32 - width - width * index);
        if signed { i64::from(top.cast_signed() >> (32 - width)) } else { i64::from(top >> (32 - width)) }
    };
    let mut results = [[0; L]; ROWS];
    for lane in 0..L.min(32) {
        for (index, result) in results.iter_mut().enumerate() {
            let (row, column) = (index + ROWS * (lane / SIDE), lane % SIDE);
            let mut sum = i64::from(c[index][lane].cast_signed());
            for (half, word) in
                [0, SIDE].into_iter().flat_map(|half| (0..WORDS).map(move |word| (half, word)))
            {
                let (x, y) = (a[word][row + half], b[word][column + half]);
                sum += (0..32 / width)
                    .map(|at| element(x, at, op.sources[0].neg) * element(y, at, op.sources[1].neg))
                    .sum::<i64>();
            }
            let sum = if op.clamp { sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) } else { sum };
            result[lane] = low(sum.cast_unsigned());
        }
    }
    write(wave, op, &results);
}

instructions! {
    multiply(wave, op, environment) {
        "v_wmma_split_f32_16x16x16_f16" => accumulate(wave, op, |bits| F16(bits).to_f32());
        "v_wmma_split_f32_16x16x16_bf16" => accumulate(wave, op, bf16_to_f32);
        "v_wmma_split_f16_16x16x16_f16" => accumulate16(wave, op, |bits| F16(bits).to_f32(), |value| F16::from_f32(value).0);
        "v_wmma_split_bf16_16x16x16_bf16" => accumulate16(wave, op, bf16_to_f32, f32_to_bf16);
        "v_wmma_split_i32_16x16x16_iu8" => accumulate_integers::<L, 2>(wave, op, 8);
        "v_wmma_split_i32_16x16x16_iu4" => accumulate_integers::<L, 1>(wave, op, 4);
        "v_wmma_split_i32_16x16x32_iu4" => accumulate_integers::<L, 2>(wave, op, 4);
    }
}
