//! What only gfx9 has: packed binary32, multiplications and additions that are rounded apart, moves of accumulation registers.

use crate::exec::{
    element::{Element, Float, scalar64, words},
    exact::{Exact, Rounding},
    float::{F16, exp2, flushed, log2},
    mode::Precision,
    op::{Op, Source, Target},
    shape::{each, lanes, map1, map2, map3},
    table::instructions,
    vector_float::{fused, product, sum},
    wave::{Wave, low},
};

/// The two words of a source; what is no register has them in its 64 bits.
#[inline(always)]
fn pair<const L: usize>(wave: &Wave<L>, source: &Source) -> [[u32; L]; 2] {
    match source.vector() {
        Some(first) => [*wave.row(first), *wave.row(first + 1)],
        None => {
            let bits = scalar64(wave, source.place);
            [[low(bits); L], [low(bits >> 32); L]]
        }
    }
}

/// The binary32 numbers that the low or the high result of a packed operation reads.
#[inline(always)]
fn chosen<const L: usize>(wave: &Wave<L>, source: &Source, high: bool) -> [f32; L] {
    let [lows, highs] = pair(wave, source);
    let (from_high, neg) =
        if high { (source.high_of_high, source.neg_high) } else { (source.high, source.neg) };
    let sign = if neg { 1 << 31 } else { 0 };
    let row = each(if from_high { highs } else { lows }, |bits| f32::from_bits(bits ^ sign));
    if wave.mode.flushes_input(Precision::Single) { each(row, flushed) } else { row }
}

/// One operation on two binary32 numbers in two registers.
#[inline(always)]
fn packed<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    fast: impl Fn(f32, f32, f32) -> f32,
    exact: fn(Exact, Exact, Exact, Rounding) -> Exact,
) {
    let Target::Vector { first, half } = op.target else { return };
    let (mask, rounding) = (wave.exec(), wave.mode.rounding(Precision::Single));
    let mut rows = [[0.0; L]; 2];
    for (high, row) in [false, true].into_iter().zip(&mut rows) {
        let (a, b) = (chosen(wave, &op.sources[0], high), chosen(wave, &op.sources[1], high));
        let c = chosen(wave, &op.sources[2], high);
        *row = match rounding {
            Rounding::NearestEven => lanes(|lane| fast(a[lane], b[lane], c[lane])),
            _ => lanes(|lane| {
                f32::rounded(exact(a[lane].exact(), b[lane].exact(), c[lane].exact(), rounding), rounding)
            }),
        };
        f32::finish(wave, op, row);
    }
    for (register, row) in (first..).zip(&rows) {
        f32::store(wave, Target::Vector { first: register, half }, row, mask);
    }
}

/// Two words, each chosen from one source.
#[inline(always)]
fn move_pair<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let Target::Vector { first, .. } = op.target else { return };
    let (first, mask) = (usize::from(first), wave.exec());
    let [a, b] = [0, 1].map(|index| pair(wave, &op.sources[index])[usize::from(op.sources[index].high)]);
    wave.write_row(first, &a, mask);
    wave.write_row(first + 1, &b, mask);
}

/// A product and then a sum, each rounded; denormals are zeros. `zero_wins` says that zero times anything is zero.
#[inline(always)]
fn unfused32<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, zero_wins: bool) {
    let rounding = wave.mode.rounding(Precision::Single);
    map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| {
        let (a, b, c) = (flushed(a), flushed(b), flushed(c));
        let times = if zero_wins && (a == 0.0 || b == 0.0) {
            0.0
        } else if rounding == Rounding::NearestEven {
            a * b
        } else {
            f32::rounded(product(a.exact(), b.exact(), rounding), rounding)
        };
        let times = flushed(times);
        flushed(if rounding == Rounding::NearestEven {
            times + c
        } else {
            f32::rounded(sum(times.exact(), c.exact(), rounding), rounding)
        })
    });
}

/// A product and then a sum of binary16, each rounded.
#[inline(always)]
fn unfused16<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (rounding, mode) = (wave.mode.rounding(Precision::HalfAndDouble), wave.mode);
    map3::<L, F16, F16, F16, F16>(wave, op, |a, b, c| {
        let times = F16::rounded(product(a.exact(), b.exact(), rounding), rounding);
        let times = if mode.flushes_output(Precision::HalfAndDouble) { Float::flushed(times) } else { times };
        F16::rounded(sum(times.exact(), c.exact(), rounding), rounding)
    });
}

instructions! {
    only(wave, op, environment) {
        "v_pk_fma_f32" => packed(wave, op, f32::mul_add, fused);
        "v_pk_mul_f32" => packed(wave, op, |a, b, _| a * b, |a, b, _, rounding| product(a, b, rounding));
        "v_pk_add_f32" => packed(wave, op, |a, b, _| a + b, |a, b, _, rounding| sum(a, b, rounding));
        "v_pk_mov_b32" => move_pair(wave, op);
        "v_mov_b64" => map1::<L, u64, u64>(wave, op, |a| a);
        "v_lshl_add_u64" => map3::<L, u64, u64, u32, u64>(wave, op, |a, b, c| (a << (b & 7)).wrapping_add(c));
        "v_accvgpr_read_b32" | "v_accvgpr_write_b32" | "v_accvgpr_mov_b32" => {
            let (row, mask) = (words(wave, &op.sources[0]), wave.exec());
            u32::store(wave, op.target, &row, mask);
        };
        "v_mad_f32" | "v_mac_f32" | "v_madmk_f32" | "v_madak_f32" => unfused32(wave, op, false);
        "v_mad_legacy_f32" => unfused32(wave, op, true);
        "v_mad_f16" | "v_mac_f16" | "v_madmk_f16" | "v_madak_f16" => unfused16(wave, op);
        "v_exp_legacy_f32" => map1::<L, f32, f32>(wave, op, exp2);
        "v_log_legacy_f32" => map1::<L, f32, f32>(wave, op, log2);
        "v_subrev_nc_u16" => map2::<L, u16, u16, u16>(wave, op, |a, b| if op.clamp { b.saturating_sub(a) } else { b.wrapping_sub(a) });
    }
}
