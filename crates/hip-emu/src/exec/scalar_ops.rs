//! Scalar operations.

use crate::exec::{
    element::{scalar32, scalar64},
    op::{Op, Target},
    table::scalar_instructions,
    wave::{EXEC, M0, Wave, low},
};

#[inline(always)]
fn a32<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> u32 {
    scalar32(wave, op.sources[0].place)
}

#[inline(always)]
fn b32<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> u32 {
    scalar32(wave, op.sources[1].place)
}

/// A 64-bit source. Literals and inline integers of scalar operations are sign-extended.
#[inline(always)]
fn a64<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> u64 {
    scalar64(wave, op.sources[0].place)
}

#[inline(always)]
fn b64<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> u64 {
    scalar64(wave, op.sources[1].place)
}

#[inline(always)]
fn put32<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, value: u32) {
    if let Target::Scalar(index) = op.target {
        wave.set_scalar(usize::from(index), value);
    }
}

#[inline(always)]
fn put64<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, value: u64) {
    if let Target::Scalar(index) = op.target {
        wave.set_scalar64(usize::from(index), value);
    }
}

/// Writes a result and whether it is not zero.
#[inline(always)]
fn logic32<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, value: u32) {
    put32(wave, op, value);
    wave.scc = value != 0;
}

#[inline(always)]
fn logic64<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, value: u64) {
    put64(wave, op, value);
    wave.scc = value != 0;
}

#[inline(always)]
fn carry32<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, (value, carried): (u32, bool)) {
    put32(wave, op, value);
    wave.scc = carried;
}

/// Saves EXEC and combines it with the source. `keep` says that the combination goes to the target as well.
#[inline(always)]
fn exec32<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, keep: bool, f: impl Fn(u32, u32) -> u32) {
    let (source, exec) = (a32(wave, op), wave.scalar(EXEC));
    let combined = f(source, exec);
    put32(wave, op, if keep { combined } else { exec });
    wave.set_scalar(EXEC, combined);
    wave.scc = combined != 0;
}

#[inline(always)]
fn exec64<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, keep: bool, f: impl Fn(u64, u64) -> u64) {
    let (source, exec) = (a64(wave, op), wave.scalar64(EXEC));
    let combined = f(source, exec);
    put64(wave, op, if keep { combined } else { exec });
    wave.set_scalar64(EXEC, combined);
    wave.scc = combined != 0;
}

const fn ones(width: u32) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

const fn bit_field32(x: u32, field: u32) -> u32 {
    low((x as u64 >> (field & 31)) & ones((field >> 16) & 127))
}

const fn bit_field64(x: u64, field: u32) -> u64 {
    (x >> (field & 63)) & ones((field >> 16) & 127)
}

/// Repeats the top bit of a field of `width` bits.
const fn extend(x: u64, width: u32) -> i64 {
    if width == 0 {
        return 0;
    }
    let above = 64 - if width > 64 { 64 } else { width };
    (x << above).cast_signed() >> above
}

const fn extend_field32(x: u32, field: u32) -> u32 {
    let (offset, width) = (field & 31, (field >> 16) & 127);
    let fits = if offset + width > 32 { 32 - offset } else { width };
    low(extend(bit_field32(x, field) as u64, fits).cast_unsigned())
}

const fn extend_field64(x: u64, field: u32) -> u64 {
    let (offset, width) = (field & 63, (field >> 16) & 127);
    let fits = if offset + width > 64 { 64 - offset } else { width };
    extend(bit_field64(x, field), fits).cast_unsigned()
}

/// Groups of four bits that hold a one become ones.
const fn whole_quads(x: u64) -> u64 {
    let any = (x | x >> 1 | x >> 2 | x >> 3) & 0x1111_1111_1111_1111;
    any * 15
}

/// One bit for each group of four that holds a one.
fn quad_mask(x: u64) -> u64 {
    (0..16).filter(|quad| (x >> (4 * quad)) & 15 != 0).fold(0, |mask, quad| mask | 1 << quad)
}

