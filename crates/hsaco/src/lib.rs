//! AMDGPU code objects (HSACO), and PTX beside them: read, checked against a declaration, chosen for a card, and embedded.
//!
//! - [`kernel!`] declares a kernel once. It yields the typed argument struct that a launch takes and the
//!   [`KernelDecl`] that every image is checked against.
//! - [`CodeObject`] reads a bare ELF or a `__CLANG_OFFLOAD_BUNDLE__`: target, kernels, arguments, registers.
//! - [`CodeObject::check`] compares an image with a declaration. The build and the load use this one function.
//! - [`Ptx`] reads the same from the text that NVIDIA's driver compiles.
//! - [`ImageSet`] holds the embedded images of one kernel, picks the one for a card (its own architecture, then the
//!   generic family that contains it, or an earlier compute capability), and honours the variable that replaces it (`ROPE_HSACO`).
//! - The feature `compressed` lets it read compressed bundles (`CCOB`, zlib or zstd) too.
//! - The feature `build` adds the module `build`: the manifest beside the images, and `embed` for build scripts.
//!
//! What this crate does not do: it does not compile, load or launch anything, knows no HIP, and reads no machine
//! code. Any bytes may be given to it; bad ones give a [`HsacoError`].
//!
//! # Example
//!
//! ```
//! use hsaco::{ArgKind, CodeObject, HsacoError, KernelArgs, KernelPointer};
//!
//! hsaco::kernel! {
//!     /// `y[i] += scale * x[i]` for `i < length`.
//!     pub struct AxpyArgs: "axpy" => [axpy_f32, axpy_f16], variable "AXPY_HSACO", max_block 256 {
//!         /// `[length]`, read and written.
//!         y: KernelPointer,
//!         /// `[length]`.
//!         x: KernelPointer,
//!         /// Factor of `x`.
//!         scale: f32,
//!         /// Elements.
//!         length: u64,
//!     }
//! }
//!
//! let decl = AxpyArgs::DECL;
//! assert_eq!((decl.source, decl.image), ("axpy.hip", "axpy_kernel.hsaco"));
//! assert_eq!((decl.args[3].offset, decl.args[3].kind), (24, ArgKind::Value));
//!
//! let junk = CodeObject::parse(b"not an image");
//! assert!(matches!(junk, Err(HsacoError::NotACodeObject { .. })));
//! ```

#![deny(unsafe_code)]

#[cfg(feature = "build")]
pub mod build;
mod bundle;
mod check;
#[cfg(feature = "compressed")]
mod compressed;
mod decl;
mod error;
mod image;
mod metadata;
mod object;
mod ptx;
mod target;

pub use decl::{ArgDecl, ArgKind, KernelArg, KernelArgs, KernelDecl, KernelPointer};
pub use error::HsacoError;
pub use image::{Aligned, Image, ImageSet, Origin, Selected, image_from_file, image_override, images_of};
pub use metadata::{ArgInfo, KernelInfo, ValueKind};
pub use object::CodeObject;
pub use ptx::Ptx;
pub use target::{TargetId, generic_family, wavefront_size};
