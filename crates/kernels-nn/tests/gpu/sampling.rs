//! `sample` chooses the tokens of `Sampler` on every device, bit for bit, and goes on by a step.

use kernels_nn::{NO_TOKEN, NnError, Sampler, SamplerConfig, argmax, sample};
use parity::{SplitMix64, uniform};
use proptest::prelude::*;

use crate::common::{counted, gpus, on, unchanged};

/// The seed and the step of each row, as `sample` keeps them.
fn draws(random: &mut SplitMix64, rows: usize) -> Vec<u32> {
    (0..4 * rows).map(|_| random.below(u32::MAX)).collect()
}

/// What a sampler chooses from a row whose draw is in `state`, and the state after it.
fn expected(config: SamplerConfig, logits: &[f32], state: [u32; 4]) -> (u32, [u32; 4]) {
    let wide = |at: usize| u64::from(state[at]) | u64::from(state[at + 1]) << 32;
    let mut sampler = Sampler::new(SamplerConfig { seed: wide(0), ..config }).unwrap().at_step(wide(2));
    let token = sampler.sample(logits).unwrap_or(NO_TOKEN);
    let greedy = config.temperature == 0.0;
    (token, if greedy { state } else { sampler.draw() })
}

/// The tokens of `rows`, which all devices agree on. Nothing but a launch happens on a HIP device.
fn tokens_agree(config: SamplerConfig, vocab: usize, logits: &[f32], draws: &[u32]) -> Vec<u32> {
    let rows = logits.chunks_exact(vocab).zip(draws.chunks_exact(4));
    let expected = Vec::from_iter(rows.map(|(row, state)| expected(config, row, state.try_into().unwrap())));
    let tokens = Vec::from_iter(expected.iter().map(|(token, _)| *token));
    let states = Vec::from_iter(expected.iter().flat_map(|(_, state)| *state));
    for device in parity::cpu_and_devices().unwrap() {
        let (buffer, mut state) = (on(&device, logits), on(&device, draws));
        let mut chosen = on(&device, &vec![0xdead_u32; tokens.len()]);
        counted(&device, || {
            let (state, chosen) = (state.as_view_mut().unwrap(), chosen.as_view_mut().unwrap());
            sample(buffer.as_view(), vocab, &config, state, chosen)
        });
        assert_eq!(chosen.to_host_vec().unwrap(), tokens, "{config:?} of {vocab} on {device:?}");
        assert_eq!(state.to_host_vec().unwrap(), states, "{config:?} of {vocab} on {device:?}");
        unchanged(&buffer, logits);
    }
    tokens
}

/// Rows of several kinds: as a model gives them, peaked, flat, coarse with many ties, with excluded tokens, all equal.
fn rows_of_each_kind(seed: u64, vocab: usize) -> Vec<f32> {
    let mut logits = uniform::<f32>(seed, 6 * vocab);
    let (mut kinds, mut random) = (logits.chunks_exact_mut(vocab), SplitMix64::new(seed));
    let mut next = |change: &mut dyn FnMut(&mut f32)| kinds.next().unwrap().iter_mut().for_each(change);
    next(&mut |logit| *logit *= 12.0);
    next(&mut |logit| *logit = *logit * *logit * *logit * 90.0);
    next(&mut |logit| *logit *= 0.01);
    next(&mut |logit| *logit = (*logit * 3.0).round() * 0.5);
    next(&mut |logit| {
        *logit = if random.below(4) == 0 { *logit * 5.0 - 3.0 } else { f32::NEG_INFINITY };
    });
    next(&mut |logit| *logit = if *logit < 0.0 { -0.0 } else { 0.0 });
    // A row of nothing but -inf is tested by itself.
    logits[5 * vocab - 1] = -3.0;
    logits
}

const CONFIGS: [SamplerConfig; 12] = [
    config(1.0, 0, 1.0),
    config(0.7, 0, 1.0),
    config(1.0, 1, 1.0),
    config(1.0, 2, 1.0),
    config(1.3, 40, 1.0),
    config(1.0, 0, 0.9),
    config(1.0, 0, f32::MIN_POSITIVE),
    config(0.95, 50, 0.7),
    config(30.0, 700, 0.999),
    config(0.02, 3, 0.5),
    config(1e-30, 0, 0.99),
    config(f32::MAX, 1_000_000, 0.3),
];

