//! The `NT_AMDGPU_METADATA` note (LLVM's AMDGPU usage guide, code object V3 and later).

use std::fmt;

use rmpv::Value;

use crate::HsacoError;

/// What the metadata says about one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// The kernel's name, and its entry symbol.
    pub name: String,
    /// Symbol of its descriptor: the name and `.kd`.
    pub descriptor: String,
    /// All arguments in order, the compiler's hidden ones last.
    pub args: Vec<ArgInfo>,
    /// Bytes of the argument block, hidden arguments included.
    pub kernarg_size: u32,
    /// Bytes of group memory (LDS) of a block, as far as it is fixed.
    pub lds: u32,
    /// Bytes of private memory (scratch) of a thread.
    pub scratch: u32,
    /// Spilled scalar registers.
    pub sgpr_spills: u32,
    /// Spilled vector registers.
    pub vgpr_spills: u32,
    /// Scalar registers.
    pub sgprs: u32,
    /// Vector registers.
    pub vgprs: u32,
    /// Accumulation registers; 0 where the processor has none.
    pub agprs: u32,
    /// Lanes of a wave.
    pub wavefront_size: u32,
    /// The most threads of a block.
    pub max_block: u32,
}

impl KernelInfo {
    /// The arguments that the source names, without the compiler's hidden ones.
    pub fn explicit_args(&self) -> impl Iterator<Item = &ArgInfo> {
        self.args.iter().take_while(|arg| !matches!(arg.kind, ValueKind::Hidden(_)))
    }
}

/// One argument of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgInfo {
    /// The parameter's name, if the compiler was asked to keep it.
    pub name: Option<String>,
    /// Bytes from the start of the argument block.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// What it is.
    pub kind: ValueKind,
}

impl fmt::Display for ArgInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("<no name>");
        write!(f, "`{name}` ({:?}) at {}, {} bytes", self.kind, self.offset, self.size)
    }
}

/// What an argument is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// An address in device memory.
    GlobalBuffer,
    /// A plain value.
    ByValue,
    /// Added by the compiler and filled by the runtime: `hidden_block_count_x` and its like.
    Hidden(Box<str>),
    /// Anything else: images, samplers, queues.
    Other(String),
}

/// Nesting of the note: map, kernels, kernel, args, arg, value.
const MAX_DEPTH: usize = 16;

/// The target and the kernels of a note.
pub(crate) fn parse(note: &[u8]) -> Result<(String, Vec<KernelInfo>), HsacoError> {
    let root = rmpv::decode::read_value_with_max_depth(&mut &note[..], MAX_DEPTH)
        .map_err(|source| HsacoError::BadMetadata { source })?;
    let target = text(&root, "amdhsa.target")?;
    // A code object of device functions only has no list.
    let kernels = field(&root, "amdhsa.kernels").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Ok((target, kernels.iter().map(kernel).collect::<Result<_, _>>()?))
}

fn kernel(map: &Value) -> Result<KernelInfo, HsacoError> {
    let args = field(map, ".args").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Ok(KernelInfo {
        name: text(map, ".name")?,
        descriptor: text(map, ".symbol")?,
        args: args.iter().map(arg).collect::<Result<_, _>>()?,
        kernarg_size: number(map, ".kernarg_segment_size")?,
        lds: number(map, ".group_segment_fixed_size")?,
        scratch: number(map, ".private_segment_fixed_size")?,
        sgpr_spills: number(map, ".sgpr_spill_count")?,
        vgpr_spills: number(map, ".vgpr_spill_count")?,
        sgprs: number(map, ".sgpr_count")?,
        vgprs: number(map, ".vgpr_count")?,
        agprs: if field(map, ".agpr_count").is_some() { number(map, ".agpr_count")? } else { 0 },
        wavefront_size: number(map, ".wavefront_size")?,
        max_block: number(map, ".max_flat_workgroup_size")?,
    })
}

fn arg(map: &Value) -> Result<ArgInfo, HsacoError> {
    let kind = match text(map, ".value_kind")?.as_str() {
        "global_buffer" => ValueKind::GlobalBuffer,
        "by_value" => ValueKind::ByValue,
        hidden if hidden.starts_with("hidden_") => ValueKind::Hidden(hidden.into()),
        other => ValueKind::Other(other.to_owned()),
    };
    let name = field(map, ".name").and_then(Value::as_str).map(str::to_owned);
    Ok(ArgInfo { name, offset: number(map, ".offset")?, size: number(map, ".size")?, kind })
}

fn field<'a>(map: &'a Value, key: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
}

fn text(map: &Value, key: &'static str) -> Result<String, HsacoError> {
    let value = field(map, key).and_then(Value::as_str);
    value.map(str::to_owned).ok_or(HsacoError::MetadataField { field: key, expected: "text" })
}

fn number(map: &Value, key: &'static str) -> Result<u32, HsacoError> {
    let value = field(map, key).and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok());
    value.ok_or(HsacoError::MetadataField { field: key, expected: "32-bit number" })
}
