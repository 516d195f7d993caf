//! Rounding, denormals and NaNs in every mode, against integers that hold the results exactly.

use half::f16;

use super::{Random, fill, fill64, pair, run, wave};
use crate::{
    Arch, FaultKind,
    exec::{
        mode::Mode,
        wave::{Stop, Wave},
    },
};

/// A format: bits of the fraction and of the exponent.
#[derive(Clone, Copy)]
struct Format(u32, u32);

const HALF: Format = Format(10, 5);
const SINGLE: Format = Format(23, 8);
const DOUBLE: Format = Format(52, 11);

/// A finite number in units of `2^-scale`, by its definition; `None` for infinities.
fn units(Format(fraction, exponent): Format, bits: u64, scale: i32) -> Option<i128> {
    let magnitude = bits & ((1 << (fraction + exponent)) - 1);
    let biased = magnitude >> fraction;
    if biased == (1 << exponent) - 1 {
        return None;
    }
    let digits = i128::from(magnitude & ((1 << fraction) - 1)) + if biased > 0 { 1 << fraction } else { 0 };
    let place = i32::try_from(biased.max(1)).unwrap() - (1 << (exponent - 1)) + 1 - fraction as i32 + scale;
    let value = if place >= 0 {
        digits << place
    } else {
        assert_eq!(digits & ((1 << -place) - 1), 0, "the scale is too small for {bits:#x}");
        digits >> -place
    };
    Some(if bits >> (fraction + exponent) & 1 != 0 { -value } else { value })
}

/// The result of a magnitude one step away from zero (or towards it), keeping the sign.
fn step(bits: u64, away: bool) -> u64 {
    if away { bits + 1 } else { bits - 1 }
}

/// Whether `bits` is the number that `exact`, in units of `2^-scale`, rounds to. Rounding: 0 nearest even, 1 up, 2 down,
/// 3 towards zero.
fn is_rounded(format: Format, bits: u64, exact: i128, scale: i32, rounding: u32) -> bool {
    let Format(fraction, exponent) = format;
    let sign = 1 << (fraction + exponent);
    let infinity = ((1 << exponent) - 1) << fraction;
    if exact == 0 {
        return bits & !sign == 0;
    }
    if (bits & sign != 0) != (exact < 0) {
        return false;
    }
    let magnitude = bits & !sign;
    let size = exact.abs();
    // Infinity takes the place of the number after the largest one.
    let value = |bits: u64| {
        units(format, bits, scale).unwrap_or_else(|| {
            2 * units(format, infinity - 1, scale).unwrap() - units(format, infinity - 2, scale).unwrap()
        })
    };
    let here = value(magnitude);
    let away = matches!((rounding, exact > 0), (1, true) | (2, false));
    match rounding {
        0 => {
            let above = if magnitude < infinity { value(step(magnitude, true)) - size } else { i128::MAX };
            let below = if magnitude > 0 { size - value(step(magnitude, false)) } else { i128::MAX };
            let distance = (here - size).abs();
            let tie = distance == above.abs() || distance == below.abs();
            distance <= above.abs() && distance <= below.abs() && (!tie || magnitude & 1 == 0)
        }
        _ if away => {
            here >= size && value(step(magnitude, false)) < size || magnitude == infinity && size > here
        }
        _ => here <= size && (magnitude + 1 == infinity || value(step(magnitude, true)) > size),
    }
}

/// A wave that rounds single and the other formats in one direction.
fn rounding(direction: u32) -> Wave<32> {
    let mut wave = wave();
    wave.mode = Mode(0x3f0 | direction | direction << 2);
    wave
}

/// Fills a register with what `f` gives, lane by lane.
fn lanes(wave: &mut Wave<32>, register: usize, mut f: impl FnMut() -> u32) {
    let row = std::array::from_fn(|_| f());
    wave.write_row(register, &row, u64::from(u32::MAX));
}

