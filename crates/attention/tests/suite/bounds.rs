//! `attend` against f64, within both forms of the derived bound, on the CPU and on every device.

use std::collections::BTreeMap;

use attention::KvDType;
use device_mem::Device;
use half::bf16;
use parity::{Tolerance, compare, first_alike, matrix_units};

use crate::common::{KV_TYPES, Pass, cache, devices, gpus, shape};
use crate::truth::{Exact, Order};

/// Holds what devices gave to the same bits: all of them, or where matrix units may have multiplied, those with the same.
pub(crate) fn alike<'a>(results: impl IntoIterator<Item = (&'a Device, &'a [f32])>, order: Order) {
    let mut firsts = BTreeMap::new();
    for (device, result) in results {
        let kind = if let Order::Hip = order { None } else { matrix_units(device) };
        let first = firsts.entry(kind).or_insert(result);
        compare(first, result, Tolerance::Bits)
            .unwrap_or_else(|mismatch| panic!("{device} and another device: {mismatch}"));
    }
}

/// The largest share of the probable bound that an output uses.
#[track_caller]
pub(crate) fn within(what: &str, exact: &Exact, order: Order, got: &[f32]) -> f64 {
    if let Err(mismatch) = compare(&exact.out, got, Tolerance::Elementwise(&exact.worst)) {
        panic!("{what}, worst-case form: {mismatch}");
    }
    if let Err(mismatch) = compare(&exact.out, got, Tolerance::Nmse(exact.most_nmse(order))) {
        panic!("{what}: {mismatch}");
    }
    match compare(&exact.out, got, Tolerance::Elementwise(&exact.probable)) {
        Ok(report) => report.worst_share,
        Err(mismatch) => panic!("{what}, probable form: {mismatch}"),
    }
}

/// Every device is within the bound, and all HIP devices give the same bits.
#[track_caller]
fn check(pass: &Pass, dtype: KvDType) -> f64 {
    let what = format!("{}, {} tokens, {dtype}", pass.shape, pass.tokens);
    let order = Order::hip(dtype, pass.shape, pass.tokens);
    let (cpu, hip) = (pass.exact(dtype, Order::Cpu), pass.exact(dtype, order));
    let got = pass.run_alone(&Device::Cpu, dtype);
    let mut share = within(&format!("{what} on the CPU"), &cpu, Order::Cpu, &got);
    let devices = gpus();
    let results = Vec::from_iter(devices.iter().map(|device| pass.run_alone(device, dtype)));
    for (device, got) in devices.iter().zip(&results) {
        share = share.max(within(&format!("{what} on {device:?}"), &hip, order, got));
        compare(&results[first_alike(&devices, device)], got, Tolerance::Bits)
            .unwrap_or_else(|mismatch| panic!("{what} on {device:?} and another: {mismatch}"));
    }
    share
}

/// Around the blocks of the CPU (32 keys), and the rows (16), pieces (64) and chunks (256) of keys of a card.
#[test]
fn lengths_around_the_edges_of_blocks() {
    for tokens in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129] {
        for (dtype, q_scale) in KV_TYPES.into_iter().zip([8.0, 1.0, 8.0]) {
            check(&Pass::new(u64::from(tokens), shape(4, 2, 64), tokens, q_scale), dtype);
        }
    }
    for tokens in [255, 256, 257, 300] {
        check(&Pass::new(u64::from(tokens), shape(2, 1, 64), tokens, 4.0), KvDType::BF16);
    }
}

#[test]
fn every_width() {
    for head_dim in [1, 2, 3, 8, 15, 16, 31, 32, 33, 40, 63, 64, 65, 72, 80, 96, 100, 112, 127, 128, 129] {
        for (dtype, tokens) in KV_TYPES.into_iter().zip([9, 37, 70]) {
            check(&Pass::new(7, shape(2, 1, head_dim), tokens, 4.0), dtype);
        }
    }
    for head_dim in [160, 192, 193, 248, 255, 256] {
        for dtype in KV_TYPES {
            check(&Pass::new(7, shape(2, 1, head_dim), 70, 4.0), dtype);
        }
    }
}

