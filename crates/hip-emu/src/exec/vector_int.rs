//! Vector operations on integers and bits.

use crate::exec::{
    float::half_word,
    shape::{carry, compare, map1, map2, map3},
    table::instructions,
    wave::low,
};

const fn sext24(x: u32) -> i32 {
    (x << 8).cast_signed() >> 8
}

const fn low24(x: u32) -> u32 {
    x & 0x00ff_ffff
}

fn median<T: Ord + Copy>(a: T, b: T, c: T) -> T {
    a.min(b).max(a.max(b).min(c))
}

/// Sum of the absolute differences of four bytes.
pub(super) const fn sad8(a: u32, b: u32, c: u32) -> u32 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    c.wrapping_add(a[0].abs_diff(b[0]) as u32)
        .wrapping_add(a[1].abs_diff(b[1]) as u32)
        .wrapping_add(a[2].abs_diff(b[2]) as u32)
        .wrapping_add(a[3].abs_diff(b[3]) as u32)
}

/// As `sad8`, without the bytes that are zero in the reference.
pub(super) fn msad8(a: u32, b: u32, c: u32) -> u32 {
    let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    pairs.filter(|&(_, b)| b != 0).fold(c, |sum, (a, b)| sum.wrapping_add(u32::from(a.abs_diff(b))))
}

/// Sum of the absolute differences of two words.
fn sad16(a: u32, b: u32, c: u32) -> u32 {
    let (low, high) = ((a & 0xffff).abs_diff(b & 0xffff), (a >> 16).abs_diff(b >> 16));
    c.wrapping_add(low).wrapping_add(high)
}

/// Bytes chosen among eight; 8 to 11 repeat a sign, 12 is zero, above that all ones.
fn permute(a: u32, b: u32, selectors: u32) -> u32 {
    let bytes = (u64::from(a) << 32 | u64::from(b)).to_le_bytes();
    let sign = |at: usize| if bytes.get(at).is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
    u32::from_le_bytes(selectors.to_le_bytes().map(|selector| match selector {
        0..8 => bytes[usize::from(selector)],
        8 => sign(1),
        9 => sign(3),
        10 => sign(5),
        11 => sign(7),
        12 => 0,
        _ => 0xff,
    }))
}

/// Leading bits equal to the sign, less one; -1 where all are.
fn leading_signs(x: i32) -> i32 {
    let count = if x < 0 { x.leading_ones() } else { x.leading_zeros() };
    if count == 32 { -1 } else { count.cast_signed() }
}

fn lerp(a: u32, b: u32, c: u32) -> u32 {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    u32::from_le_bytes(std::array::from_fn(|at| {
        let sum = u16::from(a[at]) + u16::from(b[at]) + u16::from(c[at] & 1);
        u8::try_from(sum >> 1).unwrap_or(u8::MAX)
    }))
}

fn saturate8(x: u32) -> u8 {
    u8::try_from(half_word(u64::from(x)).cast_signed().clamp(0, 255)).unwrap_or(0)
}

const fn bit_field(x: u32, offset: u32, width: u32) -> u32 {
    let (offset, width) = (offset & 31, width & 31);
    x >> offset & ((1 << width) - 1)
}

const fn bit_field_signed(x: i32, offset: u32, width: u32) -> i32 {
    let (offset, width) = (offset & 31, width & 31);
    if width == 0 {
        return 0;
    }
    let above = 32_u32.saturating_sub(offset + width);
    (x << above) >> (32 - width)
}

