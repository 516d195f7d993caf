//! Floats of eight bits: one sign, and 4 and 3 or 5 and 2 bits of exponent and fraction, by the Open Compute Project's specification
//! on gfx12 ("OCP 8-bit Floating Point Specification", 2023) and without infinities and negative zero on gfx940.

use crate::{
    Arch,
    exec::{
        element::{Element as _, halves, words},
        environment::Environment,
        float::ldexp32,
        matrix::{SIDE, addend, registers, write},
        op::{Op, Target},
        shape::{each, lanes, map2},
        split_matrix::ROWS,
        table::instructions,
        wave::Wave,
    },
};

/// A format: bits of its fraction, bias of its exponent, and whether it is without infinities and negative zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    fraction: i32,
    bias: i32,
    finite: bool,
}

impl Format {
    /// With 4 bits of exponent and 3 of fraction.
    const fn fp8(arch: Arch) -> Self {
        let finite = !matches!(arch, Arch::Gfx12);
        Self { fraction: 3, bias: if finite { 8 } else { 7 }, finite }
    }

    /// With 5 bits of exponent and 2 of fraction.
    const fn bf8(arch: Arch) -> Self {
        let finite = !matches!(arch, Arch::Gfx12);
        Self { fraction: 2, bias: if finite { 16 } else { 15 }, finite }
    }

    /// The largest magnitude that is a number: what is above is an infinity or NaN.
    const fn largest(self) -> u8 {
        match (self.finite, self.fraction) {
            (true, _) => 0x7f,
            (false, 3) => 0x7e,
            (false, _) => 0x7b,
        }
    }

    /// Exact.
    fn wide(self, bits: u8) -> f32 {
        let (sign, magnitude) = (if bits & 0x80 == 0 { 1.0 } else { -1.0 }, bits & 0x7f);
        if self.finite && bits == 0x80 {
            return f32::NAN;
        }
        if magnitude > self.largest() {
            return if self.fraction == 2 && magnitude == 0x7c { sign * f32::INFINITY } else { f32::NAN };
        }
        let biased = i32::from(magnitude >> self.fraction);
        let digits = i32::from(magnitude) & ((1 << self.fraction) - 1);
        let digits = if biased == 0 { digits } else { digits + (1 << self.fraction) };
        #[expect(clippy::cast_precision_loss, reason = "four bits are exact")]
        let digits = digits as f32;
        ldexp32(sign * digits, biased.max(1) - self.bias - self.fraction)
    }

    /// Rounded to nearest even; what is too large is an infinity where there is one, else NaN.
    fn narrow(self, value: f32) -> u8 {
        let sign = if value.is_sign_negative() { 0x80 } else { 0 };
        let nan = if self.finite { 0x80 } else { 0x7f | sign };
        if value.is_nan() {
            return nan;
        }
        let magnitude = f64::from(value.abs());
        // Magnitudes are ordered as their encodings are: the nearest of two neighbours, of which one encoding is even.
        let above = (0..=self.largest()).find(|&bits| f64::from(self.wide(bits)) >= magnitude);
        let rounded = match above {
            Some(0) => 0,
            Some(above) => {
                let (low, high) = (f64::from(self.wide(above - 1)), f64::from(self.wide(above)));
                let middle = (low + high) / 2.0;
                let up = magnitude > middle || (magnitude == middle && above % 2 == 0);
                if up { above } else { above - 1 }
            }
            None => {
                let largest = f64::from(self.wide(self.largest()));
                let unit = largest - f64::from(self.wide(self.largest() - 1));
                let over = magnitude > largest + unit / 2.0
                    || (magnitude == largest + unit / 2.0 && self.largest() % 2 == 1);
                match over {
                    false => self.largest(),
                    true if !self.finite && self.fraction == 2 => 0x7c,
                    true => return nan,
                }
            }
        };
        // There is no negative zero in a finite format.
        if rounded == 0 && self.finite { 0 } else { sign | rounded }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the byte at the place is meant")]
const fn byte(word: u32, index: usize) -> u8 {
    (word >> (8 * index)) as u8
}

/// One byte of a register.
fn widen<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, format: Format) {
    let index = usize::from(op.format & 3);
    let mut row = each(words(wave, &op.sources[0]), |word| format.wide(byte(word, index)));
    f32::finish(wave, op, &mut row);
    let mask = wave.exec();
    f32::store(wave, op.target, &row, mask);
}

/// Both bytes of half a register.
fn widen_pair<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, format: Format) {
    let pairs = halves(wave, &op.sources[0]);
    let Target::Vector { first, .. } = op.target else { return };
    let mask = wave.exec();
    for index in 0..2 {
        let row = each(pairs, |pair| format.wide(byte(pair.into(), index)).to_bits());
        wave.write_row(usize::from(first) + index, &row, mask);
    }
}

/// Two numbers into half a register.
fn narrow_pair<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, format: Format) {
    map2::<L, u16, f32, f32>(wave, op, |a, b| u16::from_le_bytes([format.narrow(a), format.narrow(b)]));
}

/// Four products and an addend, each sum rounded.
fn dot<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, [first, second]: [Format; 2]) {
    let (a, b) = (words(wave, &op.sources[0]), words(wave, &op.sources[1]));
    let c = words(wave, &op.sources[2]);
    let row = lanes(|lane| {
        let start = addend(&op.sources[2], f32::from_bits(c[lane]));
        (0..4)
            .fold(start, |sum, at| first.wide(byte(a[lane], at)).mul_add(second.wide(byte(b[lane], at)), sum))
    });
    let mask = wave.exec();
    f32::store(wave, op.target, &row, mask);
}

