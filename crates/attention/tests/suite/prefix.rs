//! A prefix that all tokens see, against f64 and against causal attention.

use attention::{AttentionError, KvDType, attend_with_prefix};
use parity::{Tolerance, compare, first_alike};

use crate::common::{Pass, cache, devices, gpus, on, shape};
use crate::truth::Order;

fn with_prefix(seed: u64, (q_heads, kv_heads, head_dim): (u32, u32, u32), tokens: u32, prefix: u32) -> Pass {
    Pass { prefix, ..Pass::new(seed, shape(q_heads, kv_heads, head_dim), tokens, 4.0) }
}

#[test]
fn every_token_of_the_prefix_sees_all_of_it() {
    let shapes = [(4, 2, 64), (16, 1, 128), (3, 3, 80), (32, 1, 64)];
    let passes = [(1, 1), (31, 17), (32, 32), (33, 2), (65, 63), (129, 128), (300, 257)];
    let each = shapes.into_iter().cycle().zip(passes);
    // A device attends many tokens over bf16 in tiles, and over f32 by rows.
    for ((heads, (tokens, prefix)), dtype) in
        each.flat_map(|pass| [(pass, KvDType::BF16), (pass, KvDType::F32)])
    {
        let pass = with_prefix(u64::from(tokens), heads, tokens, prefix);
        let results = Vec::from_iter(gpus().iter().map(|device| pass.run_alone(device, dtype)));
        for (device, got) in
            devices().iter().zip([&pass.run_alone(&devices()[0], dtype)].into_iter().chain(&results))
        {
            let exact = pass.exact(dtype, Order::of(device, dtype, pass.shape, pass.tokens));
            let share = compare(&exact.out, got, Tolerance::Elementwise(&exact.worst));
            share.unwrap_or_else(|mismatch| {
                panic!("{heads:?}, {tokens} after {prefix} on {device}: {mismatch}")
            });
        }
        for (device, got) in gpus().iter().zip(&results) {
            compare(&results[first_alike(&gpus(), device)], got, Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn tokens_behind_the_prefix_are_causal_and_cuts_change_no_bit() {
    for device in devices() {
        let pass = with_prefix(7, (4, 2, 32), 70, 40);
        let causal = Pass { prefix: 0, ..pass.clone() };
        let (whole, plain) = (pass.run_alone(&device, KvDType::F16), causal.run_alone(&device, KvDType::F16));
        let row = 4 * 32;
        // Keys do not depend on what was attended here, so the last token of the prefix and all behind it see the same.
        compare(&plain[39 * row..], &whole[39 * row..], Tolerance::Bits).unwrap();
        assert!(compare(&plain[..row], &whole[..row], Tolerance::Bits).is_err());
        let single = Pass { prefix: 1, ..pass.clone() }.run_alone(&device, KvDType::F16);
        compare(&plain, &single, Tolerance::Bits).unwrap();
        compare(&whole, &pass.run_in_pieces(&device, &[40, 70], KvDType::F16), Tolerance::Bits).unwrap();
        let whole = pass.run_alone(&device, KvDType::F32);
        compare(&whole, &pass.run_in_pieces(&device, &[40, 41, 70], KvDType::F32), Tolerance::Bits).unwrap();
    }
}

#[test]
fn a_prefix_that_is_not_there_is_refused() {
    let pass = with_prefix(9, (2, 1, 8), 5, 6);
    for device in devices() {
        let mut cache = cache(&device, pass.shape, 9, KvDType::F32);
        let (q, k, v) = (on(&device, &pass.q), on(&device, &pass.k), on(&device, &pass.v));
        let mut out = on(&device, &vec![7.0; pass.q.len()]);
        let mut layer = cache.layer(0).unwrap();
        layer.append(k.as_view(), v.as_view(), 5).unwrap();
        let before = device.transfers();
        let error =
            attend_with_prefix(q.as_view(), 5, 6, &mut layer, out.as_view_mut().unwrap()).unwrap_err();
        assert!(matches!(error, AttentionError::Prefix { prefix: 6, end: 5 }), "{error}");
        assert!(error.to_string().contains("whole prefix"), "{error}");
        assert_eq!(device.transfers(), before);
        assert!(out.to_host_vec().unwrap().iter().all(|&value| value == 7.0));
    }
}
