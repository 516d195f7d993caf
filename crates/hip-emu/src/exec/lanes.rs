//! Operations across lanes, and those with masks or tied operands.

use crate::{
    FaultKind, Lanes, LaunchFault,
    exec::{
        element::{Element, F64, scalar32, words},
        environment::Environment,
        float::{frexp, ldexp32, ldexp64},
        op::{Op, Place, Target},
        shape::{each, gather, lane_mask, lanes, map3, set_second},
        table::instructions,
        wave::{EXEC, M0, VCC, Wave, low},
    },
};

/// Chooses the second source where the mask has a one.
#[inline(always)]
fn select<const L: usize, T: Element>(wave: &mut Wave<L>, op: &Op<L>) {
    let (a, b) = (T::row(wave, &op.sources[0]), T::row(wave, &op.sources[1]));
    let chosen = lane_mask(wave, &op.sources[2]);
    let row = lanes(|lane| if chosen >> lane & 1 != 0 { b[lane] } else { a[lane] });
    let mask = wave.exec();
    T::store(wave, op.target, &row, mask);
}

/// Bits of a float, with their signs changed; the type is a float's only for its modifiers.
#[inline(always)]
fn select32<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let signs = |row: [u32; L], source: &crate::exec::op::Source| {
        let row = if source.abs { each(row, |bits| bits & 0x7fff_ffff) } else { row };
        if source.neg { each(row, |bits| bits ^ 0x8000_0000) } else { row }
    };
    let a = signs(words(wave, &op.sources[0]), &op.sources[0]);
    let b = signs(words(wave, &op.sources[1]), &op.sources[1]);
    let chosen = lane_mask(wave, &op.sources[2]);
    let mut row = [0; L];
    for lane in 0..L {
        row[lane] = if chosen >> lane & 1 != 0 { b[lane] } else { a[lane] };
    }
    let mask = wave.exec();
    u32::store(wave, op.target, &row, mask);
}

/// Ones of the mask below the lane, counted from lane `from`.
#[inline(always)]
fn count_below<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, from: usize) {
    let (masks, base) = (words(wave, &op.sources[0]), words(wave, &op.sources[1]));
    let row = lanes(|lane| {
        let below = match lane.checked_sub(from) {
            None => 0,
            Some(place) if place >= 32 => u32::MAX,
            Some(place) => low((1 << place) - 1),
        };
        (masks[lane] & below).count_ones().wrapping_add(base[lane])
    });
    let mask = wave.exec();
    u32::store(wave, op.target, &row, mask);
}

/// 64-bit multiply-add with a carry out.
#[inline(always)]
fn mad64<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, f: impl Fn(u32, u32, u64) -> (u64, bool)) {
    let (a, b) = (words(wave, &op.sources[0]), words(wave, &op.sources[1]));
    let c = u64::row(wave, &op.sources[2]);
    let (mut row, mut flags) = ([0; L], [0; L]);
    for lane in 0..L {
        let (value, over) = f(a[lane], b[lane], c[lane]);
        row[lane] = value;
        flags[lane] = u32::from(over);
    }
    let mask = wave.exec();
    u64::store(wave, op.target, &row, mask);
    set_second(wave, op, gather(&flags) & mask);
}

fn first_active<const L: usize>(wave: &Wave<L>) -> usize {
    usize::try_from(wave.exec().trailing_zeros()).unwrap_or(0) % L
}

fn read_lane<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, lane: usize) {
    let value = words(wave, &op.sources[0])[lane % L];
    if let Target::Scalar(index) = op.target {
        wave.set_scalar(usize::from(index), value);
    }
}

fn lane_of<const L: usize>(wave: &Wave<L>, place: Place) -> usize {
    usize::try_from(scalar32(wave, place)).unwrap_or(0) % L
}

fn write_lane<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (value, lane) = (scalar32(wave, op.sources[0].place), lane_of(wave, op.sources[1].place));
    if let Target::Vector { first, .. } = op.target {
        wave.write_row(usize::from(first), &[value; L], 1 << lane);
    }
}

