//! What this machine has for HIP, and one line of advice for each gap.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{env, io};

use hip_ffi::{HipApi, LoadError, Search, result};

use crate::error::one_line;
use crate::{DeviceChoice, HipDevice, MemError};

/// What an examination looks at. [`DoctorEnv::of_this_process`] is the real one; a test makes its own.
#[derive(Clone, Debug)]
pub struct DoctorEnv {
    /// Where to look for HIP's library.
    pub search: Search,
    /// The kernel driver's device node.
    pub kfd: PathBuf,
    /// Environment variables.
    pub variables: BTreeMap<String, OsString>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// What was found, on one or more lines.
    pub found: String,
    /// What to do about it, on one line.
    pub advice: Option<String>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// Work goes on, but not as well as it could.
    Warn,
    /// HIP cannot be used.
    Fail,
}

/// Variables that hide or replace devices.
const VARIABLES: [&str; 4] =
    ["HSA_OVERRIDE_GFX_VERSION", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"];

impl DoctorEnv {
    /// The machine and the environment of this process.
    pub fn of_this_process() -> DoctorEnv {
        let variable = |name: &str| env::var_os(name).map(|value| (name.to_owned(), value));
        DoctorEnv {
            search: Search::from_env(),
            kfd: PathBuf::from("/dev/kfd"),
            variables: VARIABLES.into_iter().filter_map(variable).collect(),
        }
    }
}

/// Examines library, driver node, environment and devices. Nothing is changed; HIP is loaded when it is there.
pub fn examine(env: &DoctorEnv) -> Vec<Check> {
    let mut checks = vec![kfd(env)];
    checks.extend(variables(env));
    checks.extend(library_and_devices(env));
    #[cfg(feature = "cuda")]
    checks.extend(cuda_driver_and_devices());
    checks
}

/// NVIDIA's driver is no gap of a machine that has none of its cards.
#[cfg(feature = "cuda")]
fn cuda_driver_and_devices() -> Vec<Check> {
    let (status, found, advice, devices) = match hip_ffi::cuda::load(&hip_ffi::cuda::search_from_env()) {
        Ok((api, found)) => {
            let version = result::driver_version(&api);
            let version = version.map_or_else(|error| error.to_string(), |version| version.to_string());
            let found = format!("{}, interface version {version}", found.library.display());
            (Status::Ok, found, None, devices(&api))
        }
        Err(error) => {
            let advice = "without a card of NVIDIA's nothing is wrong; with one, install its driver";
            (Status::Warn, error.to_string(), Some(advice.to_owned()), Vec::new())
        }
    };
    let driver = Check { name: "CUDA driver", status, found, advice };
    std::iter::once(driver).chain(devices).collect()
}

fn kfd(env: &DoctorEnv) -> Check {
    node(&env.kfd, OpenOptions::new().read(true).write(true).open(&env.kfd).map(drop))
}

fn node(path: &Path, opened: io::Result<()>) -> Check {
    let node = path.display();
    let (status, found, advice) = match opened {
        Ok(()) => (Status::Ok, format!("{node} can be opened"), None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => (
            Status::Fail,
            format!("{node} is there, but this user may not open it"),
            Some(
                "sudo usermod -aG render,video $USER, then log in again; in a container: --device /dev/kfd --device /dev/dri",
            ),
        ),
        Err(error) => (
            Status::Fail,
            format!("{node}: {error}"),
            Some(
                "without an AMD card nothing is wrong; with one, load the amdgpu driver (Windows has no such node)",
            ),
        ),
    };
    Check { name: "kernel driver", status, found, advice: advice.map(str::to_owned) }
}

fn variables(env: &DoctorEnv) -> Vec<Check> {
    let check = |(name, value): (&String, &OsString)| {
        let found = format!("{name}={}", value.to_string_lossy());
        let advice = match (name.as_str(), value.is_empty()) {
            ("HSA_OVERRIDE_GFX_VERSION", true) => {
                format!("unset {name}: set but empty it hides every device")
            }
            ("HSA_OVERRIDE_GFX_VERSION", false) => {
                format!(
                    "unset {name} unless it is known to be needed: kernels are chosen by the card's real target"
                )
            }
            _ => format!("unset {name} if a device is missing: it hides devices"),
        };
        Check { name: "environment", status: Status::Warn, found, advice: Some(advice) }
    };
    env.variables.iter().map(check).collect()
}

fn library_and_devices(env: &DoctorEnv) -> Vec<Check> {
    let (api, found) = match HipApi::load(&env.search) {
        Ok(loaded) => loaded,
        Err(error) => return vec![no_library(&error)],
    };
    let version =
        result::runtime_version(&api).map_or_else(|error| error.to_string(), |version| version.to_string());
    let library = Check {
        name: "HIP library",
        status: Status::Ok,
        found: format!("{}, runtime version {version}", found.library.display()),
        advice: None,
    };
    std::iter::once(library).chain(devices(&api)).collect()
}

/// The devices that whatever fills `api` shows, each opened once; one failed check when it shows none.
pub fn devices(api: &HipApi) -> Vec<Check> {
    match result::device_count(api) {
        Ok(0) => vec![no_device("HIP sees no device")],
        Ok(count) => (0..count).map(|ordinal| device(api, ordinal)).collect(),
        Err(error) => vec![no_device(&error.to_string())],
    }
}

fn no_library(error: &LoadError) -> Check {
    let advice = match error {
        LoadError::MissingSymbol { .. } => {
            "set HIP_FFI_LIB to the libamdhip64.so of a whole ROCm 5.2 to 7 installation"
        }
        _ => {
            "install ROCm's runtime (Debian: apt-get install libamdhip64-5), or set HIP_FFI_LIB to libamdhip64.so"
        }
    };
    Check {
        name: "HIP library",
        status: Status::Fail,
        found: error.to_string(),
        advice: Some(advice.to_owned()),
    }
}

fn no_device(reason: &str) -> Check {
    let advice =
        "without an AMD card nothing is wrong; with one, see the kernel driver and the environment above";
    Check { name: "devices", status: Status::Fail, found: reason.to_owned(), advice: Some(advice.to_owned()) }
}

fn device(api: &HipApi, ordinal: u32) -> Check {
    let choice = DeviceChoice::Hip { ordinal };
    match HipDevice::open(api.clone(), ordinal) {
        Ok(device) => {
            let memory = device.properties().total_memory >> 20;
            let found = format!("{device}, wave {}, {memory} MiB", device.properties().wavefront_size);
            let (found, advice) = match device.shared_memory() {
                Some(shared) => (format!("{found}, shared with the CPU: {shared}"), Some(shared.advice())),
                None => (found, None),
            };
            Check { name: "devices", status: Status::Ok, found, advice: advice.map(str::to_owned) }
        }
        Err(error) => Check {
            name: "devices",
            status: Status::Fail,
            found: format!("{choice}: {}", one_line(&error)),
            advice: Some(advice_for(&error)),
        },
    }
}

fn advice_for(error: &MemError) -> String {
    match error.class() {
        Some(class) => format!("the device is {class}; check dmesg for amdgpu errors"),
        None => String::from("check dmesg for amdgpu errors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(kfd: PathBuf) -> DoctorEnv {
        let search = Search { file: Some(PathBuf::from("/not/here.so")), ..Search::default() };
        DoctorEnv { search, kfd, variables: BTreeMap::new() }
    }

    fn named<'c>(checks: &'c [Check], name: &str) -> &'c Check {
        checks.iter().find(|check| check.name == name).unwrap()
    }

    #[test]
    fn a_bare_machine_is_told_what_is_missing_and_what_to_do() {
        let checks = examine(&bare(PathBuf::from("/not/kfd")));
        for name in ["kernel driver", "HIP library"] {
            let check = named(&checks, name);
            assert_eq!(check.status, Status::Fail, "{check:?}");
            assert!(check.advice.is_some() && check.found.contains("/not/"), "{check:?}");
        }
    }

    #[test]
    fn a_node_that_opens_is_fine() {
        let node = tempfile::NamedTempFile::new().unwrap();
        let checks = examine(&bare(node.path().to_owned()));
        assert_eq!(named(&checks, "kernel driver").status, Status::Ok);
    }

    #[test]
    fn a_node_that_may_not_be_opened_is_a_matter_of_groups() {
        let refused = io::Error::from(ErrorKind::PermissionDenied);
        let check = node(Path::new("/dev/kfd"), Err(refused));
        assert_eq!(check.status, Status::Fail);
        let advice = check.advice.unwrap();
        assert!(
            advice.contains("usermod -aG render,video") && advice.contains("--device /dev/kfd"),
            "{advice}"
        );
    }

    #[test]
    fn variables_that_hide_devices_are_named() {
        let mut env = bare(PathBuf::from("/not/kfd"));
        env.variables.insert(String::from("ROCR_VISIBLE_DEVICES"), OsString::from("7"));
        let check = examine(&env).into_iter().find(|check| check.name == "environment").unwrap();
        assert_eq!((check.status, check.found.as_str()), (Status::Warn, "ROCR_VISIBLE_DEVICES=7"));
        assert!(check.advice.unwrap().contains("it hides devices"));
    }

    #[test]
    fn an_empty_override_is_named() {
        let mut env = bare(PathBuf::from("/not/kfd"));
        env.variables.insert(String::from("HSA_OVERRIDE_GFX_VERSION"), OsString::new());
        let checks = examine(&env);
        let advice = named(&checks, "environment").advice.clone().unwrap();
        assert!(advice.contains("empty it hides every device"), "{advice}");
    }
}
