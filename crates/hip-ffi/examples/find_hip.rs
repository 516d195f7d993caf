//! Says whether HIP is on this machine, where, and which devices it sees.

use hip_ffi::{HipApi, Search, result};

fn main() {
    let (api, found) = match HipApi::load(&Search::from_env()) {
        Ok(loaded) => loaded,
        Err(error) => return println!("{error}"),
    };
    println!("library: {}", found.library.display());
    match result::runtime_version(&api) {
        Ok(version) => println!("runtime version: {version}"),
        Err(error) => println!("runtime version: {error}"),
    }
    match result::device_count(&api) {
        Ok(count) => println!("devices: {count}"),
        Err(error) => println!("devices: none, {error} (class {})", error.class()),
    }
}
