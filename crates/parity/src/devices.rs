use std::ops::Deref;
use std::sync::OnceLock;
use std::{env, fmt, iter};

use device_mem::{Device, DeviceChoice, MemError};
use hip_emu::{Arch, Checks, Options};
use thiserror::Error;

use crate::host_hip::host_hip;

/// Names the devices that parity tests run on, separated by commas: `cpu`, `host`, `emu`, `emu:TARGET`, `hip`, `hip:N`,
/// `cuda`, `cuda:N`.
pub const PARITY_DEVICES: &str = "PARITY_DEVICES";

/// What runs where nothing is asked for.
const DEFAULT: &str = "cpu,host,emu";
/// Names what the emulated card looks for; whatever it can if not set.
const CHECKS: &str = "HIP_EMU_CHECK";

/// Why the devices that were asked for cannot be had. A test fails on it: nothing is skipped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DevicesError {
    /// The list names something else.
    #[error(
        "{PARITY_DEVICES} may list cpu, host, emu, emu:TARGET, hip, hip:N, cuda and cuda:N, separated by commas, but has {found:?}"
    )]
    Unknown {
        /// The entry.
        found: String,
    },
    /// The list leaves nothing to compare with the CPU.
    #[error(
        "{PARITY_DEVICES} is {list:?}, which leaves nothing to compare with the CPU: add host, emu, hip or cuda"
    )]
    OnlyCpu {
        /// The list.
        list: String,
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

/// A device that is not the CPU, so that nothing is compared with the CPU under another name. It is used as the [`Device`] that
/// it is.
#[derive(Clone, Debug)]
pub struct Gpu(Device);

impl Gpu {
    /// `None` for the CPU.
    pub fn new(device: Device) -> Option<Gpu> {
        matches!(device, Device::Hip(_)).then_some(Gpu(device))
    }
}

impl Deref for Gpu {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.0
    }
}

