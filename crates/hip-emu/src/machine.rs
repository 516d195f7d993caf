//! One emulated card.

use std::{env, error::Error, str::FromStr, sync::Arc};

use hsaco::{KernelInfo, TargetId, ValueKind};

use crate::{
    Checks, Counters, KernelDescriptor, LaunchError, LoadError, Program,
    exec::{Dispatched, run},
    memory::{Allocation, Memory},
};

/// LDS of a work-group, in bytes, at most.
const MOST_LDS: u32 = 65_536;
/// Work-items of a work-group, at most.
const MOST_ITEMS: u32 = 1024;
/// Scratch of a lane, in bytes, at most.
const MOST_SCRATCH: u32 = 1 << 18;
/// Scratch of a lane of kernels whose stack grows at run time, in bytes.
const DYNAMIC_STACK: usize = 16_384;
/// Bytes of the dispatch packet.
const PACKET: usize = 64;

/// How a card behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The card: `gfx1100` or any other that [`Arch::from_target`](crate::Arch::from_target) knows.
    pub target: String,
    /// Order of the waves within a group's turn; 0 is their number's.
    pub seed: u64,
    /// Threads; 0 is one a core. With one, results repeat even where groups race.
    pub threads: usize,
    /// Most instructions of a wave.
    pub instruction_limit: u64,
    /// What to look for while kernels run.
    pub checks: Checks,
    /// Whether a launch's [`Report`] counts instructions by kind and what they move. It makes launches run on one thread.
    pub counts: bool,
    /// Seed by which results are moved whose low bits hardware does not specify, those in [`Report::approximate`]: each stays,
    /// or becomes the number before or after it, whatever the order and the threads. 0 moves none.
    pub perturb: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: "gfx1100".to_owned(),
            seed: 0,
            threads: 0,
            instruction_limit: u64::MAX,
            checks: Checks::NONE,
            counts: false,
            perturb: 0,
        }
    }
}

impl Options {
    /// The defaults, changed by the environment: `HIP_EMU_ARCH`, of which the first target counts, `HIP_EMU_SEED`,
    /// `HIP_EMU_THREADS`, `HIP_EMU_INSTRUCTION_LIMIT`, `HIP_EMU_PERTURB`, and `HIP_EMU_CHECK`, a list that [`Checks`] reads.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names the variable that cannot be read.
    pub fn from_env() -> Result<Self, OptionsError> {
        Ok(Self::all_from_env()?.swap_remove(0))
    }

    /// As [`from_env`](Self::from_env), for each target that `HIP_EMU_ARCH` lists, separated by commas: `gfx1100,gfx942`. There
    /// is at least one.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names the variable that cannot be read.
    pub fn all_from_env() -> Result<Vec<Self>, OptionsError> {
        let mut options = Self::default();
        let mut targets = options.target.clone();
        read("HIP_EMU_ARCH", &mut targets)?;
        read("HIP_EMU_SEED", &mut options.seed)?;
        read("HIP_EMU_THREADS", &mut options.threads)?;
        read("HIP_EMU_INSTRUCTION_LIMIT", &mut options.instruction_limit)?;
        read("HIP_EMU_PERTURB", &mut options.perturb)?;
        read("HIP_EMU_CHECK", &mut options.checks)?;
        let of = |target: &str| Self { target: target.trim().to_owned(), ..options.clone() };
        Ok(targets.split(',').map(of).collect())
    }
}

/// Sets an option to what a variable of the environment says, if it is there.
fn read<T: FromStr<Err: Error + Send + Sync + 'static>>(
    variable: &'static str,
    option: &mut T,
) -> Result<(), OptionsError> {
    let Some(found) = env::var_os(variable) else { return Ok(()) };
    let found = found.to_string_lossy().into_owned();
    *option = found.parse().map_err(|source| OptionsError { variable, found, source: Box::new(source) })?;
    Ok(())
}

/// A variable of the environment that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{variable} is {found:?}: unset it or correct it")]
pub struct OptionsError {
    /// The variable.
    pub variable: &'static str,
    /// Its value.
    pub found: String,
    /// What is wrong with it.
    pub source: Box<dyn Error + Send + Sync>,
}

/// Shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Work-groups in x, y, z.
    pub groups: [u32; 3],
    /// Work-items of a group in x, y, z.
    pub block: [u32; 3],
    /// Bytes of LDS beside those that the kernel declares.
    pub dynamic_lds: u32,
}

