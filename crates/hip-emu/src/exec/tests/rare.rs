//! Operations that few programs use, against tables of known results and integer arithmetic.

use super::{Random, fill, fill64, pair, run, wave};
use crate::FaultKind;
use crate::exec::{
    tests::run_fault,
    wave::{EXEC, M0, Wave},
};

fn floats(wave: &mut Wave<32>, values: [f32; 3]) {
    fill(wave, &[(1, values[0].to_bits()), (2, values[1].to_bits()), (3, values[2].to_bits())]);
}

#[test]
fn directions_find_their_place_on_a_cube() {
    // A direction, its face (+x, -x, +y, -y, +z, -z), and s, t and twice the major axis on it: the table of OpenGL's
    // specification, "Cube Map Texture Selection".
    let table = [
        ([4.0, 1.0, 2.0], 0.0, [-2.0, -1.0, 8.0]),
        ([-4.0, 1.0, 2.0], 1.0, [2.0, -1.0, -8.0]),
        ([1.0, 4.0, 2.0], 2.0, [1.0, 2.0, 8.0]),
        ([1.0, -4.0, 2.0], 3.0, [1.0, -2.0, -8.0]),
        ([1.0, 2.0, 4.0], 4.0, [1.0, -2.0, 8.0]),
        ([1.0, 2.0, -4.0], 5.0, [-1.0, -2.0, -8.0]),
        // Of equal axes z comes before y, and y before x.
        ([3.0, 3.0, 3.0], 4.0, [3.0, -3.0, 6.0]),
        ([-3.0, -3.0, 1.0], 3.0, [-3.0, -1.0, -6.0]),
    ];
    let mut wave = wave();
    for (direction, face, [s, t, axis]) in table {
        floats(&mut wave, direction);
        for (name, expected) in [("id", face), ("sc", s), ("tc", t), ("ma", axis)] {
            run(&format!("v_cube{name}_f32 v5, v1, v2, v3"), &mut wave);
            assert_eq!(f32::from_bits(wave.row(5)[11]), expected, "v_cube{name}_f32 of {direction:?}");
        }
    }
}

#[test]
fn lighting_products_have_their_exceptions() {
    let least = -f32::MAX;
    let table = [
        ([3.0, 2.0, 1.0], 6.0),
        ([3.0, 2.0, 0.0], least),
        ([3.0, 2.0, -1.0], least),
        ([3.0, 2.0, f32::NAN], least),
        ([3.0, least, 1.0], least),
        ([3.0, f32::NEG_INFINITY, 1.0], least),
        ([3.0, f32::NAN, 1.0], least),
        ([-3.0, f32::INFINITY, 1.0], f32::NEG_INFINITY),
    ];
    let mut wave = wave();
    for (operands, expected) in table {
        floats(&mut wave, operands);
        run("v_mullit_f32 v5, v1, v2, v3", &mut wave);
        assert_eq!(f32::from_bits(wave.row(5)[0]), expected, "{operands:?}");
    }
}

#[test]
fn halves_become_normalised_integers() {
    let half = |value: f32| u32::from(half::f16::from_f32(value).to_bits());
    // 0.5 is a tie in both formats.
    let table = [
        (1.0, 0x7fff, 0xffff),
        (-1.0, -0x7fff, 0),
        (7.0, 0x7fff, 0xffff),
        (-7.0, -0x7fff, 0),
        (0.5, 0x4000, 0x8000),
        (-0.5, -0x4000, 0),
        (f32::NAN, 0, 0),
        (0.25, 0x2000, 0x4000),
    ];
    let mut wave = wave();
    for (value, signed, unsigned) in table {
        fill(&mut wave, &[(1, half(value)), (2, half(-value))]);
        run("v_cvt_pk_norm_i16_f16 v5, v1, v2", &mut wave);
        let packed = wave.row(5)[0];
        assert_eq!(i32::from((packed as u16).cast_signed()), signed, "{value}");
        assert_eq!(i32::from(((packed >> 16) as u16).cast_signed()), -signed, "{value}");
        run("v_cvt_pk_norm_u16_f16 v5, v1, v2", &mut wave);
        assert_eq!(wave.row(5)[0] & 0xffff, unsigned, "{value}");
    }
}

