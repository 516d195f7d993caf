//! The file as a whole: its length, its target, the bundle around it.

use std::ptr;

use hip_emu::{Dispatch, LaunchError, LoadError, Machine, Options};
use hip_ffi::sys::{hipError_t, hipFunction_t, hipModule_t};
use hsaco::HsacoError;

use crate::image::{AXPY, RELOCATED, axpy, header, hip, relocated};

#[test]
fn the_samples_load_and_their_relocations_hold() {
    assert_eq!(hip(&axpy()), Some(hipError_t::hipSuccess));
    assert_eq!(hip(&relocated()), Some(hipError_t::hipSuccess));
    let machine = Machine::new(Options::default());
    let program = machine.load(RELOCATED).unwrap();
    let y = machine.memory().allocate(4).unwrap();
    let dispatch = Dispatch { groups: [1, 1, 1], block: [1, 1, 1], dynamic_lds: 0 };
    machine.launch(&program, "through_parts", &dispatch, &y.to_le_bytes()).unwrap();
    let mut result = [0; 4];
    machine.memory().read(y, &mut result).unwrap();
    assert_eq!(i32::from_le_bytes(result), 20 + 1000 * 3);
    let missing = machine.launch(&program, "axpy_f32", &dispatch, &y.to_le_bytes()).unwrap_err();
    assert!(
        matches!(&missing, LaunchError::NoKernel { kernel, available } if kernel == "axpy_f32" && available == &["through_parts"]),
        "{missing}"
    );
}

#[test]
fn an_object_that_is_cut_off_is_refused_at_every_length() {
    for whole in [axpy(), relocated()] {
        for length in 0..whole.0.len() {
            let machine = Machine::new(Options::default());
            let error = machine.load(&whole.0[..length]).unwrap_err();
            // With less than its magic it is nothing known; the section headers end the file, so any end is missed.
            let named = match &error {
                LoadError::Object(HsacoError::NotACodeObject { found }) => {
                    length < 4 && found.len() == length
                }
                LoadError::Object(HsacoError::BadElf { .. }) => length >= 4,
                _ => false,
            };
            assert!(named, "{length}: {error:?}");
        }
    }
}

#[test]
fn an_object_whose_end_is_zero_is_refused_by_hip() {
    // HIP is given no length: this is what a cut off file looks like in memory that was reserved for all of it.
    for length in (64..axpy().number(header::SECTIONS_AT, 8)).step_by(61) {
        let mut image = axpy();
        image.0[length..].fill(0);
        assert_eq!(hip(&image), Some(hipError_t::hipErrorInvalidImage), "{length}");
        let mut short = axpy();
        short.0.truncate(length);
        short.0.resize(4096.max(length), 0);
        let error = Machine::new(Options::default()).load(&short.0).unwrap_err();
        assert!(matches!(error, LoadError::Object(HsacoError::BadElf { .. })), "{length}: {error:?}");
    }
}

#[test]
fn other_machines_and_layouts_are_named() {
    assert_refused!(
        axpy().with(header::CLASS, &[1]),
        LoadError::Object(HsacoError::WrongLayout { class: 1, order: 1 })
    );
    assert_refused!(
        axpy().with(header::ORDER, &[2]),
        LoadError::Object(HsacoError::WrongLayout { class: 2, order: 2 })
    );
    assert_refused!(
        axpy().with16(header::MACHINE, 62),
        LoadError::Object(HsacoError::WrongMachine { found: 62 })
    );
    let unknown = axpy().with(header::FLAGS, &[0xee]);
    assert_refused!(unknown, LoadError::Object(HsacoError::UnknownProcessor { mach: 0xee }));
    let disagreeing = axpy().with(header::FLAGS, &[0x36]);
    assert_refused!(
        disagreeing,
        LoadError::Object(HsacoError::TargetDisagrees { header, metadata })
            if header == "gfx1030" && metadata.ends_with("gfx1100")
    );
}

