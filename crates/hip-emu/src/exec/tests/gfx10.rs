//! What gfx10 has otherwise than gfx11: operands that are parts of registers, dot products of one sign, scratch through a
//! descriptor.

use half::f16;

use super::{Random, fill, run_on, run_on_with};
use crate::{
    Arch, FaultKind,
    exec::{
        buffers::scratch_descriptor,
        mode::Mode,
        wave::{EXEC, Stop, VCC, Wave, low},
    },
};

fn wave() -> Wave<32> {
    let mut wave = Wave::new(32, 0);
    wave.set_mask(EXEC, u64::from(u32::MAX));
    wave.mode = Mode::initial(Arch::Gfx10, 0xc0 << 12 | 1 << 21 | 1 << 23, 0);
    wave
}

/// What an operation makes of v1, v2, v3 and its result register.
fn result(text: &str, values: [u32; 4]) -> u32 {
    let mut wave = wave();
    fill(&mut wave, &[(1, values[0]), (2, values[1]), (3, values[2]), (5, values[3])]);
    run_on(Arch::Gfx10, text, &mut wave);
    wave.row(5)[9]
}

#[test]
fn parts_of_registers_are_operands_and_results() {
    let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
    let text =
        "v_add_f16_sdwa v5, v1, v2 dst_sel:WORD_1 dst_unused:UNUSED_PRESERVE src0_sel:WORD_1 src1_sel:WORD_0";
    assert_eq!(
        result(text, [half(1.5) << 16 | 7, half(2.0) | 9 << 16, 0, 0x1234_5678]),
        half(3.5) << 16 | 0x5678
    );
    let text = "v_add_nc_u32_sdwa v5, sext(v1), v2 dst_sel:BYTE_2 dst_unused:UNUSED_SEXT src0_sel:BYTE_3 src1_sel:WORD_1";
    // -2 + 0x105 is 0x103, whose low byte is 3; -2 + 0x82 is 0x80, a negative byte.
    assert_eq!(result(text, [0xfe11_1111, 0x0105_2222, 0, u32::MAX]), 0x0003_0000);
    assert_eq!(result(text, [0xfe11_1111, 0x0082_2222, 0, 0]), 0xff80_0000);
    let text =
        "v_add_f32_sdwa v5, -v1, |v2| dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:DWORD src1_sel:DWORD";
    assert_eq!(result(text, [1.0_f32.to_bits(), (-3.0_f32).to_bits(), 0, 0]), 2.0_f32.to_bits());
    let text = "v_mov_b32_sdwa v5, v1 dst_sel:BYTE_1 dst_unused:UNUSED_PAD src0_sel:BYTE_2";
    assert_eq!(result(text, [0x11ab_2233, 0, 0, u32::MAX]), 0xab00);
    let text = "v_cvt_f32_f16_sdwa v5, v1 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:WORD_1";
    assert_eq!(result(text, [half(-0.5) << 16 | 1, 0, 0, 0]), (-0.5_f32).to_bits());
}

#[test]
fn parts_of_registers_are_compared_in_active_lanes() {
    let mut wave = wave();
    wave.write_row(1, &std::array::from_fn(|lane| 0xff00 | (lane as u32 % 3)), u64::MAX);
    fill(&mut wave, &[(2, 0x0100)]);
    wave.set_mask(EXEC, 0xffff);
    wave.set_scalar(VCC, u32::MAX);
    run_on(Arch::Gfx10, "v_cmp_eq_u32_sdwa vcc_lo, v1, v2 src0_sel:BYTE_0 src1_sel:BYTE_1", &mut wave);
    let expected = (0..16).filter(|lane| lane % 3 == 1).fold(0, |mask, lane| mask | 1 << lane);
    assert_eq!(wave.scalar(VCC), expected);
    // Signed, against a scalar register.
    wave.write_row(1, &std::array::from_fn(|lane| 0x0f0f_0f00 | (lane as u32 * 16) & 0xff), u64::MAX);
    wave.set_scalar(2, 0);
    run_on(Arch::Gfx10, "v_cmp_lt_i32_sdwa s4, sext(v1), s2 src0_sel:BYTE_0 src1_sel:DWORD", &mut wave);
    assert_eq!(wave.scalar(4), 0xff00);
}

