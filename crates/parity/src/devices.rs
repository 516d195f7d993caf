use std::env;

use device_mem::{Device, DeviceChoice, MemError};
use thiserror::Error;

use crate::host_hip::host_hip;

/// Names the devices that parity tests run on, separated by commas: `host`, `emu`, `hip`, `hip:N`.
pub const PARITY_DEVICES: &str = "PARITY_DEVICES";

/// What runs where nothing is asked for.
const DEFAULT: &str = "host,emu";

/// Why the devices that were asked for cannot be had. A test fails on it: nothing is skipped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DevicesError {
    /// The list names something else.
    #[error("{PARITY_DEVICES} may list host, emu, hip and hip:N, separated by commas, but has {found:?}")]
    Unknown {
        /// The entry.
        found: String,
    },
    /// A device does not open.
    #[error("{PARITY_DEVICES} asks for {name}, which does not open")]
    Open {
        /// The entry.
        name: String,
        /// Why.
        #[source]
        source: Box<MemError>,
    },
}

/// The devices that parity tests run on: those that [`PARITY_DEVICES`] lists, else `host`, the kernels compiled for the
/// host behind [`host_hip`], and `emu`, the card's own images executed by [`hip_emu`]. There is at least one, and none
/// is the CPU body.
///
/// # Errors
/// [`DevicesError`].
pub fn devices() -> Result<Vec<Device>, DevicesError> {
    parse(&env::var(PARITY_DEVICES).unwrap_or_else(|_| DEFAULT.to_owned()))
}

fn parse(list: &str) -> Result<Vec<Device>, DevicesError> {
    list.split(',').map(|name| open(name.trim())).collect()
}

fn open(name: &str) -> Result<Device, DevicesError> {
    let opened = match name {
        "host" => Device::from_api(host_hip(), 0),
        "emu" => Device::from_api(hip_emu::api(), 0),
        _ => match name.parse() {
            Ok(choice @ DeviceChoice::Hip { .. }) => Device::open(choice).map(|opened| opened.device),
            _ => return Err(DevicesError::Unknown { found: name.to_owned() }),
        },
    };
    opened.map_err(|source| DevicesError::Open { name: name.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_runs_the_images_and_not_only_their_source() {
        let devices = parse(DEFAULT).unwrap();
        let names: Vec<String> = devices.iter().map(|device| format!("{device:?}")).collect();
        assert!(names.iter().any(|name| name.contains("hip-emu gfx1100")), "{names:?}");
    }

    #[test]
    fn the_list_never_names_the_cpu_body() {
        for list in ["", "cpu", "auto", "host,", "host cpu", "hip:x"] {
            assert!(matches!(parse(list), Err(DevicesError::Unknown { .. })), "{list:?}");
        }
        let hosts = parse("host, host").unwrap();
        assert!(hosts.len() == 2 && hosts.iter().all(|device| matches!(device, Device::Hip(_))));
    }
}
