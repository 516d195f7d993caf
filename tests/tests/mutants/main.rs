//! Changed machine code is noticed: of the committed images one instruction at a time is changed, and the operation is then run
//! on the emulated card, all of whose checks are on. A change is noticed where its result is not the CPU's, or the card reports
//! it. What is not noticed stands in `survivors.txt`, with a reason.
//!
//! Some changes of each kernel are tried; with `PARITY_FULL=1` at least 500. `MUTANTS_SEED` chooses others, `MUTANTS_KERNEL` the
//! kernels whose name contains a text.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod attending;
mod cases;
mod choose;
mod hip;
mod layers;
mod rotating;
mod sites;

use std::collections::BTreeMap;
use std::env;
use std::time::Instant;

use device_mem::Device;
use hip_emu::{Arch, Checks, Options};
use parity::{Tolerance, compare};

use cases::Case;
use hip::AS_LAUNCHED;
use sites::{KINDS, Kind, Mutant, mutants};

/// The emulated card.
const TARGET: &str = "gfx1100";
/// No kernel of a case needs as many instructions of a wave; one that does not end has them soon.
const INSTRUCTION_LIMIT: u64 = 2_000_000;
/// Changes of each kernel, of those that the cases reach.
const OF_EACH: usize = 2;
const OF_EACH_IN_FULL: usize = 14;

/// What the CPU gives.
struct Expected {
    values: Vec<f32>,
    bounds: Option<Vec<f64>>,
}

impl Expected {
    fn of(case: &Case) -> Expected {
        let values = (case.run)(&Device::Cpu).unwrap();
        Expected { values, bounds: case.bounds.map(|bounds| bounds().unwrap()) }
    }

    /// Whether a result is the CPU's.
    fn agrees(&self, got: &[f32]) -> bool {
        let tolerance = self.bounds.as_deref().map_or(Tolerance::Bits, Tolerance::Elementwise);
        compare(&self.values, got, tolerance).is_ok()
    }

    /// Whether an image is noticed to be another one: the card reports it, or the result is not the CPU's.
    fn notices(&self, case: &Case, image: &'static [u8], changed: Vec<u8>) -> bool {
        let agrees = |blocks| {
            let card = hip_emu::card(TARGET);
            let result = hip::with_changed_image(card, image, changed.clone(), blocks, case.run).unwrap();
            result.is_ok_and(|got| self.agrees(&got))
        };
        !(agrees(AS_LAUNCHED) && case.fewest.is_none_or(agrees))
    }
}

/// The reasons why changes of kernels are not noticed, by kernel and change.
fn survivors() -> BTreeMap<(String, String), String> {
    let lines =
        include_str!("survivors.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let entries = lines.map(|line| {
        let parts: Vec<&str> = line.split(" | ").collect();
        let [kernel, change, reason] = parts[..] else {
            panic!("kernel | change | reason, and not {line:?}")
        };
        assert!(reason.len() > 10, "a reason is missing: {line:?}");
        ((kernel.to_owned(), change.to_owned()), reason.to_owned())
    });
    entries.collect()
}

/// Counts of a kind.
#[derive(Default)]
struct Count {
    tried: usize,
    noticed: usize,
}

#[test]
fn changed_machine_code_is_noticed() {
    let mut options = Options::default();
    (options.checks, options.counts, options.instruction_limit) = (Checks::ALL, true, INSTRUCTION_LIMIT);
    hip_emu::configure(options).unwrap();
    let seed = env::var("MUTANTS_SEED").map_or(1, |seed| seed.parse().unwrap());
    let of_each = if env::var_os("PARITY_FULL").is_some() { OF_EACH_IN_FULL } else { OF_EACH };
    let known = survivors();
    let (mut counts, mut survived) = (KINDS.map(|_| Count::default()), Vec::new());
    let (mut unreached, mut idle) = (0, 0);
    let chosen = env::var("MUTANTS_KERNEL").unwrap_or_default();
    for case in cases::all().into_iter().filter(|case| case.kernel.contains(&chosen)) {
        let start = Instant::now();
        let image = case.images.images.iter().find(|image| image.arch == TARGET).unwrap().bytes;
        let expected = Expected::of(&case);
        assert!(!expected.notices(&case, image, image.to_vec()), "{} is right unchanged", case.kernel);
        let all = mutants(image, Arch::from_target(TARGET).unwrap(), case.kernel);
        let mut tried = 0;
        for mutant in choose::choose(case.kernel, all, seed, 3 * of_each) {
            if tried == of_each {
                break;
            }
            if expected.notices(&case, image, mutant.of(image)) {
                count(&mut counts, &mutant).noticed += 1;
            } else if !expected.notices(&case, image, mutant.trap_of(image)) {
                // No shape comes by this instruction, so its change is none of what ran.
                unreached += 1;
                continue;
            } else if has_operands(&mutant) && !expected.notices(&case, image, mutant.without_of(image)) {
                // Not even taking the instruction out changes what comes out of it.
                idle += 1;
                continue;
            } else if mutant.kind == Kind::Wait && never_waits(&case, image, &mutant) {
                idle += 1;
                continue;
            } else {
                println!("{}: {} is not noticed", case.kernel, mutant.text());
                survived.push((case.kernel.to_owned(), mutant.text()));
            }
            count(&mut counts, &mutant).tried += 1;
            tried += 1;
        }
        println!("{}: {tried} changes in {:.0} s", case.kernel, start.elapsed().as_secs_f64());
    }
    let (mut tried, mut noticed) = (0, 0);
    assert!(
        counts.iter().any(|count| count.tried > 0),
        "no kernel's name contains MUTANTS_KERNEL={chosen:?}"
    );
    for (kind, count) in KINDS.iter().zip(&counts) {
        println!("{kind:?}: {} of {} noticed", count.noticed, count.tried);
        (tried, noticed) = (tried + count.tried, noticed + count.noticed);
    }
    println!(
        "{noticed} of {tried} noticed; {unreached} more are of code that no case reaches, {idle} of instructions without effect"
    );
    for (kernel, change) in &survived {
        println!(
            "{kernel} | {change} | {}",
            known.get(&(kernel.clone(), change.clone())).map_or("", |reason| reason)
        );
    }
    let unknown: Vec<_> = survived.iter().filter(|survivor| !known.contains_key(survivor)).collect();
    assert!(unknown.is_empty(), "not noticed, and not in survivors.txt: {unknown:#?}");
    assert!(noticed * 100 >= tried * 95, "{noticed} of {tried}");
}

/// Whether a wait that is taken out found nothing in flight to wait for, whenever a wave came by it.
fn never_waits(case: &Case, image: &'static [u8], mutant: &Mutant) -> bool {
    let [before, after] = [image.to_vec(), mutant.uncounted_of(image)].map(|code| {
        drop(hip_emu::take_launches());
        hip::with_changed_image(hip_emu::card(TARGET), image, code, AS_LAUNCHED, case.run).unwrap().unwrap();
        let counters = hip_emu::take_launches().into_iter().filter_map(|launch| launch.report.counters);
        counters.fold((0, 0), |(waits, idle), counters| (waits + counters.waits, idle + counters.idle_waits))
    });
    before.0 > after.0 && before.0 - after.0 == before.1 - after.1
}

/// Whether the instruction is still there.
fn has_operands(mutant: &Mutant) -> bool {
    !matches!(mutant.kind, Kind::Wait | Kind::Barrier)
}

fn count<'a>(counts: &'a mut [Count; 5], mutant: &Mutant) -> &'a mut Count {
    &mut counts[KINDS.iter().position(|kind| *kind == mutant.kind).unwrap()]
}
