//! From bytes to [`Instruction`].

use crate::{
    Arch, DecodeError, Family,
    instruction::{Instruction, Lanes},
    isa::{Entry, Kind, Layout, Role, Slot, Table},
    operand::{Half, Operand, Register, Special, Value},
    scalar,
};

/// Decodes the instruction at the start of `code`.
///
/// # Errors
///
/// [`DecodeError`]: the bytes are cut off, match no encoding, have an operand without meaning, or are of a refused
/// family. Never panics.
pub fn decode(arch: Arch, code: &[u8]) -> Result<Instruction, DecodeError> {
    let mut padded = [0_u8; 16];
    let available = code.len().min(padded.len());
    for (place, byte) in padded.iter_mut().zip(code) {
        *place = *byte;
    }
    if available < 4 {
        return Err(DecodeError::Truncated { needed: 4, available });
    }
    let word = u128::from_le_bytes(padded);
    let table = Table::of(arch);
    let mut error = DecodeError::Unknown { arch, first: bits32(word), second: bits32(word >> 32) };
    for entry in table.candidates(word) {
        let Some(layout) = table.layout(entry) else { continue };
        let needed = usize::from(entry.bytes);
        if needed > available {
            error = DecodeError::Truncated { needed, available };
            continue;
        }
        if matches!(layout.family, Family::Image | Family::Export | Family::Interpolation) {
            return Err(DecodeError::Refused {
                mnemonic: entry.mnemonic,
                family: layout.family,
                length: needed,
            });
        }
        let mut decoder =
            Decoder { word, available, flavours: [0; 3], instruction: Instruction::new(arch, entry, layout) };
        match decoder.run(table, layout) {
            Ok(()) => return Ok(decoder.instruction),
            Err(Failure::Truncated(needed)) => error = DecodeError::Truncated { needed, available },
            Err(Failure::Code(code)) => error = bad_operand(entry, code, word),
        }
    }
    Err(error)
}

const fn bad_operand(entry: &Entry, code: u32, word: u128) -> DecodeError {
    let (first, second) = (bits32(word), bits32(word >> 32));
    DecodeError::BadOperand { mnemonic: entry.mnemonic, code, first, second }
}

