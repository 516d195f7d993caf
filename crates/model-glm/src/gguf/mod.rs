//! GGUF model files, as llama.cpp reads them.
//!
//! [`convert`] writes a checkpoint folder as one file of version 3, in any [`FileType`]:
//!
//! ```text
//! "GGUF"  version u32  tensors u64  keys u64
//! keys:     length u64, text; type u32; value          (an array: element type u32, length u64, elements)
//! tensors:  length u64, name; rank u32; dims u64 each, innermost first; type u32; offset u64
//! padding to 32, then the tensors' bytes at their offsets, each padded to 32
//! ```

mod convert;

pub use convert::{ConvertOptions, Converted, Field, FileType, GgufWriter, Stored, TensorSpec, convert};
