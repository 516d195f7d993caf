//! Loads, stores and atomics of every address space.

use crate::{
    FaultKind, Half, LaunchFault,
    exec::{
        buffers::Buffer,
        element::words,
        environment::Environment,
        op::{Op, Target},
        space::{ADDRESS, DATA, DATA2, Flat, Global, GlobalByLane, Lds, LdsByLane, Scratch, Space},
        table::instructions,
        wave::{M0, Wave, low},
    },
};

pub(super) fn fail<const L: usize>(wave: &mut Wave<L>, kind: FaultKind, lane: usize) {
    wave.fault(LaunchFault::new(kind, u32::try_from(lane).ok()));
}

pub(super) fn first<const L: usize>(op: &Op<L>, source: usize) -> usize {
    op.sources.get(source).and_then(crate::exec::op::Source::vector).unwrap_or(usize::MAX)
}

pub(super) fn target_first<const L: usize>(op: &Op<L>) -> usize {
    match op.target {
        Target::Vector { first, .. } => usize::from(first),
        _ => usize::MAX,
    }
}

#[inline(always)]
pub(super) fn active<const L: usize>(mask: u64) -> impl Iterator<Item = usize> {
    (0..L).filter(move |lane| mask >> lane & 1 != 0)
}

/// Loads whole words.
#[inline(always)]
fn load_words<const L: usize, const WORDS: usize, S: Space>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
) {
    let addresses = S::addresses(wave, op);
    let (mask, target) = (wave.exec(), target_first(op));
    let mut rows = [[0_u32; L]; WORDS];
    for lane in active::<L>(mask) {
        for (word, row) in rows.iter_mut().enumerate() {
            match S::load(wave, at, lane, addresses[lane].wrapping_add(4 * word as u64), 4) {
                Ok(value) => row[lane] = value,
                Err(kind) => return fail(wave, kind, lane),
            }
        }
    }
    for (word, row) in rows.iter().enumerate() {
        wave.write_row(target + word, row, mask);
    }
}

/// Stores whole words.
#[inline(always)]
fn store_words<const L: usize, const WORDS: usize, S: Space>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
) {
    let addresses = S::addresses(wave, op);
    let (mask, data) = (wave.exec(), first(op, DATA));
    let rows: [[u32; L]; WORDS] = std::array::from_fn(|word| *wave.row(data + word));
    for lane in active::<L>(mask) {
        for (word, row) in rows.iter().enumerate() {
            if let Err(kind) =
                S::store(wave, at, lane, addresses[lane].wrapping_add(4 * word as u64), 4, row[lane])
            {
                return fail(wave, kind, lane);
            }
        }
    }
}

/// Loads a byte or half word: how many bytes, whether signed, and which part of the register it goes to.
#[inline(always)]
fn load_part<const L: usize, S: Space>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    bytes: usize,
    signed: bool,
    half: Half,
) {
    let addresses = S::addresses(wave, op);
    let (mask, target) = (wave.exec(), target_first(op));
    let mut row = *wave.row(target);
    for lane in active::<L>(mask) {
        let value = match S::load(wave, at, lane, addresses[lane], bytes) {
            Ok(value) => value,
            Err(kind) => return fail(wave, kind, lane),
        };
        let above = 32 - 8 * u32::try_from(bytes).unwrap_or(4);
        let value = if signed { ((value << above).cast_signed() >> above).cast_unsigned() } else { value };
        row[lane] = match half {
            Half::Whole => value,
            Half::Low => row[lane] & 0xffff_0000 | value & 0xffff,
            Half::High => row[lane] & 0xffff | value << 16,
        };
    }
    wave.write_row(target, &row, mask);
}

#[inline(always)]
fn store_part<const L: usize, S: Space>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    bytes: usize,
    shift: u32,
) {
    let addresses = S::addresses(wave, op);
    let (mask, data) = (wave.exec(), *wave.row(first(op, DATA)));
    for lane in active::<L>(mask) {
        if let Err(kind) = S::store(wave, at, lane, addresses[lane], bytes, data[lane] >> shift) {
            return fail(wave, kind, lane);
        }
    }
}

