//! What gfx12 has otherwise than gfx11: matrices, scalar floats, minima and maxima.

use half::{bf16, f16};

use super::{Random, fill, run_in, run_on};
use crate::{
    Arch,
    exec::{
        mode::Mode,
        wave::{EXEC, Wave},
    },
    memory::Memory,
};

/// A wave with all lanes active and 32 vector registers, in the mode of a kernel that a compiler made.
fn wave() -> Wave<32> {
    let mut wave = Wave::new(32, 0);
    wave.set_mask(EXEC, u64::from(u32::MAX));
    wave.mode = Mode::initial(Arch::Gfx12, 0xc0 << 12, 0);
    wave
}

fn run(text: &str, wave: &mut Wave<32>) {
    run_on(Arch::Gfx12, text, wave);
}

/// A 16x16 matrix of small integers, which every format here holds and whose sums of products are exact.
type Matrix = [[i32; 16]; 16];

fn matrix(random: &mut Random, limit: u64) -> Matrix {
    std::array::from_fn(|_| {
        std::array::from_fn(|_| (random.next() % limit) as i32 - i32::try_from(limit / 2).unwrap())
    })
}

/// `A B + C`.
fn product(a: &Matrix, b: &Matrix, c: &Matrix) -> Matrix {
    std::array::from_fn(|row| {
        std::array::from_fn(|column| c[row][column] + (0..16).map(|k| a[row][k] * b[k][column]).sum::<i32>())
    })
}

fn transposed(matrix: &Matrix) -> Matrix {
    std::array::from_fn(|row| std::array::from_fn(|column| matrix[column][row]))
}

/// Puts rows into registers from `first` on as AMD's matrix instruction calculator lays out A of gfx12, and the transpose of B:
/// lane `l` has elements `8 * (l / 16)` to `8 * (l / 16) + 7` of row `l % 16`, `bits` bits each.
fn put_rows(wave: &mut Wave<32>, first: usize, rows: &Matrix, bits: usize, encode: impl Fn(i32) -> u32) {
    for word in 0..bits / 4 {
        let row = std::array::from_fn(|lane| {
            let per_word = 32 / bits;
            let element = |at: usize| rows[lane % 16][8 * (lane / 16) + word * per_word + at];
            (0..per_word).fold(0, |all, at| all | encode(element(at)) << (bits * at))
        });
        wave.write_row(first + word, &row, u64::MAX);
    }
}

/// Puts a matrix into registers as the calculator lays out C: lane `l` has rows `8 * (l / 16)` to `8 * (l / 16) + 7` of column
/// `l % 16`, `bits` bits each.
fn put_columns(wave: &mut Wave<32>, first: usize, c: &Matrix, bits: usize, encode: impl Fn(i32) -> u32) {
    put_rows(wave, first, &transposed(c), bits, encode);
    if bits == 32 {
        assert_eq!(32 / bits, 1);
    }
}

/// Reads what `put_columns` puts.
fn columns(wave: &Wave<32>, first: usize, bits: usize, decode: impl Fn(u32) -> f32) -> [[f32; 16]; 16] {
    let mask = u32::MAX >> (32 - bits);
    std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            let (word, at) = (row % 8 * bits / 32, row % 8 * bits % 32);
            decode(wave.row(first + word)[column + 16 * (row / 8)] >> at & mask)
        })
    })
}

fn small(x: i32) -> f32 {
    f32::from(i16::try_from(x).unwrap())
}

fn assert_is(text: &str, found: [[f32; 16]; 16], expected: Matrix) {
    assert_eq!(found, expected.map(|row| row.map(small)), "{text}");
}

