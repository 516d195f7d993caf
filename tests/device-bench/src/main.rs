//! Times every kernel on a device at the shapes of two models, and a whole model's tokens; `cargo xtask bench --device` runs it.
//!
//! `device-bench DEVICE FILE.json [CHECKPOINT]`, where DEVICE is `cuda`, `cuda:N`, `hip` or `hip:N`.

mod attend;
mod cases;
mod decode;
mod rows;
mod time;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use device_mem::{Device, DeviceChoice};
use hip_ffi::{HipApi, Search, result};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (choice, file, checkpoint) = match arguments.as_slice() {
        [device, file] => (device, file, None),
        [device, file, checkpoint] => (device, file, Some(Path::new(checkpoint))),
        _ => bail!("expected DEVICE FILE.json [CHECKPOINT], found {arguments:?}"),
    };
    let (api, ordinal) = table(choice.parse()?)?;
    let driver = result::driver_version(&api)?;
    let device = Device::from_api(api.clone(), ordinal)?;
    let Device::Hip(hip) = &device else { bail!("{device} is no device to time") };
    let mut rows = Vec::new();
    for case in cases::cases() {
        let timed = time::time(&case, hip).with_context(|| case.name())?;
        eprintln!("{}: {:.1} us", case.name(), timed.seconds * 1e6);
        rows.push(case.row(&timed));
    }
    let tokens = match checkpoint {
        Some(folder) => decode::measure(&api, ordinal, folder)?,
        None => Vec::new(),
    };
    let properties = hip.properties();
    let told = json!({
        "device": properties.name, "arch": properties.arch, "driver": driver, "rows": rows, "tokens": tokens,
    });
    fs::write(file, serde_json::to_string_pretty(&told)? + "\n").with_context(|| format!("writing {file}"))
}

/// The function table of a platform, and which of its devices is asked for.
fn table(choice: DeviceChoice) -> Result<(HipApi, u32)> {
    match choice {
        DeviceChoice::Hip { ordinal } => Ok((HipApi::load(&Search::from_env())?.0, ordinal)),
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda { ordinal } => {
            Ok((hip_ffi::cuda::load(&hip_ffi::cuda::search_from_env())?.0, ordinal))
        }
        other => bail!("expected hip, or cuda in a build with `--features cuda`, found {other}"),
    }
}
