//! Safe ownership over HIP and host memory: devices, buffers, views, kernels.
//!
//! - [`Device`] is a closed enum: [`Device::Cpu`] or [`Device::Hip`]. It is chosen once, by [`Device::open`].
//! - [`DeviceBuffer<T>`] owns `[len]` elements on one device; [`View`] and [`ViewMut`] borrow a range of it.
//! - [`MappedFile`] lends the bytes of a file to CPU buffers without a copy.
//! - [`exp_nonpositive`] is the exponential that kernels and CPU bodies of the op crates share bit for bit.
//! - [`Isa`] is what this machine's CPU can do, and runs a [`Body`] compiled for it.
//! - [`Scratch`] is memory that calls on the CPU leave to those that follow.
//! - [`Graph`] records work of a HIP device once and does it again by one call.
//! - The feature `cuda` adds [`DeviceChoice::Cuda`]: NVIDIA's cards, as devices behind the same interface.
//! - [`Transfers`] counts what crosses the bus, so that a test can prove that nothing else does.
//!   Launches, copies, allocations and waits are spans of `tracing` at level TRACE.
//!
//! What this crate does not do: it runs no operation of a model, it never moves data between devices unasked, and it
//! does not fall back. An error leaves every input as it was.
//!
//! ```
//! use device_mem::{Device, DeviceBuffer};
//!
//! # fn main() -> Result<(), device_mem::MemError> {
//! let mut buffer = DeviceBuffer::from_host_vec(&Device::Cpu, vec![1.0_f32, 2.0, 3.0])?;
//! buffer.view_mut(1..3)?.copy_from_host(&[20.0, 30.0])?;
//! assert_eq!(buffer.to_host_vec()?, [1.0, 20.0, 30.0]);
//! # Ok(())
//! # }
//! ```

mod breaker;
mod buffer;
mod calls;
mod device;
pub mod doctor;
mod element;
mod error;
mod exit;
mod exp;
mod failures;
mod graph;
mod hip_device;
mod hip_kernel;
mod hip_memory;
mod isa;
mod mapped;
mod progress;
mod scratch;
mod shared_memory;
mod tile;
#[cfg_attr(not(unix), path = "torn_elsewhere.rs")]
mod torn;
mod transfers;
mod wait;

pub use buffer::{DeviceBuffer, View, ViewMut};
pub use calls::{Calls, calls};
pub use device::{Device, DeviceChoice, Opened, ParseDeviceChoiceError, RanOn};
pub use element::{DType, Element, Float};
pub use error::MemError;
pub use exit::{any_is_lost, exit_at_once};
pub use exp::exp_nonpositive;
pub use failures::Failure;
pub use graph::Graph;
pub use hip_device::{HipDevice, HipProperties};
pub use hip_kernel::{Grid, Kernel};
pub use hip_memory::{HipView, HipViewMut};
pub use isa::{Body, Isa, Level, prefetch};
pub use mapped::MappedFile;
pub use progress::{LastWork, Work};
pub use scratch::Scratch;
pub use shared_memory::SharedMemory;
pub use tile::{Onto, Strided};
pub use transfers::Transfers;
