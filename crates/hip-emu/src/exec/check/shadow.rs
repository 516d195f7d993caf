//! Undefined bits of memory, and their way to registers and back.

use crate::{
    Half,
    exec::{
        check::{
            WatchedGroup,
            access::{Access, Kind},
            facts::{Facts, Span},
            memory::{Part, Run, Where},
            undefined::{Decides, Root, Undefined},
        },
        memory_ops::active,
        wave::low,
    },
    finding::{Origin, Use},
    memory::{Allocation, Table},
    written::Written,
};

/// Most words that a lane's access has.
const WORDS: usize = 16;

/// Undefined bits of what was read, word by word.
#[derive(Clone, Copy)]
struct Found {
    words: [u32; WORDS],
    root: Root,
}

/// What is known of memory, and of the registers of the wave that accesses it.
pub(super) struct Shadow<'a, 'b, const L: usize> {
    table: &'a Table<'a>,
    /// The allocation of the last access of global memory.
    last: &'b mut Option<(Allocation, &'a Written)>,
    lds: &'b mut [u8],
    undefined: &'b mut Undefined<L>,
    /// Word of the instruction.
    at: usize,
}

impl<'a, 'b, const L: usize> Shadow<'a, 'b, L> {
    pub(super) fn new(
        table: &'a Table<'a>,
        last: &'b mut Option<(Allocation, &'a Written)>,
        group: &'b mut WatchedGroup,
        undefined: &'b mut Undefined<L>,
        at: usize,
    ) -> Self {
        Self { table, last, lds: &mut group.lds_undefined, undefined, at }
    }

    /// Follows an access whose results are defined so far.
    pub(super) fn follow(
        &mut self,
        facts: &Facts<L>,
        access: &Access<L>,
        (parts, runs): (&[Part], &[Run]),
        (data, place): (usize, usize),
        mask: u64,
    ) -> Result<(), Decides> {
        let target = facts.writes.iter().next();
        let offset = place * usize::from(access.bytes.div_ceil(4));
        if access.typed || access.from_buffer {
            // What comes through a conversion, or past the registers, counts as written.
            if access.kind == Kind::Store {
                runs.iter().for_each(|run| self.write_defined(run));
            }
            return Ok(());
        }
        match access.kind {
            Kind::Load => {
                let bytes = usize::from(access.bytes);
                let scratch = parts.iter().filter(|part| part.at == Where::Scratch);
                if scratch.into_iter().any(|part| !self.is_own_written(part, bytes))
                    || runs.iter().any(|run| !self.is_written(run))
                {
                    for part in parts {
                        let found = self.read(part, access.bytes.into());
                        target
                            .into_iter()
                            .for_each(|target| self.deliver(access, (target, offset), part, &found));
                    }
                }
            }
            Kind::Store => {
                let words = usize::from(access.bytes.div_ceil(4));
                if (data..data.saturating_add(words)).all(|row| self.undefined.is_defined(row, mask)) {
                    runs.iter().for_each(|run| self.write_defined(run));
                    let zeros = [0; 16];
                    let zeros = zeros.get(..access.bytes.into()).unwrap_or(&zeros);
                    let scratch = parts.iter().filter(|part| part.at == Where::Scratch);
                    scratch.for_each(|part| self.write(part, zeros));
                    return Ok(());
                }
                for part in parts {
                    let bits = self.data_bits(part, access, data);
                    self.expect_stored(part, access, &bits, data)?;
                    self.write(part, bits.get(..access.bytes.into()).unwrap_or(&bits));
                }
            }
            Kind::Update { replaces, .. } => {
                for part in parts {
                    let found = self.update(part, access, data, replaces)?;
                    let lanes = if access.shared { mask } else { 1 << part.lane };
                    for lane in active::<L>(lanes) {
                        let part = Part { lane, ..*part };
                        target
                            .into_iter()
                            .for_each(|target| self.deliver(access, (target, offset), &part, &found));
                    }
                }
            }
        }
        Ok(())
    }

    /// The allocation of a range of global memory and what of it is written, where that is known.
    fn global(&mut self, address: u64, bytes: u64) -> Option<(Allocation, &'a Written)> {
        let bytes = usize::try_from(bytes).ok()?;
        match *self.last {
            Some((allocation, written)) if allocation.holds(address, bytes) => Some((allocation, written)),
            _ => {
                let found = self.table.written(address, bytes)?;
                *self.last = Some(found);
                Some(found)
            }
        }
    }

    /// Whether every byte of a part in LDS or scratch is defined.
    fn is_own_written(&self, part: &Part, bytes: usize) -> bool {
        let (memory, start) = self.own(part);
        let found = memory.get(start..).and_then(|memory| memory.get(..bytes));
        found.is_none_or(|found| found.iter().fold(0, |all, bits| all | bits) == 0)
    }

    /// Whether every byte of a run is defined; scratch has none.
    fn is_written(&mut self, run: &Run) -> bool {
        let bytes = usize::try_from(run.bytes).unwrap_or(0);
        match run.at {
            Where::Global => self.global(run.address, run.bytes).is_none_or(|(allocation, written)| {
                written.first_missing(allocation.offset(run.address), bytes).is_none()
            }),
            Where::Lds => {
                let start = usize::try_from(run.address).unwrap_or(usize::MAX);
                let found = self.lds.get(start..).and_then(|lds| lds.get(..bytes));
                found.is_none_or(|found| found.iter().all(|&bits| bits == 0))
            }
            Where::Scratch => true,
        }
    }

    /// Makes a run defined.
    fn write_defined(&mut self, run: &Run) {
        let bytes = usize::try_from(run.bytes).unwrap_or(0);
        match run.at {
            Where::Global => {
                if let Some((allocation, written)) = self.global(run.address, run.bytes) {
                    written.mark(allocation.offset(run.address), bytes);
                }
            }
            Where::Lds => {
                let start = usize::try_from(run.address).unwrap_or(usize::MAX);
                self.lds.iter_mut().skip(start).take(bytes).for_each(|bits| *bits = 0);
            }
            Where::Scratch => {}
        }
    }

    fn read(&mut self, part: &Part, bytes: usize) -> Found {
        let mut found = Found { words: [0; WORDS], root: Root::NONE };
        let at = self.at;
        let root = |origin| Root { origin, at: Some(at) };
        let mut put = |offset: usize, bits: u8| {
            if let Some(word) = found.words.get_mut(offset / 4) {
                *word |= u32::from(bits) << (8 * (offset % 4));
            }
        };
        let mut missing = None;
        if part.at == Where::Global {
            if let Some((allocation, written)) = self.global(part.address, bytes as u64) {
                let start = allocation.offset(part.address);
                for offset in (0..bytes).filter(|offset| written.first_missing(start + offset, 1).is_some()) {
                    put(offset, 0xff);
                    let address = part.address + offset as u64;
                    missing = missing.or(Some(root(Origin::Global { address, allocation })));
                }
            }
        } else {
            let (memory, start) = self.own(part);
            let bytes = memory.iter().skip(start).take(bytes).enumerate();
            for (offset, &bits) in bytes.filter(|(_, bits)| **bits != 0) {
                put(offset, bits);
                let address = low(part.address).wrapping_add(low(offset as u64));
                let lds = part.at == Where::Lds;
                let origin = if lds { Origin::Lds { address } } else { Origin::Scratch { address } };
                missing = missing.or(Some(root(origin)));
            }
        }
        found.root = missing.unwrap_or(Root::NONE);
        found
    }

    /// The undefined bits of LDS or of all lanes' scratch, and where the part starts.
    fn own(&self, part: &Part) -> (&[u8], usize) {
        let start = usize::try_from(part.address).unwrap_or(usize::MAX);
        match part.at {
            Where::Scratch => {
                let per_lane = self.undefined.scratch.len() / L;
                (&self.undefined.scratch, start.saturating_add(per_lane * part.lane))
            }
            Where::Global | Where::Lds => (self.lds, start),
        }
    }

    /// Sets the undefined bits of a part. Those of global memory are all defined.
    fn write(&mut self, part: &Part, bits: &[u8]) {
        if part.at == Where::Global {
            if let Some((allocation, written)) = self.global(part.address, bits.len() as u64) {
                written.mark(allocation.offset(part.address), bits.len());
            }
            return;
        }
        let (_, start) = self.own(part);
        let memory = if part.at == Where::Lds { &mut *self.lds } else { &mut self.undefined.scratch[..] };
        if let Some(places) = memory.get_mut(start..).and_then(|memory| memory.get_mut(..bits.len())) {
            places.copy_from_slice(bits);
        }
    }

    /// An operation on what was there before; gives what was undefined of it.
    fn update(
        &mut self,
        part: &Part,
        access: &Access<L>,
        data: usize,
        replaces: bool,
    ) -> Result<Found, Decides> {
        let bytes = usize::from(access.bytes);
        let before = self.read(part, bytes);
        let bits = self.data_bits(part, access, data);
        self.expect_stored(part, access, &bits, data)?;
        let was_undefined = before.words.iter().any(|&bits| bits != 0);
        let given = bits.get(..bytes).unwrap_or(&bits);
        if replaces || (!was_undefined && given.iter().all(|&bits| bits == 0)) {
            self.write(part, given);
        } else if part.at != Where::Global {
            self.write(part, &vec![0xff; bytes]);
        }
        Ok(before)
    }

    /// Undefined bits of the data that a lane stores.
    fn data_bits(&self, part: &Part, access: &Access<L>, data: usize) -> [u8; 16] {
        let mut bytes = [0; 16];
        let shift = if access.half == Half::High { 16 } else { 0 };
        let words = usize::from(access.bytes.div_ceil(4));
        for (word, chunk) in bytes.chunks_exact_mut(4).enumerate().take(words) {
            let bits = self.undefined.bits(data.saturating_add(word), part.lane) >> shift;
            chunk.copy_from_slice(&bits.to_le_bytes());
        }
        bytes
    }

    /// Fails when undefined bits go to global memory, where the host and other launches see them.
    fn expect_stored(
        &self,
        part: &Part,
        access: &Access<L>,
        bits: &[u8; 16],
        data: usize,
    ) -> Result<(), Decides> {
        let found = bits.iter().take(access.bytes.into()).position(|&bits| bits != 0);
        match found {
            Some(byte) if part.at == Where::Global => Err(Decides {
                used: Use::Stored,
                root: self.undefined.root(data.saturating_add(byte / 4)),
                lane: Some(part.lane),
            }),
            _ => Ok(()),
        }
    }

    /// Puts the undefined bits of what was read into the registers that it goes to.
    fn deliver(&mut self, access: &Access<L>, (target, offset): (Span, usize), part: &Part, found: &Found) {
        let (first, lane) = (usize::from(target.first) + offset, part.lane);
        if access.bytes >= 4 {
            let words = found.words.iter().enumerate().take(usize::from(access.bytes / 4));
            for (word, &bits) in words {
                if target.vector {
                    self.undefined.set_bits(first + word, lane, bits, found.root);
                } else {
                    self.undefined.set_scalar(first + word, bits, found.root);
                }
            }
            return;
        }
        let sign = found.words[0] >> (8 * access.bytes - 1) & 1 != 0;
        let above = if access.signed && sign { u32::MAX << (8 * access.bytes) } else { 0 };
        let bits = found.words[0] | above;
        let old = self.undefined.bits(first, lane);
        let bits = match access.half {
            Half::Whole => bits,
            Half::Low => old & 0xffff_0000 | bits & 0xffff,
            Half::High => old & 0xffff | bits << 16,
        };
        self.undefined.set_bits(first, lane, bits, found.root);
    }
}
