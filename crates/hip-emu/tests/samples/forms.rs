//! Forms of instructions that the sample kernels lack, from a source of this crate.

use hip_emu::{Arch, Checks, Dispatch, FaultKind, LaunchError, Machine, Options};

use crate::card::{Arguments, Card, each_build};
use crate::compare::assert_same;
use crate::compile::{Dialect, TARGETS, builds};

const THREADS: usize = 64;

/// Those of `early_end`: twice as many as reach its barrier.
const WAITING: usize = 64;

/// As on hardware, a barrier waits for the waves that still run.
fn early_end(card: &Card) {
    let y = card.upload(&[0i32; 2 * WAITING]);
    card.launch("early_end", [1, 1, 1], 2 * WAITING, Arguments::default().buffer(&y));
    let expected: Vec<i32> = (0..2 * WAITING).map(|thread| i32::from(thread < WAITING)).collect();
    assert_same(card, "early_end", &card.download(&y), &expected);
}

/// Within a range of 50 words and bytes: what lies outside reads zero and is not written.
fn through_descriptor(card: &Card) {
    const WORDS: usize = 50;
    let x: Vec<i32> = (0..).map(|i| i * 0x0101).take(WORDS).collect();
    let bytes: &[u8] = bytemuck::cast_slice(&x);
    let (device_x, y) = (card.upload(&x), card.upload(&[-1i32; WORDS]));
    let arguments = Arguments::default().buffer(&y).buffer(&device_x).size(4 * WORDS - 4);
    card.launch("through_descriptor", [1, 1, 1], THREADS, arguments);
    let mut expected: Vec<i32> = (0..WORDS).map(|i| x[i] + 1000 * i32::from(bytes[i]) + 1_000_000).collect();
    expected[WORDS - 1] = -1;
    assert_same(card, "through_descriptor", &card.download(&y), &expected);
}

#[test]
fn forms() {
    each_build(Dialect::Own, "forms", &[], through_descriptor);
    for build in TARGETS.iter().flat_map(|target| builds(Dialect::Own, "forms", target, &[]).to_vec()) {
        early_end(&Card::new(&build, Checks::NONE));
    }
}

/// With the check on, the same barrier is reported.
#[test]
fn a_barrier_that_a_wave_never_reaches_is_reported() {
    for build in TARGETS.iter().flat_map(|target| builds(Dialect::Own, "forms", target, &[]).to_vec()) {
        let mut options = Options::default();
        build.target.clone_into(&mut options.target);
        options.checks.sync = true;
        let machine = Machine::new(options);
        let program = machine.load(&build.image).unwrap();
        let y = machine.memory().allocate(4 * 2 * WAITING).unwrap();
        let dispatch = Dispatch { groups: [1, 1, 1], block: [128, 1, 1], dynamic_lds: 0 };
        let waves = WAITING / usize::from(Arch::from_target(build.target).unwrap().lanes());
        let result = machine.launch(&program, "early_end", &dispatch, &y.to_le_bytes());
        let Err(LaunchError::Fault(fault)) = result else { panic!("{build}: {result:?}") };
        assert_eq!(fault.kind, FaultKind::DivergentBarrier { waiting: waves, ended: waves }, "{build}");
        assert_eq!(fault.wave, 0, "{build}");
    }
}
