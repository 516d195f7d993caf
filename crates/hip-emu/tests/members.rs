//! What a family's object does on each of its members, and what one member has that another lacks.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{fs, path::Path};

use hip_emu::{Checks, Dispatch, FaultKind, LaunchError, LoadError, Machine, Options};

/// Families whose waves have 32 lanes, and their members.
const FAMILIES: [(&str, &[&str]); 4] = [
    ("gfx10-1-generic", &["gfx1010", "gfx1011", "gfx1012", "gfx1013"]),
    ("gfx10-3-generic", &["gfx1030", "gfx1031", "gfx1032", "gfx1033", "gfx1034", "gfx1035", "gfx1036"]),
    (
        "gfx11-generic",
        &["gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153"],
    ),
    ("gfx12-generic", &["gfx1200", "gfx1201"]),
];

fn card(target: &str) -> Machine {
    let mut options = Options::default();
    options.checks = Checks::ALL;
    target.clone_into(&mut options.target);
    Machine::new(options)
}

/// The image of a kernel of the workspace that adds vectors.
fn addition(target: &str) -> Vec<u8> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read(crates.join("kernels-nn/hsaco").join(target).join("add_kernel.hsaco")).unwrap()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn a_familys_object_runs_on_its_members_alone() {
    const LENGTH: usize = 300;
    for (family, members) in FAMILIES {
        let image = addition(family);
        for target in members {
            let machine = card(target);
            let program =
                machine.load(&image).unwrap_or_else(|error| panic!("{family} on {target}: {error}"));
            let [x, y] =
                [0.5_f32, 0.25].map(|step| (0..300_u16).map(|i| f32::from(i) * step).collect::<Vec<_>>());
            let [at_x, at_y] = [&x, &y].map(|values| {
                let address = machine.memory().allocate(4 * LENGTH).unwrap();
                machine.memory().write(address, &bytes(values)).unwrap();
                address
            });
            let arguments = [at_x, at_y, LENGTH as u64].map(u64::to_le_bytes).concat();
            let dispatch = Dispatch { groups: [2, 1, 1], block: [256, 1, 1], dynamic_lds: 0 };
            machine
                .launch(&program, "add_f32", &dispatch, &arguments)
                .unwrap_or_else(|error| panic!("{family} on {target}: {error}"));
            let mut found = vec![0; 4 * LENGTH];
            machine.memory().read(at_x, &mut found).unwrap();
            let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            assert_eq!(found, bytes(&expected), "{family} on {target}");
        }
        for (other, strangers) in FAMILIES.into_iter().filter(|(other, _)| *other != family) {
            let error = card(strangers[0]).load(&image).unwrap_err();
            assert!(
                matches!(error, LoadError::WrongTarget { .. }),
                "{family} on a member of {other}: {error}"
            );
        }
    }
}

/// The first instruction of an object becomes another and one that does nothing, and its target another member.
fn begins_with(image: &[u8], entry: usize, (target, processor): (&str, u8), word: u32) -> Vec<u8> {
    let mut image = image.to_vec();
    // `EF_AMDGPU_MACH`, the low byte of the flags, and the target's name in the metadata.
    image[48] = processor;
    let own = b"amdhsa--gfx1100";
    let name = image.windows(own.len()).position(|found| found == own).unwrap() + own.len() - target.len();
    image[name..name + target.len()].copy_from_slice(target.as_bytes());
    let nothing: u32 = 0xbf80_0000;
    image[entry..entry + 8].copy_from_slice(&[word, nothing].map(u32::to_le_bytes).concat());
    image
}

/// gfx1151 has float arithmetic on scalar registers, gfx1100 does not, though their encodings are one table.
#[test]
fn what_a_member_lacks_stops_its_waves() {
    const AXPY: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");
    const ENTRY: usize = 0x900;
    // s_add_f32 s20, 1.0, 1.0, in place of what the kernel begins with.
    const ADD: u32 = 0xa014_f2f2;
    for (target, processor, lacks) in
        [("gfx1100", 0x41, true), ("gfx1103", 0x44, true), ("gfx1151", 0x4a, false)]
    {
        let machine = card(target);
        let program = machine.load(&begins_with(AXPY, ENTRY, (target, processor), ADD)).unwrap();
        let kernel = program.kernels()[0].name.clone();
        let dispatch = Dispatch { groups: [1, 1, 1], block: [32, 1, 1], dynamic_lds: 0 };
        let result = machine.launch(&program, &kernel, &dispatch, &[0; 24]);
        let Err(LaunchError::Fault(fault)) = result else { panic!("{target}: {result:?}") };
        assert_eq!(fault.kind == FaultKind::Unsupported, lacks, "{target}: {fault}");
        assert_eq!(fault.text == "s_add_f32 s20, 1.0, 1.0", lacks, "{target}: {fault}");
    }
}

/// The bit of a kernel's descriptor that says that its waves have 32 lanes.
#[test]
fn kernels_of_wide_waves_are_refused() {
    const AXPY: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");
    let machine = card("gfx1100");
    let program = machine.load(AXPY).unwrap();
    let name = program.kernels()[0].name.clone();
    let (_, descriptor) = hip_emu::KernelDescriptor::find(AXPY, &format!("{name}.kd")).unwrap();
    assert!(descriptor.is_wave32());
    let own = [descriptor.resource1.to_le_bytes(), descriptor.resource2.to_le_bytes()].concat();
    let at = AXPY.windows(8).position(|found| found == own).unwrap();
    let mut image = AXPY.to_vec();
    // The properties follow the two words.
    image[at + 9] &= !4;
    let program = machine.load(&image).unwrap();
    let dispatch = Dispatch { groups: [1, 1, 1], block: [32, 1, 1], dynamic_lds: 0 };
    let error = machine.launch(&program, &name, &dispatch, &[0; 24]).unwrap_err();
    assert!(matches!(error, LaunchError::WideWaves { .. }), "{error}");
}

#[test]
fn an_object_without_settings_runs_on_cards_of_all() {
    for target in ["gfx90a:sramecc+:xnack-", "gfx90a:sramecc-:xnack+", "gfx942:sramecc+:xnack-"] {
        let processor = target.split(':').next().unwrap();
        card(target).load(&addition(processor)).unwrap_or_else(|error| panic!("{target}: {error}"));
        let other = if processor == "gfx90a" { "gfx942" } else { "gfx90a" };
        assert!(card(target).load(&addition(other)).is_err(), "{other} on {target}");
    }
}