#[test]
fn matrices_of_floats_are_multiplied() {
    let mut random = Random(31);
    let half = |x: i32| u32::from(f16::from_f32(small(x)).to_bits());
    let bfloat = |x: i32| u32::from(bf16::from_f32(small(x)).to_bits());
    let single = |x: i32| small(x).to_bits();
    let from_half = |bits: u32| f16::from_bits(bits as u16).to_f32();
    let from_bfloat = |bits: u32| bf16::from_bits(bits as u16).to_f32();
    let (a, b, c) = (matrix(&mut random, 8), matrix(&mut random, 4), matrix(&mut random, 64));
    let expected = product(&a, &b, &c);
    let mut wave = wave();
    // EXEC does not matter.
    wave.set_mask(EXEC, 0);
    let put = |wave: &mut Wave<32>, encode: &dyn Fn(i32) -> u32| {
        put_rows(wave, 0, &a, 16, encode);
        put_rows(wave, 4, &transposed(&b), 16, encode);
        put_columns(wave, 8, &c, 32, single);
    };
    put(&mut wave, &half);
    let text = "v_wmma_f32_16x16x16_f16 v[16:23], v[0:3], v[4:7], v[8:15]";
    run(text, &mut wave);
    assert_is(text, columns(&wave, 16, 32, f32::from_bits), expected);
    // A's elements of even numbers and C are negated, B's of odd numbers too.
    let signs = "v_wmma_f32_16x16x16_f16 v[16:23], v[0:3], v[4:7], v[8:15] neg_lo:[1,0,1] neg_hi:[0,1,0]";
    run(signs, &mut wave);
    let negated = product(&a, &b, &c.map(|row| row.map(|x| -x)));
    let all: Matrix = std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            let sum: i32 = (0..16).map(|k| -a[row][k] * b[k][column]).sum();
            sum - c[row][column]
        })
    });
    assert_ne!(negated, all);
    assert_is(signs, columns(&wave, 16, 32, f32::from_bits), all);
    put_columns(&mut wave, 8, &c, 16, half);
    let text = "v_wmma_f16_16x16x16_f16 v[16:19], v[0:3], v[4:7], v[8:11]";
    run(text, &mut wave);
    assert_is(text, columns(&wave, 16, 16, from_half), expected);
    put(&mut wave, &bfloat);
    let text = "v_wmma_f32_16x16x16_bf16 v[16:23], v[0:3], v[4:7], v[8:15]";
    run(text, &mut wave);
    assert_is(text, columns(&wave, 16, 32, f32::from_bits), expected);
    put_columns(&mut wave, 8, &c, 16, bfloat);
    let text = "v_wmma_bf16_16x16x16_bf16 v[16:19], v[0:3], v[4:7], v[8:11]";
    run(text, &mut wave);
    // Integers of at most 8 bits are exact.
    let rounded = expected.map(|row| row.map(|x| bf16::from_f32(small(x)).to_f32()));
    assert_eq!(columns(&wave, 16, 16, from_bfloat), rounded);
}

#[test]
fn matrices_of_bytes_that_are_floats_are_multiplied() {
    let mut random = Random(32);
    // Sign, exponent with a bias of 7 or 15, fraction: of 0, 1, 2, 3 and their negatives.
    let fp8 = |x: i32| [0xc4, 0xc0, 0xb8, 0x00, 0x38, 0x40, 0x44][usize::try_from(x + 3).unwrap()];
    let bf8 = |x: i32| [0xc2, 0xc0, 0xbc, 0x00, 0x3c, 0x40, 0x42][usize::try_from(x + 3).unwrap()];
    let (a, b, c) = (matrix(&mut random, 6), matrix(&mut random, 6), matrix(&mut random, 64));
    let mut wave = wave();
    put_rows(&mut wave, 0, &a, 8, fp8);
    put_rows(&mut wave, 4, &transposed(&b), 8, bf8);
    put_columns(&mut wave, 8, &c, 32, |x| small(x).to_bits());
    let text = "v_wmma_f32_16x16x16_fp8_bf8 v[16:23], v[0:1], v[4:5], v[8:15]";
    run(text, &mut wave);
    assert_is(text, columns(&wave, 16, 32, f32::from_bits), product(&a, &b, &c));
}

#[test]
fn matrices_of_integers_are_multiplied() {
    let mut random = Random(33);
    let word = |x: i32| x.cast_unsigned();
    let low = |bits: u32| move |x: i32| x.cast_unsigned() & (u32::MAX >> (32 - bits));
    let from = |bits: u32| small(bits.cast_signed());
    let mut wave = wave();
    // A is signed, B is not.
    let (a, b, c) = (matrix(&mut random, 32), matrix(&mut random, 32), matrix(&mut random, 64));
    let b = b.map(|row| row.map(|x| x + 200));
    // Sums beyond 16 bits would not be told apart by `small`: 16 products of at most 16 and 40.
    let b = b.map(|row| row.map(|x| x - 176));
    put_rows(&mut wave, 0, &a, 8, low(8));
    put_rows(&mut wave, 4, &transposed(&b), 8, low(8));
    put_columns(&mut wave, 8, &c, 32, word);
    let text = "v_wmma_i32_16x16x16_iu8 v[16:23], v[0:1], v[4:5], v[8:15] neg_lo:[1,0,0]";
    run(text, &mut wave);
    assert_is(text, columns(&wave, 16, 32, from), product(&a, &b, &c));
    let (a, b) = (matrix(&mut random, 16), matrix(&mut random, 16));
    put_rows(&mut wave, 0, &a, 4, low(4));
    put_rows(&mut wave, 4, &transposed(&b), 4, low(4));
    let text = "v_wmma_i32_16x16x16_iu4 v[16:23], v0, v4, v[8:15] neg_lo:[1,1,0]";
    run(text, &mut wave);
    assert_is(text, columns(&wave, 16, 32, from), product(&a, &b, &c));
    // Twice as long: the second 16 in the next register. Neither is signed.
    let unsigned = |matrix: Matrix| matrix.map(|row| row.map(|x| x + 8));
    let (a, b) = (unsigned(a), unsigned(b));
    let (more_a, more_b) = (unsigned(matrix(&mut random, 16)), unsigned(matrix(&mut random, 16)));
    for (first, rows) in [(0, a), (1, more_a), (4, transposed(&b)), (5, transposed(&more_b))] {
        put_rows(&mut wave, first, &rows, 4, low(4));
    }
    let text = "v_wmma_i32_16x16x32_iu4 v[16:23], v[0:1], v[4:5], v[8:15]";
    run(text, &mut wave);
    assert_is(text, columns(&wave, 16, 32, from), product(&more_a, &more_b, &product(&a, &b, &c)));
}

