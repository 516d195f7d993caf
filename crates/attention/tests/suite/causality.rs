//! The future does not reach the past, and neither the cutting into passes nor the threads change a bit.

use attention::KvDType;
use parity::{SplitMix64, Tolerance, compare};
use proptest::prelude::*;

use crate::common::{KV_TYPES, Pass, cache, in_pool, shape};

fn in_pieces(pass: &Pass, ends: &[u32], dtype: KvDType) -> Vec<f32> {
    let mut cache = cache(pass.shape, pass.tokens, dtype);
    let mut out = Vec::new();
    for &end in ends {
        let piece = pass.tokens(cache.len(), end);
        out.extend(piece.run(&mut cache));
        assert_eq!(cache.len(), end);
    }
    out
}

#[test]
fn a_prefill_in_pieces_is_one_prefill() {
    for dtype in KV_TYPES {
        let pass = Pass::new(1, shape(8, 2, 48), 150, 4.0);
        let whole = pass.run_alone(dtype);
        for ends in [&[1, 150][..], &[32, 64, 150], &[31, 33, 97, 150], &[0, 150], &[149, 150]] {
            compare(&whole, &in_pieces(&pass, ends, dtype), Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn decoding_token_by_token_is_one_prefill() {
    for (q_heads, kv_heads) in [(1, 1), (32, 2), (96, 1)] {
        let pass = Pass::new(2, shape(q_heads, kv_heads, 24), 70, 4.0);
        let ends = Vec::from_iter(1..=70);
        compare(&pass.run_alone(KvDType::BF16), &in_pieces(&pass, &ends, KvDType::BF16), Tolerance::Bits)
            .unwrap();
    }
}

#[test]
fn a_later_token_changes_no_bit_of_an_earlier_one() {
    let pass = Pass::new(3, shape(4, 2, 40), 100, 4.0);
    let plain = pass.run_alone(KvDType::F16);
    for changed in [1, 31, 32, 33, 64, 99] {
        let mut other = pass.clone();
        let (q_row, kv_row) = (4 * 40, 2 * 40);
        other.q[changed * q_row..].fill(f32::NAN);
        other.k[changed * kv_row..].fill(f32::INFINITY);
        other.v[changed * kv_row..].fill(f32::NAN);
        let got = other.run_alone(KvDType::F16);
        compare(&plain[..changed * q_row], &got[..changed * q_row], Tolerance::Bits).unwrap();
        assert!(got[changed * q_row..].iter().all(|value| value.is_nan()));
    }
}

#[test]
fn every_earlier_token_reaches_a_later_one() {
    let pass = Pass::new(4, shape(2, 1, 16), 70, 1.0);
    let plain = pass.run_alone(KvDType::F32);
    for changed in 0..70 {
        let mut other = pass.clone();
        other.v[changed * 16..(changed + 1) * 16].iter_mut().for_each(|value| *value += 4.0);
        let got = other.run_alone(KvDType::F32);
        for token in changed..70 {
            let row = token * 32..(token + 1) * 32;
            let moved = plain[row.clone()].iter().zip(&got[row]).all(|(before, after)| after > before);
            assert!(moved, "token {changed} does not reach token {token}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let pass = Pass::new(5, shape(12, 4, 40), 130, 4.0);
    let one = in_pool(1, || pass.run_alone(KvDType::BF16));
    for threads in [2, 3, 7] {
        compare(&one, &in_pool(threads, || pass.run_alone(KvDType::BF16)), Tolerance::Bits).unwrap();
    }
}

#[test]
fn heads_of_a_group_read_the_groups_keys_and_values() {
    // With equal queries all heads of a group agree, and the heads of another group do not.
    let mut pass = Pass::new(6, shape(6, 2, 16), 10, 1.0);
    let head = pass.q[..16].to_vec();
    pass.q.chunks_exact_mut(16).for_each(|q| q.copy_from_slice(&head));
    let out = pass.run_alone(KvDType::F32);
    for token in out.chunks_exact(6 * 16) {
        let heads = Vec::from_iter(token.chunks_exact(16));
        assert!(heads[..3].iter().all(|&head| head == heads[0]));
        assert!(heads[3..].iter().all(|&head| head == heads[3]));
        assert_ne!(heads[0], heads[3]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cutting_gives_the_same_bits(seed: u64, tokens in 1_u32..120, group in 1_u32..20, kv_heads in 1_u32..4) {
        let seed = seed >> 2;
        let pass = Pass::new(seed, shape(group * kv_heads, kv_heads, 20), tokens, 5.0);
        let mut random = SplitMix64::new(seed);
        let mut ends = Vec::from_iter((0..random.below(6)).map(|_| random.below(tokens)));
        ends.push(tokens);
        ends.sort_unstable();
        let (whole, pieces) = (pass.run_alone(KvDType::BF16), in_pieces(&pass, &ends, KvDType::BF16));
        prop_assert!(compare(&whole, &pieces, Tolerance::Bits).is_ok(), "{:?}", ends);
    }

    #[test]
    fn outputs_lie_between_the_values(seed: u64, tokens in 1_u32..80) {
        let pass = Pass::new(seed >> 2, shape(2, 1, 12), tokens, 20.0);
        let out = pass.run_alone(KvDType::F32);
        prop_assert!(out.iter().all(|value| value.abs() <= 1.000_01));
    }
}
