//! A code object from its bytes to its results.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use hip_emu::{Dispatch, FaultKind, LaunchError, LoadError, Machine, Options};

const AXPY: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");

fn dispatch(groups: u32, block: u32) -> Dispatch {
    Dispatch { groups: [groups, 1, 1], block: [block, 1, 1], dynamic_lds: 0 }
}

/// `y[i] += scale * x[i]`, as the kernel's arguments.
fn arguments(y: u64, x: u64, scale: f32, length: u32) -> Vec<u8> {
    [&y.to_le_bytes()[..], &x.to_le_bytes(), &scale.to_le_bytes(), &length.to_le_bytes()].concat()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(machine: &Machine, address: u64, count: usize) -> Vec<f32> {
    let mut read = vec![0; 4 * count];
    machine.memory().read(address, &mut read).unwrap();
    read.chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect()
}

#[test]
fn axpy_is_what_rust_computes() {
    let machine = Machine::new(Options::default());
    let program = machine.load(AXPY).unwrap();
    let name = program.kernels()[0].name.clone();
    for length in [1_u32, 31, 32, 33, 1000] {
        let count = usize::try_from(length).unwrap();
        let x: Vec<f32> = (0..count).map(|i| i as f32 * 0.37 - 5.0).collect();
        let y: Vec<f32> = (0..count).map(|i| 1.0 / (i as f32 + 1.0)).collect();
        let (at_x, at_y) =
            (machine.memory().allocate(4 * count).unwrap(), machine.memory().allocate(4 * count).unwrap());
        machine.memory().write(at_x, &bytes(&x)).unwrap();
        machine.memory().write(at_y, &bytes(&y)).unwrap();
        let report = machine
            .launch(
                &program,
                &name,
                &dispatch(length.div_ceil(256), 256),
                &arguments(at_y, at_x, 0.75, length),
            )
            .unwrap();
        assert!(report.instructions > 0);
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 0.75_f32.mul_add(*x, *y)).collect();
        assert_eq!(floats(&machine, at_y, count), expected, "{length}");
    }
}

#[test]
fn a_fault_names_the_source_line_where_the_object_has_lines() {
    let machine = Machine::new(Options::default());
    let program = machine.load(include_bytes!("data/lines.gfx1100.hsaco")).unwrap();
    let x = machine.memory().allocate(128).unwrap();
    let (read, written) = (machine.memory().allocate(4).unwrap(), machine.memory().allocate(4).unwrap());
    // `lines(y, x)`: the store stands in a function that was inlined.
    for (y, x, line) in [(x, read, 15), (written, x, 9)] {
        let arguments = [y.to_le_bytes(), x.to_le_bytes()].concat();
        let error = machine.launch(&program, "lines", &dispatch(1, 32), &arguments).unwrap_err();
        let LaunchError::Fault(fault) = &error else { panic!("{error}") };
        assert_eq!(fault.line.as_ref().map(|at| at.line), Some(line), "{error}");
        assert!(
            error.to_string().contains(&format!("kernel `lines` at /source/lines.hip:{line},")),
            "{error}"
        );
    }
}

#[test]
fn an_access_out_of_bounds_names_its_place() {
    let machine = Machine::new(Options::default());
    let program = machine.load(AXPY).unwrap();
    let name = program.kernels()[0].name.clone();
    let (x, y) = (machine.memory().allocate(400).unwrap(), machine.memory().allocate(396).unwrap());
    let error = machine.launch(&program, &name, &dispatch(1, 256), &arguments(y, x, 1.0, 100)).unwrap_err();
    let LaunchError::Fault(fault) = error else { panic!("{error}") };
    assert_eq!((fault.group, fault.wave, fault.lane), ([0, 0, 0], 3, Some(3)), "{fault}");
    assert!(
        matches!(fault.kind, FaultKind::OutOfBounds { address, bytes: 4, .. } if address == y + 396),
        "{fault}"
    );
    assert!(fault.text.starts_with("global_load"), "{fault}");
}

#[test]
fn zeros_in_place_of_code_stop_the_launch() {
    const ENTRY: usize = 0x900;
    let mut image = AXPY.to_vec();
    image[ENTRY..ENTRY + 8].fill(0);
    let machine = Machine::new(Options::default());
    let program = machine.load(&image).unwrap();
    let name = program.kernels()[0].name.clone();
    let error = machine.launch(&program, &name, &dispatch(1, 32), &arguments(0, 0, 1.0, 1)).unwrap_err();
    let LaunchError::Fault(fault) = error else { panic!("{error}") };
    assert!(matches!(fault.kind, FaultKind::Unsupported), "{fault}");
    assert_eq!(fault.text, "v_illegal");
}

#[test]
fn launches_that_cannot_be_are_refused() {
    let machine = Machine::new(Options::default());
    let program = machine.load(AXPY).unwrap();
    let name = program.kernels()[0].name.clone();
    let launch = |kernel: &str, groups, block, bytes: &[u8]| {
        machine.launch(&program, kernel, &dispatch(groups, block), bytes).unwrap_err()
    };
    assert!(matches!(launch("nothing", 1, 64, &[0; 24]), LaunchError::NoKernel { .. }));
    assert!(matches!(launch(&name, 0, 64, &[0; 24]), LaunchError::BadDispatch { .. }));
    assert!(matches!(launch(&name, 1, 4096, &[0; 24]), LaunchError::BadDispatch { .. }));
    assert!(matches!(launch(&name, 1, 64, &[0; 8]), LaunchError::BadArguments { .. }));
}

#[test]
fn damaged_objects_are_refused() {
    let machine = Machine::new(Options::default());
    for length in 0..AXPY.len() {
        assert!(machine.load(&AXPY[..length]).is_err(), "{length} of {} bytes load", AXPY.len());
    }
    let mut options = Options::default();
    options.target = "gfx803".to_owned();
    let other = Machine::new(options).load(AXPY).unwrap_err();
    assert!(matches!(other, LoadError::UnsupportedTarget { .. }), "{other}");
    assert_eq!(machine.memory().used(), 0, "a failed load leaves nothing");
}