#[test]
fn dot_products_of_one_sign_are_sums_of_products() {
    let mut random = Random(41);
    for _ in 0..200 {
        let [a, b] = [(); 2].map(|()| random.next() as u32);
        let c = (random.next() as u32).cast_signed() >> 4;
        let signed = |width: u32| -> i64 {
            let part =
                |word: u32, at: u32| i64::from((word << (32 - width - at)).cast_signed() >> (32 - width));
            (0..32 / width).map(|index| part(a, width * index) * part(b, width * index)).sum()
        };
        let values = [a, b, c.cast_unsigned(), c.cast_unsigned()];
        let expected = |width| low((signed(width) + i64::from(c)).cast_unsigned());
        assert_eq!(result("v_dot2_i32_i16 v5, v1, v2, v3", values), expected(16));
        assert_eq!(result("v_dot4_i32_i8 v5, v1, v2, v3", values), expected(8));
        assert_eq!(result("v_dot4c_i32_i8 v5, v1, v2", values), expected(8));
        assert_eq!(result("v_dot8_i32_i4 v5, v1, v2, v3", values), expected(4));
        let unsigned =
            u64::from(a & 0xffff) * u64::from(b & 0xffff) + u64::from(a >> 16) * u64::from(b >> 16);
        let sum = unsigned + u64::from(c.cast_unsigned());
        assert_eq!(result("v_dot2_u32_u16 v5, v1, v2, v3", values), low(sum));
    }
    let most = i32::MAX.cast_unsigned();
    assert_eq!(result("v_dot4_i32_i8 v5, v1, v2, v3 clamp", [0x0101_0101, 0x0101_0101, most - 1, 0]), most);
}

#[test]
fn old_scalar_operations_are_executed() {
    let mut wave = wave();
    (wave.sgprs[1], wave.sgprs[2]) = (0b1011, 0b0110);
    run_on(Arch::Gfx10, "s_andn2_b32 s5, s1, s2", &mut wave);
    assert_eq!((wave.sgprs[5], wave.scc), (0b1001, true));
    run_on(Arch::Gfx10, "s_ff0_i32_b32 s5, s1", &mut wave);
    assert_eq!(wave.sgprs[5], 2);
    wave.set_scalar64(0, u64::MAX >> 20);
    run_on(Arch::Gfx10, "s_ff0_i32_b64 s5, s[0:1]", &mut wave);
    assert_eq!(wave.sgprs[5], 44);
    wave.set_scalar64(0, u64::MAX);
    run_on(Arch::Gfx10, "s_ff0_i32_b64 s5, s[0:1]", &mut wave);
    assert_eq!(wave.sgprs[5], u32::MAX);
}

/// Words are interleaved by lane: a scalar offset counts them for all lanes, an offset in a register for one.
#[test]
fn scratch_is_reached_through_its_descriptor() {
    const BYTES: usize = 64;
    let mut wave = Wave::<32>::new(32, 32 * BYTES);
    wave.set_mask(EXEC, u64::from(u32::MAX));
    let [base, size] = scratch_descriptor(32);
    wave.set_scalar64(8, base);
    wave.set_scalar64(10, size);
    wave.set_scalar(3, 32 * 8);
    let values: [u32; 32] = std::array::from_fn(|lane| 1000 + lane as u32);
    wave.write_row(5, &values, u64::MAX);
    fill(&mut wave, &[(1, 12)]);
    run_on_with(Arch::Gfx10, "buffer_store_dword v5, v1, s[8:11], 0 offen", &mut wave, BYTES);
    assert!(wave.stop.is_none(), "{:?}", wave.stop);
    for (lane, value) in values.into_iter().enumerate() {
        let at = lane * BYTES + 12;
        assert_eq!(wave.scratch[at..at + 4], value.to_le_bytes(), "{lane}");
    }
    fill(&mut wave, &[(5, 0)]);
    run_on_with(Arch::Gfx10, "buffer_load_dword v5, off, s[8:11], s3 offset:4", &mut wave, BYTES);
    assert_eq!(*wave.row(5), values);
    // Beyond a lane's bytes, in another lane's, and across words.
    for (offset, kind) in [
        (32 * 60, FaultKind::ScratchOutOfBounds { address: 64, bytes: 4, size: BYTES }),
        (4, FaultKind::Unsupported),
    ] {
        wave.set_scalar(3, offset);
        run_on_with(Arch::Gfx10, "buffer_load_dword v5, off, s[8:11], s3 offset:4", &mut wave, BYTES);
        let Some(Stop::Fault(fault)) = wave.stop.take() else { panic!("{offset}") };
        assert_eq!(fault.kind, kind);
    }
    run_on_with(Arch::Gfx10, "buffer_load_dwordx2 v[5:6], off, s[8:11], 0", &mut wave, BYTES);
    let Some(Stop::Fault(fault)) = wave.stop.take() else { panic!() };
    assert_eq!(fault.kind, FaultKind::Unsupported);
}