#[test]
fn every_group() {
    for (q_heads, kv_heads) in [
        (1, 1),
        (6, 6),
        (3, 1),
        (5, 1),
        (8, 2),
        (14, 2),
        (15, 1),
        (16, 1),
        (17, 1),
        (24, 1),
        (32, 2),
        (32, 1),
    ] {
        check(&Pass::new(8, shape(q_heads, kv_heads, 16), 35, 4.0), KvDType::F16);
        check(&Pass::new(9, shape(q_heads, kv_heads, 132), 4, 4.0), KvDType::BF16);
    }
    for (q_heads, kv_heads) in [(130, 2), (96, 8), (33, 33)] {
        check(&Pass::new(10, shape(q_heads, kv_heads, 8), 5, 4.0), KvDType::F32);
    }
}

#[test]
fn long_sequences_keep_the_bound_with_room() {
    let share = check(&Pass::new(10, shape(2, 1, 32), 1100, 3.0), KvDType::F32);
    assert!(share < 0.5, "{share}");
}

/// A decoded token over several chunks, which a card shares out among blocks, also where a token's heads are more than a
/// block takes.
#[test]
fn tokens_after_long_prompts_keep_the_bound() {
    for (q_heads, kv_heads, head_dim, dtype) in [
        (32, 2, 128, KvDType::BF16),
        (3, 1, 64, KvDType::F16),
        (6, 2, 80, KvDType::F32),
        (24, 1, 40, KvDType::BF16),
        (2, 2, 200, KvDType::F16),
    ] {
        for end in [257, 511, 512, 513, 769] {
            let pass = Pass::new(u64::from(end), shape(q_heads, kv_heads, head_dim), end, 6.0);
            let last = |device: &Device| {
                let mut cache = cache(device, pass.shape, end, dtype);
                pass.tokens(0, end - 1).append_only(&mut cache);
                pass.tokens(end - 1, end).run(&mut cache)
            };
            let gpus = gpus();
            let results = Vec::from_iter(gpus.iter().map(|device| last(device)));
            let order = Order::hip(dtype, pass.shape, 1);
            let exact = pass.exact_from(end - 1, dtype, order);
            for got in &results {
                within(&format!("{}, token {end}, {dtype}", pass.shape), &exact, order, got);
            }
            alike(gpus.iter().zip(&results).map(|(device, got)| (&**device, &**got)), order);
        }
    }
}

