//! The norm of heads.

/// Lanes of a sum of squares.
const NORM_LANES: usize = 256;

/// Norms each row `[head_dim]` in place: `(x * scale) * weight`, `scale = 1 / sqrt(mean(x^2) + eps)` in f64 and rounded once.
/// Formula and order are those of `kernels/include/rms_norm.h`; squares of f32 are exact in f64.
#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
#[expect(clippy::cast_precision_loss, reason = "head_dim comes from a u32")]
pub(crate) fn norm_heads(rows: &mut [f32], weight: &[f32], eps: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let mut lanes = [0.0_f64; NORM_LANES];
        for chunk in row.chunks(NORM_LANES) {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(value) * f64::from(value);
            }
        }
        let mut half = NORM_LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        let mean = lanes[0] * (1.0 / weight.len() as f64);
        let scale = newton_inverse_root(mean + f64::from(eps)) as f32;
        for (value, weight) in row.iter_mut().zip(weight) {
            *value = *value * scale * weight;
        }
    }
}

/// `1 / sqrt(value)` within 3 units of `2^-53` of itself for a normal value: an estimate from the exponent and four steps of
/// Newton's method, each operation rounded once. 0 for infinity, NaN for NaN.
fn newton_inverse_root(value: f64) -> f64 {
    let mut root = f64::from_bits(0x5fe6_eb50_c7b5_37a9_u64.wrapping_sub(value.to_bits() >> 1));
    let half = 0.5 * value;
    for _ in 0..4 {
        root *= 1.5 - half * root * root;
    }
    if value > 0.0 && value < f64::INFINITY { root } else { 1.0 / value.sqrt() }
}