const fn config(temperature: f32, top_k: u32, top_p: f32) -> SamplerConfig {
    SamplerConfig { temperature, top_k, top_p, seed: 0 }
}

#[test]
fn tokens_are_those_of_the_sampler() {
    // Around groups of lanes, blocks, what a block takes at a time, and lists of candidates.
    let vocabs = [1, 2, 31, 33, 1000, 1023, 1024, 1025, 2050, 8191, 8192, 8193];
    let mut random = SplitMix64::new(1);
    for (seed, vocab) in (0..).zip(vocabs) {
        let logits = rows_of_each_kind(seed, vocab);
        // Every other rule, in turn.
        for config in CONFIGS.into_iter().skip(vocab % 2).step_by(2) {
            let rows = logits.len() / vocab;
            tokens_agree(config, vocab, &logits, &draws(&mut random, rows));
        }
    }
}

#[test]
fn a_vocabulary_of_glm_4_is_sampled() {
    const VOCAB: usize = 151_552;
    let mut random = SplitMix64::new(2);
    let logits = rows_of_each_kind(7, VOCAB);
    for config in [CONFIGS[0], CONFIGS[7], CONFIGS[8]] {
        tokens_agree(config, VOCAB, &logits, &draws(&mut random, logits.len() / VOCAB));
    }
}

#[test]
fn candidates_on_the_edge_of_a_bin_are_in_one_bin() {
    // As many candidates as a list holds, on the upper edges of the kernel's bins, 1/32 apart.
    let logits = Vec::from_iter((0..4 * 1024_u16).map(|id| f32::from(id % 4) / -32.0));
    let rows = logits.repeat(16);
    for config in [CONFIGS[0], config(1.0, 1500, 1.0), config(1.0, 0, 0.4)] {
        tokens_agree(config, logits.len(), &rows, &draws(&mut SplitMix64::new(4), 16));
    }
}

#[test]
fn a_run_of_draws_is_the_run_of_the_sampler() {
    // Each launch finds the step that the one before left on the device.
    let config = SamplerConfig { seed: 0x1234_5678_9abc_def0, ..CONFIGS[4] };
    let logits = rows_of_each_kind(3, 600);
    for device in gpus() {
        let mut sampler = Sampler::new(config).unwrap().at_step(u64::from(u32::MAX) - 5);
        let (buffer, mut state) = (on(&device, &logits), on(&device, &sampler.draw()));
        let mut chosen = on(&device, &[0_u32; 16]);
        for (at, row) in (0..16).zip((0..6).cycle()) {
            counted(&device, || {
                let (state, chosen) = (state.as_view_mut().unwrap(), chosen.view_mut(at..at + 1).unwrap());
                sample(buffer.view(row * 600..(row + 1) * 600).unwrap(), 600, &config, state, chosen)
            });
        }
        let rows = logits.chunks_exact(600).cycle().take(16);
        let expected = Vec::from_iter(rows.map(|row| sampler.sample(row).unwrap()));
        assert_eq!(chosen.to_host_vec().unwrap(), expected, "{device:?}");
        assert_eq!(state.to_host_vec().unwrap(), sampler.draw(), "{device:?}");
    }
}

#[test]
fn draws_on_a_device_fit_the_distribution() {
    let logits = [0.5_f32, 2.0, 0.0, 1.25, f32::NEG_INFINITY, 1.0];
    let config = config(0.8, 4, 0.9);
    // Top-k leaves tokens 1, 3, 5 and 0, and top-p the first three of them.
    let shares = [1, 3, 5].map(|id: usize| (id, (f64::from(logits[id]) / 0.8).exp()));
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    const ROWS: u32 = 64;
    for device in gpus() {
        let state = Vec::from_iter((0..ROWS).flat_map(|row| [row, 7, 0, 0]));
        let (buffer, mut state) = (on(&device, &logits.repeat(ROWS as usize)), on(&device, &state));
        let mut counts = [0.0; 6];
        for _ in 0..16 {
            let mut chosen = on(&device, &[0_u32; ROWS as usize]);
            let (state, tokens) = (state.as_view_mut().unwrap(), chosen.as_view_mut().unwrap());
            sample(buffer.as_view(), 6, &config, state, tokens).unwrap();
            chosen.to_host_vec().unwrap().iter().for_each(|&id| counts[id as usize] += 1.0);
        }
        let mut statistic = 0.0;
        for (id, share) in shares {
            let mean = share / total * f64::from(16 * ROWS);
            statistic += (counts[id] - mean).powi(2) / mean;
            counts[id] = 0.0;
        }
        assert_eq!(counts, [0.0; 6], "an excluded token was drawn");
        // Two degrees of freedom; five deviations above the mean.
        assert!(statistic <= 2.0 + 5.0 * 2.0, "{statistic} on {device:?}");
    }
}