fn doubled_bits(x: u32) -> u64 {
    (0..32).filter(|bit| x >> bit & 1 != 0).fold(0, |mask, bit| mask | 3_u64 << (2 * bit))
}

const fn first(count: u32, none: bool) -> u32 {
    if none { u32::MAX } else { count }
}

fn leading_signs(x: i64, width: u32) -> u32 {
    let count = if x < 0 { x.leading_ones() } else { x.leading_zeros() } - (64 - width);
    first(count, count == width)
}

scalar_instructions! {
    /// One source.
    one(wave, op, environment) {
        "s_mov_b32" => put32(wave, op, a32(wave, op));
        "s_mov_b64" => put64(wave, op, a64(wave, op));
        "s_cmov_b32" => if wave.scc { put32(wave, op, a32(wave, op)) };
        "s_cmov_b64" => if wave.scc { put64(wave, op, a64(wave, op)) };
        "s_not_b32" => logic32(wave, op, !a32(wave, op));
        "s_not_b64" => logic64(wave, op, !a64(wave, op));
        "s_brev_b32" => put32(wave, op, a32(wave, op).reverse_bits());
        "s_brev_b64" => put64(wave, op, a64(wave, op).reverse_bits());
        "s_abs_i32" => logic32(wave, op, a32(wave, op).cast_signed().unsigned_abs());
        "s_bcnt0_i32_b32" => logic32(wave, op, a32(wave, op).count_zeros());
        "s_bcnt0_i32_b64" => logic32(wave, op, a64(wave, op).count_zeros());
        "s_bcnt1_i32_b32" => logic32(wave, op, a32(wave, op).count_ones());
        "s_bcnt1_i32_b64" => logic32(wave, op, a64(wave, op).count_ones());
        "s_bitreplicate_b64_b32" => put64(wave, op, doubled_bits(a32(wave, op)));
        "s_bitset0_b32" => { let old = target32(wave, op); put32(wave, op, old & !(1 << (a32(wave, op) & 31))) };
        "s_bitset1_b32" => { let old = target32(wave, op); put32(wave, op, old | 1 << (a32(wave, op) & 31)) };
        "s_bitset0_b64" => { let old = target64(wave, op); put64(wave, op, old & !(1 << (a32(wave, op) & 63))) };
        "s_bitset1_b64" => { let old = target64(wave, op); put64(wave, op, old | 1 << (a32(wave, op) & 63)) };
        "s_clz_i32_u32" => { let a = a32(wave, op); put32(wave, op, first(a.leading_zeros(), a == 0)) };
        "s_clz_i32_u64" => { let a = a64(wave, op); put32(wave, op, first(a.leading_zeros(), a == 0)) };
        "s_ff0_i32_b32" => { let a = !a32(wave, op); put32(wave, op, first(a.trailing_zeros(), a == 0)) };
        "s_ff0_i32_b64" => { let a = !a64(wave, op); put32(wave, op, first(a.trailing_zeros(), a == 0)) };
        "s_ctz_i32_b32" => { let a = a32(wave, op); put32(wave, op, first(a.trailing_zeros(), a == 0)) };
        "s_ctz_i32_b64" => { let a = a64(wave, op); put32(wave, op, first(a.trailing_zeros(), a == 0)) };
        "s_cls_i32" => { let a = i64::from(a32(wave, op).cast_signed()); put32(wave, op, leading_signs(a, 32)) };
        "s_cls_i32_i64" => { let a = a64(wave, op).cast_signed(); put32(wave, op, leading_signs(a, 64)) };
        "s_sext_i32_i8" => put32(wave, op, low(extend(u64::from(a32(wave, op)), 8).cast_unsigned()));
        "s_sext_i32_i16" => put32(wave, op, low(extend(u64::from(a32(wave, op)), 16).cast_unsigned()));
        "s_quadmask_b32" => logic32(wave, op, low(quad_mask(u64::from(a32(wave, op)))));
        "s_quadmask_b64" => logic64(wave, op, quad_mask(a64(wave, op)));
        "s_wqm_b32" => logic32(wave, op, low(whole_quads(u64::from(a32(wave, op)))));
        "s_wqm_b64" => logic64(wave, op, whole_quads(a64(wave, op)));
        "s_and_saveexec_b32" => exec32(wave, op, false, |a, e| a & e);
        "s_or_saveexec_b32" => exec32(wave, op, false, |a, e| a | e);
        "s_xor_saveexec_b32" => exec32(wave, op, false, |a, e| a ^ e);
        "s_nand_saveexec_b32" => exec32(wave, op, false, |a, e| !(a & e));
        "s_nor_saveexec_b32" => exec32(wave, op, false, |a, e| !(a | e));
        "s_xnor_saveexec_b32" => exec32(wave, op, false, |a, e| !(a ^ e));
        "s_and_not0_saveexec_b32" => exec32(wave, op, false, |a, e| !a & e);
        "s_and_not1_saveexec_b32" => exec32(wave, op, false, |a, e| a & !e);
        "s_or_not0_saveexec_b32" => exec32(wave, op, false, |a, e| !a | e);
        "s_or_not1_saveexec_b32" => exec32(wave, op, false, |a, e| a | !e);
        "s_and_not0_wrexec_b32" => exec32(wave, op, true, |a, e| !a & e);
        "s_and_not1_wrexec_b32" => exec32(wave, op, true, |a, e| a & !e);
        "s_and_saveexec_b64" => exec64(wave, op, false, |a, e| a & e);
        "s_or_saveexec_b64" => exec64(wave, op, false, |a, e| a | e);
        "s_xor_saveexec_b64" => exec64(wave, op, false, |a, e| a ^ e);
        "s_nand_saveexec_b64" => exec64(wave, op, false, |a, e| !(a & e));
        "s_nor_saveexec_b64" => exec64(wave, op, false, |a, e| !(a | e));
        "s_xnor_saveexec_b64" => exec64(wave, op, false, |a, e| !(a ^ e));
        "s_and_not0_saveexec_b64" => exec64(wave, op, false, |a, e| !a & e);
        "s_and_not1_saveexec_b64" => exec64(wave, op, false, |a, e| a & !e);
        "s_or_not0_saveexec_b64" => exec64(wave, op, false, |a, e| !a | e);
        "s_or_not1_saveexec_b64" => exec64(wave, op, false, |a, e| a | !e);
        "s_and_not0_wrexec_b64" => exec64(wave, op, true, |a, e| !a & e);
        "s_and_not1_wrexec_b64" => exec64(wave, op, true, |a, e| a & !e);
        "s_movrels_b32" => { let value = scalar32(wave, moved(wave, op)); put32(wave, op, value) };
        "s_movrels_b64" => { let value = scalar64(wave, moved(wave, op)); put64(wave, op, value) };
        "s_movrelsd_2_b32" => move_relative_2(wave, op);
        "s_movreld_b32" => { let value = a32(wave, op); if let Some(index) = moved_target(wave, op) { wave.set_scalar(index, value) } };
        "s_movreld_b64" => { let value = a64(wave, op); if let Some(index) = moved_target(wave, op) { wave.set_scalar64(index, value) } };
    }
}

