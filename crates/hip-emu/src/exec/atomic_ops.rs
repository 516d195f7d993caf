//! Atomics of every address space.

use crate::exec::{
    buffers::Buffer,
    element::Element,
    environment::Environment,
    float::{F16, bf16_to_f32, f32_to_bf16, flushed, half_word},
    memory_ops::{active, fail, first},
    mode::{Mode, Precision},
    op::{Op, Place, Source, Target},
    shape::each,
    space::{DATA, DATA2, Flat, Global, Lds, Space},
    table::instructions,
    wave::{Wave, low},
};

/// `f` of the old word, the data and the comparand.
#[inline(always)]
fn atomic32<const L: usize, S: Space>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    f: impl Fn(u32, u32, u32) -> u32,
) {
    let addresses = S::addresses(wave, op);
    let (mask, data) = (wave.exec(), first(op, DATA));
    // LDS names the comparand; elsewhere it follows the data.
    let other = op.sources.get(DATA2).and_then(Source::vector).unwrap_or(data.wrapping_add(1));
    let (values, others) = (*wave.row(data), *wave.row(other));
    let mut old = [0; L];
    for lane in active::<L>(mask) {
        match S::update32(wave, at, lane, addresses[lane], |word| f(word, values[lane], others[lane])) {
            Ok(word) => old[lane] = word,
            Err(kind) => return fail(wave, kind, lane),
        }
    }
    if let Target::Vector { first, .. } = op.target {
        wave.write_row(usize::from(first), &old, mask);
    }
}

#[inline(always)]
fn atomic64<const L: usize, S: Space>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    at: &mut Environment<'_>,
    f: impl Fn(u64, u64, u64) -> u64,
) {
    let addresses = S::addresses(wave, op);
    let (mask, data) = (wave.exec(), first(op, DATA));
    let other = op.sources.get(DATA2).and_then(Source::vector).unwrap_or(data.wrapping_add(2));
    let pair = |first: usize| {
        u64::row(wave, &Source::plain(Place::Vector(u16::try_from(first).unwrap_or(u16::MAX))))
    };
    let (values, others) = (pair(data), pair(other));
    let mut old = [0; L];
    for lane in active::<L>(mask) {
        match S::update64(wave, at, lane, addresses[lane], |word| f(word, values[lane], others[lane])) {
            Ok(word) => old[lane] = word,
            Err(kind) => return fail(wave, kind, lane),
        }
    }
    if let Target::Vector { first, .. } = op.target {
        wave.write_row(usize::from(first), &each(old, low), mask);
        wave.write_row(usize::from(first) + 1, &each(old, |word| low(word >> 32)), mask);
    }
}

fn float(f: impl Fn(f32, f32) -> f32, old: u32, value: u32) -> u32 {
    f(f32::from_bits(old), f32::from_bits(value)).to_bits()
}

/// Of operations in LDS, denormals obey the mode.
fn moded(mode: Mode, f: impl Fn(f32, f32) -> f32, old: u32, value: u32) -> u32 {
    let input = |bits: u32| {
        let value = f32::from_bits(bits);
        if mode.flushes_input(Precision::Single) { flushed(value) } else { value }
    };
    let result = f(input(old), input(value));
    if mode.flushes_output(Precision::Single) { flushed(result).to_bits() } else { result.to_bits() }
}

fn double(f: impl Fn(f64, f64) -> f64, old: u64, value: u64) -> u64 {
    f(f64::from_bits(old), f64::from_bits(value)).to_bits()
}

/// One operation on both halves of a word.
fn halves(f: impl Fn(u16, u16) -> u16, old: u32, value: u32) -> u32 {
    let half = |bits: u32| half_word(u64::from(bits));
    u32::from(f(half(old), half(value))) | u32::from(f(half(old >> 16), half(value >> 16))) << 16
}

fn add_f16(a: u16, b: u16) -> u16 {
    F16::from_f32(F16(a).to_f32() + F16(b).to_f32()).0
}

fn add_bf16(a: u16, b: u16) -> u16 {
    f32_to_bf16(bf16_to_f32(a) + bf16_to_f32(b))
}

