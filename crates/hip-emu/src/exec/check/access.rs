//! Where a memory instruction goes, and how much it moves.

use crate::{
    Arch, Family, Half, Instruction,
    exec::{
        buffers::{Buffer, element_addresses},
        element::words,
        memory_ops::counter_addresses,
        op::Op,
        space::{ADDRESS, Flat, Global, GlobalByLane, Lds, LdsByLane, Scratch, Space as _},
        typed_buffers::format_of,
        wave::Wave,
    },
};

/// Address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// Allocations.
    Global,
    /// Told by each lane's address.
    Flat,
    /// Allocations, through a descriptor.
    Buffer,
    /// The group's memory.
    Lds,
    /// A lane's memory.
    Scratch,
    /// Allocations, one address for the wave.
    Scalar,
    /// The same, through a descriptor.
    ScalarBuffer,
}

/// What happens to the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is read.
    Load,
    /// It is written.
    Store,
    /// It is read and written in one step; whether the old value comes back.
    Update {
        returns: bool,
        /// The new value does not depend on the old one.
        replaces: bool,
    },
}

/// One instruction's access.
#[derive(Clone, Copy)]
pub(super) struct Access<const L: usize> {
    pub(super) space: Space,
    pub(super) kind: Kind,
    /// Bytes of a lane, or of the wave; of one of two places where there are two.
    pub(super) bytes: u8,
    /// Distance between the units of the two offsets of an LDS pair.
    pub(super) pair_stride: Option<u32>,
    /// A part of a word is sign-extended into its register.
    pub(super) signed: bool,
    /// The part of its register that a load writes or a store reads.
    pub(super) half: Half,
    /// It passes the wave's own cache by, as atomic loads do.
    pub(super) coherent: bool,
    /// Elements of a format that descriptors may give; what its conversion makes of undefined bits is not followed.
    pub(super) typed: bool,
    /// A store to LDS whose data comes from a buffer, which is not followed.
    pub(super) from_buffer: bool,
    /// All lanes make one access together.
    pub(super) shared: bool,
    addresses: fn(&Wave<L>, &Op<L>) -> [u64; L],
}

impl<const L: usize> std::fmt::Debug for Access<L> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Access")
            .field("space", &self.space)
            .field("kind", &self.kind)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<const L: usize> Access<L> {
    /// The access with the size that its format has in this execution; `None` without a format.
    pub(super) fn resolved(&self, wave: &Wave<L>, op: &Op<L>) -> Option<Self> {
        if self.typed { Some(Self { bytes: format_of(wave, op)?.bytes(), ..*self }) } else { Some(*self) }
    }

    /// The lanes of `active` that make an access of their own.
    pub(super) const fn lanes(&self, active: u64) -> u64 {
        if self.shared { active & active.wrapping_neg() } else { active }
    }

    /// The places that the lanes address: one, or the two of an LDS pair.
    pub(super) fn places(&self, wave: &Wave<L>, op: &Op<L>) -> (usize, [[u64; L]; 2]) {
        if self.typed {
            let addresses = element_addresses(wave, op, self.bytes);
            return (1, [addresses, addresses]);
        }
        let first = (self.addresses)(wave, op);
        let Some(stride) = self.pair_stride else { return (1, [first, first]) };
        let offsets = op.immediate.cast_unsigned();
        let place =
            |offset: u32| first.map(|address| u64::from(low32(address).wrapping_add(offset * stride)));
        (2, [place(offsets & 255), place(offsets >> 8 & 255)])
    }
}

fn low32(address: u64) -> u32 {
    crate::exec::wave::low(address)
}

/// Addresses of an LDS pair without its offsets.
fn pair_bases<const L: usize>(wave: &Wave<L>, op: &Op<L>) -> [u64; L] {
    words(wave, &op.sources[ADDRESS]).map(u64::from)
}

fn none<const L: usize>(_wave: &Wave<L>, _op: &Op<L>) -> [u64; L] {
    [0; L]
}

