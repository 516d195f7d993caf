//! Elements of buffers with a format, against exact fractions and the names that LLVM gives the formats.

use super::{Random, fill, run_fault_with, run_with, wave};
use crate::{
    Arch, FaultKind, decode,
    exec::{
        formats::{Format, Numbers},
        wave::{EXEC, Wave},
    },
    memory::Memory,
};

/// The descriptor of records of `stride` bytes: raw words, with components in order.
fn describe(wave: &mut Wave<32>, address: u64, stride: u32, records: u32, format: u32) {
    wave.set_scalar64(8, address | u64::from(stride) << 48);
    wave.set_scalar(10, records);
    wave.set_scalar(11, format << 12 | 7 << 9 | 6 << 6 | 5 << 3 | 4);
}

#[test]
fn formats_are_those_of_llvm() {
    // `tbuffer_load_format_x v4, v1, s[8:11], s3 format:[..] idxen offset:52`, the format in bits 19 to 25.
    for code in 1..64_u32 {
        let first = 0xe800_0034 | code << 19;
        let bytes = [first.to_le_bytes(), 0x0382_0401_u32.to_le_bytes()].concat();
        let text = decode(Arch::Gfx11, &bytes).unwrap().to_string();
        // 8_UNORM is not printed: it is what an instruction without a format has.
        let name = text.split("BUF_FMT_").nth(1).map_or("8_UNORM", |rest| rest.split(']').next().unwrap());
        let (sizes, numbers) = name.rsplit_once('_').unwrap();
        // Names list components from the highest bits on.
        let bits: Vec<u32> = sizes.rsplit('_').map(|size| size.parse().unwrap()).collect();
        let format = Format::of(code).unwrap();
        assert_eq!(format.bits, bits, "{code}: {name}");
        assert_eq!(format!("{:?}", format.numbers).to_uppercase(), numbers, "{code}: {name}");
        assert_eq!(u32::from(format.bytes()), bits.iter().sum::<u32>() / 8, "{code}: {name}");
    }
    assert_eq!((Format::of(0), Format::of(64)), (None, None));
}

/// The value of a component by its definition, as a fraction.
fn fraction(numbers: Numbers, bits: u32, width: u32) -> (i64, i64) {
    let unsigned = i64::from(bits);
    let signed = if bits >> (width - 1) != 0 { unsigned - (1 << width) } else { unsigned };
    match numbers {
        Numbers::Unorm => (unsigned, (1 << width) - 1),
        Numbers::Snorm => (signed.max(1 - (1 << (width - 1))), (1 << (width - 1)) - 1),
        Numbers::Uscaled => (unsigned, 1),
        _ => (signed, 1),
    }
}

#[test]
fn components_are_read_and_written_back() {
    let mut random = Random(6);
    for code in 1..64 {
        let format = Format::of(code).unwrap();
        for _ in 0..300 {
            let element = u128::from(random.next()) | u128::from(random.next()) << 64;
            let element = element & (u128::MAX >> (128 - 8 * u32::from(format.bytes())));
            let components = format.read(element);
            let mut at = 0;
            for (index, &width) in format.bits.iter().enumerate() {
                let bits = (element >> at) as u32 & (u32::MAX >> (32 - width));
                at += width;
                let (found, value) = (components[index], f64::from(f32::from_bits(components[index])));
                match format.numbers {
                    Numbers::Uint => assert_eq!(found, bits),
                    Numbers::Sint => {
                        assert_eq!(i64::from(found.cast_signed()), fraction(Numbers::Sint, bits, width).0)
                    }
                    Numbers::Float if width == 32 => assert_eq!(found, bits),
                    Numbers::Float if width == 16 => {
                        let expected = half::f16::from_bits(bits as u16).to_f64();
                        assert!(value == expected || (value.is_nan() && expected.is_nan()), "{bits:#x}");
                    }
                    Numbers::Float => {
                        // 5 bits of exponent with a bias of 15, no sign.
                        let digits = width - 5;
                        let (exponent, rest) = (bits >> digits, bits & ((1 << digits) - 1));
                        let rest = f64::from(rest) / f64::from(1 << digits);
                        let expected = match exponent {
                            0 => rest * (-14_f64).exp2(),
                            31 if rest == 0.0 => f64::INFINITY,
                            31 => f64::NAN,
                            _ => (1.0 + rest) * f64::from(exponent.cast_signed() - 15).exp2(),
                        };
                        assert!(value == expected || (value.is_nan() && expected.is_nan()), "{bits:#x}");
                    }
                    numbers => {
                        // Half a unit in the last place, as fractions: |value - a / b| <= ulp / 2.
                        let (numerator, denominator) = fraction(numbers, bits, width);
                        let error = (value * denominator as f64 - numerator as f64).abs();
                        let unit = f64::from(f32::from_bits(found & 0x7fff_ffff).next_up()) - value.abs();
                        assert!(error <= unit / 2.0 * denominator as f64, "{code}: {bits:#x} gave {value}");
                    }
                }
            }
            let scaled = matches!(format.numbers, Numbers::Uscaled | Numbers::Sscaled);
            let is_nan = format.numbers == Numbers::Float
                && components.iter().any(|&bits| f32::from_bits(bits).is_nan());
            if scaled {
                assert_eq!(format.write(components), None, "{code}");
            } else if format.numbers == Numbers::Snorm {
                // The least number has two encodings.
                assert_eq!(format.read(format.write(components).unwrap()), components, "{code}");
            } else if !is_nan {
                assert_eq!(format.write(components), Some(element), "{code}");
            }
        }
    }
}

