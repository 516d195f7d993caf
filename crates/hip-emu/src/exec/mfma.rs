//! Matrix operations of CDNA: D = A B + C, spread over the 64 lanes of a wave.
//!
//! Layouts, as AMD's matrix instruction calculator gives them, of matrices `[BLOCKS, SIDE, K]` times `[BLOCKS, K, SIDE]`: a
//! lane holds consecutive `k` of one row of A and of one column of B. Of C and D it holds one column, whose rows go to the
//! lanes of that column in groups of four; of binary64, one by one; of blocks of 4x4, each lane holds all four.

use crate::exec::{
    element::words,
    float::{F16, bf16_to_f32, flushed, half_word},
    lanes::unsupported,
    op::{Op, Source, Target},
    table::instructions,
    wave::{Wave, low},
};

/// Lanes of a wave.
const LANES: usize = 64;

/// Controls of an operation: the size of the groups of blocks that share one block of A, as a power of two, which block of the
/// group that is, and which lanes B is read from.
#[derive(Clone, Copy)]
struct Controls {
    shared: u8,
    block: u8,
    pattern: u8,
}

impl Controls {
    fn of<const L: usize>(op: &Op<L>) -> Self {
        let [shared, block, pattern, _] = op.immediate.to_le_bytes();
        Self { shared, block, pattern }
    }

    /// The block of A that is multiplied with a block of B.
    const fn block_of_a(self, block: usize) -> usize {
        (block >> self.shared << self.shared) + self.block as usize
    }

    /// The lane whose elements of B a lane uses.
    const fn lane_of_b(self, lane: usize) -> usize {
        match self.pattern {
            0 => lane,
            1 => lane % 32,
            2 => 32 + lane % 32,
            3 => (lane + 16) % LANES,
            quarter => 16 * (quarter as usize - 4) % LANES + lane % 16,
        }
    }
}

/// How an operation's controls are kept for its body: `None` where hardware does not specify what they do.
pub(super) fn controls(stem: &str, shared: u8, block: u8, pattern: u8) -> Option<i32> {
    let blocks = match stem.strip_prefix("v_mfma_")?.split_once('_')?.1 {
        shape if shape.starts_with("4x4") => 16,
        "32x32x1f32" | "32x32x4f16" | "32x32x2bf16" | "32x32x4bf16_1k" | "32x32x4i8" => 2,
        "16x16x1f32" | "16x16x4f16" | "16x16x2bf16" | "16x16x4bf16_1k" | "16x16x4i8" => 4,
        _ => 1,
    };
    let plain = shared == 0 && block == 0;
    let known = if stem.starts_with("v_mfma_f64") {
        plain
    } else {
        shared < 5 && 1 << shared <= blocks && block < 1 << shared && pattern < 8
    };
    known.then_some(i32::from_le_bytes([shared, block, pattern, 0]))
}

/// The word of a source that its `index`th register holds in a lane.
#[inline(always)]
fn word<const L: usize>(wave: &Wave<L>, source: &Source, index: usize, lane: usize) -> u32 {
    match source.vector() {
        Some(first) => wave.row(first + index).get(lane).copied().unwrap_or(0),
        None => words(wave, source).first().copied().unwrap_or(0),
    }
}

/// Where an element of a row of A or of a column of B lies: its lane, and its place among the lane's elements.
const fn place<const SIDE: usize, const K: usize, const BLOCKS: usize>(
    block: usize,
    line: usize,
    k: usize,
) -> (usize, usize) {
    let held = SIDE * K * BLOCKS / LANES;
    (line + SIDE * (block * (K / held) + k / held), k % held)
}

/// Where an element of C and D lies: its lane, and its place among the lane's elements.
const fn result_place<const SIDE: usize>(block: usize, row: usize, column: usize) -> (usize, usize) {
    if SIDE == 4 {
        return (4 * block + column, row);
    }
    let (group, groups) = (row / 4, LANES / SIDE);
    (column + SIDE * (group % groups), block * (SIDE * SIDE / LANES) + 4 * (group / groups) + row % 4)
}

