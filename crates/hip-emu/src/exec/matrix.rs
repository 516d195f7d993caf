//! Matrix operations of gfx11: 16x16x16, operands spread over the wave.
//!
//! Layout: lane `l` holds row `l % 16` of A and column `l % 16` of B, 16 elements in its registers; lanes 16 to 31
//! repeat them. Lane `l` holds column `l % 16` of C and D, register `i` row `2 i + l / 16`.

use crate::exec::{
    element::words,
    float::{F16, bf16_to_f32, f32_to_bf16, half_word},
    op::{Op, Source, Target},
    table::instructions,
    wave::{Wave, low},
};

pub(super) const SIDE: usize = 16;

/// The 32-bit words of a source, from its first register on; constants repeat.
pub(super) fn registers<const L: usize, const COUNT: usize>(
    wave: &Wave<L>,
    source: &Source,
) -> [[u32; L]; COUNT] {
    std::array::from_fn(|index| match source.vector() {
        Some(first) => *wave.row(first + index),
        None => words(wave, source),
    })
}

/// An addend: its magnitude, then its sign, as asked.
pub(super) fn addend(source: &Source, value: f32) -> f32 {
    let value = if source.neg_high { value.abs() } else { value };
    if source.neg { -value } else { value }
}

/// An element of a row or column: signs of even and of odd ones change as asked.
pub(super) const fn signed(source: &Source, k: usize, bits: u16) -> u16 {
    let negated = if k.is_multiple_of(2) { source.neg } else { source.neg_high };
    if negated { bits ^ 0x8000 } else { bits }
}

/// The 16 elements of row or column `line`, two in a word.
fn line16<const L: usize>(rows: &[[u32; L]; 8], source: &Source, line: usize) -> [u16; SIDE] {
    std::array::from_fn(|k| signed(source, k, half_word(u64::from(rows[k / 2][line] >> (16 * (k % 2))))))
}

/// D = A B + C in binary32; the sum of a row runs in order of k, each step fused. Hardware does not specify the order.
fn accumulate<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, to_f32: impl Fn(u16) -> f32) {
    let (a, b) = (registers::<L, 8>(wave, &op.sources[0]), registers::<L, 8>(wave, &op.sources[1]));
    let c = registers::<L, 8>(wave, &op.sources[2]);
    let mut results = [[0; L]; 8];
    for lane in 0..L.min(32) {
        let column = line16(&b, &op.sources[1], lane % SIDE);
        for (register, result) in results.iter_mut().enumerate() {
            let row = line16(&a, &op.sources[0], 2 * register + lane / SIDE);
            let start = addend(&op.sources[2], f32::from_bits(c[register][lane]));
            let sum = row.iter().zip(&column).fold(start, |sum, (&x, &y)| to_f32(x).mul_add(to_f32(y), sum));
            result[lane] = sum.to_bits();
        }
    }
    write(wave, op, &results);
}

/// D = A B + C with 16-bit results: `op_sel` of the addend chooses the half of each register.
fn accumulate16<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    to_f32: impl Fn(u16) -> f32,
    from_f32: impl Fn(f32) -> u16,
) {
    let (a, b) = (registers::<L, 8>(wave, &op.sources[0]), registers::<L, 8>(wave, &op.sources[1]));
    let c = registers::<L, 8>(wave, &op.sources[2]);
    let Target::Vector { first, .. } = op.target else { return };
    let shift = if op.sources[2].high { 16 } else { 0 };
    let mut results: [[u32; L]; 8] = std::array::from_fn(|register| *wave.row(usize::from(first) + register));
    for lane in 0..L.min(32) {
        let column = line16(&b, &op.sources[1], lane % SIDE);
        for (register, result) in results.iter_mut().enumerate() {
            let row = line16(&a, &op.sources[0], 2 * register + lane / SIDE);
            let start = addend(&op.sources[2], to_f32(half_word(u64::from(c[register][lane] >> shift))));
            let sum = row.iter().zip(&column).fold(start, |sum, (&x, &y)| to_f32(x).mul_add(to_f32(y), sum));
            result[lane] = result[lane] & !(0xffff << shift) | u32::from(from_f32(sum)) << shift;
        }
    }
    write(wave, op, &results);
}

/// D = A B + C in integers of `width` bits; `neg` of a source says that it is signed.
fn accumulate_integers<const L: usize, const WORDS: usize>(wave: &mut Wave<L>, op: &Op<L>, width: u32) {
    let (a, b) = (registers::<L, WORDS>(wave, &op.sources[0]), registers::<L, WORDS>(wave, &op.sources[1]));
    let c = registers::<L, 8>(wave, &op.sources[2]);
    let per_word = 32 / width;
    let element = |rows: &[[u32; L]; WORDS], line: usize, k: u32, signed: bool| {
        let word = rows.get(usize::try_from(k / per_word).unwrap_or(0)).map_or(0, |row| row[line]);
        let top = word << (32 - width - width * (k % per_word));
        if signed { i64::from(top.cast_signed() >> (32 - width)) } else { i64::from(top >> (32 - width)) }
    };
    let mut results = [[0; L]; 8];
    for lane in 0..L.min(32) {
        for (register, result) in results.iter_mut().enumerate() {
            let row = 2 * register + lane / SIDE;
            let products: i64 = (0..16)
                .map(|k| {
                    element(&a, row, k, op.sources[0].neg) * element(&b, lane % SIDE, k, op.sources[1].neg)
                })
                .sum();
            let sum = products + i64::from(c[register][lane].cast_signed());
            let sum = if op.clamp { sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) } else { sum };
            result[lane] = low(sum.cast_unsigned());
        }
    }
    write(wave, op, &results);
}

/// Matrix operations ignore EXEC.
pub(super) fn write<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, results: &[[u32; L]]) {
    let Target::Vector { first, .. } = op.target else { return };
    for (register, row) in results.iter().enumerate() {
        wave.write_row(usize::from(first) + register, row, Wave::<L>::all_lanes());
    }
}

instructions! {
    multiply(wave, op, environment) {
        "v_wmma_f32_16x16x16_f16" => accumulate(wave, op, |bits| F16(bits).to_f32());
        "v_wmma_f32_16x16x16_bf16" => accumulate(wave, op, bf16_to_f32);
        "v_wmma_f16_16x16x16_f16" => accumulate16(wave, op, |bits| F16(bits).to_f32(), |value| F16::from_f32(value).0);
        "v_wmma_bf16_16x16x16_bf16" => accumulate16(wave, op, bf16_to_f32, f32_to_bf16);
        "v_wmma_i32_16x16x16_iu8" => accumulate_integers::<L, 4>(wave, op, 8);
        "v_wmma_i32_16x16x16_iu4" => accumulate_integers::<L, 2>(wave, op, 4);
    }
}