#[test]
fn binary16_rounds_in_four_directions() {
    let mut random = Random(1);
    for direction in 0..4 {
        for _ in 0..300 {
            let mut wave = rounding(direction);
            for register in 1..4 {
                // Any finite number.
                lanes(&mut wave, register, || {
                    let bits = random.next() as u32 & 0xffff;
                    if bits & 0x7c00 == 0x7c00 { bits & 0x83ff } else { bits }
                });
            }
            let read = |wave: &Wave<32>, register: usize, lane: usize| {
                units(HALF, u64::from(wave.row(register)[lane] & 0xffff), 24).unwrap()
            };
            for (text, exact) in [
                ("v_add_f16_e32 v5, v1, v2", (|a, b, _| (a + b) << 24) as fn(i128, i128, i128) -> i128),
                ("v_mul_f16_e32 v5, v1, v2", |a, b, _| a * b),
                ("v_fma_f16 v5, v1, v2, v3", |a, b, c| a * b + (c << 24)),
                ("v_pk_fma_f16 v5, v1, v2, v3", |a, b, c| a * b + (c << 24)),
            ] {
                run(text, &mut wave);
                for lane in 0..32 {
                    let [a, b, c] = [1, 2, 3].map(|register| read(&wave, register, lane));
                    let bits = u64::from(wave.row(5)[lane] & 0xffff);
                    assert!(
                        is_rounded(HALF, bits, exact(a, b, c), 48, direction),
                        "{text}, rounding {direction}: {a} {b} {c} gave {bits:#x}"
                    );
                }
            }
        }
    }
}

/// A binary32 number whose exponent lies in a small range.
fn near_one(random: &mut Random) -> u32 {
    let bits = random.next() as u32;
    bits & 0x807f_ffff | (127 - 10 + (bits >> 23 & 255) % 20) << 23
}

