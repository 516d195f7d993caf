//! [`hip_emu`] under HIP's own names: a shared library that stands in for `libamdhip64.so`, so that an unmodified HIP program,
//! a script that loads the library, or whatever a HIP compiler built runs on emulated cards.
//!
//! ```text
//! cargo build --release -p hip-emu-cdylib
//! cp target/release/libhip_emu_cdylib.so libamdhip64.so.5
//! LD_LIBRARY_PATH=. ./program
//! ```
//!
//! The environment chooses the cards and what they look for: see [`Options::all_from_env`](hip_emu::Options::all_from_env).
//!
//! What this crate does not do: it adds nothing to `hip-emu`, and its symbols have no versions. Rust programs use
//! [`hip_emu::api`] instead, which exports nothing:
//!
//! ```
//! let hip = hip_emu_cdylib::hip_emu::api();
//! assert!(hip.library.is_none());
//! ```

pub use hip_emu;