/// Halves of a pair that are replaced where the data's sign bit says so, without that bit.
fn exchange_marked(old: u64, value: u64) -> u64 {
    const SIGN: u64 = 1 << 31;
    let half = |old: u64, value: u64| if value & SIGN != 0 { value & (SIGN - 1) } else { old };
    half(old & 0xffff_ffff, value & 0xffff_ffff) | half(old >> 32, value >> 32) << 32
}

instructions! {
    global_atomics(wave, op, at) {
        "global_atomic_add_u32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old.wrapping_add(value));
        "global_atomic_sub_u32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old.wrapping_sub(value));
        "global_atomic_min_i32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old.cast_signed().min(value.cast_signed()).cast_unsigned());
        "global_atomic_max_i32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old.cast_signed().max(value.cast_signed()).cast_unsigned());
        "global_atomic_min_u32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old.min(value));
        "global_atomic_max_u32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old.max(value));
        "global_atomic_and_b32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old & value);
        "global_atomic_or_b32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old | value);
        "global_atomic_xor_b32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old ^ value);
        "global_atomic_inc_u32" => atomic32::<L, Global>(wave, op, at, |old, value, _| if old >= value { 0 } else { old + 1 });
        "global_atomic_dec_u32" => atomic32::<L, Global>(wave, op, at, |old, value, _| if old == 0 || old > value { value } else { old - 1 });
        "global_atomic_add_f32" => atomic32::<L, Global>(wave, op, at, |old, value, _| float(|a, b| a + b, old, value));
        "global_atomic_min_f32" => atomic32::<L, Global>(wave, op, at, |old, value, _| float(f32::min, old, value));
        "global_atomic_max_f32" => atomic32::<L, Global>(wave, op, at, |old, value, _| float(f32::max, old, value));
        "global_atomic_swap_b32" => atomic32::<L, Global>(wave, op, at, |_, value, _| value);
        "global_atomic_cmpswap_b32" => atomic32::<L, Global>(wave, op, at, |old, value, compare| if old == compare { value } else { old });
        "global_atomic_cmpswap_f32" => atomic32::<L, Global>(wave, op, at, |old, value, compare| if f32::from_bits(old) == f32::from_bits(compare) { value } else { old });
        "global_atomic_pk_add_f16" => atomic32::<L, Global>(wave, op, at, |old, value, _| halves(add_f16, old, value));
        "global_atomic_pk_add_bf16" => atomic32::<L, Global>(wave, op, at, |old, value, _| halves(add_bf16, old, value));
        "global_atomic_add_f64" => atomic64::<L, Global>(wave, op, at, |old, value, _| double(|a, b| a + b, old, value));
        "global_atomic_min_f64" => atomic64::<L, Global>(wave, op, at, |old, value, _| double(f64::min, old, value));
        "global_atomic_max_f64" => atomic64::<L, Global>(wave, op, at, |old, value, _| double(f64::max, old, value));
        "global_atomic_csub_u32" => atomic32::<L, Global>(wave, op, at, |old, value, _| old.saturating_sub(value));
        "global_atomic_cond_sub_u32" => atomic32::<L, Global>(wave, op, at, |old, value, _| if old >= value { old - value } else { old });
        "global_atomic_add_u64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old.wrapping_add(value));
        "global_atomic_sub_u64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old.wrapping_sub(value));
        "global_atomic_min_i64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old.cast_signed().min(value.cast_signed()).cast_unsigned());
        "global_atomic_max_i64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old.cast_signed().max(value.cast_signed()).cast_unsigned());
        "global_atomic_min_u64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old.min(value));
        "global_atomic_max_u64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old.max(value));
        "global_atomic_and_b64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old & value);
        "global_atomic_or_b64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old | value);
        "global_atomic_xor_b64" => atomic64::<L, Global>(wave, op, at, |old, value, _| old ^ value);
        "global_atomic_inc_u64" => atomic64::<L, Global>(wave, op, at, |old, value, _| if old >= value { 0 } else { old + 1 });
        "global_atomic_dec_u64" => atomic64::<L, Global>(wave, op, at, |old, value, _| if old == 0 || old > value { value } else { old - 1 });
        "global_atomic_swap_b64" => atomic64::<L, Global>(wave, op, at, |_, value, _| value);
        "global_atomic_cmpswap_b64" => atomic64::<L, Global>(wave, op, at, |old, value, compare| if old == compare { value } else { old });
    }
}

