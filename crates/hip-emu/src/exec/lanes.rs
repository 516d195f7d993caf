//! Operations across lanes, and those with masks or tied operands.

use crate::{
    Arch, FaultKind, Lanes, LaunchFault,
    exec::{
        element::{Element, scalar32, words},
        environment::Environment,
        op::{Op, Place, Target},
        shape::{each, gather, lane_mask, lanes, set_second},
        table::instructions,
        wave::{EXEC, M0, SPARE_ROWS, Wave, low},
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
    let (lows, highs) = (scalar32(wave, op.sources[1].place), scalar32(wave, op.sources[2].place));
    let selectors = u64::from(lows) | u64::from(highs) << 32;
    select_in_rows(wave, op, other_row, |lane| {
        usize::try_from(selectors >> (4 * (lane % 16)) & 15).unwrap_or(0)
    });
}

/// As [`permute_rows`]; each lane's own value chooses.
fn permute_rows_by_lane<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, other_row: bool) {
    let selectors = words(wave, &op.sources[1]);
    select_in_rows(wave, op, other_row, |lane| usize::try_from(selectors[lane] & 15).unwrap_or(0));
}

fn select_in_rows<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    other_row: bool,
    selected: impl Fn(usize) -> usize,
) {
    let row = words(wave, &op.sources[0]);
    // op_sel of the first source: inactive lanes can be read; of the second: they give zero.
    let (fetch_inactive, bound_control) = (op.flags & 1 != 0, op.flags & 2 != 0);
    let exec = wave.exec();
    let old = match op.target {
        Target::Vector { first, .. } => *wave.row(usize::from(first)),
        _ => [0; L],
    };
    let result = lanes(|lane| {
        let from = (lane & !15 | selected(lane)) ^ if other_row { 16 } else { 0 };
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

/// The LDS unit's lane patterns: orders of a Fourier transform, rotations, quads, or masks on the lane's number within 32.
fn swizzle<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let row = words(wave, &op.sources[0]);
    let pattern = usize::try_from(op.immediate & 0xffff).unwrap_or(0);
    let exec = wave.exec();
    let result = lanes(|lane| {
        let from = if pattern >= 0xe000 {
            // The order of a fast Fourier transform: bits of the lane's number reversed, but for those of a mask.
            let mask = pattern & 31;
            let reversed = (lane & 31).reverse_bits() >> (usize::BITS - 5);
            lane & 32 | lane & mask | reversed >> mask.count_ones()
        } else if pattern >= 0xc000 {
            // Rotated within what the mask leaves free, the other way round where the direction bit is set.
            let (mask, by) = (pattern & 31, pattern >> 5 & 31);
            let turned = if pattern & 0x400 != 0 { lane.wrapping_sub(by) } else { lane + by };
            lane & (32 | mask) | turned & !mask & 31
        } else if pattern & 0x8000 != 0 {
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

/// The row of a register shifted by `shift`, if the wave has it.
pub(super) fn shifted_row<const L: usize>(wave: &Wave<L>, first: usize, shift: usize) -> Option<usize> {
    first.checked_add(shift).filter(|&row| row + SPARE_ROWS < wave.vgprs.len())
}

/// A move; the register that is read and the one that is written are shifted.
fn move_relative<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, from: usize, to: usize) {
    let row = match op.sources[0].vector() {
        Some(first) => shifted_row(wave, first, from).map(|row| *wave.row(row)),
        None => Some(words(wave, &op.sources[0])).filter(|_| from == 0),
    };
    let target = match op.target {
        Target::Vector { first, .. } => shifted_row(wave, first.into(), to),
        _ => None,
    };
    let (Some(row), Some(target)) = (row, target) else { return unsupported(wave) };
    let mask = wave.exec();
    wave.write_row(target, &row, mask);
}

fn swap_relative<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (from, to) = relative_2(wave);
    let (Target::Vector { first, .. }, Some(second)) = (op.target, op.sources[0].vector()) else { return };
    let rows = (shifted_row(wave, first.into(), to), shifted_row(wave, second, from));
    let (Some(first), Some(second)) = rows else { return unsupported(wave) };
    let (a, b, mask) = (*wave.row(first), *wave.row(second), wave.exec());
    wave.write_row(first, &b, mask);
    wave.write_row(second, &a, mask);
}

/// How far M0 shifts registers.
fn relative<const L: usize>(wave: &Wave<L>) -> usize {
    usize::try_from(wave.scalar(M0)).unwrap_or(usize::MAX)
}

/// How far M0 shifts what is read and, apart from it, what is written.
fn relative_2<const L: usize>(wave: &Wave<L>) -> (usize, usize) {
    let bits = |at: u32| usize::try_from(wave.scalar(M0) >> at & 0x3ff).unwrap_or(0);
    (bits(0), bits(16))
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
        "v_permlane16_var_b32" => permute_rows_by_lane(wave, op, false);
        "v_permlanex16_var_b32" => permute_rows_by_lane(wave, op, true);
        "ds_bpermute_b32" => permute_backward(wave, op);
        "ds_permute_b32" => permute_forward(wave, op);
        "ds_swizzle_b32" => swizzle(wave, op);
        "v_swap_b32" => swap(wave, op);
        "v_movrels_b32" => { let shift = relative(wave); move_relative(wave, op, shift, 0) };
        "v_movreld_b32" => { let shift = relative(wave); move_relative(wave, op, 0, shift) };
        "v_movrelsd_b32" => { let shift = relative(wave); move_relative(wave, op, shift, shift) };
        "v_movrelsd_2_b32" => { let (from, to) = relative_2(wave); move_relative(wave, op, from, to) };
        "v_swaprel_b32" => swap_relative(wave, op);
        // Waves of 32 lanes have no other half to exchange with.
        "v_permlane64_b32" => {};
    }
}

/// Where each lane of a data-parallel operation reads; `None` is outside.
fn origin<const L: usize>(control: u16, lane: usize) -> Option<usize> {
    let (row, place, amount) = (lane & !15, lane & 15, usize::from(control & 15));
    Some(match control {
        0x000..=0x0ff => lane & !3 | usize::from(control >> (2 * (lane & 3)) & 3),
        0x101..=0x10f => row | Some(place + amount).filter(|&from| from < 16)?,
        0x111..=0x11f => row | place.checked_sub(amount)?,
        0x121..=0x12f => row | (place + 16 - amount) & 15,
        0x130 => Some(lane + 1).filter(|&from| from < L)?,
        0x134 => (lane + 1) % L,
        0x138 => lane.checked_sub(1)?,
        0x13c => (lane + L - 1) % L,
        0x140 => row | (15 - place),
        0x141 => row | place & 8 | (7 - (place & 7)),
        0x142 => row.checked_sub(1)?,
        0x143 => (lane & !31).checked_sub(1)?,
        0x150..=0x15f => row | amount,
        0x160..=0x16f => row | (place ^ amount),
        _ => return None,
    })
}

/// Whether `control` has a meaning.
pub(super) const fn known_control(arch: Arch, control: u16) -> bool {
    match control {
        0..=0xff | 0x101..=0x10f | 0x111..=0x11f | 0x121..=0x12f | 0x140 | 0x141 => true,
        0x130 | 0x134 | 0x138 | 0x13c | 0x142 | 0x143 => arch.is_gfx9(),
        0x150..=0x15f => !matches!(arch, Arch::Gfx9),
        0x160..=0x16f => !arch.is_gfx9(),
        _ => false,
    }
}

/// Flag of a permuted source of two registers.
pub(super) const WIDE: u8 = 4;

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
    let wide = op.flags & WIDE != 0;
    let row = words(wave, &op.sources[0]);
    let second = *wave.row(op.sources[0].vector().map_or(usize::MAX, |first| first + usize::from(wide)));
    let (mut result, mut result2, mut written) = ([0; L], [0; L], exec);
    for lane in 0..L {
        let (from, fetch_inactive, bound_control, enabled) = match op.lanes {
            Lanes::Rows { control, row_mask, bank_mask, bound_control, fetch_inactive } => {
                let enabled = row_mask >> (lane / 16) & 1 != 0 && bank_mask >> (lane / 4 % 4) & 1 != 0;
                (origin::<L>(control, lane), fetch_inactive, bound_control, enabled)
            }
            Lanes::Eights { selectors, fetch_inactive } => {
                (Some(lane & !7 | usize::from(selectors[lane & 7])), fetch_inactive, true, true)
            }
            Lanes::Own | Lanes::SubDword { .. } => (Some(lane), true, true, true),
        };
        let from = from.filter(|from| fetch_inactive || exec >> from & 1 != 0);
        result[lane] = from.map_or(0, |from| row[from]);
        result2[lane] = from.map_or(0, |from| second[from]);
        if !enabled || (from.is_none() && !bound_control) {
            written &= !(1 << lane);
        }
    }
    let spare = wave.vgprs.len().saturating_sub(2);
    wave.write_row(spare, &result, Wave::<L>::all_lanes());
    if wide {
        wave.write_row(spare + 1, &result2, Wave::<L>::all_lanes());
    }
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
