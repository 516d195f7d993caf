use std::fmt;

/// What is declared about one kernel: where it comes from and what it takes. [`kernel!`](crate::kernel) writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelDecl {
    /// The kernel's family, `rope`; the stem of the names below.
    pub family: &'static str,
    /// Source file in `kernels/`: `rope.hip`.
    pub source: &'static str,
    /// Image file, one per architecture: `rope_kernel.hsaco`.
    pub image: &'static str,
    /// Environment variable that names a file to use instead of the embedded image: `ROPE_HSACO`.
    pub variable: &'static str,
    /// Entry points, all with the arguments below: `rope_f32`, `rope_f16`, `rope_bf16`.
    pub symbols: &'static [&'static str],
    /// Arguments in order.
    pub args: &'static [ArgDecl],
    /// The most threads of a block that the host launches.
    pub max_block: u32,
}

impl KernelDecl {
    /// File name of the image for `arch`: [`KernelDecl::image`], or `rope_kernel.ptx` for `sm_80`.
    pub fn image_for(&self, arch: &str) -> String {
        if arch.starts_with("sm_") { self.image.replace(".hsaco", ".ptx") } else { self.image.to_owned() }
    }
}

/// One argument of a kernel, where it stands in the argument block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgDecl {
    /// The parameter's name in the source.
    pub name: &'static str,
    /// Bytes from the start of the argument block.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Address or plain value.
    pub kind: ArgKind,
}

/// What an argument is to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgKind {
    /// An address in device memory.
    Pointer,
    /// A number, passed by value.
    Value,
}

/// An address in device memory, as it stands in a kernel argument. Holding one proves nothing about the memory; the
/// launch does.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct KernelPointer(pub u64);

impl fmt::Debug for KernelPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Types that may be a kernel argument: numbers that C knows under the same layout, and [`KernelPointer`].
pub trait KernelArg: Copy + 'static + sealed::Sealed {
    /// How metadata describes an argument of this type.
    const KIND: ArgKind;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! kernel_arg {
    ($($type:ty: $kind:ident),+) => {$(
        impl sealed::Sealed for $type {}
        impl KernelArg for $type {
            const KIND: ArgKind = ArgKind::$kind;
        }
    )+};
}

kernel_arg!(KernelPointer: Pointer, u32: Value, i32: Value, f32: Value, u64: Value, i64: Value, f64: Value);

/// The arguments of one launch, in memory as the kernel reads them.
///
/// # Safety
/// For every element of `DECL.args`, `size` bytes at `offset` from the start of `Self` are one initialised field of
/// that argument's type. [`kernel!`](crate::kernel) implements this from `offset_of!` and `size_of`; write no other
/// implementation.
#[expect(
    unsafe_code,
    reason = "launches read arguments by offset, so a wrong DECL would read outside the struct"
)]
pub unsafe trait KernelArgs: Copy + fmt::Debug + 'static {
    /// What the image of this kernel must look like.
    const DECL: KernelDecl;
}

/// Declares a kernel: its argument struct, and the [`KernelDecl`](crate::KernelDecl) that images are checked against.
///
/// One struct serves every symbol of the family, since data types change the pointee only. Fields are `pub`, in the
/// order of the source's parameters, of types that are [`KernelArg`](crate::KernelArg). See the crate's front page for
/// an example.
#[macro_export]
macro_rules! kernel {
    (
        $(#[$meta:meta])*
        $vis:vis struct $args:ident: $family:literal => [$($symbol:ident),+ $(,)?],
            variable $variable:literal, max_block $max_block:literal {
            $($(#[$field_meta:meta])* $field:ident: $type:ty),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        $vis struct $args {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        // SAFETY: each offset and size is taken from the field itself.
        unsafe impl $crate::KernelArgs for $args {
            const DECL: $crate::KernelDecl = $crate::KernelDecl {
                family: $family,
                source: ::core::concat!($family, ".hip"),
                image: ::core::concat!($family, "_kernel.hsaco"),
                variable: $variable,
                symbols: &[$(::core::stringify!($symbol)),+],
                args: &[$($crate::ArgDecl {
                    name: ::core::stringify!($field),
                    offset: ::core::mem::offset_of!($args, $field) as u32,
                    size: ::core::mem::size_of::<$type>() as u32,
                    kind: <$type as $crate::KernelArg>::KIND,
                }),+],
                max_block: $max_block,
            };
        }
    };
}