instructions! {
    flat_atomics(wave, op, at) {
        "flat_atomic_add_u32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old.wrapping_add(value));
        "flat_atomic_sub_u32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old.wrapping_sub(value));
        "flat_atomic_min_i32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old.cast_signed().min(value.cast_signed()).cast_unsigned());
        "flat_atomic_max_i32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old.cast_signed().max(value.cast_signed()).cast_unsigned());
        "flat_atomic_min_u32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old.min(value));
        "flat_atomic_max_u32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old.max(value));
        "flat_atomic_and_b32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old & value);
        "flat_atomic_or_b32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old | value);
        "flat_atomic_xor_b32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old ^ value);
        "flat_atomic_inc_u32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| if old >= value { 0 } else { old + 1 });
        "flat_atomic_dec_u32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| if old == 0 || old > value { value } else { old - 1 });
        "flat_atomic_add_f32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| float(|a, b| a + b, old, value));
        "flat_atomic_min_f32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| float(f32::min, old, value));
        "flat_atomic_max_f32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| float(f32::max, old, value));
        "flat_atomic_swap_b32" => atomic32::<L, Flat>(wave, op, at, |_, value, _| value);
        "flat_atomic_cmpswap_b32" => atomic32::<L, Flat>(wave, op, at, |old, value, compare| if old == compare { value } else { old });
        "flat_atomic_cmpswap_f32" => atomic32::<L, Flat>(wave, op, at, |old, value, compare| if f32::from_bits(old) == f32::from_bits(compare) { value } else { old });
        "flat_atomic_pk_add_f16" => atomic32::<L, Flat>(wave, op, at, |old, value, _| halves(add_f16, old, value));
        "flat_atomic_pk_add_bf16" => atomic32::<L, Flat>(wave, op, at, |old, value, _| halves(add_bf16, old, value));
        "flat_atomic_add_f64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| double(|a, b| a + b, old, value));
        "flat_atomic_min_f64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| double(f64::min, old, value));
        "flat_atomic_max_f64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| double(f64::max, old, value));
        "flat_atomic_csub_u32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| old.saturating_sub(value));
        "flat_atomic_cond_sub_u32" => atomic32::<L, Flat>(wave, op, at, |old, value, _| if old >= value { old - value } else { old });
        "flat_atomic_add_u64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old.wrapping_add(value));
        "flat_atomic_sub_u64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old.wrapping_sub(value));
        "flat_atomic_min_i64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old.cast_signed().min(value.cast_signed()).cast_unsigned());
        "flat_atomic_max_i64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old.cast_signed().max(value.cast_signed()).cast_unsigned());
        "flat_atomic_min_u64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old.min(value));
        "flat_atomic_max_u64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old.max(value));
        "flat_atomic_and_b64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old & value);
        "flat_atomic_or_b64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old | value);
        "flat_atomic_xor_b64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| old ^ value);
        "flat_atomic_inc_u64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| if old >= value { 0 } else { old + 1 });
        "flat_atomic_dec_u64" => atomic64::<L, Flat>(wave, op, at, |old, value, _| if old == 0 || old > value { value } else { old - 1 });
        "flat_atomic_swap_b64" => atomic64::<L, Flat>(wave, op, at, |_, value, _| value);
        "flat_atomic_cmpswap_b64" => atomic64::<L, Flat>(wave, op, at, |old, value, compare| if old == compare { value } else { old });
    }
}

