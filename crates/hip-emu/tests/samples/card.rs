//! One emulated card with one build loaded: buffers, arguments, launches.

use std::marker::PhantomData;

use bytemuck::Pod;
use hip_emu::{Arch, Checks, Dispatch, LaunchError, Machine, Options, Program};

use crate::compile::{Build, Dialect, TARGETS, builds};

/// An emulated card with one build's kernels.
pub(crate) struct Card {
    label: String,
    machine: Machine,
    program: Program,
}

/// An allocation of exactly `count` values, so that the executor sees each access beyond them.
pub(crate) struct Buffer<T> {
    address: u64,
    count: usize,
    element: PhantomData<T>,
}

/// The explicit arguments of a launch in order, each with its bytes.
#[derive(Default)]
pub(crate) struct Arguments(Vec<Vec<u8>>);

impl Arguments {
    /// Appends a plain value.
    pub(crate) fn value<T: Pod>(mut self, value: T) -> Arguments {
        self.0.push(bytemuck::bytes_of(&value).to_vec());
        self
    }

    /// Appends a count as an `int`.
    pub(crate) fn size(self, count: usize) -> Arguments {
        self.value(i32::try_from(count).unwrap())
    }

    /// Appends a pointer to a buffer's first value.
    pub(crate) fn buffer<T>(self, buffer: &Buffer<T>) -> Arguments {
        self.value(buffer.address)
    }
}

/// Runs `test` for each build of `source`, on a card that checks whatever it can: right kernels pass.
pub(crate) fn each_build(dialect: Dialect, source: &str, defines: &[&str], test: impl Fn(&Card)) {
    each_build_for(TARGETS, dialect, source, defines, test);
}

/// The same, for some targets.
pub(crate) fn each_build_for(
    targets: &[&'static str],
    dialect: Dialect,
    source: &str,
    defines: &[&str],
    test: impl Fn(&Card),
) {
    for build in targets.iter().flat_map(|target| builds(dialect, source, target, defines).to_vec()) {
        test(&Card::new(&build, Checks::ALL));
    }
}

impl Card {
    pub(crate) fn new(build: &Build, checks: Checks) -> Card {
        let mut options = Options::from_env().unwrap();
        (options.target, options.checks) = (build.target.to_owned(), checks);
        let machine = Machine::new(options);
        let program = machine.load(&build.image).unwrap_or_else(|error| panic!("{build}: load: {error}"));
        Card { label: build.to_string(), machine, program }
    }

    /// Lanes of its waves.
    pub(crate) fn lanes(&self) -> usize {
        Arch::from_target(&self.machine.options().target).unwrap().lanes().into()
    }

    /// The source, the compiler and the optimisation.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// A buffer that holds `values`.
    pub(crate) fn upload<T: Pod>(&self, values: &[T]) -> Buffer<T> {
        let bytes = bytemuck::cast_slice(values);
        let address = self.machine.memory().allocate(bytes.len()).unwrap();
        self.machine.memory().write(address, bytes).unwrap();
        Buffer { address, count: values.len(), element: PhantomData }
    }

    /// The values that a buffer holds now.
    pub(crate) fn download<T: Pod>(&self, buffer: &Buffer<T>) -> Vec<T> {
        let mut values = vec![T::zeroed(); buffer.count];
        self.machine.memory().read(buffer.address, bytemuck::cast_slice_mut(&mut values)).unwrap();
        values
    }

    /// Runs a kernel; panics with the build and the kernel if it fails.
    pub(crate) fn launch(&self, kernel: &str, groups: [usize; 3], block: usize, arguments: Arguments) {
        if let Err(error) = self.try_launch(kernel, groups, block, 0, arguments) {
            panic!("{}: {kernel}: {error}", self.label);
        }
    }

    /// Runs a kernel that may fail. The arguments' sizes must be those of the metadata.
    pub(crate) fn try_launch(
        &self,
        kernel: &str,
        groups: [usize; 3],
        block: usize,
        dynamic_lds: u32,
        arguments: Arguments,
    ) -> Result<(), LaunchError> {
        let [groups, block] =
            [groups, [block, 1, 1]].map(|sizes| sizes.map(|size| u32::try_from(size).unwrap()));
        let dispatch = Dispatch { groups, block, dynamic_lds };
        let arguments = self.argument_block(kernel, &arguments);
        self.machine.launch(&self.program, kernel, &dispatch, &arguments).map(|_report| ())
    }

    /// The arguments where the metadata puts them.
    fn argument_block(&self, kernel: &str, arguments: &Arguments) -> Vec<u8> {
        let label = &self.label;
        let info = self.program.kernel(kernel).unwrap_or_else(|| panic!("{label}: no kernel {kernel}"));
        let slots: Vec<_> = info.explicit_args().collect();
        let sizes: Vec<_> = slots.iter().map(|slot| slot.size as usize).collect();
        assert_eq!(
            arguments.0.iter().map(Vec::len).collect::<Vec<_>>(),
            sizes,
            "{label}: arguments of {kernel}"
        );
        let mut block = Vec::new();
        for (slot, bytes) in slots.iter().zip(&arguments.0) {
            block.resize(slot.offset as usize, 0);
            block.extend_from_slice(bytes);
        }
        block
    }
}
