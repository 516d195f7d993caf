//! Operations whose low bits hardware does not specify: which ones ran, and what their results may have been instead.

use crate::Half;
use crate::exec::{
    environment::Environment,
    op::{Op, Target},
    wave::Wave,
};

/// What an operation writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Result {
    /// binary16, in half a register.
    Half,
    /// bfloat16, in half a register.
    Bfloat,
    /// binary32.
    Single,
    /// binary64.
    Double,
    /// A tile of binary32: so many registers.
    Singles(usize),
    /// A tile of binary64: so many pairs of registers.
    Doubles(usize),
    /// A tile of binary16 or of bfloat16: half of each of eight registers.
    Halves,
    Bfloats,
    /// The same, two in each of four registers.
    PackedHalves,
    PackedBfloats,
}

/// Mnemonics, what they write, and whether a result is at most one by the function's nature.
const APPROXIMATE: [(&str, Result, bool); COUNT] = [
    ("v_exp_f16", Result::Half, false),
    ("v_exp_f32", Result::Single, false),
    ("v_log_f16", Result::Half, false),
    ("v_log_f32", Result::Single, false),
    ("v_rcp_f16", Result::Half, false),
    ("v_rcp_f32", Result::Single, false),
    ("v_rcp_f64", Result::Double, false),
    ("v_rcp_iflag_f32", Result::Single, false),
    ("v_rsq_f16", Result::Half, false),
    ("v_rsq_f32", Result::Single, false),
    ("v_rsq_f64", Result::Double, false),
    ("v_sqrt_f16", Result::Half, false),
    ("v_sqrt_f32", Result::Single, false),
    ("v_sqrt_f64", Result::Double, false),
    ("v_sin_f16", Result::Half, true),
    ("v_sin_f32", Result::Single, true),
    ("v_cos_f16", Result::Half, true),
    ("v_cos_f32", Result::Single, true),
    ("v_dot2_bf16_bf16", Result::Bfloat, false),
    ("v_dot2_f16_f16", Result::Half, false),
    ("v_dot2_f32_bf16", Result::Single, false),
    ("v_dot2_f32_f16", Result::Single, false),
    ("v_dot2acc_f32_bf16", Result::Single, false),
    ("v_dot2acc_f32_f16", Result::Single, false),
    ("v_wmma_bf16_16x16x16_bf16", Result::Bfloats, false),
    ("v_wmma_f16_16x16x16_f16", Result::Halves, false),
    ("v_wmma_f32_16x16x16_bf16", Result::Singles(8), false),
    ("v_wmma_f32_16x16x16_f16", Result::Singles(8), false),
    ("v_wmma_split_bf16_16x16x16_bf16", Result::PackedBfloats, false),
    ("v_wmma_split_f16_16x16x16_f16", Result::PackedHalves, false),
    ("v_wmma_split_f32_16x16x16_bf16", Result::Singles(8), false),
    ("v_wmma_split_f32_16x16x16_f16", Result::Singles(8), false),
    ("v_mfma_f32_16x16x16bf16_1k", Result::Singles(4), false),
    ("v_mfma_f32_16x16x16f16", Result::Singles(4), false),
    ("v_mfma_f32_16x16x1f32", Result::Singles(16), false),
    ("v_mfma_f32_16x16x2bf16", Result::Singles(16), false),
    ("v_mfma_f32_16x16x4bf16_1k", Result::Singles(16), false),
    ("v_mfma_f32_16x16x4f16", Result::Singles(16), false),
    ("v_mfma_f32_16x16x4f32", Result::Singles(4), false),
    ("v_mfma_f32_16x16x8bf16", Result::Singles(4), false),
    ("v_mfma_f32_16x16x8xf32", Result::Singles(4), false),
    ("v_mfma_f32_32x32x1f32", Result::Singles(32), false),
    ("v_mfma_f32_32x32x2bf16", Result::Singles(32), false),
    ("v_mfma_f32_32x32x2f32", Result::Singles(16), false),
    ("v_mfma_f32_32x32x4bf16", Result::Singles(16), false),
    ("v_mfma_f32_32x32x4bf16_1k", Result::Singles(32), false),
    ("v_mfma_f32_32x32x4f16", Result::Singles(32), false),
    ("v_mfma_f32_32x32x4xf32", Result::Singles(16), false),
    ("v_mfma_f32_32x32x8bf16_1k", Result::Singles(16), false),
    ("v_mfma_f32_32x32x8f16", Result::Singles(16), false),
    ("v_mfma_f32_4x4x1f32", Result::Singles(4), false),
    ("v_mfma_f32_4x4x2bf16", Result::Singles(4), false),
    ("v_mfma_f32_4x4x4bf16_1k", Result::Singles(4), false),
    ("v_mfma_f32_4x4x4f16", Result::Singles(4), false),
    ("v_mfma_f64_16x16x4f64", Result::Doubles(4), false),
    ("v_mfma_f64_4x4x4f64", Result::Doubles(1), false),
    ("v_exp_legacy_f32", Result::Single, false),
    ("v_log_legacy_f32", Result::Single, false),
    ("v_dot4_f32_bf8_bf8", Result::Single, false),
    ("v_dot4_f32_bf8_fp8", Result::Single, false),
    ("v_dot4_f32_fp8_bf8", Result::Single, false),
    ("v_dot4_f32_fp8_fp8", Result::Single, false),
    ("v_wmma_split_f32_16x16x16_bf8_bf8", Result::Singles(8), false),
    ("v_wmma_split_f32_16x16x16_bf8_fp8", Result::Singles(8), false),
    ("v_wmma_split_f32_16x16x16_fp8_bf8", Result::Singles(8), false),
    ("v_wmma_split_f32_16x16x16_fp8_fp8", Result::Singles(8), false),
];

