//! Sampling draws from the distribution that temperature, top-k and top-p leave, and repeats itself under a seed.

use kernels_nn::{Sampler, SamplerConfig};
use parity::uniform;
use proptest::prelude::*;

const PLAIN: SamplerConfig = SamplerConfig { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1 };

fn draws(config: SamplerConfig, logits: &[f32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(config).unwrap();
    (0..count).map(|_| sampler.sample(logits).unwrap()).collect()
}

/// The probabilities that the documented rule gives, straightforwardly.
fn expected(config: SamplerConfig, logits: &[f32]) -> Vec<f64> {
    let mut order = Vec::from_iter(0..logits.len());
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
    if config.top_k > 0 {
        order.truncate(config.top_k as usize);
    }
    let scaled = |id: usize| (f64::from(logits[id]) / f64::from(config.temperature)).exp();
    let total: f64 = order.iter().map(|&id| scaled(id)).sum();
    let (mut kept, mut before) = (Vec::new(), 0.0);
    for id in order {
        if before < f64::from(config.top_p) * total {
            kept.push(id);
        }
        before += scaled(id);
    }
    let mass: f64 = kept.iter().map(|&id| scaled(id)).sum();
    let mut probabilities = vec![0.0; logits.len()];
    for id in kept {
        probabilities[id] = scaled(id) / mass;
    }
    probabilities
}

/// Pearson's statistic of `drawn` under `probabilities`, and its degrees of freedom.
fn chi_square(drawn: &[u32], probabilities: &[f64]) -> (f64, f64) {
    let mut counts = vec![0.0; probabilities.len()];
    for &id in drawn {
        counts[id as usize] += 1.0;
    }
    let (mut statistic, mut cells) = (0.0, 0.0);
    for (count, probability) in counts.iter().zip(probabilities) {
        if *probability == 0.0 {
            assert_eq!(*count, 0.0, "an excluded token was drawn");
        } else {
            let mean = probability * drawn.len() as f64;
            statistic += (count - mean).powi(2) / mean;
            cells += 1.0;
        }
    }
    (statistic, cells - 1.0)
}

#[test]
fn drawn_frequencies_fit_the_distribution() {
    let logits = [0.3, -1.0, 2.0, 1.9, f32::NEG_INFINITY, 0.0, 1.0, -0.5];
    let variants = [
        PLAIN,
        SamplerConfig { temperature: 0.5, ..PLAIN },
        SamplerConfig { temperature: 3.0, ..PLAIN },
        SamplerConfig { top_k: 3, ..PLAIN },
        SamplerConfig { top_p: 0.7, ..PLAIN },
        SamplerConfig { temperature: 1.7, top_k: 5, top_p: 0.8, ..PLAIN },
        SamplerConfig { top_k: 100, ..PLAIN },
    ];
    for config in variants {
        let probabilities = expected(config, &logits);
        for seed in [1, 2, u64::MAX] {
            let drawn = draws(SamplerConfig { seed, ..config }, &logits, 40_000);
            let (statistic, freedom) = chi_square(&drawn, &probabilities);
            // Mean and variance of the distribution are f and 2 f; five deviations above is about one in 10^4 or less.
            let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
            assert!(statistic <= limit, "{config:?} seed {seed}: {statistic} of {limit}");
        }
    }
}

#[test]
fn the_test_of_frequencies_notices_a_wrong_temperature() {
    let logits = [0.3, -1.0, 2.0, 1.9];
    let drawn = draws(SamplerConfig { temperature: 1.1, ..PLAIN }, &logits, 40_000);
    let (statistic, freedom) = chi_square(&drawn, &expected(PLAIN, &logits));
    assert!(statistic > freedom + 5.0 * (2.0 * freedom).sqrt(), "{statistic}");
}

#[test]
fn one_draw_tells_nothing_of_the_next() {
    // Pairs of draws from 4 equally likely tokens are draws from 16 equally likely pairs, at any distance.
    let drawn = draws(PLAIN, &[0.0; 4], 40_000);
    for distance in [1, 2, 3, 16] {
        let pairs =
            Vec::from_iter(drawn.iter().zip(&drawn[distance..]).map(|(first, second)| 4 * first + second));
        let (statistic, freedom) = chi_square(&pairs, &[1.0 / 16.0; 16]);
        assert!(statistic <= freedom + 5.0 * (2.0 * freedom).sqrt(), "{distance}: {statistic}");
    }
}

#[test]
fn the_first_draws_are_those_of_the_published_generator() {
    // Of 256 equally likely tokens the highest byte of the second word is drawn. For counter and key 0 that word is
    // e169c58d (known answers of Random123).
    let flat = [0.0; 256];
    assert_eq!(draws(SamplerConfig { seed: 0, ..PLAIN }, &flat, 1), [0xe1]);
}

#[test]
fn greedy_takes_the_first_maximum() {
    for (logits, best) in [(vec![1.0, 3.0, 3.0], 1), (vec![-5.0], 0), (vec![f32::NEG_INFINITY, -0.0, 0.0], 1)]
    {
        assert_eq!(draws(SamplerConfig::default(), &logits, 2), [best, best]);
    }
}

#[test]
fn a_seed_repeats_its_tokens_and_another_seed_does_not() {
    let logits = uniform::<f32>(3, 1000);
    let first = draws(PLAIN, &logits, 64);
    assert_eq!(first, draws(PLAIN, &logits, 64));
    assert_ne!(first, draws(SamplerConfig { seed: 2, ..PLAIN }, &logits, 64));
}

#[test]
fn large_vocabularies_are_cut_as_small_ones() {
    // More candidates than one portion of the nucleus, all nearly alike.
    let logits = Vec::from_iter(uniform::<f32>(4, 20_000).iter().map(|logit| logit * 0.01));
    let config = SamplerConfig { top_p: 0.5, ..PLAIN };
    let probabilities = expected(config, &logits);
    let kept = probabilities.iter().filter(|&&probability| probability > 0.0).count();
    assert!((9_000..11_000).contains(&kept), "{kept}");
    for id in draws(config, &logits, 2_000) {
        assert!(probabilities[id as usize] > 0.0, "{id}");
    }
}

#[test]
fn extreme_temperatures_stay_finite() {
    let logits = [f32::MAX, f32::MIN, 0.0];
    for temperature in [f32::MIN_POSITIVE, 1.0] {
        assert_eq!(draws(SamplerConfig { temperature, ..PLAIN }, &logits, 8), [0; 8]);
    }
    let hot = draws(SamplerConfig { temperature: f32::MAX, ..PLAIN }, &logits, 200);
    assert!([0, 1, 2].iter().all(|id| hot.contains(id)), "{hot:?}");
}

proptest! {
    #[test]
    fn one_candidate_is_the_greedy_one(seed: u64, data: u64, vocab in 1_usize..300, coarse: bool) {
        // Coarse logits tie often.
        let mut logits = uniform::<f32>(data, vocab);
        if coarse {
            logits.iter_mut().for_each(|logit| *logit = (*logit * 2.0).round());
        }
        let greedy = draws(SamplerConfig::default(), &logits, 1);
        prop_assert_eq!(&greedy, &draws(SamplerConfig { top_k: 1, seed, ..PLAIN }, &logits, 1));
        prop_assert_eq!(&greedy, &draws(SamplerConfig { top_p: 1e-9, seed, ..PLAIN }, &logits, 1));
        prop_assert_eq!(greedy, draws(SamplerConfig { temperature: 1e-30, top_k: 1, seed, ..PLAIN }, &logits, 1));
    }

    #[test]
    fn drawn_tokens_lie_in_the_nucleus_and_it_grows_with_top_p(
        seed: u64, data: u64, vocab in 1_usize..600, low in 0.01_f32..1.0, high in 0.01_f32..1.0, top_k in 0_u32..50,
    ) {
        let logits = Vec::from_iter(uniform::<f32>(data, vocab).iter().map(|logit| logit * 6.0));
        let (low, high) = (low.min(high), low.max(high));
        let narrow = SamplerConfig { top_p: low, top_k, seed, ..PLAIN };
        let wide = SamplerConfig { top_p: high, ..narrow };
        let (few, many) = (expected(narrow, &logits), expected(wide, &logits));
        prop_assert!(few.iter().zip(&many).all(|(few, many)| *few == 0.0 || *many > 0.0));
        prop_assert!(draws(narrow, &logits, 16).iter().all(|&id| few[id as usize] > 0.0));
        prop_assert!(draws(wide, &logits, 16).iter().all(|&id| many[id as usize] > 0.0));
    }
}
