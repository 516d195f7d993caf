//! What every rotary embedding must keep, on generated shapes and data, on the CPU and on every device that
//! `PARITY_DEVICES` lists.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]
#![expect(clippy::cast_possible_truncation, reason = "generated sizes are small")]

mod common;

use std::sync::LazyLock;

use common::{U, exact_rotation, glm4, head_major, pair_elements, rotated, rotated_pair, table};
use device_mem::{Device, Float, RanOn};
use half::{bf16, f16};
use kernels_rope::{Axes, Layout, Pairing, Positions, RopeConfig, RopeTable};
use parity::{Number, Tolerance, compare, half_ulp, positions, uniform, uniform_with_special};
use proptest::prelude::*;

const LENGTH: u32 = 1024;

/// Shapes with any even rotary width up to the head's.
fn configs() -> impl Strategy<Value = RopeConfig> {
    let dims = (1_u32..=96).prop_flat_map(|pairs| (Just(2 * pairs), 2 * pairs..=2 * pairs + 40));
    let pairing = prop_oneof![Just(Pairing::Interleaved), Just(Pairing::Halves)];
    (dims, pairing, prop_oneof![Just(1e4), Just(5e6)]).prop_map(|((rotary_dim, head_dim), pairing, theta)| {
        RopeConfig { head_dim, rotary_dim, theta, pairing, ..glm4() }
    })
}

/// Norms of the rotated pairs of one head.
fn pair_norms(config: &RopeConfig, head: &[f32]) -> Vec<f64> {
    let norm = |pair| {
        let (a, b) = pair_elements(config, pair);
        f64::from(head[a]).hypot(f64::from(head[b]))
    };
    (0..config.rotary_dim as usize / 2).map(norm).collect()
}

/// A table of the config on the CPU and on every device.
fn tables(config: &RopeConfig) -> Vec<RopeTable> {
    static DEVICES: LazyLock<Vec<Device>> = LazyLock::new(|| parity::cpu_and_devices().unwrap());
    DEVICES.iter().map(|device| table(config.clone(), LENGTH, device)).collect()
}

/// One head `[head_dim]` rotated to one position.
fn turned(table: &RopeTable, head: &[f32], position: u32) -> Vec<f32> {
    let at = Positions::new(table, &[position]).unwrap();
    let (turned, ran_on) = rotated(table, &at, head, Layout::contiguous(1, 1, table.spec().head_dim()));
    assert_eq!(ran_on, where_it_runs(table));
    turned
}

fn where_it_runs(table: &RopeTable) -> RanOn {
    if matches!(table.device(), Device::Cpu) { RanOn::Cpu } else { RanOn::Hip }
}

