//! HIP's C API, loaded at run time: types, the function table, and a thin `Result` layer.
//!
//! | level | what it holds |
//! |---|---|
//! | [`sys`] | C types, constants and declarations, generated from HIP's header |
//! | [`HipApi`] | one pointer per HIP function that is called, filled by [`HipApi::load`] or by in-process functions |
//! | `cuda` | with the feature of that name: the same table filled from CUDA's driver, for NVIDIA's cards |
//! | [`faults`] | a table around another, whose calls fail on demand, for tests of what is built on this crate |
//! | [`result`] | the same calls returning `Result<_, HipError>`, grouped; still `unsafe` where C asks for care |
//!
//! Nothing is linked: a program built with this crate starts on a machine without HIP, and [`HipApi::load`] says
//! where it looked. Whatever fills the table (a library, an emulator, a fault injector) is the same to those above.
//!
//! What this crate does not do: it owns nothing, chooses no device, retries nothing and has no policy. Safe ownership
//! is the crate `device-mem`.
//!
//! # Example
//!
//! ```
//! use hip_ffi::{HipApi, Search, result};
//!
//! match HipApi::load(&Search::from_env()) {
//!     Ok((api, found)) => match result::device_count(&api) {
//!         Ok(count) => println!("{}: {count} devices", found.library.display()),
//!         Err(error) => println!("{}: {error}", found.library.display()),
//!     },
//!     Err(error) => println!("{error}"),
//! }
//! ```

mod api;
#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
pub mod faults;
mod load;
pub mod result;
pub mod sys;

pub use api::{GraphApi, HipApi, PropertiesFn};
pub use error::{ErrorClass, HipError};
pub use load::{Found, LoadError, Miss, Search};
