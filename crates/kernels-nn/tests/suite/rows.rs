//! `embed`, `rms_norm`, `swiglu` and `add` against f64 within their documented bounds.

use kernels_nn::{Embedding, RmsNorm, add, embed, rms_norm, swiglu};
use parity::{Tolerance, compare, uniform};
use proptest::prelude::*;

use crate::common::{WEIGHT_TYPES, cpu, gamma, in_pool, weight, zeros};

fn normed(x: &[f32], norm: &RmsNorm) -> Vec<f32> {
    let mut out = zeros(x.len());
    rms_norm(cpu(x).as_view(), norm, out.as_view_mut().unwrap()).unwrap();
    out.to_host_vec().unwrap()
}

fn exact_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let wide = |&value: &f32| f64::from(value);
    let rows = x.chunks_exact(weight.len()).flat_map(|x| {
        let mean = x.iter().map(|value| wide(value).powi(2)).sum::<f64>() / x.len() as f64;
        let root = (mean + f64::from(eps)).sqrt();
        x.iter().zip(weight).map(move |(x, w)| wide(x) / root * wide(w))
    });
    rows.collect()
}

fn gated(gate_up: &[f32], ff: usize) -> Vec<f32> {
    let mut out = zeros(gate_up.len() / 2);
    swiglu(cpu(gate_up).as_view(), ff, out.as_view_mut().unwrap()).unwrap();
    out.to_host_vec().unwrap()
}

fn exact_gated(gate_up: &[f32], ff: usize) -> Vec<f64> {
    let rows = gate_up.chunks_exact(2 * ff).flat_map(|row| {
        let (gate, up) = row.split_at(ff);
        gate.iter().zip(up).map(|(&gate, &up)| {
            let (gate, up) = (f64::from(gate), f64::from(up));
            gate / (1.0 + (-gate).exp()) * up
        })
    });
    rows.collect()
}

fn relative(exact: &[f64], roundings: usize) -> Vec<f64> {
    exact.iter().map(|value| gamma(roundings) * value.abs()).collect()
}

#[test]
fn embedded_rows_are_the_tables_rows() {
    let (vocab, hidden) = (7, 5);
    let values = uniform::<f32>(1, vocab * hidden);
    let ids = [6_u32, 0, 3, 3, 6];
    for dtype in WEIGHT_TYPES {
        let (weight, exact) = weight(dtype, &values);
        let embedding = Embedding::new(weight, vocab, hidden).unwrap();
        let mut out = zeros(ids.len() * hidden);
        embed(&embedding, cpu(&ids).as_view(), out.as_view_mut().unwrap()).unwrap();
        let rows = ids.iter().flat_map(|&id| &exact[id as usize * hidden..][..hidden]);
        let expected = Vec::from_iter(rows.copied());
        compare(&expected, &out.to_host_vec().unwrap(), Tolerance::Bits).unwrap();

        embed(&embedding, cpu::<u32>(&[]).as_view(), zeros(0).as_view_mut().unwrap()).unwrap();
    }
}

#[test]
fn norms_meet_the_bound_at_odd_widths_and_far_magnitudes() {
    // The last magnitude squares beyond f32; GLM-4-32B's activations exceed 65504.
    for (hidden, magnitude) in [(1, 1.0), (7, 1e-3), (8, 70_000.0), (9, 1e-18), (4096, 3.0), (6144, 1e30)] {
        for eps in [1e-5, 1.5625e-7, 0.0] {
            let weight = uniform::<f32>(2, hidden);
            let x = Vec::from_iter(uniform::<f32>(1, 3 * hidden).iter().map(|value| value * magnitude));
            let norm = RmsNorm::new(cpu(&weight), eps).unwrap();
            let exact = exact_norm(&x, &weight, eps);
            let got = normed(&x, &norm);
            compare(&exact, &got, Tolerance::Elementwise(&relative(&exact, 3)))
                .unwrap_or_else(|mismatch| panic!("{hidden} {magnitude} {eps}: {mismatch}"));
        }
    }
}