/// What a launch did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Instructions executed, one for all lanes of a wave.
    pub instructions: u64,
    /// By kind, with what they moved; where [`Options::counts`] asks for it.
    pub counters: Option<Box<Counters>>,
    /// Operations that ran whose low bits hardware does not specify: their mnemonics, in a fixed order, and how often each ran,
    /// once for all lanes of a wave. Where there are none, results are those of hardware, bit for bit, as far as the crate's
    /// front page says that operations are executed as they are specified.
    pub approximate: Vec<(&'static str, u64)>,
}

/// One emulated card.
#[derive(Debug)]
pub struct Machine {
    options: Options,
    memory: Arc<Memory>,
    pool: Option<rayon::ThreadPool>,
}

impl Machine {
    /// A card with empty memory.
    #[must_use]
    pub fn new(options: Options) -> Self {
        // Without threads of its own the card runs on the caller's.
        let pool = match options.threads {
            1 => None,
            threads => rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok(),
        };
        let memory = Memory::new(options.checks.memory, options.checks.init);
        Self { options, memory: Arc::new(memory), pool }
    }

    /// How it behaves.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Loads a code object: a bare ELF file or an offload bundle, of which the card's entry is taken.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn load(&self, image: &[u8]) -> Result<Program, LoadError> {
        let target = TargetId::from_str(&self.options.target)?;
        if crate::Arch::from_target(&target.processor).is_none() {
            return Err(LoadError::UnsupportedTarget { target: target.to_string() });
        }
        Program::load(&self.memory, image, &target)
    }

    /// Runs a kernel to its end. `arguments` are the explicit ones, laid out as the kernel's metadata says.
    ///
    /// # Errors
    ///
    /// [`LaunchError`]; memory then holds what was written until the fault.
    pub fn launch(
        &self,
        program: &Program,
        kernel: &str,
        dispatch: &Dispatch,
        arguments: &[u8],
    ) -> Result<Report, LaunchError> {
        let (Some(info), Some((entry, descriptor))) = (program.kernel(kernel), program.descriptor(kernel))
        else {
            let available = program.kernels().iter().map(|kernel| kernel.name.clone()).collect();
            return Err(LaunchError::NoKernel { kernel: kernel.to_owned(), available });
        };
        if program.arch.lanes() == 32 && !descriptor.is_wave32() {
            return Err(LaunchError::WideWaves { kernel: kernel.to_owned() });
        }
        let most = if info.max_block == 0 { MOST_ITEMS } else { info.max_block.min(MOST_ITEMS) };
        let items = dispatch.block.iter().try_fold(1_u32, |product, &size| product.checked_mul(size));
        let threads = dispatch
            .groups
            .iter()
            .zip(dispatch.block)
            .all(|(&groups, block)| groups.checked_mul(block).is_some());
        if items.is_none_or(|items| items == 0 || items > most) || dispatch.groups.contains(&0) || !threads {
            return Err(LaunchError::BadDispatch { groups: dispatch.groups, block: dispatch.block, most });
        }
        let lds = u64::from(descriptor.group_segment_size) + u64::from(dispatch.dynamic_lds);
        if lds > u64::from(MOST_LDS) {
            return Err(LaunchError::TooMuchLds { bytes: lds, most: MOST_LDS });
        }
        if descriptor.private_segment_size > MOST_SCRATCH {
            return Err(LaunchError::TooMuchScratch {
                bytes: descriptor.private_segment_size,
                most: MOST_SCRATCH,
            });
        }
        let block = argument_block(info, descriptor, dispatch, arguments)?;
        let packet = packet(descriptor, dispatch);
        let own = [self.lend(&block)?, self.lend(&packet)?];
        let stack = if descriptor.properties & (1 << 11) != 0 { DYNAMIC_STACK } else { 0 };
        let scratch = usize::try_from(descriptor.private_segment_size).unwrap_or(usize::MAX);
        let code = program.translated(descriptor);
        let dispatched = Dispatched {
            kernel,
            arch: program.arch,
            code: &code,
            bytes: &program.code,
            code_at: program.code_at(),
            code_start: program.code_start,
            entry: usize::try_from(entry).unwrap_or(usize::MAX),
            descriptor,
            groups: dispatch.groups,
            block: dispatch.block,
            lds: usize::try_from(lds).unwrap_or(0),
            scratch: scratch.max(stack).next_multiple_of(4),
            arguments: own[0].0.address,
            packet: own[1].0.address,
            own: &[own[0].0, own[1].0],
            limit: self.options.instruction_limit,
            order_seed: self.options.seed,
            checks: self.options.checks,
            counts: self.options.counts,
            perturb: self.options.perturb,
        };
        let table = self.memory.lock();
        let result = run(&dispatched, &table, self.pool.as_ref());
        drop(table);
        match result {
            Ok(done) => Ok(Report {
                instructions: done.instructions,
                counters: done.counters.map(Box::new),
                approximate: done.approximate,
            }),
            Err(mut fault) => {
                fault.line = program.line(fault.pc);
                if let Some(earlier) = &mut fault.earlier {
                    earlier.line = program.line(earlier.pc);
                }
                Err(LaunchError::Fault(fault))
            }
        }
    }

    /// Puts bytes into memory for the time of a launch.
    fn lend(&self, bytes: &[u8]) -> Result<Lent<'_>, LaunchError> {
        let address = self.memory.allocate(bytes.len())?;
        let lent = Lent(Allocation { address, bytes: bytes.len() }, &self.memory);
        self.memory.write(address, bytes)?;
        Ok(lent)
    }
}

