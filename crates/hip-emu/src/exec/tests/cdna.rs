//! Instructions of CDNA, on waves of 64 lanes.

use crate::{
    Allocation, Arch, FaultKind,
    arch::Lacks,
    descriptor::VectorRegisters,
    exec::{
        environment::Environment,
        group::run_one,
        tests::{USUAL, encoding},
        translate::translate,
        wave::{EXEC, M0, Stop, VCC, Wave},
    },
    memory::Memory,
};

pub(super) type Wave64 = Wave<64>;

/// Where accumulation registers begin.
pub(super) const ACCUMULATION: usize = 128;
const REGISTERS: VectorRegisters = VectorRegisters { ordinary: ACCUMULATION, accumulation: 128 };
pub(super) const ALL: u64 = u64::MAX;

pub(super) fn wave() -> Wave64 {
    let mut wave = Wave::new(REGISTERS.count(), 0);
    wave.set_mask(EXEC, ALL);
    wave.mode = USUAL;
    wave
}

/// Runs instructions one after the other with `lds` as the group's memory; gives it back.
fn run_with(arch: Arch, texts: &[&str], wave: &mut Wave64, lds: Vec<u8>) -> Vec<u8> {
    let code: Vec<u8> = texts.iter().flat_map(|text| encoding(arch, text)).collect();
    let ops = translate::<64>(arch, Lacks::Nothing, &code, REGISTERS);
    let memory = Memory::new(false, false);
    let table = memory.lock();
    let mut environment = Environment::new(&table, &[], Allocation { address: 0, bytes: 0 });
    environment.lds = lds;
    wave.pc = 0;
    for _ in texts {
        run_one(wave, &ops, &mut environment);
    }
    std::mem::take(&mut environment.lds)
}

pub(super) fn run(arch: Arch, texts: &[&str], wave: &mut Wave64) {
    run_with(arch, texts, wave, Vec::new());
    assert!(wave.stop.is_none(), "{texts:?}: {:?}", wave.stop);
}

pub(super) fn fill(wave: &mut Wave64, registers: &[(usize, u32)]) {
    for &(register, value) in registers {
        wave.write_row(register, &[value; 64], ALL);
    }
}

fn fill64(wave: &mut Wave64, registers: &[(usize, u64)]) {
    for &(register, value) in registers {
        fill(wave, &[(register, value as u32), (register + 1, (value >> 32) as u32)]);
    }
}

pub(super) fn floats(wave: &mut Wave64, registers: &[(usize, f32)]) {
    registers.iter().for_each(|&(register, value)| fill(wave, &[(register, value.to_bits())]));
}

pub(super) fn float(wave: &Wave64, register: usize) -> f32 {
    f32::from_bits(wave.row(register)[37])
}

fn numbered(wave: &mut Wave64, register: usize) {
    let row = std::array::from_fn(|lane| 100 + lane as u32);
    wave.write_row(register, &row, ALL);
}

const BOTH: [Arch; 2] = [Arch::Gfx90a, Arch::Gfx940];

#[test]
fn packed_binary32_chooses_words_and_signs() {
    for arch in BOTH {
        let mut wave = wave();
        floats(&mut wave, &[(0, 2.0), (1, 3.0), (2, 5.0), (3, 7.0), (4, 11.0), (5, 13.0)]);
        run(arch, &["v_pk_fma_f32 v[6:7], v[0:1], v[2:3], v[4:5]"], &mut wave);
        assert_eq!((float(&wave, 6), float(&wave, 7)), (2.0 * 5.0 + 11.0, 3.0 * 7.0 + 13.0));
        wave.set_scalar(2, 17.0_f32.to_bits());
        wave.set_scalar(3, 19.0_f32.to_bits());
        let text = "v_pk_fma_f32 v[6:7], v[0:1], s[2:3], v[4:5] op_sel:[1,0,0] op_sel_hi:[0,1,1] neg_lo:[0,1,0] neg_hi:[0,0,1]";
        run(arch, &[text], &mut wave);
        assert_eq!((float(&wave, 6), float(&wave, 7)), (3.0 * -17.0 + 11.0, 2.0 * 19.0 - 13.0));
        run(arch, &["v_pk_mul_f32 v[6:7], v[0:1], 0.5 op_sel_hi:[1,0]"], &mut wave);
        assert_eq!((float(&wave, 6), float(&wave, 7)), (1.0, 1.5));
        floats(&mut wave, &[(2, -1.5), (3, 9.0)]);
        run(arch, &["v_pk_add_f32 v[6:7], v[0:1], v[2:3] clamp"], &mut wave);
        assert_eq!((float(&wave, 6), float(&wave, 7)), (0.5, 1.0));
        run(arch, &["v_pk_mov_b32 v[6:7], v[0:1], v[2:3] op_sel:[1,0]"], &mut wave);
        assert_eq!((float(&wave, 6), float(&wave, 7)), (3.0, -1.5));
        run(arch, &["v_pk_mov_b32 v[6:7], s[2:3], v[2:3] op_sel:[0,1]"], &mut wave);
        assert_eq!((float(&wave, 6), float(&wave, 7)), (17.0, 9.0));
    }
}