instructions! {
    buffer_atomics(wave, op, at) {
        "buffer_atomic_add_u32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old.wrapping_add(value));
        "buffer_atomic_sub_u32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old.wrapping_sub(value));
        "buffer_atomic_min_i32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old.cast_signed().min(value.cast_signed()).cast_unsigned());
        "buffer_atomic_max_i32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old.cast_signed().max(value.cast_signed()).cast_unsigned());
        "buffer_atomic_min_u32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old.min(value));
        "buffer_atomic_max_u32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old.max(value));
        "buffer_atomic_and_b32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old & value);
        "buffer_atomic_or_b32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old | value);
        "buffer_atomic_xor_b32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old ^ value);
        "buffer_atomic_inc_u32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| if old >= value { 0 } else { old + 1 });
        "buffer_atomic_dec_u32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| if old == 0 || old > value { value } else { old - 1 });
        "buffer_atomic_add_f32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| float(|a, b| a + b, old, value));
        "buffer_atomic_min_f32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| float(f32::min, old, value));
        "buffer_atomic_max_f32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| float(f32::max, old, value));
        "buffer_atomic_swap_b32" => atomic32::<L, Buffer>(wave, op, at, |_, value, _| value);
        "buffer_atomic_cmpswap_b32" => atomic32::<L, Buffer>(wave, op, at, |old, value, compare| if old == compare { value } else { old });
        "buffer_atomic_cmpswap_f32" => atomic32::<L, Buffer>(wave, op, at, |old, value, compare| if f32::from_bits(old) == f32::from_bits(compare) { value } else { old });
        "buffer_atomic_pk_add_f16" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| halves(add_f16, old, value));
        "buffer_atomic_pk_add_bf16" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| halves(add_bf16, old, value));
        "buffer_atomic_add_f64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| double(|a, b| a + b, old, value));
        "buffer_atomic_min_f64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| double(f64::min, old, value));
        "buffer_atomic_max_f64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| double(f64::max, old, value));
        "buffer_atomic_csub_u32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| old.saturating_sub(value));
        "buffer_atomic_cond_sub_u32" => atomic32::<L, Buffer>(wave, op, at, |old, value, _| if old >= value { old - value } else { old });
        "buffer_atomic_add_u64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old.wrapping_add(value));
        "buffer_atomic_sub_u64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old.wrapping_sub(value));
        "buffer_atomic_min_i64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old.cast_signed().min(value.cast_signed()).cast_unsigned());
        "buffer_atomic_max_i64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old.cast_signed().max(value.cast_signed()).cast_unsigned());
        "buffer_atomic_min_u64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old.min(value));
        "buffer_atomic_max_u64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old.max(value));
        "buffer_atomic_and_b64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old & value);
        "buffer_atomic_or_b64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old | value);
        "buffer_atomic_xor_b64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| old ^ value);
        "buffer_atomic_inc_u64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| if old >= value { 0 } else { old + 1 });
        "buffer_atomic_dec_u64" => atomic64::<L, Buffer>(wave, op, at, |old, value, _| if old == 0 || old > value { value } else { old - 1 });
        "buffer_atomic_swap_b64" => atomic64::<L, Buffer>(wave, op, at, |_, value, _| value);
        "buffer_atomic_cmpswap_b64" => atomic64::<L, Buffer>(wave, op, at, |old, value, compare| if old == compare { value } else { old });
    }
}

