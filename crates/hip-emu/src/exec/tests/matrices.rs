//! Signs of matrix operations.

use half::f16;

use super::{Random, run, wave};

/// A's elements of even numbers are negated, B's of odd numbers, and C of its magnitude.
#[test]
fn signs_of_elements_change_by_their_place() {
    let mut random = Random(51);
    let mut matrix = || -> [[i32; 16]; 16] {
        std::array::from_fn(|_| std::array::from_fn(|_| (random.next() % 9) as i32 - 4))
    };
    let (a, b, c) = (matrix(), matrix(), matrix());
    let small = |x: i32| f32::from(i16::try_from(x).unwrap());
    let half = |x: i32| u32::from(f16::from_f32(small(x)).to_bits());
    let mut wave = wave();
    for register in 0..8 {
        // Lanes 16 to 31 repeat what lanes 0 to 15 hold: a row of A, a column of B.
        let pair = |first: i32, second: i32| half(first) | half(second) << 16;
        let (even, odd) = (2 * register, 2 * register + 1);
        wave.write_row(
            register,
            &std::array::from_fn(|lane| pair(a[lane % 16][even], a[lane % 16][odd])),
            u64::MAX,
        );
        wave.write_row(
            8 + register,
            &std::array::from_fn(|lane| pair(b[even][lane % 16], b[odd][lane % 16])),
            u64::MAX,
        );
        let addend = std::array::from_fn(|lane| small(c[even + lane / 16][lane % 16]).to_bits());
        wave.write_row(24 + register, &addend, u64::MAX);
    }
    run(
        "v_wmma_f32_16x16x16_f16 v[16:23], v[0:7], v[8:15], v[24:31] neg_lo:[1,0,1] neg_hi:[0,1,1]",
        &mut wave,
    );
    for (row, column) in (0..16).flat_map(|row| (0..16).map(move |column| (row, column))) {
        // Each product has one negated factor.
        let products: i32 = (0..16).map(|k| -a[row][k] * b[k][column]).sum();
        let found = f32::from_bits(wave.row(16 + row / 2)[column + 16 * (row % 2)]);
        assert_eq!(found, small(products - c[row][column].abs()), "{row}, {column}");
    }
}
