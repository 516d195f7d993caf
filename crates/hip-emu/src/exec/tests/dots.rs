//! Dot products of bytes, by the sign that gfx11 and gfx12 choose for each operand and CDNA has for both.

use super::{Random, cdna, fill, run_on, wave};
use crate::Arch;

/// The products of bytes, of which those of `a` and `b` have a sign where `signs` says so, and `c`.
fn expected(a: u32, b: u32, c: u32, signs: [bool; 2]) -> u32 {
    let wide = |byte: u8, signed: bool| if signed { i32::from(byte.cast_signed()) } else { i32::from(byte) };
    let bytes = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    let products = bytes.map(|(a, b)| wide(a, signs[0]) * wide(b, signs[1]));
    products.fold(c.cast_signed(), i32::wrapping_add).cast_unsigned()
}

/// Words of any bits, then the ends of the levels.
fn operands() -> impl Iterator<Item = [u32; 3]> {
    let mut random = Random(43);
    let any = (0..200).map(move |_| [(); 3].map(|()| random.next() as u32));
    any.chain([0x8080_8080, 0x7f7f_7f7f, 0xffff_ffff].map(|word| [word, word, 0]))
}

#[test]
fn each_operand_has_its_sign() {
    for arch in [Arch::Gfx11, Arch::Gfx12] {
        for [a, b, c] in operands() {
            for (modifier, signs) in
                [("", [false; 2]), (" neg_lo:[1,0,0]", [true, false]), (" neg_lo:[1,1,0]", [true; 2])]
            {
                let mut wave = wave();
                fill(&mut wave, &[(1, a), (2, b), (3, c)]);
                run_on(arch, &format!("v_dot4_i32_iu8 v5, v1, v2, v3{modifier}"), &mut wave);
                assert_eq!(wave.row(5)[9], expected(a, b, c, signs), "{arch:?} {a:x} {b:x} {c:x}{modifier}");
            }
        }
    }
}

#[test]
fn both_operands_have_a_sign() {
    for arch in [Arch::Gfx90a, Arch::Gfx940] {
        for [a, b, c] in operands() {
            for text in ["v_dot4_i32_i8 v5, v1, v2, v3", "v_dot4c_i32_i8_e32 v5, v1, v2"] {
                let mut wave = cdna::wave();
                cdna::fill(&mut wave, &[(1, a), (2, b), (3, c), (5, c)]);
                cdna::run(arch, &[text], &mut wave);
                assert_eq!(
                    wave.row(5)[37],
                    expected(a, b, c, [true; 2]),
                    "{arch:?} {text} {a:x} {b:x} {c:x}"
                );
            }
        }
    }
}