instructions! {
    lds_atomics(wave, op, at) {
        "ds_add_u32" | "ds_add_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old.wrapping_add(value));
        "ds_sub_u32" | "ds_sub_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old.wrapping_sub(value));
        "ds_min_i32" | "ds_min_rtn_i32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old.cast_signed().min(value.cast_signed()).cast_unsigned());
        "ds_max_i32" | "ds_max_rtn_i32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old.cast_signed().max(value.cast_signed()).cast_unsigned());
        "ds_min_u32" | "ds_min_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old.min(value));
        "ds_max_u32" | "ds_max_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old.max(value));
        "ds_and_b32" | "ds_and_rtn_b32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old & value);
        "ds_or_b32" | "ds_or_rtn_b32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old | value);
        "ds_xor_b32" | "ds_xor_rtn_b32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old ^ value);
        "ds_inc_u32" | "ds_inc_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| if old >= value { 0 } else { old + 1 });
        "ds_dec_u32" | "ds_dec_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| if old == 0 || old > value { value } else { old - 1 });
        "ds_csub_u32" | "ds_csub_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| old.saturating_sub(value));
        "ds_cond_sub_u32" | "ds_cond_sub_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| if old >= value { old - value } else { old });
        "ds_add_f32" | "ds_add_rtn_f32" => { let mode = wave.mode; atomic32::<L, Lds>(wave, op, at, |old, value, _| moded(mode, |a, b| a + b, old, value)) };
        "ds_min_f32" | "ds_min_rtn_f32" => { let mode = wave.mode; atomic32::<L, Lds>(wave, op, at, |old, value, _| moded(mode, f32::min, old, value)) };
        "ds_max_f32" | "ds_max_rtn_f32" => { let mode = wave.mode; atomic32::<L, Lds>(wave, op, at, |old, value, _| moded(mode, f32::max, old, value)) };
        "ds_rsub_u32" | "ds_rsub_rtn_u32" => atomic32::<L, Lds>(wave, op, at, |old, value, _| value.wrapping_sub(old));
        "ds_storexchg_rtn_b32" => atomic32::<L, Lds>(wave, op, at, |_, value, _| value);
        "ds_cmpstore_b32" | "ds_cmpstore_rtn_b32" => atomic32::<L, Lds>(wave, op, at, |old, value, compare| if old == compare { value } else { old });
        "ds_cmpstore_f32" | "ds_cmpstore_rtn_f32" => atomic32::<L, Lds>(wave, op, at, |old, value, compare| if f32::from_bits(old) == f32::from_bits(compare) { value } else { old });
        "ds_mskor_b32" | "ds_mskor_rtn_b32" => atomic32::<L, Lds>(wave, op, at, |old, mask, value| old & !mask | value);
        "ds_wrap_rtn_b32" => atomic32::<L, Lds>(wave, op, at, |old, value, limit| if old >= value { old - value } else { old.wrapping_add(limit) });
        "ds_add_u64" | "ds_add_rtn_u64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old.wrapping_add(value));
        "ds_sub_u64" | "ds_sub_rtn_u64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old.wrapping_sub(value));
        "ds_min_i64" | "ds_min_rtn_i64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old.cast_signed().min(value.cast_signed()).cast_unsigned());
        "ds_max_i64" | "ds_max_rtn_i64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old.cast_signed().max(value.cast_signed()).cast_unsigned());
        "ds_min_u64" | "ds_min_rtn_u64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old.min(value));
        "ds_max_u64" | "ds_max_rtn_u64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old.max(value));
        "ds_and_b64" | "ds_and_rtn_b64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old & value);
        "ds_or_b64" | "ds_or_rtn_b64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old | value);
        "ds_xor_b64" | "ds_xor_rtn_b64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| old ^ value);
        "ds_inc_u64" | "ds_inc_rtn_u64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| if old >= value { 0 } else { old + 1 });
        "ds_dec_u64" | "ds_dec_rtn_u64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| if old == 0 || old > value { value } else { old - 1 });
        "ds_pk_add_f16" | "ds_pk_add_rtn_f16" => atomic32::<L, Lds>(wave, op, at, |old, value, _| halves(add_f16, old, value));
        "ds_pk_add_bf16" | "ds_pk_add_rtn_bf16" => atomic32::<L, Lds>(wave, op, at, |old, value, _| halves(add_bf16, old, value));
        "ds_add_f64" | "ds_add_rtn_f64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| double(|a, b| a + b, old, value));
        "ds_min_f64" | "ds_min_rtn_f64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| double(f64::min, old, value));
        "ds_max_f64" | "ds_max_rtn_f64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| double(f64::max, old, value));
        "ds_rsub_u64" | "ds_rsub_rtn_u64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| value.wrapping_sub(old));
        "ds_storexchg_rtn_b64" => atomic64::<L, Lds>(wave, op, at, |_, value, _| value);
        "ds_cmpstore_b64" | "ds_cmpstore_rtn_b64" => atomic64::<L, Lds>(wave, op, at, |old, value, compare| if old == compare { value } else { old });
        "ds_cmpstore_f64" | "ds_cmpstore_rtn_f64" => atomic64::<L, Lds>(wave, op, at, |old, value, compare| if f64::from_bits(old) == f64::from_bits(compare) { value } else { old });
        "ds_condxchg32_rtn_b64" => atomic64::<L, Lds>(wave, op, at, |old, value, _| exchange_marked(old, value));
        "ds_mskor_b64" | "ds_mskor_rtn_b64" => atomic64::<L, Lds>(wave, op, at, |old, mask, value| old & !mask | value);
    }
}