/// D = A B + C in words: elements of A and B are `width` bits wide, and each column's sum runs in order of `k`.
#[inline(always)]
fn multiply<const L: usize, const SIDE: usize, const K: usize, const BLOCKS: usize, T: Copy + Default>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    width: usize,
    read: impl Fn(u32) -> T,
    (from_word, to_word): (impl Fn(u32) -> T, impl Fn(T) -> u32),
    add_product: impl Fn(T, T, T) -> T,
) {
    let Target::Vector { first, .. } = op.target else { return };
    if L != LANES {
        return unsupported(wave);
    }
    let controls = Controls::of(op);
    let element = |source: &Source, wave: &Wave<L>, lane: usize, index: usize| {
        let bit = width * index;
        read(word(wave, source, bit / 32, lane) >> (bit % 32))
    };
    let mut results = [[0; L]; 32];
    for block in 0..BLOCKS {
        let (mut a, mut b) = ([[T::default(); K]; SIDE], [[T::default(); SIDE]; K]);
        for line in 0..SIDE {
            for k in 0..K {
                let (lane, index) = place::<SIDE, K, BLOCKS>(controls.block_of_a(block), line, k);
                a[line][k] = element(&op.sources[0], wave, lane, index);
                let (lane, index) = place::<SIDE, K, BLOCKS>(block, line, k);
                b[k][line] = element(&op.sources[1], wave, controls.lane_of_b(lane), index);
            }
        }
        for (row, factors) in a.iter().enumerate() {
            let mut sums = [T::default(); SIDE];
            for (column, sum) in sums.iter_mut().enumerate() {
                let (lane, register) = result_place::<SIDE>(block, row, column);
                *sum = from_word(word(wave, &op.sources[2], register, lane));
            }
            for (&factor, others) in factors.iter().zip(&b) {
                for (sum, &other) in sums.iter_mut().zip(others) {
                    *sum = add_product(factor, other, *sum);
                }
            }
            for (column, &sum) in sums.iter().enumerate() {
                let (lane, register) = result_place::<SIDE>(block, row, column);
                put(&mut results, register, lane, to_word(sum));
            }
        }
    }
    for (register, row) in results.iter().enumerate().take(SIDE * SIDE * BLOCKS / LANES) {
        // Matrix operations ignore EXEC.
        wave.write_row(usize::from(first) + register, row, Wave::<L>::all_lanes());
    }
}

/// Products in binary32. Hardware does not specify the order of the sums. `op.flags` says that denormals are zeros.
#[inline(always)]
fn floats<const L: usize, const SIDE: usize, const K: usize, const BLOCKS: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    width: usize,
    read: impl Fn(u32) -> f32,
) {
    let step = |a: f32, b: f32, sum: f32| a.mul_add(b, sum);
    let words = (f32::from_bits, f32::to_bits);
    multiply::<L, SIDE, K, BLOCKS, f32>(wave, op, width, read, words, step);
}

#[inline(always)]
fn single<const L: usize, const SIDE: usize, const K: usize, const BLOCKS: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
) {
    floats::<L, SIDE, K, BLOCKS>(wave, op, 32, f32::from_bits);
}

/// binary32 of which ten bits of the fraction are kept.
#[inline(always)]
fn short_single<const L: usize, const SIDE: usize, const K: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    const DROPPED: u32 = 13;
    floats::<L, SIDE, K, 1>(wave, op, 32, |bits| {
        let value = f32::from_bits(bits);
        let even = (bits >> DROPPED & 1) + (1 << (DROPPED - 1)) - 1;
        if value.is_finite() { f32::from_bits((bits + even) >> DROPPED << DROPPED) } else { value }
    });
}

/// 16-bit floats. CDNA2 takes denormal operands for zeros, and makes zeros of denormal results.
#[inline(always)]
fn halves<const L: usize, const SIDE: usize, const K: usize, const BLOCKS: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    to_f32: impl Fn(u16) -> f32,
    least: f32,
) {
    let read = |bits: u32| to_f32(half_word(u64::from(bits)));
    if op.flags & FLUSHES == 0 {
        return floats::<L, SIDE, K, BLOCKS>(wave, op, 16, read);
    }
    let words = (|bits| flushed(f32::from_bits(bits)), |value| flushed(value).to_bits());
    let step = |a: f32, b: f32, sum: f32| a.mul_add(b, sum);
    let flushing = |bits| {
        let value = read(bits);
        if value.abs() < least { 0.0_f32.copysign(value) } else { value }
    };
    multiply::<L, SIDE, K, BLOCKS, f32>(wave, op, 16, flushing, words, step);
}

/// Flag of an operation that takes denormals for zeros.
pub(super) const FLUSHES: u8 = 1;

#[inline(always)]
fn binary16<const L: usize, const SIDE: usize, const K: usize, const BLOCKS: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
) {
    halves::<L, SIDE, K, BLOCKS>(wave, op, |bits| F16(bits).to_f32(), F16(0x0400).to_f32());
}

#[inline(always)]
fn bfloat16<const L: usize, const SIDE: usize, const K: usize, const BLOCKS: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
) {
    halves::<L, SIDE, K, BLOCKS>(wave, op, bf16_to_f32, f32::MIN_POSITIVE);
}

#[inline(always)]
fn bytes<const L: usize, const SIDE: usize, const K: usize, const BLOCKS: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
) {
    let read = |bits: u32| i32::from(bits.to_le_bytes()[0].cast_signed());
    let words = (u32::cast_signed, i32::cast_unsigned);
    multiply::<L, SIDE, K, BLOCKS, i32>(wave, op, 8, read, words, |a, b, sum| {
        sum.wrapping_add(a.wrapping_mul(b))
    });
}

/// Sets a lane of a result.
#[inline(always)]
fn put<const L: usize>(results: &mut [[u32; L]], register: usize, lane: usize, word: u32) {
    if let Some(place) = results.get_mut(register).and_then(|row| row.get_mut(lane)) {
        *place = word;
    }
}