macro_rules! loads_and_stores {
    ($name:ident, $space:ty, $($u8:literal $i8:literal $u16:literal $i16:literal $b32:literal $b64:literal $b96:literal $b128:literal
        $d16u8:literal $d16i8:literal $d16:literal $hiu8:literal $hii8:literal $hi:literal
        $s8:literal $s16:literal $s32:literal $s64:literal $s96:literal $s128:literal $s8hi:literal $s16hi:literal;)*) => {
        instructions! {
            $name(wave, op, at) {
                $(
                $u8 => load_part::<L, $space>(wave, op, at, 1, false, Half::Whole);
                $i8 => load_part::<L, $space>(wave, op, at, 1, true, Half::Whole);
                $u16 => load_part::<L, $space>(wave, op, at, 2, false, Half::Whole);
                $i16 => load_part::<L, $space>(wave, op, at, 2, true, Half::Whole);
                $b32 => load_words::<L, 1, $space>(wave, op, at);
                $b64 => load_words::<L, 2, $space>(wave, op, at);
                $b96 => load_words::<L, 3, $space>(wave, op, at);
                $b128 => load_words::<L, 4, $space>(wave, op, at);
                $d16u8 => load_part::<L, $space>(wave, op, at, 1, false, Half::Low);
                $d16i8 => load_part::<L, $space>(wave, op, at, 1, true, Half::Low);
                $d16 => load_part::<L, $space>(wave, op, at, 2, false, Half::Low);
                $hiu8 => load_part::<L, $space>(wave, op, at, 1, false, Half::High);
                $hii8 => load_part::<L, $space>(wave, op, at, 1, true, Half::High);
                $hi => load_part::<L, $space>(wave, op, at, 2, false, Half::High);
                $s8 => store_part::<L, $space>(wave, op, at, 1, 0);
                $s16 => store_part::<L, $space>(wave, op, at, 2, 0);
                $s32 => store_words::<L, 1, $space>(wave, op, at);
                $s64 => store_words::<L, 2, $space>(wave, op, at);
                $s96 => store_words::<L, 3, $space>(wave, op, at);
                $s128 => store_words::<L, 4, $space>(wave, op, at);
                $s8hi => store_part::<L, $space>(wave, op, at, 1, 16);
                $s16hi => store_part::<L, $space>(wave, op, at, 2, 16);
                )*
            }
        }
    };
}

loads_and_stores! { global, Global,
    "global_load_u8" "global_load_i8" "global_load_u16" "global_load_i16" "global_load_b32" "global_load_b64" "global_load_b96" "global_load_b128"
        "global_load_d16_u8" "global_load_d16_i8" "global_load_d16_b16" "global_load_d16_hi_u8" "global_load_d16_hi_i8" "global_load_d16_hi_b16"
        "global_store_b8" "global_store_b16" "global_store_b32" "global_store_b64" "global_store_b96" "global_store_b128" "global_store_d16_hi_b8" "global_store_d16_hi_b16";
}

loads_and_stores! { flat, Flat,
    "flat_load_u8" "flat_load_i8" "flat_load_u16" "flat_load_i16" "flat_load_b32" "flat_load_b64" "flat_load_b96" "flat_load_b128"
        "flat_load_d16_u8" "flat_load_d16_i8" "flat_load_d16_b16" "flat_load_d16_hi_u8" "flat_load_d16_hi_i8" "flat_load_d16_hi_b16"
        "flat_store_b8" "flat_store_b16" "flat_store_b32" "flat_store_b64" "flat_store_b96" "flat_store_b128" "flat_store_d16_hi_b8" "flat_store_d16_hi_b16";
}

loads_and_stores! { scratch, Scratch,
    "scratch_load_u8" "scratch_load_i8" "scratch_load_u16" "scratch_load_i16" "scratch_load_b32" "scratch_load_b64" "scratch_load_b96" "scratch_load_b128"
        "scratch_load_d16_u8" "scratch_load_d16_i8" "scratch_load_d16_b16" "scratch_load_d16_hi_u8" "scratch_load_d16_hi_i8" "scratch_load_d16_hi_b16"
        "scratch_store_b8" "scratch_store_b16" "scratch_store_b32" "scratch_store_b64" "scratch_store_b96" "scratch_store_b128" "scratch_store_d16_hi_b8" "scratch_store_d16_hi_b16";
}

