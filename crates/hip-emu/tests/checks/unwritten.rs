//! Values that were never written.

use hip_emu::{Checks, FaultKind, MemoryError, Origin, Use};

use crate::{
    card::{Argument, Buffer, Card, EVERY, ITEMS, only},
    deleted::without_first,
};

fn init() -> Checks {
    only(|checks| checks.init = true)
}

/// Runs a kernel that is refused, of each architecture; gives what depends on what.
fn decided(kernel: &str, arguments: impl Fn(&Card) -> Vec<Argument>) -> [(Use, Origin, String); EVERY.len()] {
    EVERY.map(|image| {
        let card = Card::with(image, init(), false);
        let fault = card.fault(kernel, 1, arguments(&card));
        let FaultKind::Unwritten { used, origin } = fault.kind else { panic!("{fault}") };
        (used, origin, fault.to_string())
    })
}

/// Runs a kernel that is right, of each architecture.
fn passes(kernel: &str, arguments: impl Fn(&Card) -> Vec<Argument>) {
    for (image, checks) in EVERY.iter().flat_map(|image| [(image, init()), (image, Checks::ALL)]) {
        let card = Card::with(image, checks, false);
        card.run(kernel, 1, arguments(&card)).unwrap_or_else(|error| panic!("{checks}: {error}"));
    }
}

#[test]
fn lds_that_nobody_wrote_must_not_reach_memory() {
    let arguments = |card: &Card| vec![card.empty(ITEMS).into(), card.floats(ITEMS).into()];
    passes("half_of_lds", arguments);
    for (used, origin, text) in decided("half_of_lds_unwritten", arguments) {
        assert_eq!(used, Use::Stored, "{text}");
        assert!(matches!(origin, Origin::Lds { address } if (512..1024).contains(&address)), "{text}");
        assert!(
            text.contains("see pc") && (text.contains("ds_load_b32") || text.contains("ds_read_b32")),
            "{text}"
        );
    }
}

#[test]
fn scratch_that_nobody_wrote_must_not_reach_memory() {
    let indices: Vec<u32> = (0..256).map(|item| item / 32).collect();
    let arguments = |card: &Card| vec![card.empty(ITEMS).into(), card.words(&indices).into()];
    passes("half_of_scratch", arguments);
    for (used, origin, text) in decided("half_of_scratch_unwritten", arguments) {
        assert_eq!(used, Use::Stored, "{text}");
        assert!(matches!(origin, Origin::Scratch { .. }), "{text}");
    }
}

#[test]
fn memory_that_nobody_wrote_must_decide_nothing() {
    let half = |card: &Card| card.part(ITEMS, 0..ITEMS / 2).into();
    let whole = |card: &Card| -> Argument { card.floats(ITEMS).into() };
    let index = |card: &Card| -> Argument { card.words(&[7; ITEMS]).into() };
    let y = |card: &Card| -> Argument { card.empty(2 * ITEMS).into() };

    passes("gather", |card| vec![y(card), whole(card), index(card)]);
    for (used, origin, text) in decided("gather", |card| vec![y(card), whole(card), half(card)]) {
        assert_eq!(used, Use::Address, "{text}");
        let Origin::Global { address, allocation } = origin else { panic!("{text}") };
        assert_eq!(address - allocation.address, 2 * ITEMS as u64, "{text}");
    }

    passes("choose", |card| vec![y(card), whole(card)]);
    for (used, _, text) in decided("choose", |card| vec![y(card), card.empty(1).into()]) {
        assert_eq!(used, Use::Branch, "{text}");
    }

    passes("choose_lanes", |card| vec![y(card), whole(card)]);
    for (used, _, text) in decided("choose_lanes", |card| vec![y(card), half(card)]) {
        assert_eq!(used, Use::ActiveLanes, "{text}");
    }

    passes("twice", |card| vec![y(card), whole(card)]);
    for (used, origin, text) in decided("twice", |card| vec![y(card), half(card)]) {
        assert!(used == Use::Stored && matches!(origin, Origin::Global { .. }), "{text}");
    }
}

#[test]
fn bits_that_are_not_used_may_be_unwritten() {
    let card = Card::new(init());
    let (y, x) = (card.empty(ITEMS), card.empty(ITEMS));
    for item in 0..ITEMS {
        card.write(Buffer(x.0 + 4 * item as u64), &7_u16.to_le_bytes());
    }
    card.run("low_halves", 1, [y.into(), x.into()]).unwrap();
    assert_eq!(card.read(y, ITEMS).unwrap(), vec![f32::from_bits(8); ITEMS]);
}

#[test]
fn what_no_kernel_wrote_cannot_be_read() {
    let card = Card::new(init());
    let (y, x) = (card.empty(ITEMS + 3), card.floats(ITEMS));
    card.run("twice", 1, [y.into(), x.into()]).unwrap();
    assert_eq!(card.read(y, ITEMS).unwrap()[10], 20.0);
    let error = card.read(y, ITEMS + 1).unwrap_err();
    let MemoryError::Unwritten { address, allocation } = error else { panic!("{error}") };
    assert_eq!(
        (address, allocation.address, allocation.bytes),
        (y.0 + 4 * ITEMS as u64, y.0, 4 * ITEMS + 12)
    );
    assert!(error.to_string().contains("1024 bytes into the allocation of 1036 bytes"), "{error}");

    // A copy takes along what is missing.
    let copied = card.floats(ITEMS + 3);
    card.copy(copied, y, ITEMS + 3);
    assert!(card.read(copied, ITEMS).is_ok() && card.read(copied, ITEMS + 1).is_err());

    // Without the check there is only the pattern that fresh memory has.
    let card = Card::new(Checks::NONE);
    let y = card.empty(1);
    assert!(card.read(y, 1).unwrap()[0].is_nan());
}

#[test]
fn a_register_that_the_kernel_never_wrote_is_named() {
    // Without the load of its arguments, `twice` adds offsets to registers that nobody filled.
    let image = without_first("twice", "s_load_b128");
    let card = Card::with(&image, init(), false);
    let fault = card.fault("twice", 1, [card.empty(ITEMS).into(), card.floats(ITEMS).into()]);
    let FaultKind::Unwritten { used: Use::Address, origin: Origin::Register { vector: false, index } } =
        fault.kind
    else {
        panic!("{fault}")
    };
    assert!(index == 2 || index == 3, "{fault}");
}
