//! AMDGPU machine code on the CPU: an executor of code objects of gfx9 to gfx12, a decoder and a disassembler.
//!
//! - [`Machine`] is one emulated card: [`Memory`], [`Machine::load`] for code objects, [`Machine::launch`] for kernels.
//!   Every access is checked against the allocations; what is not executed stops the launch with its name and place.
//! - [`api`] is HIP's function table over the cards of this process. The crate `hip-emu-cdylib` exports the same functions, as
//!   a stand-in for `libamdhip64`.
//! - [`Options::checks`] look for mistakes that hardware keeps to itself, each told with kernel, source line, instruction,
//!   wave, lane and allocation: see [`Checks`]. [`Options::counts`] counts what a launch does: see [`Counters`].
//! - [`decode`] reads one instruction of an [`Arch`] into an [`Instruction`]: mnemonic, [`Family`], typed operands and
//!   modifiers, length. It allocates nothing and never panics; what it does not know is a [`DecodeError`] that names it.
//! - Printing an [`Instruction`] gives LLVM's text; [`Dialect`] chooses whose spelling.
//! - [`Listing`] prints the code of an object as `llvm-objdump -d` does, [`KernelDescriptor`] reads what a launch needs.
//! - The program `hip-emu` does all of it from the shell: `hip-emu disasm FILE`, `hip-emu info FILE`, `hip-emu run FILE`.
//!
//! | [`Arch`] | targets | waves |
//! |---|---|---|
//! | `Gfx10` | gfx1030 to gfx1036, gfx1010 to gfx1013 | 32 lanes |
//! | `Gfx11` | gfx1100 to gfx1103, gfx1150 to gfx1153 | 32 lanes |
//! | `Gfx12` | gfx1200, gfx1201 | 32 lanes |
//! | `Gfx9` | gfx900, gfx902, gfx904, gfx906, gfx908, gfx909, gfx90c | 64 lanes |
//! | `Gfx90a` | gfx90a | 64 lanes |
//! | `Gfx940` | gfx940 to gfx942 | 64 lanes |
//!
//! # What is executed
//!
//! Of each architecture's instructions those that compute code may hold. Refused by name, when they are
//! decoded ([`DecodeError::Refused`]) or reached ([`FaultKind::Unsupported`]): image, export and interpolation instructions,
//! parameter loads, the global data share and wave synchronisation, registers of geometry shaders, the stack of ray
//! tracing, and what only trap handlers, debuggers or halves of waves of 64 lanes use; of those that are executed, the forms that
//! clamp integer products, carries and differences of bytes, and that return a texture-fail word. Targets that share an [`Arch`] share its table,
//! so an operation that only some of them have decodes for all; it is refused where the card lacks it: float arithmetic on
//! scalar registers before gfx1150, what gfx1030 added to gfx1010, gfx906 to gfx900, gfx908 to gfx906, and gfx90a to gfx908.
//!
//! Of `Gfx10` elements of buffers with a format are refused too, of `Gfx12` sparse matrices, transposing loads, stochastic
//! rounding, and barriers other than the group's. Of `Gfx9`, `Gfx90a` and `Gfx940` these are refused: sparse matrices and those
//! of 8-bit floats, stores and atomics of the scalar cache, elements of buffers with a format, loads to LDS, stochastic rounding,
//! and blocks or patterns of lanes that a matrix operation does not have. Their matrix operations have the layouts of AMD's
//! matrix instruction calculator; those of `Gfx90a` on 16-bit floats, and its dot products, take denormals for zeros.
//!
//! One table names an operation the same on every architecture, so each has one
//! body; an architecture is that table and how it starts a wave, finds scratch, counts what is in flight, and treats NaNs.
//!
//! `MODE` is honoured, from the kernel's descriptor and as the code changes it: four roundings, denormal operands and
//! results of binary32 and of binary16 with binary64, `DX10_CLAMP` and `IEEE`; output multipliers apply where hardware
//! applies them. Traps on float exceptions and saturating binary16 results are refused ([`FaultKind::Mode`]). Dot products,
//! matrix operations and atomics round to nearest even in every mode; of atomics, those of binary32 in LDS obey the denormal
//! fields.
//!
//! Where the ISA leaves it open what hardware does, the launch stops: buffer accesses that the end of a range or an
//! interleaved unit splits, stores of components out of a format's range, messages and hardware registers that depend on a
//! card. Elements of buffers are rounded to nearest even.
//!
//! `v_exp`, `v_log`, `v_rcp`, `v_rsq`, `v_sqrt`, `v_sin` and `v_cos` are computed in binary64 and rounded, where hardware may
//! differ in the last place or, in binary64, in many; so may the order of sums in dot products and matrix operations.
//! [`Report::approximate`] lists those that ran, [`Options::perturb`] moves their results by one place, which shows whether a
//! kernel depends on them. The payloads and signs of NaNs are the host's.
//!
//! # What is not modelled
//!
//! There are no caches, so a missing invalidation is not found, and a race between lanes of one wave is not either; nothing
//! is told about speed. 64-lane code of gfx10 to gfx12 is listed as if it were 32-lane code, which has the same bits but other
//! masks, and its launch refused ([`LaunchError::WideWaves`]). Nothing is encoded.
//!
//! The tables are generated from LLVM's TableGen records (`examples/generate`), and held to 183,000 encodings with
//! llvm-mc's text.
//!
//! # Example
//!
//! ```no_run
//! use hip_emu::{Dispatch, Machine, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let machine = Machine::new(Options::default());
//! let program = machine.load(&std::fs::read("kernel.hsaco")?)?;
//! let data = machine.memory().allocate(1024)?;
//! let dispatch = Dispatch { groups: [1, 1, 1], block: [64, 1, 1], dynamic_lds: 0 };
//! machine.launch(&program, "kernel", &dispatch, &data.to_le_bytes())?;
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! use hip_emu::{Arch, Value, decode};
//!
//! # fn main() -> Result<(), hip_emu::DecodeError> {
//! let instruction = decode(Arch::Gfx11, &[0x01, 0x05, 0x0a, 0x06])?;
//! assert_eq!(instruction.to_string(), "v_add_f32_e32 v5, v1, v2");
//! assert_eq!((instruction.length(), instruction.operands().len()), (4, 3));
//! assert!(matches!(instruction.operands()[0].value, Value::Register(_)));
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod arch;
mod checks;
mod counters;
mod decode;
mod descriptor;
mod error;
#[allow(unsafe_code, reason = "bodies that need CPU features are unsafe to call")]
mod exec;
mod fault;
mod finding;
#[allow(unsafe_code, reason = "a C interface")]
mod hip;
mod instruction;
mod isa;
mod listing;
mod machine;
#[allow(unsafe_code, reason = "kernels reach memory by address; every access is checked")]
mod memory;
mod operand;
mod print;
mod program;
mod scalar;
mod source_line;
#[allow(unsafe_code, reason = "as for the memory that it accesses")]
mod words;
mod written;

pub use arch::{Arch, Dialect, Family};
pub use checks::{Checks, ParseChecksError};
pub use counters::{Counters, LdsTraffic, Occupancy, OccupancyLimit, Traffic};
pub use decode::decode;
pub use descriptor::KernelDescriptor;
pub use error::{DecodeError, ObjectError};
pub use fault::{FaultKind, LaunchError, LaunchFault, LoadError, MemoryError};
pub use finding::{Origin, Place, SharedSpace, Use, WaveId};
pub use hip::{ConfigureError, Launch, api, card, configuration, configure, take_launches};
pub use instruction::{Instruction, Lanes, Modifiers, Text};
pub use listing::{Function, Line, Listing};
pub use machine::{Dispatch, Machine, Options, OptionsError, Report};
pub use memory::{Allocation, Memory};
pub use operand::{ElementType, Half, InlineFloat, Operand, Register, Special, Value};
pub use program::Program;
pub use source_line::SourceLine;
