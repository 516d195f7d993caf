//! Hostile files: each named case has its named result, in bounded memory and time, without a panic.
//!
//! `PARITY_CASE=TEXT` runs the cases whose name contains TEXT. GGUF files have their cases in `tests/gguf`, code objects theirs
//! in `crates/hsaco/tests/hostile.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// A case that is refused with an error of a pattern. `expected` is an expression of the input, `Try` what is done with it.
macro_rules! refused {
    ($name:literal, $input:expr, $load:expr, $pattern:pat $(if $guard:expr)?) => {
        crate::case::Case::new($name, move || $input.into(), $load, |result| {
            matches!(result, Err($pattern) $(if $guard)?)
        })
    };
}

/// A case that is taken.
macro_rules! taken {
    ($name:literal, $input:expr, $load:expr) => {
        crate::case::Case::new($name, move || $input.into(), $load, |result| result.is_ok())
    };
}

mod case;
mod checkpoint;
mod config;
mod mutate;
mod open;
mod safetensors;
mod template;
mod tokenizer;
mod weights;

use parity::{Suite, Tally};

const COMMAND: &str = "cargo test -p model-glm --test hostile";

#[test]
fn every_hostile_file_has_its_result() {
    let _alone = case::alone();
    let families = [
        ("safetensors/", safetensors::cases(), 40),
        (
            "config/",
            [config::cases(), tokenizer::cases(), weights::cases()].into_iter().flatten().collect(),
            33,
        ),
        ("template/", template::cases(), 10),
    ];
    let mut cases = Vec::new();
    for (family, of_family, count) in families {
        assert_eq!(of_family.len(), count, "{family}");
        cases.extend(of_family.into_iter().map(|case| (format!("{family}{}", case.name), case)));
    }
    let further = [tokenizer::further(), weights::further(), template::further(), safetensors::further()];
    cases.extend(further.into_iter().flatten().map(|case| (format!("further/{}", case.name), case)));

    let suite = Suite::from_env("hostile files", COMMAND).unwrap();
    let names: Vec<String> = cases.iter().map(|(name, _)| name.clone()).collect();
    let mut chosen = suite.select(&names).unwrap();
    chosen.retain(|&at| !cfg!(miri) || case::is_for_miri(&names[at]));
    let mut tally = Tally::new(["cpu".to_owned()]);
    for &at in &chosen {
        match cases[at].1.run() {
            Ok(()) => tally.passed(0),
            Err(what) => tally.failed(suite.failure(&names[at], &what)),
        }
    }
    suite.finish(names.len(), chosen.len(), &tally);
}
