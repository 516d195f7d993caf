use std::io;
use std::path::PathBuf;

use crate::decl::ArgKind;
use crate::metadata::ArgInfo;

/// Why bytes are not an image, or not the right one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HsacoError {
    /// Neither an ELF nor a bundle.
    #[error("not a code object: starts with {found:02x?}; expected an AMDGPU ELF or a clang offload bundle")]
    NotACodeObject {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// A compressed bundle, without the feature `compressed`.
    #[error(
        "the bundle is compressed; compile with --no-gpu-bundle-output, or turn on hsaco's feature `compressed`"
    )]
    CompressedBundle,
    /// A compressed bundle that ends before its header does, or before the end that the header tells.
    #[error(
        "the compressed bundle has {found} bytes where its header needs {expected}: it is cut off or damaged"
    )]
    CompressedTruncated {
        /// Bytes of the header, or by the header.
        expected: u64,
        /// Bytes there are.
        found: usize,
    },
    /// A header of an unknown version.
    #[error("the compressed bundle's header has version {found}; 1, 2 and 3 are known")]
    CompressedVersion {
        /// The version.
        found: u16,
    },
    /// An unknown method of compression.
    #[error("the bundle is compressed by method {found}; 0 (zlib) and 1 (zstd) are known")]
    CompressionMethod {
        /// The method.
        found: u16,
    },
    /// A header that tells an unreasonable size.
    #[error(
        "the compressed bundle would have {size} bytes, more than the limit of {limit}: split it, or it is damaged"
    )]
    CompressedTooLarge {
        /// Bytes, by the header.
        size: u64,
        /// Most bytes.
        limit: u64,
    },
    /// A stream that is not what the header's method writes.
    #[error("the compressed bundle cannot be decompressed: it is damaged")]
    CompressedDamaged {
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// A bundle of another size than the header tells.
    #[error(
        "the compressed bundle has {found} bytes or more where its header says {expected}: it is damaged"
    )]
    CompressedSize {
        /// Bytes, by the header.
        expected: u64,
        /// Bytes that were decompressed, at most one more than expected.
        found: usize,
    },
    /// A bundle with another digest than the header tells.
    #[error(
        "the compressed bundle has the hash {found:#018x} where its header says {expected:#018x}: it is damaged"
    )]
    CompressedHash {
        /// Start of the MD5, by the header.
        expected: u64,
        /// Start of the MD5.
        found: u64,
    },
    /// A bundle that ends inside its own table.
    #[error("the bundle ends inside its table: entry {entry} of {entries}")]
    TruncatedBundle {
        /// The entry that could not be read.
        entry: u64,
        /// How many the header promises.
        entries: u64,
    },
    /// A bundle entry that lies outside the file.
    #[error("bundle entry `{id}` is bytes {offset}+{size} of a file of {len}")]
    BundleEntryOutside {
        /// The entry's name.
        id: String,
        /// Where it should start.
        offset: u64,
        /// How long it should be.
        size: u64,
        /// Bytes there are.
        len: usize,
    },
    /// A bundle without an entry for the architecture, or with several where none was named.
    #[error("the bundle has no single entry for {}; it holds [{}]", wanted.as_deref().unwrap_or("a device"), found.join(", "))]
    NoBundleEntry {
        /// The architecture asked for.
        wanted: Option<String>,
        /// The targets that are there.
        found: Vec<String>,
    },
    /// Text that is not PTX as LLVM writes it for the kernels.
    #[error("the PTX cannot be used: {found:?}; compile with -x cuda --cuda-device-only -S")]
    BadPtx {
        /// What is wrong, or the start of the line that is.
        found: String,
    },
    /// A broken ELF.
    #[error("the code object is damaged: {source}")]
    BadElf {
        /// What the reader says.
        #[from]
        source: object::read::Error,
    },
    /// An ELF of 32 bits or with the most significant byte first.
    #[error(
        "an ELF of class {class} and byte order {order}, where AMDGPU has 2 (64 bits) and 1 (little-endian)"
    )]
    WrongLayout {
        /// `EI_CLASS`.
        class: u8,
        /// `EI_DATA`.
        order: u8,
    },
    /// An ELF for another machine.
    #[error("an ELF for machine {found}, where AMDGPU is 224; compile with --offload-device-only")]
    WrongMachine {
        /// `e_machine`.
        found: u16,
    },
    /// A processor that this crate does not know.
    #[error("processor number {mach:#x} of the ELF header is unknown")]
    UnknownProcessor {
        /// The `EF_AMDGPU_MACH` byte.
        mach: u32,
    },
    /// Text that is not a target.
    #[error(
        "`{found}` is not a target; expected one like gfx1100, gfx11-generic, gfx90a:sramecc+:xnack- or sm_90"
    )]
    BadTarget {
        /// The text.
        found: String,
    },
    /// No `NT_AMDGPU_METADATA` note.
    #[error("the code object has no AMDGPU metadata note")]
    NoMetadata,
    /// A metadata note that is not MessagePack.
    #[error("the AMDGPU metadata note is damaged")]
    BadMetadata {
        /// What the decoder says.
        #[source]
        source: rmpv::decode::Error,
    },
    /// A metadata field that is missing or of another type.
    #[error("metadata field `{field}` is missing or is no {expected}")]
    MetadataField {
        /// The key.
        field: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// Header and metadata name different targets.
    #[error("the ELF header says {header}, its metadata says {metadata}")]
    TargetDisagrees {
        /// From `e_flags`.
        header: String,
        /// From `amdhsa.target`.
        metadata: String,
    },
    /// An image for another target.
    #[error("the image is for {found}, not for {expected}")]
    WrongTarget {
        /// What it should be for.
        expected: String,
        /// What it is for.
        found: String,
    },
    /// A declared kernel that the image does not have.
    #[error("kernel `{symbol}` is not in the image, which has [{}]", found.join(", "))]
    MissingKernel {
        /// The declared symbol.
        symbol: &'static str,
        /// The kernels there are.
        found: Vec<String>,
    },
    /// A kernel without its entry or descriptor symbol.
    #[error("kernel `{symbol}` has no dynamic symbol `{missing}`")]
    MissingSymbol {
        /// The kernel.
        symbol: &'static str,
        /// The symbol that is not there.
        missing: String,
    },
    /// Another number of arguments.
    #[error(
        "kernel `{symbol}` takes {found} arguments, its declaration has {expected}; rebuild with `cargo xtask build-kernels`"
    )]
    ArgCount {
        /// The kernel.
        symbol: &'static str,
        /// Declared.
        expected: usize,
        /// In the image.
        found: usize,
    },
    /// An argument block of another length than the declared arguments have.
    #[error(
        "kernel `{symbol}` reads an argument block of {found} bytes, its declaration has {expected}; rebuild with `cargo xtask build-kernels`"
    )]
    KernargSize {
        /// The kernel.
        symbol: &'static str,
        /// Declared.
        expected: u32,
        /// In the image.
        found: u32,
    },
    /// More registers than a wave can have.
    #[error("kernel `{symbol}` needs {found} {kind} registers, a wave has at most {limit}")]
    Registers {
        /// The kernel.
        symbol: &'static str,
        /// `scalar` or `vector`.
        kind: &'static str,
        /// Of a wave.
        limit: u32,
        /// In the image.
        found: u32,
    },
    /// An argument that differs from its declaration.
    #[error(
        "argument {index} of kernel `{symbol}` is {found}, declared as `{name}` ({kind:?}) at {offset}, {size} bytes; \
         rebuild with `cargo xtask build-kernels` (names need -fhip-kernel-arg-name)"
    )]
    ArgMismatch {
        /// The kernel.
        symbol: &'static str,
        /// Counted from 0.
        index: usize,
        /// Declared name.
        name: &'static str,
        /// Declared offset.
        offset: u32,
        /// Declared size.
        size: u32,
        /// Declared kind.
        kind: ArgKind,
        /// What the image says.
        found: ArgInfo,
    },
    /// A kernel compiled for smaller blocks than the host launches.
    #[error(
        "kernel `{symbol}` allows blocks of {found} threads, the host launches {expected}; see __launch_bounds__"
    )]
    BlockLimit {
        /// The kernel.
        symbol: &'static str,
        /// Declared.
        expected: u32,
        /// In the image.
        found: u32,
    },
    /// A kernel that spills registers or uses scratch memory.
    #[error(
        "kernel `{symbol}` spills: {sgpr_spills} scalar and {vgpr_spills} vector registers, {scratch} bytes of scratch; \
         a kernel must fit its registers"
    )]
    Spills {
        /// The kernel.
        symbol: &'static str,
        /// Spilled scalar registers.
        sgpr_spills: u32,
        /// Spilled vector registers.
        vgpr_spills: u32,
        /// Bytes of private memory of a thread.
        scratch: u32,
    },
    /// A kernel compiled for another wave size.
    #[error("kernel `{symbol}` has waves of {found} lanes, {target} has {expected:?}")]
    WavefrontSize {
        /// The kernel.
        symbol: &'static str,
        /// The image's target.
        target: String,
        /// What the target has.
        expected: Option<u32>,
        /// In the image.
        found: u32,
    },
    /// A kernel that needs more group memory than a block can have.
    #[error("kernel `{symbol}` needs {found} bytes of LDS, a block has at most {limit}")]
    Lds {
        /// The kernel.
        symbol: &'static str,
        /// Bytes of a block.
        limit: u32,
        /// In the image.
        found: u32,
    },
    /// No embedded image runs on the card.
    #[error(
        "no image of `{family}` for {card}; embedded are [{}]. Build one with `cargo xtask build-kernels --arch {arch}`, \
         or name a file in {variable}", embedded.join(", ")
    )]
    NoImage {
        /// The kernel's family.
        family: &'static str,
        /// The card, as it names itself.
        card: String,
        /// The card's processor.
        arch: String,
        /// Architectures that are embedded.
        embedded: Vec<&'static str>,
        /// The variable that replaces images.
        variable: &'static str,
    },
    /// The override's file cannot be read.
    #[error("{variable}={}: cannot be read; unset {variable} to use the embedded image", path.display())]
    OverrideUnreadable {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The override's file can be replaced by other users.
    #[error(
        "{variable}={}: {} could be replaced by other users; it is code that the GPU will run: move it, or take their permission to write", path.display(), exposed.display()
    )]
    OverrideExposed {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
        /// The file or folder that others may write to.
        exposed: PathBuf,
    },
    /// The override's file is not the right image.
    #[error("{variable}={}: not usable; unset {variable} to use the embedded image", path.display())]
    OverrideRefused {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<HsacoError>,
    },
}
