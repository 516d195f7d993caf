//! A card with the planted kernels, and buffers of which only a part may be written.

use std::ops::Range;

use hip_emu::{Checks, Counters, Dispatch, LaunchError, LaunchFault, Machine, MemoryError, Options, Program};
use hsaco::CodeObject;

/// Kernels with a mistake each, and the same without it.
pub(crate) const PLANTED: &[u8] = include_bytes!("../data/planted.gfx1100.hsaco");

/// The same for each architecture whose waits or barriers are others.
pub(crate) const EVERY: [&[u8]; 4] = [
    PLANTED,
    include_bytes!("../data/planted.gfx1030.hsaco"),
    include_bytes!("../data/planted.gfx1201.hsaco"),
    include_bytes!("../data/planted.gfx942.hsaco"),
];

/// The processor that an image is for.
pub(crate) fn processor(image: &[u8]) -> String {
    CodeObject::parse(image).unwrap().target().processor.clone()
}

/// Items of a work-group of every kernel.
pub(crate) const ITEMS: usize = 256;

/// An emulated card with one image.
pub(crate) struct Card {
    machine: Machine,
    program: Program,
}

/// A buffer on the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer(pub(crate) u64);

/// An argument of a kernel.
pub(crate) enum Argument {
    At(Buffer),
    Number(u32),
}

impl From<Buffer> for Argument {
    fn from(buffer: Buffer) -> Self {
        Self::At(buffer)
    }
}

impl From<u32> for Argument {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl Card {
    /// With the planted kernels.
    pub(crate) fn new(checks: Checks) -> Self {
        Self::with(PLANTED, checks, false)
    }

    pub(crate) fn with(image: &[u8], checks: Checks, counts: bool) -> Self {
        let mut options = Options::default();
        options.target = processor(image);
        (options.checks, options.counts, options.instruction_limit) = (checks, counts, 1 << 20);
        let machine = Machine::new(options);
        let program = machine.load(image).unwrap();
        Self { machine, program }
    }

    /// A buffer of `count` floats that nobody wrote.
    pub(crate) fn empty(&self, count: usize) -> Buffer {
        Buffer(self.machine.memory().allocate(4 * count).unwrap())
    }

    /// A buffer of `count` floats, of which those in `written` are written.
    pub(crate) fn part(&self, count: usize, written: Range<usize>) -> Buffer {
        let buffer = self.empty(count);
        let values: Vec<u8> = written.clone().flat_map(|index| (index as f32).to_le_bytes()).collect();
        self.write(Buffer(buffer.0 + 4 * written.start as u64), &values);
        buffer
    }

    pub(crate) fn floats(&self, count: usize) -> Buffer {
        self.part(count, 0..count)
    }

    pub(crate) fn words(&self, words: &[u32]) -> Buffer {
        let buffer = self.empty(words.len());
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(buffer, &bytes);
        buffer
    }

    pub(crate) fn write(&self, to: Buffer, bytes: &[u8]) {
        self.machine.memory().write(to.0, bytes).unwrap();
    }

    pub(crate) fn free(&self, buffer: Buffer) {
        self.machine.memory().free(buffer.0).unwrap();
    }

    pub(crate) fn copy(&self, to: Buffer, from: Buffer, count: usize) {
        self.machine.memory().copy(to.0, from.0, 4 * count).unwrap();
    }

    /// The first `count` floats, or why they cannot be read.
    pub(crate) fn read(&self, buffer: Buffer, count: usize) -> Result<Vec<f32>, MemoryError> {
        let mut bytes = vec![0; 4 * count];
        self.machine.memory().read(buffer.0, &mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect())
    }

    /// Runs a kernel in `groups` groups.
    pub(crate) fn run(
        &self,
        kernel: &str,
        groups: u32,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Result<Option<Box<Counters>>, LaunchError> {
        let mut packed = Vec::new();
        for argument in arguments {
            match argument {
                Argument::At(buffer) => packed.extend(buffer.0.to_le_bytes()),
                Argument::Number(number) => packed.extend(number.to_le_bytes()),
            }
        }
        let dispatch = Dispatch { groups: [groups, 1, 1], block: [256, 1, 1], dynamic_lds: 0 };
        Ok(self.machine.launch(&self.program, kernel, &dispatch, &packed)?.counters)
    }

    /// Runs a kernel that fails.
    pub(crate) fn fault(
        &self,
        kernel: &str,
        groups: u32,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Box<LaunchFault> {
        match self.run(kernel, groups, arguments) {
            Err(LaunchError::Fault(fault)) => fault,
            other => panic!("{kernel}: {other:?}"),
        }
    }
}

/// Only this one.
pub(crate) fn only(set: impl FnOnce(&mut Checks)) -> Checks {
    let mut checks = Checks::NONE;
    set(&mut checks);
    checks
}