/// binary64 of 16x16x4, or of four blocks of 4x4x4, whose lines lie side by side. Signs are changed as the sources say.
#[inline(always)]
fn doubles<const L: usize, const BLOCKS: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let Target::Vector { first, .. } = op.target else { return };
    if L != LANES {
        return unsupported(wave);
    }
    let read = |wave: &Wave<L>, index: usize, element: usize, lane: usize| {
        let source = &op.sources[index];
        let bits = match source.vector() {
            Some(_) => {
                let [low, high] = [0, 1].map(|half| word(wave, source, 2 * element + half, lane));
                u64::from(low) | u64::from(high) << 32
            }
            None => crate::exec::element::scalar64(wave, source.place),
        };
        let value = f64::from_bits(bits);
        if source.neg { -value } else { value }
    };
    let side = 16 / BLOCKS;
    let mut results = [[0; L]; 8];
    for lane in 0..LANES {
        let (column, group) = (lane % 16, lane / 16);
        for element in 0..4 / BLOCKS {
            // The line of A as if the blocks were one matrix.
            let row = if BLOCKS == 1 { 4 * element + group } else { column / side * side + group };
            let start = read(wave, 2, element, lane);
            let sum = (0..4).fold(start, |sum, k| {
                read(wave, 0, 0, row + 16 * k).mul_add(read(wave, 1, 0, column + 16 * k), sum)
            });
            let [low, high] = [0, 32].map(|shift| low(sum.to_bits() >> shift));
            put(&mut results, 2 * element, lane, low);
            put(&mut results, 2 * element + 1, lane, high);
        }
    }
    for (register, row) in results.iter().enumerate().take(8 / BLOCKS) {
        wave.write_row(usize::from(first) + register, row, Wave::<L>::all_lanes());
    }
}

instructions! {
    blocks(wave, op, environment) {
        "v_mfma_f32_32x32x1f32" => single::<L, 32, 1, 2>(wave, op);
        "v_mfma_f32_16x16x1f32" => single::<L, 16, 1, 4>(wave, op);
        "v_mfma_f32_4x4x1f32" => single::<L, 4, 1, 16>(wave, op);
        "v_mfma_f32_32x32x2f32" => single::<L, 32, 2, 1>(wave, op);
        "v_mfma_f32_16x16x4f32" => single::<L, 16, 4, 1>(wave, op);
        "v_mfma_f32_16x16x8xf32" => short_single::<L, 16, 8>(wave, op);
        "v_mfma_f32_32x32x4xf32" => short_single::<L, 32, 4>(wave, op);
        "v_mfma_f32_32x32x4f16" => binary16::<L, 32, 4, 2>(wave, op);
        "v_mfma_f32_16x16x4f16" => binary16::<L, 16, 4, 4>(wave, op);
        "v_mfma_f32_4x4x4f16" => binary16::<L, 4, 4, 16>(wave, op);
        "v_mfma_f32_32x32x8f16" => binary16::<L, 32, 8, 1>(wave, op);
        "v_mfma_f32_16x16x16f16" => binary16::<L, 16, 16, 1>(wave, op);
        "v_mfma_f32_32x32x2bf16" => bfloat16::<L, 32, 2, 2>(wave, op);
        "v_mfma_f32_16x16x2bf16" => bfloat16::<L, 16, 2, 4>(wave, op);
        "v_mfma_f32_4x4x2bf16" => bfloat16::<L, 4, 2, 16>(wave, op);
        "v_mfma_f32_32x32x4bf16" => bfloat16::<L, 32, 4, 1>(wave, op);
        "v_mfma_f32_16x16x8bf16" => bfloat16::<L, 16, 8, 1>(wave, op);
        "v_mfma_f32_32x32x4bf16_1k" => bfloat16::<L, 32, 4, 2>(wave, op);
        "v_mfma_f32_16x16x4bf16_1k" => bfloat16::<L, 16, 4, 4>(wave, op);
        "v_mfma_f32_4x4x4bf16_1k" => bfloat16::<L, 4, 4, 16>(wave, op);
        "v_mfma_f32_32x32x8bf16_1k" => bfloat16::<L, 32, 8, 1>(wave, op);
        "v_mfma_f32_16x16x16bf16_1k" => bfloat16::<L, 16, 16, 1>(wave, op);
        "v_mfma_i32_32x32x4i8" => bytes::<L, 32, 4, 2>(wave, op);
        "v_mfma_i32_16x16x4i8" => bytes::<L, 16, 4, 4>(wave, op);
        "v_mfma_i32_4x4x4i8" => bytes::<L, 4, 4, 16>(wave, op);
        "v_mfma_i32_32x32x8i8" => bytes::<L, 32, 8, 1>(wave, op);
        "v_mfma_i32_16x16x16i8" => bytes::<L, 16, 16, 1>(wave, op);
        "v_mfma_i32_32x32x16i8" => bytes::<L, 32, 16, 1>(wave, op);
        "v_mfma_i32_16x16x32i8" => bytes::<L, 16, 32, 1>(wave, op);
        "v_mfma_f64_16x16x4f64" => doubles::<L, 1>(wave, op);
        "v_mfma_f64_4x4x4f64" => doubles::<L, 4>(wave, op);
    }
}
