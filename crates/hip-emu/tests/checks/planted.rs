//! Races, barriers and freed memory.

use hip_emu::{Arch, Checks, FaultKind, LaunchFault, SharedSpace, WaveId};

use crate::card::{Argument, Buffer, Card, EVERY, ITEMS, only, processor};

/// Runs a kernel and the one with a mistake, `{name}{suffix}`, of each architecture, with buffers that `arguments` makes; shows
/// the faults.
fn pairs(
    name: &str,
    suffix: &str,
    groups: u32,
    checks: Checks,
    arguments: impl Fn(&Card) -> Vec<Argument>,
    show: impl Fn(&[u8], Box<LaunchFault>),
) {
    EVERY.iter().for_each(|image| show(image, pair(image, name, suffix, groups, checks, &arguments)));
}

fn pair(
    image: &[u8],
    name: &str,
    suffix: &str,
    groups: u32,
    checks: Checks,
    arguments: impl Fn(&Card) -> Vec<Argument>,
) -> Box<LaunchFault> {
    for checks in [checks, Checks::ALL] {
        let card = Card::with(image, checks, false);
        card.run(name, groups, arguments(&card)).unwrap_or_else(|error| panic!("{checks}: {error}"));
    }
    let planted = format!("{name}{suffix}");
    let card = Card::with(image, Checks::NONE, false);
    card.run(&planted, groups, arguments(&card)).unwrap();
    let card = Card::with(image, checks, false);
    card.fault(&planted, groups, arguments(&card))
}

/// The line of the source that holds `text`.
fn line_of(text: &str) -> u32 {
    let source = include_str!("../data/planted.hip");
    let line = source.lines().position(|line| line.contains(text)).unwrap();
    u32::try_from(line + 1).unwrap()
}

fn race() -> Checks {
    only(|checks| checks.race = true)
}

#[test]
fn a_missing_barrier_between_waves_that_share_lds_is_a_race() {
    pairs(
        "reverse_in_lds",
        "_races",
        1,
        race(),
        |card| vec![card.empty(ITEMS).into(), card.floats(ITEMS).into()],
        |_, fault| {
            let FaultKind::Race { space: SharedSpace::Lds, other, writes, other_writes, .. } = fault.kind
            else {
                panic!("{fault}")
            };
            assert_ne!((other.group, other.wave), (fault.group, fault.wave), "{fault}");
            assert!(writes != other_writes, "{fault}");
            let lines = [
                fault.line.as_ref().unwrap().line,
                fault.earlier.as_ref().unwrap().line.as_ref().unwrap().line,
            ];
            let expected = [line_of("y[item()] = tile[ITEMS - 1"), line_of("tile[item()] = x[item()];")];
            assert!(lines == expected || lines == [expected[1], expected[0]], "{fault}");
            let text = fault.to_string();
            assert!(text.contains("kernel `reverse_in_lds_races`") && text.contains("of LDS"), "{text}");
        },
    );
}

#[test]
fn a_missing_barrier_between_waves_that_share_memory_is_a_race() {
    pairs(
        "reverse_in_memory",
        "_races",
        1,
        race(),
        |card| vec![card.empty(ITEMS).into(), card.floats(ITEMS).into(), card.empty(ITEMS).into()],
        |_, fault| {
            let FaultKind::Race {
                space: SharedSpace::Global,
                address,
                allocation: Some(allocation),
                other,
                ..
            } = fault.kind
            else {
                panic!("{fault}")
            };
            assert!(
                allocation.bytes == 4 * ITEMS && address - allocation.address < 4 * ITEMS as u64,
                "{fault}"
            );
            assert!(other.group == [0, 0, 0] && other.wave != fault.wave, "{fault}");
        },
    );
}

#[test]
fn a_group_that_reads_what_another_writes_needs_an_atomic_between() {
    pairs(
        "sum_of_groups",
        "_races",
        20,
        race(),
        |card| vec![card.empty(1).into(), card.empty(20).into(), card.words(&[0]).into(), 20_u32.into()],
        |_, fault| {
            let FaultKind::Race { other, .. } = fault.kind else { panic!("{fault}") };
            assert!(other == WaveId { group: [0, 0, 0], wave: 0 } || fault.group == [0, 0, 0], "{fault}");
        },
    );
}

#[test]
fn groups_that_write_the_same_element_race() {
    pairs(
        "fill_parts",
        "_races",
        3,
        race(),
        |card| vec![card.empty(3 * ITEMS + 1).into()],
        |_, fault| {
            let FaultKind::Race {
                writes: true,
                other_writes: true,
                address,
                allocation: Some(allocation),
                ..
            } = fault.kind
            else {
                panic!("{fault}")
            };
            assert_eq!((address - allocation.address) % (4 * ITEMS as u64), 0, "{fault}");
        },
    );
}

#[test]
fn a_barrier_that_a_wave_never_reaches_is_named() {
    let sync = only(|checks| checks.sync = true);
    pairs(
        "early_end",
        "_diverges",
        1,
        sync,
        |card| vec![card.empty(ITEMS).into()],
        |image, fault| {
            let lanes = Arch::from_target(&processor(image)).unwrap().lanes();
            let waves = ITEMS / usize::from(lanes);
            assert_eq!(fault.kind, FaultKind::DivergentBarrier { waiting: waves - 1, ended: 1 }, "{fault}");
            let text = if processor(image) == "gfx1201" { "s_barrier_wait 0xffff" } else { "s_barrier" };
            assert_eq!(fault.text, text);
            assert_eq!(fault.line.as_ref().unwrap().line, line_of("y[item()] = 3.0f;") - 1, "{fault}");
        },
    );
}

#[test]
fn a_use_of_freed_memory_names_what_was_freed() {
    let card = Card::new(only(|checks| checks.memory = true));
    let (y, x) = (card.empty(ITEMS), card.floats(ITEMS));
    card.run("twice", 1, [y.into(), x.into()]).unwrap();
    card.free(x);
    // Whatever is allocated next must not hide it.
    let _other = card.floats(ITEMS);
    let fault = card.fault("twice", 1, [y.into(), x.into()]);
    let FaultKind::UseAfterFree { address, freed, .. } = fault.kind else { panic!("{fault}") };
    assert_eq!((freed.address, freed.bytes), (x.0, 4 * ITEMS));
    assert_eq!(address, x.0 + 4 * u64::from(32 * fault.wave + fault.lane.unwrap()), "{fault}");
}

#[test]
fn an_address_between_elements_is_told_only_where_it_is_asked_for() {
    for (checks, found) in [(Checks::ALL, false), (only(|checks| checks.align = true), true)] {
        let card = Card::new(checks);
        let (y, x) = (card.empty(ITEMS), card.floats(ITEMS + 1));
        let shifted = Buffer(x.0 + 2);
        let result = card.run("twice", 1, [y.into(), shifted.into()]);
        assert_eq!(result.is_err(), found, "{checks}: {result:?}");
    }
}