instructions! {
    /// Sums, products, shifts and the like.
    arithmetic(wave, op, environment) {
        "v_add_nc_u32" => { let clamp = op.clamp; map2::<L, u32, u32, u32>(wave, op, |a, b| if clamp { a.saturating_add(b) } else { a.wrapping_add(b) }) };
        "v_sub_nc_u32" => { let clamp = op.clamp; map2::<L, u32, u32, u32>(wave, op, |a, b| if clamp { a.saturating_sub(b) } else { a.wrapping_sub(b) }) };
        "v_subrev_nc_u32" => { let clamp = op.clamp; map2::<L, u32, u32, u32>(wave, op, |a, b| if clamp { b.saturating_sub(a) } else { b.wrapping_sub(a) }) };
        "v_add_nc_i32" => { let clamp = op.clamp; map2::<L, i32, i32, i32>(wave, op, |a, b| if clamp { a.saturating_add(b) } else { a.wrapping_add(b) }) };
        "v_sub_nc_i32" => { let clamp = op.clamp; map2::<L, i32, i32, i32>(wave, op, |a, b| if clamp { a.saturating_sub(b) } else { a.wrapping_sub(b) }) };
        "v_add_nc_u16" => { let clamp = op.clamp; map2::<L, u16, u16, u16>(wave, op, |a, b| if clamp { a.saturating_add(b) } else { a.wrapping_add(b) }) };
        "v_sub_nc_u16" => { let clamp = op.clamp; map2::<L, u16, u16, u16>(wave, op, |a, b| if clamp { a.saturating_sub(b) } else { a.wrapping_sub(b) }) };
        "v_add_nc_i16" => { let clamp = op.clamp; map2::<L, i16, i16, i16>(wave, op, |a, b| if clamp { a.saturating_add(b) } else { a.wrapping_add(b) }) };
        "v_sub_nc_i16" => { let clamp = op.clamp; map2::<L, i16, i16, i16>(wave, op, |a, b| if clamp { a.saturating_sub(b) } else { a.wrapping_sub(b) }) };
        "v_add_co_u32" => carry::<L, false>(wave, op, |a, b, _| a.overflowing_add(b));
        "v_sub_co_u32" => carry::<L, false>(wave, op, |a, b, _| a.overflowing_sub(b));
        "v_subrev_co_u32" => carry::<L, false>(wave, op, |a, b, _| b.overflowing_sub(a));
        "v_add_co_ci_u32" => carry::<L, true>(wave, op, |a, b, c| { let sum = u64::from(a) + u64::from(b) + u64::from(c); (low(sum), sum >> 32 != 0) });
        "v_sub_co_ci_u32" => carry::<L, true>(wave, op, |a, b, c| (a.wrapping_sub(b).wrapping_sub(c), u64::from(b) + u64::from(c) > u64::from(a)));
        "v_subrev_co_ci_u32" => carry::<L, true>(wave, op, |a, b, c| (b.wrapping_sub(a).wrapping_sub(c), u64::from(a) + u64::from(c) > u64::from(b)));
        "v_add3_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a.wrapping_add(b).wrapping_add(c));
        "v_xad_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| (a ^ b).wrapping_add(c));
        "v_lshl_add_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| (a << (b & 31)).wrapping_add(c));
        "v_add_lshl_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a.wrapping_add(b) << (c & 31));
        "v_lshl_or_b32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a << (b & 31) | c);
        "v_mul_lo_u32" => map2::<L, u32, u32, u32>(wave, op, u32::wrapping_mul);
        "v_mul_hi_u32" => map2::<L, u32, u32, u32>(wave, op, |a, b| low((u64::from(a) * u64::from(b)) >> 32));
        "v_mul_hi_i32" => map2::<L, u32, i32, i32>(wave, op, |a, b| low((i64::from(a) * i64::from(b)).cast_unsigned() >> 32));
        "v_mul_u32_u24" => map2::<L, u32, u32, u32>(wave, op, |a, b| low24(a).wrapping_mul(low24(b)));
        "v_mul_i32_i24" => map2::<L, i32, u32, u32>(wave, op, |a, b| sext24(a).wrapping_mul(sext24(b)));
        "v_mul_hi_u32_u24" => map2::<L, u32, u32, u32>(wave, op, |a, b| low((u64::from(low24(a)) * u64::from(low24(b))) >> 32));
        "v_mul_hi_i32_i24" => map2::<L, u32, u32, u32>(wave, op, |a, b| low((i64::from(sext24(a)) * i64::from(sext24(b))).cast_unsigned() >> 32));
        "v_mad_u32_u24" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| low24(a).wrapping_mul(low24(b)).wrapping_add(c));
        "v_mad_i32_i24" => map3::<L, i32, u32, u32, i32>(wave, op, |a, b, c| sext24(a).wrapping_mul(sext24(b)).wrapping_add(c));
        "v_mad_u32_u16" => map3::<L, u32, u16, u16, u32>(wave, op, |a, b, c| (u32::from(a) * u32::from(b)).wrapping_add(c));
        "v_mad_i32_i16" => map3::<L, i32, i16, i16, i32>(wave, op, |a, b, c| (i32::from(a) * i32::from(b)).wrapping_add(c));
        "v_mad_u16" => map3::<L, u16, u16, u16, u16>(wave, op, |a, b, c| a.wrapping_mul(b).wrapping_add(c));
        "v_mad_i16" => map3::<L, i16, i16, i16, i16>(wave, op, |a, b, c| a.wrapping_mul(b).wrapping_add(c));
        "v_mul_lo_u16" => map2::<L, u16, u16, u16>(wave, op, u16::wrapping_mul);
        "v_lshlrev_b32" => map2::<L, u32, u32, u32>(wave, op, |a, b| b << (a & 31));
        "v_lshrrev_b32" => map2::<L, u32, u32, u32>(wave, op, |a, b| b >> (a & 31));
        "v_ashrrev_i32" => map2::<L, i32, u32, i32>(wave, op, |a, b| b >> (a & 31));
        "v_lshlrev_b16" => map2::<L, u16, u16, u16>(wave, op, |a, b| b << (a & 15));
        "v_lshrrev_b16" => map2::<L, u16, u16, u16>(wave, op, |a, b| b >> (a & 15));
        "v_ashrrev_i16" => map2::<L, i16, u16, i16>(wave, op, |a, b| b >> (a & 15));
        "v_lshlrev_b64" => map2::<L, u64, u32, u64>(wave, op, |a, b| b << (a & 63));
        "v_lshrrev_b64" => map2::<L, u64, u32, u64>(wave, op, |a, b| b >> (a & 63));
        "v_ashrrev_i64" => map2::<L, i64, u32, i64>(wave, op, |a, b| b >> (a & 63));
        "v_min_u32" => map2::<L, u32, u32, u32>(wave, op, u32::min);
        "v_max_u32" => map2::<L, u32, u32, u32>(wave, op, u32::max);
        "v_min_i32" => map2::<L, i32, i32, i32>(wave, op, i32::min);
        "v_max_i32" => map2::<L, i32, i32, i32>(wave, op, i32::max);
        "v_min_u16" => map2::<L, u16, u16, u16>(wave, op, u16::min);
        "v_max_u16" => map2::<L, u16, u16, u16>(wave, op, u16::max);
        "v_min_i16" => map2::<L, i16, i16, i16>(wave, op, i16::min);
        "v_max_i16" => map2::<L, i16, i16, i16>(wave, op, i16::max);
        "v_min3_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a.min(b).min(c));
        "v_max3_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a.max(b).max(c));
        "v_med3_u32" => map3::<L, u32, u32, u32, u32>(wave, op, median);
        "v_min3_i32" => map3::<L, i32, i32, i32, i32>(wave, op, |a, b, c| a.min(b).min(c));
        "v_max3_i32" => map3::<L, i32, i32, i32, i32>(wave, op, |a, b, c| a.max(b).max(c));
        "v_med3_i32" => map3::<L, i32, i32, i32, i32>(wave, op, median);
        "v_min3_u16" => map3::<L, u16, u16, u16, u16>(wave, op, |a, b, c| a.min(b).min(c));
        "v_max3_u16" => map3::<L, u16, u16, u16, u16>(wave, op, |a, b, c| a.max(b).max(c));
        "v_med3_u16" => map3::<L, u16, u16, u16, u16>(wave, op, median);
        "v_min3_i16" => map3::<L, i16, i16, i16, i16>(wave, op, |a, b, c| a.min(b).min(c));
        "v_max3_i16" => map3::<L, i16, i16, i16, i16>(wave, op, |a, b, c| a.max(b).max(c));
        "v_med3_i16" => map3::<L, i16, i16, i16, i16>(wave, op, median);
        "v_minmax_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a.min(b).max(c));
        "v_maxmin_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a.max(b).min(c));
        "v_minmax_i32" => map3::<L, i32, i32, i32, i32>(wave, op, |a, b, c| a.min(b).max(c));
        "v_maxmin_i32" => map3::<L, i32, i32, i32, i32>(wave, op, |a, b, c| a.max(b).min(c));
        "v_sad_u8" => map3::<L, u32, u32, u32, u32>(wave, op, sad8);
        "v_sad_hi_u8" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| (sad8(a, b, 0) << 16).wrapping_add(c));
        "v_msad_u8" => map3::<L, u32, u32, u32, u32>(wave, op, msad8);
        "v_sad_u16" => map3::<L, u32, u32, u32, u32>(wave, op, sad16);
        "v_sad_u32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a.abs_diff(b).wrapping_add(c));
        "v_lerp_u8" => map3::<L, u32, u32, u32, u32>(wave, op, lerp);
    }
}

