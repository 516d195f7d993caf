//! Operations whose low bits hardware does not specify: they are listed, and moved where that is asked for.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use hip_emu::{Checks, Dispatch, Machine, Options, Report};

const ASSEMBLED: &[u8] = include_bytes!("data/assembled.gfx1100.hsaco");
const GROUPS: usize = 8;
const ITEMS: usize = 64;
const BLOCK: [u32; 3] = [64, 1, 1];

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
    let dispatch = Dispatch { groups: [1, 1, 1], block: BLOCK, dynamic_lds: 0 };
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

/// Its only approximate operation is the reciprocal that compilers divide integers with, whose error they correct.
#[test]
fn the_rotary_kernel_does_not_depend_on_what_is_not_specified() {
    const IMAGE: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels-rope/hsaco/gfx1100/rope_kernel.hsaco");
    const TOKENS: usize = 3;
    const HEADS: usize = 2;
    const ROTARY_DIM: usize = 64;
    let x = input(TOKENS * HEADS * ROTARY_DIM);
    let angles: Vec<f32> = (0..TOKENS * ROTARY_DIM / 2).map(|index| index as f32 * 0.37).collect();
    let [cos, sin] = [f32::cos, f32::sin].map(|f| angles.iter().map(|&angle| f(angle)).collect::<Vec<f32>>());
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    // The first half of each head is paired with the second.
    let expected: Vec<f32> = (0..x.len())
        .map(|index| {
            let (row, place) = (index / ROTARY_DIM, index % ROTARY_DIM);
            let pair = place % (ROTARY_DIM / 2);
            let angle = row / HEADS * ROTARY_DIM / 2 + pair;
            let (a, b) = (x[row * ROTARY_DIM + pair], x[row * ROTARY_DIM + pair + ROTARY_DIM / 2]);
            if place < ROTARY_DIM / 2 {
                a * cos[angle] - b * sin[angle]
            } else {
                b * cos[angle] + a * sin[angle]
            }
        })
        .collect();
    let image = std::fs::read(IMAGE).unwrap();
    for seed in 0..16 {
        let machine = Machine::new(options(seed, 0));
        let program = machine.load(&image).unwrap();
        let memory = machine.memory();
        let place = |bytes: Vec<u8>| {
            let address = memory.allocate(bytes.len()).unwrap();
            memory.write(address, &bytes).unwrap();
            address
        };
        let (at_x, at_cos, at_sin) = (place(floats(&x)), place(floats(&cos)), place(floats(&sin)));
        let positions = place((0..3_u32).flat_map(u32::to_le_bytes).collect());
        let axes = place(vec![0; 4 * ROTARY_DIM / 2]);
        let strides = [(HEADS * ROTARY_DIM) as u64, ROTARY_DIM as u64];
        let mut arguments: Vec<u8> = [at_x, at_cos, at_sin, positions, axes, strides[0], strides[1]]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        arguments.extend([3_u32, 2, 64, 32].into_iter().flat_map(u32::to_le_bytes));
        let dispatch = Dispatch { groups: [3, 1, 1], block: BLOCK, dynamic_lds: 0 };
        let report = machine.launch(&program, "rope_f32", &dispatch, &arguments).unwrap();
        let names: Vec<&str> = report.approximate.iter().map(|&(name, _)| name).collect();
        assert_eq!(names, ["v_rcp_iflag_f32"]);
        let mut bytes = vec![0; 4 * x.len()];
        memory.read(at_x, &mut bytes).unwrap();
        assert!(bytes == floats(&expected), "seed {seed}");
    }
}