/// What an operation makes of s1, s2 and its result register.
fn scalar(text: &str, a: u32, b: u32, old: u32) -> u32 {
    let mut wave = wave();
    (wave.sgprs[1], wave.sgprs[2], wave.sgprs[5]) = (a, b, old);
    // No lane needs to be active, and none is after it.
    wave.set_mask(EXEC, 0);
    run(text, &mut wave);
    assert_eq!(wave.exec(), 0, "{text}");
    wave.sgprs[5]
}

#[test]
fn scalar_floats_are_those_of_a_lane() {
    let [one, two, three] = [1.0_f32, 2.0, 3.0].map(f32::to_bits);
    assert_eq!(scalar("s_add_f32 s5, s1, s2", one, two, 0), three);
    assert_eq!(scalar("s_fmaak_f32 s5, s1, s2, 0x40400000", two, three, 0), 9.0_f32.to_bits());
    assert_eq!(scalar("s_max_num_f32 s5, s1, s2", one, f32::NAN.to_bits(), 0), one);
    assert!(f32::from_bits(scalar("s_minimum_f32 s5, s1, s2", one, f32::NAN.to_bits(), 0)).is_nan());
    assert_eq!(scalar("s_minimum_f32 s5, s1, s2", 0, 0x8000_0000, 0), 0x8000_0000);
    assert_eq!(scalar("s_floor_f32 s5, s1", (-1.5_f32).to_bits(), 0, 0), (-2.0_f32).to_bits());
    assert_eq!(scalar("s_cvt_i32_f32 s5, s1", (-3.7_f32).to_bits(), 0, 0), (-3_i32).cast_unsigned());
    assert_eq!(scalar("v_s_rcp_f32 s5, s1", two, 0, 0), 0.5_f32.to_bits());
    // 16 bits are read, and extended with zeros: 1.5 * 2 + 0.5, 1 + 0.5, 2^3.
    let [half, one16, three_halves, two16, three16] = [0x3800, 0x3c00, 0x3e00, 0x4000, 0x4200];
    assert_eq!(
        scalar("s_fmac_f16 s5, s1, s2", 0xffff_0000 | three_halves, two16, 0xffff_0000 | half),
        0x4300
    );
    assert_eq!(scalar("s_add_f16 s5, s1, 0.5", one16, 0, u32::MAX), three_halves);
    assert_eq!(scalar("v_s_exp_f16 s5, s1", three16, 0, u32::MAX), 0x4800);
    assert_eq!(scalar("s_cvt_hi_f32_f16 s5, s1", two16 << 16 | one16, 0, 0), two);
    // Towards zero, whatever the mode: 1 + 2^-11 + 2^-12.
    assert_eq!(scalar("s_cvt_pk_rtz_f16_f32 s5, s1, s2", 0x3f80_1800, three, 0), three16 << 16 | one16);
}

#[test]
fn scalar_floats_are_compared_into_scc() {
    for (text, a, b, expected) in [
        ("s_cmp_lt_f32 s1, s2", 1.0_f32.to_bits(), 2.0_f32.to_bits(), true),
        ("s_cmp_lt_f32 s1, s2", 2.0_f32.to_bits(), 1.0_f32.to_bits(), false),
        ("s_cmp_nge_f16 s1, s2", 0x7e00, 0, true),
        ("s_cmp_nge_f16 s1, s2", 0x3c00, 0x3c00, false),
    ] {
        let mut wave = wave();
        (wave.sgprs[1], wave.sgprs[2], wave.scc) = (a, b, !expected);
        run(text, &mut wave);
        assert_eq!(wave.scc, expected, "{text} of {a:#x}, {b:#x}");
    }
}

#[test]
fn wide_scalar_integers_wrap() {
    let mut wave = wave();
    wave.set_scalar64(0, u64::MAX - 1);
    wave.set_scalar64(2, 5);
    wave.scc = true;
    run("s_add_nc_u64 s[4:5], s[0:1], s[2:3]", &mut wave);
    assert_eq!((wave.scalar64(4), wave.scc), (3, true));
    run("s_mul_u64 s[4:5], s[0:1], s[2:3]", &mut wave);
    assert_eq!(wave.scalar64(4), (u64::MAX - 1).wrapping_mul(5));
}