/// The newer operations keep the other half of their register.
#[test]
fn sixteen_bit_results_clear_the_other_half_or_keep_it() {
    let one = 0x3c00_3c00;
    for (text, expected) in [
        ("v_add_f16_e32 v6, v0, v1", 0x4000),
        ("v_cvt_f16_f32_e32 v6, v0", half::f16::from_f32(f32::from_bits(one)).to_bits().into()),
        ("v_mad_legacy_u16 v6, v0, v1, v2", 0x3c00_u32.wrapping_mul(0x3c01) & 0xffff),
        ("v_lshlrev_b16_e32 v6, v0, v1", 0x3c00),
        ("v_fma_f16 v6, v0, v1, v2", 0xaaaa_4000),
        ("v_mad_f16 v6, v0, v1, v2", 0xaaaa_4000),
        ("v_mad_u16 v6, v0, v1, v2", 0xaaaa_0000 | (0x3c00_u32.wrapping_mul(0x3c01) & 0xffff)),
    ] {
        for arch in BOTH {
            let mut wave = wave();
            fill(&mut wave, &[(0, one), (1, one), (2, one), (6, 0xaaaa_aaaa)]);
            run(arch, &[text], &mut wave);
            assert_eq!(wave.row(6)[63], expected, "{arch:?}: {text}: {:#x}", wave.row(6)[63]);
        }
    }
}

