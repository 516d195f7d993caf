//! Address spaces: where a lane's address leads.

use crate::{
    FaultKind,
    exec::{
        element::{Element, scalar32, scalar64, words},
        environment::Environment,
        op::{Op, PRIVATE_APERTURE, Place, SHARED_APERTURE, Source},
        shape::{each, lanes},
        wave::{M0, Wave, low},
    },
};

/// Sources of a memory instruction: address, data, scalar base, second data.
pub(super) const ADDRESS: usize = 0;
pub(super) const DATA: usize = 1;
pub(super) const BASE: usize = 2;
pub(super) const DATA2: usize = 3;

/// Flag of an LDS operation whose addresses are rounded down to 8 bytes.
pub(super) const ALIGNED: u8 = 1;

/// A space that lanes address on their own.
pub(super) trait Space {
    /// The addresses of all lanes, the immediate offset included.
    fn addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L];
    fn load<const L: usize>(
        wave: &Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        bytes: usize,
    ) -> Result<u32, FaultKind>;
    fn store<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        bytes: usize,
        value: u32,
    ) -> Result<(), FaultKind>;
    /// Replaces a 32-bit word and gives the old one.
    fn update32<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        f: impl Fn(u32) -> u32,
    ) -> Result<u32, FaultKind> {
        let old = Self::load(wave, at, lane, address, 4)?;
        Self::store(wave, at, lane, address, 4, f(old))?;
        Ok(old)
    }
    /// Replaces a 64-bit word and gives the old one.
    fn update64<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, FaultKind> {
        let old = u64::from(Self::load(wave, at, lane, address, 4)?)
            | u64::from(Self::load(wave, at, lane, address.wrapping_add(4), 4)?) << 32;
        let new = f(old);
        Self::store(wave, at, lane, address, 4, low(new))?;
        Self::store(wave, at, lane, address.wrapping_add(4), 4, low(new >> 32))?;
        Ok(old)
    }
}

/// Sign-extends an immediate offset.
#[inline(always)]
fn offset<const L: usize>(op: &Op<L>) -> u64 {
    i64::from(op.immediate).cast_unsigned()
}

/// Global memory.
pub(super) struct Global;

impl Space for Global {
    #[inline(always)]
    fn addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L] {
        let offset = offset(op);
        match op.sources[BASE].place {
            Place::Constant(_) => {
                each(u64::row(wave, &op.sources[ADDRESS]), |address| address.wrapping_add(offset))
            }
            place => {
                let base = scalar64(wave, place).wrapping_add(offset);
                each(words(wave, &op.sources[ADDRESS]), |index| base.wrapping_add(u64::from(index)))
            }
        }
    }

    #[inline(always)]
    fn load<const L: usize>(
        _wave: &Wave<L>,
        at: &mut Environment<'_>,
        _lane: usize,
        address: u64,
        bytes: usize,
    ) -> Result<u32, FaultKind> {
        match bytes {
            1 => at.load8(address).map(u32::from),
            2 => at.load16(address).map(u32::from),
            _ => at.load32(address),
        }
    }

    #[inline(always)]
    fn store<const L: usize>(
        _wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        _lane: usize,
        address: u64,
        bytes: usize,
        value: u32,
    ) -> Result<(), FaultKind> {
        let [first, second, ..] = value.to_le_bytes();
        match bytes {
            1 => at.store8(address, first),
            2 => at.store16(address, u16::from_le_bytes([first, second])),
            _ => at.store32(address, value),
        }
    }

    fn update32<const L: usize>(
        _wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        _lane: usize,
        address: u64,
        f: impl Fn(u32) -> u32,
    ) -> Result<u32, FaultKind> {
        at.update32(address, f)
    }

    fn update64<const L: usize>(
        _wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        _lane: usize,
        address: u64,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, FaultKind> {
        at.update64(address, f)
    }
}

/// The group's memory.
pub(super) struct Lds;

impl Space for Lds {
    #[inline(always)]
    fn addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L] {
        let offset = op.immediate.cast_unsigned();
        let mask = if op.flags & ALIGNED != 0 { 0xfff8 } else { u32::MAX };
        each(words(wave, &op.sources[ADDRESS]), |address| u64::from(address.wrapping_add(offset) & mask))
    }

    #[inline(always)]
    fn load<const L: usize>(
        _wave: &Wave<L>,
        at: &mut Environment<'_>,
        _lane: usize,
        address: u64,
        bytes: usize,
    ) -> Result<u32, FaultKind> {
        let mut word = [0; 4];
        let found = at.lds(low(address), bytes)?;
        for (place, byte) in word.iter_mut().zip(found) {
            *place = *byte;
        }
        Ok(u32::from_le_bytes(word))
    }

    #[inline(always)]
    fn store<const L: usize>(
        _wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        _lane: usize,
        address: u64,
        bytes: usize,
        value: u32,
    ) -> Result<(), FaultKind> {
        for (place, byte) in at.lds(low(address), bytes)?.iter_mut().zip(value.to_le_bytes()) {
            *place = byte;
        }
        Ok(())
    }
}

