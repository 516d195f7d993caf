//! Address spaces: where a lane's address leads.

use crate::{
    FaultKind,
    exec::{
        element::{Element, scalar32, scalar64, words},
        environment::Environment,
        op::{Op, PRIVATE_APERTURE, Place, SHARED_APERTURE},
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