#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
const fn bits32(word: u128) -> u32 {
    word as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
const fn bits16(field: u32) -> u16 {
    field as u16
}

#[expect(clippy::cast_possible_truncation, reason = "the low 8 bits are meant")]
const fn bits8(field: u32) -> u8 {
    field as u8
}

/// Why one encoding does not fit.
enum Failure {
    /// An operand's code names nothing.
    Code(u32),
    /// Bytes needed for the literal.
    Truncated(usize),
}

struct Decoder {
    word: u128,
    available: usize,
    /// What each source's modifier bits mean: 1 signs of a number, 2 sign extension, else nothing here.
    flavours: [u8; 3],
    instruction: Instruction,
}

impl Decoder {
    fn run(&mut self, table: &Table, layout: &'static Layout) -> Result<(), Failure> {
        for slot in table.slots(layout) {
            let field = slot.field(self.word);
            if !self.control(slot, field) {
                let value = self.value(slot, field)?;
                self.push(slot, field, value)?;
            }
        }
        Ok(())
    }

    fn arch(&self) -> Arch {
        self.instruction.arch
    }

    fn push(&mut self, slot: &Slot, field: u32, value: Value) -> Result<(), Failure> {
        let mut operand = Operand::new(value);
        operand.element = slot.element;
        operand.written = slot.role == Role::Dst;
        if let Some(source) = slot.role.source() {
            let bits = self.instruction.modifiers.sources.get(source).copied().unwrap_or(0);
            let flavour = self.flavours.get(source).copied().unwrap_or(0);
            operand.neg = flavour == 1 && bits & 1 != 0;
            operand.abs = flavour == 1 && bits & 2 != 0;
            operand.sext = flavour == 2 && bits & 1 != 0;
        }
        if self.instruction.push(operand) { Ok(()) } else { Err(Failure::Code(field)) }
    }

    /// Reads a slot that is no operand; false for an operand.
    fn control(&mut self, slot: &Slot, field: u32) -> bool {
        let signed = slot.signed_field(self.word);
        let count = self.instruction.count;
        let modifiers = &mut self.instruction.modifiers;
        match slot.kind {
            Kind::Modifiers => {
                let source = slot.role.source().unwrap_or(0);
                if let (Some(bits), Some(flavour)) =
                    (modifiers.sources.get_mut(source), self.flavours.get_mut(source))
                {
                    (*bits, *flavour) = (bits8(field), slot.words);
                }
            }
            Kind::Clamp => modifiers.clamp = field != 0,
            Kind::OutputModifier => modifiers.output = bits8(field),
            Kind::Offset | Kind::Swizzle if slot.width() <= 16 => modifiers.offset = i32::from(bits16(field)),
            Kind::Offset | Kind::FlatOffset | Kind::Swizzle => modifiers.offset = signed,
            Kind::ScalarOffsetNamed => {
                modifiers.offset = signed;
                modifiers.offset_named = true;
            }
            Kind::Offset0 => modifiers.pair_offsets[0] = bits8(field),
            Kind::Offset1 => modifiers.pair_offsets[1] = bits8(field),
            Kind::CachePolicy => modifiers.cache = bits8(field) | slot.words,
            Kind::Gds => modifiers.gds = field != 0 || slot.words != 0,
            Kind::Format => modifiers.format = bits8(field),
            Kind::Addressing => {
                modifiers.index_enable = slot.words & 1 != 0;
                modifiers.offset_enable = slot.words & 2 != 0;
                modifiers.texture_fail = slot.words & 4 != 0;
                modifiers.to_lds = slot.words & 8 != 0;
            }
            Kind::Dpp16 => {
                modifiers.lanes = Lanes::Rows {
                    control: bits16(field & 0x1ff),
                    row_mask: bits8(field >> 20),
                    bank_mask: bits8(field >> 16) & 15,
                    bound_control: field & (1 << 11) != 0,
                    fetch_inactive: field & (1 << 10) != 0 && !self.instruction.arch.is_gfx9(),
                };
            }
            Kind::Dpp8 => {
                let mut selectors = [0; 8];
                for (selector, shift) in selectors.iter_mut().zip((0..24).step_by(3)) {
                    *selector = bits8(field >> shift) & 7;
                }
                let fetch_inactive = matches!(modifiers.lanes, Lanes::Eights { fetch_inactive: true, .. });
                modifiers.lanes = Lanes::Eights { selectors, fetch_inactive };
            }
            Kind::Dpp8Fetch => {
                if let Lanes::Eights { fetch_inactive, .. } = &mut modifiers.lanes {
                    *fetch_inactive = field == 0xea;
                }
            }
            Kind::SdwaDst | Kind::SdwaUnused | Kind::SdwaSrc0 | Kind::SdwaSrc1 => {
                self.sub_dword(slot.kind, bits8(field))
            }
            Kind::ByteSelect => modifiers.byte_select = bits8(field),
            Kind::IndexKey => modifiers.index_key = bits8(field),
            Kind::BroadcastSize => modifiers.broadcast_size = bits8(field),
            Kind::BroadcastBlock => modifiers.broadcast_block = bits8(field),
            Kind::LaneGroup => modifiers.lane_group = bits8(field),
            Kind::WaitVdst => modifiers.wait_vdst = bits8(field),
            Kind::WaitVsrc => modifiers.wait_vsrc = bits8(field),
            Kind::AttributeChannel => self.attribute_channel(bits8(field)),
            Kind::Pair => self.instruction.first = count,
            _ => return false,
        }
        true
    }

    fn attribute_channel(&mut self, field: u8) {
        for operand in &mut self.instruction.operands {
            if let Value::Attribute { channel, .. } = &mut operand.value {
                *channel = field;
            }
        }
    }

    fn sub_dword(&mut self, kind: Kind, field: u8) {
        let lanes = &mut self.instruction.modifiers.lanes;
        if !matches!(lanes, Lanes::SubDword { .. }) {
            *lanes = Lanes::SubDword { destination: None, unused: 0, source0: None, source1: None };
        }
        if let Lanes::SubDword { destination, unused, source0, source1 } = lanes {
            match kind {
                Kind::SdwaDst => *destination = Some(field),
                Kind::SdwaUnused => *unused = field,
                Kind::SdwaSrc0 => *source0 = Some(field),
                _ => *source1 = Some(field),
            }
        }
    }

    fn value(&mut self, slot: &Slot, field: u32) -> Result<Value, Failure> {
        let bad = || Failure::Code(field);
        let words = slot.words;
        let register = match slot.kind {
            Kind::Vgpr => vgpr(field, words, Half::Whole),
            Kind::VgprSecond => vgpr(field | u32::from(self.first_is_even()), words, Half::Whole),
            Kind::Vgpr16 => vgpr(field, 1, self.selected_half(slot.role)),
            Kind::Vgpr16Short => vgpr(field & 0x7f, 1, short_half(field)),
            Kind::VgprOrAgpr if field & 0x200 != 0 => agpr(field & 0xff, words),
            Kind::VgprOrAgpr => vgpr(field & 0xff, words, Half::Whole),
            Kind::Agpr => agpr(field & 0xff, words),
            Kind::AnySource if field & 0x200 != 0 => agpr(field & 0xff, words),
            Kind::AgprSource if field & 0x100 != 0 => agpr(field & 0xff, words),
            Kind::Scalar => scalar::register(self.arch(), field, words),
            Kind::M0 => Some(Register::Special { name: Special::M0, words: 1 }),
            Kind::LaneMask => scalar::register(self.arch(), field, self.arch().lanes() / 32),
            Kind::Vcc => scalar::register(self.arch(), scalar::VCC, self.arch().lanes() / 32),
            Kind::SdwaMask if field & 0x80 == 0 => {
                scalar::register(self.arch(), scalar::VCC, self.arch().lanes() / 32)
            }
            Kind::SdwaMask => scalar::register(self.arch(), field & 0x7f, self.arch().lanes() / 32),
            _ => return self.source(slot, field),
        };
        register.map(Value::Register).ok_or_else(bad)
    }

    /// A slot that may be a constant, or always is one.
    fn source(&mut self, slot: &Slot, field: u32) -> Result<Value, Failure> {
        Ok(match slot.kind {
            Kind::Source | Kind::AgprSource | Kind::AnySource => {
                self.operand_code(slot, field, Half::Whole)?
            }
            Kind::Source16 => self.operand_code(slot, field, self.selected_half(slot.role))?,
            Kind::Source16Short if field >= 256 => {
                self.operand_code(slot, field & 0x17f, short_half(field))?
            }
            Kind::Source16Short => self.operand_code(slot, field, Half::Whole)?,
            Kind::SdwaSource if field & 0x100 != 0 => self.operand_code(slot, field & 0xff, Half::Whole)?,
            Kind::SdwaSource => self.operand_code(slot, field | 0x100, Half::Whole)?,
            Kind::Off => Value::Off,
            Kind::Constant16 | Kind::Constant32 => Value::Constant(field),
            Kind::Hex16 => Value::Immediate(bits16(field)),
            Kind::Number16 | Kind::Number32 | Kind::Number8 => Value::Number(field),
            Kind::Label => Value::Branch(bits16(field).cast_signed()),
            Kind::WaitCount => Value::WaitCounters(bits16(field)),
            Kind::DelayAlu => Value::DelayAlu(bits16(field)),
            Kind::DependencyCounters => Value::DependencyCounters(bits16(field)),
            Kind::HardwareRegister => Value::HardwareRegister(bits16(field)),
            Kind::Version => Value::Version(bits16(field)),
            Kind::Message => Value::Message(bits16(field)),
            Kind::EndCode => Value::EndCode(bits16(field)),
            Kind::IndexMode => Value::IndexMode(bits8(field)),
            Kind::ScalarOffset => Value::ScalarOffset(slot.signed_field(self.word)),
            Kind::Attribute => Value::Attribute { number: bits8(field), channel: 0 },
            _ => return Err(Failure::Code(field)),
        })
    }

    /// A nine-bit operand code: register, constant or literal.
    fn operand_code(&mut self, slot: &Slot, code: u32, half: Half) -> Result<Value, Failure> {
        let bad = Failure::Code(code);
        if code >= 256 {
            return vgpr(code & 0xff, slot.words, half).map(Value::Register).ok_or(bad);
        }
        if code == scalar::LITERAL {
            return if slot.words <= 2 { self.literal() } else { Err(bad) };
        }
        scalar::operand(self.arch(), code, slot.words).ok_or(bad)
    }

    /// The word after the instruction, or the constant within it.
    fn literal(&mut self) -> Result<Value, Failure> {
        let table = Table::of(self.arch());
        let constant = table
            .slots(self.instruction.layout)
            .find(|slot| matches!(slot.kind, Kind::Constant16 | Kind::Constant32));
        if let Some(slot) = constant {
            return Ok(Value::Literal(slot.field(self.word)));
        }
        let start = usize::from(self.instruction.entry.bytes);
        if start + 4 > self.available {
            return Err(Failure::Truncated(start + 4));
        }
        self.instruction.length = self.instruction.entry.bytes + 4;
        Ok(Value::Literal(bits32(self.word >> (8 * start))))
    }

    /// The second result of a pair is in a register of the other parity.
    fn first_is_even(&self) -> bool {
        match self.instruction.operands.first().map(|operand| operand.value) {
            Some(Value::Register(Register::Vgpr { first, .. })) => first % 2 == 0,
            _ => false,
        }
    }

    /// The half that `op_sel` chooses for a result or a source.
    fn selected_half(&self, role: Role) -> Half {
        let sources = self.instruction.modifiers.sources;
        let selected = match role.source() {
            Some(source) => sources.get(source).is_some_and(|bits| bits & 4 != 0),
            None => sources[0] & 8 != 0,
        };
        if selected { Half::High } else { Half::Low }
    }
}

/// The half that bit 7 of a register's number chooses in the short encodings.
const fn short_half(field: u32) -> Half {
    if field & 0x80 != 0 { Half::High } else { Half::Low }
}

fn vgpr(first: u32, words: u8, half: Half) -> Option<Register> {
    let first = u8::try_from(first).ok()?;
    (u16::from(first) + u16::from(words) <= 256).then_some(Register::Vgpr { first, words, half })
}

fn agpr(first: u32, words: u8) -> Option<Register> {
    let first = u8::try_from(first).ok()?;
    (u16::from(first) + u16::from(words) <= 256).then_some(Register::Agpr { first, words })
}