impl From<Gpu> for Device {
    fn from(Gpu(device): Gpu) -> Device {
        device
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The devices that parity tests run on: those that [`PARITY_DEVICES`] lists, else `host`, the kernels compiled for the
/// host behind [`host_hip`], and `emu`, the card's own images executed by [`hip_emu`], which checks them for races, missing
/// waits and uses of what was never written. There is at least one, and none is the CPU: what every other is compared with
/// runs whether it is listed or not.
///
/// # Errors
/// [`DevicesError`].
pub fn devices() -> Result<Vec<Gpu>, DevicesError> {
    Ok(named_devices()?.into_iter().map(|(_, device)| device).collect())
}

/// The CPU, and then [`devices`], for what must hold on all of them.
///
/// # Errors
/// [`DevicesError`].
pub fn cpu_and_devices() -> Result<Vec<Device>, DevicesError> {
    let devices = devices()?.into_iter().map(Device::from);
    Ok(iter::once(Device::Cpu).chain(devices).collect())
}

/// [`devices`] with the names that reports give them: `host`, `emu gfx1100`, `hip:0 gfx942`, `cuda sm_90`.
///
/// # Errors
/// [`DevicesError`].
pub fn named_devices() -> Result<Vec<(String, Gpu)>, DevicesError> {
    parse(&env::var(PARITY_DEVICES).unwrap_or_else(|_| DEFAULT.to_owned()))
}

/// Whose matrix units multiply many rows there, since each kind takes the elements of a product in an order of its own: those of
/// gfx11, which what is compiled for the host does as well, of gfx12, of MI200 and MI300, and of each generation of NVIDIA's
/// cards; `None` for other cards, which have none.
pub fn matrix_units(device: &Device) -> Option<&'static str> {
    let Device::Hip(hip) = device else { return None };
    let arch = &hip.properties().arch;
    let amd = [("gfx11", "gfx11"), ("gfx12", "gfx12"), ("gfx90a", "gfx9"), ("gfx94", "gfx9")];
    let nvidia = ["sm_8", "sm_9", "sm_10", "sm_11", "sm_12"].map(|generation| (generation, generation));
    amd.iter().chain(&nvidia).find(|(family, _)| arch.starts_with(family)).map(|&(_, kind)| kind)
}

/// The first of the devices that gives the bits of `device`, which is one of them, in every operation; itself at the least.
pub fn first_alike(devices: &[Gpu], device: &Gpu) -> usize {
    let alike = |other: &Gpu| matrix_units(other) == matrix_units(device);
    devices.iter().position(alike).unwrap_or_default()
}

fn parse(list: &str) -> Result<Vec<(String, Gpu)>, DevicesError> {
    let others = list.split(',').map(str::trim).filter(|&name| name != "cpu");
    let open = |name| open(name).map(|device| (report_name(name, &device), device));
    let devices = others.map(open).collect::<Result<Vec<_>, _>>()?;
    if devices.is_empty() { Err(DevicesError::OnlyCpu { list: list.to_owned() }) } else { Ok(devices) }
}

/// How reports call what `entry` of a list opened: the entry, and the target where there may be several.
fn report_name(entry: &str, device: &Device) -> String {
    match device {
        Device::Hip(hip) if entry != "host" => {
            let target = hip.properties().arch.split(':').next().unwrap_or_default();
            let kind = if entry.starts_with("emu:") { "emu" } else { entry };
            format!("{kind} {target}")
        }
        _ => entry.to_owned(),
    }
}

fn open(name: &str) -> Result<Gpu, DevicesError> {
    let opened = match name {
        "host" => Device::from_api(host_hip(), 0),
        "emu" => {
            check_kernels();
            Device::from_api(hip_emu::api(), 0)
        }
        _ => match (name.strip_prefix("emu:"), name.parse()) {
            (Some(target), _) if Arch::cards().any(|known| known == target) => {
                check_kernels();
                Device::from_api(hip_emu::api(), hip_emu::card(target))
            }
            (None, Ok(choice @ (DeviceChoice::Hip { .. } | DeviceChoice::Cuda { .. }))) => {
                Device::open(choice).map(|opened| opened.device)
            }
            _ => return Err(DevicesError::Unknown { found: name.to_owned() }),
        },
    };
    let device =
        opened.map_err(|source| DevicesError::Open { name: name.to_owned(), source: Box::new(source) })?;
    Gpu::new(device).ok_or_else(|| DevicesError::Unknown { found: name.to_owned() })
}

/// Lets the emulated card check what it runs. What of the environment cannot be read, the card tells when it is opened.
fn check_kernels() {
    static CONFIGURED: OnceLock<()> = OnceLock::new();
    CONFIGURED.get_or_init(|| {
        if let (None, Ok(mut options)) = (env::var_os(CHECKS), Options::from_env()) {
            options.checks = Checks::ALL;
            // A card that this process has made before keeps its own checks.
            let _ = hip_emu::configure(options);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_runs_the_images_and_not_only_their_source() {
        let devices = parse(DEFAULT).unwrap();
        assert!(devices.iter().any(|(_, device)| format!("{device:?}").contains("hip-emu gfx1100")));
        let names: Vec<&str> = devices.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["host", "emu gfx1100"]);
    }

    #[test]
    fn cards_of_several_targets_are_checked_alike() {
        let devices = parse("emu:gfx1201,emu:gfx1030").unwrap();
        let targets: Vec<String> = devices.iter().map(|(_, device)| device.to_string()).collect();
        assert!(targets[0].contains("gfx1201") && targets[1].contains("gfx1030"), "{targets:?}");
        assert_eq!([&devices[0].0, &devices[1].0], ["emu gfx1201", "emu gfx1030"]);
        assert_eq!(hip_emu::configuration().checks, Checks::ALL);
    }

    #[test]
    fn the_emulated_card_checks_what_it_runs() {
        parse("emu").unwrap();
        assert_eq!(hip_emu::configuration().checks, Checks::ALL);
        assert_eq!(hip_emu::configure(Options::default()), Err(hip_emu::ConfigureError));
    }

    #[test]
    fn what_a_list_names_is_there_or_an_error() {
        for list in ["", "auto", "host,", "host cpu", "hip:x", "emu:gfx11", "emu:gfx11-generic"] {
            assert!(matches!(parse(list), Err(DevicesError::Unknown { .. })), "{list:?}");
        }
        assert!(matches!(parse("cpu"), Err(DevicesError::OnlyCpu { .. })));
        assert_eq!(parse("cpu,host").unwrap().len(), 1);
        assert_eq!(parse("host, host").unwrap().len(), 2);
    }

    #[test]
    fn the_cpu_is_no_device_to_compare_with() {
        assert!(Gpu::new(Device::Cpu).is_none());
    }
}