#[test]
fn byte_differences_at_four_offsets() {
    let mut random = Random(5);
    for _ in 0..500 {
        let (window, reference, sums) = (random.next(), random.next() as u32, random.next());
        let reference = if random.next().is_multiple_of(3) { reference & 0xffff_00ff } else { reference };
        let mut wave = wave();
        fill64(&mut wave, &[(1, window), (4, sums)]);
        fill(&mut wave, &[(3, reference), (6, 7), (7, u32::MAX)]);
        // Each place of the window, byte by byte; `masked` leaves out bytes that are zero in the reference.
        let expected = |at: usize, masked: bool| -> u32 {
            (0..4)
                .map(|byte| {
                    let (a, b) = (window.to_le_bytes()[at + byte], reference.to_le_bytes()[byte]);
                    if masked && b == 0 { 0 } else { (i32::from(a) - i32::from(b)).unsigned_abs() }
                })
                .sum()
        };
        for (text, masked) in [
            ("v_qsad_pk_u16_u8 v[10:11], v[1:2], v3, v[4:5]", false),
            ("v_mqsad_pk_u16_u8 v[10:11], v[1:2], v3, v[4:5]", true),
        ] {
            run(text, &mut wave);
            for at in 0..4 {
                let sum = (sums >> (16 * at) & 0xffff) + u64::from(expected(at, masked));
                assert_eq!(pair(&wave, 10, 30) >> (16 * at) & 0xffff, sum & 0xffff, "{text}, offset {at}");
            }
        }
        run("v_mqsad_u32_u8 v[10:13], v[1:2], v3, v[4:7]", &mut wave);
        for at in 0..4 {
            let sum = wave.row(4 + at)[0].wrapping_add(expected(at, true));
            assert_eq!(wave.row(10 + at)[0], sum, "offset {at}");
        }
    }
}

/// The segments 0, 1 and 2 for a number.
fn segments(x: f64) -> [f64; 3] {
    [0, 1, 2].map(|segment| {
        let mut wave = wave();
        fill64(&mut wave, &[(1, x.to_bits())]);
        fill(&mut wave, &[(3, segment)]);
        run("v_trig_preop_f64 v[5:6], v[1:2], v3", &mut wave);
        f64::from_bits(pair(&wave, 5, 4))
    })
}

#[test]
fn digits_of_two_over_pi_reduce_large_angles() {
    // 2 / pi in hexadecimal, which is 53 bits for each segment (A. Karatsuba and others give its digits).
    let digits: u128 = 0xa2f9_836e_4e44_1529_fc27_57d1_f534_ddc0;
    for (segment, found) in segments(1.0).into_iter().enumerate().take(2) {
        let expected = digits << (53 * segment) >> (128 - 53);
        assert_eq!(found * (53.0 * (segment as f64 + 1.0)).exp2(), expected as f64, "segment {segment}");
    }
    // A quarter turn more or less does not matter: x * 2 / pi modulo 4, summed exactly enough, gives the sine.
    for x in [1e5, 1e22, 2_f64.powi(100), 3.0 * 2_f64.powi(300), 1.5 * 2_f64.powi(900), 2_f64.powi(1000)] {
        // Parts as far apart as the segments; each product in two words, each reduced by itself.
        let mut turns = 0.0_f64;
        for segment in segments(x) {
            // Segments of the largest numbers are scaled up by 2^128, so that they do not vanish.
            let scaled = if x > 2_f64.powi(944) { x * (-128_f64).exp2() } else { x };
            let product = scaled * segment;
            let rest = scaled.mul_add(segment, -product);
            turns = (turns + product % 4.0) % 4.0 + rest % 4.0;
        }
        let found = (turns * std::f64::consts::FRAC_PI_2).sin();
        assert!((found - x.sin()).abs() < 1e-13, "{x:e}: {found} is not {}", x.sin());
    }
}

