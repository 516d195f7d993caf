//! `attend` against f64, within both forms of the derived bound.

use attention::KvDType;
use half::bf16;
use parity::{Tolerance, compare};

use crate::common::{KV_TYPES, Pass, shape};

#[track_caller]
fn check(pass: &Pass, dtype: KvDType) -> f64 {
    let (got, exact) = (pass.run_alone(dtype), pass.exact(dtype));
    let about = || format!("{}, {} tokens, {dtype}", pass.shape, pass.tokens);
    if let Err(mismatch) = compare(&exact.out, &got, Tolerance::Elementwise(&exact.worst)) {
        panic!("{}, worst-case form: {mismatch}", about());
    }
    if let Err(mismatch) = compare(&exact.out, &got, Tolerance::Nmse(1e-11)) {
        panic!("{}: {mismatch}", about());
    }
    match compare(&exact.out, &got, Tolerance::Elementwise(&exact.probable)) {
        Ok(report) => report.worst_share,
        Err(mismatch) => panic!("{}, probable form: {mismatch}", about()),
    }
}

#[test]
fn lengths_around_the_edges_of_blocks() {
    let shape = shape(4, 2, 64);
    for tokens in [1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200] {
        for dtype in KV_TYPES {
            for q_scale in [1.0, 8.0] {
                check(&Pass::new(u64::from(tokens), shape, tokens, q_scale), dtype);
            }
        }
    }
}

#[test]
fn every_width_and_group() {
    for head_dim in [40, 64, 72, 80, 96, 100, 112, 127, 128, 192, 256] {
        check(&Pass::new(7, shape(2, 1, head_dim), 37, 4.0), KvDType::BF16);
    }
    for (q_heads, kv_heads) in [(1, 1), (6, 6), (3, 1), (8, 2), (16, 4), (32, 2), (32, 1), (130, 2), (96, 8)]
    {
        check(&Pass::new(8, shape(q_heads, kv_heads, 16), 35, 4.0), KvDType::F16);
    }
    check(&Pass::new(9, shape(3, 3, 1), 40, 1.0), KvDType::F32);
}

#[test]
fn long_sequences_keep_the_bound_with_room() {
    let share = check(&Pass::new(10, shape(2, 1, 32), 1500, 3.0), KvDType::F32);
    assert!(share < 0.5, "{share}");
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
    let got = pass.run_alone(KvDType::BF16);
    for token in 5..40 {
        let values = Vec::from_iter(pass.v[5 * row..6 * row].iter().map(|&value| bf16::from_f32(value)));
        compare(&values, &got[token * row..(token + 1) * row], Tolerance::Bits).unwrap();
    }
}

#[test]
fn a_score_of_minus_infinity_weighs_nothing_and_nan_spoils_its_own_query_only() {
    let mut pass = Pass::new(12, shape(1, 1, 8), 70, 1.0);
    pass.q.iter_mut().for_each(|value| *value = value.abs() + 0.1);
    let plain = pass.run_alone(KvDType::F32);
    // The first 33 keys (a whole block and one) score -inf; the others keep their order of sums.
    pass.k[..33 * 8].fill(f32::NEG_INFINITY);
    let masked = pass.run_alone(KvDType::F32);
    let tail = Pass { tokens: 70, ..pass.clone() };
    assert!(masked[..33 * 8].iter().all(|value| value.is_nan()), "no finite score, no distribution");
    assert_eq!(masked[33 * 8..34 * 8], tail.v[33 * 8..34 * 8], "one finite score");
    assert!(masked[33 * 8..].iter().all(|value| value.is_finite()));
    assert_ne!(masked[69 * 8..], plain[69 * 8..]);

    pass.q[50 * 8] = f32::NAN;
    let spoilt = pass.run_alone(KvDType::F32);
    for token in 33..70 {
        let row = token * 8..(token + 1) * 8;
        if token == 50 {
            assert!(spoilt[row].iter().all(|value| value.is_nan()));
        } else {
            compare(&masked[row.clone()], &spoilt[row], Tolerance::Bits).unwrap();
        }
    }
}
