//! Loads and stores of buffer elements with a format, and loads from buffers to LDS.

use crate::{
    FaultKind,
    exec::{
        buffers::{Buffer, element_addresses, is_outside, reach_of},
        environment::Environment,
        float::half_word,
        formats::Format,
        memory_ops::{active, fail, first, target_first},
        op::{Op, Place},
        space::{BASE, DATA, LdsByLane, Space as _},
        table::instructions,
        wave::{Wave, low},
    },
};

/// How registers hold components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// One in each.
    Whole,
    /// Two in each, the first one in the low half.
    Halves,
    /// One, in the high half.
    High,
}

/// The format that an access has: the instruction's own, else the descriptor's.
pub(super) fn format_of<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> Option<Format> {
    let Place::Scalar(first) = op.sources[BASE].place else { return None };
    let described = wave.scalar(usize::from(first) + 3) >> 12 & 63;
    Format::of(if op.format == 0 { described } else { u32::from(op.format) })
}

/// Which component of the element each component of the result is: 0 and 1 stand for themselves, 4 to 7 for the element's.
fn selection<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u32; 4] {
    let Place::Scalar(first) = op.sources[BASE].place else { return [0; 4] };
    let word = wave.scalar(usize::from(first) + 3);
    [word & 7, word >> 3 & 7, word >> 6 & 7, word >> 9 & 7]
}

/// The selection that leaves components where they are.
const IN_ORDER: [u32; 4] = [4, 5, 6, 7];

fn load_element(at: &mut Environment<'_>, address: u64, bytes: u8) -> Result<u128, FaultKind> {
    let address = |offset: u32| address.wrapping_add(offset.into());
    match bytes {
        1 => at.load8(address(0)).map(u128::from),
        2 => at.load16(address(0)).map(u128::from),
        _ => (0..u32::from(bytes) / 4).try_fold(0, |element, word| {
            Ok(element | u128::from(at.load32(address(4 * word))?) << (32 * word))
        }),
    }
}

fn store_element(at: &mut Environment<'_>, address: u64, bytes: u8, element: u128) -> Result<(), FaultKind> {
    let parts = element.to_le_bytes();
    match bytes {
        1 => at.store8(address, parts[0]),
        2 => at.store16(address, u16::from_le_bytes([parts[0], parts[1]])),
        _ => parts.chunks_exact(4).take(usize::from(bytes / 4)).zip(0_u64..).try_for_each(|(word, index)| {
            let value = word.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
            at.store32(address.wrapping_add(4 * index), value)
        }),
    }
}

/// The components that one lane loads; zeros from outside the buffer.
fn components(
    at: &mut Environment<'_>,
    format: Format,
    selection: [u32; 4],
    address: u64,
) -> Result<[u32; 4], FaultKind> {
    if is_outside(address) {
        return reach_of(address).map(|()| [0; 4]);
    }
    let element = format.read(load_element(at, address, format.bytes())?);
    let mut selected = [0; 4];
    for (component, select) in selected.iter_mut().zip(selection) {
        *component = match select {
            0 => 0,
            1 => format.one(),
            4..=7 => element[usize::try_from(select - 4).unwrap_or(0)],
            _ => return Err(FaultKind::Unsupported),
        };
    }
    Ok(selected)
}

fn load<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    count: usize,
    width: Width,
) {
    let Some(format) = format_of(wave, op) else { return super::lanes::unsupported(wave) };
    let (addresses, selection) = (element_addresses(wave, op, format.bytes()), selection(wave, op));
    let (mask, target) = (wave.exec(), target_first(op));
    let mut rows: [[u32; L]; 4] = std::array::from_fn(|word| *wave.row(target.saturating_add(word)));
    for lane in active::<L>(mask) {
        let loaded = components(at, format, selection, addresses[lane]).and_then(|components| {
            for (index, &component) in components.iter().enumerate().take(count) {
                if width == Width::Whole {
                    rows[index][lane] = component;
                    continue;
                }
                let half = format.halved(component).ok_or(FaultKind::Unsupported)?;
                let (word, high) = (&mut rows[index / 2][lane], width == Width::High || index % 2 == 1);
                *word = if high {
                    *word & 0xffff | u32::from(half) << 16
                } else {
                    *word & 0xffff_0000 | u32::from(half)
                };
            }
            Ok(())
        });
        if let Err(kind) = loaded {
            return fail(wave, kind, lane);
        }
    }
    let words = if width == Width::Whole { count } else { count.div_ceil(2) };
    for (word, row) in rows.iter().enumerate().take(words) {
        wave.write_row(target + word, row, mask);
    }
}

