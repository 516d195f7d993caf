//! What an operation makes of undefined bits.
//!
//! It is run several times on a copy of what it touches, each time with other values in their place. Bits of its results
//! that differ between the runs are undefined too, the others are not: what the operation does with its operands need not
//! be known here.

use crate::exec::{
    check::{
        facts::{Facts, Span},
        undefined::{Decides, Root, Undefined},
    },
    element::scalar32,
    environment::Environment,
    group::run_one,
    memory_ops::active,
    op::{Op, Place},
    wave::{EXEC, SCALARS, VCC, Wave},
};
use crate::finding::Use;

/// Values that stand for undefined bits, beside those that other operands have.
const FILLS: [u32; 3] = [0, u32::MAX, 0x3f9d_70a4];

impl<const L: usize> Undefined<L> {
    /// Runs the operation with several values in place of the undefined bits.
    pub(super) fn sample(
        &mut self,
        spare: &mut Wave<L>,
        facts: &Facts<L>,
        wave: &Wave<L>,
        ops: &[Op<L>],
        environment: &mut Environment<'_>,
        root: Root,
    ) -> Result<(), Decides> {
        let touched = Touched::by(facts, self.lanes.len());
        let Some(op) = ops.get(wave.pc) else { return Ok(()) };
        let other = [0, 1].map(|index| op.sources[index].place);
        (spare.mode, spare.number, spare.executed, spare.sgprs) =
            (wave.mode, wave.number, wave.executed, wave.sgprs);
        // What is tried here does not count as run.
        let executed = environment.executed;
        let mut first = None;
        let mut differ = State { rows: vec![[0; L]; touched.rows.len()], ..State::default() };
        differ.scalars.resize(touched.scalars.len(), 0);
        for sample in 0..FILLS.len() + 2 {
            let fill = |lane: usize| match FILLS.get(sample) {
                Some(&fill) => fill,
                None => value(wave, other[(sample - FILLS.len()) % 2], lane),
            };
            self.prepare(spare, wave, &touched, fill, sample % 2 == 1);
            run_one(spare, ops, environment);
            environment.executed = executed;
            if spare.stop.take().is_some() {
                // The wave itself will meet it.
                return Ok(());
            }
            match &first {
                None => first = Some(State::of(spare, &touched)),
                Some(first) => differ.collect(first, spare, &touched),
            }
        }
        self.take_over(&touched, &differ, root)
    }

    /// Makes `spare` the wave, with `fill` in place of undefined bits.
    fn prepare(
        &self,
        spare: &mut Wave<L>,
        wave: &Wave<L>,
        touched: &Touched,
        fill: impl Fn(usize) -> u32,
        scc: bool,
    ) {
        spare.pc = wave.pc;
        spare.indexes = wave.indexes;
        spare.scc = if self.scc { scc } else { wave.scc };
        for &register in &touched.scalars {
            let bits = self.scalars[register];
            spare.sgprs[register] = wave.sgprs[register] & !bits | fill(0) & bits;
        }
        for &register in &touched.rows {
            let mut row = *wave.row(register);
            let lanes = self.lanes.get(register).copied().unwrap_or(0);
            for lane in active::<L>(lanes) {
                let bits = self.bits(register, lane);
                row[lane] = row[lane] & !bits | fill(lane) & bits;
            }
            spare.write_row(register, &row, Wave::<L>::all_lanes());
        }
    }

    /// Takes the bits that differed between the runs as undefined.
    fn take_over(&mut self, touched: &Touched, differ: &State<L>, root: Root) -> Result<(), Decides> {
        for (&register, &bits) in touched.scalars.iter().zip(&differ.scalars) {
            if bits != 0 && (EXEC..EXEC + L / 32).contains(&register) {
                let lane = 32 * (register - EXEC) + usize::try_from(bits.trailing_zeros()).unwrap_or(0);
                return Err(Decides { used: Use::ActiveLanes, root, lane: Some(lane) });
            }
            let known = self.scalar_roots.get(register).copied().filter(|_| self.scalars[register] != 0);
            self.set_scalar(register, bits, known.unwrap_or(root));
        }
        for (&register, row) in touched.rows.iter().zip(&differ.rows) {
            let before = self.lanes.get(register).copied().unwrap_or(0);
            let root = if before == 0 { root } else { self.root(register) };
            for (lane, &bits) in
                row.iter().enumerate().filter(|&(lane, &bits)| bits != 0 || before >> lane & 1 != 0)
            {
                self.set_bits(register, lane, bits, root);
            }
        }
        if differ.scc && !self.scc {
            self.scc_root = root;
        }
        self.scc = differ.scc;
        Ok(())
    }
}

/// The registers that an operation may read or write.
struct Touched {
    rows: Vec<usize>,
    scalars: Vec<usize>,
}

impl Touched {
    fn by<const L: usize>(facts: &Facts<L>, rows: usize) -> Self {
        if facts.relative {
            return Self { rows: (0..rows).collect(), scalars: (0..SCALARS).collect() };
        }
        let registers = |vector: bool| {
            let spans =
                facts.reads.iter().chain(facts.writes.iter()).filter(move |span| span.vector == vector);
            spans.flat_map(Span::registers)
        };
        let (mut rows, mut scalars): (Vec<usize>, Vec<usize>) =
            (registers(true).collect(), registers(false).collect());
        scalars.extend([VCC, VCC + 1, EXEC, EXEC + 1]);
        for registers in [&mut rows, &mut scalars] {
            registers.sort_unstable();
            registers.dedup();
        }
        Self { rows, scalars }
    }
}

/// The registers that were touched, or the bits in which they differ.
#[derive(Default)]
struct State<const L: usize> {
    rows: Vec<[u32; L]>,
    scalars: Vec<u32>,
    scc: bool,
}

impl<const L: usize> State<L> {
    fn of(wave: &Wave<L>, touched: &Touched) -> Self {
        Self {
            rows: touched.rows.iter().map(|&register| *wave.row(register)).collect(),
            scalars: touched.scalars.iter().map(|&register| wave.sgprs[register]).collect(),
            scc: wave.scc,
        }
    }

    /// Adds the bits in which a wave differs from `first`.
    fn collect(&mut self, first: &Self, wave: &Wave<L>, touched: &Touched) {
        for (index, &register) in touched.rows.iter().enumerate() {
            let (row, before) = (wave.row(register), &first.rows[index]);
            for (place, (bits, before)) in self.rows[index].iter_mut().zip(row.iter().zip(before)) {
                *place |= bits ^ before;
            }
        }
        for (index, &register) in touched.scalars.iter().enumerate() {
            self.scalars[index] |= wave.sgprs[register] ^ first.scalars[index];
        }
        self.scc |= wave.scc != first.scc;
    }
}

/// The value of an operand in a lane.
fn value<const L: usize>(wave: &Wave<L>, place: Place, lane: usize) -> u32 {
    match place {
        Place::Vector(first) => wave.row(usize::from(first))[lane],
        place => scalar32(wave, place),
    }
}