instructions! {
    /// Bits.
    bits(wave, op, environment) {
        "v_mov_b32" => map1::<L, u32, u32>(wave, op, |a| a);
        "v_mov_b16" => map1::<L, u16, u16>(wave, op, |a| a);
        "v_not_b32" => map1::<L, u32, u32>(wave, op, |a| !a);
        "v_not_b16" => map1::<L, u16, u16>(wave, op, |a| !a);
        "v_bfrev_b32" => map1::<L, u32, u32>(wave, op, u32::reverse_bits);
        "v_clz_i32_u32" => map1::<L, i32, u32>(wave, op, |a| if a == 0 { -1 } else { a.leading_zeros().cast_signed() });
        "v_ctz_i32_b32" => map1::<L, i32, u32>(wave, op, |a| if a == 0 { -1 } else { a.trailing_zeros().cast_signed() });
        "v_cls_i32" => map1::<L, i32, i32>(wave, op, leading_signs);
        "v_sat_pk_u8_i16" => map1::<L, u16, u32>(wave, op, |a| u16::from_le_bytes([saturate8(a), saturate8(a >> 16)]));
        "v_and_b32" => map2::<L, u32, u32, u32>(wave, op, |a, b| a & b);
        "v_or_b32" => map2::<L, u32, u32, u32>(wave, op, |a, b| a | b);
        "v_xor_b32" => map2::<L, u32, u32, u32>(wave, op, |a, b| a ^ b);
        "v_xnor_b32" => map2::<L, u32, u32, u32>(wave, op, |a, b| !(a ^ b));
        "v_and_b16" => map2::<L, u16, u16, u16>(wave, op, |a, b| a & b);
        "v_or_b16" => map2::<L, u16, u16, u16>(wave, op, |a, b| a | b);
        "v_xor_b16" => map2::<L, u16, u16, u16>(wave, op, |a, b| a ^ b);
        "v_bfm_b32" => map2::<L, u32, u32, u32>(wave, op, |a, b| ((1 << (a & 31)) - 1) << (b & 31));
        "v_bcnt_u32_b32" => map2::<L, u32, u32, u32>(wave, op, |a, b| a.count_ones().wrapping_add(b));
        "v_and_or_b32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a & b | c);
        "v_or3_b32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a | b | c);
        "v_xor3_b32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a ^ b ^ c);
        "v_bfi_b32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| a & b | !a & c);
        "v_bfe_u32" => map3::<L, u32, u32, u32, u32>(wave, op, bit_field);
        "v_bfe_i32" => map3::<L, i32, i32, u32, u32>(wave, op, bit_field_signed);
        "v_alignbit_b32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| low((u64::from(a) << 32 | u64::from(b)) >> (c & 31)));
        "v_alignbyte_b32" => map3::<L, u32, u32, u32, u32>(wave, op, |a, b, c| low((u64::from(a) << 32 | u64::from(b)) >> (8 * (c & 3))));
        "v_perm_b32" => map3::<L, u32, u32, u32, u32>(wave, op, permute);
    }
}

