//! `e^x` written out, so that every device can compute the same bits: additions, multiplications and bit shifts of f32,
//! each rounded once, none contracted. `kernels/include/exp.h` is the same, line by line.

/// `1.5 * 2^23`: adding it rounds to a whole number, which the low bits of the sum then hold.
const ROUND: f32 = 12_582_912.0;
/// `ln 2` in two parts; the products of the first with whole numbers up to 2^9 are exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Below this the result would not be a normal number.
const SMALLEST: f32 = -87.336_54;

/// `e^x` for `x <= 0`, within 2 units of `2^-24` of itself; 0 below -87.33, where it would be subnormal; NaN for NaN.
///
/// `x = k ln 2 + r` with `|r| <= ln 2 / 2` (Cody and Waite); `e^r` is its Taylor polynomial of degree 7, which is
/// within `2^-27` there.
#[inline(always)]
pub fn exp_nonpositive(x: f32) -> f32 {
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut tail = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        tail = tail * r + coefficient;
    }
    let e_r = 1.0 + (r + r * r * tail);
    // 127 + k is the biased exponent of 2^k.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < SMALLEST { 0.0 } else { e_r * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from one check to the next. Over every number (1, which takes 20 seconds in release mode) the worst error is
    /// 1.45 units, at -81.44471.
    const STEP: usize = 997;

    #[test]
    fn every_thousandth_number_is_within_two_units() {
        let unit = 2.0_f64.powi(-24);
        let mut worst = 0.0_f64;
        for bits in (0.0_f32.to_bits()..SMALLEST.abs().to_bits()).step_by(STEP) {
            let x = -f32::from_bits(bits);
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp_nonpositive(x)) - exact).abs() / exact / unit);
        }
        assert!(worst > 1.0 && worst <= 2.0, "{worst}");
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(-0.0), 1.0);
        for x in [-87.34, -100.0, -1e10, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp_nonpositive(x), 0.0, "{x}");
        }
        assert!(exp_nonpositive(SMALLEST) >= f32::MIN_POSITIVE);
        assert!(exp_nonpositive(f32::NAN).is_nan() && exp_nonpositive(-f32::NAN).is_nan());
    }
}