/// The access of an instruction; `None` for one that touches no memory, or in a way that is not followed.
pub(super) fn access<const L: usize>(
    family: Family,
    name: &str,
    instruction: &Instruction,
) -> Option<Access<L>> {
    type Addresses<const L: usize> = fn(&Wave<L>, &Op<L>) -> [u64; L];
    let (space, prefix, addresses): (Space, &str, Addresses<L>) = match family {
        Family::Global => (Space::Global, "global_", Global::addresses),
        Family::Flat => (Space::Flat, "flat_", Flat::addresses),
        Family::Scratch => (Space::Scratch, "scratch_", Scratch::addresses),
        Family::Mubuf if name.starts_with("buffer_load_lds_") => {
            (Space::Lds, "buffer_", LdsByLane::addresses)
        }
        Family::Mubuf => (Space::Buffer, "buffer_", Buffer::addresses),
        Family::Mtbuf => (Space::Buffer, "tbuffer_", Buffer::addresses),
        Family::Ds => (Space::Lds, "ds_", Lds::addresses),
        Family::Smem if name.starts_with("s_buffer_load_") => (Space::ScalarBuffer, "s_buffer_", none),
        Family::Smem => (Space::Scalar, "s_", none),
        _ => return None,
    };
    let name = name.strip_prefix(prefix)?;
    let cache = instruction.modifiers().cache;
    let coherent = match instruction.arch() {
        // The scope in bits 3 and 4: the device's or the system's.
        Arch::Gfx12 => cache >> 3 & 3 >= 2,
        _ => cache & 1 != 0,
    };
    let mut access = Access {
        space,
        kind: Kind::Load,
        bytes: 4,
        pair_stride: None,
        signed: false,
        half: Half::Whole,
        coherent,
        typed: false,
        from_buffer: false,
        shared: false,
        addresses,
    };
    if name.starts_with("load_lds_") {
        (access.kind, access.from_buffer) = (Kind::Store, true);
        return Some(access);
    }
    if name.contains("format") {
        access.typed = true;
        access.kind = if name.starts_with("store_") { Kind::Store } else { Kind::Load };
        access.half = match name {
            "load_d16_format_x" => Half::Low,
            "load_d16_hi_format_x" => Half::High,
            _ => Half::Whole,
        };
        return Some(access);
    }
    match name {
        "load_addtid_b32" | "store_addtid_b32" => {
            let lds = space == Space::Lds;
            access.addresses = if lds { LdsByLane::addresses } else { GlobalByLane::addresses };
            access.kind = if name.starts_with("store_") { Kind::Store } else { Kind::Load };
            return Some(access);
        }
        "append" | "consume" => {
            (access.addresses, access.shared) = (counter_addresses, true);
            access.kind = Kind::Update { returns: true, replaces: false };
            return Some(access);
        }
        _ => {}
    }
    if let Some(pair) = name.strip_prefix("load_2addr_") {
        access.pair(pair)?;
    } else if let Some(pair) = name.strip_prefix("store_2addr_") {
        access.kind = Kind::Store;
        access.pair(pair)?;
    } else if let Some(pair) = name.strip_prefix("storexchg_2addr_") {
        access.kind = Kind::Update { returns: true, replaces: true };
        access.pair(pair.replacen("rtn_", "", 1).as_str())?;
    } else if let Some(part) = name.strip_prefix("load_") {
        access.part(part)?;
    } else if let Some(part) = name.strip_prefix("store_") {
        access.kind = Kind::Store;
        access.part(part)?;
    } else {
        access.update(name, instruction)?;
    }
    Some(access)
}

impl<const L: usize> Access<L> {
    /// `b32`, `stride64_b64` and their like.
    fn pair(&mut self, name: &str) -> Option<()> {
        let (units, size) = name.strip_prefix("stride64_").map_or((1, name), |size| (64, size));
        self.bytes = match size {
            "b32" => 4,
            "b64" => 8,
            _ => return None,
        };
        self.pair_stride = Some(units * u32::from(self.bytes));
        self.addresses = pair_bases;
        Some(())
    }

    /// `u8`, `d16_hi_i8`, `b128`, and as LDS has it `u8_d16_hi`.
    fn part(&mut self, name: &str) -> Option<()> {
        let high = name.contains("d16_hi") || name.ends_with("_d16_hi");
        let halves = name.contains("d16");
        let size = name.trim_start_matches("d16_").trim_start_matches("hi_");
        let size = size.split('_').next()?;
        self.half = match (high, halves) {
            (true, _) => Half::High,
            (false, true) => Half::Low,
            (false, false) => Half::Whole,
        };
        self.signed = size.starts_with('i');
        self.bytes = size_of_name(size)?;
        Some(())
    }

    /// Atomic operations: `atomic_add_u32`, and as LDS has it `add_rtn_u32`.
    fn update(&mut self, name: &str, instruction: &Instruction) -> Option<()> {
        let size = size_of_name(name.rsplit('_').next()?)?;
        let lds = self.space == Space::Lds;
        let known = name.starts_with("atomic_") || (lds && instruction.operands().len() > 1);
        let elsewhere = ["permute", "swizzle", "gws", "bvh", "ordered"];
        if !known || size < 4 || elsewhere.iter().any(|part| name.contains(part)) {
            return None;
        }
        self.bytes = size;
        let returns = instruction.operands().iter().any(|operand| operand.written);
        let replaces = name.contains("swap") || name.contains("xchg");
        let conditional = name.contains("cmp") || name.contains("cond");
        self.kind = Kind::Update { returns, replaces: replaces && !conditional };
        Some(())
    }
}

/// Bytes of a type: `b96`, `u8`.
fn size_of_name(size: &str) -> Option<u8> {
    Some(match size.get(1..)? {
        "8" => 1,
        "16" => 2,
        "32" => 4,
        "64" => 8,
        "96" => 12,
        "128" => 16,
        "256" => 32,
        "512" => 64,
        _ => return None,
    })
}
