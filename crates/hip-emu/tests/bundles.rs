//! A compressed bundle, loaded by the card and through HIP's functions as the object in it is.

#![expect(unsafe_code, reason = "HIP's functions are C functions")]

use std::ptr;

use hip_emu::{Dispatch, LoadError, Machine, Options};
use hip_ffi::sys::{hipError_t, hipFunction_t, hipModule_t};
use hsaco::HsacoError;

const AXPY: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");
/// The same for gfx1100, after an empty entry for the host: header version 3, zstd.
const COMPRESSED: &[u8] = include_bytes!("data/axpy.ccob");

/// The same with a header of version 1, which does not tell where the file ends.
fn version_1() -> Vec<u8> {
    [&b"CCOB\x01\x00"[..], &COMPRESSED[6..8], &COMPRESSED[16..20], &COMPRESSED[24..]].concat()
}

#[test]
fn the_card_runs_the_object_in_it() {
    for image in [AXPY, COMPRESSED, &version_1()] {
        let machine = Machine::new(Options::default());
        let program = machine.load(image).unwrap();
        let [x, y] = [2.5_f32, -1.0].map(|value| {
            let address = machine.memory().allocate(4).unwrap();
            machine.memory().write(address, &value.to_le_bytes()).unwrap();
            address
        });
        let arguments =
            [&y.to_le_bytes()[..], &x.to_le_bytes(), &4.0_f32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
        let dispatch = Dispatch { groups: [1, 1, 1], block: [1, 1, 1], dynamic_lds: 0 };
        machine.launch(&program, "axpy_f32", &dispatch, &arguments).unwrap();
        let mut result = [0; 4];
        machine.memory().read(y, &mut result).unwrap();
        assert_eq!(f32::from_le_bytes(result), 9.0);
    }
}

#[test]
fn a_card_that_it_is_not_for_refuses_it() {
    let mut options = Options::default();
    options.target = "gfx1103".to_owned();
    let error = Machine::new(options).load(COMPRESSED).unwrap_err();
    assert!(
        matches!(&error, LoadError::Object(HsacoError::NoBundleEntry { found, .. }) if found == &["gfx1100"]),
        "{error}"
    );
}

#[test]
fn hip_loads_it_from_memory_where_its_header_tells_the_length() {
    let api = hip_emu::api();
    let mut module: hipModule_t = ptr::null_mut();
    // SAFETY: a place for the result, and an image that tells its length.
    let code = unsafe { (api.hip_module_load_data)(&raw mut module, COMPRESSED.as_ptr().cast()) };
    assert_eq!(code, hipError_t::hipSuccess);
    let mut function: hipFunction_t = ptr::null_mut();
    // SAFETY: a place for the result, a module of this table and a string.
    let code = unsafe { (api.hip_module_get_function)(&raw mut function, module, c"axpy_f16".as_ptr()) };
    assert_eq!(code, hipError_t::hipSuccess);
    // SAFETY: a module of this table.
    assert_eq!(unsafe { (api.hip_module_unload)(module) }, hipError_t::hipSuccess);
    // SAFETY: a place for the result, and an image longer than a header.
    let code = unsafe { (api.hip_module_load_data)(&raw mut module, version_1().as_ptr().cast()) };
    assert_eq!(code, hipError_t::hipErrorInvalidImage);
}