/// An allocation that is freed when dropped.
struct Lent<'a>(Allocation, &'a Memory);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let freed = self.1.free(self.0.address);
        debug_assert!(freed.is_ok(), "what was lent is an allocation");
    }
}

/// The explicit arguments, then the hidden ones that the kernel's metadata names.
fn argument_block(
    info: &KernelInfo,
    descriptor: &KernelDescriptor,
    dispatch: &Dispatch,
    arguments: &[u8],
) -> Result<Vec<u8>, LaunchError> {
    let size = usize::try_from(info.kernarg_size.max(descriptor.kernarg_size)).unwrap_or(0).min(1 << 16);
    let end = |arg: &hsaco::ArgInfo| {
        usize::try_from(u64::from(arg.offset) + u64::from(arg.size)).unwrap_or(usize::MAX)
    };
    let explicit = info.explicit_args().map(end).max().unwrap_or(0);
    if arguments.len() < explicit {
        return Err(LaunchError::BadArguments { expected: explicit, found: arguments.len() });
    }
    // Compilers widen scalar loads beyond the last argument.
    let mut block = vec![0; size.max(explicit).next_multiple_of(64).max(64)];
    for (place, byte) in block.iter_mut().zip(arguments.get(..explicit).unwrap_or(&[])) {
        *place = *byte;
    }
    for arg in &info.args {
        let ValueKind::Hidden(name) = &arg.kind else { continue };
        let value = hidden(name, dispatch, descriptor).to_le_bytes();
        let start = usize::try_from(arg.offset).unwrap_or(usize::MAX);
        let places = block.get_mut(start..).unwrap_or(&mut []);
        for (place, byte) in places.iter_mut().zip(value).take(usize::try_from(arg.size.min(8)).unwrap_or(0))
        {
            *place = byte;
        }
    }
    Ok(block)
}

/// The value of a hidden argument. Pointers to services that there are none of are null.
fn hidden(name: &str, dispatch: &Dispatch, descriptor: &KernelDescriptor) -> u64 {
    let axis = match name.as_bytes().last() {
        Some(b'y') => 1,
        Some(b'z') => 2,
        _ => 0,
    };
    let dimensions = 3 - dispatch
        .groups
        .iter()
        .zip(dispatch.block)
        .rev()
        .take_while(|&(&groups, block)| groups * block == 1)
        .count();
    match name.trim_start_matches("hidden_") {
        "block_count_x" | "block_count_y" | "block_count_z" => u64::from(dispatch.groups[axis]),
        "group_size_x" | "group_size_y" | "group_size_z" => u64::from(dispatch.block[axis]),
        "grid_dims" => dimensions.max(1) as u64,
        "dynamic_lds_size" => u64::from(dispatch.dynamic_lds),
        "private_base" => u64::from(crate::exec::PRIVATE_APERTURE),
        "shared_base" => u64::from(crate::exec::SHARED_APERTURE),
        "private_segment_size" => u64::from(descriptor.private_segment_size),
        _ => 0,
    }
}

/// The queue's packet, from which older code reads the sizes (HSA runtime specification, "Kernel dispatch packet").
fn packet(descriptor: &KernelDescriptor, dispatch: &Dispatch) -> [u8; PACKET] {
    let mut bytes = [0; PACKET];
    let mut put = |at: usize, value: &[u8]| {
        for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
            *place = *byte;
        }
    };
    put(0, &2_u16.to_le_bytes());
    put(2, &3_u16.to_le_bytes());
    for (axis, size) in dispatch.block.iter().enumerate() {
        put(4 + 2 * axis, &u16::try_from(*size).unwrap_or(u16::MAX).to_le_bytes());
    }
    for (axis, (groups, block)) in dispatch.groups.iter().zip(dispatch.block).enumerate() {
        put(12 + 4 * axis, &groups.wrapping_mul(block).to_le_bytes());
    }
    put(24, &descriptor.private_segment_size.to_le_bytes());
    put(28, &(descriptor.group_segment_size.wrapping_add(dispatch.dynamic_lds)).to_le_bytes());
    bytes
}
