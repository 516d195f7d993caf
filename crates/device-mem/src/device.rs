use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hip_ffi::{HipApi, Search};
use thiserror::Error;

use crate::breaker::Breaker;
use crate::{HipDevice, MemError, SharedMemory, Transfers};

/// Where buffers live and operations run. A closed set: each operation has one `match` over it.
#[derive(Clone, Debug)]
pub enum Device {
    /// Host memory and the reference bodies.
    Cpu,
    /// A device behind HIP's C API: a card, or whatever else fills the function table.
    Hip(Arc<HipDevice>),
}

impl Device {
    /// Opens what the user asked for. [`DeviceChoice::Auto`] takes the CPU when no HIP device opens, logs one warning
    /// with the reason, and returns the reason.
    ///
    /// # Errors
    /// For [`DeviceChoice::Hip`] and [`DeviceChoice::Cuda`], why that device cannot be had. `Auto` and `Cpu` always succeed.
    pub fn open(choice: DeviceChoice) -> Result<Opened, MemError> {
        let (device, fallback) = match choice {
            DeviceChoice::Cpu => (Device::Cpu, None),
            DeviceChoice::Hip { ordinal } => (Device::open_hip(ordinal)?, None),
            DeviceChoice::Cuda { ordinal } => (Device::open_cuda(ordinal)?, None),
            DeviceChoice::Auto => match Device::open_hip(0) {
                Ok(device) => (device, None),
                Err(reason) => {
                    tracing::warn!(reason = %crate::error::one_line(&reason), "no HIP device: running on the CPU");
                    (Device::Cpu, Some(reason))
                }
            },
        };
        Ok(Opened { device, fallback })
    }

    fn open_hip(ordinal: u32) -> Result<Device, MemError> {
        if let Some(source) = Breaker::of_libraries().cause() {
            return Err(MemError::Lost { device: format!("hip:{ordinal}"), source });
        }
        let (api, _) = HipApi::load(&Search::from_env()).map_err(|source| MemError::Load { source })?;
        Device::from_api(api, ordinal)
    }

    #[cfg(feature = "cuda")]
    fn open_cuda(ordinal: u32) -> Result<Device, MemError> {
        let search = hip_ffi::cuda::search_from_env();
        let (api, _) = hip_ffi::cuda::load(&search).map_err(|source| MemError::Load { source })?;
        Device::from_api(api, ordinal)
    }

    #[cfg(not(feature = "cuda"))]
    fn open_cuda(_ordinal: u32) -> Result<Device, MemError> {
        Err(MemError::WithoutCuda)
    }

    /// Device `ordinal` of whatever fills the function table.
    ///
    /// # Errors
    /// [`MemError::Ordinal`] when fewer devices are visible, or the [`MemError::Hip`] of the call that failed.
    pub fn from_api(api: HipApi, ordinal: u32) -> Result<Device, MemError> {
        HipDevice::open(api, ordinal).map(Device::Hip)
    }

    /// Waits until everything launched so far is done; nothing on the CPU.
    ///
    /// # Errors
    /// What the device reports, errors of earlier launches included.
    pub fn synchronize(&self) -> Result<(), MemError> {
        match self {
            Device::Cpu => Ok(()),
            Device::Hip(hip) => hip.synchronize(),
        }
    }