#[test]
fn a_row_without_a_choice_gives_no_token_and_keeps_its_step() {
    let vocab = 1500;
    for at in [0, 700, vocab - 1] {
        let mut rows = [(); 5].map(|()| uniform::<f32>(9, vocab));
        rows[0][at] = f32::NAN;
        rows[1][at] = f32::INFINITY;
        rows[2].fill(f32::NEG_INFINITY);
        rows[3].fill(f32::NEG_INFINITY);
        rows[3][at] = f32::MIN;
        let tokens = tokens_agree(CONFIGS[4], vocab, &rows.concat(), &draws(&mut SplitMix64::new(3), 5));
        assert_eq!(tokens[..4], [NO_TOKEN, NO_TOKEN, NO_TOKEN, u32::try_from(at).unwrap()]);
        assert_ne!(tokens[4], NO_TOKEN);
    }
}

#[test]
fn greedy_is_argmax_and_draws_nothing() {
    let (vocab, logits) = (700, rows_of_each_kind(5, 700));
    let tokens = tokens_agree(SamplerConfig::default(), vocab, &logits, &[9; 24]);
    for device in gpus() {
        let (buffer, mut chosen) = (on(&device, &logits), on(&device, &[0_u32; 6]));
        argmax(buffer.as_view(), vocab, chosen.as_view_mut().unwrap()).unwrap();
        assert_eq!(chosen.to_host_vec().unwrap(), tokens);
    }
}

#[test]
fn what_cannot_be_sampled_is_refused_before_any_launch() {
    for device in gpus() {
        let (logits, mut state) = (on(&device, &[0.0_f32; 8]), on(&device, &[0_u32; 8]));
        let mut tokens = on(&device, &[7_u32; 2]);
        let before = device.transfers();
        let mut refusal = |vocab: usize, config: SamplerConfig, draws: usize| {
            let (state, tokens) = (state.view_mut(0..draws).unwrap(), tokens.as_view_mut().unwrap());
            sample(logits.as_view(), vocab, &config, state, tokens).unwrap_err()
        };
        assert!(matches!(refusal(4, config(-1.0, 0, 1.0), 8), NnError::Temperature { .. }));
        assert!(matches!(refusal(4, config(1.0, 0, 0.0), 8), NnError::TopP { .. }));
        assert!(matches!(refusal(0, CONFIGS[0], 8), NnError::ZeroDimension { dimension: "vocab" }));
        assert!(matches!(refusal(1 << 24, CONFIGS[0], 8), NnError::VocabTooLarge { most: 0xff_ffff, .. }));
        assert!(matches!(refusal(3, CONFIGS[0], 8), NnError::OperandLength { operand: "logits", .. }));
        assert!(matches!(refusal(4, CONFIGS[0], 4), NnError::OperandLength { operand: "draws", .. }));
        assert_eq!(device.transfers(), before);
        assert_eq!(tokens.to_host_vec().unwrap(), [7; 2]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn random_rules_choose_the_sampler_s_tokens(
        seed: u64, vocab in 1_usize..3000, heat in -3_i8..4, top_k in 0_u32..80, top_p in 1e-3_f32..=1.0,
    ) {
        let config = SamplerConfig { temperature: f32::from(heat).exp(), top_k, top_p, seed: 0 };
        tokens_agree(config, vocab, &rows_of_each_kind(seed, vocab), &draws(&mut SplitMix64::new(seed), 6));
    }
}
