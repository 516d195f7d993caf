//! The table of HIP functions, used through hip-ffi as a library's would be.

#![expect(unsafe_code, reason = "HIP's functions are C functions")]

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use hip_ffi::{HipApi, result, sys::*};

const AXPY: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");

/// Calls an entry of the table and gives its code.
macro_rules! call {
    ($api:expr, $entry:ident($($argument:expr),*)) => {{
        // SAFETY: the arguments are numbers, handles, or pointers to what the test owns, in the sizes given.
        unsafe { ($api.$entry)($($argument),*) }
    }};
}

fn allocate(api: &HipApi, bytes: usize) -> *mut c_void {
    let mut address = ptr::null_mut();
    assert_eq!(call!(api, hip_malloc(&raw mut address, bytes)), hipError_t::hipSuccess);
    address
}

#[test]
fn there_is_one_card_unless_others_are_added() {
    let api = hip_emu::api();
    assert_eq!(result::device_count(&api), Ok(1));
    assert!(result::runtime_version(&api).unwrap() >= 60_000_000);
    assert!(result::set_device(&api, 0).is_ok());
    assert_eq!(result::set_device(&api, 1).unwrap_err().code, hipError_t::hipErrorInvalidDevice);
    let mut lanes: c_int = 0;
    let attribute = hipDeviceAttribute_t::hipDeviceAttributeWarpSize;
    assert_eq!(call!(api, hip_device_get_attribute(&raw mut lanes, attribute, 0)), hipError_t::hipSuccess);
    assert_eq!(lanes, 32);
    let code = call!(api, hip_device_get_attribute(ptr::null_mut(), attribute, 0));
    assert_eq!(code, hipError_t::hipErrorInvalidValue);
}

#[test]
fn copies_go_every_way_and_stay_in_bounds() {
    let api = hip_emu::api();
    let (first, second) = (allocate(&api, 16), allocate(&api, 16));
    let (from, mut to) = ([1_u8, 2, 3, 4, 5, 6, 7, 8], [0_u8; 8]);
    let copy = |to: *mut c_void, from: *const c_void, bytes: usize, kind: hipMemcpyKind| {
        call!(api, hip_memcpy_async(to, from, bytes, kind, ptr::null_mut()))
    };
    let (host, done) = (from.as_ptr().cast(), hipError_t::hipSuccess);
    assert_eq!(copy(first, host, 8, hipMemcpyKind::hipMemcpyHostToDevice), done);
    assert_eq!(copy(second.wrapping_byte_add(8), first, 8, hipMemcpyKind::hipMemcpyDeviceToDevice), done);
    assert_eq!(
        copy(to.as_mut_ptr().cast(), second.wrapping_byte_add(8), 8, hipMemcpyKind::hipMemcpyDefault),
        done
    );
    assert_eq!(to, from);

    let refused = hipError_t::hipErrorInvalidValue;
    assert_eq!(copy(first.wrapping_byte_add(9), host, 8, hipMemcpyKind::hipMemcpyHostToDevice), refused);
    assert_eq!(copy(to.as_mut_ptr().cast(), host, 8, hipMemcpyKind::hipMemcpyHostToDevice), refused);
    assert_eq!(copy(first, host, usize::MAX, hipMemcpyKind::hipMemcpyHostToDevice), refused);
    assert_eq!(copy(first, ptr::null(), 8, hipMemcpyKind::hipMemcpyDefault), refused);
    assert_eq!(copy(first, host, 8, hipMemcpyKind(9)), hipError_t::hipErrorInvalidMemcpyDirection);
    assert_eq!(call!(api, hip_memset_async(first, 7, 17, ptr::null_mut())), refused);
    for address in [first, second] {
        // Not twice: another test could have been given the address in between.
        assert_eq!(call!(api, hip_free(address.wrapping_byte_add(1))), refused);
        assert_eq!(call!(api, hip_free(address)), done);
    }
}

#[test]
fn a_handle_that_was_never_made_is_refused() {
    let api = hip_emu::api();
    let refused = hipError_t::hipErrorInvalidHandle;
    let mut stream: hipStream_t = ptr::null_mut();
    assert_eq!(call!(api, hip_stream_create_with_flags(&raw mut stream, 1)), hipError_t::hipSuccess);
    assert_eq!(call!(api, hip_module_unload(stream.cast())), refused);
    assert_eq!(call!(api, hip_stream_query(stream)), hipError_t::hipSuccess);
    assert_eq!(call!(api, hip_stream_destroy(stream)), hipError_t::hipSuccess);
    assert_eq!(call!(api, hip_stream_synchronize(stream)), refused);
    assert_eq!(call!(api, hip_stream_destroy(stream)), refused);
    // An address of this process, which must not be followed.
    let stray = ptr::from_ref(&api).cast_mut();
    assert_eq!(call!(api, hip_module_unload(stray.cast())), refused);
}

#[test]
fn a_function_outlives_its_module_as_a_refusal() {
    let api = hip_emu::api();
    let (mut module, mut function): (hipModule_t, hipFunction_t) = (ptr::null_mut(), ptr::null_mut());
    assert_eq!(
        call!(api, hip_module_load_data(&raw mut module, AXPY.as_ptr().cast())),
        hipError_t::hipSuccess
    );
    let mut again = function;
    for place in [&raw mut function, &raw mut again] {
        assert_eq!(
            call!(api, hip_module_get_function(place, module, c"axpy_f16".as_ptr())),
            hipError_t::hipSuccess
        );
    }
    assert_eq!(function, again);
    assert_eq!(call!(api, hip_module_unload(module)), hipError_t::hipSuccess);
    let none: *mut *mut c_void = ptr::null_mut();
    let code = call!(api, hip_module_launch_kernel(function, 1, 1, 1, 1, 1, 1, 0, none.cast(), none, none));
    assert_eq!(code, hipError_t::hipErrorInvalidHandle);
}