#[test]
fn an_object_for_another_card_is_refused() {
    let target = axpy().find(b"amdgcn-amd-amdhsa--gfx1100") + 19;
    for (mach, name) in [(0x36, "gfx1030"), (0x46, "gfx1101"), (0x4a, "gfx1151"), (0x4e, "gfx1201")] {
        let image = axpy().with(header::FLAGS, &[mach]).with(target, name.as_bytes());
        assert_refused!(
            image,
            LoadError::WrongTarget { expected, found } if expected == "gfx1100" && found == name
        );
    }
    // What the machine cannot be, whatever the object.
    let mut options = Options::default();
    options.target = "gfx950".to_owned();
    let error = Machine::new(options.clone()).load(AXPY).unwrap_err();
    assert!(matches!(&error, LoadError::UnsupportedTarget { target } if target == "gfx950"), "{error:?}");
    options.target = "RX 7900".to_owned();
    let error = Machine::new(options).load(AXPY).unwrap_err();
    assert!(
        matches!(&error, LoadError::Object(HsacoError::BadTarget { found }) if found == "RX 7900"),
        "{error:?}"
    );
}

#[test]
fn a_kernel_that_is_not_there_is_not_found_by_hip() {
    let api = hip_emu::api();
    let (mut module, mut function): (hipModule_t, hipFunction_t) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: a place for the result, and a whole image.
    let code = unsafe { (api.hip_module_load_data)(&raw mut module, AXPY.as_ptr().cast()) };
    assert_eq!(code, hipError_t::hipSuccess);
    // SAFETY: a place for the result, a module of this table and a string.
    let code = unsafe { (api.hip_module_get_function)(&raw mut function, module, c"axpy_f64".as_ptr()) };
    assert_eq!((code, function.is_null()), (hipError_t::hipErrorNotFound, true));
    // SAFETY: the module that was just loaded.
    assert_eq!(unsafe { (api.hip_module_unload)(module) }, hipError_t::hipSuccess);
}

#[test]
fn a_bundle_that_lies_is_refused() {
    let bundle = |entries: u64, offset: u64, size: u64, id: &str, id_length: u64| {
        let mut bytes = b"__CLANG_OFFLOAD_BUNDLE__".to_vec();
        bytes.extend([entries, offset, size, id_length].map(u64::to_le_bytes).concat());
        bytes.extend(id.as_bytes());
        bytes.resize(4096, 0);
        bytes.extend(AXPY);
        Machine::new(Options::default()).load(&bytes).map(|_| ())
    };
    let (ours, size) = ("hipv4-amdgcn-amd-amdhsa--gfx1100", AXPY.len() as u64);
    assert!(bundle(1, 4096, size, ours, 32).is_ok());
    for entries in [1 << 63, u64::MAX] {
        let result = bundle(entries, 4096, size, ours, 32);
        assert!(
            matches!(&result, Err(LoadError::Object(HsacoError::TruncatedBundle { entries: found, .. })) if *found == entries),
            "{result:?}"
        );
    }
    for (offset, size) in [(1 << 63, size), (4096, 1 << 63), (u64::MAX, u64::MAX), (4097, size)] {
        let result = bundle(1, offset, size, ours, 32);
        assert!(
            matches!(result, Err(LoadError::Object(HsacoError::BundleEntryOutside { .. }))),
            "{result:?}"
        );
    }
    let result = bundle(1, 4096, size, ours, u64::MAX);
    assert!(
        matches!(result, Err(LoadError::Object(HsacoError::TruncatedBundle { entry: 0, entries: 1 }))),
        "{result:?}"
    );
    let result = bundle(1, 4096, size, "hipv4-amdgcn-amd-amdhsa--gfx1103", 32);
    assert!(matches!(result, Err(LoadError::Object(HsacoError::NoBundleEntry { .. }))), "{result:?}");
    // The entry's name is not believed: what it holds must be an object, and for the card.
    let result = bundle(1, 0, 24, ours, 32);
    assert!(
        matches!(&result, Err(LoadError::Object(HsacoError::NotACodeObject { found })) if found == b"__CLANG_"),
        "{result:?}"
    );
}