#[test]
fn one_dominant_key_is_copied() {
    // Scores of about +-900 leave one probability of 1: the output is that value's row, rounded as the cache rounds.
    let mut pass = Pass::new(11, shape(2, 2, 64), 40, 1.0);
    pass.q.fill(30.0);
    let row = 2 * 64;
    for (key, chunk) in pass.k.chunks_exact_mut(row).enumerate() {
        chunk.fill(if key == 5 { 4.0 } else { -4.0 });
    }
    for device in devices() {
        let got = pass.run_alone(&device, KvDType::BF16);
        for token in 5..40 {
            let values = Vec::from_iter(pass.v[5 * row..6 * row].iter().map(|&value| bf16::from_f32(value)));
            compare(&values, &got[token * row..(token + 1) * row], Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn a_score_of_minus_infinity_weighs_nothing_and_nan_spoils_its_own_query_only() {
    for device in devices() {
        // The first keys (a whole block or chunk, and one) score -inf; the others keep their order of sums.
        let masked_keys = if let Device::Cpu = device { 33 } else { 257 };
        let tokens = masked_keys + 37;
        let mut pass = Pass::new(12, shape(1, 1, 8), tokens, 1.0);
        pass.q.iter_mut().for_each(|value| *value = value.abs() + 0.1);
        let plain = pass.run_alone(&device, KvDType::F32);
        let (first, last) = (masked_keys as usize, tokens as usize - 1);
        pass.k[..first * 8].fill(f32::NEG_INFINITY);
        let masked = pass.run_alone(&device, KvDType::F32);
        assert!(masked[..first * 8].iter().all(|value| value.is_nan()), "no finite score, no distribution");
        assert_eq!(masked[first * 8..][..8], pass.v[first * 8..][..8], "one finite score");
        assert!(masked[first * 8..].iter().all(|value| value.is_finite()));
        assert_ne!(masked[last * 8..], plain[last * 8..]);

        let spoilt_token = first + 17;
        pass.q[spoilt_token * 8] = f32::NAN;
        let spoilt = pass.run_alone(&device, KvDType::F32);
        for token in first..=last {
            let row = token * 8..(token + 1) * 8;
            if token == spoilt_token {
                assert!(spoilt[row].iter().all(|value| value.is_nan()));
            } else {
                compare(&masked[row.clone()], &spoilt[row], Tolerance::Bits).unwrap();
            }
        }
    }
}

/// One token over heads of 128, which waves of matrix units attend in two pieces: an infinite key or value must not meet a rest of 0.
#[test]
fn one_token_meets_infinities_as_the_formula_does() {
    let (q_heads, head_dim, end) = (4, 128, 300);
    for (key, of_values) in [(7, true), (7, false), (290, true), (299, false)] {
        let mut pass = Pass::new(41, shape(q_heads, 1, head_dim), end, 2.0);
        let changed = if of_values { &mut pass.v } else { &mut pass.k };
        changed[key * head_dim as usize + 3] = f32::INFINITY;
        for device in devices() {
            let mut cache = cache(&device, pass.shape, end, KvDType::BF16);
            pass.tokens(0, end - 1).append_only(&mut cache);
            let out = pass.tokens(end - 1, end).run(&mut cache);
            for (head, row) in out.chunks_exact(head_dim as usize).enumerate() {
                let query = pass.q[((end as usize - 1) * q_heads as usize + head) * head_dim as usize + 3];
                let what = format!("key {key}, values {of_values}, head {head} on {device}: {row:?}");
                if of_values {
                    assert!(row[3] == f32::INFINITY, "{what}");
                    assert!(row.iter().enumerate().all(|(i, value)| i == 3 || value.is_finite()), "{what}");
                } else {
                    // The key scores +inf, which has no distribution, or -inf, which weighs nothing.
                    assert!(row.iter().all(|value| value.is_nan() == (query > 0.0)), "{what}");
                }
            }
        }
    }
}

#[test]
fn special_values_give_nan_and_infinity_where_the_formula_does() {
    let spoil = |part: fn(&mut Pass) -> &mut Vec<f32>, at: usize, value: f32| {
        let mut pass = Pass::new(13, shape(2, 1, 8), 300, 1.0);
        part(&mut pass)[at] = value;
        pass
    };
    // Key 270 or its value is spoilt: tokens before it are as they were, those from it on have what the formula gives.
    let at = 270 * 8 + 3;
    for device in devices() {
        let plain = Pass::new(13, shape(2, 1, 8), 300, 1.0).run_alone(&device, KvDType::BF16);
        for value in [f32::NAN, f32::INFINITY] {
            let got = spoil(|pass| &mut pass.k, at, value).run_alone(&device, KvDType::BF16);
            compare(&plain[..270 * 16], &got[..270 * 16], Tolerance::Bits).unwrap();
            // An infinite key scores +inf or -inf by the query's sign; +inf has no distribution, -inf weighs nothing.
            let pass = Pass::new(13, shape(2, 1, 8), 300, 1.0);
            for row in 270 * 2..300 * 2 {
                let spoilt = value.is_nan() || pass.q[row * 8 + 3] > 0.0;
                let out = &got[row * 8..(row + 1) * 8];
                assert!(out.iter().all(|value| value.is_nan() == spoilt), "{device}: row {row}: {out:?}");
            }
            let got = spoil(|pass| &mut pass.v, at, value).run_alone(&device, KvDType::BF16);
            for (index, (before, after)) in plain.iter().zip(&got).enumerate() {
                let reached = index / 16 >= 270 && index % 8 == 3;
                let expected = if reached { value } else { *before };
                assert!(
                    expected.to_bits() == after.to_bits() || (expected.is_nan() && after.is_nan()),
                    "{index}"
                );
            }
        }
    }
}

/// Keys have a softmax for each span (512 of the CPU, 1024 of a card), which are merged: here one key outweighs all others by
/// more than `e^88`, the most that f32 holds.
#[test]
fn spans_are_merged_wherever_the_largest_score_is() {
    const TOKENS: u32 = 2100;
    let shape = shape(2, 1, 8);
    for at in [3, 700, 1030, 2099] {
        let mut pass = Pass::new(9, shape, TOKENS, 1.0);
        let width = shape.head_dim() as usize;
        pass.q[(TOKENS as usize - 1) * 2 * width..].fill(4.0);
        pass.k[at * width..(at + 1) * width].fill(30.0);
        let last = TOKENS - 1;
        let exact = pass.exact_from(last, KvDType::F32, Order::Hip);
        for device in devices() {
            let mut cache = cache(&device, shape, TOKENS, KvDType::F32);
            pass.tokens(0, last).append_only(&mut cache);
            let got = pass.tokens(last, TOKENS).run(&mut cache);
            within(&format!("the largest score at {at} on {device:?}"), &exact, Order::Hip, &got);
            let value = &pass.v[at * width..(at + 1) * width];
            compare(&[value, value].concat(), &got, Tolerance::Absolute(1e-6)).unwrap();
        }
    }
}

/// One token that waves attend: more spans than a row has lanes to put them together, longer ones where there are most of them,
/// and those of heads that are enough for fewer.
#[test]
fn many_spans_of_waves_keep_the_bound() {
    for (heads, keys) in [(1, 4400), (1, 16_700), (8, 4400)] {
        let shape = shape(heads, heads, 128);
        let pass = Pass::new(13, shape, keys, 4.0);
        let last = keys - 1;
        for device in devices() {
            let order = Order::of(&device, KvDType::BF16, shape, 1);
            let exact = pass.exact_from(last, KvDType::BF16, order);
            let mut cache = cache(&device, shape, keys, KvDType::BF16);
            pass.tokens(0, last).append_only(&mut cache);
            let got = pass.tokens(last, keys).run(&mut cache);
            within(&format!("{keys} keys of {heads} heads on {device:?}"), &exact, order, &got);
        }
    }
}

/// A long cache whose heads leave half of a vector: two of them share it.
#[test]
fn spans_of_two_heads_are_those_of_each() {
    const TOKENS: u32 = 2100;
    for (q_heads, kv_heads, head_dim, of_pass) in [(2, 2, 40, 1), (8, 4, 8, 2), (8, 2, 64, 2)] {
        let shape = shape(q_heads, kv_heads, head_dim);
        let pass = Pass::new(11, shape, TOKENS, 1.0);
        let first = TOKENS - of_pass;
        for dtype in [KvDType::F32, KvDType::BF16] {
            let exact = pass.exact_from(first, dtype, Order::Hip);
            for device in devices() {
                let mut cache = cache(&device, shape, TOKENS, dtype);
                pass.tokens(0, first).append_only(&mut cache);
                let got = pass.tokens(first, TOKENS).run(&mut cache);
                within(&format!("{q_heads} over {kv_heads} heads on {device:?}"), &exact, Order::Hip, &got);
            }
        }
    }
}

/// What a token does not see spoils nothing, in neither of two heads that share a vector.
#[test]
fn spans_of_two_heads_hide_what_is_not_finite() {
    const TOKENS: u32 = 2100;
    let shape = shape(4, 2, 8);
    for head in [0, 1] {
        let mut pass = Pass::new(12, shape, TOKENS, 1.0);
        let row = (TOKENS as usize - 1) * 2 + head;
        pass.v[row * 8..(row + 1) * 8].fill(f32::INFINITY);
        for device in devices() {
            let mut cache = cache(&device, shape, TOKENS, KvDType::F32);
            pass.tokens(0, TOKENS - 2).append_only(&mut cache);
            let got = pass.tokens(TOKENS - 2, TOKENS).run(&mut cache);
            let of_first_token = got.len() / 2;
            assert!(got[..of_first_token].iter().all(|value| value.is_finite()), "{device:?}");
            let seen = &got[of_first_token..][head * 16..(head + 1) * 16];
            assert!(seen.iter().all(|value| *value == f32::INFINITY), "{device:?}");
        }
    }
}