#[test]
fn stores_round_clamp_and_refuse() {
    let of = |code| Format::of(code).unwrap();
    let write = |code, value: f32| of(code).write([value.to_bits(), 0, 0, 0]);
    // 8_UNORM: 0.5 is 127.5 of 255, a tie.
    for (value, expected) in [(-1.0, 0), (2.0, 255), (0.5, 128), (f32::NAN, 0), (0.3, 77), (0.1, 26)] {
        assert_eq!(write(1, value), Some(expected), "{value}");
    }
    // 8_SNORM.
    for (value, expected) in [(-1.0, 0x81), (-9.0, 0x81), (1.0, 0x7f), (f32::NAN, 0), (-0.1, 0xf3)] {
        assert_eq!(write(2, value), Some(expected), "{value}");
    }
    assert_eq!(of(5).write([255, 0, 0, 0]), Some(255));
    assert_eq!(of(5).write([256, 0, 0, 0]), None, "8_UINT");
    assert_eq!(of(6).write([(-128_i32).cast_unsigned(), 0, 0, 0]), Some(0x80));
    assert_eq!(of(6).write([128, 0, 0, 0]), None, "8_SINT");
    assert_eq!(write(30, 1.5), Some(15 << 6 | 32), "10_11_11_FLOAT");
    assert_eq!((write(30, -1.0), write(30, 1.001)), (None, None), "10_11_11_FLOAT");
}

