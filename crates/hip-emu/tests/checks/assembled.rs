//! Instructions that compilers seldom make: the checks follow them, or report nothing of what they write.

use hip_emu::{Checks, Dispatch, FaultKind, LaunchError, Machine, Options, Report, SharedSpace};

use crate::card::only;

const ASSEMBLED: &[u8] = include_bytes!("../data/assembled.gfx1100.hsaco");
const ITEMS: u32 = 64;
const COUNT: usize = ITEMS as usize;

/// Runs a kernel in one group of 64 with an output that nobody wrote and an input; gives the report and the output.
fn launch(
    options: Options,
    kernel: &str,
    input: &[u8],
    output_bytes: usize,
) -> Result<(Report, Vec<u8>), LaunchError> {
    let machine = Machine::new(options);
    let program = machine.load(ASSEMBLED).unwrap();
    let memory = machine.memory();
    let (to, from) = (memory.allocate(output_bytes)?, memory.allocate(input.len().max(4))?);
    memory.write(from, input)?;
    let dispatch = Dispatch { groups: [1, 1, 1], block: [ITEMS, 1, 1], dynamic_lds: 0 };
    let arguments = [to.to_le_bytes(), from.to_le_bytes()].concat();
    let report = machine.launch(&program, kernel, &dispatch, &arguments)?;
    let mut output = vec![0; output_bytes];
    memory.read(to, &mut output)?;
    Ok((report, output))
}

fn checked(checks: Checks) -> Options {
    let mut options = Options::default();
    (options.checks, options.threads) = (checks, 1);
    options
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn elements_that_are_stored_count_as_written() {
    let (_, output) = launch(checked(Checks::ALL), "typed", &[], 8 * COUNT).unwrap();
    let halves: Vec<f32> = output
        .chunks_exact(2)
        .map(|half| half::f16::from_le_bytes(half.try_into().unwrap()).to_f32())
        .collect();
    let expected: Vec<f32> = (0..ITEMS).flat_map(|index| [index as f32, 1.0, 0.5, -2.0]).collect();
    assert_eq!(halves, expected);
}

#[test]
fn waves_that_count_in_lds_are_ordered() {
    let (_, output) = launch(checked(Checks::ALL), "counted", &[], 4 * COUNT).unwrap();
    let counts = words(&output);
    let mut firsts = [counts[0], counts[32]];
    assert!(counts[..32].iter().all(|&count| count == firsts[0]));
    assert!(counts[32..].iter().all(|&count| count == firsts[1]));
    firsts.sort_unstable();
    assert_eq!(firsts, [0, 32]);
}

#[test]
fn loads_to_lds_are_done_after_a_wait() {
    let input: Vec<u8> = (0..ITEMS).flat_map(|index| (1000 + index).to_le_bytes()).collect();
    let expected: Vec<u32> = (0..ITEMS).map(|index| 1000 + (index ^ 32)).collect();
    for (kernel, checks) in
        [("staged", Checks::NONE), ("staged", Checks::ALL), ("staged_unwaited", Checks::NONE)]
    {
        let (_, output) = launch(checked(checks), kernel, &input, 4 * COUNT).unwrap();
        assert_eq!(words(&output), expected, "{kernel}, checks {checks}");
    }
    expect_race("staged_unwaited", &input, "ds_load_addtid_b32");
}

#[test]
fn a_flat_load_from_memory_leaves_the_order_of_lds_alone() {
    let input: Vec<u8> = (0..ITEMS).flat_map(|index| (1000 * index).to_le_bytes()).collect();
    let expected: Vec<u32> = (0..ITEMS).map(|index| 1000 * index + (index ^ 32)).collect();
    for (kernel, checks) in
        [("across", Checks::NONE), ("across", Checks::ALL), ("across_unwaited", Checks::NONE)]
    {
        let (_, output) = launch(checked(checks), kernel, &input, 4 * COUNT).unwrap();
        assert_eq!(words(&output), expected, "{kernel}, checks {checks}");
    }
    expect_race("across_unwaited", &input, "ds_load_b32");
}

/// The kernel races in LDS, which shows at `instruction`.
#[track_caller]
fn expect_race(kernel: &str, input: &[u8], instruction: &str) {
    let race = only(|checks| checks.race = true);
    let fault = match launch(checked(race), kernel, input, 4 * COUNT) {
        Err(LaunchError::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert!(matches!(fault.kind, FaultKind::Race { space: SharedSpace::Lds, .. }), "{fault}");
    assert!(fault.text.starts_with(instruction), "{fault}");
}

#[test]
fn a_descriptors_rounding_is_in_force() {
    let input: Vec<u8> = (0..ITEMS).flat_map(|_| 1e-20_f32.to_le_bytes()).collect();
    let (report, output) = launch(checked(Checks::NONE), "upward", &input, 4 * COUNT).unwrap();
    assert_eq!(words(&output), vec![1_f32.next_up().to_bits(); COUNT]);
    assert_eq!(report.approximate, []);
}