/// IEEE 754-2019: `minimumNumber` gives the number, and of two NaNs a quiet one; `minimum` and `maximum` give a NaN.
#[test]
fn minima_and_maxima_are_those_of_2019() {
    const QUIET: u32 = 0x7fc0_0001;
    const SIGNALLING: u32 = 0x7f80_0001;
    let one = 1.0_f32.to_bits();
    for (text, a, b, expected) in [
        ("v_min_num_f32 v5, v1, v2", SIGNALLING, one, one),
        ("v_min_num_f32 v5, v1, v2", one, SIGNALLING, one),
        ("v_min_num_f32 v5, v1, v2", SIGNALLING, QUIET, SIGNALLING | 1 << 22),
        ("v_min_num_f32 v5, v1, v2", 0, 0x8000_0000, 0x8000_0000),
        ("v_minimum_f32 v5, v1, v2", one, QUIET, QUIET),
        ("v_minimum_f32 v5, v1, v2", QUIET + 1, SIGNALLING, SIGNALLING | 1 << 22),
        ("v_minimum_f32 v5, v1, v2", 0x8000_0000, 0, 0x8000_0000),
        ("v_minimum_f32 v5, v1, v2", one, 0, 0),
    ] {
        let mut wave = wave();
        fill(&mut wave, &[(1, a), (2, b)]);
        run(text, &mut wave);
        assert_eq!(wave.row(5)[7], expected, "{text} of {a:#x}, {b:#x}");
    }
    let mut wave = wave();
    fill(&mut wave, &[(1, one), (2, 3.0_f32.to_bits()), (3, 2.0_f32.to_bits())]);
    run("v_maximum3_f32 v5, v1, v2, v3", &mut wave);
    assert_eq!(wave.row(5)[0], 3.0_f32.to_bits());
}

#[test]
fn each_lane_chooses_in_the_other_row() {
    let mut wave = wave();
    wave.write_row(1, &std::array::from_fn(|lane| 100 + lane as u32), u64::MAX);
    wave.write_row(2, &std::array::from_fn(|lane| (lane as u32 * 7) % 16), u64::MAX);
    run("v_permlanex16_var_b32 v5, v1, v2", &mut wave);
    let expected = std::array::from_fn(|lane| 100 + ((lane as u32 & 16) ^ 16) + (lane as u32 * 7) % 16);
    assert_eq!(*wave.row(5), expected);
}

/// Programs see neither of the mode's bits that gfx12 does not have, and cannot set them.
#[test]
fn the_mode_has_no_ieee_bit() {
    let mode = wave().mode;
    assert_eq!(mode.visible(), 0xc0);
    assert!(mode.clamps_nan());
    assert_eq!(mode.written(u32::MAX, 0x3f5).visible(), 0xf5);
    assert!(!mode.is_refused());
}

/// Bytes and half words are extended, three words need not be aligned to four; through a descriptor the range is checked.
#[test]
fn scalar_loads_are_of_any_size() {
    let memory = Memory::new(false, false);
    let address = memory.allocate(16).unwrap();
    memory.write(address, &(0..16).map(|i| 0x80 + i).collect::<Vec<u8>>()).unwrap();
    for (text, expected) in [
        ("s_load_i8 s4, s[8:9], 0x3", [0xffff_ff83, 0, 0]),
        ("s_load_u8 s4, s[8:9], 0x3", [0x83, 0, 0]),
        ("s_load_i16 s4, s[8:9], 0x2", [0xffff_8382, 0, 0]),
        ("s_load_u16 s4, s[8:9], 0x2", [0x8382, 0, 0]),
        ("s_load_b96 s[4:6], s[8:9], 0x4", [0x8786_8584, 0x8b8a_8988, 0x8f8e_8d8c]),
        ("s_buffer_load_i8 s4, s[8:11], 0x7", [0xffff_ff87, 0, 0]),
        ("s_buffer_load_u16 s4, s[8:11], 0x6", [0x8786, 0, 0]),
        ("s_buffer_load_u16 s4, s[8:11], 0x8", [0, 0, 0]),
        ("s_buffer_load_b96 s[4:6], s[8:11], 0x0", [0x8382_8180, 0x8786_8584, 0]),
    ] {
        let mut wave = wave();
        // Eight bytes are in range.
        wave.set_scalar64(8, address);
        wave.set_scalar64(10, 8);
        run_in(Arch::Gfx12, text, &mut wave, 0, &memory);
        assert!(wave.stop.is_none(), "{text}: {:?}", wave.stop);
        assert_eq!(wave.sgprs[4..7], expected, "{text}");
    }
}