loads_and_stores! { buffer, Buffer,
    "buffer_load_u8" "buffer_load_i8" "buffer_load_u16" "buffer_load_i16" "buffer_load_b32" "buffer_load_b64" "buffer_load_b96" "buffer_load_b128"
        "buffer_load_d16_u8" "buffer_load_d16_i8" "buffer_load_d16_b16" "buffer_load_d16_hi_u8" "buffer_load_d16_hi_i8" "buffer_load_d16_hi_b16"
        "buffer_store_b8" "buffer_store_b16" "buffer_store_b32" "buffer_store_b64" "buffer_store_b96" "buffer_store_b128" "buffer_store_d16_hi_b8" "buffer_store_d16_hi_b16";
}

loads_and_stores! { lds, Lds,
    "ds_load_u8" "ds_load_i8" "ds_load_u16" "ds_load_i16" "ds_load_b32" "ds_load_b64" "ds_load_b96" "ds_load_b128"
        "ds_load_u8_d16" "ds_load_i8_d16" "ds_load_u16_d16" "ds_load_u8_d16_hi" "ds_load_i8_d16_hi" "ds_load_u16_d16_hi"
        "ds_store_b8" "ds_store_b16" "ds_store_b32" "ds_store_b64" "ds_store_b96" "ds_store_b128" "ds_store_b8_d16_hi" "ds_store_b16_d16_hi";
}

/// Reads a word of LDS whose address and type M0 holds, and gives it to all lanes of each group of four that has an active
/// one.
fn load_direct<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, at: &mut Environment<'_>) {
    let m0 = wave.scalar(M0);
    let (address, kind) = (u64::from(m0 & 0xffff), m0 >> 16 & 7);
    let bytes = match kind {
        0 | 4 => 1,
        1 | 5 => 2,
        2 => 4,
        _ => return fail(wave, FaultKind::Unsupported, 0),
    };
    let value = match Lds::load(wave, at, 0, address, bytes) {
        Ok(value) => value,
        Err(kind) => return wave.fault(LaunchFault::new(kind, None)),
    };
    let above = 32 - 8 * u32::try_from(bytes).unwrap_or(4);
    let value = if kind >= 4 { ((value << above).cast_signed() >> above).cast_unsigned() } else { value };
    let mask = (0..64)
        .step_by(4)
        .filter(|lane| wave.exec() >> lane & 15 != 0)
        .fold(0, |mask, lane| mask | 15 << lane);
    wave.write_row(target_first(op), &[value; L], mask & Wave::<L>::all_lanes());
}

/// Adds to the word of LDS at M0's address, or subtracts from it, how many lanes are active; all get the old value.
fn count_lanes<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    f: impl Fn(u32, u32) -> u32,
) {
    let (mask, address) = (wave.exec(), counter_address(wave, op));
    let changed = at.load_lds32(address).and_then(|old| {
        at.store_lds32(address, f(old, mask.count_ones()))?;
        Ok(old)
    });
    match changed {
        Ok(old) => wave.write_row(target_first(op), &[old; L], mask),
        Err(kind) => wave.fault(LaunchFault::new(kind, None)),
    }
}

/// Where a wave counts lanes.
fn counter_address<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> u32 {
    (wave.scalar(M0) & 0xffff).wrapping_add(op.immediate.cast_unsigned())
}

/// The same address for every lane.
pub(super) fn counter_addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L] {
    [counter_address(wave, op).into(); L]
}