#[test]
fn a_row_of_zeros_norms_to_zeros_and_no_rows_to_none() {
    let norm = RmsNorm::new(cpu(&[2.0, 3.0]), 1e-5).unwrap();
    assert_eq!(normed(&[0.0, 0.0], &norm), [0.0, 0.0]);
    assert!(normed(&[], &norm).is_empty());
}

#[test]
fn gating_meets_the_bound_up_to_where_exp_overflows() {
    for ff in [1, 3, 64, 20_000] {
        let values = uniform::<f32>(4, 4 * ff);
        for magnitude in [1.0, 30.0, 80.0] {
            let gate_up = Vec::from_iter(values.iter().map(|value| value * magnitude));
            let exact = exact_gated(&gate_up, ff);
            compare(&exact, &gated(&gate_up, ff), Tolerance::Elementwise(&relative(&exact, 7)))
                .unwrap_or_else(|mismatch| panic!("{ff} {magnitude}: {mismatch}"));
        }
    }
    // Gates so negative that the exponential counts as 0.
    for gate in [-87.4, -104.0, -200.0, -1e4, f32::MIN] {
        let got = gated(&[gate, 3.0], 1)[0];
        assert!(got <= 0.0 && got > -1e-40, "{gate}: {got}");
    }
    assert_eq!(gated(&[f32::MAX, 1.0, 500.0, 2.0], 1), [f32::MAX, 1000.0]);
    assert!(gated(&[f32::NAN, 1.0], 1)[0].is_nan());
    assert!(gated(&[], 5).is_empty());
}

#[test]
fn sums_are_rounded_once() {
    let (x, y) = (uniform::<f32>(5, 40_001), uniform::<f32>(6, 40_001));
    let mut sum = cpu(&x);
    add(sum.as_view_mut().unwrap(), cpu(&y).as_view()).unwrap();
    let expected = Vec::from_iter(x.iter().zip(&y).map(|(x, y)| x + y));
    compare(&expected, &sum.to_host_vec().unwrap(), Tolerance::Bits).unwrap();
    add(zeros(0).as_view_mut().unwrap(), zeros(0).as_view()).unwrap();
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let x = uniform::<f32>(7, 64 * 1000);
    let norm = RmsNorm::new(cpu(&uniform::<f32>(8, 1000)), 1e-5).unwrap();
    let one = in_pool(1, || (normed(&x, &norm), gated(&x, 32_000)));
    let many = in_pool(5, || (normed(&x, &norm), gated(&x, 32_000)));
    compare(&one.0, &many.0, Tolerance::Bits).unwrap();
    compare(&one.1, &many.1, Tolerance::Bits).unwrap();
}

proptest! {
    #[test]
    fn a_power_of_two_scales_out_of_a_norm(seed: u64, hidden in 1_usize..200, exponent in -20_i32..20) {
        let x = uniform::<f32>(seed, 2 * hidden);
        let scaled = Vec::from_iter(x.iter().map(|value| value * 2.0_f32.powi(exponent)));
        let norm = RmsNorm::new(cpu(&vec![1.0; hidden]), 0.0).unwrap();
        prop_assume!(x.chunks(hidden).all(|row| row.iter().any(|&value| value != 0.0)));
        prop_assert!(compare(&normed(&x, &norm), &normed(&scaled, &norm), Tolerance::Ulps(2)).is_ok());
    }

    #[test]
    fn gating_is_linear_in_up(seed: u64, ff in 1_usize..100) {
        let gate_up = uniform::<f32>(seed, 2 * ff);
        let mut doubled = gate_up.clone();
        doubled[ff..].iter_mut().for_each(|up| *up *= 2.0);
        let twice = Vec::from_iter(gated(&gate_up, ff).iter().map(|value| value * 2.0));
        prop_assert!(compare(&twice, &gated(&doubled, ff), Tolerance::Bits).is_ok());
    }
}