    /// Whether both name the same device.
    pub fn same(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Cpu, Device::Cpu) => true,
            (Device::Hip(left), Device::Hip(right)) => Arc::ptr_eq(left, right),
            _ => false,
        }
    }

    /// Fails unless both name the same device.
    ///
    /// # Errors
    /// [`MemError::ForeignDevice`] names both.
    pub fn expect_same(&self, other: &Device) -> Result<(), MemError> {
        if self.same(other) {
            return Ok(());
        }
        Err(MemError::ForeignDevice { left: self.to_string(), right: other.to_string() })
    }

    /// Bytes of memory that can still be allocated; `None` on the CPU, where the operating system decides.
    ///
    /// # Errors
    /// What the device reports.
    pub fn free_memory(&self) -> Result<Option<u64>, MemError> {
        match self {
            Device::Cpu => Ok(None),
            Device::Hip(hip) => hip.free_memory().map(Some),
        }
    }

    /// The memory that an integrated GPU shares with the CPU; see [`HipDevice::shared_memory`].
    pub fn shared_memory(&self) -> Option<SharedMemory> {
        match self {
            Device::Cpu => None,
            Device::Hip(hip) => hip.shared_memory(),
        }
    }

    /// What this device has moved and launched so far.
    pub fn transfers(&self) -> Transfers {
        match self {
            Device::Cpu => Transfers::default(),
            Device::Hip(hip) => hip.transfers(),
        }
    }
}

/// Where a result was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RanOn {
    /// By the CPU body.
    Cpu,
    /// By kernels launched through HIP's C API.
    Hip,
}

impl fmt::Display for RanOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RanOn::Cpu => "cpu",
            RanOn::Hip => "hip",
        })
    }
}

/// What a user asks for with `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// HIP when a device opens, else the CPU, with one warning that says why.
    #[default]
    Auto,
    /// The CPU; HIP is never loaded.
    Cpu,
    /// The HIP device with this ordinal; an error when it cannot be had.
    Hip {
        /// Index among the visible devices.
        ordinal: u32,
    },
    /// NVIDIA's device with this ordinal, through HIP's interface; an error when it cannot be had, and where the feature `cuda`
    /// is off.
    Cuda {
        /// Index among the visible devices.
        ordinal: u32,
    },
}

impl FromStr for DeviceChoice {
    type Err = ParseDeviceChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseDeviceChoiceError { found: text.to_owned() };
        match text.split_once(':') {
            None if text == "auto" => Ok(DeviceChoice::Auto),
            None if text == "cpu" => Ok(DeviceChoice::Cpu),
            None if text == "hip" => Ok(DeviceChoice::Hip { ordinal: 0 }),
            None if text == "cuda" => Ok(DeviceChoice::Cuda { ordinal: 0 }),
            Some(("hip", ordinal)) => {
                ordinal.parse().map(|ordinal| DeviceChoice::Hip { ordinal }).map_err(|_| unknown())
            }
            Some(("cuda", ordinal)) => {
                ordinal.parse().map(|ordinal| DeviceChoice::Cuda { ordinal }).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Hip { ordinal } => write!(f, "hip:{ordinal}"),
            DeviceChoice::Cuda { ordinal } => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// The text is no device choice.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected auto, cpu, hip, hip:N, cuda or cuda:N, found {found:?}")]
pub struct ParseDeviceChoiceError {
    /// The text that was found.
    pub found: String,
}

/// A device, and why it is not the one that `auto` would rather have had.
#[derive(Debug)]
pub struct Opened {
    /// The device to use.
    pub device: Device,
    /// Why `auto` took the CPU; `None` when it did not have to.
    pub fallback: Option<MemError>,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Hip(hip) => fmt::Display::fmt(hip, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_and_print() {
        for text in ["auto", "cpu", "hip:0", "hip:3", "cuda:0", "cuda:1"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("hip".parse(), Ok(DeviceChoice::Hip { ordinal: 0 }));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda { ordinal: 0 }));
        for text in ["", "gpu", "hip:", "hip:-1", "hip:x", "cuda:", "cuda:x", "cpu:0", "auto:1"] {
            assert_eq!(text.parse::<DeviceChoice>(), Err(ParseDeviceChoiceError { found: text.to_owned() }));
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_its_feature_cuda_is_an_error_that_says_so() {
        let error = Device::open(DeviceChoice::Cuda { ordinal: 0 }).unwrap_err();
        assert!(
            matches!(error, MemError::WithoutCuda) && error.to_string().contains("--features cuda"),
            "{error}"
        );
        assert_eq!(error.class(), Some(hip_ffi::ErrorClass::Unavailable));
    }
}