/// As the space it stands for, but addressed by the lane's number.
macro_rules! by_lane {
    ($(#[$meta:meta])* $name:ident, $space:ty, $base:expr) => {
        $(#[$meta])*
        pub(super) struct $name;

        impl Space for $name {
            #[inline(always)]
            fn addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L] {
                let base: u64 = ($base)(scalar64(wave, op.sources[BASE].place), wave.scalar(M0), op.immediate);
                lanes(|lane| base.wrapping_add(4 * lane as u64))
            }

            #[inline(always)]
            fn load<const L: usize>(
                wave: &Wave<L>,
                at: &mut Environment<'_>,
                lane: usize,
                address: u64,
                bytes: usize,
            ) -> Result<u32, FaultKind> {
                <$space>::load(wave, at, lane, address, bytes)
            }

            #[inline(always)]
            fn store<const L: usize>(
                wave: &mut Wave<L>,
                at: &mut Environment<'_>,
                lane: usize,
                address: u64,
                bytes: usize,
                value: u32,
            ) -> Result<(), FaultKind> {
                <$space>::store(wave, at, lane, address, bytes, value)
            }
        }
    };
}

by_lane! {
    /// LDS from M0's address on, a word for each lane.
    LdsByLane, Lds, |_: u64, m0: u32, offset: i32| u64::from((m0 & 0xffff).wrapping_add(offset.cast_unsigned()))
}

by_lane! {
    /// Global memory from a scalar address on, a word for each lane.
    GlobalByLane, Global, |base: u64, _: u32, offset: i32| base.wrapping_add(i64::from(offset).cast_unsigned())
}

/// The lane's own memory.
pub(super) struct Scratch;

fn scratch_range(
    at: &Environment<'_>,
    lane: usize,
    address: u64,
    bytes: usize,
) -> Result<std::ops::Range<usize>, FaultKind> {
    let size = at.scratch_per_lane;
    let start = usize::try_from(low(address)).unwrap_or(usize::MAX);
    match start.checked_add(bytes) {
        Some(end) if end <= size => Ok(lane * size + start..lane * size + end),
        _ => Err(FaultKind::ScratchOutOfBounds { address: low(address), bytes, size }),
    }
}

impl Space for Scratch {
    #[inline(always)]
    fn addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L] {
        let base = scalar32(wave, op.sources[BASE].place).wrapping_add(op.immediate.cast_unsigned());
        each(words(wave, &op.sources[ADDRESS]), |address| u64::from(address.wrapping_add(base)))
    }

    #[inline(always)]
    fn load<const L: usize>(
        wave: &Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        bytes: usize,
    ) -> Result<u32, FaultKind> {
        let range = scratch_range(at, lane, address, bytes)?;
        let mut word = [0; 4];
        for (place, byte) in word.iter_mut().zip(wave.scratch.get(range).unwrap_or(&[])) {
            *place = *byte;
        }
        Ok(u32::from_le_bytes(word))
    }

    #[inline(always)]
    fn store<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        bytes: usize,
        value: u32,
    ) -> Result<(), FaultKind> {
        let range = scratch_range(at, lane, address, bytes)?;
        for (place, byte) in
            wave.scratch.get_mut(range).unwrap_or(&mut []).iter_mut().zip(value.to_le_bytes())
        {
            *place = byte;
        }
        Ok(())
    }
}

/// All of them, told apart by the upper half of the address.
pub(super) struct Flat;

macro_rules! by_aperture {
    ($address:ident, $method:ident($($argument:expr),*)) => {
        match low($address >> 32) {
            SHARED_APERTURE => Lds::$method($($argument),*),
            PRIVATE_APERTURE => Scratch::$method($($argument),*),
            _ => Global::$method($($argument),*),
        }
    };
}

impl Space for Flat {
    #[inline(always)]
    fn addresses<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L] {
        let offset = offset(op);
        each(u64::row(wave, &op.sources[ADDRESS]), |address| address.wrapping_add(offset))
    }

    fn load<const L: usize>(
        wave: &Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        bytes: usize,
    ) -> Result<u32, FaultKind> {
        by_aperture!(address, load(wave, at, lane, address, bytes))
    }

    fn store<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        bytes: usize,
        value: u32,
    ) -> Result<(), FaultKind> {
        by_aperture!(address, store(wave, at, lane, address, bytes, value))
    }

    fn update32<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        f: impl Fn(u32) -> u32,
    ) -> Result<u32, FaultKind> {
        by_aperture!(address, update32(wave, at, lane, address, f))
    }

    fn update64<const L: usize>(
        wave: &mut Wave<L>,
        at: &mut Environment<'_>,
        lane: usize,
        address: u64,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, FaultKind> {
        by_aperture!(address, update64(wave, at, lane, address, f))
    }
}

/// Global memory through a descriptor with a range check: reads outside give zero, writes are dropped.
pub(super) struct Buffer;

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
}

/// Whether a lane's address, or one of the words after it, stands for something else.
#[inline(always)]
fn reach(address: u64) -> Result<Reach, FaultKind> {
    match address {
        OUTSIDE.. => Ok(Reach::Outside),
        UNKNOWN.. => Err(FaultKind::Unsupported),
        _ => Ok(Reach::Inside),
    }
}

/// Fails for an address that is not computed.
pub(super) fn reach_of(address: u64) -> Result<(), FaultKind> {
    reach(address).map(|_| ())
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
    const fn new(words: [u32; 4]) -> Self {
        let swizzle = match words[1] >> 30 {
            0 => None,
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
    let descriptor = Descriptor::new(std::array::from_fn(|word| wave.scalar(usize::from(first) + word)));
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
        match reach(address)? {
            Reach::Inside => Global::load(wave, at, lane, address, bytes),
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
        match reach(address)? {
            Reach::Inside => Global::store(wave, at, lane, address, bytes, value),
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
        match reach(address)? {
            Reach::Inside => Global::update32(wave, at, lane, address, f),
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
        match reach(address)? {
            Reach::Inside => Global::update64(wave, at, lane, address, f),
            Reach::Outside => Ok(0),
        }
    }
}