/// Rows of 16 lanes: each lane reads the lane that four bits of two scalars choose, in its own row or the other.
fn permute_rows<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, other_row: bool) {
    let row = words(wave, &op.sources[0]);
    let (lows, highs) = (scalar32(wave, op.sources[1].place), scalar32(wave, op.sources[2].place));
    let selectors = u64::from(lows) | u64::from(highs) << 32;
    // op_sel of the first source: inactive lanes can be read; of the second: they give zero.
    let (fetch_inactive, bound_control) = (op.flags & 1 != 0, op.flags & 2 != 0);
    let exec = wave.exec();
    let old = match op.target {
        Target::Vector { first, .. } => *wave.row(usize::from(first)),
        _ => [0; L],
    };
    let result = lanes(|lane| {
        let selected = usize::try_from(selectors >> (4 * (lane % 16)) & 15).unwrap_or(0);
        let from = (lane & !15 | selected) ^ if other_row { 16 } else { 0 };
        if fetch_inactive || exec >> from & 1 != 0 {
            row[from]
        } else if bound_control {
            0
        } else {
            old[lane]
        }
    });
    u32::store(wave, op.target, &result, exec);
}

/// Each lane reads the lane that its address names; inactive lanes give zero.
fn permute_backward<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (addresses, data) = (words(wave, &op.sources[0]), words(wave, &op.sources[1]));
    let exec = wave.exec();
    let row = lanes(|lane| {
        let from =
            usize::try_from(addresses[lane].wrapping_add(op.immediate.cast_unsigned()) / 4).unwrap_or(0) % L;
        if exec >> from & 1 != 0 { data[from] } else { 0 }
    });
    u32::store(wave, op.target, &row, exec);
}

/// Each lane sends to the lane that its address names; lanes that nobody sends to get zero.
fn permute_forward<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (addresses, data) = (words(wave, &op.sources[0]), words(wave, &op.sources[1]));
    let exec = wave.exec();
    let mut row = [0; L];
    for lane in (0..L).filter(|lane| exec >> lane & 1 != 0) {
        let to =
            usize::try_from(addresses[lane].wrapping_add(op.immediate.cast_unsigned()) / 4).unwrap_or(0) % L;
        row[to] = data[lane];
    }
    u32::store(wave, op.target, &row, exec);
}

/// The LDS unit's lane patterns: quads, or masks on the lane's number within 32.
fn swizzle<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let row = words(wave, &op.sources[0]);
    let pattern = usize::try_from(op.immediate & 0xffff).unwrap_or(0);
    let exec = wave.exec();
    if pattern >= 0xc000 {
        return unsupported(wave);
    }
    let result = lanes(|lane| {
        let from = if pattern & 0x8000 != 0 {
            lane & !3 | pattern >> (2 * (lane & 3)) & 3
        } else {
            let (and, or, xor) = (pattern & 31, pattern >> 5 & 31, pattern >> 10 & 31);
            lane & !31 | ((lane & and | or) ^ xor) & 31
        };
        if exec >> from & 1 != 0 { row[from] } else { 0 }
    });
    u32::store(wave, op.target, &result, exec);
}

pub(super) fn unsupported<const L: usize>(wave: &mut Wave<L>) {
    wave.fault(LaunchFault::new(FaultKind::Unsupported, None));
}

fn swap<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (Target::Vector { first, .. }, Some(second)) = (op.target, op.sources[0].vector()) else { return };
    let (a, b, mask) = (*wave.row(usize::from(first)), *wave.row(second), wave.exec());
    wave.write_row(usize::from(first), &b, mask);
    wave.write_row(second, &a, mask);
}

/// Moves with registers shifted by M0.
fn move_relative<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, source: bool, target: bool) {
    let shift = usize::try_from(wave.scalar(M0)).unwrap_or(usize::MAX);
    let from = match op.sources[0].vector() {
        Some(first) if source => first.checked_add(shift).filter(|&row| row + 4 < wave.vgprs.len()),
        other => other,
    };
    let row = match from {
        Some(first) => *wave.row(first),
        None if source => return unsupported(wave),
        None => words(wave, &op.sources[0]),
    };
    let Target::Vector { first, .. } = op.target else { return unsupported(wave) };
    let to = if target { usize::from(first).saturating_add(shift) } else { usize::from(first) };
    if to + 4 >= wave.vgprs.len() {
        return unsupported(wave);
    }
    let mask = wave.exec();
    wave.write_row(to, &row, mask);
}

