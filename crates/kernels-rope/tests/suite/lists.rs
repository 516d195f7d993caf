//! The lists hold what they say: the field's cases by their own counts, and what the field's lists lack.

use std::collections::BTreeSet;

use device_mem::DType;
use kernels_rope::{Axes, Pairing, RopeSpec};

use crate::cases::{self, At, Case, Definition, Form, GgmlMode, Values, View};
use crate::refusals;

fn count(cases: &[Case], holds: impl Fn(&Case) -> bool) -> usize {
    cases.iter().filter(|case| holds(case)).count()
}

fn list(prefix: &str) -> Vec<Case> {
    cases::all(0).into_iter().filter(|case| case.list.starts_with(prefix)).collect()
}

/// Counted in ggml 0.21.0 by `test-backend-ops support`.
#[test]
fn ggmls_cases_are_there_by_type_mode_factors_view_and_direction() {
    let cases = list("ggml");
    let mode = |case: &Case| match case.rotary.definition {
        Definition::Ggml { mode, .. } => mode,
        Definition::Config => panic!("{} is not by ggml's parameters", case.name()),
    };
    let factors = |case: &Case| match &case.rotary.definition {
        Definition::Ggml { freq_factors, .. } => freq_factors.iter().any(|&factor| factor != 1.0),
        Definition::Config => false,
    };
    assert_eq!(cases.len(), 870);
    assert_eq!([false, true].map(|inverse| count(&cases, |case| case.inverse == inverse)), [466, 404]);
    assert_eq!([DType::F32, DType::F16].map(|dtype| count(&cases, |case| case.dtype == dtype)), [535, 335]);
    let modes = [GgmlMode::Normal, GgmlMode::Neox, GgmlMode::Mrope, GgmlMode::Vision, GgmlMode::Imrope];
    assert_eq!(modes.map(|of| count(&cases, |case| mode(case) == of)), [268, 270, 116, 84, 132]);
    assert_eq!(count(&cases, factors), 434);
    let views = [View::Quarter, View::SecondHalf, View::Window(80, 16)];
    assert_eq!(views.map(|view| count(&cases, |case| case.view == view)), [268, 320, 34]);
    assert_eq!(count(&cases, |case| case.form == Form::Rotate), 62);
    let widths = cases.iter().map(|case| case.rotary.config.rotary_dim).collect::<BTreeSet<_>>();
    assert_eq!(widths, BTreeSet::from([16, 20, 24, 32, 36, 64, 80, 128]));
}

/// The products of the decorators of FlashInfer's tests.
#[test]
fn flashinfers_grid_is_there() {
    let count = |prefix| list(prefix).len();
    assert_eq!(count("flashinfer-rope"), 4 * 4 * 2 * 3 * 3 * 2 * 4 * 2);
    assert_eq!(count("flashinfer-pos-ids"), 4 * 4 * 2 * 3 * 3 * 2 * 4 * 2 * 2 * 2);
    assert_eq!(count("flashinfer-cos-sin-cache"), 10);
    assert_eq!(list("flashinfer").len() - count("flashinfer-quantize"), 23_050);
    assert_eq!(count("flashinfer-quantize"), 13 * 6 * 2);
}

#[test]
fn what_the_fields_lists_lack_is_there() {
    let cases = cases::all(0);
    assert!(cases.len() >= 32_000, "{}", cases.len());
    let some = |what: &str, holds: &dyn Fn(&Case) -> bool| assert!(count(&cases, holds) >= 20, "{what}");
    for pairing in cases::PAIRINGS {
        for kind in ["default", "linear", "dynamic", "yarn", "llama3", "longrope"] {
            for dtype in cases::FLOATS {
                some(&format!("{pairing:?} {kind} {dtype}"), &|case| {
                    let config = &case.rotary.config;
                    (config.pairing, config.scaling.kind(), case.dtype) == (pairing, kind, dtype)
                });
            }
        }
        for width in [2, 64, 128, 1024] {
            some(&format!("{pairing:?} rotary_dim {width}"), &|case| {
                (case.rotary.config.pairing, case.rotary.config.rotary_dim) == (pairing, width)
            });
        }
    }
    for theta in [1e4, 1e5, 5e5, 1e6, 5e6, 1e7, 1e8] {
        some(&format!("base {theta}"), &|case| case.rotary.config.theta == theta && case.length > 200_000);
    }
    for position in [0, 131_071, 202_751, (1 << 20) - 1] {
        some(&format!("position {position}"), &|case| case.at == At::Same(position));
    }
    some("all of a head", &|case| case.rotary.config.rotary_dim == case.rotary.config.head_dim);
    some("an odd head", &|case| case.rotary.config.head_dim % 2 == 1);
    some("sections", &|case| matches!(case.rotary.config.axes, Axes::Sections(_)));
    some("two blocks", &|case| case.rotary.config.axes == Axes::TwoBlocks);
    some("special values", &|case| case.values == Values::Special);
    some("magnitudes", &|case| matches!(case.values, Values::Scaled(_)));
    some("nothing to rotate", &|case| !case.launches());
    some("no tokens", &|case| case.tokens == 0);
    some(
        "an append of another type",
        &|case| matches!(case.form, Form::Append(cache, _) if cache != case.dtype),
    );
}

/// ggml's settings leave no pair inside YaRN's ramp; a real model has 25 of 64.
#[test]
fn yarns_ramp_is_within_the_pairs() {
    for case in cases::all(0) {
        let (config, label) = (&case.rotary.config, &case.rotary.label);
        if !(label == "yarn" && config.rotary_dim == 128 && config.pairing == Pairing::Halves) {
            continue;
        }
        let spec = RopeSpec::new(config.clone()).unwrap();
        let plain = RopeSpec::new(kernels_rope::RopeConfig {
            scaling: kernels_rope::Scaling::None,
            ..config.clone()
        });
        let ratios =
            plain.unwrap().inv_freq(1).into_iter().zip(spec.inv_freq(1)).map(|(plain, yarn)| plain / yarn);
        let inside = ratios.filter(|ratio| (1.001..3.999).contains(ratio)).count();
        return assert!((20..30).contains(&inside), "{inside} of 64 pairs");
    }
    panic!("no case has YaRN at a width of 128");
}

#[test]
fn the_page_tells_what_the_lists_hold() {
    let refusals = refusals::all();
    let of_refusals = refusals.iter().map(|refusal| refusal.name.clone());
    let names = cases::all(0).iter().map(Case::name).chain(of_refusals).collect::<Vec<_>>();
    parity::check_told_counts("RoPE", &names);
}
