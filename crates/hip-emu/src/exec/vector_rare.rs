//! Vector operations that few programs use: cube maps, byte differences at four offsets, digits of 2 / pi.

use crate::exec::{
    element::{Element, F64, Float as _, words},
    exact::Rounding,
    float::{F16, half_word, ldexp64},
    mode::Precision,
    op::Op,
    shape::{lanes, map2, map3},
    table::instructions,
    vector_int::{msad8, sad8},
    wave::{Wave, low},
};

/// The axis along which a direction is longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    X,
    Y,
    Z,
}

fn major(x: f32, y: f32, z: f32) -> Axis {
    if z.abs() >= x.abs() && z.abs() >= y.abs() {
        Axis::Z
    } else if y.abs() >= x.abs() {
        Axis::Y
    } else {
        Axis::X
    }
}

/// The face of a cube that a direction points to.
fn cube_face(x: f32, y: f32, z: f32) -> f32 {
    let (first, along) = match major(x, y, z) {
        Axis::X => (0.0, x),
        Axis::Y => (2.0, y),
        Axis::Z => (4.0, z),
    };
    if along < 0.0 { first + 1.0 } else { first }
}

fn cube_major(x: f32, y: f32, z: f32) -> f32 {
    let along = match major(x, y, z) {
        Axis::X => x,
        Axis::Y => y,
        Axis::Z => z,
    };
    2.0 * along
}

/// The first coordinate on the face.
fn cube_s(x: f32, y: f32, z: f32) -> f32 {
    match major(x, y, z) {
        Axis::X if x < 0.0 => z,
        Axis::X => -z,
        Axis::Z if z < 0.0 => -x,
        Axis::Y | Axis::Z => x,
    }
}

/// The second coordinate on the face.
fn cube_t(x: f32, y: f32, z: f32) -> f32 {
    match major(x, y, z) {
        Axis::Y if y < 0.0 => -z,
        Axis::Y => z,
        Axis::X | Axis::Z => -y,
    }
}

/// A product, for lighting: the least number where the other operands are out of their range.
fn mullit(rounding: Rounding, a: f32, b: f32, c: f32) -> f32 {
    if b <= f32::MIN || b.is_nan() || c <= 0.0 || c.is_nan() {
        f32::MIN
    } else if rounding == Rounding::NearestEven {
        a * b
    } else {
        f32::rounded(a.exact().times(b.exact()), rounding)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it lies in the range of the result")]
fn norm16(value: F16, least: f32, scale: f32) -> i32 {
    let value = value.to_f32();
    if value.is_nan() { 0 } else { (value.clamp(least, 1.0) * scale).round_ties_even() as i32 }
}

fn pack(low: i32, high: i32) -> u32 {
    low.cast_unsigned() & 0xffff | high.cast_unsigned() << 16
}

/// Byte differences of a word from a window of 64 bits at four offsets, each added to 16 bits.
#[inline(always)]
fn quad_sad<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, sad: impl Fn(u32, u32, u32) -> u32) {
    let (windows, references) = (u64::row(wave, &op.sources[0]), words(wave, &op.sources[1]));
    let sums = u64::row(wave, &op.sources[2]);
    let row = lanes(|lane| {
        (0..4).fold(0, |all, at| {
            let window = low(windows[lane] >> (8 * at));
            let sum = sad(window, references[lane], u32::from(half_word(sums[lane] >> (16 * at))));
            all | u64::from(half_word(sum.into())) << (16 * at)
        })
    });
    let mask = wave.exec();
    u64::store(wave, op.target, &row, mask);
}

/// As [`quad_sad`], each added to 32 bits.
fn wide_sad<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (windows, references) = (u64::row(wave, &op.sources[0]), words(wave, &op.sources[1]));
    let (Some(sums), crate::exec::op::Target::Vector { first, .. }) = (op.sources[2].vector(), op.target)
    else {
        return crate::exec::lanes::unsupported(wave);
    };
    let rows: [[u32; L]; 4] = std::array::from_fn(|at| {
        let sums = wave.row(sums + at);
        lanes(|lane| msad8(low(windows[lane] >> (8 * at)), references[lane], sums[lane]))
    });
    let mask = wave.exec();
    for (at, row) in rows.iter().enumerate() {
        wave.write_row(usize::from(first) + at, row, mask);
    }
}

/// 2 / pi: 1201 bits after the binary point, the first one first.
const TWO_OVER_PI: [u64; 19] = [
    0xa2f9_836e_4e44_1529,
    0xfc27_57d1_f534_ddc0,
    0xdb62_9599_3c43_9041,
    0xfe51_63ab_debb_c561,
    0xb724_6e3a_424d_d2e0,
    0x0649_2eea_09d1_921c,
    0xfe1d_eb1c_b129_a73e,
    0xe882_35f5_2ebb_4484,
    0xe99c_7026_b45f_7e41,
    0x3991_d639_8353_39f4,
    0x9c84_5f8b_bdf9_283b,
    0x1ff8_97ff_de05_980f,
    0xef2f_118b_5a0a_6d1f,
    0x6d36_7ecf_27cb_09b7,
    0x4f46_3f66_9e5f_ea2d,
    0x7527_bac7_ebe5_f17b,
    0x3d07_39f7_8a52_92ea,
    0x6bfb_5fb1_1f8d_5d08,
    0x5603_3046_fc7b_0000,
];

/// 53 bits of 2 / pi, chosen by a segment's number and by the exponent of what is to be reduced.
fn trig_preop(x: F64, segment: u32) -> F64 {
    let exponent = i32::try_from(x.0.to_bits() >> 52 & 0x7ff).unwrap_or(0);
    let first = (segment & 31).cast_signed() * 53 + (exponent - 1077).max(0);
    let at = usize::try_from(first).unwrap_or(0);
    let word = |index: usize| u128::from(TWO_OVER_PI.get(index).copied().unwrap_or(0));
    let both = word(at / 64) << 64 | word(at / 64 + 1);
    let digits = (both << (at % 64) >> (128 - 53)) as u64;
    let scale = -53 - first + if exponent >= 1968 { 128 } else { 0 };
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let digits = digits as f64;
    F64(ldexp64(digits, scale))
}

instructions! {
    rare(wave, op, environment) {
        "v_cubeid_f32" => map3::<L, f32, f32, f32, f32>(wave, op, cube_face);
        "v_cubema_f32" => map3::<L, f32, f32, f32, f32>(wave, op, cube_major);
        "v_cubesc_f32" => map3::<L, f32, f32, f32, f32>(wave, op, cube_s);
        "v_cubetc_f32" => map3::<L, f32, f32, f32, f32>(wave, op, cube_t);
        "v_mullit_f32" => {
            let rounding = wave.mode.rounding(Precision::Single);
            map3::<L, f32, f32, f32, f32>(wave, op, |a, b, c| mullit(rounding, a, b, c));
        };
        "v_cvt_pk_norm_i16_f16" => map2::<L, u32, F16, F16>(wave, op, |a, b| pack(norm16(a, -1.0, 32767.0), norm16(b, -1.0, 32767.0)));
        "v_cvt_pk_norm_u16_f16" => map2::<L, u32, F16, F16>(wave, op, |a, b| pack(norm16(a, 0.0, 65535.0), norm16(b, 0.0, 65535.0)));
        "v_qsad_pk_u16_u8" => quad_sad(wave, op, sad8);
        "v_mqsad_pk_u16_u8" => quad_sad(wave, op, msad8);
        "v_mqsad_u32_u8" => wide_sad(wave, op);
        "v_trig_preop_f64" => map2::<L, F64, F64, u32>(wave, op, trig_preop);
    }
}
