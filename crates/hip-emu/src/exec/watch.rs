//! What can be watched while waves run.

use crate::{
    LaunchFault,
    exec::{environment::Environment, op::Op, wave::Wave},
};

/// A work-group of a launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupId {
    /// In x, y, z.
    pub(super) id: [u32; 3],
    /// Among all groups.
    pub(super) number: u64,
}

/// Registers that were filled when a wave started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    /// A bit for each scalar register.
    pub(super) scalars: u64,
    /// How many vector registers, from the first one on.
    pub(super) rows: usize,
}

/// Is shown each instruction before it runs, and may stop the launch.
pub(super) trait Watch<const L: usize> {
    /// What is kept for a wave.
    type Wave;
    /// What is kept for a group.
    type Group;

    /// A group starts.
    fn group(&mut self, group: GroupId, lds: usize) -> Self::Group;

    /// A wave starts, with the registers that were given.
    fn wave(&mut self, wave: &Wave<L>, group: GroupId, given: Given) -> Self::Wave;

    /// The instruction at the wave's program counter is about to run.
    fn before(
        &mut self,
        on: &mut Self::Wave,
        group: &mut Self::Group,
        wave: &Wave<L>,
        ops: &[Op<L>],
        environment: &mut Environment<'_>,
    ) -> Result<(), Box<LaunchFault>>;

    /// The waves of a group have met at a barrier.
    fn barrier<'a>(&mut self, group: &mut Self::Group, waves: impl Iterator<Item = &'a mut Self::Wave>)
    where
        Self::Wave: 'a;
}

/// Nothing is watched.
pub(super) struct Unwatched;

impl<const L: usize> Watch<L> for Unwatched {
    type Wave = ();
    type Group = ();

    fn group(&mut self, _group: GroupId, _lds: usize) {}

    fn wave(&mut self, _wave: &Wave<L>, _group: GroupId, _given: Given) {}

    #[inline(always)]
    fn before(
        &mut self,
        _on: &mut (),
        _group: &mut (),
        _wave: &Wave<L>,
        _ops: &[Op<L>],
        _environment: &mut Environment<'_>,
    ) -> Result<(), Box<LaunchFault>> {
        Ok(())
    }

    fn barrier<'a>(&mut self, _group: &mut (), _waves: impl Iterator<Item = &'a mut ()>) {}
}
