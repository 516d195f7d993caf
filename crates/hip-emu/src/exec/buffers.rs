//! Buffers: global memory through a descriptor.

use crate::{
    FaultKind,
    exec::{
        element::{scalar32, words},
        environment::Environment,
        op::{Op, Place, Source},
        shape::lanes,
        space::{ADDRESS, BASE, DATA2, Global, Scratch, Space},
        wave::Wave,
    },
};

/// Global memory through a descriptor with a range check: reads outside give zero, writes are dropped.
pub(super) struct Buffer;

/// Where the descriptor of scratch points: above all memory, within the 48 bits of an address.
const SCRATCH: u64 = 0xff00_0000_0000;
/// Descriptor flag of an operation: words are interleaved where the upper bit of a two-bit field says so, as before gfx11.
pub(super) const ONE_SWIZZLE: u8 = 4;

/// The descriptor that a wave of `lanes` lanes finds its scratch by, in two halves: words interleaved by lane, without a range.
pub(super) const fn scratch_descriptor(lanes: usize) -> [u64; 2] {
    let (swizzled, unchecked, adds_lane) = (1 << 63, 2 << 60, 1 << 55);
    let together = if lanes > 32 { 3 << 53 } else { 2 << 53 };
    [SCRATCH | swizzled, u32::MAX as u64 | unchecked | adds_lane | together]
}

/// The lane whose scratch an address of that descriptor means, and where it lies there.
pub(super) fn scratch_place<const L: usize>(address: u64) -> Option<(usize, u64)> {
    if address >> 40 != SCRATCH >> 40 {
        return None;
    }
    let (word, byte) = ((address - SCRATCH) / 4, address % 4);
    let lane = usize::try_from(word % L as u64).ok()?;
    Some((lane, word / L as u64 * 4 + byte))
}

/// The address of a lane that is out of range.
const OUTSIDE: u64 = u64::MAX - 64;
/// The address of a lane whose access hardware would split or find in a way that is not computed.
const UNKNOWN: u64 = u64::MAX - 128;

/// Whether a lane's address stands for no place in memory.
pub(super) const fn is_outside(address: u64) -> bool {
    address >= UNKNOWN
}

/// Where a lane's access goes.
enum Reach {
    Inside,
    Outside,
    /// The lane's own scratch.
    Private(u64),
}

/// Whether a lane's address, or one of the words after it, stands for something else.
#[inline(always)]
fn reach<const L: usize>(lane: usize, address: u64) -> Result<Reach, FaultKind> {
    if let Some((owner, place)) = scratch_place::<L>(address) {
        return if owner == lane { Ok(Reach::Private(place)) } else { Err(FaultKind::Unsupported) };
    }
    match address {
        OUTSIDE.. => Ok(Reach::Outside),
        UNKNOWN.. => Err(FaultKind::Unsupported),
        _ => Ok(Reach::Inside),
    }
}

/// Fails for an address that is not computed.
pub(super) fn reach_of(address: u64) -> Result<(), FaultKind> {
    if (UNKNOWN..OUTSIDE).contains(&address) { Err(FaultKind::Unsupported) } else { Ok(()) }
}

/// A buffer's descriptor (RDNA3 ISA, "Buffer resource descriptor").
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    base: u64,
    stride: u64,
    records: u64,
    /// Bytes that stay together where elements of consecutive records are interleaved, and records that are.
    swizzle: Option<(u64, u64)>,
    /// How the range is checked.
    select: u32,
    /// The lane's number is added to the index.
    adds_lane: bool,
}

impl Descriptor {
    const fn new(words: [u32; 4], flags: u8) -> Self {
        let swizzle = match words[1] >> 30 {
            0 => None,
            bits if flags & ONE_SWIZZLE != 0 => {
                if bits & 2 != 0 {
                    Some((4, 8 << (words[3] >> 21 & 3)))
                } else {
                    None
                }
            }
            size => Some((2 << size, 8 << (words[3] >> 21 & 3))),
        };
        Self {
            base: words[0] as u64 | ((words[1] & 0xffff) as u64) << 32,
            stride: (words[1] >> 16 & 0x3fff) as u64,
            records: words[2] as u64,
            swizzle,
            select: words[3] >> 28 & 3,
            adds_lane: words[3] >> 23 & 1 != 0,
        }
    }