/// A source register shifted by M0.
fn moved<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> crate::exec::op::Place {
    use crate::exec::op::Place;
    let shift = wave.scalar(M0) & 127;
    match op.sources[0].place {
        Place::Scalar(index) => Place::Scalar(u8::try_from(u32::from(index) + shift).unwrap_or(u8::MAX)),
        place => place,
    }
}

/// A move whose source is shifted by the low bits of M0, and whose result by the high ones.
fn move_relative_2<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    use crate::exec::op::Place;
    let (Place::Scalar(from), Target::Scalar(to)) = (op.sources[0].place, op.target) else { return };
    let shift = |at: u32| usize::try_from(wave.scalar(M0) >> at & 0x3ff).unwrap_or(0);
    let (from, to) = (usize::from(from) + shift(0), usize::from(to) + shift(16));
    if from < 106 && to < 106 {
        let value = wave.scalar(from);
        wave.set_scalar(to, value);
    }
}

fn moved_target<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> Option<usize> {
    let Target::Scalar(index) = op.target else { return None };
    let moved = usize::from(index) + usize::try_from(wave.scalar(M0) & 127).ok()?;
    (moved < 106).then_some(moved)
}

fn target32<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> u32 {
    match op.target {
        Target::Scalar(index) => wave.scalar(usize::from(index)),
        _ => 0,
    }
}