/// Scales the parts of a division so that no step of it under- or overflows; VCC says that the result must be scaled
/// back.
#[inline(always)]
fn div_scale32<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (s0, s1, s2) =
        (f32::row(wave, &op.sources[0]), f32::row(wave, &op.sources[1]), f32::row(wave, &op.sources[2]));
    let (mut row, mut flags) = ([0.0_f32; L], [0_u32; L]);
    for lane in 0..L {
        let (x, denominator, numerator) = (s0[lane], s1[lane], s2[lane]);
        let exponent = |v: f32| frexp(f64::from(v)).1;
        let is_denominator = x.to_bits() == denominator.to_bits();
        let quotient = numerator / denominator;
        let (scaled, flag) = if numerator == 0.0 || denominator == 0.0 {
            (f32::NAN, false)
        } else if exponent(numerator) - exponent(denominator) >= 96 {
            (if is_denominator { ldexp32(x, 64) } else { x }, true)
        } else if denominator.is_subnormal() {
            (ldexp32(x, 64), false)
        } else if (1.0 / f64::from(denominator)).abs() < f64::from(f32::MIN_POSITIVE)
            && quotient.is_subnormal()
        {
            (if is_denominator { ldexp32(x, 64) } else { x }, true)
        } else if (1.0 / f64::from(denominator)).abs() < f64::from(f32::MIN_POSITIVE) {
            (ldexp32(x, -64), false)
        } else if quotient.is_subnormal() {
            (if is_denominator { x } else { ldexp32(x, 64) }, true)
        } else if exponent(numerator) <= -103 {
            (ldexp32(x, 64), false)
        } else {
            (x, false)
        };
        row[lane] = scaled;
        flags[lane] = u32::from(flag);
    }
    let mask = wave.exec();
    f32::store(wave, op.target, &row, mask);
    set_second(wave, op, gather(&flags) & mask);
}

#[inline(always)]
fn div_scale64<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (s0, s1, s2) =
        (F64::row(wave, &op.sources[0]), F64::row(wave, &op.sources[1]), F64::row(wave, &op.sources[2]));
    let (mut row, mut flags) = ([F64(0.0); L], [0_u32; L]);
    for lane in 0..L {
        let (x, denominator, numerator) = (s0[lane].0, s1[lane].0, s2[lane].0);
        let is_denominator = x.to_bits() == denominator.to_bits();
        let (quotient, inverse) = (numerator / denominator, 1.0 / denominator);
        let (scaled, flag) = if numerator == 0.0 || denominator == 0.0 {
            (f64::NAN, false)
        } else if frexp(numerator).1 - frexp(denominator).1 >= 768 {
            (if is_denominator { ldexp64(x, 128) } else { x }, true)
        } else if denominator.is_subnormal() {
            (ldexp64(x, 128), false)
        } else if inverse.is_subnormal() && quotient.is_subnormal() {
            (if is_denominator { ldexp64(x, 128) } else { x }, true)
        } else if inverse.is_subnormal() {
            (ldexp64(x, -128), false)
        } else if quotient.is_subnormal() {
            (if is_denominator { x } else { ldexp64(x, 128) }, true)
        } else if frexp(numerator).1 <= -969 {
            (ldexp64(x, 128), false)
        } else {
            (x, false)
        };
        row[lane] = F64(scaled);
        flags[lane] = u32::from(flag);
    }
    let mask = wave.exec();
    F64::store(wave, op.target, &row, mask);
    set_second(wave, op, gather(&flags) & mask);
}