    /// Where `bytes` bytes at an offset of a record lie. Elements with a format are outside as soon as a part of them is.
    fn place(&self, index: u64, offset: u64, scalar: u64, bytes: u64, whole: bool) -> u64 {
        let Self { base, stride, records, swizzle, select, .. } = *self;
        let raw = swizzle.is_none() && (stride == 0 || select == 3);
        let start = if raw { index * stride + offset + scalar } else { offset };
        let outside = match select {
            _ if raw => start >= records,
            0 => index >= records || offset >= stride,
            1 => index >= records,
            2 => records == 0,
            // Not specified for interleaved records.
            _ => return UNKNOWN,
        };
        let end = if raw { records } else { stride };
        let leaves = (raw || select == 0) && start + bytes > end;
        let splits = swizzle.is_some_and(|(unit, _)| offset % unit + bytes > unit);
        if outside || (leaves && whole) {
            return OUTSIDE;
        }
        if leaves || splits {
            return UNKNOWN;
        }
        let within = match swizzle {
            None => index * stride + offset,
            Some((unit, together)) => {
                let (block, place) = (index / together, index % together);
                (block * stride + offset / unit * unit) * together + place * unit + offset % unit
            }
        };
        base.wrapping_add(scalar).wrapping_add(within)
    }
}

fn buffer_addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>, bytes: u8, whole: bool) -> [u64; L] {
    let Place::Scalar(first) = op.sources[BASE].place else { return [UNKNOWN; L] };
    let descriptor =
        Descriptor::new(std::array::from_fn(|word| wave.scalar(usize::from(first) + word)), op.flags);
    let scalar = u64::from(scalar32(wave, op.sources[DATA2].place));
    let (indexed, offset_in_register) = (op.flags & 1 != 0, op.flags & 2 != 0);
    let zero = Source::ZERO;
    let address = &op.sources[ADDRESS];
    let second = match address.place {
        Place::Vector(first) if indexed => Source::plain(Place::Vector(first + 1)),
        _ => *address,
    };
    let indices = words(wave, if indexed { address } else { &zero });
    let offsets = words(wave, if offset_in_register { &second } else { &zero });
    lanes(|lane| {
        let index = u64::from(indices[lane]) + if descriptor.adds_lane { lane as u64 } else { 0 };
        let offset = u64::from(offsets[lane]) + u64::from(op.immediate.cast_unsigned());
        descriptor.place(index, offset, scalar, bytes.into(), whole)
    })
}

/// The addresses of elements with a format, `bytes` bytes each.
pub(super) fn element_addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>, bytes: u8) -> [u64; L] {
    buffer_addresses(wave, op, bytes, true)
}

impl Space for Buffer {
    fn addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L] {
        buffer_addresses(wave, op, op.bytes, false)
    }

    fn load<const L: usize>(
        wave: &Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        bytes: usize,
    ) -> Result<u32, FaultKind> {
        match reach::<L>(lane, address)? {
            Reach::Inside => Global::load(wave, at, lane, address, bytes),
            Reach::Private(place) => Scratch::load(wave, at, lane, place, bytes),
            Reach::Outside => Ok(0),
        }
    }

    fn store<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        bytes: usize,
        value: u32,
    ) -> Result<(), FaultKind> {
        match reach::<L>(lane, address)? {
            Reach::Inside => Global::store(wave, at, lane, address, bytes, value),
            Reach::Private(place) => Scratch::store(wave, at, lane, place, bytes, value),
            Reach::Outside => Ok(()),
        }
    }

    fn update32<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        f: impl Fn(u32) -> u32,
    ) -> Result<u32, FaultKind> {
        match reach::<L>(lane, address)? {
            Reach::Inside => Global::update32(wave, at, lane, address, f),
            Reach::Private(place) => Scratch::update32(wave, at, lane, place, f),
            Reach::Outside => Ok(0),
        }
    }

    fn update64<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, FaultKind> {
        match reach::<L>(lane, address)? {
            Reach::Inside => Global::update64(wave, at, lane, address, f),
            Reach::Private(place) => Scratch::update64(wave, at, lane, place, f),
            Reach::Outside => Ok(0),
        }
    }
}