/// Operations in the table.
const COUNT: usize = 66;

/// What hardware calls an operation of the table.
fn printed(name: &'static str) -> &'static str {
    match name {
        "v_wmma_split_bf16_16x16x16_bf16" => "v_wmma_bf16_16x16x16_bf16",
        "v_wmma_split_f16_16x16x16_f16" => "v_wmma_f16_16x16x16_f16",
        "v_wmma_split_f32_16x16x16_bf16" => "v_wmma_f32_16x16x16_bf16",
        "v_wmma_split_f32_16x16x16_f16" => "v_wmma_f32_16x16x16_f16",
        "v_wmma_split_f32_16x16x16_bf8_bf8" => "v_wmma_f32_16x16x16_bf8_bf8",
        "v_wmma_split_f32_16x16x16_bf8_fp8" => "v_wmma_f32_16x16x16_bf8_fp8",
        "v_wmma_split_f32_16x16x16_fp8_bf8" => "v_wmma_f32_16x16x16_fp8_bf8",
        "v_wmma_split_f32_16x16x16_fp8_fp8" => "v_wmma_f32_16x16x16_fp8_fp8",
        _ => name,
    }
}

/// How often each operation of the table ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Executed([u64; COUNT]);

impl Default for Executed {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Executed {
    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// Those that ran, with their names.
    pub(super) fn named(&self) -> Vec<(&'static str, u64)> {
        let named = APPROXIMATE.iter().zip(self.0).map(|(&(name, ..), count)| (printed(name), count));
        named.filter(|&(_, count)| count > 0).collect()
    }
}

/// Makes an operation count itself and take part in perturbation, if it is one of these.
pub(super) fn watch<const L: usize>(op: &mut Op<L>, stem: &str) {
    let Some(index) = APPROXIMATE.iter().position(|&(name, ..)| name == stem) else { return };
    op.approximate = u8::try_from(index).unwrap_or(u8::MAX);
    op.plain = op.run;
    op.run = approximated::<L>;
}

/// Runs the operation, counts it and moves its results.
///
/// # Safety
///
/// As for the operation that is wrapped.
unsafe fn approximated<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, environment: &mut Environment<'_>) {
    // SAFETY: the contract is the caller's.
    unsafe { (op.plain)(wave, op, environment) };
    let index = usize::from(op.approximate);
    let (Some(count), Some(&(_, result, at_most_one))) =
        (environment.executed.0.get_mut(index), APPROXIMATE.get(index))
    else {
        return;
    };
    *count += 1;
    if environment.perturb != 0 {
        let seed = mixed(environment.perturb ^ mixed(index as u64 + 1));
        perturb(wave, op, result, &Perturbation { seed, at_most_one: at_most_one || op.clamp });
    }
}

/// How results are moved.
struct Perturbation {
    seed: u64,
    at_most_one: bool,
}

fn perturb<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, result: Result, how: &Perturbation) {
    let Target::Vector { first, half } = op.target else { return };
    let (first, mask) = (usize::from(first), wave.exec());
    // Tiles choose their half by their addend, and are written in all lanes.
    let tile_half = if op.sources[2].high { Half::High } else { Half::Low };
    match result {
        Result::Half => halves(wave, first, half, mask, |bits| how.moved(bits, BINARY16)),
        Result::Bfloat => halves(wave, first, half, mask, |bits| how.moved(bits, BFLOAT16)),
        Result::Single => words(wave, first, mask, |bits| how.moved(bits, BINARY32)),
        Result::Double => double(wave, first, mask, how),
        Result::Doubles(count) => {
            (0..count).for_each(|pair| double(wave, first + 2 * pair, Wave::<L>::all_lanes(), how));
        }
        Result::Singles(count) => {
            (first..first + count).for_each(|row| {
                words(wave, row, Wave::<L>::all_lanes(), |bits| how.moved(bits, BINARY32));
            });
        }
        Result::PackedHalves | Result::PackedBfloats => {
            let format = if result == Result::PackedHalves { BINARY16 } else { BFLOAT16 };
            for (row, half) in (first..first + 4).flat_map(|row| [(row, Half::Low), (row, Half::High)]) {
                halves(wave, row, half, Wave::<L>::all_lanes(), |bits| how.moved(bits, format));
            }
        }
        Result::Halves | Result::Bfloats => {
            let format = if result == Result::Halves { BINARY16 } else { BFLOAT16 };
            (first..first + 8).for_each(|row| {
                halves(wave, row, tile_half, Wave::<L>::all_lanes(), |bits| how.moved(bits, format));
            });
        }
    }
}

