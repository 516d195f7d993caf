//! From numbers to levels, as ggml's C rounds on x86.

/// The nearest whole number, halves to the even one, for `|x| <= 4194303`; 0 for NaN.
///
/// It is read from the low bits of `x + 1.5 * 2^23`, so that what lies beyond wraps as in ggml.
pub(super) fn nearest(x: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    if x.is_nan() {
        return 0;
    }
    ((x + SHIFT).to_bits() & 0x007f_ffff).cast_signed() - 0x0040_0000
}

/// `nearest(x)` as a level from 0 to `most`.
pub(super) fn level(x: f32, most: u8) -> u8 {
    let clamped = nearest(x).clamp(0, i32::from(most));
    u8::try_from(clamped).unwrap_or(most)
}

/// The low byte of the whole part of `x`. What no i32 holds, and NaN, give 0: C leaves that open, and x86 gives `2^31`.
/// It happens where a block's scale is so small that its inverse is infinite.
#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
pub(super) fn low_byte(x: f32) -> u8 {
    const END: f32 = 2_147_483_648.0;
    if (-END..END).contains(&x) { (x as i32) as u8 } else { 0 }
}

/// `1 / x`, and 0 for 0.
pub(super) fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The element of the largest magnitude, the first of several; 0 of none.
pub(super) fn extreme(x: &[f32]) -> f32 {
    let larger = |so_far: f32, &x: &f32| if so_far.abs() < x.abs() { x } else { so_far };
    x.iter().fold(0.0, larger)
}
