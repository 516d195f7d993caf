//! Operations whose low bits hardware does not specify: they are listed, and moved where that is asked for.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use hip_emu::{Checks, Dispatch, Machine, Options, Report};

const ASSEMBLED: &[u8] = include_bytes!("data/assembled.gfx1100.hsaco");
const GROUPS: usize = 8;
const ITEMS: usize = 64;

fn options(perturb: u64, threads: usize) -> Options {
    let mut options = Options::default();
    (options.perturb, options.threads) = (perturb, threads);
    options
}

/// Numbers between -8 and 8, all different.
fn input(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index as f32 + 0.25) * 16.0 / count as f32 - 8.0).collect()
}

/// Runs `approximate` once for each of its groups on its own part; gives the reports and the results.
fn run(options: &Options) -> (Vec<Report>, Vec<[f32; 2]>) {
    let machine = Machine::new(options.clone());
    let program = machine.load(ASSEMBLED).unwrap();
    let numbers = input(GROUPS * ITEMS);
    let memory = machine.memory();
    let from = memory.allocate(4 * numbers.len()).unwrap();
    let to = memory.allocate(8 * numbers.len()).unwrap();
    memory.write(from, &numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let dispatch = Dispatch { groups: [1, 1, 1], block: [ITEMS as u32, 1, 1], dynamic_lds: 0 };
    let reports = (0..GROUPS as u64).map(|group| {
        let first = group * ITEMS as u64;
        let arguments = [(to + 8 * first).to_le_bytes(), (from + 4 * first).to_le_bytes()].concat();
        machine.launch(&program, "approximate", &dispatch, &arguments).unwrap()
    });
    let reports = reports.collect();
    let mut bytes = vec![0; 8 * numbers.len()];
    memory.read(to, &mut bytes).unwrap();
    let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    (reports, bytes.chunks_exact(8).map(|both| [float(&both[..4]), float(&both[4..])]).collect())
}

#[test]
fn approximate_operations_are_listed() {
    let (reports, results) = run(&options(0, 1));
    for report in reports {
        assert_eq!(report.approximate, [("v_exp_f32", 2), ("v_rcp_f32", 2)], "two waves");
    }
    for ([exp, rcp], x) in results.into_iter().zip(input(GROUPS * ITEMS)) {
        assert!((f64::from(exp) / f64::from(x).exp2() - 1.0).abs() < 1e-7, "{x}");
        assert_eq!(rcp, 1.0 / x);
    }
    // What the checks try out does not count.
    let mut watched = options(0, 1);
    watched.checks = Checks::ALL;
    assert_eq!(run(&watched).0[0].approximate, [("v_exp_f32", 2), ("v_rcp_f32", 2)]);
}

#[test]
fn perturbation_moves_results_by_one_place_at_most() {
    let (_, exact) = run(&options(0, 1));
    let mut seen = Vec::new();
    for seed in [1, 2, 0xdead_beef] {
        let (_, moved) = run(&options(seed, 1));
        assert_eq!(moved, run(&options(seed, 2)).1, "threads change nothing");
        let distances: Vec<i32> = exact
            .iter()
            .zip(&moved)
            .flat_map(|(exact, moved)| [0, 1].map(|at| (exact[at].to_bits(), moved[at].to_bits())))
            .map(|(exact, moved)| exact.cast_signed().wrapping_sub(moved.cast_signed()))
            .collect();
        for distance in [-1, 0, 1] {
            let share = distances.iter().filter(|&&found| found == distance).count();
            assert!(share > distances.len() / 5, "{share} of {} by {distance}", distances.len());
        }
        assert!(distances.iter().all(|distance| distance.abs() <= 1));
        seen.push(moved);
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2], "seeds differ");
}

#[test]
fn what_is_exact_stays() {
    // Exact operations only: y += a x.
    let run = |perturb| {
        let machine = Machine::new(options(perturb, 0));
        let program = machine.load(include_bytes!("data/axpy.gfx1100.hsaco")).unwrap();
        let memory = machine.memory();
        let numbers: Vec<u8> = input(1000).into_iter().flat_map(f32::to_le_bytes).collect();
        let (y, x) = (memory.allocate(4000).unwrap(), memory.allocate(4000).unwrap());
        memory.write(y, &numbers).unwrap();
        memory.write(x, &numbers).unwrap();
        let arguments =
            [&y.to_le_bytes()[..], &x.to_le_bytes(), &0.3_f32.to_le_bytes(), &1000_u32.to_le_bytes()]
                .concat();
        let dispatch = Dispatch { groups: [4, 1, 1], block: [256, 1, 1], dynamic_lds: 0 };
        let report = machine.launch(&program, "axpy_f32", &dispatch, &arguments).unwrap();
        assert_eq!(report.approximate, []);
        let mut bytes = vec![0; 4000];
        memory.read(y, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(run(0), run(7));
}