fn target64<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> u64 {
    match op.target {
        Target::Scalar(index) => wave.scalar64(usize::from(index)),
        _ => 0,
    }
}

const fn overflow(value: i32, overflowed: bool) -> (u32, bool) {
    (value.cast_unsigned(), overflowed)
}

/// `a << shift + b`, and whether it did not fit.
fn shift_add(a: u32, b: u32, shift: u32) -> (u32, bool) {
    let sum = (u64::from(a) << shift) + u64::from(b);
    (low(sum), sum >> 32 != 0)
}

scalar_instructions! {
    /// Two sources.
    two(wave, op, environment) {
        "s_add_u32" => carry32(wave, op, a32(wave, op).overflowing_add(b32(wave, op)));
        "s_sub_u32" => carry32(wave, op, a32(wave, op).overflowing_sub(b32(wave, op)));
        "s_add_i32" => { let (value, over) = a32(wave, op).cast_signed().overflowing_add(b32(wave, op).cast_signed()); carry32(wave, op, overflow(value, over)) };
        "s_sub_i32" => { let (value, over) = a32(wave, op).cast_signed().overflowing_sub(b32(wave, op).cast_signed()); carry32(wave, op, overflow(value, over)) };
        "s_addc_u32" => { let sum = u64::from(a32(wave, op)) + u64::from(b32(wave, op)) + u64::from(wave.scc); carry32(wave, op, (low(sum), sum >> 32 != 0)) };
        "s_subb_u32" => {
            let (a, b) = (u64::from(a32(wave, op)), u64::from(b32(wave, op)) + u64::from(wave.scc));
            carry32(wave, op, (low(a.wrapping_sub(b)), b > a))
        };
        "s_absdiff_i32" => logic32(wave, op, a32(wave, op).cast_signed().wrapping_sub(b32(wave, op).cast_signed()).unsigned_abs());
        "s_min_i32" => { let (a, b) = (a32(wave, op).cast_signed(), b32(wave, op).cast_signed()); carry32(wave, op, (a.min(b).cast_unsigned(), a < b)) };
        "s_max_i32" => { let (a, b) = (a32(wave, op).cast_signed(), b32(wave, op).cast_signed()); carry32(wave, op, (a.max(b).cast_unsigned(), a >= b)) };
        "s_min_u32" => { let (a, b) = (a32(wave, op), b32(wave, op)); carry32(wave, op, (a.min(b), a < b)) };
        "s_max_u32" => { let (a, b) = (a32(wave, op), b32(wave, op)); carry32(wave, op, (a.max(b), a >= b)) };
        "s_mul_i32" => put32(wave, op, a32(wave, op).wrapping_mul(b32(wave, op)));
        "s_add_nc_u64" => put64(wave, op, a64(wave, op).wrapping_add(b64(wave, op)));
        "s_sub_nc_u64" => put64(wave, op, a64(wave, op).wrapping_sub(b64(wave, op)));
        "s_mul_u64" => put64(wave, op, a64(wave, op).wrapping_mul(b64(wave, op)));
        "s_mul_hi_u32" => put32(wave, op, low((u64::from(a32(wave, op)) * u64::from(b32(wave, op))) >> 32));
        "s_mul_hi_i32" => put32(wave, op, low((i64::from(a32(wave, op).cast_signed()) * i64::from(b32(wave, op).cast_signed())).cast_unsigned() >> 32));
        "s_and_b32" => logic32(wave, op, a32(wave, op) & b32(wave, op));
        "s_or_b32" => logic32(wave, op, a32(wave, op) | b32(wave, op));
        "s_xor_b32" => logic32(wave, op, a32(wave, op) ^ b32(wave, op));
        "s_nand_b32" => logic32(wave, op, !(a32(wave, op) & b32(wave, op)));
        "s_nor_b32" => logic32(wave, op, !(a32(wave, op) | b32(wave, op)));
        "s_xnor_b32" => logic32(wave, op, !(a32(wave, op) ^ b32(wave, op)));
        "s_and_not1_b32" => logic32(wave, op, a32(wave, op) & !b32(wave, op));
        "s_or_not1_b32" => logic32(wave, op, a32(wave, op) | !b32(wave, op));
        "s_and_b64" => logic64(wave, op, a64(wave, op) & b64(wave, op));
        "s_or_b64" => logic64(wave, op, a64(wave, op) | b64(wave, op));
        "s_xor_b64" => logic64(wave, op, a64(wave, op) ^ b64(wave, op));
        "s_nand_b64" => logic64(wave, op, !(a64(wave, op) & b64(wave, op)));
        "s_nor_b64" => logic64(wave, op, !(a64(wave, op) | b64(wave, op)));
        "s_xnor_b64" => logic64(wave, op, !(a64(wave, op) ^ b64(wave, op)));
        "s_and_not1_b64" => logic64(wave, op, a64(wave, op) & !b64(wave, op));
        "s_or_not1_b64" => logic64(wave, op, a64(wave, op) | !b64(wave, op));
        "s_lshl_b32" => logic32(wave, op, a32(wave, op) << (b32(wave, op) & 31));
        "s_lshr_b32" => logic32(wave, op, a32(wave, op) >> (b32(wave, op) & 31));
        "s_ashr_i32" => logic32(wave, op, (a32(wave, op).cast_signed() >> (b32(wave, op) & 31)).cast_unsigned());
        "s_lshl_b64" => logic64(wave, op, a64(wave, op) << (b32(wave, op) & 63));
        "s_lshr_b64" => logic64(wave, op, a64(wave, op) >> (b32(wave, op) & 63));
        "s_ashr_i64" => logic64(wave, op, (a64(wave, op).cast_signed() >> (b32(wave, op) & 63)).cast_unsigned());
        "s_bfm_b32" => put32(wave, op, low(ones(a32(wave, op) & 31) << (b32(wave, op) & 31)));
        "s_bfm_b64" => put64(wave, op, ones(a32(wave, op) & 63) << (b32(wave, op) & 63));
        "s_bfe_u32" => logic32(wave, op, bit_field32(a32(wave, op), b32(wave, op)));
        "s_bfe_i32" => logic32(wave, op, extend_field32(a32(wave, op), b32(wave, op)));
        "s_bfe_u64" => logic64(wave, op, bit_field64(a64(wave, op), b32(wave, op)));
        "s_bfe_i64" => logic64(wave, op, extend_field64(a64(wave, op), b32(wave, op)));
        "s_lshl1_add_u32" => carry32(wave, op, shift_add(a32(wave, op), b32(wave, op), 1));
        "s_lshl2_add_u32" => carry32(wave, op, shift_add(a32(wave, op), b32(wave, op), 2));
        "s_lshl3_add_u32" => carry32(wave, op, shift_add(a32(wave, op), b32(wave, op), 3));
        "s_lshl4_add_u32" => carry32(wave, op, shift_add(a32(wave, op), b32(wave, op), 4));
        "s_pack_ll_b32_b16" => put32(wave, op, a32(wave, op) & 0xffff | b32(wave, op) << 16);
        "s_pack_lh_b32_b16" => put32(wave, op, a32(wave, op) & 0xffff | b32(wave, op) & 0xffff_0000);
        "s_pack_hl_b32_b16" => put32(wave, op, a32(wave, op) >> 16 | b32(wave, op) << 16);
        "s_pack_hh_b32_b16" => put32(wave, op, a32(wave, op) >> 16 | b32(wave, op) & 0xffff_0000);
        "s_cselect_b32" => put32(wave, op, if wave.scc { a32(wave, op) } else { b32(wave, op) });
        "s_cselect_b64" => put64(wave, op, if wave.scc { a64(wave, op) } else { b64(wave, op) });
    }
}

