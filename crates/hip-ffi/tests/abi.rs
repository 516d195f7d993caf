//! The values and layouts of HIP's ABI that the loader relies on, as HIP's headers 5.2, 6.1 and 7.1 all give them. With
//! a header at hand, `cargo xtask bindgen --check` compares every binding with it.

use std::mem::{align_of, offset_of, size_of};

use hip_ffi::sys::{hipDeviceAttribute_t, hipDeviceProp_t, hipDeviceProp_tR0600, hipError_t, hipMemcpyKind};

#[test]
fn error_codes() {
    for (code, value) in [
        (hipError_t::hipSuccess, 0),
        (hipError_t::hipErrorInvalidValue, 1),
        (hipError_t::hipErrorOutOfMemory, 2),
        (hipError_t::hipErrorNotInitialized, 3),
        (hipError_t::hipErrorInvalidConfiguration, 9),
        (hipError_t::hipErrorNoDevice, 100),
        (hipError_t::hipErrorInvalidDevice, 101),
        (hipError_t::hipErrorInvalidImage, 200),
        (hipError_t::hipErrorNoBinaryForGpu, 209),
        (hipError_t::hipErrorECCNotCorrectable, 214),
        (hipError_t::hipErrorNotFound, 500),
        (hipError_t::hipErrorNotReady, 600),
        (hipError_t::hipErrorIllegalAddress, 700),
        (hipError_t::hipErrorLaunchFailure, 719),
        (hipError_t::hipErrorCooperativeLaunchTooLarge, 720),
        (hipError_t::hipErrorUnknown, 999),
    ] {
        assert_eq!(code.0, value);
    }
}

#[test]
fn directions_of_copies() {
    assert_eq!(hipMemcpyKind::hipMemcpyHostToDevice.0, 1);
    assert_eq!(hipMemcpyKind::hipMemcpyDeviceToHost.0, 2);
    assert_eq!(hipMemcpyKind::hipMemcpyDeviceToDevice.0, 3);
}

#[test]
fn both_layouts_of_the_properties() {
    assert_eq!((size_of::<hipDeviceProp_t>(), align_of::<hipDeviceProp_t>()), (792, 8));
    assert_eq!(offset_of!(hipDeviceProp_t, gcnArchName), 396);
    assert_eq!((size_of::<hipDeviceProp_tR0600>(), align_of::<hipDeviceProp_tR0600>()), (1472, 8));
    assert_eq!(offset_of!(hipDeviceProp_tR0600, gcnArchName), 1160);
    assert_eq!((offset_of!(hipDeviceProp_t, name), offset_of!(hipDeviceProp_tR0600, name)), (0, 0));
}

#[test]
fn attributes() {
    assert_eq!(hipDeviceAttribute_t::hipDeviceAttributeMaxThreadsPerBlock.0, 56);
    assert_eq!(hipDeviceAttribute_t::hipDeviceAttributeWarpSize.0, 87);
}
