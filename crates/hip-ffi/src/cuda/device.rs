//! Devices: how many, which, and what they are.

use core::ffi::{c_char, c_int, c_uint};
use core::ptr;
use std::sync::{Mutex, PoisonError};

use super::driver::{Code, Device, Driver, Handle, INVALID_VALUE, SUCCESS};
use super::{answer, errors};
use crate::sys::{hipDeviceAttribute_t, hipDeviceProp_tR0600, hipError_t};

/// The primary context of each device that was bound, retained to the end of the process.
static CONTEXTS: Mutex<Vec<(c_int, Context)>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct Context(Handle);

// SAFETY: a context may be made current on any thread, and on several.
unsafe impl Send for Context {}

const MAJOR: c_uint = 75;
const MINOR: c_uint = 76;

/// HIP's attributes, and `CUdevice_attribute`'s numbers for them.
const ATTRIBUTES: [(hipDeviceAttribute_t, c_uint); 11] = [
    (hipDeviceAttribute_t::hipDeviceAttributeMaxThreadsPerBlock, 1),
    (hipDeviceAttribute_t::hipDeviceAttributeMaxSharedMemoryPerBlock, 8),
    (hipDeviceAttribute_t::hipDeviceAttributeWarpSize, 10),
    (hipDeviceAttribute_t::hipDeviceAttributeMultiprocessorCount, 16),
    (hipDeviceAttribute_t::hipDeviceAttributeIntegrated, 18),
    (hipDeviceAttribute_t::hipDeviceAttributePciBusId, 33),
    (hipDeviceAttribute_t::hipDeviceAttributePciDeviceId, 34),
    (hipDeviceAttribute_t::hipDeviceAttributeL2CacheSize, 38),
    (hipDeviceAttribute_t::hipDeviceAttributePciDomainID, 50),
    (hipDeviceAttribute_t::hipDeviceAttributeComputeCapabilityMajor, MAJOR),
    (hipDeviceAttribute_t::hipDeviceAttributeComputeCapabilityMinor, MINOR),
];

/// `hipInit`.
pub(super) unsafe extern "C" fn init(flags: c_uint) -> hipError_t {
    // SAFETY: it takes any flags.
    answer(|driver| unsafe { (driver.init)(flags) })
}

/// `hipRuntimeGetVersion` and `hipDriverGetVersion`: the driver's, 13000 for CUDA 13.0.
pub(super) unsafe extern "C" fn version(version: *mut c_int) -> hipError_t {
    // SAFETY: the caller gives room for a number.
    answer(|driver| unsafe { (driver.version)(version) })
}

/// `hipGetDeviceCount`, which is an error without a device.
pub(super) unsafe extern "C" fn count(count: *mut c_int) -> hipError_t {
    // SAFETY: the caller gives room for a number.
    let code = answer(|driver| unsafe { (driver.device_count)(count) });
    // SAFETY: the driver has written the number.
    if code == hipError_t::hipSuccess && unsafe { count.read() } == 0 {
        return errors::pend(hipError_t::hipErrorNoDevice);
    }
    code
}

/// `hipSetDevice`.
pub(super) unsafe extern "C" fn set(ordinal: c_int) -> hipError_t {
    answer(|driver| match context(driver, ordinal) {
        // SAFETY: the context is retained.
        Ok(Context(context)) => unsafe { (driver.set_context)(context) },
        Err(code) => code,
    })
}

fn context(driver: &Driver, ordinal: c_int) -> Result<Context, Code> {
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, context)) = contexts.iter().find(|(known, _)| *known == ordinal) {
        return Ok(*context);
    }
    let device = device(driver, ordinal)?;
    let mut context = ptr::null_mut();
    // SAFETY: the device is the driver's own, and the context goes to a local.
    checked(unsafe { (driver.retain_context)(&raw mut context, device) })?;
    contexts.push((ordinal, Context(context)));
    Ok(Context(context))
}

fn device(driver: &Driver, ordinal: c_int) -> Result<Device, Code> {
    let mut device = 0;
    // SAFETY: it takes any number, and the device goes to a local.
    checked(unsafe { (driver.device)(&raw mut device, ordinal) })?;
    Ok(device)
}

fn number(driver: &Driver, attribute: c_uint, device: Device) -> Result<c_int, Code> {
    let mut value = 0;
    // SAFETY: the value goes to a local.
    checked(unsafe { (driver.device_attribute)(&raw mut value, attribute, device) })?;
    Ok(value)
}

fn checked(code: Code) -> Result<(), Code> {
    if code == SUCCESS { Ok(()) } else { Err(code) }
}

/// `hipDeviceGetAttribute`, of those in [`ATTRIBUTES`].
pub(super) unsafe extern "C" fn attribute(
    value: *mut c_int,
    attribute: hipDeviceAttribute_t,
    ordinal: c_int,
) -> hipError_t {
    answer(|driver| {
        let known = ATTRIBUTES.iter().find(|(known, _)| *known == attribute);
        let found = known.ok_or(INVALID_VALUE).and_then(|(_, asked)| {
            let device = device(driver, ordinal)?;
            number(driver, *asked, device)
        });
        match found {
            Ok(found) => {
                // SAFETY: the caller gives room for a number.
                unsafe { value.write(found) };
                SUCCESS
            }
            Err(code) => code,
        }
    })
}

/// `hipGetDevicePropertiesR0600`: name and target, the rest zero.
pub(super) unsafe extern "C" fn properties(filled: *mut hipDeviceProp_tR0600, ordinal: c_int) -> hipError_t {
    answer(|driver| match described(driver, ordinal) {
        Ok(properties) => {
            // SAFETY: the caller gives room for the struct.
            unsafe { filled.write(properties) };
            SUCCESS
        }
        Err(code) => code,
    })
}

fn described(driver: &Driver, ordinal: c_int) -> Result<hipDeviceProp_tR0600, Code> {
    let device = device(driver, ordinal)?;
    // SAFETY: all-zero bytes are valid in a struct of integers.
    let mut properties: hipDeviceProp_tR0600 = unsafe { core::mem::zeroed() };
    let room = c_int::try_from(properties.name.len()).unwrap_or(0);
    // SAFETY: `room` is the length of the field.
    checked(unsafe { (driver.device_name)(properties.name.as_mut_ptr(), room, device) })?;
    let (major, minor) = (number(driver, MAJOR, device)?, number(driver, MINOR, device)?);
    let target = format!("sm_{major}{minor}");
    for (character, byte) in properties.gcnArchName.iter_mut().zip(target.bytes()) {
        *character = c_char::from_ne_bytes([byte]);
    }
    Ok(properties)
}

/// `hipMemGetInfo`.
pub(super) unsafe extern "C" fn memory_info(free: *mut usize, total: *mut usize) -> hipError_t {
    // SAFETY: the caller gives room for both.
    answer(|driver| unsafe { (driver.memory_info)(free, total) })
}
