//! Encodings as data: what the generated tables hold, and the search through them.

mod gfx10;
mod gfx11;
mod gfx12;
mod gfx90a;
mod gfx940;
mod index;

use std::sync::LazyLock;

use crate::{Arch, Family, operand::ElementType};

use index::Index;

/// One encoding: instructions whose bits under `mask` equal `value`.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As printed; a dual-issue pair has both, separated by a space.
    pub(crate) mnemonic: &'static str,
    pub(crate) mask: u128,
    pub(crate) value: u128,
    /// Bytes, without a trailing literal.
    pub(crate) bytes: u8,
    layout: u16,
}

/// The operands of an encoding, in printed order.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) family: Family,
    /// Which of `op_sel` 1, `op_sel_hi` 2, `neg_lo` 4 and `neg_hi` 8 the encoding has; above, how many sources.
    pub(crate) flags: u8,
    slots: &'static [u16],
}

impl Layout {
    /// How many sources the operation has, read from a field or not.
    pub(crate) const fn sources(&self) -> usize {
        (self.flags >> 4) as usize
    }
}

/// Where one operand or modifier is read from, and how.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    pub(crate) role: Role,
    pub(crate) element: ElementType,
    /// Size in 32-bit words; for a few kinds a number of its own, named there.
    pub(crate) words: u8,
    pub(crate) parts: &'static [Part],
}

/// Bits `low..low + width` of the encoding are bits `shift..` of the field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    low: u8,
    width: u8,
    shift: u8,
}

/// What a slot's field means: one body of the decoder each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AgprSource,
    Addressing,
    Agpr,
    AnySource,
    Attribute,
    AttributeChannel,
    BroadcastBlock,
    BroadcastSize,
    ByteSelect,
    CachePolicy,
    Clamp,
    Constant16,
    Constant32,
    DelayAlu,
    DependencyCounters,
    Dpp16,
    Dpp8,
    Dpp8Fetch,
    EndCode,
    FlatOffset,
    Format,
    Gds,
    HardwareRegister,
    Hex16,
    IndexKey,
    IndexMode,
    Label,
    LaneGroup,
    LaneMask,
    M0,
    Message,
    /// `words` says what the bits mean: 1 signs of a number, 2 sign extension, 3 signs of packed halves.
    Modifiers,
    Number16,
    Number32,
    Number8,
    Off,
    Offset,
    Offset0,
    Offset1,
    OutputModifier,
    Pair,
    Scalar,
    ScalarOffset,
    ScalarOffsetNamed,
    SdwaDst,
    SdwaMask,
    SdwaSource,
    SdwaSrc0,
    SdwaSrc1,
    SdwaUnused,
    Source,
    Source16,
    Source16Short,
    Swizzle,
    Vcc,
    Vgpr,
    Vgpr16,
    Vgpr16Short,
    VgprOrAgpr,
    Version,
    VgprSecond,
    WaitCount,
    WaitVdst,
    WaitVsrc,
}

/// Which operand of the operation a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    None,
    Dst,
    Src0,
    Src1,
    Src2,
    Other,
}

impl Role {
    /// The place of a source among sources.
    pub(crate) const fn source(self) -> Option<usize> {
        match self {
            Self::Src0 => Some(0),
            Self::Src1 => Some(1),
            Self::Src2 => Some(2),
            Self::None | Self::Dst | Self::Other => None,
        }
    }
}

impl Slot {
    /// The field's value in an instruction of bits `word`.
    pub(crate) fn field(&self, word: u128) -> u32 {
        self.parts.iter().fold(0, |field, part| {
            let bits = (word >> part.low) & ((1 << part.width) - 1);
            field | (u32::try_from(bits).unwrap_or(u32::MAX) << part.shift)
        })
    }

    /// The field's width in bits.
    pub(crate) fn width(&self) -> u32 {
        self.parts.iter().map(|part| u32::from(part.width)).sum()
    }

    /// The field's value, sign-extended from its width.
    pub(crate) fn signed_field(&self, word: u128) -> i32 {
        let unused = 32_u32.saturating_sub(self.width());
        self.field(word).wrapping_shl(unused).cast_signed().wrapping_shr(unused)
    }
}

/// The generated arrays of one architecture.
pub(crate) struct Encodings {
    slots: &'static [Slot],
    layouts: &'static [Layout],
    entries: &'static [Entry],
}

/// One architecture's encodings, and the index over them.
pub(crate) struct Table {
    encodings: &'static Encodings,
    index: Index,
}

impl Table {
    /// The table of `arch`.
    pub(crate) fn of(arch: Arch) -> &'static Self {
        static GFX10: LazyLock<Table> = LazyLock::new(|| Table::build(&gfx10::ENCODINGS));
        static GFX11: LazyLock<Table> = LazyLock::new(|| Table::build(&gfx11::ENCODINGS));
        static GFX12: LazyLock<Table> = LazyLock::new(|| Table::build(&gfx12::ENCODINGS));
        static GFX90A: LazyLock<Table> = LazyLock::new(|| Table::build(&gfx90a::ENCODINGS));
        static GFX940: LazyLock<Table> = LazyLock::new(|| Table::build(&gfx940::ENCODINGS));
        match arch {
            Arch::Gfx10 => &GFX10,
            Arch::Gfx11 => &GFX11,
            Arch::Gfx12 => &GFX12,
            Arch::Gfx9 | Arch::Gfx90a => &GFX90A,
            Arch::Gfx940 => &GFX940,
        }
    }

    fn build(encodings: &'static Encodings) -> Self {
        Self { encodings, index: Index::new(encodings.entries) }
    }

    /// The encodings that an instruction of bits `word` may be, the best first.
    pub(crate) fn candidates(&self, word: u128) -> impl Iterator<Item = &'static Entry> {
        let entries = self.encodings.entries;
        self.index
            .lookup(word)
            .iter()
            .filter_map(|&entry| entries.get(usize::from(entry)))
            .filter(move |entry| word & entry.mask == entry.value)
    }

    /// The layout of one of the table's encodings.
    pub(crate) fn layout(&self, entry: &Entry) -> Option<&'static Layout> {
        self.encodings.layouts.get(usize::from(entry.layout))
    }

    /// The slots of a layout, in printed order.
    pub(crate) fn slots(&self, layout: &'static Layout) -> impl Iterator<Item = &'static Slot> {
        let slots = self.encodings.slots;
        layout.slots.iter().filter_map(|&slot| slots.get(usize::from(slot)))
    }
}

const fn entry(mnemonic: &'static str, mask: u128, value: u128, bytes: u8, layout: u16) -> Entry {
    Entry { mnemonic, mask, value, bytes, layout }
}

const fn layout(family: Family, flags: u8, slots: &'static [u16]) -> Layout {
    Layout { family, flags, slots }
}

const fn slot(kind: Kind, role: Role, element: ElementType, words: u8, parts: &'static [Part]) -> Slot {
    Slot { kind, role, element, words, parts }
}

const fn part(low: u8, width: u8, shift: u8) -> Part {
    Part { low, width, shift }
}