#[inline(always)]
fn signed<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> (i32, i32) {
    (a32(wave, op).cast_signed(), b32(wave, op).cast_signed())
}

#[inline(always)]
fn unsigned<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> (u32, u32) {
    (a32(wave, op), b32(wave, op))
}

scalar_instructions! {
    /// Comparisons into SCC, and operations with a 16-bit immediate.
    comparison(wave, op, environment) {
        "s_cmp_eq_i32" | "s_cmp_eq_u32" | "s_cmpk_eq_i32" | "s_cmpk_eq_u32" => wave.scc = a32(wave, op) == b32(wave, op);
        "s_cmp_lg_i32" | "s_cmp_lg_u32" | "s_cmpk_lg_i32" | "s_cmpk_lg_u32" => wave.scc = a32(wave, op) != b32(wave, op);
        "s_cmp_gt_i32" | "s_cmpk_gt_i32" => { let (a, b) = signed(wave, op); wave.scc = a > b };
        "s_cmp_ge_i32" | "s_cmpk_ge_i32" => { let (a, b) = signed(wave, op); wave.scc = a >= b };
        "s_cmp_lt_i32" | "s_cmpk_lt_i32" => { let (a, b) = signed(wave, op); wave.scc = a < b };
        "s_cmp_le_i32" | "s_cmpk_le_i32" => { let (a, b) = signed(wave, op); wave.scc = a <= b };
        "s_cmp_gt_u32" | "s_cmpk_gt_u32" => { let (a, b) = unsigned(wave, op); wave.scc = a > b };
        "s_cmp_ge_u32" | "s_cmpk_ge_u32" => { let (a, b) = unsigned(wave, op); wave.scc = a >= b };
        "s_cmp_lt_u32" | "s_cmpk_lt_u32" => { let (a, b) = unsigned(wave, op); wave.scc = a < b };
        "s_cmp_le_u32" | "s_cmpk_le_u32" => { let (a, b) = unsigned(wave, op); wave.scc = a <= b };
        "s_cmp_eq_u64" => wave.scc = a64(wave, op) == b64(wave, op);
        "s_cmp_lg_u64" => wave.scc = a64(wave, op) != b64(wave, op);
        "s_bitcmp0_b32" => wave.scc = a32(wave, op) >> (b32(wave, op) & 31) & 1 == 0;
        "s_bitcmp1_b32" => wave.scc = a32(wave, op) >> (b32(wave, op) & 31) & 1 != 0;
        "s_bitcmp0_b64" => wave.scc = a64(wave, op) >> (b32(wave, op) & 63) & 1 == 0;
        "s_bitcmp1_b64" => wave.scc = a64(wave, op) >> (b32(wave, op) & 63) & 1 != 0;
        "s_movk_i32" => put32(wave, op, a32(wave, op));
        "s_cmovk_i32" => if wave.scc { put32(wave, op, a32(wave, op)) };
        "s_addk_i32" => { let (value, over) = target32(wave, op).cast_signed().overflowing_add(a32(wave, op).cast_signed()); carry32(wave, op, overflow(value, over)) };
        "s_mulk_i32" => { let old = target32(wave, op); put32(wave, op, old.wrapping_mul(a32(wave, op))) };
    }
}