fn store<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    count: usize,
    width: Width,
) {
    let Some(format) = format_of(wave, op) else { return super::lanes::unsupported(wave) };
    // It is not specified where components go that the descriptor reorders.
    if selection(wave, op).iter().zip(IN_ORDER).take(format.bits.len()).any(|(&found, own)| found != own) {
        return super::lanes::unsupported(wave);
    }
    let addresses = element_addresses(wave, op, format.bytes());
    let (mask, data) = (wave.exec(), first(op, DATA));
    let rows: [[u32; L]; 4] = std::array::from_fn(|word| *wave.row(data.saturating_add(word)));
    for lane in active::<L>(mask) {
        let mut components = [0; 4];
        for (index, component) in components.iter_mut().enumerate().take(count) {
            *component = match width {
                Width::Whole => rows[index][lane],
                Width::High => format.widened(half_word(u64::from(rows[0][lane] >> 16))),
                Width::Halves => {
                    format.widened(half_word(u64::from(rows[index / 2][lane] >> (16 * (index % 2)))))
                }
            };
        }
        let address = addresses[lane];
        let stored = if is_outside(address) {
            reach_of(address)
        } else {
            format
                .write(components)
                .ok_or(FaultKind::Unsupported)
                .and_then(|element| store_element(at, address, format.bytes(), element))
        };
        if let Err(kind) = stored {
            return fail(wave, kind, lane);
        }
    }
}

/// Loads a part of a word, or a word, of each lane and stores it as a word to LDS: at M0's address, lane after lane.
fn load_to_lds<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    bytes: usize,
    signed: bool,
) {
    let addresses = Buffer::addresses(wave, op);
    let above = 32 - 8 * u32::try_from(bytes).unwrap_or(4);
    to_lds(wave, op, at, |wave, at, lane| {
        let value = Buffer::load(wave, at, lane, addresses[lane], bytes)?;
        Ok(if signed { ((value << above).cast_signed() >> above).cast_unsigned() } else { value })
    });
}

fn load_element_to_lds<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, at: &mut Environment<'_>) {
    let Some(format) = format_of(wave, op) else { return super::lanes::unsupported(wave) };
    let (addresses, selection) = (element_addresses(wave, op, format.bytes()), selection(wave, op));
    to_lds(wave, op, at, |_, at, lane| {
        components(at, format, selection, addresses[lane]).map(|found| found[0])
    });
}

fn to_lds<const L: usize>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    load: impl Fn(&Wave<L>, &mut Environment<'_>, usize) -> Result<u32, FaultKind>,
) {
    let places = LdsByLane::addresses(wave, op);
    for lane in active::<L>(wave.exec()) {
        let moved = load(wave, at, lane).and_then(|value| at.store_lds32(low(places[lane]), value));
        if let Err(kind) = moved {
            return fail(wave, kind, lane);
        }
    }
}

instructions! {
    /// Elements with a format, between buffers and registers.
    elements(wave, op, at) {
        "buffer_load_format_x" | "tbuffer_load_format_x" => load(wave, op, at, 1, Width::Whole);
        "buffer_load_format_xy" | "tbuffer_load_format_xy" => load(wave, op, at, 2, Width::Whole);
        "buffer_load_format_xyz" | "tbuffer_load_format_xyz" => load(wave, op, at, 3, Width::Whole);
        "buffer_load_format_xyzw" | "tbuffer_load_format_xyzw" => load(wave, op, at, 4, Width::Whole);
        "buffer_load_d16_format_x" | "tbuffer_load_d16_format_x" => load(wave, op, at, 1, Width::Halves);
        "buffer_load_d16_format_xy" | "tbuffer_load_d16_format_xy" => load(wave, op, at, 2, Width::Halves);
        "buffer_load_d16_format_xyz" | "tbuffer_load_d16_format_xyz" => load(wave, op, at, 3, Width::Halves);
        "buffer_load_d16_format_xyzw" | "tbuffer_load_d16_format_xyzw" => load(wave, op, at, 4, Width::Halves);
        "buffer_load_d16_hi_format_x" => load(wave, op, at, 1, Width::High);
        "buffer_store_format_x" | "tbuffer_store_format_x" => store(wave, op, at, 1, Width::Whole);
        "buffer_store_format_xy" | "tbuffer_store_format_xy" => store(wave, op, at, 2, Width::Whole);
        "buffer_store_format_xyz" | "tbuffer_store_format_xyz" => store(wave, op, at, 3, Width::Whole);
        "buffer_store_format_xyzw" | "tbuffer_store_format_xyzw" => store(wave, op, at, 4, Width::Whole);
        "buffer_store_d16_format_x" | "tbuffer_store_d16_format_x" => store(wave, op, at, 1, Width::Halves);
        "buffer_store_d16_format_xy" | "tbuffer_store_d16_format_xy" => store(wave, op, at, 2, Width::Halves);
        "buffer_store_d16_format_xyz" | "tbuffer_store_d16_format_xyz" => store(wave, op, at, 3, Width::Halves);
        "buffer_store_d16_format_xyzw" | "tbuffer_store_d16_format_xyzw" => store(wave, op, at, 4, Width::Halves);
        "buffer_store_d16_hi_format_x" => store(wave, op, at, 1, Width::High);
        "buffer_load_lds_u8" => load_to_lds(wave, op, at, 1, false);
        "buffer_load_lds_i8" => load_to_lds(wave, op, at, 1, true);
        "buffer_load_lds_u16" => load_to_lds(wave, op, at, 2, false);
        "buffer_load_lds_i16" => load_to_lds(wave, op, at, 2, true);
        "buffer_load_lds_b32" => load_to_lds(wave, op, at, 4, false);
        "buffer_load_lds_format_x" => load_element_to_lds(wave, op, at);
    }
}