fn words<const L: usize>(wave: &mut Wave<L>, row: usize, mask: u64, f: impl Fn(u64) -> u64) {
    let moved = crate::exec::shape::each(*wave.row(row), |bits| crate::exec::wave::low(f(bits.into())));
    wave.write_row(row, &moved, mask);
}

fn double<const L: usize>(wave: &mut Wave<L>, first: usize, mask: u64, how: &Perturbation) {
    let (mut low, mut high) = (*wave.row(first), *wave.row(first + 1));
    for (low, high) in low.iter_mut().zip(&mut high) {
        let moved = how.moved(u64::from(*low) | u64::from(*high) << 32, BINARY64);
        (*low, *high) = (crate::exec::wave::low(moved), crate::exec::wave::low(moved >> 32));
    }
    wave.write_row(first, &low, mask);
    wave.write_row(first + 1, &high, mask);
}

fn halves<const L: usize>(wave: &mut Wave<L>, row: usize, half: Half, mask: u64, f: impl Fn(u64) -> u64) {
    let shift = if half == Half::High { 16 } else { 0 };
    words(wave, row, mask, |bits| bits & !(0xffff << shift) | f(bits >> shift & 0xffff) << shift);
}

/// A format by the bits of its fraction and its width.
#[derive(Clone, Copy)]
struct Layout {
    fraction: u32,
    width: u32,
}

const BINARY16: Layout = Layout { fraction: 10, width: 16 };
const BFLOAT16: Layout = Layout { fraction: 7, width: 16 };
const BINARY32: Layout = Layout { fraction: 23, width: 32 };
const BINARY64: Layout = Layout { fraction: 52, width: 64 };

impl Perturbation {
    /// The number, or the one before or after it, as the seed and its bits choose. Zeros, denormals, infinities and NaNs stay,
    /// and no number becomes one of those.
    fn moved(&self, bits: u64, Layout { fraction, width }: Layout) -> u64 {
        let sign = bits & 1 << (width - 1);
        let magnitude = bits ^ sign;
        let infinity = (1 << (width - 1)) - (1 << fraction);
        let one = (infinity >> (fraction + 1)) << fraction;
        let most = if self.at_most_one { one } else { infinity - 1 };
        let least = 1 << fraction;
        if !(least..=most).contains(&magnitude) {
            return bits;
        }
        let moved = match mixed(self.seed ^ bits) % 3 {
            0 => magnitude - 1,
            1 => magnitude,
            _ => magnitude + 1,
        };
        sign | moved.clamp(least, most)
    }
}

/// Bits that depend on all of `value` (S. Vigna's SplitMix64).
const fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