fn dot(config: &RopeConfig, q: &[f32], k: &[f32]) -> f64 {
    let rotary = config.rotary_dim as usize;
    q[..rotary].iter().zip(&k[..rotary]).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Rotates `[3 tokens, 2 heads]` of `T` and compares with f64 by `3u(|x0 c| + |x1 s|)` and half an ulp of `T`.
fn check_narrow<T: Float + Number>(config: &RopeConfig, seed: u64, at: [u32; 3]) {
    let table = table(config.clone(), LENGTH, &Device::Cpu);
    let (head_dim, inv_freq) = (config.head_dim as usize, table.spec().inv_freq(LENGTH));
    let x = uniform::<T>(seed, 3 * 2 * head_dim);
    let positions = Positions::new(&table, &at).unwrap();
    let (got, _) = rotated(&table, &positions, &x, Layout::contiguous(3, 2, config.head_dim));
    for (row, (x, got)) in x.chunks_exact(head_dim).zip(got.chunks_exact(head_dim)).enumerate() {
        let cos_sin = Vec::from_iter(inv_freq.iter().map(|frequency| {
            let (sin, cos) = (f64::from(at[row / 2]) * frequency).sin_cos();
            (cos, sin)
        }));
        let head = Vec::from_iter(x.iter().map(|x| x.widen()));
        let (exact, f32_bounds) = exact_rotation(config, &head, &cos_sin);
        // The rounding to T acts on a value that is off by the f32 bound, which may lie in the next binade.
        let bounds = Vec::from_iter(
            exact.iter().zip(f32_bounds).map(|(exact, bound)| bound + half_ulp::<T>(exact.abs() + bound)),
        );
        compare(&exact, got, Tolerance::Elementwise(&bounds)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rope_05_position_0_is_the_identity(config in configs(), seed: u64) {
        let x = uniform::<f32>(seed, config.head_dim as usize);
        for table in tables(&config) {
            compare(&x, &turned(&table, &x, 0), Tolerance::Absolute(0.0)).unwrap();
        }
    }

    #[test]
    fn rope_05_pairs_keep_their_norm(config in configs(), seed: u64, position in 0..LENGTH) {
        let x = uniform::<f32>(seed, config.head_dim as usize);
        let before = pair_norms(&config, &x);
        // Each element is off by at most 3u of the pair's norm, for |x0 c| + |x1 s| never exceeds it.
        let bounds = Vec::from_iter(before.iter().map(|norm| 3.0 * 2.0_f64.sqrt() * U * norm));
        for table in tables(&config) {
            let after = pair_norms(&config, &turned(&table, &x, position));
            compare(&before, &after, Tolerance::Elementwise(&bounds)).unwrap();
        }
    }

    #[test]
    fn rope_05_rotations_compose(config in configs(), seed: u64, first in 0..LENGTH / 2, second in 0..LENGTH / 2) {
        let x = uniform::<f32>(seed, config.head_dim as usize);
        // Three rotations, each off by 3 sqrt(2) u of the pair's norm, and 1% for terms of second order.
        let mut bounds = vec![0.0; x.len()];
        for (pair, norm) in pair_norms(&config, &x).into_iter().enumerate() {
            let (a, b) = pair_elements(&config, pair);
            bounds[a] = 9.09 * 2.0_f64.sqrt() * U * norm;
            bounds[b] = bounds[a];
        }
        for table in tables(&config) {
            let twice = turned(&table, &turned(&table, &x, first), second);
            compare(&turned(&table, &x, first + second), &twice, Tolerance::Elementwise(&bounds)).unwrap();
        }
    }

    #[test]
    fn rope_05_scores_depend_on_the_distance_only(
        config in configs(), seed: u64, q_at in 0..LENGTH / 4, k_at in 0..LENGTH / 4, shift in 0..LENGTH / 4 * 3,
    ) {
        let (q, k) = (uniform::<f32>(seed, config.head_dim as usize), uniform::<f32>(!seed, config.head_dim as usize));
        // Four rotations, each off by 3 sqrt(2) u of its pair's norm, and 1% for terms of second order.
        let norms = pair_norms(&config, &q).into_iter().zip(pair_norms(&config, &k));
        let bound = 12.12 * 2.0_f64.sqrt() * U * norms.map(|(q, k)| q * k).sum::<f64>();
        for table in tables(&config) {
            let near = dot(&config, &turned(&table, &q, q_at), &turned(&table, &k, k_at));
            let far = dot(&config, &turned(&table, &q, q_at + shift), &turned(&table, &k, k_at + shift));
            compare(&[near], &[far], Tolerance::Absolute(bound)).unwrap();
        }
    }

    #[test]
    fn rope_05_the_tail_passes_bit_for_bit(config in configs(), seed: u64, position in 0..LENGTH) {
        let x = uniform_with_special::<f32>(seed, config.head_dim as usize);
        let tail = config.rotary_dim as usize..;
        for table in tables(&config) {
            prop_assert_eq!(bits(&turned(&table, &x, position)[tail.clone()]), bits(&x[tail.clone()]));
        }
    }

    #[test]
    fn rope_02_q_and_k_have_their_own_head_counts(
        config in configs(), seed: u64, tokens in 0..6_u32, q_heads in 0..9_u32, kv_heads in 0..5_u32,
    ) {
        let layouts = [q_heads, kv_heads].map(|heads| Layout::contiguous(tokens, heads, config.head_dim));
        let [q, k] = layouts.map(|layout| uniform::<f32>(seed, tokens as usize * layout.token_stride as usize));
        for table in tables(&config) {
            let at = Positions::new(&table, &positions(seed, tokens as usize, LENGTH)).unwrap();
            let (q_fused, k_fused, ran_on) = rotated_pair(&table, &at, (&q, layouts[0]), (&k, layouts[1]));
            prop_assert_eq!(ran_on, where_it_runs(&table));
            compare(&rotated(&table, &at, &q, layouts[0]).0, &q_fused, Tolerance::Bits).unwrap();
            compare(&rotated(&table, &at, &k, layouts[1]).0, &k_fused, Tolerance::Bits).unwrap();
        }
    }

    #[test]
    fn rope_05_a_token_does_not_depend_on_its_place_in_the_batch(
        config in configs(), seed: u64, tokens in 1..9_usize, turn in 0..9_usize,
    ) {
        let row = 2 * config.head_dim as usize;
        let x = uniform::<f32>(seed, tokens * row);
        let at = positions(seed, tokens, LENGTH);
        let layout = Layout::contiguous(tokens as u32, 2, config.head_dim);
        for table in tables(&config) {
            let batch = |at: &[u32], x: &[f32]| rotated(&table, &Positions::new(&table, at).unwrap(), x, layout).0;
            let mut expected = batch(&at, &x);
            let (mut x, mut at) = (x.clone(), at.clone());
            at.rotate_left(turn % tokens);
            [&mut x, &mut expected].into_iter().for_each(|rows| rows.rotate_left(turn % tokens * row));
            compare(&expected, &batch(&at, &x), Tolerance::Bits).unwrap();
        }
    }

    #[test]
    fn rope_05_mrope_with_equal_axes_is_plain_rope(config in configs(), seed: u64, cuts in (0..97_u32, 0..97_u32)) {
        let pairs = config.rotary_dim / 2;
        let (first, second) = (cuts.0.min(pairs), cuts.1.min(pairs - cuts.0.min(pairs)));
        let sections = Axes::Sections(vec![first, second, pairs - first - second]);
        let x = uniform::<f32>(seed, 5 * config.head_dim as usize);
        let at = positions(seed, 5, LENGTH);
        let layout = Layout::contiguous(5, 1, config.head_dim);
        let sectioned = RopeConfig { axes: sections, ..config.clone() };
        for (plain, mrope) in tables(&config).iter().zip(&tables(&sectioned)) {
            let [plain, mrope] =
                [plain, mrope].map(|table| rotated(table, &Positions::new(table, &at).unwrap(), &x, layout).0);
            compare(&plain, &mrope, Tolerance::Bits).unwrap();
        }
    }

    #[test]
    fn rope_05_strided_is_contiguous_and_gaps_are_untouched(
        config in configs(), seed: u64, shape in (1..6_u32, 1..5_u32), gaps in (0..9_u64, 0..9_u64), by_head: bool,
    ) {
        let ((tokens, heads), head_dim) = (shape, config.head_dim);
        let width = u64::from(head_dim) + gaps.0;
        let (token_stride, head_stride) = match by_head {
            false => (u64::from(heads) * width + gaps.1, width),
            true => (width, u64::from(tokens) * width + gaps.1),
        };
        let layout = Layout { tokens, heads, head_dim, token_stride, head_stride };
        let len = (u64::from(tokens) * u64::from(heads) * width + gaps.1 * 9) as usize;
        let x = uniform::<f32>(seed, len);
        let rows = Vec::from_iter((0..tokens).flat_map(|token| (0..heads).map(move |head| {
            let start = (u64::from(token) * token_stride + u64::from(head) * head_stride) as usize;
            start..start + head_dim as usize
        })));
        let gathered = Vec::from_iter(rows.iter().flat_map(|row| x[row.clone()].iter().copied()));
        for table in tables(&config) {
            let at = Positions::new(&table, &positions(seed, tokens as usize, LENGTH)).unwrap();
            let (contiguous, _) = rotated(&table, &at, &gathered, Layout::contiguous(tokens, heads, head_dim));
            let mut expected = x.clone();
            for (row, values) in rows.iter().zip(contiguous.chunks_exact(head_dim as usize)) {
                expected[row.clone()].copy_from_slice(values);
            }
            let (strided, _) = rotated(&table, &at, &x, layout);
            prop_assert_eq!(bits(&expected), bits(&strided));
        }
    }

    #[test]
    fn rope_05_half_precision_is_rounded_once(config in configs(), seed: u64, at in [0..LENGTH, 0..LENGTH, 0..LENGTH]) {
        check_narrow::<f32>(&config, seed, at);
        check_narrow::<f16>(&config, seed, at);
        check_narrow::<bf16>(&config, seed, at);
    }
}

#[test]
fn rope_05_head_major_and_token_major_agree() {
    let table = table(glm4(), 64, &Device::Cpu);
    let at = Positions::span(&table, 7, 3).unwrap();
    let x = uniform::<f32>(11, 3 * 2 * 128);
    let transposed = |from: &[f32], rows: [usize; 2]| {
        let row = |outer: usize, inner: usize| from[(inner * rows[0] + outer) * 128..][..128].to_vec();
        Vec::from_iter((0..rows[0]).flat_map(|outer| (0..rows[1]).flat_map(move |inner| row(outer, inner))))
    };
    let (by_token, _) = rotated(&table, &at, &x, Layout::contiguous(3, 2, 128));
    let (by_head, _) = rotated(&table, &at, &transposed(&x, [2, 3]), head_major(3, 2, 128));
    assert_eq!(bits(&transposed(&by_head, [3, 2])), bits(&by_token));
}

#[test]
fn rope_03_a_span_is_the_list_of_its_positions() {
    let table = table(glm4(), 64, &Device::Cpu);
    let x = uniform::<f32>(13, 3 * 2 * 128);
    let layout = Layout::contiguous(3, 2, 128);
    let list = rotated(&table, &Positions::new(&table, &[61, 62, 63]).unwrap(), &x, layout).0;
    let span = rotated(&table, &Positions::span(&table, 61, 3).unwrap(), &x, layout).0;
    assert_eq!(bits(&list), bits(&span));
    let first = rotated(&table, &Positions::span(&table, 0, 3).unwrap(), &x, layout).0;
    assert_ne!(bits(&list), bits(&first));
}