/// Fused multiply-add, scaled back where VCC has a one.
#[inline(always)]
fn div_fmas<const L: usize, T: Element>(wave: &mut Wave<L>, op: &Op<L>, f: impl Fn(T, T, T, bool) -> T) {
    let (a, b, c) =
        (T::row(wave, &op.sources[0]), T::row(wave, &op.sources[1]), T::row(wave, &op.sources[2]));
    let scaled = wave.mask(VCC);
    let mut row = lanes(|lane| f(a[lane], b[lane], c[lane], scaled >> lane & 1 != 0));
    T::finish(wave, op, &mut row);
    let mask = wave.exec();
    T::store(wave, op.target, &row, mask);
}

/// Replaces the quotient where the operands are special.
fn div_fixup(quotient: f64, denominator: f64, numerator: f64, overflow: bool, underflow: bool) -> f64 {
    let sign = if numerator.is_sign_negative() == denominator.is_sign_negative() { 1.0 } else { -1.0 };
    if numerator.is_nan() {
        numerator
    } else if denominator.is_nan() {
        denominator
    } else if (numerator == 0.0 && denominator == 0.0)
        || (numerator.is_infinite() && denominator.is_infinite())
    {
        f64::NAN
    } else if denominator == 0.0 || numerator.is_infinite() || overflow {
        sign * f64::INFINITY
    } else if denominator.is_infinite() || numerator == 0.0 || underflow {
        sign * 0.0
    } else {
        quotient.abs() * sign
    }
}

fn fixup32(quotient: f32, denominator: f32, numerator: f32) -> f32 {
    let distance = frexp(f64::from(numerator)).1 - frexp(f64::from(denominator)).1;
    let fixed =
        div_fixup(f64::from(quotient), f64::from(denominator), f64::from(numerator), false, distance < -150);
    #[expect(clippy::cast_possible_truncation, reason = "the value is a binary32 number")]
    let fixed = fixed as f32;
    fixed
}

fn fixup64(quotient: F64, denominator: F64, numerator: F64) -> F64 {
    let distance = frexp(numerator.0).1 - frexp(denominator.0).1;
    F64(div_fixup(quotient.0, denominator.0, numerator.0, false, distance < -1075))
}

instructions! {
    /// Masks, carries and tied operands.
    masks(wave, op, environment) {
        "v_cndmask_b32" => select32(wave, op);
        "v_cndmask_b16" => select::<L, crate::exec::float::F16>(wave, op);
        "v_mad_u64_u32" => mad64(wave, op, |a, b, c| (u64::from(a) * u64::from(b)).overflowing_add(c));
        "v_mad_i64_i32" => mad64(wave, op, |a, b, c| {
            let (value, over) = (i64::from(a.cast_signed()) * i64::from(b.cast_signed())).overflowing_add(c.cast_signed());
            (value.cast_unsigned(), over)
        });
        "v_div_scale_f32" => div_scale32(wave, op);
        "v_div_scale_f64" => div_scale64(wave, op);
        "v_div_fmas_f32" => div_fmas::<L, f32>(wave, op, |a, b, c, scaled| if scaled { ldexp32(1.0, if c.abs() >= 2.0 { 64 } else { -64 }) * a.mul_add(b, c) } else { a.mul_add(b, c) });
        "v_div_fmas_f64" => div_fmas::<L, F64>(wave, op, |a, b, c, scaled| F64(if scaled { ldexp64(a.0.mul_add(b.0, c.0), if c.0.abs() >= 2.0 { 128 } else { -128 }) } else { a.0.mul_add(b.0, c.0) }));
        "v_div_fixup_f32" => map3::<L, f32, f32, f32, f32>(wave, op, fixup32);
        "v_div_fixup_f64" => map3::<L, F64, F64, F64, F64>(wave, op, fixup64);
        "v_div_fixup_f16" => map3::<L, crate::exec::float::F16, crate::exec::float::F16, crate::exec::float::F16, crate::exec::float::F16>(wave, op, |q, d, n| {
            let wide = |x: crate::exec::float::F16| f64::from(x.to_f32());
            crate::exec::float::F16::from_f64(div_fixup(wide(q), wide(d), wide(n), false, false))
        });
    }
}