/// D = A B + C, laid out as `split_matrix` says, eight bytes of A and of B in a lane.
fn multiply<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, [first, second]: [Format; 2]) {
    let (a, b) = (registers::<L, 2>(wave, &op.sources[0]), registers::<L, 2>(wave, &op.sources[1]));
    let c = registers::<L, 8>(wave, &op.sources[2]);
    let mut results = [[0; L]; ROWS];
    for lane in 0..L.min(32) {
        for (element, result) in results.iter_mut().enumerate() {
            let (row, column) = (element + ROWS * (lane / SIDE), lane % SIDE);
            let start = addend(&op.sources[2], f32::from_bits(c[element][lane]));
            let sum = (0..SIDE).fold(start, |sum, k| {
                let (half, word, at) = (SIDE * (k / 8), k % 8 / 4, k % 4);
                let x = first.wide(byte(a[word][row + half], at));
                x.mul_add(second.wide(byte(b[word][column + half], at)), sum)
            });
            result[lane] = sum.to_bits();
        }
    }
    write(wave, op, &results);
}

fn fp8(environment: &Environment<'_>) -> Format {
    Format::fp8(environment.arch)
}

fn bf8(environment: &Environment<'_>) -> Format {
    Format::bf8(environment.arch)
}

instructions! {
    operations(wave, op, environment) {
        "v_cvt_f32_fp8" => widen(wave, op, fp8(environment));
        "v_cvt_f32_bf8" => widen(wave, op, bf8(environment));
        "v_cvt_pk_f32_fp8" => widen_pair(wave, op, fp8(environment));
        "v_cvt_pk_f32_bf8" => widen_pair(wave, op, bf8(environment));
        "v_cvt_pk_fp8_f32" => narrow_pair(wave, op, fp8(environment));
        "v_cvt_pk_bf8_f32" => narrow_pair(wave, op, bf8(environment));
        "v_dot4_f32_fp8_fp8" => dot(wave, op, [fp8(environment), fp8(environment)]);
        "v_dot4_f32_fp8_bf8" => dot(wave, op, [fp8(environment), bf8(environment)]);
        "v_dot4_f32_bf8_fp8" => dot(wave, op, [bf8(environment), fp8(environment)]);
        "v_dot4_f32_bf8_bf8" => dot(wave, op, [bf8(environment), bf8(environment)]);
        "v_wmma_split_f32_16x16x16_fp8_fp8" => multiply(wave, op, [fp8(environment), fp8(environment)]);
        "v_wmma_split_f32_16x16x16_fp8_bf8" => multiply(wave, op, [fp8(environment), bf8(environment)]);
        "v_wmma_split_f32_16x16x16_bf8_fp8" => multiply(wave, op, [bf8(environment), fp8(environment)]);
        "v_wmma_split_f32_16x16x16_bf8_bf8" => multiply(wave, op, [bf8(environment), bf8(environment)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [Format; 4] = [
        Format::fp8(Arch::Gfx12),
        Format::bf8(Arch::Gfx12),
        Format::fp8(Arch::Gfx940),
        Format::bf8(Arch::Gfx940),
    ];

    /// The numbers that the specifications name.
    #[test]
    fn the_extremes_are_those_of_the_specifications() {
        let [fp8, bf8, fp8_finite, bf8_finite] = FORMATS;
        assert_eq!((fp8.wide(0x7e), fp8.wide(0x01), fp8.wide(0x08)), (448.0, 0.001_953_125, 0.015_625));
        assert_eq!(
            (bf8.wide(0x7b), bf8.wide(0x01), bf8.wide(0x04)),
            (57344.0, 1.525_878_9e-5, 6.103_515_6e-5)
        );
        assert_eq!((fp8_finite.wide(0x7f), bf8_finite.wide(0x7f)), (240.0, 57344.0));
        assert!(fp8.wide(0x7f).is_nan() && fp8.wide(0xff).is_nan() && bf8.wide(0x7d).is_nan());
        assert_eq!((bf8.wide(0x7c), bf8.wide(0xfc)), (f32::INFINITY, f32::NEG_INFINITY));
        assert!(fp8_finite.wide(0x80).is_nan() && bf8_finite.wide(0x80).is_nan());
    }

    #[test]
    fn each_number_comes_back_and_halves_go_to_the_even_one() {
        for format in FORMATS {
            for bits in 0..=u8::MAX {
                let value = format.wide(bits);
                if value.is_nan() {
                    assert!(format.wide(format.narrow(value)).is_nan());
                } else {
                    assert_eq!(format.narrow(value), bits, "{format:?}");
                }
            }
            for bits in 0..format.largest() {
                let middle = (format.wide(bits) + format.wide(bits + 1)) / 2.0;
                assert_eq!(format.narrow(middle), bits + bits % 2, "{format:?}");
                assert_eq!(format.narrow(middle.next_down()), bits, "{format:?}");
                assert_eq!(format.narrow(middle.next_up()), bits + 1, "{format:?}");
            }
            assert!(!format.wide(format.narrow(1e9)).is_finite());
        }
    }
}