macro_rules! comparisons {
    ($name:ident, $type:ty, $($mnemonic:literal, $exec:literal => $test:expr;)*) => {
        instructions! {
            $name(wave, op, environment) {
                $($mnemonic | $exec => compare::<L, $type, $type>(wave, op, $test);)*
            }
        }
    };
}

comparisons! { compare_i32, i32,
    "v_cmp_f_i32", "v_cmpx_f_i32" => |_, _| false;
    "v_cmp_lt_i32", "v_cmpx_lt_i32" => |a, b| a < b;
    "v_cmp_eq_i32", "v_cmpx_eq_i32" => |a, b| a == b;
    "v_cmp_le_i32", "v_cmpx_le_i32" => |a, b| a <= b;
    "v_cmp_gt_i32", "v_cmpx_gt_i32" => |a, b| a > b;
    "v_cmp_ne_i32", "v_cmpx_ne_i32" => |a, b| a != b;
    "v_cmp_ge_i32", "v_cmpx_ge_i32" => |a, b| a >= b;
    "v_cmp_t_i32", "v_cmpx_t_i32" => |_, _| true;
}

comparisons! { compare_u32, u32,
    "v_cmp_f_u32", "v_cmpx_f_u32" => |_, _| false;
    "v_cmp_lt_u32", "v_cmpx_lt_u32" => |a, b| a < b;
    "v_cmp_eq_u32", "v_cmpx_eq_u32" => |a, b| a == b;
    "v_cmp_le_u32", "v_cmpx_le_u32" => |a, b| a <= b;
    "v_cmp_gt_u32", "v_cmpx_gt_u32" => |a, b| a > b;
    "v_cmp_ne_u32", "v_cmpx_ne_u32" => |a, b| a != b;
    "v_cmp_ge_u32", "v_cmpx_ge_u32" => |a, b| a >= b;
    "v_cmp_t_u32", "v_cmpx_t_u32" => |_, _| true;
}