#[test]
fn binary32_rounds_in_four_directions() {
    let mut random = Random(2);
    for direction in 0..4 {
        for _ in 0..300 {
            let mut wave = rounding(direction);
            for register in 1..4 {
                lanes(&mut wave, register, || near_one(&mut random));
            }
            for (text, exact) in [
                ("v_add_f32_e32 v5, v1, v2", (|a, b, _| (a + b) << 33) as fn(i128, i128, i128) -> i128),
                ("v_sub_f32_e32 v5, v1, v2", |a, b, _| (a - b) << 33),
                ("v_subrev_f32_e32 v5, v1, v2", |a, b, _| (b - a) << 33),
                ("v_mul_f32_e32 v5, v1, v2", |a, b, _| a * b),
                ("v_fma_f32 v5, v1, v2, v3", |a, b, c| a * b + (c << 33)),
                ("v_fract_f32_e32 v5, v1", |a, _, _| a.rem_euclid(1 << 33) << 33),
            ] {
                run(text, &mut wave);
                for lane in 0..32 {
                    let [a, b, c] =
                        [1, 2, 3].map(|at| units(SINGLE, u64::from(wave.row(at)[lane]), 33).unwrap());
                    let (bits, exact) = (u64::from(wave.row(5)[lane]), exact(a, b, c));
                    // A fraction never rounds to one.
                    let last = text.contains("fract") && bits == 0x3f7f_ffff && exact > (1 << 66) - (1 << 42);
                    assert!(
                        last || is_rounded(SINGLE, bits, exact, 66, direction),
                        "{text}, rounding {direction}: {a} {b} {c} gave {bits:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn binary64_rounds_in_four_directions() {
    let mut random = Random(3);
    for direction in 0..4 {
        for _ in 0..300 {
            // Between one and two, of either sign.
            let [a, b, c] = [(); 3].map(|()| random.next() & 0x800f_ffff_ffff_ffff | 1023 << 52);
            let mut wave = rounding(direction);
            fill64(&mut wave, &[(1, a), (3, b), (7, c)]);
            let [x, y, z] = [a, b, c].map(|bits| units(DOUBLE, bits, 52).unwrap());
            for (text, exact) in [
                ("v_add_f64 v[5:6], v[1:2], v[3:4]", (x + y) << 52),
                ("v_mul_f64 v[5:6], v[1:2], v[3:4]", x * y),
                ("v_fma_f64 v[5:6], v[1:2], v[3:4], v[7:8]", x * y + (z << 52)),
            ] {
                run(text, &mut wave);
                let bits = pair(&wave, 5, 7);
                assert!(
                    is_rounded(DOUBLE, bits, exact, 104, direction),
                    "{text}, rounding {direction}: {a:#x} {b:#x} {c:#x} gave {bits:#x}"
                );
            }
            run("v_cvt_f32_f64_e32 v5, v[1:2]", &mut wave);
            assert!(is_rounded(SINGLE, u64::from(wave.row(5)[0]), x, 52, direction));
        }
    }
}

#[test]
fn conversions_round_in_four_directions() {
    let mut random = Random(4);
    for direction in 0..4 {
        for _ in 0..200 {
            let mut wave = rounding(direction);
            lanes(&mut wave, 1, || random.next() as u32);
            let sources = *wave.row(1);
            let expect = |wave: &Wave<32>, format: Format, text: &str, exact: fn(u32) -> i128| {
                for (&source, &found) in sources.iter().zip(wave.row(5)) {
                    let bits = u64::from(if format.0 == 10 { found & 0xffff } else { found });
                    let ok = is_rounded(format, bits, exact(source) << 24, 24, direction);
                    assert!(ok, "{text}, rounding {direction}: {source:#x} gave {bits:#x}");
                }
            };
            run("v_cvt_f32_i32_e32 v5, v1", &mut wave);
            expect(&wave, SINGLE, "i32", |bits| i128::from(bits.cast_signed()));
            run("v_cvt_f32_u32_e32 v5, v1", &mut wave);
            expect(&wave, SINGLE, "u32", i128::from);
            run("v_cvt_f16_i16_e32 v5, v1", &mut wave);
            expect(&wave, HALF, "i16", |bits| i128::from((bits as u16).cast_signed()));
            run("v_cvt_f16_u16_e32 v5, v1", &mut wave);
            expect(&wave, HALF, "u16", |bits| i128::from(bits as u16));
            // Numbers that binary16 holds as normal and as denormal ones.
            lanes(&mut wave, 1, || {
                let bits = random.next() as u32;
                bits & 0x807f_ffff | (127 - 26 + (bits >> 23 & 255) % 45) << 23
            });
            let sources = *wave.row(1);
            run("v_cvt_f16_f32_e32 v5, v1", &mut wave);
            let nearest = *wave.row(5);
            run("v_cvt_pk_rtz_f16_f32_e32 v5, v1, v1", &mut wave);
            for (&source, (found, packed)) in sources.iter().zip(nearest.into_iter().zip(wave.row(5))) {
                let exact = units(SINGLE, source.into(), 60).unwrap();
                assert!(
                    is_rounded(HALF, (found & 0xffff).into(), exact, 60, direction),
                    "{source:#x} {found:#x}"
                );
                assert!(is_rounded(HALF, (packed >> 16).into(), exact, 60, 3), "{source:#x} {packed:#x}");
            }
        }
    }
}

#[test]
fn far_addends_and_limits_round() {
    // Operands, and the results to nearest, up, down and towards zero.
    let cases: [(&str, [f32; 3], [u32; 4]); 8] = [
        ("v_add_f32_e32 v5, v1, v2", [1.0, 1e-40, 0.0], [0x3f80_0000, 0x3f80_0001, 0x3f80_0000, 0x3f80_0000]),
        ("v_sub_f32_e32 v5, v1, v2", [1.0, 1e-40, 0.0], [0x3f80_0000, 0x3f80_0000, 0x3f7f_ffff, 0x3f7f_ffff]),
        ("v_sub_f32_e32 v5, v1, v2", [1.5, 1.5, 0.0], [0, 0, 0x8000_0000, 0]),
        ("v_mul_f32_e32 v5, v1, v2", [3e38, 2.0, 0.0], [0x7f80_0000, 0x7f80_0000, 0x7f7f_ffff, 0x7f7f_ffff]),
        ("v_mul_f32_e32 v5, v1, v2", [-3e38, 2.0, 0.0], [0xff80_0000, 0xff7f_ffff, 0xff80_0000, 0xff7f_ffff]),
        ("v_mul_f32_e32 v5, v1, v2", [1e-40, 1e-10, 0.0], [0, 1, 0, 0]),
        (
            "v_fma_f32 v5, v1, v2, v3",
            [1e-30, -1e-30, 2.0],
            [0x4000_0000, 0x4000_0000, 0x3fff_ffff, 0x3fff_ffff],
        ),
        ("v_fma_f32 v5, v1, v2, v3", [f32::INFINITY, -1.0, 2.0], [0xff80_0000; 4]),
    ];
    for (text, operands, expected) in cases {
        for (direction, expected) in (0..).zip(expected) {
            let mut wave = rounding(direction);
            fill(&mut wave, &[1, 2, 3].map(|at| (at, operands[at - 1].to_bits())));
            run(text, &mut wave);
            assert_eq!(wave.row(5)[3], expected, "{text} of {operands:?}, rounding {direction}");
        }
    }
    // 2^-126 / 2 and the like are exact; three halves of the least denormal are not.
    for (direction, expected) in (0..).zip([2, 2, 1, 1]) {
        let mut wave = rounding(direction);
        fill(&mut wave, &[(1, 3), (2, (-1_i32).cast_unsigned())]);
        run("v_ldexp_f32 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0], expected, "rounding {direction}");
        // Scaled back by 2^-64 after the step of a division: 3 * 2^-86 is 1.5 times the least denormal.
        fill(&mut wave, &[(1, (3.0 * (-86_f32).exp2()).to_bits()), (2, 1_f32.to_bits()), (3, 0)]);
        wave.set_mask(crate::exec::wave::VCC, u64::MAX);
        run("v_div_fmas_f32 v5, v1, v2, v3", &mut wave);
        assert_eq!(wave.row(5)[0], expected, "rounding {direction}");
    }
}

#[test]
fn mixed_precision_rounds_twice() {
    // 1 + 2^-11 in binary32 is a tie of binary16.
    let mut wave = wave();
    fill(&mut wave, &[(1, 1_f32.to_bits()), (2, 1_f32.to_bits()), (3, (-11_f32).exp2().to_bits())]);
    for (direction, expected) in (0..).zip([0x3c00, 0x3c01, 0x3c00, 0x3c00]) {
        wave.mode = Mode(0x3f0 | direction << 2);
        run("v_fma_mixlo_f16 v5, v1, v2, v3", &mut wave);
        assert_eq!(wave.row(5)[0] & 0xffff, expected, "rounding {direction}");
    }
    fill(&mut wave, &[(3, 1e-20_f32.to_bits())]);
    for (direction, expected) in (0..).zip([0x3f80_0000, 0x3f80_0001, 0x3f80_0000, 0x3f80_0000]) {
        wave.mode = Mode(0x3f0 | direction);
        run("v_fma_mix_f32 v5, v1, v2, v3", &mut wave);
        assert_eq!(wave.row(5)[0], expected, "rounding {direction}");
    }
}

#[test]
fn denormals_obey_their_fields() {
    const LEAST: u32 = 1;
    let half = f16::from_f32(0.5).to_bits();
    for bits in 0..4_u32 {
        let (keeps_input, keeps_output) = (bits & 1 != 0, bits & 2 != 0);
        // A denormal operand with a normal result, and a denormal result of normal operands.
        let mut wave = wave();
        wave.mode = Mode(0x3c0 | bits << 4);
        fill(&mut wave, &[(1, 0x0040_0000), (2, 0x7f00_0000)]);
        run("v_mul_f32_e32 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0], if keeps_input { 1_f32.to_bits() } else { 0 }, "{bits}");
        fill(&mut wave, &[(1, 0x8080_0000), (2, 0.5_f32.to_bits())]);
        run("v_mul_f32_e32 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0], if keeps_output { 0x8040_0000 } else { 0x8000_0000 }, "{bits}");
        fill(&mut wave, &[(1, LEAST), (2, 0)]);
        run("v_cmp_eq_f32_e32 vcc_lo, v1, v2", &mut wave);
        assert_eq!(wave.mask(106) != 0, !keeps_input, "{bits}");
        // Tests for the kind of a number see denormals in every mode.
        fill(&mut wave, &[(2, 1 << 7)]);
        run("v_cmp_class_f32_e32 vcc_lo, v1, v2", &mut wave);
        assert_eq!(wave.mask(106), u64::from(u32::MAX), "{bits}");

        wave.mode = Mode(0x330 | bits << 6);
        fill(&mut wave, &[(1, 0x0200), (2, 0x7800)]);
        run("v_mul_f16_e32 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0] & 0xffff, if keeps_input { 0x3c00 } else { 0 }, "{bits}");
        fill(&mut wave, &[(1, 0x8400), (2, half.into())]);
        run("v_mul_f16_e32 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0] & 0xffff, if keeps_output { 0x8200 } else { 0x8000 }, "{bits}");
        fill(&mut wave, &[(1, 0x0200_0200), (2, 0), (3, 0), (5, 0)]);
        run("v_pk_add_f16 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0], if bits == 3 { 0x0200_0200 } else { 0 }, "{bits}");
        run("v_cvt_f32_f16_e32 v5, v1", &mut wave);
        assert_eq!(wave.row(5)[0], if keeps_input { (-15_f32).exp2().to_bits() } else { 0 }, "{bits}");
        fill(&mut wave, &[(1, (-15_f32).exp2().to_bits()), (5, 0)]);
        run("v_cvt_f16_f32_e32 v5, v1", &mut wave);
        assert_eq!(wave.row(5)[0], if keeps_output { 0x0200 } else { 0 }, "{bits}");
        fill64(&mut wave, &[(1, 0x0008_0000_0000_0000), (3, 0x7fe0_0000_0000_0000)]);
        run("v_mul_f64 v[5:6], v[1:2], v[3:4]", &mut wave);
        assert_eq!(pair(&wave, 5, 9), if keeps_input { 1_f64.to_bits() } else { 0 }, "{bits}");
        fill64(&mut wave, &[(1, 0x0010_0000_0000_0000), (3, 0.5_f64.to_bits())]);
        run("v_mul_f64 v[5:6], v[1:2], v[3:4]", &mut wave);
        assert_eq!(pair(&wave, 5, 9), if keeps_output { 0x0008_0000_0000_0000 } else { 0 }, "{bits}");
    }
}

#[test]
fn nans_obey_the_clamp_and_ieee_bits() {
    const SIGNALLING: u32 = 0x7fa0_0001;
    let two = 2_f32.to_bits();
    for (mode, clamped, maximum) in [
        (0xf0, f32::NAN.to_bits(), two),
        (0x1f0, 0, two),
        (0x2f0, f32::NAN.to_bits(), SIGNALLING | 1 << 22),
        (0x3f0, 0, SIGNALLING | 1 << 22),
    ] {
        let mut wave = wave();
        wave.mode = Mode(mode);
        fill(&mut wave, &[(1, f32::NAN.to_bits()), (2, two)]);
        run("v_add_f32_e64 v5, v1, v2 clamp", &mut wave);
        assert_eq!(wave.row(5)[0], clamped, "{mode:#x}");
        // Quiet ones give way to numbers in every mode.
        run("v_max_f32_e32 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0], two, "{mode:#x}");
        for sources in [[SIGNALLING, two], [two, SIGNALLING]] {
            fill(&mut wave, &[(1, sources[0]), (2, sources[1])]);
            for text in ["v_max_f32_e32 v5, v1, v2", "v_min_f32_e32 v5, v1, v2"] {
                run(text, &mut wave);
                assert_eq!(wave.row(5)[0], maximum, "{text}, {mode:#x}");
            }
        }
        fill(&mut wave, &[(1, 0x7d01), (2, 0x4000), (5, 0)]);
        run("v_max_f16_e32 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0], if mode & 0x200 != 0 { 0x7f01 } else { 0x4000 }, "{mode:#x}");
        fill64(&mut wave, &[(1, 0x7ff4_0000_0000_0001), (3, 2_f64.to_bits())]);
        run("v_max_f64 v[5:6], v[1:2], v[3:4]", &mut wave);
        let quieted = 0x7ffc_0000_0000_0001;
        assert_eq!(pair(&wave, 5, 0), if mode & 0x200 != 0 { quieted } else { 2_f64.to_bits() }, "{mode:#x}");
    }
}

#[test]
fn multipliers_apply_where_denormals_and_ieee_are_off() {
    // Mode, and whether binary32 and binary64 results are multiplied.
    for (mode, single, double) in [
        (0x3f0, false, false),
        (0xf0, false, false),
        (0xd0, true, false),
        (0x70, false, true),
        (0x250, false, false),
    ] {
        let mut wave = wave();
        wave.mode = Mode(mode);
        fill(&mut wave, &[(1, 3_f32.to_bits()), (2, 5_f32.to_bits())]);
        run("v_mul_f32_e64 v5, v1, v2 mul:4", &mut wave);
        assert_eq!(f32::from_bits(wave.row(5)[0]), if single { 60.0 } else { 15.0 }, "{mode:#x}");
        fill(&mut wave, &[(1, (-0_f32).to_bits())]);
        run("v_mul_f32_e64 v5, v1, v2 mul:4", &mut wave);
        assert_eq!(wave.row(5)[0], if single { 0 } else { 0x8000_0000 }, "{mode:#x}");
        fill64(&mut wave, &[(1, 3_f64.to_bits()), (3, 5_f64.to_bits())]);
        run("v_mul_f64 v[5:6], v[1:2], v[3:4] div:2", &mut wave);
        assert_eq!(f64::from_bits(pair(&wave, 5, 0)), if double { 7.5 } else { 15.0 }, "{mode:#x}");
    }
}

#[test]
fn mode_is_read_and_written() {
    let mut wave = wave();
    run("s_round_mode 0x7", &mut wave);
    assert_eq!(wave.mode, Mode(0x3f7));
    run("s_denorm_mode 6", &mut wave);
    assert_eq!(wave.mode, Mode(0x367));
    run("s_getreg_b32 s0, hwreg(HW_REG_MODE, 4, 6)", &mut wave);
    assert_eq!(wave.scalar(0), 0x36);
    wave.set_scalar(4, 0xfffe);
    run("s_setreg_b32 hwreg(HW_REG_MODE, 2, 2), s4", &mut wave);
    assert_eq!(wave.mode, Mode(0x36b));
    run("s_setreg_imm32_b32 hwreg(HW_REG_MODE), 0x3f3", &mut wave);
    assert_eq!(wave.mode, Mode(0x3f3));
}

#[test]
fn a_descriptor_sets_the_first_mode() {
    // FLOAT_ROUND_MODE_32 up, FLOAT_ROUND_MODE_16_64 down, denormals of binary16 and binary64, DX10_CLAMP, IEEE.
    let resource1 = 1 << 12 | 2 << 14 | 3 << 18 | 1 << 21 | 1 << 23;
    assert_eq!(Mode::initial(Arch::Gfx11, resource1, 0), Mode(0x3c9));
    assert!(!Mode::initial(Arch::Gfx11, resource1, 0).is_refused());
    assert!(Mode::initial(Arch::Gfx11, resource1 | 1 << 26, 0).is_refused(), "saturating binary16");
    assert!(Mode::initial(Arch::Gfx11, resource1, 1 << 25).is_refused(), "traps");
}

#[test]
fn traps_on_exceptions_stop_the_wave() {
    let mut wave = wave();
    super::run_with(
        "s_setreg_imm32_b32 hwreg(HW_REG_MODE), 0x133f0",
        &mut wave,
        &crate::memory::Memory::new(false, false),
        Vec::new(),
    );
    let Some(Stop::Fault(fault)) = wave.stop else { panic!("{:?}", wave.stop) };
    assert_eq!(fault.kind, FaultKind::Mode(0x133f0));
}

#[test]
fn conversions_are_clamped() {
    let mut wave = wave();
    for (value, expected) in [(-3_i32, 0.0), (0, 0.0), (1, 1.0), (7, 1.0)] {
        fill(&mut wave, &[(1, value.cast_unsigned())]);
        run("v_cvt_f32_i32_e64 v5, v1 clamp", &mut wave);
        assert_eq!(f32::from_bits(wave.row(5)[0]), expected, "{value}");
    }
}