#[test]
fn lanes_are_permuted_across_the_wave() {
    let control = |name: &str| format!("v_mov_b32_dpp v6, v0 {name} row_mask:0xf bank_mask:0xf");
    // `None`: the lane keeps what it has.
    type From<'a> = &'a dyn Fn(usize) -> Option<usize>;
    let cases: [(&str, From<'_>); 6] = [
        ("wave_shl:1", &|lane| (lane < 63).then_some(lane + 1)),
        ("wave_rol:1", &|lane| Some(if lane == 63 { 0 } else { lane + 1 })),
        ("wave_ror:1", &|lane| Some(if lane == 0 { 63 } else { lane - 1 })),
        ("row_bcast:15", &|lane| [None, Some(15), Some(31), Some(47)][lane / 16]),
        ("row_bcast:31", &|lane| (lane >= 32).then_some(31)),
        ("row_newbcast:3", &|lane| Some([3, 19, 35, 51][lane / 16])),
    ];
    for (name, from) in cases {
        for arch in BOTH {
            let mut wave = wave();
            numbered(&mut wave, 0);
            fill(&mut wave, &[(6, 7)]);
            run(arch, &[control(name).as_str()], &mut wave);
            for lane in 0..64 {
                assert_eq!(
                    wave.row(6)[lane],
                    from(lane).map_or(7, |from| 100 + from as u32),
                    "{name}, {lane}"
                );
            }
        }
    }
    let mut wave = wave();
    numbered(&mut wave, 0);
    run(Arch::Gfx90a, &[&format!("{} bound_ctrl:1", control("wave_shr:1"))], &mut wave);
    assert_eq!((wave.row(6)[0], wave.row(6)[1], wave.row(6)[63]), (0, 100, 162));
}

#[test]
fn both_words_of_a_source_are_permuted() {
    for arch in BOTH {
        let mut wave = wave();
        fill64(&mut wave, &[(0, 1.5_f64.to_bits())]);
        let bits = 40.25_f64.to_bits();
        wave.write_row(0, &[bits as u32; 64], 1 << 33);
        wave.write_row(1, &[(bits >> 32) as u32; 64], 1 << 33);
        run(arch, &["v_ceil_f64_dpp v[6:7], v[0:1] row_newbcast:1 row_mask:0xf bank_mask:0xf"], &mut wave);
        let result =
            |lane: usize| f64::from_bits(u64::from(wave.row(6)[lane]) | u64::from(wave.row(7)[lane]) << 32);
        assert_eq!((result(31), result(32), result(47), result(48)), (2.0, 41.0, 41.0, 2.0));
    }
}

#[test]
fn masks_have_64_lanes() {
    let odd = 0xaaaa_aaaa_aaaa_aaaa;
    for arch in BOTH {
        let start = || {
            let mut wave = wave();
            let row = std::array::from_fn(|lane| lane as u32 % 2);
            wave.write_row(0, &[0; 64], ALL);
            wave.write_row(1, &row, ALL);
            wave
        };
        let active = 0xffff_ffff_0000_000f;
        let mut wave = start();
        wave.set_mask(EXEC, active);
        run(arch, &["v_cmp_lt_u32_e32 vcc, v0, v1"], &mut wave);
        assert_eq!((wave.mask(VCC), wave.exec()), (odd & active, active));
        run(arch, &["v_cmpx_lt_u32_e32 vcc, v0, v1"], &mut wave);
        assert_eq!((wave.mask(VCC), wave.exec()), (odd & active, odd & active));
        let mut wave = start();
        run(arch, &["v_cmpx_lt_u32_e64 s[10:11], v0, v1"], &mut wave);
        assert_eq!((wave.mask(10), wave.exec(), wave.mask(VCC)), (odd, odd, 0));
        let mut wave = start();
        wave.set_mask(2, odd);
        fill(&mut wave, &[(1, 9)]);
        run(arch, &["v_cndmask_b32_e64 v6, v0, v1, s[2:3]"], &mut wave);
        assert_eq!((wave.row(6)[62], wave.row(6)[63]), (0, 9));
        wave.set_mask(VCC, 1 << 40);
        fill(&mut wave, &[(0, u32::MAX), (1, 0)]);
        run(arch, &["v_addc_co_u32_e32 v6, vcc, v0, v1, vcc"], &mut wave);
        assert_eq!((wave.mask(VCC), wave.row(6)[40], wave.row(6)[41]), (1 << 40, 0, u32::MAX));
        run(arch, &["v_mbcnt_hi_u32_b32 v6, -1, v0"], &mut wave);
        assert_eq!((wave.row(6)[31], wave.row(6)[63]), (u32::MAX, u32::MAX.wrapping_add(31)));
        run(arch, &["s_and_saveexec_b64 s[4:5], s[2:3]"], &mut wave);
        assert_eq!((wave.mask(4), wave.exec(), wave.scc), (ALL, odd, true));
        wave.set_mask(EXEC, 1 << 45);
        numbered(&mut wave, 0);
        run(arch, &["v_readfirstlane_b32 s6, v0"], &mut wave);
        assert_eq!(wave.scalar(6), 145);
        run(arch, &["v_readlane_b32 s6, v0, 41"], &mut wave);
        assert_eq!(wave.scalar(6), 141);
    }
}

#[test]
fn accumulation_registers_lie_behind_the_ordinary_ones() {
    for arch in BOTH {
        let mut wave = wave();
        numbered(&mut wave, 0);
        let texts = ["v_accvgpr_write_b32 a3, v0", "v_accvgpr_mov_b32 a4, a3", "v_accvgpr_read_b32 v6, a3"];
        run(arch, &texts, &mut wave);
        for register in [6, ACCUMULATION + 3, ACCUMULATION + 4] {
            assert_eq!(wave.row(register), wave.row(0), "{register}");
        }
    }
}

#[test]
fn wide_integers_and_doubles() {
    let mut wave = wave();
    fill64(&mut wave, &[(0, 0x1234_5678_9abc_def0), (2, 7)]);
    run(Arch::Gfx940, &["v_lshl_add_u64 v[6:7], v[0:1], 3, v[2:3]"], &mut wave);
    let pair = |wave: &Wave64| u64::from(wave.row(6)[60]) | u64::from(wave.row(7)[60]) << 32;
    assert_eq!(pair(&wave), (0x1234_5678_9abc_def0_u64 << 3) + 7);
    run(Arch::Gfx940, &["v_mov_b64_e32 v[6:7], v[0:1]"], &mut wave);
    assert_eq!(pair(&wave), 0x1234_5678_9abc_def0);
    for arch in BOTH {
        fill64(&mut wave, &[(0, 1.5_f64.to_bits()), (2, 3.0_f64.to_bits()), (6, 10.0_f64.to_bits())]);
        run(arch, &["v_fmac_f64_e32 v[6:7], v[0:1], v[2:3]"], &mut wave);
        assert_eq!(f64::from_bits(pair(&wave)), 14.5);
    }
}

/// A product is rounded before it is added to, and denormals are zeros.
#[test]
fn products_and_sums_are_rounded_apart() {
    let (a, denormal) = (1.0 + f32::EPSILON, f32::MIN_POSITIVE / 4.0);
    for (factors, addend, expected) in
        [([a, a], -1.0 - 2.0 * f32::EPSILON, 0.0), ([denormal, 1.0], 1.0, 1.0), ([1.0, 1.0], denormal, 1.0)]
    {
        let mut wave = wave();
        floats(&mut wave, &[(0, factors[0]), (1, factors[1]), (2, addend), (6, addend)]);
        run(Arch::Gfx90a, &["v_mac_f32_e32 v6, v0, v1"], &mut wave);
        assert_eq!(float(&wave, 6), expected, "{factors:?}");
        run(Arch::Gfx90a, &["v_mad_f32 v6, v0, v1, v2"], &mut wave);
        assert_eq!(float(&wave, 6), expected, "{factors:?}");
    }
    let mut wave = wave();
    floats(&mut wave, &[(0, 0.0), (1, f32::INFINITY), (2, 3.0)]);
    run(Arch::Gfx90a, &["v_mad_legacy_f32 v6, v0, v1, v2"], &mut wave);
    assert_eq!(float(&wave, 6), 3.0);
}

#[test]
fn registers_are_indexed_between_two_instructions() {
    let source = ["s_set_gpr_idx_on s2, gpr_idx(SRC0)", "v_mov_b32_e32 v6, v0", "s_set_gpr_idx_off"];
    for arch in BOTH {
        let mut wave = wave();
        fill(&mut wave, &[(0, 1), (5, 55), (9, 99), (6, 0)]);
        wave.set_scalar(2, 0x105);
        wave.set_scalar(3, 9);
        run(arch, &source, &mut wave);
        assert_eq!((wave.row(6)[63], wave.scalar(M0) & 0xf0ff, wave.indexes), (55, 0x1005, false));
        let both = [
            "s_set_gpr_idx_on s2, gpr_idx(SRC0,DST)",
            "s_set_gpr_idx_idx s3",
            "v_mov_b32_e32 v6, v0",
            "s_set_gpr_idx_off",
            "v_mov_b32_e32 v6, v0",
        ];
        run(arch, &both, &mut wave);
        assert_eq!((wave.row(15)[63], wave.row(6)[63]), (99, 1));
        // Beyond the registers.
        wave.set_scalar(3, 255);
        run_with(arch, &both, &mut wave, Vec::new());
        assert!(matches!(&wave.stop, Some(Stop::Fault(fault)) if fault.kind == FaultKind::Unsupported));
    }
}

#[test]
fn lds_updates() {
    let words = |bytes: &[u8]| -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    for arch in BOTH {
        let mut wave = wave();
        wave.set_mask(EXEC, 1 << 63 | 1 << 20);
        let lds: Vec<u8> = [0.0, 2.5].into_iter().flat_map(f64::to_le_bytes).collect();
        fill64(&mut wave, &[(0, 0), (2, 0.25_f64.to_bits())]);
        let lds = run_with(arch, &["ds_add_f64 v0, v[2:3] offset:8"], &mut wave, lds);
        assert_eq!(lds[8..], 3.0_f64.to_le_bytes());
        // The comparand comes before the new value.
        fill(&mut wave, &[(0, 4), (1, 77), (2, 88)]);
        let lds = [11_u32, 77].into_iter().flat_map(u32::to_le_bytes).collect();
        wave.set_mask(EXEC, 1 << 63);
        let lds = run_with(arch, &["ds_cmpst_rtn_b32 v6, v0, v1, v2"], &mut wave, lds);
        assert_eq!((words(&lds), wave.row(6)[63]), (vec![11, 88], 77));
    }
    let mut wave = wave();
    wave.set_mask(EXEC, 3);
    fill(&mut wave, &[(0, 0), (1, 0x4000_3c00)]);
    let lds = run_with(Arch::Gfx940, &["ds_pk_add_f16 v0, v1"], &mut wave, vec![0; 4]);
    assert_eq!(words(&lds), [0x4400_4000]);
    fill(&mut wave, &[(1, 0x4000_3f80)]);
    let lds = run_with(Arch::Gfx940, &["ds_pk_add_rtn_bf16 v6, v0, v1"], &mut wave, vec![0; 4]);
    assert_eq!((words(&lds)[0], wave.row(6)[1]), (0x4080_4000, 0x4000_3f80));
}