comparisons! { compare_i64, i64,
    "v_cmp_f_i64", "v_cmpx_f_i64" => |_, _| false;
    "v_cmp_lt_i64", "v_cmpx_lt_i64" => |a, b| a < b;
    "v_cmp_eq_i64", "v_cmpx_eq_i64" => |a, b| a == b;
    "v_cmp_le_i64", "v_cmpx_le_i64" => |a, b| a <= b;
    "v_cmp_gt_i64", "v_cmpx_gt_i64" => |a, b| a > b;
    "v_cmp_ne_i64", "v_cmpx_ne_i64" => |a, b| a != b;
    "v_cmp_ge_i64", "v_cmpx_ge_i64" => |a, b| a >= b;
    "v_cmp_t_i64", "v_cmpx_t_i64" => |_, _| true;
}

comparisons! { compare_u64, u64,
    "v_cmp_f_u64", "v_cmpx_f_u64" => |_, _| false;
    "v_cmp_lt_u64", "v_cmpx_lt_u64" => |a, b| a < b;
    "v_cmp_eq_u64", "v_cmpx_eq_u64" => |a, b| a == b;
    "v_cmp_le_u64", "v_cmpx_le_u64" => |a, b| a <= b;
    "v_cmp_gt_u64", "v_cmpx_gt_u64" => |a, b| a > b;
    "v_cmp_ne_u64", "v_cmpx_ne_u64" => |a, b| a != b;
    "v_cmp_ge_u64", "v_cmpx_ge_u64" => |a, b| a >= b;
    "v_cmp_t_u64", "v_cmpx_t_u64" => |_, _| true;
}

comparisons! { compare_i16, i16,
    "v_cmp_f_i16", "v_cmpx_f_i16" => |_, _| false;
    "v_cmp_t_i16", "v_cmpx_t_i16" => |_, _| true;
    "v_cmp_lt_i16", "v_cmpx_lt_i16" => |a, b| a < b;
    "v_cmp_eq_i16", "v_cmpx_eq_i16" => |a, b| a == b;
    "v_cmp_le_i16", "v_cmpx_le_i16" => |a, b| a <= b;
    "v_cmp_gt_i16", "v_cmpx_gt_i16" => |a, b| a > b;
    "v_cmp_ne_i16", "v_cmpx_ne_i16" => |a, b| a != b;
    "v_cmp_ge_i16", "v_cmpx_ge_i16" => |a, b| a >= b;
}

comparisons! { compare_u16, u16,
    "v_cmp_f_u16", "v_cmpx_f_u16" => |_, _| false;
    "v_cmp_t_u16", "v_cmpx_t_u16" => |_, _| true;
    "v_cmp_lt_u16", "v_cmpx_lt_u16" => |a, b| a < b;
    "v_cmp_eq_u16", "v_cmpx_eq_u16" => |a, b| a == b;
    "v_cmp_le_u16", "v_cmpx_le_u16" => |a, b| a <= b;
    "v_cmp_gt_u16", "v_cmpx_gt_u16" => |a, b| a > b;
    "v_cmp_ne_u16", "v_cmpx_ne_u16" => |a, b| a != b;
    "v_cmp_ge_u16", "v_cmpx_ge_u16" => |a, b| a >= b;
}
