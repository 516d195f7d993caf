//! The future does not reach the past, and neither the cutting into passes nor the threads change a bit, on the CPU and on
//! every device.

use std::collections::BTreeMap;

use attention::KvDType;
use device_mem::Device;
use parity::{SplitMix64, Tolerance, compare, matrix_units};
use proptest::prelude::*;

use crate::common::{KV_TYPES, Pass, cache, devices, gpus, in_pool, passes_agree, shape};
use crate::truth::TILED_FROM;

#[test]
fn a_prefill_in_pieces_is_one_prefill() {
    for device in devices() {
        for dtype in KV_TYPES {
            let pass = Pass::new(1, shape(8, 2, 48), 150, 4.0);
            let whole = pass.run_alone(&device, dtype);
            let short: &[&[u32]] = &[&[1, 150], &[31, 33, 97, 150], &[0, 149, 150]];
            let long: &[&[u32]] = &[&[16, 150], &[31, 48, 97, 150], &[0, 63, 134, 150]];
            for ends in if passes_agree(&device, dtype) { short } else { long } {
                compare(&whole, &pass.run_in_pieces(&device, ends, dtype), Tolerance::Bits).unwrap();
            }
        }
    }
}

#[test]
fn short_passes_of_a_device_agree_with_each_other() {
    let pass = Pass::new(9, shape(8, 2, 48), 60, 4.0);
    for device in gpus() {
        for dtype in [KvDType::F16, KvDType::BF16] {
            let one_by_one = pass.run_in_pieces(&device, &Vec::from_iter(1..=60), dtype);
            let short = pass.run_in_pieces(&device, &[15, 22, 37, 52, 60], dtype);
            compare(&one_by_one, &short, Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn pieces_around_chunks_are_one_prefill() {
    for (q_heads, kv_heads, head_dim) in [(3, 1, 16), (20, 1, 16), (4, 4, 72)] {
        let pass = Pass::new(2, shape(q_heads, kv_heads, head_dim), 530, 4.0);
        for device in gpus() {
            let whole = pass.run_alone(&device, KvDType::F32);
            // Passes of a token are shared out by chunks, also where they end a chunk or begin one.
            for ends in [
                &[255, 256, 257, 258, 511, 512, 513, 514, 530][..],
                &[250, 254, 259, 300, 510, 515, 528, 529, 530],
            ] {
                let pieces = pass.run_in_pieces(&device, ends, KvDType::F32);
                compare(&whole, &pieces, Tolerance::Bits)
                    .unwrap_or_else(|mismatch| panic!("{} on {device}, {ends:?}: {mismatch}", pass.shape));
            }
            let whole = pass.run_alone(&device, KvDType::BF16);
            let pieces = pass.run_in_pieces(&device, &[239, 255, 288, 512, 530], KvDType::BF16);
            compare(&whole, &pieces, Tolerance::Bits)
                .unwrap_or_else(|mismatch| panic!("{} on {device}, in tiles: {mismatch}", pass.shape));
        }
    }
}

#[test]
fn decoding_token_by_token_is_one_prefill() {
    for device in devices() {
        for (q_heads, kv_heads) in [(1, 1), (32, 2), (96, 1)] {
            let pass = Pass::new(2, shape(q_heads, kv_heads, 24), 34, 4.0);
            let ends = Vec::from_iter(1..=34);
            let dtype = if passes_agree(&device, KvDType::BF16) { KvDType::BF16 } else { KvDType::F32 };
            let whole = pass.run_alone(&device, dtype);
            compare(&whole, &pass.run_in_pieces(&device, &ends, dtype), Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn a_later_token_changes_no_bit_of_an_earlier_one() {
    let pass = Pass::new(3, shape(4, 2, 40), 100, 4.0);
    for device in devices() {
        let plain = pass.run_alone(&device, KvDType::F16);
        for changed in [1, 31, 32, 33, 64, 99] {
            let mut other = pass.clone();
            let (q_row, kv_row) = (4 * 40, 2 * 40);
            other.q[changed * q_row..].fill(f32::NAN);
            other.k[changed * kv_row..].fill(f32::INFINITY);
            other.v[changed * kv_row..].fill(f32::NAN);
            let got = other.run_alone(&device, KvDType::F16);
            compare(&plain[..changed * q_row], &got[..changed * q_row], Tolerance::Bits).unwrap();
            assert!(got[changed * q_row..].iter().all(|value| value.is_nan()));
        }
    }
}

#[test]
fn what_a_truncated_cache_still_holds_reaches_nothing() {
    let pass = Pass::new(7, shape(4, 2, 40), 290, 4.0);
    for device in gpus() {
        let whole = pass.run_alone(&device, KvDType::F32);
        let mut cache = cache(&device, pass.shape, 300, KvDType::F32);
        let mut spoilt = pass.clone();
        spoilt.k.fill(f32::NAN);
        spoilt.v.fill(f32::INFINITY);
        spoilt.run(&mut cache);
        cache.truncate(0).unwrap();
        compare(&whole[..200 * 160], &pass.tokens(0, 200).run(&mut cache), Tolerance::Bits).unwrap();
        compare(&whole[200 * 160..], &pass.tokens(200, 290).run(&mut cache), Tolerance::Bits).unwrap();
    }
}

#[test]
fn every_earlier_token_reaches_a_later_one() {
    let pass = Pass::new(4, shape(2, 1, 16), 70, 1.0);
    for device in devices() {
        let step = if let Device::Cpu = device { 1 } else { 3 };
        let plain = pass.run_alone(&device, KvDType::F32);
        for changed in (0..70).step_by(step) {
            let mut other = pass.clone();
            other.v[changed * 16..(changed + 1) * 16].iter_mut().for_each(|value| *value += 4.0);
            let got = other.run_alone(&device, KvDType::F32);
            for token in changed..70 {
                let row = token * 32..(token + 1) * 32;
                let moved = plain[row.clone()].iter().zip(&got[row]).all(|(before, after)| after > before);
                assert!(moved, "token {changed} does not reach token {token} on {device}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let pass = Pass::new(5, shape(12, 4, 40), 130, 4.0);
    let run = || pass.run_alone(&Device::Cpu, KvDType::BF16);
    let one = in_pool(1, run);
    for threads in [2, 3, 7] {
        compare(&one, &in_pool(threads, run), Tolerance::Bits).unwrap();
    }
}

#[test]
fn heads_of_a_group_read_the_groups_keys_and_values() {
    // With equal queries all heads of a group agree, and the heads of another group do not.
    let mut pass = Pass::new(6, shape(6, 2, 16), 10, 1.0);
    let head = pass.q[..16].to_vec();
    pass.q.chunks_exact_mut(16).for_each(|q| q.copy_from_slice(&head));
    for device in devices() {
        let out = pass.run_alone(&device, KvDType::F32);
        for token in out.chunks_exact(6 * 16) {
            let heads = Vec::from_iter(token.chunks_exact(16));
            assert!(heads[..3].iter().all(|&head| head == heads[0]));
            assert!(heads[3..].iter().all(|&head| head == heads[3]));
            assert_ne!(heads[0], heads[3]);
        }
    }
}

/// Up to five cuts, and the end.
fn cuts(seed: u64, tokens: u32) -> Vec<u32> {
    let mut random = SplitMix64::new(seed);
    let mut ends = Vec::from_iter((0..random.below(6)).map(|_| random.below(tokens)));
    ends.push(tokens);
    ends.sort_unstable();
    ends
}

/// The same without those that leave a pass of less than [`TILED_FROM`] tokens, unless all of them are one.
fn cuts_apart(ends: Vec<u32>) -> Vec<u32> {
    let Some(&tokens) = ends.last() else { return ends };
    let mut apart = vec![0];
    for end in ends {
        let before = apart.last().copied().unwrap_or_default();
        if end >= before + TILED_FROM && tokens >= end + TILED_FROM {
            apart.push(end);
        }
    }
    apart.push(tokens);
    apart
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cutting_gives_the_same_bits(seed: u64, tokens in 1_u32..120, group in 1_u32..20, kv_heads in 1_u32..4) {
        let (seed, device) = (seed >> 2, Device::Cpu);
        let pass = Pass::new(seed, shape(group * kv_heads, kv_heads, 20), tokens, 5.0);
        let (whole, ends) = (pass.run_alone(&device, KvDType::BF16), cuts(seed, tokens));
        let pieces = pass.run_in_pieces(&device, &ends, KvDType::BF16);
        prop_assert!(compare(&whole, &pieces, Tolerance::Bits).is_ok(), "{:?}", ends);
    }

    #[test]
    fn outputs_lie_between_the_values(seed: u64, tokens in 1_u32..80) {
        let pass = Pass::new(seed >> 2, shape(2, 1, 12), tokens, 20.0);
        let out = pass.run_alone(&Device::Cpu, KvDType::F32);
        prop_assert!(out.iter().all(|value| value.abs() <= 1.000_01));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_cutting_gives_the_same_bits_on_every_device(
        seed: u64, tokens in 1_u32..330, group in 1_u32..20, head_dim in 1_u32..90,
    ) {
        let seed = seed >> 2;
        let pass = Pass::new(seed, shape(group, 1, head_dim), tokens.div_ceil(group).max(1) * 3, 5.0);
        for (dtype, ends) in [
            (KvDType::F32, cuts(seed, pass.tokens)),
            (KvDType::F16, cuts_apart(cuts(seed, pass.tokens))),
        ] {
            let mut firsts: BTreeMap<Option<&str>, Vec<f32>> = BTreeMap::new();
            for device in gpus() {
                let whole = pass.run_alone(&device, dtype);
                let pieces = pass.run_in_pieces(&device, &ends, dtype);
                prop_assert!(compare(&whole, &pieces, Tolerance::Bits).is_ok(), "{:?} on {}", ends, device);
                let first = firsts.entry(matrix_units(&device)).or_insert(pieces);
                prop_assert!(compare(first, &whole, Tolerance::Bits).is_ok(), "{} and another device", device);
            }
        }
    }
}