#[test]
fn lanes_load_and_store_elements() {
    let memory = Memory::new(false, false);
    let address = memory.allocate(256).unwrap();
    memory.write(address, &(0..=255).collect::<Vec<u8>>()).unwrap();
    let mut wave = wave();
    wave.set_mask(EXEC, 0b111);
    let mut indices = [0; 32];
    (indices[1], indices[2]) = (2, 9);
    wave.write_row(1, &indices, u64::MAX);
    let load = |text: &str, wave: &mut Wave<32>| {
        fill(wave, &[(5, u32::MAX), (6, u32::MAX), (7, u32::MAX), (8, u32::MAX)]);
        run_with(text, wave, &memory, Vec::new());
        assert!(wave.stop.is_none(), "{text}: {:?}", wave.stop);
        [0, 1, 2].map(|lane| [5, 6, 7, 8].map(|register| wave.row(register)[lane]))
    };
    // 16_16_UINT in records of 8 bytes, nine of them: lane 2 is outside.
    describe(&mut wave, address, 8, 9, 27);
    let rows = load("buffer_load_format_xyzw v[5:8], v1, s[8:11], 0 idxen", &mut wave);
    assert_eq!(rows, [[0x0100, 0x0302, 0, 1], [0x1110, 0x1312, 0, 1], [0; 4]]);
    let rows = load("buffer_load_format_xy v[5:6], v1, s[8:11], 0 idxen", &mut wave);
    assert_eq!(rows[1], [0x1110, 0x1312, u32::MAX, u32::MAX]);
    let rows = load("buffer_load_d16_format_xyzw v[5:6], v1, s[8:11], 0 idxen", &mut wave);
    assert_eq!(rows[1], [0x1312_1110, 0x0001_0000, u32::MAX, u32::MAX]);
    let rows = load("buffer_load_d16_format_xyz v[5:6], v1, s[8:11], 0 idxen", &mut wave);
    assert_eq!(rows[1], [0x1312_1110, 0xffff_0000, u32::MAX, u32::MAX]);
    let rows = load("buffer_load_d16_format_x v5, v1, s[8:11], 0 idxen", &mut wave);
    assert_eq!(rows[1][0], 0xffff_1110);
    let rows = load("buffer_load_d16_hi_format_x v5, v1, s[8:11], 0 idxen", &mut wave);
    assert_eq!(rows[1][0], 0x1110_ffff);
    // The instruction's own format; the descriptor's selection: w, one, zero, x.
    wave.set_scalar(11, 4 << 9 | 1 << 3 | 7);
    let rows = load(
        "tbuffer_load_format_xyzw v[5:8], v1, s[8:11], 0 format:[BUF_FMT_8_8_8_8_UNORM] idxen",
        &mut wave,
    );
    let unorm = |byte: u8| (f32::from(byte) / 255.0).to_bits();
    assert_eq!(rows[1], [unorm(0x13), 1_f32.to_bits(), 0, unorm(0x10)]);

    // Stores: four binary16, and a 16-bit integer from the upper half of a register.
    describe(&mut wave, address, 8, 9, 27);
    let values = [1.0, -2.5, 65504.0, 0.1_f32];
    for (register, value) in (5..).zip(values) {
        fill(&mut wave, &[(register, value.to_bits())]);
    }
    let read = |at: u64| {
        let mut bytes = [0; 8];
        memory.read(address + at, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    };
    let outside = read(72);
    run_with(
        "tbuffer_store_format_xyzw v[5:8], v1, s[8:11], 0 format:[BUF_FMT_16_16_16_16_FLOAT] idxen",
        &mut wave,
        &memory,
        Vec::new(),
    );
    let expected = values
        .iter()
        .rev()
        .fold(0, |all, &value| all << 16 | u64::from(half::f16::from_f32(value).to_bits()));
    assert_eq!((read(0), read(16), read(72)), (expected, expected, outside));
    describe(&mut wave, address, 8, 9, 11);
    fill(&mut wave, &[(5, 0xabcd_0000)]);
    run_with("buffer_store_d16_hi_format_x v5, v1, s[8:11], 0 idxen", &mut wave, &memory, Vec::new());
    assert_eq!(read(0) & 0xffff, 0xabcd);
    // No format, and an integer that does not fit.
    describe(&mut wave, address, 8, 9, 0);
    let none = run_fault_with("buffer_load_format_x v5, v1, s[8:11], 0 idxen", &mut wave, &memory);
    assert_eq!(none, FaultKind::Unsupported);
    wave.stop = None;
    describe(&mut wave, address, 8, 9, 5);
    let wide = run_fault_with("buffer_store_format_x v5, v1, s[8:11], 0 idxen", &mut wave, &memory);
    assert_eq!(wide, FaultKind::Unsupported);
}

#[test]
fn records_are_interleaved() {
    // Records of 16 bytes in units of 4, 8 records together: unit u of record r lies at 32 u + 4 r, blocks 128 bytes apart.
    let memory = Memory::new(false, false);
    let address = memory.allocate(512).unwrap();
    memory.write(address, &(0..128_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    let mut wave = wave();
    wave.set_scalar64(8, address | 16 << 48 | 1 << 62);
    wave.set_scalar(10, 32);
    wave.set_scalar(11, 0);
    let indices: [u32; 32] = std::array::from_fn(|lane| lane as u32);
    let offsets: [u32; 32] = std::array::from_fn(|lane| 4 * (lane as u32 % 3));
    wave.write_row(1, &indices, u64::MAX);
    wave.write_row(2, &offsets, u64::MAX);
    run_with("buffer_load_b32 v5, v1, s[8:11], 0 idxen", &mut wave, &memory, Vec::new());
    assert!(wave.stop.is_none(), "{:?}", wave.stop);
    assert_eq!(*wave.row(5), std::array::from_fn(|lane| (lane / 8 * 32 + lane % 8) as u32));
    // The lane's number instead of an index.
    wave.set_scalar(11, 1 << 23);
    fill(&mut wave, &[(1, 0)]);
    run_with("buffer_load_b32 v5, v1, s[8:11], 0 idxen", &mut wave, &memory, Vec::new());
    assert_eq!(wave.row(5)[13], 32 + 5);
    // Two words do not lie in one unit of 4 bytes, but in one of 8: unit u of record r at 64 u + 8 r.
    wave.write_row(1, &indices, u64::MAX);
    wave.set_scalar(11, 0);
    let split = run_fault_with("buffer_load_b64 v[5:6], v[1:2], s[8:11], 0 idxen offen", &mut wave, &memory);
    assert_eq!(split, FaultKind::Unsupported);
    wave.stop = None;
    wave.set_scalar64(8, address | 16 << 48 | 2 << 62);
    fill(&mut wave, &[(2, 8)]);
    run_with("buffer_load_b64 v[5:6], v[1:2], s[8:11], 0 idxen offen", &mut wave, &memory, Vec::new());
    assert_eq!((wave.row(5)[11], wave.row(6)[11]), (32 + 16 + 6, 32 + 16 + 7));
}