#[test]
fn moves_are_shifted_by_both_halves_of_m0() {
    let mut wave = wave();
    for register in 0..20 {
        fill(&mut wave, &[(register, 100 + register as u32)]);
        wave.set_scalar(register, 200 + register as u32);
    }
    wave.set_scalar(M0, 7 << 16 | 3);
    run("v_movrelsd_2_b32_e32 v5, v1", &mut wave);
    assert_eq!((wave.row(12)[8], wave.row(5)[8]), (104, 105));
    run("v_swaprel_b32 v5, v1", &mut wave);
    assert_eq!((wave.row(12)[8], wave.row(4)[8]), (104, 104));
    fill(&mut wave, &[(12, 1), (4, 2)]);
    run("v_swaprel_b32 v5, v1", &mut wave);
    assert_eq!((wave.row(12)[8], wave.row(4)[8]), (2, 1));
    run("s_movrelsd_2_b32 s0, s1", &mut wave);
    assert_eq!(wave.scalar(7), 204);
    wave.set_scalar(M0, 1000);
    assert_eq!(run_fault("v_movrelsd_2_b32_e32 v5, v1", &mut wave), FaultKind::Unsupported);
}

#[test]
fn half_waves_are_not_exchanged_in_waves_of_32() {
    let mut wave = wave();
    fill(&mut wave, &[(1, 1), (5, 5)]);
    run("v_permlane64_b32 v5, v1", &mut wave);
    assert_eq!(wave.row(5), &[5; 32]);
}

#[test]
fn swizzles_rotate_and_reverse() {
    let lanes: [u32; 32] = std::array::from_fn(|lane| lane as u32);
    // The lanes that the first eight read, from the ISA's text by hand: rotation by 1 to the right, by 3 to the left within
    // what is free; orders of a transform of 32, of 2 x 16, and none.
    let table: [(u32, [u32; 8]); 5] = [
        (0xc020, [1, 2, 3, 4, 5, 6, 7, 8]),
        (0xc460, [29, 30, 31, 0, 1, 2, 3, 4]),
        (0xe000, [0, 16, 8, 24, 4, 20, 12, 28]),
        (0xe010, [0, 8, 4, 12, 2, 10, 6, 14]),
        (0xe01f, [0, 1, 2, 3, 4, 5, 6, 7]),
    ];
    for (pattern, expected) in table {
        let mut wave = wave();
        wave.write_row(1, &lanes, u64::MAX);
        run(&format!("ds_swizzle_b32 v5, v1 offset:{pattern}"), &mut wave);
        assert_eq!(wave.row(5)[..8], expected, "{pattern:#x}");
        let mut sorted = *wave.row(5);
        sorted.sort_unstable();
        assert_eq!(sorted, lanes, "{pattern:#x} is a permutation");
    }
    // Inactive lanes give zero.
    let mut wave = wave();
    wave.write_row(1, &lanes, u64::MAX);
    wave.set_mask(EXEC, 1);
    run("ds_swizzle_b32 v5, v1 offset:49184", &mut wave);
    assert_eq!(wave.row(5)[0], 0);
}

#[test]
fn messages_of_compute_code_are_sent() {
    let mut wave = wave();
    run("s_sendmsg sendmsg(MSG_INTERRUPT)", &mut wave);
    run("s_sendmsg sendmsg(MSG_DEALLOC_VGPRS)", &mut wave);
    run("s_sendmsg_rtn_b64 s[0:1], sendmsg(MSG_RTN_GET_REALTIME)", &mut wave);
    assert!(wave.scalar64(0) > 0, "time goes on");
    assert_eq!(run_fault("s_sendmsg sendmsg(MSG_GS_ALLOC_REQ)", &mut wave), FaultKind::Unsupported);
}

#[test]
fn hardware_registers_that_do_not_depend_on_a_card_are_read() {
    let mut wave = wave();
    wave.number = 5;
    run("s_getreg_b32 s0, hwreg(HW_REG_SH_MEM_BASES)", &mut wave);
    // Scratch in the low half, LDS in the high half; each is the top of its aperture.
    let apertures = [crate::exec::PRIVATE_APERTURE, crate::exec::SHARED_APERTURE].map(|high| high >> 16);
    assert_eq!([wave.scalar(0) & 0xffff, wave.scalar(0) >> 16], apertures);
    run("s_getreg_b32 s0, hwreg(HW_REG_HW_ID1)", &mut wave);
    assert_eq!(wave.scalar(0), 5);
    assert_eq!(run_fault("s_getreg_b32 s0, hwreg(HW_REG_STATUS)", &mut wave), FaultKind::Unsupported);
}

#[test]
fn debuggers_and_translation_probes_change_nothing() {
    let mut wave = wave();
    run("s_cbranch_cdbgsys 4", &mut wave);
    assert_eq!(wave.pc, 1);
    run("s_atc_probe 7, s[4:5], 0x40", &mut wave);
}