instructions! {
    /// Accesses whose addresses M0 or the lane's number give.
    implied(wave, op, at) {
        "ds_append" => count_lanes(wave, op, at, u32::wrapping_add);
        "ds_consume" => count_lanes(wave, op, at, u32::wrapping_sub);
        "ds_load_addtid_b32" => load_words::<L, 1, LdsByLane>(wave, op, at);
        "ds_store_addtid_b32" => store_words::<L, 1, LdsByLane>(wave, op, at);
        "global_load_addtid_b32" => load_words::<L, 1, GlobalByLane>(wave, op, at);
        "global_store_addtid_b32" => store_words::<L, 1, GlobalByLane>(wave, op, at);
        "lds_direct_load" => load_direct(wave, op, at);
    }
}

/// Two accesses of one LDS instruction, `stride` bytes a unit of the offsets in the immediate.
#[inline(always)]
fn load_two<const L: usize, const WORDS: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    stride: u32,
) {
    let bases = words(wave, &op.sources[ADDRESS]);
    let (mask, target) = (wave.exec(), target_first(op));
    let mut rows = [[0_u32; L]; 4];
    for lane in active::<L>(mask) {
        for (half, offset) in two_offsets(op, stride).into_iter().enumerate() {
            for word in 0..WORDS {
                let address = bases[lane].wrapping_add(offset).wrapping_add(4 * low(word as u64));
                match at.load_lds32(address) {
                    Ok(value) => rows[half * WORDS + word][lane] = value,
                    Err(kind) => return fail(wave, kind, lane),
                }
            }
        }
    }
    for (word, row) in rows.iter().enumerate().take(2 * WORDS) {
        wave.write_row(target + word, row, mask);
    }
}

#[inline(always)]
fn store_two<const L: usize, const WORDS: usize, const EXCHANGE: bool>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    stride: u32,
) {
    let bases = words(wave, &op.sources[ADDRESS]);
    let (mask, data) = (wave.exec(), [first(op, DATA), first(op, DATA2)]);
    let mut old = [[0_u32; L]; 4];
    for lane in active::<L>(mask) {
        for (half, offset) in two_offsets(op, stride).into_iter().enumerate() {
            for word in 0..WORDS {
                let address = bases[lane].wrapping_add(offset).wrapping_add(4 * low(word as u64));
                let value = wave.row(data[half].wrapping_add(word))[lane];
                let result = at.load_lds32(address).and_then(|before| {
                    old[half * WORDS + word][lane] = before;
                    at.store_lds32(address, value)
                });
                if let Err(kind) = result {
                    return fail(wave, kind, lane);
                }
            }
        }
    }
    if EXCHANGE {
        for (word, row) in old.iter().enumerate().take(2 * WORDS) {
            wave.write_row(target_first(op) + word, row, mask);
        }
    }
}

#[inline(always)]
fn two_offsets<const L: usize>(op: &Op<L>, stride: u32) -> [u32; 2] {
    let packed = op.immediate.cast_unsigned();
    [(packed & 255) * stride, (packed >> 8 & 255) * stride]
}

instructions! {
    lds_pairs(wave, op, at) {
        "ds_load_2addr_b32" => load_two::<L, 1>(wave, op, at, 4);
        "ds_load_2addr_b64" => load_two::<L, 2>(wave, op, at, 8);
        "ds_load_2addr_stride64_b32" => load_two::<L, 1>(wave, op, at, 256);
        "ds_load_2addr_stride64_b64" => load_two::<L, 2>(wave, op, at, 512);
        "ds_store_2addr_b32" => store_two::<L, 1, false>(wave, op, at, 4);
        "ds_store_2addr_b64" => store_two::<L, 2, false>(wave, op, at, 8);
        "ds_store_2addr_stride64_b32" => store_two::<L, 1, false>(wave, op, at, 256);
        "ds_store_2addr_stride64_b64" => store_two::<L, 2, false>(wave, op, at, 512);
        "ds_storexchg_2addr_rtn_b32" => store_two::<L, 1, true>(wave, op, at, 4);
        "ds_storexchg_2addr_rtn_b64" => store_two::<L, 2, true>(wave, op, at, 8);
        "ds_storexchg_2addr_stride64_rtn_b32" => store_two::<L, 1, true>(wave, op, at, 256);
        "ds_storexchg_2addr_stride64_rtn_b64" => store_two::<L, 2, true>(wave, op, at, 512);
    }
}