instructions! {
    /// Lanes that read others.
    crossing(wave, op, environment) {
        "v_mbcnt_lo_u32_b32" => count_below(wave, op, 0);
        "v_mbcnt_hi_u32_b32" => count_below(wave, op, 32);
        "v_readfirstlane_b32" => { let lane = first_active(wave); read_lane(wave, op, lane) };
        "v_readlane_b32" => { let lane = lane_of(wave, op.sources[1].place); read_lane(wave, op, lane) };
        "v_writelane_b32" => write_lane(wave, op);
        "v_permlane16_b32" => permute_rows(wave, op, false);
        "v_permlanex16_b32" => permute_rows(wave, op, true);
        "ds_bpermute_b32" => permute_backward(wave, op);
        "ds_permute_b32" => permute_forward(wave, op);
        "ds_swizzle_b32" => swizzle(wave, op);
        "v_swap_b32" => swap(wave, op);
        "v_movrels_b32" => move_relative(wave, op, true, false);
        "v_movreld_b32" => move_relative(wave, op, false, true);
        "v_movrelsd_b32" => move_relative(wave, op, true, true);
    }
}

/// Where each lane of a data-parallel operation reads; `None` is outside.
fn origin(control: u16, lane: usize) -> Option<usize> {
    let (row, place, amount) = (lane & !15, lane & 15, usize::from(control & 15));
    Some(match control {
        0x000..=0x0ff => lane & !3 | usize::from(control >> (2 * (lane & 3)) & 3),
        0x101..=0x10f => row | Some(place + amount).filter(|&from| from < 16)?,
        0x111..=0x11f => row | place.checked_sub(amount)?,
        0x121..=0x12f => row | (place + 16 - amount) & 15,
        0x140 => row | (15 - place),
        0x141 => row | place & 8 | (7 - (place & 7)),
        0x150..=0x15f => row | amount,
        0x160..=0x16f => row | (place ^ amount),
        _ => return None,
    })
}

/// Whether `control` has a meaning on gfx10 and later.
pub(super) const fn known_control(control: u16) -> bool {
    matches!(control, 0..=0xff | 0x101..=0x10f | 0x111..=0x11f | 0x121..=0x12f | 0x140 | 0x141 | 0x150..=0x15f | 0x160..=0x16f)
}

/// Permutes the first source into a spare row, then runs the operation on the lanes that are written.
///
/// # Safety
///
/// As for the operation that is wrapped.
pub(super) unsafe fn permuted<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    environment: &mut Environment<'_>,
) {
    let exec = wave.exec();
    let row = words(wave, &op.sources[0]);
    let (mut result, mut written) = ([0; L], exec);
    for lane in 0..L {
        let (from, fetch_inactive, bound_control, enabled) = match op.lanes {
            Lanes::Rows { control, row_mask, bank_mask, bound_control, fetch_inactive } => {
                let enabled = row_mask >> (lane / 16) & 1 != 0 && bank_mask >> (lane / 4 % 4) & 1 != 0;
                (origin(control, lane), fetch_inactive, bound_control, enabled)
            }
            Lanes::Eights { selectors, fetch_inactive } => {
                (Some(lane & !7 | usize::from(selectors[lane & 7])), fetch_inactive, true, true)
            }
            Lanes::Own | Lanes::SubDword { .. } => (Some(lane), true, true, true),
        };
        let value = from.filter(|from| fetch_inactive || exec >> from & 1 != 0).map(|from| row[from]);
        result[lane] = value.unwrap_or(0);
        if !enabled || (value.is_none() && !bound_control) {
            written &= !(1 << lane);
        }
    }
    let spare = wave.vgprs.len().saturating_sub(1);
    wave.write_row(spare, &result, Wave::<L>::all_lanes());
    let mut inner = *op;
    inner.sources[0].place = Place::Vector(u16::try_from(spare).unwrap_or(u16::MAX));
    wave.set_mask(EXEC, written);
    // SAFETY: the contract is the caller's.
    unsafe { (op.inner)(wave, &inner, environment) };
    // What has no target of its own writes EXEC.
    if op.target != Target::None {
        wave.set_mask(EXEC, exec);
    }
}
